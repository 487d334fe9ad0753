"""What a room and its broadcast keep in the database: the queries of `store`, each behind the one door to threads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import orm

from lac.broadcasts.ledger import Fact, ReactionCounts, SessionEnded, SessionOpened
from lac.clock import utc_now
from lac.db.engine import Database
from lac.rooms import store
from lac.rooms.messages import Chat


class Records:
    """Raises `UnavailableError` where the database is away."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def add_message(self, broadcast_id: str, chat: Chat) -> None:
        user_id = None if chat.user.anonymous else chat.user.id
        await self._db.run(lambda session: store.add_message(session, broadcast_id, chat, user_id=user_id))

    async def recent_messages(self, broadcast_id: str, limit: int) -> list[Chat]:
        return await self._db.read(lambda session: store.recent_messages(session, broadcast_id, limit))

    async def add_ban(
        self, broadcast_id: str, person_id: str, by: str, *, reason: str | None, until: datetime | None = None
    ) -> None:
        at = utc_now()
        await self._db.run(
            lambda session: store.add_ban(session, broadcast_id, person_id, reason=reason, until=until, by=by, at=at)
        )

    async def is_banned(self, broadcast_id: str, person_id: str) -> bool:
        at = utc_now()
        return await self._db.read(lambda session: store.is_banned(session, broadcast_id, person_id, at))

    async def write_facts(self, broadcast_id: str, facts: Sequence[Fact]) -> None:
        """All of them in one transaction, in order."""

        def write(session: orm.Session) -> None:
            for fact in facts:
                _write_fact(session, broadcast_id, fact)

        await self._db.run(write)

    async def close_open_sessions(self, broadcast_id: str | None, reason: str) -> int:
        at = utc_now()
        return await self._db.run(lambda session: store.close_open_sessions(session, broadcast_id, reason, at))


def _write_fact(session: orm.Session, broadcast_id: str, fact: Fact) -> None:
    match fact:
        case SessionOpened():
            store.open_session_row(
                session,
                session_id=fact.session_id,
                broadcast_id=broadcast_id,
                person_id=fact.person_id,
                user_id=fact.user_id,
                kind=fact.kind,
                direction=fact.direction,
                at=fact.at,
            )
        case SessionEnded():
            store.close_session_row(session, fact.session_id, fact.reason, fact.at)
        case ReactionCounts():
            store.add_reactions(session, broadcast_id, fact.counts, fact.media_time, fact.at)
