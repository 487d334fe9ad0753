"""What a room and its broadcast keep in the database: the queries of `store`, each behind the one door to threads.

What a moderator did and its line in the audit log are written in one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import orm

from lac.audit import add_audit
from lac.broadcasts import policy
from lac.broadcasts import store as broadcast_store
from lac.broadcasts.ledger import (
    Audited,
    Banned,
    Fact,
    ReactionCounts,
    RoleTaken,
    SessionEnded,
    SessionOpened,
)
from lac.broadcasts.model import Role, RoomSettings, Visibility
from lac.clock import utc_now
from lac.db.engine import Database
from lac.errors import ForbiddenError, NotFoundError
from lac.rooms import store
from lac.rooms.kept_out import Exclusion
from lac.rooms.recent_chat import RECENT_MESSAGES, Missed
from lac.rooms.values import Chat


@dataclass(frozen=True, slots=True)
class Memory:
    """What a room has to know when it opens."""

    recent: list[Chat]
    bans: list[Exclusion]


class Records:
    """Raises `UnavailableError` where the database is away."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def memory(self, broadcast_id: str) -> Memory:
        at = utc_now()

        def read(session: orm.Session) -> Memory:
            recent = store.recent_messages(session, broadcast_id, RECENT_MESSAGES)
            return Memory(recent, store.active_bans(session, broadcast_id, at))

        return await self._db.read(read)

    async def add_message(self, broadcast_id: str, chat: Chat) -> Chat | None:
        """What is kept now: an earlier message, if the same was sent before; None if that has been deleted."""
        user_id = None if chat.user.anonymous else chat.user.id
        return await self._db.run(lambda session: store.add_message(session, broadcast_id, chat, user_id=user_id))

    async def missed_messages(self, broadcast_id: str, since: str, limit: int) -> Missed | None:
        return await self._db.read(lambda session: store.missed_messages(session, broadcast_id, since, limit))

    async def delete_message(self, broadcast_id: str, message_id: str, actor_role: Role, line: Audited) -> None:
        """Raises `NotFoundError` (no_such_message), `ForbiddenError` for one of a stronger role."""

        def delete(session: orm.Session) -> None:
            chat = store.find_message(session, broadcast_id, message_id)
            if chat is None:
                raise NotFoundError("There is no such message.", code="no_such_message")
            policy.may_act_on(actor_role, chat.user.role)
            store.delete_message(session, broadcast_id, message_id, at=line.at)
            _add_line(session, broadcast_id, line, target_id=chat.user.id, detail={"messageId": message_id})

        await self._db.run(delete)

    async def clear_messages(self, broadcast_id: str, person_id: str, line: Audited) -> list[str]:
        """The ids of what is hidden now."""

        def clear(session: orm.Session) -> list[str]:
            ids = store.clear_messages(session, broadcast_id, person_id, at=line.at)
            _add_line(session, broadcast_id, line, detail={"messages": len(ids)})
            return ids

        return await self._db.run(clear)

    async def store_settings(self, broadcast_id: str, settings: RoomSettings, line: Audited) -> None:
        def change(session: orm.Session) -> None:
            if not broadcast_store.set_settings(session, broadcast_id, settings):
                raise NotFoundError("There is no such broadcast.")
            _add_line(session, broadcast_id, line)

        await self._db.run(change)

    async def grant_speaker(self, broadcast_id: str, user_id: str, by: str, line: Audited) -> Role:
        """The role that the account now has: one that it was given meanwhile stays. Raises `ForbiddenError` for
        somebody who was banned meanwhile."""

        def grant(session: orm.Session) -> Role:
            if broadcast_store.user_name(session, user_id, keep=True) is None:
                raise NotFoundError("There is no such user.")
            if store.is_banned(session, broadcast_id, user_id, line.at):
                raise ForbiddenError("You have been removed from this show.", code="removed")
            role = broadcast_store.granted_role(session, broadcast_id, user_id)
            if role is None:
                role = Role.SPEAKER
                giver = by if broadcast_store.user_name(session, by, keep=True) is not None else None
                broadcast_store.set_role(session, broadcast_id, user_id, role, by=giver, at=line.at)
            _add_line(session, broadcast_id, line)
            return role

        return await self._db.run(grant)

    async def take_role(self, broadcast_id: str, user_id: str, line: Audited) -> None:
        """The account is a listener from now on; in a private show it keeps the right to listen."""
        await self._db.run(lambda session: _take_role(session, broadcast_id, user_id, line))

    async def add_ban(self, broadcast_id: str, ban: Exclusion, reason: str | None, line: Audited) -> None:
        await self._db.run(lambda session: _add_ban(session, broadcast_id, ban, reason, line))

    async def lift_ban(self, broadcast_id: str, person_id: str, line: Audited, *, removed: bool) -> bool:
        """False when there was none. `removed`: they were kept out anyway, which ends, too."""

        def lift(session: orm.Session) -> bool:
            lifted = store.remove_ban(session, broadcast_id, person_id)
            if lifted or removed:
                _add_line(session, broadcast_id, line)
            return lifted

        return await self._db.run(lift)

    async def is_banned(self, broadcast_id: str, person_id: str | None, *, address_hash: str | None = None) -> bool:
        at = utc_now()
        return await self._db.read(
            lambda session: store.is_banned(session, broadcast_id, person_id, at, address_hash=address_hash)
        )

    async def follows(self, follower_id: str, followed_id: str) -> bool:
        return await self._db.read(lambda session: store.follows(session, follower_id, followed_id))

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
        case Audited():
            _add_line(session, broadcast_id, fact)
        case Banned():
            _add_ban(session, broadcast_id, fact.ban, fact.reason, fact.line)
        case RoleTaken():
            _take_role(session, broadcast_id, fact.person_id, fact.line)


def _take_role(session: orm.Session, broadcast_id: str, user_id: str, line: Audited) -> None:
    broadcast = broadcast_store.find(session, broadcast_id)
    is_private = broadcast is not None and broadcast.visibility is Visibility.PRIVATE
    left = Role.LISTENER if is_private else None
    broadcast_store.set_role(session, broadcast_id, user_id, left, by=line.actor_id, at=line.at)
    _add_line(session, broadcast_id, line)


def _add_ban(session: orm.Session, broadcast_id: str, ban: Exclusion, reason: str | None, line: Audited) -> None:
    store.add_ban(
        session,
        broadcast_id,
        ban.person_id,
        reason=reason,
        until=ban.until,
        by=line.actor_id,
        at=line.at,
        address_hash=ban.address_hash,
    )
    _add_line(session, broadcast_id, line)


def _add_line(
    session: orm.Session,
    broadcast_id: str,
    line: Audited,
    *,
    target_id: str | None = None,
    detail: dict[str, object] | None = None,
) -> None:
    add_audit(
        session,
        line.action,
        at=line.at,
        actor_id=line.actor_id,
        broadcast_id=broadcast_id,
        target_id=target_id or line.target_id,
        detail={**line.detail, **(detail or {})},
    )
