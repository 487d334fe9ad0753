"""Recordings in a database and on a disk, as the recorder leaves them, for what is made from them afterwards."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from lac.broadcasts import store as broadcast_store
from lac.broadcasts.model import Broadcast, BroadcastStatus, Visibility
from lac.recordings import store as recording_store
from lac.recordings.layout import CONTENT_TYPE, PROGRAM, storage_key
from lac.recordings.manifest import Chapter, Manifest, TrackInfo, write_manifest
from lac.recordings.model import Failure, Recording, RecordingStatus
from lac.recordings.places import Places
from lac.storage.objects import ObjectStore
from tests.fakes.database import InlineDatabase
from tests.fakes.store import InlineDisk

AT = datetime(2030, 1, 31, 20, tzinfo=UTC)


class Shelf:
    def __init__(self, data_dir: Path, bucket: ObjectStore | None = None, db: InlineDatabase | None = None) -> None:
        self.db = db or InlineDatabase()
        self.data_dir = data_dir
        self.places = Places(data_dir, InlineDisk(), bucket)
        self.now = AT + timedelta(days=1)
        if db is None:
            self.db.add_user("host", "Hanna")

    def clock(self) -> datetime:
        return self.now

    def add(
        self,
        recording_id: str = "r1",
        *,
        status: RecordingStatus = RecordingStatus.READY,
        visibility: Visibility = Visibility.PUBLIC,
        duration_s: float = 60.0,
        audio: bytes = b"OggS audio",
        ended_at: datetime | None = None,
        failure: Failure | None = None,
    ) -> Recording:
        """With a broadcast of its own, `b-<id>`."""
        ended_at = ended_at or AT + timedelta(seconds=duration_s)
        broadcast = Broadcast(
            id=f"b-{recording_id}",
            host_id="host",
            host_name="Hanna",
            title="Late Harbour",
            description="Vinyl & one candle.",
            status=BroadcastStatus.ENDED,
            visibility=visibility,
            tags=("jazz",),
            recording_enabled=True,
            scheduled_at=None,
            started_at=AT,
            ended_at=ended_at,
            created_at=AT,
            updated_at=AT,
        )
        recording = Recording(
            id=recording_id,
            broadcast_id=broadcast.id,
            status=status,
            title=f"Late Harbour, {recording_id}",
            description="",
            storage_key=storage_key(recording_id),
            content_type=CONTENT_TYPE,
            size_bytes=len(audio),
            duration_s=duration_s,
            sha256=None,
            started_at=AT,
            ended_at=ended_at,
            created_at=AT,
            media_start_s=0.0,
            part=1,
            started_by=None,
            end_reason=None,
            failure=failure,
            lost_s=0.0,
            revision=1,
        )
        self.db.now(lambda session: broadcast_store.add(session, broadcast))
        self.db.now(lambda session: recording_store.add(session, recording))
        directory = self.places.directory(recording_id)
        (directory / "speakers").mkdir(parents=True)
        (directory / PROGRAM).write_bytes(audio)
        (directory / "speakers/1-host.ogg").write_bytes(audio[::-1])
        write_manifest(
            directory,
            Manifest(
                id=recording_id,
                broadcast_id=broadcast.id,
                title=recording.title,
                part=1,
                status=status,
                started_at=AT,
                media_start_s=0.0,
                duration_s=duration_s,
                tracks=[TrackInfo(file=PROGRAM), TrackInfo(file="speakers/1-host.ogg", person_id="host")],
                chapters=[
                    Chapter(start_s=0.0, title="Hello", kind="marker"),
                    Chapter(start_s=3.0, title="Hanna", kind="speaker"),
                    Chapter(start_s=20.0, title="Side B", kind="marker"),
                ],
            ),
            sync=False,
        )
        return recording

    def set_status(self, recording_id: str, *statuses: RecordingStatus) -> None:
        for status in statuses:
            self.db.now(lambda session, status=status: recording_store.move(session, recording_id, status))

    def remove(self, recording_id: str) -> None:
        from lac.db import models

        self.db.now(lambda session: recording_store.remove(session, models.Recording.id == recording_id, at=self.now))

    def files(self, recording_id: str = "r1") -> list[str]:
        directory = self.places.directory(recording_id)
        return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())
