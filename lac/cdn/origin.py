"""The part of the bucket that is the CDN's origin: opened, and cleared of what nobody keeps up any more.

Each show's objects are below `hls/<show>/`. Whoever keeps them up says when they may go (`remove`). What a process left
that was killed is found by looking: at the start, and now and then.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Protocol

import structlog
import trio

from lac.broadcasts.model import Broadcast, BroadcastStatus, Visibility
from lac.cdn.pusher import PREFIX, PushCounters, prefix_of
from lac.cdn.shelf import from_the_top
from lac.clock import Clock, utc_now
from lac.config import Settings
from lac.errors import ConfigError, LacError
from lac.storage.errors import StoreAwayError, StoreError
from lac.storage.objects import ObjectStore
from lac.storage.s3 import open_s3

log = structlog.get_logger(__name__)

#: Apart from those that recordings go up by: an hour of audio must not wait for a segment, nor the other way round.
THREADS = 8
#: Below it is tried whether we may write; no show has this id.
CHECK_PREFIX = f"{PREFIX}lac-check/"
#: How often we look for what others left.
LOOK_INTERVAL_S = 3600.0
RETRY_S = 30.0
#: A request that we have given up on may still be carried out: mostly it is soon, and after the last of these times it
#: has been or never will be. So long after something was there we look again.
SETTLE_S = (5.0, 20.0, 90.0)
#: What belongs to a show that we do not know may be another server's: it goes when nobody has written for so long.
STRANGERS_AGE = timedelta(days=1)


class Keeper(Protocol):
    """Who keeps shows up: `HlsDesk`."""

    def has(self, broadcast_id: str) -> bool:
        """This one is, or will be, kept up by us: it is not for anybody else to clear away."""


Find = Callable[[Collection[str]], Awaitable[Mapping[str, Broadcast]]]


@asynccontextmanager
async def open_hls_origin(settings: Settings) -> AsyncGenerator[HlsOrigin | None, None]:
    """None: nothing is pushed. A bucket that refuses us raises `ConfigError`; one that is away does not keep the server
    from starting."""
    if settings.s3 is None or not settings.hls_push:
        yield None
        return
    async with open_s3(settings.s3, threads=THREADS) as store:
        try:
            await store.check(CHECK_PREFIX)
        except StoreAwayError as error:
            log.warning("the bucket is away: HLS comes from here until it is back", reason=str(error))
        except StoreError as error:
            raise ConfigError(f"LAC_HLS_PUSH: {error}") from None
        yield HlsOrigin(store, keep=timedelta(seconds=settings.hls_keep_s))


class HlsOrigin:
    def __init__(self, store: ObjectStore, *, keep: timedelta, clock: Clock = utc_now) -> None:
        self.store = store
        self.counters = PushCounters()
        self._keep = keep
        self._clock = clock
        #: Shows whose objects go, and when to look (again) whether there are any.
        self._removing: dict[str, float] = {}
        #: Of these, how often we have looked since there was something.
        self._looks: dict[str, int] = {}
        #: Of these, keys that may be there: not every store lists what it has just been given.
        self._named: dict[str, frozenset[str]] = {}
        self._wake = trio.Event()
        self._trouble = False

    def remove(self, broadcast_id: str, names: Collection[str] = ()) -> None:
        """Nobody keeps this show up any more: everything of it goes, as soon as the store lets us. `names` are those
        that may be there, whatever it lists."""
        self._named[broadcast_id] = frozenset(prefix_of(broadcast_id) + name for name in names)
        self._removing[broadcast_id] = trio.current_time()
        self._wake.set()

    @property
    def removing(self) -> Collection[str]:
        return self._removing.keys()

    async def run(self, keeper: Keeper, find: Find) -> None:
        """Clear away, until cancelled. `find`: broadcasts by their ids, those that there are."""
        look_at = trio.current_time()
        while True:
            self._wake = trio.Event()
            try:
                if trio.current_time() >= look_at:
                    await self._look(keeper, find)
                    look_at = trio.current_time() + LOOK_INTERVAL_S
                await self._clear(keeper)
            except (StoreError, LacError) as error:
                if not self._trouble:
                    log.warning("HLS that nobody keeps up waits in the bucket", reason=str(error))
                self._trouble = True
                await trio.sleep(RETRY_S)
                continue
            self._trouble = False
            with trio.move_on_at(min([look_at, *self._removing.values()])):
                await self._wake.wait()

    async def _look(self, keeper: Keeper, find: Find) -> None:
        left = [name for name in await self.store.folders(PREFIX) if not keeper.has(name)]
        known = await find(left) if left else {}
        for broadcast_id in left:
            broadcast = known.get(broadcast_id)
            if broadcast is None:
                over = await self._is_forsaken(broadcast_id)
            else:
                over = self._is_over(broadcast)
            if over and not keeper.has(broadcast_id):
                log.info("HLS that an earlier process left in the bucket goes", broadcast_id=broadcast_id)
                self.remove(broadcast_id)

    def _is_over(self, broadcast: Broadcast) -> bool:
        """One that is live and not ours is another process's."""
        if broadcast.status is not BroadcastStatus.ENDED:
            return False
        ended_at = broadcast.ended_at or broadcast.updated_at
        return broadcast.visibility is Visibility.PRIVATE or self._clock() >= ended_at + self._keep

    async def _is_forsaken(self, broadcast_id: str) -> bool:
        """Whoever keeps up a live show writes every few seconds."""
        written = [item.modified_at for item in await self.store.list(prefix_of(broadcast_id))]
        latest: datetime | None = max((at for at in written if at is not None), default=None)
        return latest is not None and latest < self._clock() - self._keep - STRANGERS_AGE

    async def _clear(self, keeper: Keeper) -> None:
        for broadcast_id, due_at in list(self._removing.items()):
            if keeper.has(broadcast_id):
                self._forget(broadcast_id)
                continue
            if trio.current_time() < due_at:
                continue
            found = {item.key for item in await self.store.list(prefix_of(broadcast_id))}
            found |= self._named.get(broadcast_id, frozenset())
            for keys in from_the_top(found):
                await self.store.delete(keys)
            self._named.pop(broadcast_id, None)
            looks = self._looks.get(broadcast_id, 0)
            if not found and looks in (0, len(SETTLE_S)):
                self._forget(broadcast_id)
                continue
            wait_s = SETTLE_S[min(looks, len(SETTLE_S) - 1)]
            self._looks[broadcast_id] = min(looks + 1, len(SETTLE_S))
            self._removing[broadcast_id] = trio.current_time() + wait_s

    def _forget(self, broadcast_id: str) -> None:
        del self._removing[broadcast_id]
        self._named.pop(broadcast_id, None)
        self._looks.pop(broadcast_id, None)
