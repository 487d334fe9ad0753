"""What rooms leave in the database: chat, reactions, media sessions, bans. A session in, plain values out.

`at` is always the caller's aware UTC time: it belongs to the event, not to the moment of writing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import orm

from lac.db import models
from lac.ids import new_id
from lac.paging import Page, Position, encode_cursor
from lac.rooms.messages import Chat, Person

_CHAT_SECTION = "chat"


def add_message(session: orm.Session, broadcast_id: str, chat: Chat, *, user_id: str | None) -> None:
    """Keep a message as it was sent. `user_id` is the account of `chat.user`, None for a guest."""
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


def recent_messages(session: orm.Session, broadcast_id: str, limit: int) -> list[Chat]:
    """The last `limit` messages that are not deleted, oldest first."""
    return list(reversed(list_messages(session, broadcast_id, limit=limit).items))


def list_messages(session: orm.Session, broadcast_id: str, *, limit: int, after: Position | None = None) -> Page[Chat]:
    """Messages that are not deleted, newest first. `after` comes from the cursor of the page before."""
    row = models.ChatMessage
    query = sa.select(row).where(row.broadcast_id == broadcast_id, row.deleted_at.is_(None))
    if after is not None:
        query = query.where((row.at < after.at) | ((row.at == after.at) & (row.id < after.id)))
    found = session.scalars(query.order_by(row.at.desc(), row.id.desc()).limit(limit + 1)).all()
    items = found[:limit]
    cursor = encode_cursor(Position(_CHAT_SECTION, items[-1].at, items[-1].id)) if len(found) > limit else None
    return Page(tuple(_to_chat(message) for message in items), cursor)


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
    session.execute(
        sa.insert(models.MediaSession).values(
            id=session_id,
            broadcast_id=broadcast_id,
            person_id=person_id,
            user_id=_existing_user(user_id),
            kind=kind,
            direction=str(direction),
            opened_at=at,
        )
    )


def close_session_row(session: orm.Session, session_id: str, reason: str, at: datetime) -> None:
    """Note the end of a session. The first reason stays; a session that was never opened is no error."""
    _close(session, models.MediaSession.id == session_id, reason, at)


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


def remove_ban(session: orm.Session, broadcast_id: str, person_id: str) -> None:
    session.execute(
        sa.delete(models.Ban).where(models.Ban.broadcast_id == broadcast_id, models.Ban.person_id == person_id)
    )


def is_banned(
    session: orm.Session, broadcast_id: str, person_id: str, at: datetime, *, address_hash: str | None = None
) -> bool:
    """Whether this person is kept out or, with `address_hash`, any guest from where this one comes."""
    row = models.Ban
    whom = row.person_id == person_id
    if address_hash is not None:
        whom |= row.address_hash == address_hash
    holds = sa.exists().where(row.broadcast_id == broadcast_id, whom, row.until.is_(None) | (row.until > at))
    return bool(session.scalar(sa.select(holds)))


def _close(session: orm.Session, which: sa.ColumnElement[bool], reason: str, at: datetime) -> int:
    result = session.execute(
        sa.update(models.MediaSession)
        .where(which, models.MediaSession.closed_at.is_(None))
        .values(closed_at=at, close_reason=reason[:64])
    )
    assert isinstance(result, sa.CursorResult)  # noqa: S101  for the type checker
    return result.rowcount


def _existing_user(user_id: str | None) -> sa.ScalarSelect[str] | None:
    """The id while the account exists, else NULL: the event happened even if the account was deleted meanwhile."""
    return None if user_id is None else sa.select(models.User.id).where(models.User.id == user_id).scalar_subquery()


def _to_chat(row: models.ChatMessage) -> Chat:
    user = Person(id=row.person_id, display_name=row.display_name, role=row.role, anonymous=row.anonymous)
    return Chat(id=row.id, user=user, text=row.text, media_time=row.media_time, at=row.at)
