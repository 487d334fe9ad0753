"""What is made from recordings, in worker processes: a queue in the database, a few jobs at a time, files where the
recording's are. Nothing is lost with the process: what was being made is made again by the next one.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import structlog
import trio
from sqlalchemy import orm

from lac.broadcasts import store as broadcasts
from lac.clock import Clock, utc_now
from lac.config_recordings import RecordingSettings
from lac.db.engine import Database
from lac.errors import ConflictError, NotFoundError, UnavailableError
from lac.recordings import derivative_store as store
from lac.recordings import store as recordings
from lac.recordings.derivative import (
    AGAIN,
    MAX_ATTEMPTS,
    Derivative,
    DerivativeStatus,
    Kind,
    content_type,
    expected_bytes,
    file_name,
)
from lac.recordings.manifest import read_manifest
from lac.recordings.model import Recording
from lac.recordings.places import PARTIAL, Places, SourceGoneError, key_of, remove_partial
from lac.recordings.worker_process import WorkerError, run_job
from lac.storage.errors import StoreError
from lac.storage.mirror import CopyDiffersError, Mirror
from lac.tasks import boundary, cleanup_scope
from lac_media.derive.encode import ExportFormat
from lac_media.derive.worker import AnalyseJob, EncodeJob, Job, Made

log = structlog.get_logger(__name__)

#: How often is looked for what is to be made, besides when somebody says so.
POLL_S = 15.0
#: How often somebody who makes something looks whether it is still wanted.
WATCH_S = 5.0
#: Copies that may wait; whoever wants one more is told to come back.
MAX_PENDING = 50
BUSY_RETRY_S = 60.0
#: So much of the disk stays free.
DISK_RESERVE_BYTES = 512 << 20
#: A copy that does not get into the bucket within this time stays on the disk.
UPLOAD_S = 900.0
RELEASE_S = 2.0
#: A player asks for part after part: it is not written down for each.
USED_AGAIN = timedelta(minutes=10)
#: Recordings that get their analysis, and the podcast's copy, at one look.
BATCH = 100

RunJob = Callable[[Job, Callable[[float], None]], Awaitable[Made]]


@dataclass(slots=True)
class Progress:
    """One that is being made just now."""

    scope: trio.CancelScope
    done_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Subject:
    """Whom and what a derivative is of."""

    recording: Recording
    host_name: str
    in_bucket: bool


class _PassingError(Exception):
    """It cannot be made just now."""


@asynccontextmanager
async def open_derivatives(
    db: Database,
    places: Places,
    settings: RecordingSettings,
    *,
    may_upload: trio.Event | None = None,
    run: RunJob = run_job,
    clock: Clock = utc_now,
) -> AsyncGenerator[Derivatives, None]:
    """`may_upload`: set when the bucket may be written to."""
    async with trio.open_nursery() as nursery:
        derivatives = Derivatives(db, places, settings, may_upload=may_upload, run=run, clock=clock)
        nursery.start_soon(derivatives.run)
        try:
            yield derivatives
        finally:
            nursery.cancel_scope.cancel("derivatives closed")


class Derivatives:
    """Made by `open_derivatives`."""

    def __init__(
        self,
        db: Database,
        places: Places,
        settings: RecordingSettings,
        *,
        may_upload: trio.Event | None = None,
        run: RunJob = run_job,
        clock: Clock = utc_now,
    ) -> None:
        self._db = db
        self._places = places
        self._settings = settings
        self._may_upload = may_upload
        self._run_job = run
        self._clock = clock
        self._news = trio.Event()
        self._running: dict[tuple[str, Kind], Progress] = {}
        #: Since the process began.
        self.made = 0
        self.failed = 0

    @property
    def running(self) -> int:
        return len(self._running)

    def wake(self) -> None:
        """A recording is complete, or something is wanted."""
        self._news.set()

    def progress(self, recording_id: str, kind: Kind) -> float:
        """Seconds of the recording that are done; 0 while nobody is at it."""
        found = self._running.get((recording_id, kind))
        return 0.0 if found is None else found.done_s

    # --- for whoever wants one ------------------------------------------------------------------------------------

    async def of(self, recording_id: str) -> list[Derivative]:
        return await self._db.read(partial(store.of_recording, recording_id=recording_id))

    async def find(self, recording_id: str, kind: Kind) -> Derivative | None:
        return await self._db.read(partial(store.find, recording_id=recording_id, kind=kind))

    async def request(self, recording: Recording, kind: Kind) -> Derivative:
        """Want a copy, of a recording that failed: of what can be played of it. Raises `ConflictError`
        (recording_not_ready), `NotFoundError` (nothing_recorded), `UnavailableError` (exports_busy)."""
        at = self._clock()

        def want(session: orm.Session) -> Derivative:
            current = recordings.find(session, recording.id, for_update=True)
            if current is None:
                raise NotFoundError("There is no such recording.")
            if current.status in recordings.UNFINISHED:
                raise ConflictError("This recording is not complete yet.", code="recording_not_ready")
            if not current.is_playable:
                raise NotFoundError("There is nothing in this recording that can be played.", code="nothing_recorded")
            found = store.find(session, recording.id, kind)
            new = found is None or found.status is DerivativeStatus.FAILED
            if new and store.pending_count(session) >= MAX_PENDING:
                raise UnavailableError(
                    "Many copies are waiting to be made. Try again in a minute.",
                    retry_after_s=BUSY_RETRY_S,
                    code="exports_busy",
                )
            return store.request(session, recording.id, kind, at=at)

        wanted = await self._db.run(want)
        self.wake()
        return wanted

    async def remove(self, recording_id: str, kind: Kind) -> None:
        """Stop making it, and remove its file. Raises `UnavailableError` when the bucket does not let us."""
        found = await self.find(recording_id, kind)
        if found is None:
            return
        # The bucket first: with the row goes the knowledge that there is something.
        if not await self._places.remove_file(recording_id, file_name(kind), in_bucket=found.in_bucket):
            raise UnavailableError("The store of recordings cannot be reached just now.", code="storage_unavailable")
        await self._db.run(partial(store.remove, recording_id=recording_id, kind=kind))
        running = self._running.get((recording_id, kind))
        if running is not None:
            running.scope.cancel("not wanted any more")

    async def used(self, derivative: Derivative) -> None:
        """Somebody has fetched it, or a part: it is kept for longer than those that nobody wants."""
        at = self._clock()
        if at - derivative.used_at >= USED_AGAIN:
            await self._db.run(partial(store.touch, recording_id=derivative.recording_id, kind=derivative.kind, at=at))

    # --- the tasks ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        with boundary("take up what was being made"):
            await self._places.disk.run(remove_partial, self._places.data_dir)
            await self._db.run(store.requeue_interrupted)
        async with trio.open_nursery() as nursery:
            for _ in range(self._settings.export_jobs):
                nursery.start_soon(self._work)

    async def _work(self) -> None:
        while True:
            self._news = trio.Event() if self._news.is_set() else self._news
            news, next_one = self._news, None
            with boundary("look for what is to be made"):
                at = self._clock()
                await self._db.run(partial(store.request_missing, at=at, podcasts=self._settings.podcasts, limit=BATCH))
                next_one = await self._db.run(partial(store.claim, at=at))
            if next_one is not None:
                await self._make(next_one)
                continue
            with trio.move_on_after(POLL_S):
                await news.wait()

    async def _make(self, wanted: Derivative) -> None:
        ids = {"recording_id": wanted.recording_id, "kind": wanted.kind}
        key = (wanted.recording_id, wanted.kind)
        finished = failed = False
        scope = trio.CancelScope()
        self._running[key] = Progress(scope)
        try:
            with boundary("make a copy of a recording", **ids), scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch, key, scope)
                    await self._make_or_fail(wanted)
                    finished = True
                    nursery.cancel_scope.cancel("it is done")
            if scope.cancelled_caught and not finished:
                finished = True
                await self._tidy_up(wanted)
            failed = not finished  # whoever is cancelled does not come here
        finally:
            del self._running[key]
            if not finished:
                with cleanup_scope(RELEASE_S, "releasing what was being made", **ids):
                    await self._db.run(
                        partial(store.release, recording_id=key[0], kind=key[1], failed=failed, at=self._clock())
                    )

    async def _tidy_up(self, wanted: Derivative) -> None:
        """After a job for something that nobody wants any more. A recording that is gone has no directory, also if the
        job has just made it anew."""
        recording_id = wanted.recording_id
        with boundary("tidy up after a job", recording_id=recording_id):
            await self._places.remove_file(recording_id, file_name(wanted.kind), in_bucket=True)
            if not await self._db.read(partial(store.known_ids, recording_ids=[recording_id])):
                directory = self._places.directory(recording_id)
                await self._places.disk.run(partial(shutil.rmtree, directory, ignore_errors=True))

    async def _watch(self, key: tuple[str, Kind], scope: trio.CancelScope) -> None:
        """A recording that is removed, or a copy, takes its job with it."""
        while True:
            await trio.sleep(WATCH_S)
            with boundary("see whether a copy is still wanted"):
                if not await self._db.read(partial(store.is_wanted, recording_id=key[0], kind=key[1])):
                    scope.cancel("not wanted any more")

    async def _make_or_fail(self, wanted: Derivative) -> None:
        error, may_help = "", True
        try:
            await self._make_one(wanted)
        except (_PassingError, StoreError, OSError) as caught:
            error = str(caught)
        except WorkerError as caught:
            error, may_help = str(caught), caught.may_help
        except SourceGoneError as caught:
            error, may_help = str(caught), False
        else:
            return
        again = AGAIN if may_help and wanted.attempts < MAX_ATTEMPTS else None
        log.warning(
            "a copy of a recording was not made",
            recording_id=wanted.recording_id,
            kind=wanted.kind,
            reason=error,
            again=again is not None,
        )
        self.failed += again is None
        at = self._clock()
        await self._db.run(
            partial(
                store.fail,
                recording_id=wanted.recording_id,
                kind=wanted.kind,
                error=error or "it could not be made",
                at=at,
                again_in=again,
            )
        )

    async def _make_one(self, wanted: Derivative) -> None:
        subject = await self._db.read(partial(_find_subject, recording_id=wanted.recording_id))
        if subject is None:
            return
        await self._make_room(wanted.kind, subject.recording.duration_s or 0.0)
        target = self._places.path(wanted.recording_id, file_name(wanted.kind))
        partial_target = target.with_name(target.name + PARTIAL)
        await self._places.disk.run(_prepare, partial_target)
        running = self._running[wanted.recording_id, wanted.kind]

        def heard(seconds: float) -> None:
            running.done_s = seconds

        try:
            async with self._places.source(subject.recording, borrower=wanted.kind) as source:
                job = await self._places.disk.run(_job, subject, wanted.kind, source, partial_target)
                made = await self._run_job(job, heard)
            await self._places.disk.run(partial_target.replace, target)
        finally:
            with cleanup_scope(RELEASE_S, "removing what was half made", recording_id=wanted.recording_id):
                await self._places.disk.run(partial(partial_target.unlink, missing_ok=True))
        in_bucket = await self._upload(wanted, target)
        at = self._clock()
        kept = await self._db.run(
            partial(
                store.finish,
                recording_id=wanted.recording_id,
                kind=wanted.kind,
                made=made,
                in_bucket=in_bucket,
                at=at,
                chapters=len(job.chapters) if isinstance(job, EncodeJob) else 0,
            )
        )
        if not kept or (in_bucket and wanted.kind is not Kind.ANALYSIS):
            await self._places.disk.run(partial(target.unlink, missing_ok=True))
        if not kept and in_bucket:
            await self._places.remove_file(wanted.recording_id, file_name(wanted.kind), in_bucket=True)
        self.made += kept

    async def _upload(self, wanted: Derivative, path: Path) -> bool:
        """Where there is a bucket, copies are there too."""
        bucket = self._places.bucket
        if bucket is None:
            return False
        key = key_of(wanted.recording_id, file_name(wanted.kind))
        mirror = Mirror(bucket, self._places.disk, path, key, content_type(wanted.kind))
        mirror.closed.set()
        with trio.move_on_after(UPLOAD_S):
            if self._may_upload is not None:
                await self._may_upload.wait()
            try:
                await mirror.run()
            except CopyDiffersError:
                return False
            return True
        return False

    async def _make_room(self, kind: Kind, duration_s: float) -> None:
        """Raises `_PassingError` when there is not enough."""
        needed = expected_bytes(kind, duration_s)
        free = (await self._places.disk.run(_disk_usage, self._places.data_dir)).free
        if free < needed + DISK_RESERVE_BYTES:
            raise _PassingError("there is not enough room on the disk")
        if kind is Kind.ANALYSIS:
            return
        room = self._settings.export_cache_bytes - needed
        for old in await self._db.read(partial(store.evictable, room_bytes=max(0, room))):
            if await self._places.remove_file(old.recording_id, file_name(old.kind), in_bucket=old.in_bucket):
                await self._db.run(partial(store.remove, recording_id=old.recording_id, kind=old.kind))


def _find_subject(session: orm.Session, recording_id: str) -> _Subject | None:
    recording = recordings.find(session, recording_id)
    broadcast = None if recording is None else broadcasts.find(session, recording.broadcast_id)
    if recording is None or broadcast is None:
        return None
    return _Subject(recording, broadcast.host_name, store.is_offloaded(session, recording_id))


def _job(subject: _Subject, kind: Kind, source: Path, target: Path) -> Job:
    """Blocks: reads the manifest."""
    if kind is Kind.ANALYSIS:
        return AnalyseJob(str(source), str(target))
    recording = subject.recording
    manifest = read_manifest(target.parents[1])
    marks = [] if manifest is None else [mark for mark in manifest.chapters if mark.kind == "marker"]
    return EncodeJob(
        str(source),
        str(target),
        ExportFormat(kind.value),
        tags={
            "title": recording.title,
            "artist": subject.host_name,
            "date": recording.started_at.date().isoformat(),
        },
        chapters=[(mark.start_s, mark.title) for mark in marks],
    )


def _prepare(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)


def _disk_usage(data_dir: Path) -> shutil._ntuple_diskusage:
    return shutil.disk_usage(data_dir)
