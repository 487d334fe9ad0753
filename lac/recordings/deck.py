"""All files of one recording while it is made. Blocking: for a worker thread.

Each call holds a lock. A call that its caller gave up, because the disk hangs, is thus over before the next one begins,
and nobody else touches the files as long as the directory is locked.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import structlog

from lac.recordings.layout import PROGRAM, SPEAKERS, speaker_file
from lac.recordings.lock import DirectoryLock
from lac.recordings.manifest import Chapter, Manifest, write_manifest
from lac.recordings.model import EndReason, Failure, Recording, RecordingStatus
from lac.recordings.tape import Batch, Origin, Tape, failure_of

log = structlog.get_logger(__name__)

#: People who have a track of their own in one recording. The stage holds a dozen at a time.
MAX_SPEAKERS = 64
#: How often the manifest is replaced, and how much of the time that may take at most.
MANIFEST_INTERVAL_S = 1.0
MANIFEST_SHARE = 0.005
#: What a loss of power may cost. (The end of the process alone costs less: what was written is the kernel's.)
SYNC_INTERVAL_S = 5.0
#: How often the directory is tried to be made when it could not be at the beginning.
PREPARE_RETRY_S = 1.0


@dataclass(slots=True)
class Written:
    """What a deck has done so far, for whoever counts."""

    bytes: int = 0
    dropped: int = 0
    unwritten: int = 0
    interruptions: int = 0
    #: Whether the program is being written.
    failure: Failure | None = None
    lost_s: float = 0.0


@dataclass(slots=True)
class Deck:
    """`serial` gives each track the number of its Ogg stream. `has_room` is asked before anything is written."""

    recording: Recording
    directory: Path
    origin: Origin
    serial: Callable[[], int]
    has_room: Callable[[], bool] = lambda: True
    chapters: list[Chapter] = field(default_factory=list)
    program: Tape = field(init=False)
    _speakers: dict[str, Tape] = field(default_factory=dict)
    _untracked: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _directory_lock: DirectoryLock | None = None
    _prepare_at: float = -math.inf
    _manifest_at: float = 0.0
    #: Tracks that the manifest on disk names.
    _listed: int = 0
    _sync_at: float = 0.0
    _closed: Manifest | None = None

    def __post_init__(self) -> None:
        self.program = Tape(
            self.directory, PROGRAM, self.origin, self.serial(), title=self.recording.title, has_room=self.has_room
        )

    # from the event loop

    def speaker(self, person_id: str, display_name: str | None) -> Tape | None:
        """The person's tape. None when there is none left."""
        tape = self._speakers.get(person_id)
        if tape is None and len(self._speakers) < MAX_SPEAKERS:
            tape = self._speakers[person_id] = Tape(
                self.directory,
                speaker_file(len(self._speakers) + 1, person_id),
                self.origin,
                self.serial(),
                title=self.recording.title,
                person_id=person_id,
                display_name=display_name,
                has_room=self.has_room,
            )
        if tape is None:
            self._untracked.add(person_id)
        return tape

    def written(self) -> Written:
        tapes = self._tapes()
        return Written(
            bytes=sum(tape.bytes_written for tape in tapes),
            dropped=sum(tape.dropped for tape in tapes),
            unwritten=sum(tape.unwritten for tape in tapes),
            interruptions=sum(tape.interruptions for tape in tapes),
            failure=self.program.failure,
            lost_s=self.program.lost_s,
        )

    # in a worker thread

    def write(self, batches: Sequence[Batch], *, now: float) -> None:
        """Raises nothing: what cannot be written is each tape's own trouble."""
        with self._lock:
            if self._closed is None and self._prepare(batches, now=now):
                self._write(batches, now)

    def close(self, batches: Sequence[Batch], *, now: float, ended_at: datetime, reason: EndReason) -> Manifest:
        """Write the rest, end every track at `now`, say so in the manifest, and let go of the directory. Idempotent:
        the first one counts. A manifest that cannot be written any more is only logged: what it says can be found
        again."""
        with self._lock:
            if self._closed is None:
                self._prepare_at = now
                try:
                    prepared = self._prepare(batches, now=now)
                    for tape in self._tapes():
                        if prepared:
                            tape.end([batch for batch in batches if batch.tape is tape], now=now)
                    manifest = self._manifest(now, ended_at=ended_at, reason=reason)
                    if prepared:
                        self._try_to_write(manifest, sync=True)
                    self._closed = manifest
                finally:
                    self._release()
            return self._closed

    def _tapes(self) -> list[Tape]:
        return [self.program, *tuple(self._speakers.values())]

    def _prepare(self, batches: Sequence[Batch], *, now: float) -> bool:
        """Make the directory, once. False while the disk does not let us."""
        if self._directory_lock is not None:
            return True
        failure = self.program.failure or Failure.DISK_ERROR
        if now >= self._prepare_at:
            self._prepare_at = now + PREPARE_RETRY_S
            try:
                self._make_directory(now)
            except OSError as error:
                failure = failure_of(error)
                if self.program.failure is not failure:
                    log.warning("a recording cannot begin", recording_id=self.recording.id, why=error.strerror)
            else:
                return True
        for tape in self._tapes():
            tape.refuse([batch for batch in batches if batch.tape is tape], failure)
        return False

    def _make_directory(self, now: float) -> None:
        (self.directory / SPEAKERS).mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = DirectoryLock(self.directory)
        try:
            write_manifest(self.directory, self._manifest(now))
            lock.sync()
        except BaseException:
            lock.release()
            raise
        self._directory_lock = lock
        self._listed = len(self._tapes())
        self._manifest_at = now + MANIFEST_INTERVAL_S
        self._sync_at = now

    def _write(self, batches: Sequence[Batch], now: float) -> None:
        tapes = self._tapes()
        if len(tapes) > self._listed:
            # Whose track a file is, the manifest alone says.
            self._listed = len(tapes)
            self._manifest_at = now
        for tape in tapes:
            tape.write([batch for batch in batches if batch.tape is tape], now=now)
        sync = now - self._sync_at >= SYNC_INTERVAL_S
        if sync:
            self._sync_at = now
            for tape in self._tapes():
                tape.sync(now=now)
        if now >= self._manifest_at:
            # One with thousands of gaps takes a while, and most of it is known by then.
            began_at = time.monotonic()
            self._try_to_write(self._manifest(now), sync=sync)
            self._manifest_at = now + max(MANIFEST_INTERVAL_S, (time.monotonic() - began_at) / MANIFEST_SHARE)

    def _try_to_write(self, manifest: Manifest, *, sync: bool) -> None:
        try:
            write_manifest(self.directory, manifest, sync=sync)
            if sync and self._directory_lock is not None:
                self._directory_lock.sync()
        except OSError as error:
            log.warning("a manifest cannot be written", recording_id=self.recording.id, why=error.strerror)

    def _manifest(self, now: float, *, ended_at: datetime | None = None, reason: EndReason | None = None) -> Manifest:
        recording = self.recording
        return Manifest(
            id=recording.id,
            broadcast_id=recording.broadcast_id,
            title=recording.title,
            part=recording.part,
            status=RecordingStatus.RECORDING if ended_at is None else RecordingStatus.PROCESSING,
            started_at=recording.started_at,
            media_start_s=recording.media_start_s,
            duration_s=round(now - self.origin.at, 6),
            ended_at=ended_at,
            end_reason=reason,
            tracks=[tape.info() for tape in self._tapes()],
            chapters=sorted(self.chapters, key=lambda chapter: chapter.start_s),
            untracked_speakers=len(self._untracked),
        )

    def _release(self) -> None:
        lock, self._directory_lock = self._directory_lock, None
        if lock is not None:
            lock.release()


def remove_directory(directory: Path) -> None:
    """With everything in it, which is a directory of ours: two levels of files. A name that is gone is no error.
    Raises `OSError`."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for entry in list(directory.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                remove_directory(entry)
            else:
                entry.unlink(missing_ok=True)
        directory.rmdir()
