"""A crowd goes through a few in each pass of the loop, in the order of arrival."""

from __future__ import annotations

import trio
import trio.testing

from lac_web.turnstile import Turnstile

CROWD = 50


async def test_few_go_through_at_once_and_the_next_waits() -> None:
    turnstile = Turnstile(per_pass=2)
    await turnstile.wait()
    await turnstile.wait()
    with trio.move_on_after(0) as scope:
        await turnstile.wait()
    assert scope.cancelled_caught


async def test_a_crowd_goes_through_in_order_while_others_get_their_turn_in_between() -> None:
    turnstile = Turnstile(per_pass=2)
    passes = 0
    through: list[tuple[int, int]] = []

    async def count_passes() -> None:
        nonlocal passes
        while True:
            await trio.lowlevel.checkpoint()
            passes += 1

    async def come(number: int) -> None:
        await turnstile.wait()
        through.append((number, passes))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(turnstile.run)
        async with trio.open_nursery() as crowd:
            # Each is in line before the next one comes.
            await turnstile.wait()
            await turnstile.wait()
            for number in range(CROWD):
                crowd.start_soon(come, number)
            nursery.start_soon(count_passes)
        nursery.cancel_scope.cancel()
    assert sorted(number for number, _ in through) == list(range(CROWD))
    in_one_pass = [sum(at == one for _, at in through) for one in {at for _, at in through}]
    assert max(in_one_pass) <= 4  # the counter may have its turn first in one pass and last in the next
    assert len(in_one_pass) >= CROWD // 4


async def test_who_leaves_the_line_keeps_nobody_waiting() -> None:
    turnstile = Turnstile(per_pass=1)
    leaving = trio.CancelScope()

    async def leave() -> None:
        with leaving:
            await turnstile.wait()

    await turnstile.wait()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(turnstile.wait)
            await trio.testing.wait_all_tasks_blocked()
            leaving.cancel()
            async with trio.open_nursery() as serving:
                serving.start_soon(turnstile.run)
                await turnstile.wait()
                serving.cancel_scope.cancel()
