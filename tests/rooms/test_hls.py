"""Who listens by HLS: counted with the others, written down, sent to and fro; and nothing is left of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from lac.broadcasts.admission import RETURN_BELOW
from lac.broadcasts.hls import RETURN_AGAIN_S, RETURN_INTERVAL_S
from lac.broadcasts.hls_show import GONE_AFTER_S
from lac.errors import ForbiddenError, LacError, NotFoundError, UnavailableError
from lac_media.parameters import Direction
from tests.fakes.air import HOST, LISTENER, SETTINGS, Station
from tests.rooms.test_sweeps import check_nothing_left
from tests.sweep import Cut, sweep, sweep_within


def pass_of(url: str) -> str:
    return url.split("/")[3]


async def listen(station: Station, url: str, *, seconds: float) -> None:
    """Ask now and then, as players do."""
    for _ in range(round(seconds)):
        await station.on_air.hls.admit(station.show_id, pass_of(url))
        await trio.sleep(1)


async def test_they_are_counted_and_written_down(new_station: Callable[[], Station], autojump_clock: MockClock) -> None:
    station = new_station()
    async with station.open() as on_air:
        await station.start()
        socket = await station.join(LISTENER)
        url = socket.data("joined")[0]["hls"]["url"]
        assert not socket.data("joined")[0]["hls"]["preferred"]
        assert on_air.listener_count(station.show_id) == 0
        await listen(station, url, seconds=5)
        assert on_air.listener_count(station.show_id) == 1
        assert socket.data("listenerCount")[-1]["count"] == 1
        await trio.sleep(GONE_AFTER_S + 3)
        assert on_air.listener_count(station.show_id) == 0
        await listen(station, url, seconds=2)  # by the same address: once more
        assert [row.kind for row in station.db.session_rows()] == ["hls", "hls"]
        assert len(station.db.session_rows(only_open=True)) == 1
        await on_air.end(HOST, station.show_id)
        assert station.db.session_rows(only_open=True) == []
        with pytest.raises(NotFoundError):  # nothing was encoded: there is nothing to keep
            await on_air.hls.admit(station.show_id, pass_of(url))


async def test_many_are_sent_there_and_invited_back(
    new_station: Callable[[], Station], autojump_clock: MockClock
) -> None:
    station = new_station()
    async with station.open() as on_air:
        await station.start()
        (await station.publish()).speak()
        station.engine.others = SETTINGS.hls_offload_listeners
        socket = await station.join(LISTENER)
        address = socket.data("joined")[0]["hls"]
        assert address["preferred"]
        with pytest.raises(UnavailableError) as refused:
            await station.listen(LISTENER)
        assert refused.value.code == "use_hls"
        assert refused.value.hls is not None
        await station.listen(HOST)
        await on_air.media.open_session(LISTENER, station.show_id, Direction.RECV, "stream")  # a radio
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: listen(station, address["url"], seconds=RETURN_AGAIN_S + 30))
            await trio.sleep(2 * RETURN_INTERVAL_S)
            assert socket.data("listenVia") == []
            station.engine.others = SETTINGS.hls_offload_listeners // 2
            await trio.sleep(2 * RETURN_INTERVAL_S)
            assert socket.data("listenVia") == [{"via": "webrtc"}]
            await trio.sleep(RETURN_AGAIN_S)
            assert len(socket.data("listenVia")) == 2
            station.engine.may_take_listener = False
            with pytest.raises(UnavailableError) as refused:
                await station.listen(LISTENER)
            assert refused.value.code == "overloaded"
            nursery.cancel_scope.cancel()


async def test_everybody_is_invited_before_anybody_again(
    new_station: Callable[[], Station], autojump_clock: MockClock
) -> None:
    """One place every five seconds, and nobody takes it: an invitation that is not followed blocks nobody else."""
    station = new_station()
    async with station.open():
        await station.start()
        (await station.publish()).speak()
        began = trio.current_time()
        sockets = [await station.join(name=f"Guest {number}") for number in range(6)]
        without_room = await station.join(name="Gone")  # and the player runs on
        assert without_room.member is not None
        without_room.member.leave()
        station.engine.others = int(SETTINGS.hls_offload_listeners * RETURN_BELOW) - 1
        async with trio.open_nursery() as nursery:
            for socket in (without_room, *sockets):
                url = socket.data("joined")[0]["hls"]["url"]
                nursery.start_soon(partial(listen, station, url, seconds=300))
            while (invited := [len(socket.data("listenVia")) for socket in sockets]) != [3] * len(sockets):
                assert max(invited) - min(invited) <= 1
                assert sum(invited) <= (trio.current_time() - began) / RETURN_INTERVAL_S
                await trio.sleep(1)
            assert trio.current_time() - began < 3 * (len(sockets) + 1) * RETURN_INTERVAL_S
            nursery.cancel_scope.cancel()


async def test_who_is_removed_is_let_go(new_station: Callable[[], Station], autojump_clock: MockClock) -> None:
    station = new_station()
    async with station.open() as on_air:
        await station.start()
        socket = await station.join(LISTENER)
        url = socket.data("joined")[0]["hls"]["url"]
        await listen(station, url, seconds=2)
        await on_air.rights.remove_person(HOST, station.show_id, LISTENER.id, None, ban=False)
        with pytest.raises(ForbiddenError):
            await listen(station, url, seconds=1)
        assert on_air.listener_count(station.show_id) == 0


def test_a_listener_cancelled_at_any_step_is_gone_soon(new_station: Callable[[], Station]) -> None:
    station = new_station()

    async def scenario(cut: Cut) -> None:
        nonlocal station
        station = new_station()
        async with station.open() as on_air:
            await station.start()
            with cut:
                found = await on_air.hls.address(LISTENER, station.show_id, address=None)
                await listen(station, found.url, seconds=2)
            await trio.sleep(GONE_AFTER_S + 3)
            assert on_air.listener_count(station.show_id) == 0
            assert station.db.session_rows(only_open=True) == []

    sweep_within(scenario, check=lambda: check_nothing_left(station), refusals=(LacError,))


def test_a_show_with_listeners_cancelled_at_any_step_leaves_nothing(new_station: Callable[[], Station]) -> None:
    station = new_station()

    async def scenario() -> None:
        nonlocal station
        station = new_station()
        async with station.open() as on_air:
            await station.start()
            found = await on_air.hls.address(None, station.show_id, address=None)
            await listen(station, found.url, seconds=2)
            await on_air.end(HOST, station.show_id)

    def check() -> None:
        check_nothing_left(station)
        if station._on_air is not None:
            assert station.on_air.hls.streams == []

    sweep(scenario, check=check, refusals=(LacError,))
