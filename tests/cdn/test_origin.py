"""What others have left in the bucket goes when its time has come, and nothing else does."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import trio
from trio.testing import MockClock

from lac.broadcasts.model import Broadcast, BroadcastStatus, Visibility
from lac.cdn.origin import LOOK_INTERVAL_S, SETTLE_S, STRANGERS_AGE, HlsOrigin
from lac.errors import UnavailableError
from lac.storage.errors import StoreAwayError
from lac.storage.objects import StoredObject
from tests.fakes.store import MemoryStore

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
KEEP = timedelta(hours=1)
ENDED = Broadcast(
    id="ended",
    host_id="host",
    host_name="Hanna",
    title="The show",
    description="",
    status=BroadcastStatus.ENDED,
    visibility=Visibility.PUBLIC,
    tags=(),
    recording_enabled=False,
    scheduled_at=None,
    started_at=None,
    ended_at=NOW - KEEP,
    created_at=NOW,
    updated_at=NOW,
)


class Desk:
    def __init__(self) -> None:
        self.kept: set[str] = set()
        self.known: dict[str, Broadcast] = {}
        self.database_is_away = False

    def has(self, broadcast_id: str) -> bool:
        return broadcast_id in self.kept

    async def find(self, ids: Collection[str]) -> dict[str, Broadcast]:
        await trio.lowlevel.checkpoint()
        if self.database_is_away:
            raise UnavailableError("The database is away.")
        return {name: self.known[name] for name in ids if name in self.known}


@asynccontextmanager
async def cleared(store: MemoryStore, desk: Desk) -> AsyncGenerator[HlsOrigin, None]:
    origin = HlsOrigin(store, keep=KEEP, clock=lambda: NOW + timedelta(seconds=trio.current_time()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(origin.run, desk, desk.find)
        yield origin
        nursery.cancel_scope.cancel()


def shows(store: MemoryStore) -> set[str]:
    return {key.split("/")[1] for key in store.objects if key.startswith("hls/")}


def bucket(*names: str) -> MemoryStore:
    store = MemoryStore()
    store.modified_at = NOW
    for name in names:
        for file in ("index.m3u8", "high.m3u8", "high/1-r1.m4s", "low/1-r1.m4s"):
            store.objects[f"hls/{name}/{file}"] = b"x"
    store.objects["recordings/r1/program.ogg"] = b"x"
    store.objects["hlsother/x"] = b"x"
    return store


@pytest.mark.parametrize(
    ("name", "broadcast", "goes"),
    [
        ("over", ENDED, True),
        ("ended-just-now", replace(ENDED, ended_at=NOW - KEEP + timedelta(minutes=5)), False),
        ("ended-and-private", replace(ENDED, ended_at=NOW, visibility=Visibility.PRIVATE), True),
        ("live-elsewhere", replace(ENDED, status=BroadcastStatus.LIVE, ended_at=None), False),
        ("of-another-server", None, False),
    ],
)
async def test_what_goes_at_the_start(
    name: str, broadcast: Broadcast | None, goes: bool, autojump_clock: MockClock
) -> None:
    store, desk = bucket(name, "ours"), Desk()
    desk.kept = {"ours"}
    if broadcast is not None:
        desk.known = {name: broadcast}
    async with cleared(store, desk):
        await trio.sleep(10)
        assert shows(store) == {"ours"} | (set() if goes else {name})
        assert "recordings/r1/program.ogg" in store.objects
        assert "hlsother/x" in store.objects


async def test_a_show_that_ended_goes_when_its_time_has_come(autojump_clock: MockClock) -> None:
    store, desk = bucket("ended"), Desk()
    desk.known = {"ended": replace(ENDED, ended_at=NOW)}
    async with cleared(store, desk):
        await trio.sleep(LOOK_INTERVAL_S - 10)
        assert shows(store) == {"ended"}
        await trio.sleep(LOOK_INTERVAL_S)
        assert shows(store) == set()


async def test_a_strangers_show_goes_when_nobody_has_written_for_long(autojump_clock: MockClock) -> None:
    store, desk = bucket("stranger"), Desk()
    store.modified_at = NOW - KEEP - STRANGERS_AGE + timedelta(seconds=1.5 * LOOK_INTERVAL_S)
    async with cleared(store, desk):
        await trio.sleep(1.2 * LOOK_INTERVAL_S)
        assert shows(store) == {"stranger"}
        await trio.sleep(LOOK_INTERVAL_S)
        assert shows(store) == set()


@pytest.mark.parametrize(("late_s", "gone_s"), [(1, SETTLE_S[0]), (SETTLE_S[1], SETTLE_S[1]), (60, SETTLE_S[2])])
async def test_what_comes_late_goes_too(autojump_clock: MockClock, late_s: float, gone_s: float) -> None:
    """A request that was given up on is carried out after everything has been deleted."""
    store, desk = bucket("ended"), Desk()
    async with cleared(store, desk) as origin:
        await trio.sleep(1)
        origin.remove("ended")
        await trio.sleep(late_s)
        assert shows(store) == set()
        store.objects["hls/ended/high/9-r1.m4s"] = b"late"
        await trio.sleep(gone_s + 1)
        assert shows(store) == set()
        assert origin.removing
        await trio.sleep(sum(SETTLE_S) + 1)
        assert not origin.removing


async def test_what_the_store_does_not_list_goes_too(autojump_clock: MockClock) -> None:
    class Forgetful(MemoryStore):
        async def list(self, prefix: str) -> list[StoredObject]:
            return [item for item in await super().list(prefix) if not item.key.endswith("low/1-r1.m4s")]

    store, desk = Forgetful(), Desk()
    store.objects = dict(bucket("ended").objects)
    async with cleared(store, desk) as origin:
        origin.remove("ended", ["low/1-r1.m4s", "low/2-r1.m4s"])
        await trio.sleep(5)
        assert shows(store) == set()
        await trio.sleep(sum(SETTLE_S))
        assert not origin.removing


async def test_outages_only_delay_it(autojump_clock: MockClock) -> None:
    store, desk = bucket("over", "removed", "back"), Desk()
    desk.known = {"over": ENDED}
    store.away = desk.database_is_away = True
    async with cleared(store, desk) as origin:
        await trio.sleep(50)
        origin.remove("removed")
        origin.remove("back")
        store.away = False
        await trio.sleep(50)
        desk.database_is_away = False
        desk.kept = {"back"}
        store.fail("delete", StoreAwayError("away"), late=True)
        await trio.sleep(200)
        assert shows(store) == {"back"}, "what is kept up again is not touched"
