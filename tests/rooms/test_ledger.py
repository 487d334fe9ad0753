"""What is written down, when the database is slow, away or refuses."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
import structlog.testing
import trio
import trio.testing
from trio.testing import MockClock

from lac.broadcasts import ledger as ledger_module
from lac.broadcasts.ledger import BATCH_MAX, GATHER_S, Fact, Ledger, ReactionCounts, SessionEnded, SessionOpened
from lac.errors import UnavailableError
from lac_media.parameters import Direction

NOW = datetime(2030, 1, 1, tzinfo=UTC)


class FakePages:
    def __init__(self) -> None:
        self.written: list[Fact] = []
        self.batches: list[int] = []
        self.away = False
        self.poison: str | None = None
        self.delay_s = 0.0
        self.closed: str | None = None

    async def write_facts(self, broadcast_id: str, facts: Sequence[Fact]) -> None:
        await trio.sleep(self.delay_s)
        if self.away:
            raise UnavailableError("away")
        if any(isinstance(fact, SessionOpened) and fact.session_id == self.poison for fact in facts):
            raise ValueError("refused")
        self.batches.append(len(facts))
        self.written += facts

    async def close_open_sessions(self, broadcast_id: str | None, reason: str) -> int:
        self.closed = reason
        return 0

    def opened(self) -> list[str]:
        return [fact.session_id for fact in self.written if isinstance(fact, SessionOpened)]


def open_sessions(ledger: Ledger, *names: str) -> None:
    for name in names:
        ledger.session_opened(name, "person", None, "whep", Direction.RECV)


async def test_facts_that_come_together_are_written_together(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    pages = FakePages()
    ledger = Ledger("show", pages)
    nursery.start_soon(ledger.run)
    open_sessions(ledger, *(str(number) for number in range(BATCH_MAX + 5)))
    await trio.sleep(GATHER_S / 2)
    assert pages.batches == [BATCH_MAX]
    await trio.sleep(GATHER_S)
    assert pages.batches == [BATCH_MAX, 5]
    assert ledger.waiting == 0


async def test_a_crowd_is_written_in_few_transactions_and_who_comes_alone_at_once(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    pages = FakePages()
    ledger = Ledger("show", pages)
    nursery.start_soon(ledger.run)
    open_sessions(ledger, "alone")
    await trio.testing.wait_all_tasks_blocked()
    assert pages.batches == [1]
    for number in range(300):
        open_sessions(ledger, str(number))
        await trio.sleep(1 / 300)
    await trio.sleep(GATHER_S)
    assert pages.opened() == ["alone", *map(str, range(300))]
    assert len(pages.batches) <= 1 + 1 / GATHER_S + 1


async def test_many_that_wait_are_not_slowed_down(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    pages = FakePages()
    ledger = Ledger("show", pages)
    open_sessions(ledger, *(str(number) for number in range(10 * BATCH_MAX)))
    nursery.start_soon(ledger.run)
    await trio.testing.wait_all_tasks_blocked()
    assert pages.batches == [BATCH_MAX] * 10


async def test_facts_wait_for_a_database_that_is_away(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    pages = FakePages()
    ledger = Ledger("show", pages)
    nursery.start_soon(ledger.run)
    pages.away = True
    open_sessions(ledger, "a")
    await trio.sleep(300)
    ledger.session_ended("a", "left")
    pages.away = False
    await trio.sleep(2)
    assert [type(fact) for fact in pages.written] == [SessionOpened, SessionEnded]
    assert ledger.dropped == 0


async def test_a_fact_that_is_refused_takes_no_other_with_it(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    pages = FakePages()
    ledger = Ledger("show", pages)
    pages.poison = "b"
    open_sessions(ledger, "a", "b", "c")
    with structlog.testing.capture_logs() as logs:
        nursery.start_soon(ledger.run)
        await trio.testing.wait_all_tasks_blocked()
    assert pages.opened() == ["a", "c"]
    assert ledger.dropped == 1
    assert [entry["event"] for entry in logs] == ["facts refused, trying them one by one", "fact refused"]


async def test_a_full_queue_drops_sessions_and_merges_reactions(
    nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "QUEUE_MAX", 3)
    pages = FakePages()
    ledger = Ledger("show", pages)
    open_sessions(ledger, "a")
    ledger.reacted({"🔥": 1}, 1.0, NOW)
    open_sessions(ledger, "b", "c")
    ledger.reacted({"🔥": 2, "👏": 1}, 2.0, NOW)
    assert ledger.dropped == 1
    nursery.start_soon(ledger.run)
    await trio.testing.wait_all_tasks_blocked()
    assert pages.opened() == ["a", "b"]
    assert [fact for fact in pages.written if isinstance(fact, ReactionCounts)] == [
        ReactionCounts({"🔥": 3, "👏": 1}, 1.0, NOW)
    ]


async def test_reactions_are_not_merged_into_those_on_their_way(
    nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "QUEUE_MAX", 1)
    pages = FakePages()
    pages.delay_s = 1
    ledger = Ledger("show", pages)
    nursery.start_soon(ledger.run)
    ledger.reacted({"🔥": 1}, 1.0, NOW)
    await trio.sleep(0.5)
    ledger.reacted({"🔥": 5}, 2.0, NOW)
    await trio.sleep(5)
    assert ledger.dropped == 1
    assert pages.written == [ReactionCounts({"🔥": 1}, 1.0, NOW)]


async def test_closing_writes_what_waits_and_then_closes_the_rows(autojump_clock: MockClock) -> None:
    pages = FakePages()
    ledger = Ledger("show", pages)
    open_sessions(ledger, *(str(number) for number in range(BATCH_MAX + 1)))
    with trio.CancelScope() as scope:
        scope.cancel()
        await ledger.close("shutdown")
    assert len(pages.written) == BATCH_MAX + 1
    assert pages.closed == "shutdown"


async def test_closing_does_not_wait_for_ever(autojump_clock: MockClock) -> None:
    pages = FakePages()
    pages.delay_s = 1000
    ledger = Ledger("show", pages)
    open_sessions(ledger, "a")
    with structlog.testing.capture_logs() as logs:
        await ledger.close("ended")
    assert trio.current_time() < 30
    assert pages.closed == "ended"
    assert [entry["event"] for entry in logs] == ["clean-up not finished in time", "facts were lost"]
