"""The same shows on the real media engine: one client over loopback, and the sweep over sockets and sessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import trio

from lac.broadcasts.live import open_on_air
from lac.errors import LacError
from lac_media.certificate import DtlsIdentity, make_dtls_identity
from lac_media.engine import Engine, EngineConfig, open_engine
from lac_media.net.peer_task import ClientPeer
from lac_media.net.udp import open_udp_socket
from lac_media.parameters import Direction, DtlsParameters, DtlsRole, ProducerParameters
from lac_media.proto.peer import PeerClosed, PeerConnected, PeerEvent
from lac_media.proto.rtp import RtpPacket
from lac_media.rooms.session import Session
from tests.fakes.air import HOST, LISTENER, SETTINGS, FakeAuth, FakeSocket, Station
from tests.sweep import sweep


@pytest.fixture(scope="module")
def identity() -> DtlsIdentity:
    return make_dtls_identity()


class Publisher:
    """A client that sends silence until the server hangs up."""

    def __init__(self, engine: Engine, session: Session, identity: DtlsIdentity) -> None:
        self.closed: str | None = None
        self._connected = trio.Event()
        self._peer = ClientPeer(open_udp_socket("127.0.0.1", 0), identity, on_event=self._on_event)
        session.connect(DtlsParameters(DtlsRole.CLIENT, (self._peer.fingerprint,)))
        session.produce(ProducerParameters(payload_type=100, ssrc=self._peer.ssrc))
        relay = DtlsParameters(DtlsRole.SERVER, engine.fingerprints)
        self._peer.connect(session.ice_parameters, engine.candidates[0], relay)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send)
            await self._peer.run()
            nursery.cancel_scope.cancel()

    async def _send(self) -> None:
        await self._connected.wait()
        sequence = 1
        while self.closed is None:
            packet = RtpPacket(
                payload_type=100,
                sequence=sequence,
                timestamp=960 * sequence,
                ssrc=self._peer.ssrc,
                payload=b"\xf8\xff\xfe",
            )
            self._peer.send_rtp(packet)
            sequence += 1
            await trio.sleep(0.02)

    def _on_event(self, event: PeerEvent) -> None:
        if isinstance(event, PeerConnected):
            self._connected.set()
        elif isinstance(event, PeerClosed):
            self.closed = event.reason


async def wait_for(condition: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110  it waits for a real socket, which has no event of ours
            await trio.sleep(0.01)


async def test_a_reconnecting_host_is_heard_without_a_gap_in_the_show(
    new_station: Callable[[], Station], identity: DtlsIdentity
) -> None:
    station = new_station()
    db, auth = cast("Any", station.db), cast("Any", FakeAuth())
    async with (
        open_engine(EngineConfig(), identity=identity) as engine,
        open_on_air(db, engine, station.broadcasts, auth, SETTINGS) as on_air,
        trio.open_nursery() as nursery,
    ):
        await on_air.start(HOST, station.show_id)
        socket = FakeSocket()
        await on_air.join(LISTENER, station.show_id, None, socket)
        publishers = []
        for number in (1, 2):
            session = await on_air.media.open_session(HOST, station.show_id, Direction.SEND, "mediasoup")
            publisher = Publisher(engine, session, identity)
            publishers.append(publisher)
            nursery.start_soon(publisher.run)
            await wait_for(lambda: bool(socket.data("activeSpeakers")))
            if number == 2:
                await wait_for(lambda: publishers[0].closed is not None)
        assert publishers[1].closed is None
        assert "hostAway" not in socket.events
        await on_air.end(HOST, station.show_id)
        await wait_for(lambda: publishers[1].closed is not None)
        assert engine.session_count == 0
        assert sorted(str(reason) for reason in station.db.close_reasons().values()) == ["ended", "replaced"]


def test_a_show_on_real_sockets_stopped_at_any_step_leaves_nothing(
    new_station: Callable[[], Station], identity: DtlsIdentity
) -> None:
    station = new_station()
    engines: list[Engine] = []

    async def scenario() -> None:
        nonlocal station
        station = new_station()
        db, auth = cast("Any", station.db), cast("Any", FakeAuth())
        async with open_engine(EngineConfig(), identity=identity) as engine:
            engines.append(engine)
            async with open_on_air(db, engine, station.broadcasts, auth, SETTINGS) as on_air:
                await on_air.start(HOST, station.show_id)
                await on_air.media.open_session(HOST, station.show_id, Direction.SEND, "whip")
                await on_air.media.open_session(None, station.show_id, Direction.RECV, "whep")
                await on_air.end(HOST, station.show_id)

    def check() -> None:
        assert all(engine.session_count == 0 for engine in engines)
        assert station.db.session_rows(only_open=True) == []

    steps = sweep(scenario, check, clock=lambda: None, runs_beyond=3, refusals=(LacError,))
    assert steps > 30
