"""Queries on broadcasts: a session in, frozen values out. Rules are in the service and the policy."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from lac.broadcasts.model import (
    Broadcast,
    BroadcastAction,
    BroadcastStatus,
    ChatMode,
    Role,
    RoomSettings,
    Visibility,
    next_status,
)
from lac.db import models
from lac.db.pages import earlier_than, later_than
from lac.paging import Page, Position, encode_cursor
from lac.recordings import store as recordings

#: The sections of an unfiltered list, in order, and whether the latest comes first.
_SECTIONS = {BroadcastStatus.LIVE: True, BroadcastStatus.SCHEDULED: False, BroadcastStatus.ENDED: True}


def add(session: orm.Session, broadcast: Broadcast) -> None:
    session.add(
        models.Broadcast(
            id=broadcast.id,
            host_id=broadcast.host_id,
            title=broadcast.title,
            description=broadcast.description,
            status=broadcast.status,
            visibility=broadcast.visibility,
            tags=list(broadcast.tags),
            recording_enabled=broadcast.recording_enabled,
            rewind_enabled=broadcast.rewind_enabled,
            scheduled_at=broadcast.scheduled_at,
            started_at=broadcast.started_at,
            ended_at=broadcast.ended_at,
            created_at=broadcast.created_at,
            updated_at=broadcast.updated_at,
            listed_at=broadcast.started_at or broadcast.scheduled_at or broadcast.created_at,
            stream_key_version=broadcast.stream_key_version,
        )
    )
    session.flush()


def find(session: orm.Session, broadcast_id: str, *, for_update: bool = False) -> Broadcast | None:
    """`for_update` keeps others from changing it until the transaction ends."""
    row = _row(session, broadcast_id, for_update=for_update)
    return None if row is None else _to_broadcast(row)


def find_many(session: orm.Session, broadcast_ids: Collection[str]) -> dict[str, Broadcast]:
    """Those that there are."""
    rows = session.scalars(sa.select(models.Broadcast).where(models.Broadcast.id.in_(broadcast_ids)))
    return {row.id: _to_broadcast(row) for row in rows}


def change(session: orm.Session, broadcast_id: str, values: Mapping[str, Any], *, at: datetime) -> Broadcast:
    """Set columns of a broadcast that exists and that this transaction has locked."""
    row = _row(session, broadcast_id, for_update=True)
    if row is None:
        raise LookupError(broadcast_id)
    for name, value in values.items():
        setattr(row, name, list(value) if name == "tags" else value)
    row.listed_at = row.started_at or row.scheduled_at or row.created_at
    row.updated_at = at
    session.flush()
    return _to_broadcast(row)


def move(session: orm.Session, broadcast_id: str, action: BroadcastAction, *, at: datetime) -> Broadcast | None:
    """Take the broadcast through its state table. A move that changes nothing leaves every time as it was.

    Returns None when there is none; raises `ConflictError` for a move that does not exist.
    """
    current = find(session, broadcast_id, for_update=True)
    if current is None:
        return None
    status = next_status(current.status, action)
    if status is current.status:
        return current
    stamp = {BroadcastStatus.LIVE: "started_at", BroadcastStatus.ENDED: "ended_at"}
    return change(session, broadcast_id, {"status": status, stamp[status]: at}, at=at)


def set_settings(session: orm.Session, broadcast_id: str, settings: RoomSettings) -> bool:
    """False when there is no such broadcast."""
    row = _row(session, broadcast_id, for_update=True)
    if row is None:
        return False
    row.slow_mode_s, row.locked = settings.slow_mode_s, settings.locked
    row.chat_closed = settings.chat_mode is ChatMode.CLOSED
    row.followers_only = settings.chat_mode is ChatMode.FOLLOWERS
    return True


def delete(session: orm.Session, broadcast_id: str, *, at: datetime) -> None:
    recordings.remove_of_broadcasts(session, [broadcast_id], at=at)
    session.execute(sa.delete(models.Broadcast).where(models.Broadcast.id == broadcast_id))


def live_ids(session: orm.Session) -> list[str]:
    return list(session.scalars(sa.select(models.Broadcast.id).where(models.Broadcast.status == BroadcastStatus.LIVE)))


def user_name(session: orm.Session, user_id: str, *, keep: bool = False) -> str | None:
    """None when there is no such account. With `keep` it is not deleted before the transaction ends."""
    query = sa.select(models.User.display_name).where(models.User.id == user_id)
    return session.scalar(query.with_for_update(key_share=True, read=True) if keep else query)


def is_admin(session: orm.Session, user_id: str) -> bool:
    return bool(session.scalar(sa.select(models.User.is_admin).where(models.User.id == user_id)))


def granted_role(session: orm.Session, broadcast_id: str, user_id: str) -> Role | None:
    row = session.get(models.BroadcastRole, (broadcast_id, user_id))
    return None if row is None else row.role


def people_with_a_part(session: orm.Session, broadcast_id: str, user_ids: Collection[str]) -> set[str]:
    """Those of these accounts that have been given any part in the broadcast, and those that are admins."""
    given = sa.select(models.BroadcastRole.user_id).where(
        models.BroadcastRole.broadcast_id == broadcast_id, models.BroadcastRole.user_id.in_(user_ids)
    )
    admins = sa.select(models.User.id).where(models.User.id.in_(user_ids), models.User.is_admin)
    return set(session.scalars(given)) | set(session.scalars(admins))


def take_listener_roles(session: orm.Session, broadcast_id: str) -> None:
    """Who came by an invite link, and has been given nothing more since, has no part in it any longer."""
    session.execute(
        sa.delete(models.BroadcastRole).where(
            models.BroadcastRole.broadcast_id == broadcast_id, models.BroadcastRole.role == Role.LISTENER
        )
    )


def granted_roles(session: orm.Session, broadcast_ids: Iterable[str], user_id: str) -> dict[str, Role]:
    """The person's role in each of these broadcasts where they have one."""
    query = sa.select(models.BroadcastRole.broadcast_id, models.BroadcastRole.role).where(
        models.BroadcastRole.user_id == user_id, models.BroadcastRole.broadcast_id.in_(list(broadcast_ids))
    )
    return {row.broadcast_id: row.role for row in session.execute(query)}


def set_role(
    session: orm.Session, broadcast_id: str, user_id: str, role: Role | None, *, by: str | None, at: datetime
) -> None:
    """Give the person this one role there, or (None) take theirs away."""
    row = session.get(models.BroadcastRole, (broadcast_id, user_id), with_for_update=True)
    if role is None:
        if row is not None:
            session.delete(row)
        return
    if row is None:
        row = models.BroadcastRole(broadcast_id=broadcast_id, user_id=user_id)
        session.add(row)
    row.role, row.granted_by, row.granted_at = role, by, at


def list_page(
    session: orm.Session,
    *,
    viewer_id: str | None,
    sees_all: bool,
    status: BroadcastStatus | None,
    host_id: str | None,
    q: str | None,
    limit: int,
    after: Position | None,
) -> Page[Broadcast]:
    """Public broadcasts and the viewer's own: live, then scheduled (the next one first), then ended."""
    conditions = [] if sees_all else [_visible_to(viewer_id)]
    if host_id is not None:
        conditions.append(models.Broadcast.host_id == host_id)
    if q:
        conditions.append(models.Broadcast.title.icontains(q, autoescape=True))
    sections = list(_SECTIONS) if status is None else [status]
    if after is not None:
        sections = sections[[str(section) for section in sections].index(after.section) :]

    rows: list[models.Broadcast] = []
    for section in sections:
        query = sa.select(models.Broadcast).where(models.Broadcast.status == section, *conditions)
        query = _ordered(query, latest_first=_SECTIONS[section], after=after)
        rows.extend(session.scalars(query.limit(limit + 1 - len(rows))))
        after = None  # the later sections from their beginning
        if len(rows) > limit:
            break
    items = rows[:limit]
    cursor = None
    if len(rows) > limit:
        cursor = encode_cursor(Position(items[-1].status.value, items[-1].listed_at, items[-1].id))
    return Page(tuple(_to_broadcast(row) for row in items), cursor)


def _chat_mode(row: models.Broadcast) -> ChatMode:
    if row.chat_closed:
        return ChatMode.CLOSED
    return ChatMode.FOLLOWERS if row.followers_only else ChatMode.OPEN


def _ordered(
    query: sa.Select[models.Broadcast], *, latest_first: bool, after: Position | None
) -> sa.Select[models.Broadcast]:
    at, row_id = models.Broadcast.listed_at, models.Broadcast.id
    if latest_first:
        query = query.order_by(at.desc(), row_id.desc())
        return query if after is None else query.where(earlier_than(after, at, row_id))
    query = query.order_by(at, row_id)
    return query if after is None else query.where(later_than(after, at, row_id))


def _visible_to(viewer_id: str | None) -> sa.ColumnElement[bool]:
    public = models.Broadcast.visibility == Visibility.PUBLIC
    if viewer_id is None:
        return public
    own = sa.select(models.BroadcastRole.broadcast_id).where(models.BroadcastRole.user_id == viewer_id)
    return public | (models.Broadcast.host_id == viewer_id) | models.Broadcast.id.in_(own)


def _row(session: orm.Session, broadcast_id: str, *, for_update: bool) -> models.Broadcast | None:
    query = sa.select(models.Broadcast).where(models.Broadcast.id == broadcast_id)
    if for_update:
        query = query.with_for_update(of=models.Broadcast)
    return session.scalar(query)


def _to_broadcast(row: models.Broadcast) -> Broadcast:
    return Broadcast(
        id=row.id,
        host_id=row.host_id,
        host_name=row.host.display_name,
        title=row.title,
        description=row.description,
        status=row.status,
        visibility=row.visibility,
        tags=tuple(row.tags),
        recording_enabled=row.recording_enabled,
        rewind_enabled=row.rewind_enabled,
        scheduled_at=row.scheduled_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
        stream_key_version=row.stream_key_version,
        settings=RoomSettings(row.slow_mode_s, _chat_mode(row), row.locked),
        invite_version=row.invite_version,
    )
