"""Mails for which nobody waits: bounds, deadlines, and that none is lost without a line in the log. In virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from lac.errors import UnavailableError
from lac.outbox import CLOSE_S, SEND_S, SENDERS, WAITING_MAX, AtOnce, QueuedOutbox, open_outbox
from tests.sweep import sweep

Log = list[Any]


class Server:
    """A mail server that takes its time."""

    def __init__(self, takes_s: float = 0.0) -> None:
        self.takes_s = takes_s
        self.got: list[int] = []
        self.at_once = self.most_at_once = 0

    def mail(self, number: int) -> Callable[[], Awaitable[None]]:
        return partial(self._take, number)

    async def _take(self, number: int) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await trio.sleep(self.takes_s)
            self.got.append(number)
        finally:
            self.at_once -= 1


async def post(outbox: QueuedOutbox, server: Server, *numbers: int) -> list[bool]:
    """None of them may take any time."""
    asked_at = trio.current_time()
    took = [await outbox.post("mail", server.mail(number), user_id=str(number)) for number in numbers]
    assert trio.current_time() == asked_at
    return took


def lost(logs: Log) -> dict[str, str]:
    """Why, by whose it was."""
    return {entry["user_id"]: entry["why"] for entry in logs if entry["event"] == "a mail is lost"}


async def test_nobody_waits_for_a_slow_mail_server(autojump_clock: MockClock) -> None:
    server = Server(takes_s=10.0)
    async with open_outbox() as outbox:
        assert await post(outbox, server, *range(2 * SENDERS)) == [True] * (2 * SENDERS)
        await trio.sleep(10.5)
        assert sorted(server.got) == list(range(SENDERS))
        await trio.sleep(10.0)
        assert sorted(server.got) == list(range(2 * SENDERS))
    assert server.most_at_once == SENDERS
    assert (outbox.sent, outbox.lost) == (2 * SENDERS, 0)


async def test_a_mail_server_that_hangs_keeps_a_sender_for_a_while_only(autojump_clock: MockClock) -> None:
    hanging, server = Server(takes_s=1e9), Server()
    with capture_logs() as logs:
        async with open_outbox() as outbox:
            await post(outbox, hanging, *range(SENDERS))
            await post(outbox, server, SENDERS)
            await trio.sleep(SEND_S - 1)
            assert server.got == []
            await trio.sleep(2)
            assert server.got == [SENDERS]
    assert lost(logs) == {str(number): "not sent in 30 s" for number in range(SENDERS)}
    assert (outbox.sent, outbox.lost) == (1, SENDERS)


async def test_what_there_is_no_room_for_is_refused_and_told(autojump_clock: MockClock) -> None:
    server = Server(takes_s=1.0)
    with capture_logs() as logs:
        async with open_outbox() as outbox:
            await post(outbox, server, *range(SENDERS))
            await trio.testing.wait_all_tasks_blocked()  # they are on their way
            fits = list(range(SENDERS, SENDERS + WAITING_MAX))
            assert all(await post(outbox, server, *fits))
            assert outbox.waiting == WAITING_MAX
            assert await post(outbox, server, 1000) == [False]
            await trio.sleep(1.0 + WAITING_MAX / SENDERS)
    assert sorted(server.got) == list(range(SENDERS + WAITING_MAX))
    assert lost(logs) == {"1000": "too many wait"}


async def test_a_mail_that_fails_is_told_and_stops_nothing(autojump_clock: MockClock) -> None:
    async def away() -> None:
        raise UnavailableError("The mail server cannot be reached.")

    async def broken() -> None:
        raise KeyError("a mistake of ours")

    server = Server()
    with capture_logs() as logs:
        async with open_outbox() as outbox:
            for _ in range(SENDERS):
                await outbox.post("mail", away, user_id="ada")
                await outbox.post("mail", broken, user_id="bob")
            await post(outbox, server, 1)
            await trio.sleep(1)
    assert server.got == [1]
    told = Counter((entry["user_id"], entry["log_level"]) for entry in logs)
    assert told == {("ada", "warning"): SENDERS, ("bob", "error"): SENDERS}
    assert (outbox.sent, outbox.lost) == (1, 2 * SENDERS)


async def test_what_waits_is_sent_before_the_end(autojump_clock: MockClock) -> None:
    server = Server(takes_s=CLOSE_S / 4)
    async with open_outbox() as outbox:
        await post(outbox, server, *range(3 * SENDERS))
    assert sorted(server.got) == list(range(3 * SENDERS))
    with capture_logs() as logs:
        assert await post(outbox, server, 99) == [False]
    assert lost(logs) == {"99": "the server stops"}


async def test_the_end_waits_for_a_moment_only_and_says_what_it_left(autojump_clock: MockClock) -> None:
    server = Server(takes_s=1e9)
    with capture_logs() as logs:
        async with open_outbox() as outbox:
            await post(outbox, server, *range(SENDERS + 3))
            ends_at = trio.current_time()
        assert trio.current_time() == pytest.approx(ends_at + CLOSE_S)
    assert lost(logs) == {str(number): "the server stops" for number in range(SENDERS + 3)}
    assert outbox.lost == SENDERS + 3


def test_cancelled_at_any_step_each_mail_is_sent_or_told() -> None:
    posted: list[int] = []
    servers: list[Server] = []
    logs: Log = []

    async def scenario() -> None:
        posted.clear()
        logs.clear()
        server = Server(takes_s=1.0)
        servers.append(server)
        async with open_outbox() as outbox:
            for number in range(SENDERS + 2):
                posted.append(number)
                await post(outbox, server, number)
                await trio.sleep(0.3)

    async def watched() -> None:
        with capture_logs() as seen:
            try:
                await scenario()
            finally:
                logs.extend(seen)

    def check() -> None:
        sent, told = set(servers[-1].got), {int(number) for number in lost(logs)}
        assert sent | told == set(posted)
        assert not sent & told

    assert sweep(watched, check) > 20


async def test_a_command_waits_until_its_mail_is_sent(autojump_clock: MockClock) -> None:
    server = Server(takes_s=5.0)
    asked_at = trio.current_time()
    assert await AtOnce().post("mail", server.mail(1), user_id="1")
    assert trio.current_time() == asked_at + 5.0
    assert server.got == [1]
