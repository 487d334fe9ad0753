"""What becomes of recordings once they are made: the bucket, copies, the podcast, their end. One owner for all of
it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog
import trio

from lac.config import Settings
from lac.db.engine import Database
from lac.errors import ConfigError
from lac.recordings import derivative_store
from lac.recordings.archive import Archive
from lac.recordings.derivatives import Derivatives, open_derivatives
from lac.recordings.offload import Offloader, Place, Whereabouts, open_offloader
from lac.recordings.places import Places
from lac.recordings.podcasts import PodcastService
from lac.recordings.retention import run_retention
from lac.storage.disk import DiskThreads
from lac.storage.errors import StoreAwayError, StoreError
from lac.storage.objects import ObjectStore
from lac.storage.s3 import open_s3

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Afterwards:
    places: Places
    derivatives: Derivatives
    podcasts: PodcastService
    #: None: there is no bucket.
    offloader: Offloader | None
    db: Database

    async def whereabouts(self, recording_id: str) -> Whereabouts:
        """Of a recording that there is."""
        return Whereabouts(Place.DISK) if self.offloader is None else await self.offloader.whereabouts(recording_id)

    async def is_in_bucket(self, recording_id: str) -> bool:
        """Whether all of its files are there."""
        if self.places.bucket is None:
            return False
        return await self.db.read(partial(derivative_store.is_offloaded, recording_id=recording_id))


@asynccontextmanager
async def open_places(settings: Settings) -> AsyncGenerator[Places, None]:
    """Where recordings are. A bucket that is configured is tried: one that refuses us raises `ConfigError`, one that is
    away does not keep the server from starting."""
    disk = DiskThreads()
    if settings.s3 is None:
        yield Places(settings.data_dir, disk)
        return
    async with open_s3(settings.s3) as bucket:
        try:
            await bucket.check()
        except StoreAwayError as error:
            log.warning("the bucket is away: recordings wait on the disk", reason=str(error))
        except StoreError as error:
            raise ConfigError(f"S3_BUCKET_NAME: {error}") from None
        yield Places(settings.data_dir, disk, bucket)


@asynccontextmanager
async def open_afterwards(
    db: Database, settings: Settings, places: Places, archive: Archive
) -> AsyncGenerator[Afterwards, None]:
    """For the recordings of `archive`, which was opened with `places.remove_from_bucket`."""
    async with AsyncExitStack() as stack:
        offloader = await _open_offloader(stack, db, settings, places, places.bucket)
        derivatives = await stack.enter_async_context(
            open_derivatives(db, places, settings.recordings, may_upload=None if offloader is None else offloader.swept)
        )
        podcasts = PodcastService(db, settings, places)
        async with trio.open_nursery() as nursery:
            if settings.recordings.retention is not None:
                nursery.start_soon(_retain, db, settings, archive.wake)
            _connect(archive, places, derivatives, offloader)
            try:
                yield Afterwards(places, derivatives, podcasts, offloader, db)
            finally:
                nursery.cancel_scope.cancel("the server stops")


def _connect(archive: Archive, places: Places, derivatives: Derivatives, offloader: Offloader | None) -> None:
    def changed() -> None:
        derivatives.wake()
        if offloader is not None:
            offloader.wake()

    archive.on_change = changed
    archive.read_elsewhere = places.manifest
    if offloader is not None:
        archive.has_room = offloader.may_record


async def _open_offloader(
    stack: AsyncExitStack, db: Database, settings: Settings, places: Places, bucket: ObjectStore | None
) -> Offloader | None:
    if bucket is None:
        return None
    return await stack.enter_async_context(
        open_offloader(db, places, bucket, spool_bytes=settings.recordings.spool_bytes)
    )


async def _retain(db: Database, settings: Settings, removed: Callable[[], None]) -> None:
    if settings.recordings.retention is not None:
        await run_retention(db, settings.recordings.retention, removed=removed)
