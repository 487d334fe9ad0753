"""Radios and source clients in a show: let in by the same rules, and nothing of them is left wherever it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import trio

from lac.broadcasts.live import OnAir, open_on_air
from lac.broadcasts.media_door import ICECAST, STREAM
from lac.errors import ConflictError, ForbiddenError, LacError, UnavailableError
from lac.identity import Identity, IdentityKind
from lac_media.certificate import DtlsIdentity, make_dtls_identity
from lac_media.engine import Engine, EngineConfig, open_engine
from lac_media.rooms.source import LocalSource
from lac_media.streams import program_stream
from lac_media.streams.formats import StreamFormat
from tests.fakes.air import COHOST, HOST, LISTENER, SETTINGS, FakeAuth, FakeSocket, Station
from tests.media.clients import opus
from tests.sweep import sweep


@pytest.fixture(scope="module")
def identity() -> DtlsIdentity:
    return make_dtls_identity()


def key_of(station: Station) -> Identity:
    return Identity(IdentityKind.STREAM_KEY, HOST.id, HOST.display_name, broadcast_id=station.show_id)


def air(station: Station, engine: Engine) -> Any:
    return open_on_air(cast("Any", station.db), engine, station.broadcasts, cast("Any", FakeAuth()), SETTINGS)


async def speak(source: LocalSource, count: int = 10) -> None:
    for number in range(count):
        source.push(opus(number))
        await trio.sleep(0.02)


async def test_a_source_begins_a_scheduled_show_keeps_it_and_is_seen_on_stage(
    new_station: Callable[[], Station], identity: DtlsIdentity
) -> None:
    station = new_station()
    async with open_engine(EngineConfig(), identity=identity) as engine, air(station, engine) as on_air:
        with pytest.raises(UnavailableError) as early:
            await on_air.media.open_stream(None, station.show_id, StreamFormat.OGG)
        assert early.value.code == "not_live"
        source = await on_air.media.open_source(key_of(station), station.show_id)
        socket = FakeSocket()
        await on_air.join(LISTENER, station.show_id, None, socket)
        await speak(source)
        (speakers,) = [data["producers"] for data in socket.data("activeSpeakers")][-1:]
        assert [speaker["userId"] for speaker in speakers] == [HOST.id]
        assert "hostAway" not in socket.events
        source.close("hung_up")
        assert "hostAway" in socket.events
        await on_air.end(HOST, station.show_id)
        assert [row.kind for row in station.db.session_rows()] == [ICECAST]
        with pytest.raises(ConflictError) as late:
            await on_air.media.open_stream(None, station.show_id, StreamFormat.OGG)
        assert late.value.code == "already_ended"


async def test_a_listeners_key_and_a_listeners_account_publish_nothing(
    new_station: Callable[[], Station], identity: DtlsIdentity
) -> None:
    station = new_station()
    async with open_engine(EngineConfig(), identity=identity) as engine, air(station, engine) as on_air:
        await on_air.start(HOST, station.show_id)
        other = Identity(IdentityKind.STREAM_KEY, "somebody", "Somebody", broadcast_id="another")
        for nobody in (LISTENER, other):
            with pytest.raises(ForbiddenError):
                await on_air.media.open_source(nobody, station.show_id)
        with pytest.raises(ForbiddenError, match="publishing only"):
            await on_air.media.open_stream(key_of(station), station.show_id, StreamFormat.OGG)


async def test_moderators_reach_radios_and_sources(new_station: Callable[[], Station], identity: DtlsIdentity) -> None:
    station = new_station()
    async with open_engine(EngineConfig(), identity=identity) as engine, air(station, engine) as on_air:
        source = await on_air.media.open_source(key_of(station), station.show_id)
        radio = await on_air.media.open_stream(LISTENER, station.show_id, StreamFormat.OGG)
        anybody = await on_air.media.open_stream(None, station.show_id, StreamFormat.MP3)
        assert on_air.listener_count(station.show_id) == 2
        assert on_air.listeners_by_way(station.show_id) == {"webrtc": 0, "hls": 0, "ogg": 1, "mp3": 1}
        await on_air.rights.remove_person(COHOST, station.show_id, LISTENER.id, None, ban=True)
        assert (radio.close_reason, anybody.close_reason) == ("removed", None)
        with pytest.raises(trio.EndOfChannel):
            await radio.receive()
        with pytest.raises(ForbiddenError):
            await on_air.media.open_stream(LISTENER, station.show_id, StreamFormat.OGG)
        await on_air.rights.renew_stream_key(HOST, station.show_id)
        assert source.close_reason == "removed"
        assert on_air.listener_count(station.show_id) == 1
        await on_air.end(HOST, station.show_id)
        assert anybody.close_reason == "ended"
        assert sorted(row.kind for row in station.db.session_rows()) == [ICECAST, STREAM, STREAM]


def test_radios_and_a_source_stopped_at_any_step_leave_nothing(
    new_station: Callable[[], Station], identity: DtlsIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_stream, "INTERVAL_S", 0.02)
    station = new_station()
    engines: list[Engine] = []

    async def scenario() -> None:
        nonlocal station
        station = new_station()
        async with open_engine(EngineConfig(), identity=identity) as engine:
            engines.append(engine)
            async with air(station, engine) as on_air:
                await use(on_air)

    async def use(on_air: OnAir) -> None:
        source = await on_air.media.open_source(key_of(station), station.show_id)
        radio = await on_air.media.open_stream(LISTENER, station.show_id, StreamFormat.OGG)
        source.push(opus(1))
        await radio.receive()
        radio.close("hung_up")
        await on_air.end(HOST, station.show_id)

    def check() -> None:
        for engine in engines:
            assert engine.session_count == 0
            assert not +engine.streams.listeners
            assert not +engine.streams.encoders
        assert station.db.session_rows(only_open=True) == []

    steps = sweep(scenario, check, clock=lambda: None, runs_beyond=3, refusals=(LacError,))
    assert steps > 20
