"""Brings one stream into the bucket and keeps it there as it is here, until it is stopped.

Its own task, which waits for nobody and for which nobody waits: a store that is away delays neither the show nor who
listens here. Bounded in memory by what goes up at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import structlog
import trio

from lac.cdn.shelf import Aim, Delete, MediaName, PutMedia, PutPlaylists, Shelf, Step
from lac.storage.errors import StoreAwayError, StoreError
from lac.storage.objects import ObjectStore
from lac_media.hls.plan import Plan
from lac_media.hls.renditions import Rendition

log = structlog.get_logger(__name__)

PREFIX = "hls/"
#: As in the file's name; a CDN hands it on.
PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
MEDIA_TYPE = "audio/mp4"
#: Under its name a file stays what it is. An hour, so that a show which has become private is soon out of caches, too.
MEDIA_CACHE = "public, max-age=3600, immutable"
INDEX_CACHE = "public, max-age=60"
#: Half a segment: what a cache gives out is older by no more.
LIVE_CACHE = "public, max-age=2"
ENDED_CACHE = "public, max-age=60"
#: Between two attempts while the store is away, and while it refuses us: somebody has to mend something.
RETRY_FIRST_S = 1.0
RETRY_MAX_S = 15.0
REFUSED_RETRY_S = 60.0
#: How soon it is noticed that the show has become private.
LOOK_S = 2.0


@dataclass(slots=True)
class PushCounters:
    """Of all streams, since the start."""

    objects: int = 0
    octets: int = 0
    failures: int = 0


class Source(Protocol):
    """What is pushed: `HlsStream`."""

    plan: Plan

    async def file(self, rendition: Rendition, name: str) -> bytes | None: ...

    async def changed(self) -> None: ...


class Pusher:
    """`aim` says what is to become of the stream; it is asked again and again."""

    def __init__(
        self,
        stream: Source,
        store: ObjectStore,
        broadcast_id: str,
        *,
        aim: Callable[[], Aim],
        counters: PushCounters,
    ) -> None:
        self.shelf = Shelf(stream.plan)
        #: For people: what the store said last, while it does not do what it should.
        self.trouble: str | None = None
        self._stream = stream
        self._store = store
        self._broadcast_id = broadcast_id
        self._prefix = prefix_of(broadcast_id)
        self._aim = aim
        self._counters = counters
        self._scope = trio.CancelScope()
        self._retry_s = RETRY_FIRST_S
        #: What we know of the store may be out of date: others had the place.
        self._blind = True

    @property
    def is_fresh(self) -> bool:
        """Players may be sent to the CDN."""
        return not self._blind and self._aim() is Aim.PUSH and self.shelf.is_fresh

    def stop(self) -> None:
        """What is up stays; whoever stops us sees to it."""
        self._scope.cancel("the stream is not pushed any more")

    async def run(self) -> None:
        """Until stopped."""
        with self._scope:
            while True:
                try:
                    moved = await self._move()
                except StoreError as error:
                    await self._wait_after(error)
                else:
                    if moved:
                        self._went_well()
                    else:
                        await self._wait()

    # one step

    async def _move(self) -> bool:
        """Do what is to be done next. False: nothing. Raises `StoreError`."""
        aim = self._aim()
        if aim is Aim.WAIT:
            self._blind = True
            return False
        if self._blind:
            found = await self._store.list(self._prefix)
            self.shelf.found([item.key.removeprefix(self._prefix) for item in found])
            self._blind = False
            return True
        step = self.shelf.next_step(aim, now=trio.current_time())
        if step is None:
            return False
        await self._take(step)
        return True

    async def _take(self, step: Step) -> None:
        self.shelf.begin(step)
        match step:
            case PutMedia(names):
                await _together([partial(self._put_media, name) for name in names])
            case PutPlaylists():
                cache = ENDED_CACHE if step.ended else LIVE_CACHE
                await _together([partial(self._put, *item, PLAYLIST_TYPE, cache) for item in step.media.items()])
                if step.index is not None:
                    await self._put("index.m3u8", step.index, PLAYLIST_TYPE, INDEX_CACHE)
                self.shelf.done(step, now=trio.current_time())
            case Delete(names):
                await self._store.delete([self._prefix + name for name in names])
                self.shelf.done(step, now=trio.current_time())

    async def _put_media(self, name: MediaName) -> None:
        try:
            data = await self._stream.file(name.rendition, name.file)
        except OSError as error:
            log.warning("an HLS segment cannot be read", broadcast_id=self._broadcast_id, error=str(error))
            data = None
        if data is None:
            self.shelf.lost(name)  # or it has left the window while the store was away
            return
        await self._put(str(name), data, MEDIA_TYPE, MEDIA_CACHE)
        self.shelf.stored(name)

    async def _put(self, name: str, data: bytes, content_type: str, cache_control: str) -> None:
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        await self._store.put(self._prefix + name, data, content_type, md5, cache_control=cache_control)
        self._counters.objects += 1
        self._counters.octets += len(data)

    # between steps

    async def _wait(self) -> None:
        """For news of any kind."""
        look_at = trio.current_time() + LOOK_S
        with trio.move_on_at(look_at if self._blind else min(look_at, self.shelf.timer_at())):
            await self._stream.changed()

    async def _wait_after(self, error: StoreError) -> None:
        away = isinstance(error, StoreAwayError)
        self._counters.failures += 1
        if self.trouble is None:
            log.warning("HLS waits for the bucket", broadcast_id=self._broadcast_id, away=away, reason=str(error))
        self.trouble = str(error)
        await trio.sleep(self._retry_s if away else REFUSED_RETRY_S)
        self._retry_s = min(2 * self._retry_s, RETRY_MAX_S)

    def _went_well(self) -> None:
        if self.trouble is not None:
            log.info("HLS reaches the bucket again", broadcast_id=self._broadcast_id)
        self.trouble, self._retry_s = None, RETRY_FIRST_S


def prefix_of(broadcast_id: str) -> str:
    return f"{PREFIX}{broadcast_id}/"


async def _together(jobs: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """All of them, at once. Raises one of their `StoreError`s when all have come to an end."""
    errors: list[StoreError] = []

    async def attempt(job: Callable[[], Awaitable[None]]) -> None:
        try:
            await job()
        except StoreError as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        for job in jobs:
            nursery.start_soon(attempt, job)
    if errors:
        raise errors[0]
