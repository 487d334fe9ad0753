"""A stream and its bucket in virtual time: live, through outages, to the end, and cancelled at any step."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import trio
import trio.testing
from trio.testing import MockClock

from lac.broadcasts.model import Broadcast
from lac.cdn.origin import HlsOrigin
from lac.cdn.pusher import PREFIX, PushCounters, Pusher
from lac.cdn.shelf import FRESH_S, LINGER_S, Aim
from lac.storage.errors import StoreAwayError, StoreRefusedError
from lac_media.hls.files import read_stream
from lac_media.hls.renditions import RENDITIONS, SEGMENT_S, Rendition
from lac_media.hls.stream import HlsStream
from tests.cdn.bucket import SHOW, WatchedStore
from tests.cdn.cards import Cards
from tests.hls.radio import InlineWorkers, Radio, make_stream
from tests.sweep import sweep

HIGH = RENDITIONS[0]


class Pushed:
    """A stream that is pushed, and what decides of it."""

    def __init__(self, stream: Cards | HlsStream, store: WatchedStore) -> None:
        self.stream = stream
        self.store = store
        self.aim = Aim.PUSH
        self.counters = PushCounters()
        self.pusher = Pusher(stream, store, SHOW, aim=lambda: self.aim, counters=self.counters)

    @asynccontextmanager
    async def run(self, *, until_closed_s: float = 5) -> AsyncGenerator[WatchedStore, None]:
        """With its end."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.pusher.run)
            yield self.store
            self.stream.end()
            await trio.sleep(until_closed_s)
            self.pusher.stop()
        assert self.store.playlist().ended


async def test_what_is_up_is_what_is_here(tmp_path: Path, autojump_clock: MockClock) -> None:
    radio, stream = Radio(), make_stream(tmp_path / "s", keep_encoding=True)
    show = Pushed(stream, WatchedStore())
    async with show.run() as store, trio.open_nursery() as encoding:
        encoding.start_soon(stream.run, radio)
        await trio.testing.wait_all_tasks_blocked()
        await radio.play(4)
        assert not show.pusher.is_fresh, "there is not much to play yet"
        await radio.play(8)
        assert show.pusher.is_fresh
        live = store.playlist()
        assert live.is_whole
        assert not live.ended
        assert live.target == 4
        assert show.pusher.shelf.behind_s == 0
        assert store.headers[f"{PREFIX}{SHOW}/high.m3u8"][1] == "public, max-age=2"
        encoding.cancel_scope.cancel()
    finished = store.playlist()
    assert [s.msn for s in finished.segments] == [s.msn for s in stream.plan.segments]
    assert [s.date for s in finished.segments[: len(live.segments)]] == [s.date for s in live.segments]
    for segment in finished.segments:
        assert segment.uri is not None
        mine = await stream.file(HIGH, segment.uri.rpartition("/")[2])
        assert store.objects[f"{PREFIX}{SHOW}/{segment.uri}"] == mine
    headers = {name.rpartition(".")[2]: store.headers[f"{PREFIX}{SHOW}/{name}"] for name in store.names()}
    assert headers["m4s"] == headers["mp4"] == ("audio/mp4", "public, max-age=3600, immutable")
    assert headers["m3u8"] == ("application/vnd.apple.mpegurl", "public, max-age=60")
    assert store.playlists_seen > 10


async def test_what_has_left_the_window_goes_after_a_while(autojump_clock: MockClock) -> None:
    cards = Cards(window_s=30)
    show = Pushed(cards, WatchedStore())
    foreign = f"{PREFIX}{SHOW}/high/7-older.m4s"
    show.store.objects[foreign] = b"of an earlier process"
    async with show.run() as store:
        await cards.play(60)
        assert foreign in store.objects
        listed = store.playlist().segments
        assert sum(segment.duration or 0 for segment in listed) < 36
        assert len(store.names()) > 2 * len(listed) + 5, "older playlists may still be in use"
        await cards.play(LINGER_S + 60)
        assert foreign not in store.objects
        most = (LINGER_S + 40) / SEGMENT_S
        assert len(store.names()) < 2 * most + 8


async def test_an_outage_is_caught_up_with(autojump_clock: MockClock) -> None:
    cards = Cards(window_s=300)
    show = Pushed(cards, WatchedStore())
    async with show.run() as store:
        await cards.play(12)
        before = store.playlist()
        puts = store.calls.count("put")
        store.away = True
        await cards.play(30)
        assert not show.pusher.is_fresh, "nobody is sent there"
        assert show.pusher.shelf.behind_s > FRESH_S
        assert show.pusher.trouble is not None
        assert store.calls.count("put") - puts < 40, "not again and again without a pause"
        store.away = False
        await cards.play(18)
        assert show.pusher.is_fresh
        store.away = True  # at the end, too
        await cards.play(30)
        cards.end()
        store.last_msn = cards.plan.end_position[0]
        await trio.sleep(5)
        store.away = False
        await trio.sleep(15)
        assert show.pusher.trouble is None
        assert store.playlist().segments[0].msn == before.segments[0].msn, "nothing is missing"
    assert show.counters.failures > 2


async def test_an_outage_longer_than_the_window_costs_what_is_out_of_it(autojump_clock: MockClock) -> None:
    cards = Cards(window_s=30)
    show = Pushed(cards, WatchedStore())
    async with show.run() as store:
        await cards.play(12)
        last = store.playlist().segments[-1].msn
        store.away = True
        await cards.play(100)
        store.away = False
        await cards.play(30)
        assert store.playlist().segments[0].msn > last, "what was never there is not named"


async def test_calls_that_fail_now_and_then_do_no_harm(autojump_clock: MockClock) -> None:
    cards = Cards(window_s=30)
    show = Pushed(cards, WatchedStore())
    away, refused = StoreAwayError("away"), StoreRefusedError("no", "AccessDenied")
    show.store.fail("list", away)
    show.store.fail("delete", away, refused, away, late=True)
    for late in (False, True):
        show.store.fail("put", *[away] * 6, late=late)
    async with show.run() as store:
        await cards.play(120)
        store.fail("put", refused)
        await cards.play(400)
        assert show.pusher.is_fresh
        assert not store.failures["delete"]
        assert not store.failures["put"]


async def test_a_slow_store_gets_the_newest_playlist_only(autojump_clock: MockClock) -> None:
    cards = Cards()
    show = Pushed(cards, WatchedStore())
    show.store.calls_take_s = 1.5  # each call takes 3 s; a segment has 3.84
    async with show.run(until_closed_s=30) as store:
        await cards.play(80)
        assert show.pusher.shelf.behind_s < 20
    segments = cards.plan.end_position[0]
    playlists = store.calls.count("put") - 2 * segments
    assert playlists < 2 * segments * 0.8, "some never went up: there were newer ones"


async def test_a_show_that_becomes_private_is_taken_away_and_comes_back(autojump_clock: MockClock) -> None:
    cards = Cards()
    show = Pushed(cards, WatchedStore())
    async with show.run() as store:
        await cards.play(12)
        show.aim = Aim.WITHDRAW
        await cards.play(5)
        assert store.names() == []
        assert not show.pusher.is_fresh
        show.aim = Aim.PUSH
        await cards.play(6)
        assert show.pusher.is_fresh
        show.aim = Aim.WAIT
        before = dict(store.objects)
        await cards.play(12)
        assert store.objects == before, "somebody else has the place"
        assert not show.pusher.is_fresh
        store.objects.clear()
        show.aim = Aim.PUSH
        await cards.play(8)
        assert show.pusher.is_fresh


async def test_what_a_killed_process_left_is_closed(tmp_path: Path, autojump_clock: MockClock) -> None:
    radio, stream, store = Radio(), make_stream(tmp_path / "s", keep_encoding=True), WatchedStore()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Pushed(stream, store).pusher.run)
        nursery.start_soon(stream.run, radio)
        await trio.testing.wait_all_tasks_blocked()
        await radio.play(15)
        nursery.cancel_scope.cancel("killed")
    assert not store.playlist().ended
    uploaded = store.calls.count("put")
    stored = read_stream(tmp_path / "s")
    assert stored is not None
    again = Pushed(HlsStream.finished(tmp_path / "s", stored, workers=InlineWorkers()), store)
    async with again.run():
        await trio.sleep(3)
        assert again.pusher.is_fresh
    assert [s.msn for s in store.playlist().segments] == [s.msn for s in stored.segments]
    assert store.calls.count("put") - uploaded < 12, "what is there need not go up again"


async def test_a_segment_that_is_lost_here_is_passed_over(autojump_clock: MockClock) -> None:
    class Torn(Cards):
        async def file(self, rendition: Rendition, name: str) -> bytes | None:
            if name.startswith("6-"):
                raise OSError("input/output error")
            return await super().file(rendition, name)

    cards = Torn()
    show = Pushed(cards, WatchedStore())
    async with show.run() as store:
        await cards.play(40)
        assert show.pusher.is_fresh
        assert store.playlist().segments[0].msn == 7


class Nobody:
    def has(self, broadcast_id: str) -> bool:
        return False


async def find_nothing(ids: object) -> dict[str, Broadcast]:
    return {}


def test_cancelled_at_any_step_leaves_only_what_is_cleared_away() -> None:
    """And until then whoever reads a playlist finds what it names: `WatchedStore`."""
    store = WatchedStore()

    async def scenario() -> None:
        nonlocal store
        store = WatchedStore()
        store.fail("put", StoreAwayError("away"), StoreAwayError("away"), late=True)
        store.fail("delete", StoreAwayError("away"))
        store.objects[f"{PREFIX}{SHOW}/low/1-older.m4s"] = b"of an earlier process"
        cards, aim = Cards(window_s=8), Aim.PUSH
        pusher = Pusher(cards, store, SHOW, aim=lambda: aim, counters=PushCounters())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pusher.run)
            cards.deal(3)
            await trio.sleep(5)
            cards.deal(3)
            await trio.sleep(LINGER_S + 1)
            aim = Aim.WITHDRAW
            await trio.sleep(5)
            aim = Aim.PUSH
            cards.end()
            await trio.sleep(5)
            pusher.stop()
        assert store.playlist().ended

    def check() -> None:
        async def clear() -> None:
            origin = HlsOrigin(store, keep=timedelta(0))
            origin.remove(SHOW)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(origin.run, Nobody(), find_nothing)
                await trio.sleep(200)
                assert not origin.removing
                nursery.cancel_scope.cancel()

        store.look()
        trio.run(clear, clock=MockClock(autojump_threshold=0))
        assert store.objects == {}

    steps = sweep(scenario, check)
    assert steps > 100
