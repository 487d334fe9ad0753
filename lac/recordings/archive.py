"""The recordings of this process: which are being made, finishing those that have ended, and files that have to go.

One task finishes them, one after the other: closes what a killed process left open, verifies, publishes. Its queue is
the table, so that nothing is forgotten when the process goes away; what it could not finish is for the next start.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog
import trio
from sqlalchemy import orm

from lac.audit import add_audit
from lac.broadcasts.model import Broadcast
from lac.clock import utc_now
from lac.config import Settings
from lac.db import models
from lac.db.engine import Database
from lac.ids import new_id
from lac.recordings import store
from lac.recordings.deck import Written, remove_directory
from lac.recordings.finalize import Examined, Mended, VerifierError, decide, examine_files, lost_s, mend, row_values
from lac.recordings.layout import CONTENT_TYPE, recording_dir, storage_key
from lac.recordings.lock import DirectoryLock
from lac.recordings.manifest import Manifest, read_manifest, write_manifest
from lac.recordings.model import INTERRUPTIONS, EndReason, Failure, Recording, RecordingStatus
from lac.recordings.take import Blocking, Take
from lac.rooms.acts import RoomAct
from lac.tasks import boundary, start_clean

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: Calls that block on the recordings' disk at a time. When it hangs, all of them do, and nothing but recordings waits.
THREADS = 8
READERS = 16
#: How often is looked for what is left to do, besides when somebody says so.
POLL_S = 30.0
#: A verifier that does not come to its end is tried so often.
VERIFY_ATTEMPTS = 3

Examine = Callable[[Path, Mended], Awaitable[Mapping[str, Examined]]]
RemoveElsewhere = Callable[[str], Awaitable[None]]


@dataclass(slots=True)
class ArchiveTotals:
    """Since the process began, for operators."""

    active: int = 0
    #: Active ones that cannot be written just now.
    interrupted: int = 0
    started: int = 0
    ready: int = 0
    failed: int = 0
    bytes_written: int = 0
    dropped: int = 0
    unwritten: int = 0
    interruptions: int = 0

    def add(self, written: Written) -> None:
        self.bytes_written += written.bytes
        self.dropped += written.dropped
        self.unwritten += written.unwritten
        self.interruptions += written.interruptions


@asynccontextmanager
async def open_archive(
    db: Database,
    settings: Settings,
    *,
    remove_elsewhere: RemoveElsewhere | None = None,
    blocking: Blocking | None = None,
    examine: Examine = examine_files,
) -> AsyncGenerator[Archive, None]:
    """Open before the shows that are recorded, so that they are closed first. `remove_elsewhere` removes what a
    recording has in other places than on our disk, or raises. Tests run what blocks, and the verifier, in another way.
    """
    async with trio.open_nursery() as nursery:
        archive = Archive(nursery, db, settings.data_dir, blocking or _InThreads(), examine, remove_elsewhere)
        nursery.start_soon(archive.run)
        try:
            yield archive
        finally:
            nursery.cancel_scope.cancel("archive closed")


class _InThreads:
    """The real thing."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(THREADS)

    async def __call__(self, job: Callable[[], T], /) -> T:
        return await trio.to_thread.run_sync(job, limiter=self._limiter, abandon_on_cancel=True)


class Archive:
    """Made by `open_archive`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        db: Database,
        data_dir: Path,
        blocking: Blocking,
        examine: Examine,
        remove_elsewhere: RemoveElsewhere | None = None,
    ) -> None:
        self.blocking = blocking
        #: Whether there is room for more; where there is not, recordings are interrupted as by a full disk.
        self.has_room: Callable[[], bool] = lambda: True
        #: The manifest of a recording that has left this disk, or came from another machine.
        self.read_elsewhere: Callable[[str], Awaitable[Manifest | None]] = _read_nowhere
        #: Called when a recording has begun, or is finished.
        self.on_change: Callable[[], None] = lambda: None
        self._nursery = nursery
        self._remove_elsewhere = remove_elsewhere
        #: Threads that read for downloads: whoever writes must not wait for them.
        self.readers = trio.CapacityLimiter(READERS)
        self._db = db
        self._data_dir = data_dir
        self._examine = examine
        self._active: dict[str, Take | None] = {}
        self._past = ArchiveTotals()
        self._news = trio.Event()
        self._attempts: dict[str, int] = {}

    def directory(self, recording_id: str) -> Path:
        return recording_dir(self._data_dir, recording_id)

    async def read_manifest(self, recording_id: str) -> Manifest | None:
        """None where there is none. Raises `UnavailableError` when it may be elsewhere, and cannot be read there."""
        manifest = await self.blocking(partial(read_manifest, self.directory(recording_id)))
        return await self.read_elsewhere(recording_id) if manifest is None else manifest

    def totals(self) -> ArchiveTotals:
        totals = ArchiveTotals(
            active=len(self._active), started=self._past.started, ready=self._past.ready, failed=self._past.failed
        )
        totals.add(
            Written(self._past.bytes_written, self._past.dropped, self._past.unwritten, self._past.interruptions)
        )
        for take in self._active.values():
            if take is not None:
                totals.add(take.written())
                totals.interrupted += take.written().failure is not None
        return totals

    def wake(self) -> None:
        """There is something to finish, or files have to go."""
        self._news.set()

    # for the recorder of a show

    async def goes_on(self, broadcast: Broadcast) -> bool:
        """Whether a show that is taken up again after a restart is to be recorded: if it was when the process ended."""
        latest = await self._db.read(lambda session: store.latest(session, broadcast.id))
        if latest is None:
            return broadcast.recording_enabled
        return latest.status is RecordingStatus.RECORDING or latest.end_reason in INTERRUPTIONS

    async def begin(self, broadcast: Broadcast, *, media_start_s: float, actor_id: str | None) -> Recording:
        """Enter a recording that begins now. From then on it is active, until `ended`. Raises `UnavailableError`."""
        at = utc_now()
        recording_id = new_id()

        def add(session: orm.Session) -> Recording:
            part = store.next_part(session, broadcast.id)
            recording = Recording(
                id=recording_id,
                broadcast_id=broadcast.id,
                status=RecordingStatus.RECORDING,
                title=broadcast.title,
                description="",
                storage_key=storage_key(recording_id),
                content_type=CONTENT_TYPE,
                size_bytes=None,
                duration_s=None,
                sha256=None,
                started_at=at,
                ended_at=None,
                created_at=at,
                media_start_s=media_start_s,
                part=part,
                started_by=actor_id,
                end_reason=None,
                failure=None,
                lost_s=0.0,
                revision=1,
            )
            store.add(session, recording)
            add_audit(
                session,
                RoomAct.RECORDING_STARTED,
                at=at,
                actor_id=actor_id,
                broadcast_id=broadcast.id,
                target_id=recording_id,
                detail={"part": part},
            )
            return recording

        self._active[recording_id] = None
        try:
            recording = await self._db.run(add)
        except BaseException:
            del self._active[recording_id]
            raise
        self._past.started += 1
        self.on_change()
        return recording

    async def discard(self, recording: Recording) -> None:
        """It has not begun after all, and nothing of it was written. Raises `UnavailableError`."""
        await self._db.run(lambda session: store.remove(session, models.Recording.id == recording.id, at=utc_now()))

    def recorded_by(self, take: Take) -> None:
        """The recording's take exists."""
        self._active[take.recording.id] = take

    def let_go(self, recording_id: str) -> None:
        """Nobody of this process writes it any more. Idempotent."""
        take = self._active.pop(recording_id, None)
        if take is not None:
            self._past.add(take.written())
        self.wake()

    def close_later(self, take: Take, reason: EndReason) -> None:
        """A disk that hangs did not let the take be closed in time: wait for it, however long that is. If the process
        ends before, the next start finds what there is."""
        start_clean(self._nursery, self._close_at_last, take, reason)

    async def _close_at_last(self, take: Take, reason: EndReason) -> None:
        try:
            with boundary("close a recording", recording_id=take.recording.id):
                await take.close(reason)
        finally:
            self.let_go(take.recording.id)

    async def ended(self, recording: Recording, manifest: Manifest, *, actor_id: str | None) -> Recording | None:
        """Write down that it has ended. What fails is found out by `run`. Raises `UnavailableError`."""
        program = manifest.program
        values = {
            "ended_at": manifest.ended_at,
            "end_reason": manifest.end_reason,
            "duration_s": manifest.duration_s,
            "failure": None if program is None else program.failure,
            "lost_s": lost_s(manifest),
        }

        def end(session: orm.Session) -> Recording | None:
            found = store.find(session, recording.id, for_update=True)
            if found is None or found.status is not RecordingStatus.RECORDING:
                return found
            if actor_id is not None:
                add_audit(
                    session,
                    RoomAct.RECORDING_STOPPED,
                    at=utc_now(),
                    actor_id=actor_id,
                    broadcast_id=recording.broadcast_id,
                    target_id=recording.id,
                )
            return store.move(session, recording.id, RecordingStatus.PROCESSING, values)

        return await self._db.run(end)

    # the task

    async def run(self) -> None:
        """Finish what has ended and remove what has to go, until cancelled."""
        while True:
            self._news = trio.Event()
            with boundary("look after recordings"):
                await self._finish_all()
                await self._remove_files()
            with trio.move_on_after(POLL_S):
                await self._news.wait()

    async def _finish_all(self) -> None:
        for recording in await self._db.read(store.unfinished):
            if recording.id not in self._active:
                with boundary("finish a recording", recording_id=recording.id):
                    await self._finish(recording)

    async def _finish(self, recording: Recording) -> None:
        directory = self.directory(recording.id)
        try:
            mended = await self.blocking(partial(_mend_locked, directory, recording))
        except BlockingIOError:  # somebody still writes
            return
        except FileNotFoundError:
            log.warning("nothing is left of a recording", recording_id=recording.id)
            await self._publish(recording, None)
            return
        if recording.status is RecordingStatus.RECORDING:
            log.warning("a recording was left open by the last run", recording_id=recording.id)
        try:
            examined = await self._examine(directory, mended)
        except VerifierError as error:
            self._attempts[recording.id] = attempts = self._attempts.get(recording.id, 0) + 1
            log.warning("a recording could not be verified", recording_id=recording.id, why=str(error))
            if attempts < VERIFY_ATTEMPTS:
                return
            examined = {}
        self._attempts.pop(recording.id, None)
        manifest = decide(mended, examined)
        if manifest.ended_at is None:
            ended_at = manifest.started_at + timedelta(seconds=manifest.duration_s)
            manifest = msgspec.structs.replace(manifest, ended_at=ended_at)
        await self.blocking(partial(write_manifest, directory, manifest))
        await self._publish(recording, manifest)

    async def _publish(self, recording: Recording, manifest: Manifest | None) -> None:
        """`manifest` None: there are no files."""
        values: dict[str, object]
        if manifest is None:
            status = RecordingStatus.FAILED
            values = {"failure": recording.failure or Failure.NOTHING_RECORDED, "duration_s": 0.0, "storage_key": None}
            values["ended_at"] = recording.ended_at or recording.started_at
            values["end_reason"] = recording.end_reason or EndReason.LOST
        else:
            status, values = manifest.status, row_values(manifest)

        def publish(session: orm.Session) -> bool:
            found = store.find(session, recording.id, for_update=True)
            if found is None:
                return False  # removed meanwhile: its files go
            if found.status is RecordingStatus.RECORDING:
                store.move(session, recording.id, RecordingStatus.PROCESSING)
            store.move(session, recording.id, status, values)
            return True

        if await self._db.run(publish):
            self.on_change()
            self._past.ready += status is RecordingStatus.READY
            self._past.failed += status is RecordingStatus.FAILED
            log.info("recording finished", recording_id=recording.id, status=status, failure=values["failure"])

    async def _remove_files(self) -> None:
        for recording_id in await self._db.read(store.removed_ids):
            if recording_id in self._active:
                continue
            with boundary("remove a recording's files", recording_id=recording_id):
                try:
                    await self.blocking(partial(_remove_locked, self.directory(recording_id)))
                except BlockingIOError:  # somebody still writes
                    continue
                if self._remove_elsewhere is not None:
                    await self._remove_elsewhere(recording_id)
                await self._db.run(partial(_forget, recording_id))


async def _read_nowhere(_recording_id: str) -> None:
    await trio.lowlevel.checkpoint()


def _mend_locked(directory: Path, recording: Recording) -> Mended:
    lock = DirectoryLock(directory)
    try:
        return mend(directory, recording)
    finally:
        lock.release()


def _remove_locked(directory: Path) -> None:
    try:
        lock = DirectoryLock(directory)
    except FileNotFoundError:
        return
    try:
        remove_directory(directory)
    finally:
        lock.release()


def _forget(recording_id: str, session: orm.Session) -> None:
    store.forget_removed(session, recording_id)
