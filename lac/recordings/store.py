"""Queries on recordings: a session in, frozen values out. Rules are in the service and the policy."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from lac.broadcasts.model import Role, Visibility
from lac.db import models
from lac.db.pages import earlier_than, later_than, page_of
from lac.paging import Page, Position
from lac.recordings.model import EndReason, Failure, Recording, RecordingStatus, check_move

SECTION = "recordings"
CHAT_SECTION = "recording-chat"
#: Those who run a broadcast see its recordings before they are ready.
UNFINISHED = (RecordingStatus.RECORDING, RecordingStatus.PROCESSING)


@dataclass(frozen=True, slots=True)
class Said:
    """One line of the chat, by the recording's time."""

    start_s: float
    id: str
    person_id: str
    display_name: str
    role: Role
    anonymous: bool
    text: str
    at: datetime


def add(session: orm.Session, recording: Recording) -> None:
    session.add(models.Recording(**{name: getattr(recording, name) for name in recording.__dataclass_fields__}))
    session.flush()


def find(session: orm.Session, recording_id: str, *, for_update: bool = False) -> Recording | None:
    row = _row(session, recording_id, for_update=for_update)
    return None if row is None else _to_recording(row)


def next_part(session: orm.Session, broadcast_id: str) -> int:
    """The number of the next recording of this broadcast."""
    row = models.Recording
    return (session.scalar(sa.select(sa.func.max(row.part)).where(row.broadcast_id == broadcast_id)) or 0) + 1


def latest(session: orm.Session, broadcast_id: str) -> Recording | None:
    row = models.Recording
    query = sa.select(row).where(row.broadcast_id == broadcast_id).order_by(row.part.desc(), row.started_at.desc())
    found = session.scalars(query.limit(1)).first()
    return None if found is None else _to_recording(found)


def change(session: orm.Session, recording_id: str, values: Mapping[str, Any]) -> Recording:
    """Set what people may change of a recording that exists and that this transaction has locked."""
    row = _row(session, recording_id, for_update=True)
    if row is None:
        raise LookupError(recording_id)
    for name, value in values.items():
        setattr(row, name, value)
    row.revision += 1
    session.flush()
    return _to_recording(row)


def move(
    session: orm.Session, recording_id: str, status: RecordingStatus, values: Mapping[str, Any] | None = None
) -> Recording | None:
    """Take it through its states, with what is known of it now. None when there is none (any more).

    Raises `ConflictError` for a move that does not exist.
    """
    row = _row(session, recording_id, for_update=True)
    if row is None:
        return None
    check_move(row.status, status)
    row.status = status
    for name, value in (values or {}).items():
        setattr(row, name, value)
    session.flush()
    return _to_recording(row)


def unfinished(session: orm.Session) -> list[Recording]:
    """Those that are being recorded or processed, the earliest first."""
    row = models.Recording
    query = sa.select(row).where(row.status.in_(UNFINISHED)).order_by(row.started_at, row.id)
    return [_to_recording(found) for found in session.scalars(query)]


def remove(session: orm.Session, which: sa.ColumnElement[bool], *, at: datetime) -> int:
    """Remove recordings (a condition on `models.Recording`), and remember that their files have to go. How many."""
    ids = list(session.scalars(sa.select(models.Recording.id).where(which).with_for_update()))
    if ids:
        session.execute(sa.insert(models.RemovedRecording), [{"recording_id": one, "removed_at": at} for one in ids])
        session.execute(sa.delete(models.Recording).where(models.Recording.id.in_(ids)))
    return len(ids)


def remove_of_broadcasts(session: orm.Session, broadcast_ids: Collection[str], *, at: datetime) -> int:
    """For whoever deletes broadcasts: call it before they go, in the same transaction."""
    return remove(session, models.Recording.broadcast_id.in_(broadcast_ids), at=at)


def removed_ids(session: orm.Session) -> list[str]:
    """Whose files have yet to go."""
    return list(session.scalars(sa.select(models.RemovedRecording.recording_id)))


def forget_removed(session: orm.Session, recording_id: str) -> None:
    """Its files are gone."""
    row = models.RemovedRecording
    session.execute(sa.delete(row).where(row.recording_id == recording_id))


def chat_page(
    session: orm.Session, recording: Recording, *, slack: timedelta, limit: int, after: Position | None
) -> Page[Said]:
    """What was written in the chat during the recording and has not been deleted since, in order. Media time begins
    anew with every start of the process, so that the wall clock has to agree, to within `slack`."""
    row = models.ChatMessage
    query = sa.select(row).where(
        row.broadcast_id == recording.broadcast_id,
        row.deleted_at.is_(None),
        row.at >= recording.started_at - slack,
        row.media_time >= recording.media_start_s,
    )
    if recording.ended_at is not None:
        query = query.where(row.at <= recording.ended_at + slack)
    if recording.duration_s is not None:
        query = query.where(row.media_time <= recording.media_start_s + recording.duration_s)
    if after is not None:
        query = query.where(later_than(after, row.at, row.id))
    found = session.scalars(query.order_by(row.at, row.id).limit(limit + 1)).all()

    def said(chat: models.ChatMessage) -> Said:
        return Said(
            start_s=round(chat.media_time - recording.media_start_s, 3),
            id=chat.id,
            person_id=chat.person_id,
            display_name=chat.display_name,
            role=chat.role,
            anonymous=chat.anonymous,
            text=chat.text,
            at=chat.at,
        )

    return page_of(found, limit, said, lambda item: Position(CHAT_SECTION, item.at, item.id))


def is_playable() -> sa.ColumnElement[bool]:
    """`Recording.is_playable`."""
    row = models.Recording
    kept = (row.failure != Failure.NOTHING_RECORDED) & (row.size_bytes > 0) & (row.duration_s > 0)
    return (row.status == RecordingStatus.READY) | ((row.status == RecordingStatus.FAILED) & kept)


def list_page(
    session: orm.Session,
    *,
    viewer_id: str | None,
    sees_all: bool,
    broadcast_id: str | None,
    host_id: str | None,
    sees_unfinished: bool,
    limit: int,
    after: Position | None,
) -> Page[Recording]:
    """The latest first. Of one broadcast (the caller has looked whether it may be known): all that are ready, with
    `sees_unfinished` the others too. Otherwise those of public broadcasts and of the viewer's own."""
    row, show = models.Recording, models.Broadcast
    query = sa.select(row).join(show, show.id == row.broadcast_id)
    ready = row.status == RecordingStatus.READY
    if broadcast_id is not None:
        query = query.where(row.broadcast_id == broadcast_id)
        if not sees_unfinished:
            query = query.where(ready)
    elif not sees_all:
        public = ready & (show.visibility == Visibility.PUBLIC)
        if viewer_id is None:
            query = query.where(public)
        else:
            part = sa.select(models.BroadcastRole.broadcast_id).where(models.BroadcastRole.user_id == viewer_id)
            query = query.where(public | (show.host_id == viewer_id) | (ready & show.id.in_(part)))
    if host_id is not None:
        query = query.where(show.host_id == host_id)
    if after is not None:
        query = query.where(earlier_than(after, row.started_at, row.id))
    found = session.scalars(query.order_by(row.started_at.desc(), row.id.desc()).limit(limit + 1)).all()
    return page_of(found, limit, _to_recording, lambda item: Position(SECTION, item.started_at, item.id))


def _row(session: orm.Session, recording_id: str, *, for_update: bool) -> models.Recording | None:
    query = sa.select(models.Recording).where(models.Recording.id == recording_id)
    return session.scalar(query.with_for_update() if for_update else query)


def _to_recording(row: models.Recording) -> Recording:
    return Recording(
        id=row.id,
        broadcast_id=row.broadcast_id,
        status=row.status,
        title=row.title,
        description=row.description,
        storage_key=row.storage_key,
        content_type=row.content_type,
        size_bytes=row.size_bytes,
        duration_s=row.duration_s,
        sha256=row.sha256,
        started_at=row.started_at,
        ended_at=row.ended_at,
        created_at=row.created_at,
        media_start_s=row.media_start_s,
        part=row.part,
        started_by=row.started_by,
        end_reason=None if row.end_reason is None else EndReason(row.end_reason),
        failure=None if row.failure is None else Failure(row.failure),
        lost_s=row.lost_s,
        revision=row.revision,
    )
