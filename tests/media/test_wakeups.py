"""What a listener costs while audio flows: no wake-up of its own, no timer, no entry in a queue."""

from __future__ import annotations

from collections import Counter

import trio
from trio.testing import MockClock

from lac_media.net.endpoint import VOID_TIMERS_KEPT
from lac_media.parameters import Direction
from tests.media.clients import open_studio

LISTENERS = 30


class Steps(trio.abc.Instrument):
    """How often each task was run, by the name of its function."""

    def __init__(self) -> None:
        self.by_task: Counter[trio.lowlevel.Task] = Counter()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.by_task[task] += 1

    def of(self, name: str) -> list[int]:
        return [count for task, count in self.by_task.items() if task.name.endswith(name)]


async def test_a_listeners_task_sleeps_while_five_hundred_packets_flow(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        host = await studio.publisher("host")
        listeners = [await studio.listener() for _ in range(LISTENERS)]
        await trio.sleep(0.1)
        steps = Steps()
        trio.lowlevel.add_instrument(steps)
        await host.talk(1, 500)
        trio.lowlevel.remove_instrument(steps)
        assert all(len(client.speech) >= 499 for client in listeners)
        assert steps.of("_own_session") == [], "no session's task ran at all"
        [program] = steps.of("run_program")
        assert program <= 100, "each packet goes out as it comes; the task looks after silence and reports"
        [timers] = steps.of("_timer_loop")
        assert timers <= 60, "consent is looked at when it is due, not when a check has come"
        assert len(studio.engine.endpoint._timers) <= 2 * (LISTENERS + 1)


async def test_a_sessions_task_takes_two_steps_from_birth_to_death(autojump_clock: MockClock) -> None:
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    async with open_studio() as studio:
        host = await studio.publisher("host")
        listener = await studio.listener()
        await host.talk(1, 20)
        listener.session.close("left")
        host.peer.close()
        await trio.sleep(0.1)
    trio.lowlevel.remove_instrument(steps)
    assert steps.of("_own_session") == [2, 2]


async def test_the_timer_heap_does_not_grow_with_time_or_with_those_who_came_and_went(
    autojump_clock: MockClock,
) -> None:
    async with open_studio() as studio:
        for _ in range(100):
            session = await studio.room.open_session(Direction.RECV, "visitor")
            session.close("left")
        timers = studio.engine.endpoint._timers
        assert all(timer.attachment is None for timer in timers), "no dead session is kept until it would be due"
        listener = await studio.listener()
        await trio.sleep(120)
        assert not listener.session.closed
        assert len(timers) <= 3


async def test_a_crowd_that_comes_and_goes_leaves_few_timers_and_takes_nobodys(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        endpoint = studio.engine.endpoint
        shy = [await studio.room.open_session(Direction.RECV, "shy") for _ in range(5)]
        for _ in range(1000):
            session = await studio.room.open_session(Direction.RECV, "visitor")
            session.close("left")
            assert len(endpoint._timers) <= VOID_TIMERS_KEPT + 7
        await trio.sleep(30.001)
        assert all(session.close_reason == "timeout" for session in shy), "nobody connected them in time"
        assert (len(endpoint._timers), endpoint._void_timers) == (0, 0)
