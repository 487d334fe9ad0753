"""Recordings that have been kept for long enough go. Nothing is remembered but the setting: what is due is looked
up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import structlog
import trio
from sqlalchemy import orm

from lac.audit import add_audit
from lac.clock import Clock, utc_now
from lac.db import models
from lac.db.engine import Database
from lac.recordings import derivative_store
from lac.recordings import store as recordings
from lac.rooms.acts import RoomAct
from lac.tasks import boundary

log = structlog.get_logger(__name__)

INTERVAL_S = 3600.0
RETRY_S = 60.0
#: In one transaction.
BATCH = 50


async def run_retention(
    db: Database, retention: timedelta, *, removed: Callable[[], None], clock: Clock = utc_now
) -> None:
    """Look every hour, until cancelled. `removed` is called when files have to go."""
    while True:
        again_s = RETRY_S
        with boundary("remove old recordings"):
            while (count := await remove_expired(db, retention, now=clock)) > 0:
                log.info("old recordings were removed", count=count)
                removed()
            again_s = INTERVAL_S
        await trio.sleep(again_s)


async def remove_expired(db: Database, retention: timedelta, *, now: Clock) -> int:
    """A batch of those that ended longer ago than `retention`. Returns how many went."""
    at = now()

    def remove(session: orm.Session) -> int:
        ids = derivative_store.expired_ids(session, at - retention, limit=BATCH)
        for recording_id in ids:
            recording = recordings.find(session, recording_id, for_update=True)
            if recording is not None:
                add_audit(
                    session,
                    RoomAct.RECORDING_REMOVED,
                    at=at,
                    actor_id=None,
                    broadcast_id=recording.broadcast_id,
                    target_id=recording_id,
                    detail={"title": recording.title, "reason": "retention", "days": retention.days},
                )
        return recordings.remove(session, models.Recording.id.in_(ids), at=at)

    return await db.run(remove)
