"""What rooms leave in the database: chat, reactions, media sessions, bans, the audit log. A session in, plain values
out.

`at` is always the caller's aware UTC time: it belongs to the event, not to the moment of writing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import orm

from lac.db import models
from lac.db.pages import earlier_than, page_of
from lac.ids import new_id
from lac.paging import Page, Position
from lac.rooms.kept_out import Exclusion
from lac.rooms.recent_chat import Missed
from lac.rooms.values import Chat, Person

_CHAT_SECTION = "chat"
BANS_SECTION = "bans"
SESSIONS_SECTION = "sessions"

# Each listener brings two of these: they are written once, and past the session, which keeps no object of theirs.
_sessions = models.Base.metadata.tables["sessions"]
_OPEN_SESSION = sa.insert(_sessions).values(
    # The account's id while the account exists, else NULL: the event happened even if it was deleted meanwhile.
    user_id=sa.select(models.User.id).where(models.User.id == sa.bindparam("account")).scalar_subquery(),
    **{name: sa.bindparam(name) for name in ("id", "broadcast_id", "person_id", "kind", "direction", "opened_at")},
)
_CLOSE_SESSION = (
    sa.update(_sessions)
    .where(_sessions.c.id == sa.bindparam("session"), _sessions.c.closed_at.is_(None))
    .values(closed_at=sa.bindparam("at"), close_reason=sa.bindparam("reason"))
)


@dataclass(frozen=True, slots=True)
class Ban:
    person_id: str
    #: Of the account as it is now; None for guests.
    display_name: str | None
    reason: str | None
    until: datetime | None
    created_at: datetime
    created_by: str | None


@dataclass(frozen=True, slots=True)
class SessionRow:
    id: str
    person_id: str
    display_name: str | None
    kind: str
    direction: str
    opened_at: datetime
    closed_at: datetime | None
    close_reason: str | None


@dataclass(frozen=True, slots=True)
class Figures:
    """What a broadcast has had so far."""

    sessions: int
    people: int
    messages: int
    reactions: dict[str, int]


def add_message(session: orm.Session, broadcast_id: str, chat: Chat, *, user_id: str | None) -> Chat | None:
    """Keep a message as it was sent. `user_id` is the account of `chat.user`, None for a guest. Returns what is kept
    under its id: an earlier one, if the same was sent before; None if that has been deleted."""
    before = session.get(models.ChatMessage, chat.id)
    if before is not None:
        return None if before.deleted_at is not None else _to_chat(before)
    session.execute(
        sa.insert(models.ChatMessage).values(
            id=chat.id,
            broadcast_id=broadcast_id,
            person_id=chat.user.id,
            user_id=_existing_user(user_id),
            display_name=chat.user.display_name,
            role=chat.user.role,
            anonymous=chat.user.anonymous,
            text=chat.text,
            media_time=chat.media_time,
            at=chat.at,
        )
    )
    return chat


def recent_messages(session: orm.Session, broadcast_id: str, limit: int) -> list[Chat]:
    """The last `limit` messages that are not deleted, oldest first."""
    return list(reversed(list_messages(session, broadcast_id, limit=limit).items))


def list_messages(session: orm.Session, broadcast_id: str, *, limit: int, after: Position | None = None) -> Page[Chat]:
    """Messages that are not deleted, newest first. `after` comes from the cursor of the page before."""
    row = models.ChatMessage
    query = sa.select(row).where(row.broadcast_id == broadcast_id, row.deleted_at.is_(None))
    if after is not None:
        query = query.where(earlier_than(after, row.at, row.id))
    found = session.scalars(query.order_by(row.at.desc(), row.id.desc()).limit(limit + 1)).all()
    return page_of(found, limit, _to_chat, lambda chat: Position(_CHAT_SECTION, chat.at, chat.id))


def missed_messages(session: orm.Session, broadcast_id: str, since: str, limit: int) -> Missed | None:
    """The last `limit` messages after `since`, which may itself be deleted. None when there never was such a one."""
    row = models.ChatMessage
    found = session.get(row, since)
    if found is None or found.broadcast_id != broadcast_id:
        return None
    later = (row.at > found.at) | ((row.at == found.at) & (row.id > found.id))
    query = sa.select(row).where(row.broadcast_id == broadcast_id, row.deleted_at.is_(None), later)
    last = session.scalars(query.order_by(row.at.desc(), row.id.desc()).limit(limit + 1)).all()
    messages = [_to_chat(message) for message in reversed(last[:limit])]
    return Missed((found.at, found.id), messages, more=len(last) > limit)


def find_message(session: orm.Session, broadcast_id: str, message_id: str) -> Chat | None:
    """The message, unless it is deleted."""
    row = session.get(models.ChatMessage, message_id)
    return None if row is None or row.broadcast_id != broadcast_id or row.deleted_at is not None else _to_chat(row)


def clear_messages(session: orm.Session, broadcast_id: str, person_id: str, *, at: datetime) -> list[str]:
    """Hide everything of this person that is not hidden yet, and say what that was."""
    row = models.ChatMessage
    cleared = session.scalars(
        sa.update(row)
        .where(row.broadcast_id == broadcast_id, row.person_id == person_id, row.deleted_at.is_(None))
        .values(deleted_at=at)
        .returning(row.id)
        .execution_options(synchronize_session=False)
    )
    return list(cleared)


def delete_message(session: orm.Session, broadcast_id: str, message_id: str, *, at: datetime) -> bool:
    """Hide a message from now on. False when there is none to hide."""
    row = session.get(models.ChatMessage, message_id, with_for_update=True)
    if row is None or row.broadcast_id != broadcast_id or row.deleted_at is not None:
        return False
    row.deleted_at = at
    return True


def add_reactions(
    session: orm.Session, broadcast_id: str, counts: Mapping[str, int], media_time: float, at: datetime
) -> None:
    """One row for each emoji that was sent around this moment of the show."""
    session.add_all(
        models.Reaction(id=new_id(), broadcast_id=broadcast_id, emoji=emoji, count=count, media_time=media_time, at=at)
        for emoji, count in counts.items()
        if count > 0
    )


def open_session_row(
    session: orm.Session,
    *,
    session_id: str,
    broadcast_id: str,
    person_id: str,
    user_id: str | None,
    kind: str,
    direction: str,
    at: datetime,
) -> None:
    row = {
        "id": session_id,
        "broadcast_id": broadcast_id,
        "person_id": person_id,
        "kind": kind,
        "direction": str(direction),
        "opened_at": at,
    }
    session.connection().execute(_OPEN_SESSION, row | {"account": user_id})


def close_session_row(session: orm.Session, session_id: str, reason: str, at: datetime) -> None:
    """Note the end of a session. The first reason stays; a session that was never opened is no error."""
    session.connection().execute(_CLOSE_SESSION, {"session": session_id, "at": at, "reason": reason[:64]})


def close_open_sessions(session: orm.Session, broadcast_id: str | None, reason: str, at: datetime) -> int:
    """Close every row that is still open, in one broadcast or (None) in all, and say how many there were."""
    everywhere = sa.true()
    return _close(
        session, everywhere if broadcast_id is None else models.MediaSession.broadcast_id == broadcast_id, reason, at
    )


def add_ban(
    session: orm.Session,
    broadcast_id: str,
    person_id: str,
    *,
    reason: str | None,
    until: datetime | None,
    by: str | None,
    at: datetime,
    address_hash: str | None = None,
) -> None:
    """Keep the person out until then, or (None) for good. Replaces an earlier ban. `by` is an account, if any.

    `address_hash` (`lac.auth.tokens.hash_address`) is for guests, who come back under another id.
    """
    by = None if by is None else session.scalar(sa.select(models.User.id).where(models.User.id == by))
    row = session.get(models.Ban, (broadcast_id, person_id), with_for_update=True)
    if row is None:
        row = models.Ban(broadcast_id=broadcast_id, person_id=person_id)
        session.add(row)
    row.reason, row.until, row.created_by, row.created_at = reason, until, by, at
    row.address_hash = address_hash


def remove_ban(session: orm.Session, broadcast_id: str, person_id: str) -> bool:
    """False when there was none."""
    row = session.get(models.Ban, (broadcast_id, person_id), with_for_update=True)
    if row is None:
        return False
    session.delete(row)
    return True


def is_banned(
    session: orm.Session, broadcast_id: str, person_id: str | None, at: datetime, *, address_hash: str | None = None
) -> bool:
    """`address_hash` is that of somebody without an account, None for everybody else."""
    row = models.Ban
    whom = [row.person_id == person_id] if person_id is not None else []
    if address_hash is not None:
        whom.append(row.address_hash == address_hash)
    holds = row.until.is_(None) | (row.until > at)
    query = sa.select(row.person_id).where(row.broadcast_id == broadcast_id, sa.or_(sa.false(), *whom), holds)
    return session.scalar(query.limit(1)) is not None


def active_bans(session: orm.Session, broadcast_id: str, at: datetime) -> list[Exclusion]:
    row = models.Ban
    query = sa.select(row).where(row.broadcast_id == broadcast_id, row.until.is_(None) | (row.until > at))
    return [Exclusion(ban.person_id, ban.address_hash, ban.until, stored=True) for ban in session.scalars(query)]


def find_ban(session: orm.Session, broadcast_id: str, person_id: str) -> Ban | None:
    query = _bans().where(models.Ban.broadcast_id == broadcast_id, models.Ban.person_id == person_id)
    row = session.execute(query).one_or_none()
    if row is None:
        return None
    ban, name = row
    return _to_ban(ban, name)


def list_bans(session: orm.Session, broadcast_id: str, *, limit: int, after: Position | None = None) -> Page[Ban]:
    """Newest first, those that are over included."""
    row = models.Ban
    query = _bans().where(row.broadcast_id == broadcast_id)
    if after is not None:
        query = query.where(earlier_than(after, row.created_at, row.person_id))
    found = session.execute(query.order_by(row.created_at.desc(), row.person_id.desc()).limit(limit + 1)).all()
    return page_of(
        found,
        limit,
        lambda line: _to_ban(*line),
        lambda ban: Position(BANS_SECTION, ban.created_at, ban.person_id),
    )


def list_sessions(
    session: orm.Session, broadcast_id: str, *, limit: int, after: Position | None = None
) -> Page[SessionRow]:
    """Media sessions, the latest first."""
    row = models.MediaSession
    query = sa.select(row, models.User.display_name).outerjoin(models.User, models.User.id == row.user_id)
    query = query.where(row.broadcast_id == broadcast_id)
    if after is not None:
        query = query.where(earlier_than(after, row.opened_at, row.id))
    found = session.execute(query.order_by(row.opened_at.desc(), row.id.desc()).limit(limit + 1)).all()
    return page_of(
        found,
        limit,
        lambda line: _to_session(*line),
        lambda opened: Position(SESSIONS_SECTION, opened.opened_at, opened.id),
    )


def figures(session: orm.Session, broadcast_id: str) -> Figures:
    media, chat, reaction = models.MediaSession, models.ChatMessage, models.Reaction
    sessions, people = session.execute(
        sa.select(sa.func.count(), sa.func.count(media.person_id.distinct())).where(media.broadcast_id == broadcast_id)
    ).one()
    messages = session.scalar(
        sa.select(sa.func.count()).where(chat.broadcast_id == broadcast_id, chat.deleted_at.is_(None))
    )
    counts = session.execute(
        sa.select(reaction.emoji, sa.func.sum(reaction.count))
        .where(reaction.broadcast_id == broadcast_id)
        .group_by(reaction.emoji)
    )
    return Figures(sessions, people, messages or 0, {emoji: int(count) for emoji, count in counts})


def follows(session: orm.Session, follower_id: str, followed_id: str) -> bool:
    return session.get(models.Follow, (follower_id, followed_id)) is not None


def _bans() -> sa.Select[models.Ban, str]:
    return sa.select(models.Ban, models.User.display_name).outerjoin(
        models.User, models.User.id == models.Ban.person_id
    )


def _to_session(row: models.MediaSession, name: str | None) -> SessionRow:
    return SessionRow(
        id=row.id,
        person_id=row.person_id,
        display_name=name,
        kind=row.kind,
        direction=row.direction,
        opened_at=row.opened_at,
        closed_at=row.closed_at,
        close_reason=row.close_reason,
    )


def _to_ban(row: models.Ban, display_name: str | None) -> Ban:
    return Ban(row.person_id, display_name, row.reason, row.until, row.created_at, row.created_by)


def _close(session: orm.Session, which: sa.ColumnElement[bool], reason: str, at: datetime) -> int:
    result = session.execute(
        sa.update(models.MediaSession)
        .where(which, models.MediaSession.closed_at.is_(None))
        .values(closed_at=at, close_reason=reason[:64]),
        # No object of this session is one of these rows: nothing has to be kept in step, which would cost most of it.
        execution_options={"synchronize_session": False},
    )
    assert isinstance(result, sa.CursorResult)  # noqa: S101  for the type checker
    return result.rowcount


def _existing_user(user_id: str | None) -> sa.ScalarSelect[str] | None:
    """The id while the account exists, else NULL: the event happened even if the account was deleted meanwhile."""
    return None if user_id is None else sa.select(models.User.id).where(models.User.id == user_id).scalar_subquery()


def _to_chat(row: models.ChatMessage) -> Chat:
    user = Person(id=row.person_id, display_name=row.display_name, role=row.role, anonymous=row.anonymous)
    return Chat(id=row.id, user=user, text=row.text, media_time=row.media_time, at=row.at)
