"""Queries on what is made from recordings, and on which of them are in the bucket. A session in, frozen values out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from lac.broadcasts.model import Visibility
from lac.db import models
from lac.recordings.derivative import AGAIN, MAX_ATTEMPTS, PENDING, Derivative, DerivativeStatus, Kind
from lac.recordings.model import RecordingStatus
from lac.recordings.store import is_playable
from lac_media.derive.worker import Made


def find(session: orm.Session, recording_id: str, kind: Kind) -> Derivative | None:
    row = session.get(models.RecordingDerivative, (recording_id, kind))
    return None if row is None else _to_derivative(row)


def of_recording(session: orm.Session, recording_id: str) -> list[Derivative]:
    row = models.RecordingDerivative
    query = sa.select(row).where(row.recording_id == recording_id).order_by(row.kind)
    return [_to_derivative(found) for found in session.scalars(query)]


def pending_count(session: orm.Session) -> int:
    """Copies that somebody waits for, analyses aside."""
    row = models.RecordingDerivative
    query = sa.select(sa.func.count()).where(row.status.in_(PENDING), row.kind != Kind.ANALYSIS)
    return session.scalar(query) or 0


def request(session: orm.Session, recording_id: str, kind: Kind, *, at: datetime, kept: bool = False) -> Derivative:
    """Want one: queued, unless it is pending or there. One that failed is tried anew."""
    row = session.get(models.RecordingDerivative, (recording_id, kind), with_for_update=True)
    if row is None:
        row = models.RecordingDerivative(
            recording_id=recording_id,
            kind=kind,
            status=DerivativeStatus.QUEUED,
            kept=kept,
            in_bucket=False,
            attempts=0,
            detail={},
            requested_at=at,
            used_at=at,
        )
        session.add(row)
    else:
        row.kept = row.kept or kept
        row.used_at = at
        if row.status == DerivativeStatus.FAILED:
            row.status, row.attempts, row.error, row.requested_at = DerivativeStatus.QUEUED, 0, None, at
    session.flush()
    return _to_derivative(row)


def request_missing(session: orm.Session, *, at: datetime, podcasts: bool, limit: int) -> int:
    """Want what recordings have without being asked for: an analysis of each that can be played, also if it has failed,
    and, for the podcast, a copy of each whole one of a public show. How many were added."""
    recording, derivative = models.Recording, models.RecordingDerivative
    wanted = [(Kind.ANALYSIS, is_playable())]
    if podcasts:
        public = models.Broadcast.visibility == Visibility.PUBLIC
        wanted.append((Kind.M4A, (recording.status == RecordingStatus.READY) & public))
    added = 0
    for kind, condition in wanted:
        exists = sa.exists().where(derivative.recording_id == recording.id, derivative.kind == kind)
        kept = exists.where(derivative.kept)
        query = (
            sa.select(recording.id)
            .join(models.Broadcast, models.Broadcast.id == recording.broadcast_id)
            .where(condition, ~kept)
            .order_by(recording.started_at)
            .limit(limit)
        )
        for recording_id in list(session.scalars(query)):
            request(session, recording_id, kind, at=at, kept=True)
            added += 1
    return added


def requeue_interrupted(session: orm.Session) -> None:
    """At the start: what ran when the process ended is queued again."""
    row = models.RecordingDerivative
    session.execute(sa.update(row).where(row.status == DerivativeStatus.RUNNING).values(status=DerivativeStatus.QUEUED))


def claim(session: orm.Session, *, at: datetime) -> Derivative | None:
    """The next one to be made, which is running from now on: analyses first, they are quick. An attempt that failed
    waits: `requested_at` may lie ahead."""
    row = models.RecordingDerivative
    query = (
        sa.select(row)
        .where(row.status == DerivativeStatus.QUEUED, row.requested_at <= at)
        .order_by((row.kind != Kind.ANALYSIS), row.kept, row.requested_at, row.recording_id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    found = session.scalars(query).first()
    if found is None:
        return None
    found.status = DerivativeStatus.RUNNING
    found.attempts += 1
    session.flush()
    return _to_derivative(found)


def finish(
    session: orm.Session,
    recording_id: str,
    kind: Kind,
    made: Made,
    *,
    in_bucket: bool,
    at: datetime,
    chapters: int = 0,
) -> bool:
    """It is there. False: nobody wants it any more, its file has to go."""
    row = session.get(models.RecordingDerivative, (recording_id, kind), with_for_update=True)
    if row is None or row.status != DerivativeStatus.RUNNING:
        return False
    row.status, row.in_bucket, row.error = DerivativeStatus.READY, in_bucket, None
    row.size_bytes, row.sha256, row.duration_s = made.size, made.sha256, made.duration_s
    if kind is Kind.ANALYSIS:
        row.detail = {name: getattr(made, name) for name in ("integrated_lufs", "range_lu", "true_peak_dbtp")}
    else:
        row.detail = {"chapters": chapters}
    row.finished_at = row.used_at = at
    session.flush()
    return True


def fail(
    session: orm.Session, recording_id: str, kind: Kind, error: str, *, at: datetime, again_in: timedelta | None
) -> None:
    """It could not be made; `again_in` that time it is tried again, None: not by itself."""
    row = session.get(models.RecordingDerivative, (recording_id, kind), with_for_update=True)
    if row is None or row.status != DerivativeStatus.RUNNING:
        return
    row.error = error[:300]
    if again_in is None:
        row.status, row.finished_at = DerivativeStatus.FAILED, at
    else:
        row.status, row.requested_at = DerivativeStatus.QUEUED, at + again_in
    session.flush()


def release(session: orm.Session, recording_id: str, kind: Kind, *, failed: bool, at: datetime) -> None:
    """Whoever was making it has gone: queued again. An attempt counts if it `failed`, in a way that nobody foresaw, and
    not if the server was stopped."""
    row = session.get(models.RecordingDerivative, (recording_id, kind), with_for_update=True)
    if row is None or row.status != DerivativeStatus.RUNNING:
        return
    if failed and row.attempts >= MAX_ATTEMPTS:
        row.status, row.error, row.finished_at = DerivativeStatus.FAILED, "it failed again and again", at
    else:
        row.status = DerivativeStatus.QUEUED
        row.requested_at = at + AGAIN if failed else row.requested_at
        row.attempts -= 0 if failed else 1
    session.flush()


def is_wanted(session: orm.Session, recording_id: str, kind: Kind) -> bool:
    row = session.get(models.RecordingDerivative, (recording_id, kind))
    return row is not None and row.status == DerivativeStatus.RUNNING


def remove(session: orm.Session, recording_id: str, kind: Kind) -> Derivative | None:
    """It is not wanted any more. Its file is the caller's to remove, afterwards."""
    row = session.get(models.RecordingDerivative, (recording_id, kind), with_for_update=True)
    if row is None:
        return None
    removed = _to_derivative(row)
    session.delete(row)
    session.flush()
    return removed


def touch(session: orm.Session, recording_id: str, kind: Kind, *, at: datetime) -> None:
    row = models.RecordingDerivative
    session.execute(sa.update(row).where(row.recording_id == recording_id, row.kind == kind).values(used_at=at))


def evictable(session: orm.Session, room_bytes: int) -> list[Derivative]:
    """Which copies have to go so that the others take up at most `room_bytes`: those unused for longest."""
    row = models.RecordingDerivative
    query = (sa.select(row).where(row.status == DerivativeStatus.READY, ~row.kept, row.kind != Kind.ANALYSIS)).order_by(
        row.used_at.desc(), row.recording_id
    )
    left, out = room_bytes, []
    for found in session.scalars(query):
        left -= found.size_bytes or 0
        if left < 0:
            out.append(_to_derivative(found))
    return out


# --- the bucket -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ToOffload:
    """A recording whose files are not all in the bucket."""

    recording_id: str
    status: RecordingStatus

    @property
    def complete(self) -> bool:
        return self.status in (RecordingStatus.READY, RecordingStatus.FAILED)


def to_offload(session: orm.Session) -> list[ToOffload]:
    """All of them, the earliest first."""
    recording, offload = models.Recording, models.RecordingOffload
    here = sa.select(recording.id, recording.status).outerjoin(offload, offload.recording_id == recording.id)
    here = here.where(offload.recording_id.is_(None)).order_by(recording.started_at, recording.id)
    return [ToOffload(recording_id, status) for recording_id, status in session.execute(here)]


def note_offloaded(session: orm.Session, recording_id: str, size_bytes: int, *, at: datetime) -> bool:
    """All of its files are in the bucket. False: it is gone."""
    if session.get(models.Recording, recording_id) is None:
        return False
    session.merge(models.RecordingOffload(recording_id=recording_id, size_bytes=size_bytes, finished_at=at))
    session.flush()
    return True


def is_offloaded(session: orm.Session, recording_id: str) -> bool:
    return session.get(models.RecordingOffload, recording_id) is not None


def to_clear(session: orm.Session, *, limit: int) -> list[str]:
    """Whose audio is in the bucket and still here, and from which nothing is being made."""
    offload, derivative = models.RecordingOffload, models.RecordingDerivative
    busy = sa.exists().where(derivative.recording_id == offload.recording_id, derivative.status.in_(PENDING))
    query = sa.select(offload.recording_id).where(offload.cleared_at.is_(None), ~busy)
    return list(session.scalars(query.order_by(offload.finished_at).limit(limit)))


def note_cleared(session: orm.Session, recording_id: str, *, at: datetime) -> None:
    row = models.RecordingOffload
    session.execute(sa.update(row).where(row.recording_id == recording_id).values(cleared_at=at))


def known_ids(session: orm.Session, recording_ids: Collection[str]) -> set[str]:
    """Those of them that there are, removed ones whose files have yet to go included."""
    query: Any = sa.union(
        sa.select(models.Recording.id).where(models.Recording.id.in_(recording_ids)),
        sa.select(models.RemovedRecording.recording_id).where(models.RemovedRecording.recording_id.in_(recording_ids)),
    )
    return set(session.scalars(query))


# --- retention --------------------------------------------------------------------------------------------------------


def expired_ids(session: orm.Session, before: datetime, *, limit: int) -> list[str]:
    """Complete recordings that ended before that."""
    row = models.Recording
    complete = row.status.in_((RecordingStatus.READY, RecordingStatus.FAILED))
    query = sa.select(row.id).where(complete, row.ended_at < before).order_by(row.ended_at).limit(limit)
    return list(session.scalars(query))


def _to_derivative(row: models.RecordingDerivative) -> Derivative:
    return Derivative(
        recording_id=row.recording_id,
        kind=Kind(row.kind),
        status=DerivativeStatus(row.status),
        kept=row.kept,
        in_bucket=row.in_bucket,
        attempts=row.attempts,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        duration_s=row.duration_s,
        detail=dict(row.detail),
        error=row.error,
        requested_at=row.requested_at,
        finished_at=row.finished_at,
        used_at=row.used_at,
    )
