"""What a broadcast on air writes down as it goes: its media sessions and its reactions.

The database never blocks the media path: the methods that take a fact are synchronous and only queue it; one task
writes what has come together, many facts in one transaction.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Protocol

import structlog
import trio

from lac.clock import utc_now
from lac.errors import UnavailableError
from lac.rooms.kept_out import Exclusion
from lac.tasks import cleanup_scope
from lac_media.parameters import Direction

log = structlog.get_logger(__name__)

#: Facts that wait for the database. When it is full (the database has been away for minutes) a new fact about a
#: session is dropped and counted: an opening that is missing is one row fewer in the history, and a row whose close is
#: missing is closed with the broadcast. Reactions are never dropped: they are merged into those that wait already.
QUEUE_MAX = 10_000
#: Beyond that, room for what moderators did: it is dropped last.
AUDIT_RESERVE = 1_000
#: Facts in one transaction: it must stay short, because on SQLite it is the only writer.
BATCH_MAX = 200
#: From one transaction to the next: each takes a thread, a turn of the interpreter's lock and a commit, and a crowd
#: that comes in would have one for every few of them. What happens alone is written at once.
GATHER_S = 0.1
RETRY_S = 1.0
CLOSE_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class SessionOpened:
    session_id: str
    #: A user's id, a guest's, or that of an anonymous listener.
    person_id: str
    #: The account, if there is one.
    user_id: str | None
    kind: str
    direction: Direction
    at: datetime


@dataclass(frozen=True, slots=True)
class SessionEnded:
    session_id: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ReactionCounts:
    counts: dict[str, int]
    media_time: float
    at: datetime


@dataclass(frozen=True, slots=True)
class Audited:
    """Who did what to whom: one line of the audit log."""

    action: str
    actor_id: str
    target_id: str | None
    detail: dict[str, object]
    at: datetime


@dataclass(frozen=True, slots=True)
class Banned:
    """A ban that acts already, and that the database could not take at once."""

    ban: Exclusion
    reason: str | None
    line: Audited

    @property
    def person_id(self) -> str:
        return self.ban.person_id


@dataclass(frozen=True, slots=True)
class RoleTaken:
    """A role that somebody has lost already, while the database could not take it from them."""

    person_id: str
    line: Audited


Decision = Banned | RoleTaken
Fact = SessionOpened | SessionEnded | ReactionCounts | Audited | Banned | RoleTaken


class Pages(Protocol):
    """What the ledger needs of the database; `lac.rooms.records.Records` is it."""

    async def write_facts(self, broadcast_id: str, facts: Sequence[Fact]) -> None:
        """All of them in one transaction, in order."""

    async def close_open_sessions(self, broadcast_id: str | None, reason: str) -> int: ...


class Ledger:
    """One broadcast's. `run` writes while the broadcast lives; `close` writes the rest and closes what is open."""

    def __init__(self, broadcast_id: str, pages: Pages) -> None:
        self.dropped = 0
        self._broadcast_id = broadcast_id
        self._pages = pages
        self._queue: deque[Fact] = deque()  # bounded by `_put`
        self._filled = trio.Event()
        #: Set after each batch, and replaced.
        self._written = trio.Event()
        #: So many facts at the front are on their way to the database.
        self._writing = 0

    @property
    def waiting(self) -> int:
        """Facts that are not written yet."""
        return len(self._queue)

    def session_opened(
        self, session_id: str, person_id: str, user_id: str | None, kind: str, direction: Direction
    ) -> None:
        self._put(SessionOpened(session_id, person_id, user_id, kind, direction, utc_now()))

    def session_ended(self, session_id: str, reason: str) -> None:
        self._put(SessionEnded(session_id, reason, utc_now()))

    def reacted(self, counts: dict[str, int], media_time: float, at: datetime) -> None:
        if len(self._queue) < QUEUE_MAX:
            self._put(ReactionCounts(counts, media_time, at))
            return
        for index in range(len(self._queue) - 1, self._writing - 1, -1):
            waiting = self._queue[index]
            if isinstance(waiting, ReactionCounts):
                merged = {
                    emoji: waiting.counts.get(emoji, 0) + counts.get(emoji, 0) for emoji in {**waiting.counts, **counts}
                }
                self._queue[index] = replace(waiting, counts=merged)
                return
        self.dropped += 1

    def audited(self, line: Audited) -> None:
        self._put(line, reserve=AUDIT_RESERVE)

    def decided(self, decision: Decision) -> None:
        """What a moderator decided holds, and is written when the database is back."""
        log.warning("a moderator's decision has to wait", broadcast_id=self._broadcast_id, act=decision.line.action)
        self._put(decision, reserve=AUDIT_RESERVE)

    async def withdraw(self, person_id: str) -> None:
        """Decisions about this person that still wait are no longer wanted. One that is being written is waited for, so
        that whatever undoes it comes after."""
        while any(_is_about(fact, person_id) for fact in islice(self._queue, self._writing)):
            await self._written.wait()
        kept = [fact for fact in self._queue if not _is_about(fact, person_id)]
        self._queue.clear()
        self._queue.extend(kept)
        if not self._queue:
            self._filled = trio.Event()

    async def run(self) -> None:
        """Write until cancelled. A database that is away is waited for, what it refuses is logged and dropped."""
        while True:
            await self._filled.wait()
            next_at = trio.current_time() + GATHER_S
            try:
                await self._write_batch()
                if self.waiting < BATCH_MAX:
                    await trio.sleep_until(next_at)
            except UnavailableError as error:
                log.warning("facts have to wait", broadcast_id=self._broadcast_id, why=error.code)
                await trio.sleep(RETRY_S)

    async def close(self, reason: str) -> None:
        """Once `run` has ended: write what waits, then close every row that is still open, with `reason`. Bounded; what
        fails is logged. Shields itself."""
        with cleanup_scope(CLOSE_DEADLINE_S, "write the last facts", broadcast_id=self._broadcast_id):
            while self._queue:
                await self._write_batch()
        with cleanup_scope(CLOSE_DEADLINE_S, "close the session rows", broadcast_id=self._broadcast_id):
            await self._pages.close_open_sessions(self._broadcast_id, reason)
        if self.dropped or self._queue:
            log.error(
                "facts were lost", broadcast_id=self._broadcast_id, dropped=self.dropped, unwritten=len(self._queue)
            )

    async def _write_batch(self) -> None:
        """The oldest facts in one transaction; when it is refused, one by one, so that a bad fact (an account deleted
        meanwhile) takes no other with it."""
        batch = list(islice(self._queue, BATCH_MAX))
        self._writing = len(batch)
        try:
            await self._pages.write_facts(self._broadcast_id, batch)
            self._forget(len(batch))
        except UnavailableError:
            raise
        except Exception:
            log.exception("facts refused, trying them one by one", broadcast_id=self._broadcast_id, facts=len(batch))
            for fact in batch:
                await self._write_one(fact)
        finally:
            self._writing = 0
            self._written.set()
            self._written = trio.Event()

    async def _write_one(self, fact: Fact) -> None:
        try:
            await self._pages.write_facts(self._broadcast_id, [fact])
        except UnavailableError:
            raise
        except Exception:
            log.exception("fact refused", broadcast_id=self._broadcast_id, fact=type(fact).__name__)
            self.dropped += 1
        self._forget(1)

    def _put(self, fact: Fact, *, reserve: int = 0) -> None:
        if len(self._queue) >= QUEUE_MAX + reserve:
            self.dropped += 1
            return
        self._queue.append(fact)
        self._filled.set()

    def _forget(self, count: int) -> None:
        """The first `count` facts are dealt with."""
        for _ in range(count):
            self._queue.popleft()
        self._writing -= count
        if not self._queue:
            self._filled = trio.Event()


def _is_about(fact: Fact, person_id: str) -> bool:
    return isinstance(fact, Banned | RoleTaken) and fact.person_id == person_id
