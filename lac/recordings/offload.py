"""Recordings on their way into the bucket: while they are made, and, once complete and compared, away from our disk.

Owns a task for each recording that is not there yet. The live path knows nothing of it: files grow on the disk whether
the bucket answers or not, until `LAC_RECORDING_SPOOL_MB` wait.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path

import structlog
import trio

from lac.clock import Clock, utc_now
from lac.db.engine import Database
from lac.recordings import derivative_store as store
from lac.recordings.layout import CONTENT_TYPE, RECORDINGS
from lac.recordings.places import (
    Places,
    audio_files,
    key_of,
    recording_of,
    remove_audio,
    size_of,
    small_files,
)
from lac.storage.errors import StoreError, StoreRefusedError
from lac.storage.mirror import Mirror, MirrorState, read_journal
from lac.storage.objects import ObjectStore, OpenUpload
from lac.tasks import boundary, start_clean

log = structlog.get_logger(__name__)

#: How often we look for recordings that have begun, ended or been removed.
SCAN_S = 5.0
#: How many complete ones are on their way at a time. Those that are being made all are.
COMPLETE_AT_A_TIME = 4
#: After a disk that fails, or a copy that differs.
AGAIN_S = 600.0
#: An open upload of a recording that we do not know may be that of another server with the same bucket.
STRANGERS_AGE = timedelta(hours=24)
_RETRY_S = 10.0


@dataclass(slots=True)
class Shipment:
    """One recording on its way. `complete`: its files do not change any more."""

    recording_id: str
    complete: trio.Event = field(default_factory=trio.Event)
    mirrors: dict[str, Mirror] = field(default_factory=dict)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Place(StrEnum):
    """Where a recording's files are."""

    DISK = "disk"
    #: On their way into the bucket, or following a recording that is being made.
    UPLOADING = "uploading"
    #: On the disk, because the bucket is away, or refuses us.
    WAITING = "waiting"
    REFUSED = "refused"
    BUCKET = "bucket"


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """`sent_bytes` of `size_bytes`, as far as they are known, are in the bucket. `trouble`: why they wait."""

    place: Place
    size_bytes: int = 0
    sent_bytes: int = 0
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class SpoolState:
    """What waits on our disk for the bucket, for operators. `trouble`: why, while the store is away or refuses us."""

    recordings: int = 0
    waiting_bytes: int = 0
    limit_bytes: int = 0
    trouble: str | None = None

    @property
    def is_full(self) -> bool:
        return self.waiting_bytes >= self.limit_bytes


@asynccontextmanager
async def open_offloader(
    db: Database, places: Places, bucket: ObjectStore, *, spool_bytes: int, clock: Clock = utc_now
) -> AsyncGenerator[Offloader, None]:
    async with trio.open_nursery() as nursery:
        offloader = Offloader(db, places, bucket, nursery, spool_bytes=spool_bytes, clock=clock)
        nursery.start_soon(offloader.run)
        try:
            yield offloader
        finally:
            nursery.cancel_scope.cancel("offloader closed")


class Offloader:
    """Made by `open_offloader`."""

    def __init__(
        self,
        db: Database,
        places: Places,
        bucket: ObjectStore,
        nursery: trio.Nursery,
        *,
        spool_bytes: int,
        clock: Clock = utc_now,
    ) -> None:
        self._db = db
        self._places = places
        self._bucket = bucket
        self._nursery = nursery
        self._clock = clock
        self._shipments: dict[str, Shipment] = {}
        self._not_before: dict[str, float] = {}
        #: Bytes on our disk of what is not in the bucket, as of the last look.
        self._sizes: dict[str, int | None] = {}
        self._news = trio.Event()
        #: Set once nothing is open in the bucket that an earlier process has left. Nobody sends anything before.
        self.swept = trio.Event()
        #: As of the last look.
        self.spool = SpoolState(limit_bytes=spool_bytes)
        #: Recordings that are in the bucket, since the process began.
        self.finished = 0

    def wake(self) -> None:
        """A recording has begun, ended or been removed."""
        self._news.set()

    def may_record(self) -> bool:
        """Whether there is room for more while the bucket does not take it."""
        return not self.spool.is_full

    async def whereabouts(self, recording_id: str) -> Whereabouts:
        """Of one recording that there is."""
        shipment = self._shipments.get(recording_id)
        if shipment is None:
            there = await self._db.read(partial(store.is_offloaded, recording_id=recording_id))
            return Whereabouts(Place.BUCKET if there else Place.DISK)
        mirrors = list(shipment.mirrors.values())
        states = {mirror.state for mirror in mirrors}
        place = Place.UPLOADING
        if MirrorState.REFUSED in states:
            place = Place.REFUSED
        elif MirrorState.WAITING in states:
            place = Place.WAITING
        trouble = next((mirror.trouble for mirror in mirrors if mirror.trouble is not None), None)
        size, sent = sum(mirror.size for mirror in mirrors), sum(mirror.sent for mirror in mirrors)
        return Whereabouts(place, size, sent, trouble)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._news = trio.Event()
            with boundary("look after the bucket"):
                shipping = await self._db.read(store.to_offload)
                await self._measure(shipping)
                # Before anything is sent: what is open then is nobody's who is alive.
                if not self.swept.is_set() and await self._sweep_uploads():
                    self.swept.set()
                if self.swept.is_set():
                    self._ship(shipping)
                    await self._clear()
            with trio.move_on_after(SCAN_S if self.swept.is_set() else _RETRY_S):
                await self._news.wait()

    # --- what is sent ---------------------------------------------------------------------------------------------

    def _ship(self, shipping: list[store.ToOffload]) -> None:
        wanted = {one.recording_id: one for one in shipping}
        for recording_id, shipment in self._shipments.items():
            if recording_id not in wanted:
                shipment.scope.cancel("the recording was removed")
        places = COMPLETE_AT_A_TIME - sum(shipment.complete.is_set() for shipment in self._shipments.values())
        for recording_id, one in wanted.items():
            if recording_id not in self._shipments:
                if trio.current_time() < self._not_before.get(recording_id, 0.0):
                    continue
                if one.complete:
                    if places <= 0:
                        continue
                    places -= 1
                self._shipments[recording_id] = Shipment(recording_id)
                start_clean(self._nursery, self._run, self._shipments[recording_id], name=f"offload {recording_id}")
            if one.complete:
                self._shipments[recording_id].complete.set()

    async def _run(self, shipment: Shipment) -> None:
        recording_id = shipment.recording_id
        try:
            with shipment.scope, boundary("send a recording to the bucket", recording_id=recording_id):
                self._not_before[recording_id] = trio.current_time() + AGAIN_S
                size = await self._send(shipment)
                at = self._clock()
                if await self._db.run(lambda session: store.note_offloaded(session, recording_id, size, at=at)):
                    self.finished += 1
                    log.info("a recording is in the bucket", recording_id=recording_id, bytes=size)
                self._not_before.pop(recording_id, None)
        finally:
            del self._shipments[recording_id]
            self.wake()

    async def _send(self, shipment: Shipment) -> int:
        """All files of a recording. Returns their bytes."""
        directory = self._places.directory(shipment.recording_id)
        async with trio.open_nursery() as nursery:
            while True:
                complete = shipment.complete.is_set()
                for name in await self._places.disk.run(audio_files, directory):
                    if name not in shipment.mirrors:
                        mirror = self._mirror(shipment.recording_id, directory, name, CONTENT_TYPE)
                        shipment.mirrors[name] = mirror
                        nursery.start_soon(mirror.run)
                if complete:
                    break
                with trio.move_on_after(SCAN_S):
                    await shipment.complete.wait()
            for mirror in shipment.mirrors.values():
                mirror.closed.set()
        for name in await self._places.disk.run(small_files, directory):
            mirror = self._mirror(shipment.recording_id, directory, name, "application/json")
            mirror.closed.set()
            await mirror.run()
            shipment.mirrors[name] = mirror
        return sum(mirror.size for mirror in shipment.mirrors.values())

    def _mirror(self, recording_id: str, directory: Path, name: str, content_type: str) -> Mirror:
        return Mirror(self._bucket, self._places.disk, directory / name, key_of(recording_id, name), content_type)

    # --- what is left ---------------------------------------------------------------------------------------------

    async def _sweep_uploads(self) -> bool:
        """Abort what an earlier process left open and nobody will go on with. False: the store does not answer."""
        try:
            found = await self._bucket.open_uploads(f"{RECORDINGS}/")
            owners = {upload.key: recording_of(upload.key) for upload in found}
            known = await self._db.read(partial(store.known_ids, recording_ids={one for one in owners.values() if one}))
            for upload in found:
                if await self._is_left(upload, owners[upload.key], known):
                    log.warning("aborting an upload that was left open", key=upload.key)
                    await self._bucket.abort(upload.key, upload.upload_id)
        except StoreError as error:
            self.spool = SpoolState(
                self.spool.recordings, self.spool.waiting_bytes, self.spool.limit_bytes, trouble=str(error)
            )
            log.warning("the bucket cannot be used", refused=isinstance(error, StoreRefusedError), reason=str(error))
            return False
        return True

    async def _is_left(self, upload: OpenUpload, recording_id: str | None, known: set[str]) -> bool:
        if recording_id is None or recording_id not in known:
            return upload.begun_at < self._clock() - STRANGERS_AGE
        name = upload.key.removeprefix(key_of(recording_id, ""))
        try:
            path = self._places.path(recording_id, name)
        except ValueError:
            return False
        journal = await self._places.disk.run(read_journal, path)
        return journal is None or journal.upload_id != upload.upload_id

    async def _clear(self) -> None:
        """Remove from our disk what is in the bucket and from which nothing is being made."""
        for recording_id in await self._db.read(partial(store.to_clear, limit=COMPLETE_AT_A_TIME)):
            with boundary("clear a recording", recording_id=recording_id):
                await self._places.disk.run(remove_audio, self._places.directory(recording_id))
                at = self._clock()
                await self._db.run(partial(store.note_cleared, recording_id=recording_id, at=at))

    async def _measure(self, shipping: list[store.ToOffload]) -> None:
        """What is here and not in the bucket. Those that are complete do not change: they are measured once."""
        self._sizes = {one.recording_id: self._sizes.get(one.recording_id) for one in shipping}
        unknown = [one for one in shipping if not one.complete or self._sizes[one.recording_id] is None]
        directories = [self._places.directory(one.recording_id) for one in unknown]
        sizes = await self._places.disk.run(lambda: list(map(size_of, directories)))
        self._sizes.update((one.recording_id, size) for one, size in zip(unknown, sizes, strict=True))
        here = sum(size or 0 for size in self._sizes.values())
        mirrors = [mirror for shipment in self._shipments.values() for mirror in shipment.mirrors.values()]
        sent = sum(mirror.sent for mirror in mirrors)
        troubles = [mirror.trouble for mirror in mirrors if mirror.state in (MirrorState.WAITING, MirrorState.REFUSED)]
        before = self.spool
        self.spool = SpoolState(
            len(shipping), max(0, here - sent), before.limit_bytes, next(filter(None, troubles), None)
        )
        if self.spool.is_full and not before.is_full:
            log.error(
                "too much waits for the bucket: nothing more is recorded until it takes some (LAC_RECORDING_SPOOL_MB)",
                waiting_bytes=self.spool.waiting_bytes,
            )
