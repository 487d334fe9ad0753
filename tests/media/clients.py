"""Clients of the relay for tests: real peers on an in-memory network, and the engine that they meet."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import trio

from lac_media.engine import Engine, EngineConfig, open_engine
from lac_media.net.peer_task import ClientPeer
from lac_media.net.udp import DatagramSocket
from lac_media.parameters import (
    OPUS_PAYLOAD_TYPE,
    ConsumerParameters,
    Direction,
    DtlsParameters,
    DtlsRole,
    IceCandidate,
    ProducerParameters,
)
from lac_media.proto.opus import SILENCE_20MS_MONO
from lac_media.proto.peer import PeerClosed, PeerConnected, PeerEvent, RtpReceived
from lac_media.proto.rtp import RtpPacket
from lac_media.rooms.room import MediaRoom
from lac_media.rooms.session import Session
from tests.fakes.link import identity
from tests.fakes.net import Net
from tests.fakes.streams import StreamNet

SERVER_IP = "192.0.2.1"
PUBLISHED = 111
FRAME_S = 0.02


@asynccontextmanager
async def open_net_engine(net: Net, streams: StreamNet | None = None) -> AsyncGenerator[Engine, None]:
    """With ICE-TCP where there are `streams`."""
    config = EngineConfig(listen_ip=SERVER_IP, port=40_000, ice_tcp=streams is not None)
    open_listener = StreamNet().open_listener if streams is None else streams.open_listener
    async with open_engine(
        config, open_socket=net.open_socket, open_listener=open_listener, identity=identity(0)
    ) as engine:
        yield engine


def opus(number: int) -> bytes:
    """A 20 ms frame that can be told from others."""
    return b"\x48" + number.to_bytes(4, "big") + bytes(20)


class Client:
    """One browser, so to speak: a session in the room and the peer at its other end."""

    def __init__(self, engine: Engine, session: Session, sock: DatagramSocket) -> None:
        self.engine = engine
        self.session = session
        self.events: list[PeerEvent] = []
        self.connected = trio.Event()
        self.closed = trio.Event()
        self.peer = ClientPeer(sock, identity(1), on_event=self._on_event)
        self._sequence = 1000

    def _on_event(self, event: PeerEvent) -> None:
        self.events.append(event)
        if isinstance(event, PeerConnected):
            self.connected.set()
        elif isinstance(event, PeerClosed):
            self.closed.set()

    def dial(self, role: DtlsRole = DtlsRole.CLIENT, candidate: IceCandidate | None = None) -> None:
        """Signalling for both ends; `peer.run` is the caller's to start."""
        self.session.connect(DtlsParameters(role, (self.peer.fingerprint,)))
        servers = DtlsRole.SERVER if role is DtlsRole.CLIENT else DtlsRole.CLIENT
        core = self.peer.connect(
            self.session.ice_parameters,
            candidate or self.engine.candidates[0],
            DtlsParameters(servers, self.engine.fingerprints),
        )
        core.expect_stream(ProducerParameters(OPUS_PAYLOAD_TYPE, audio_level_extension_id=10))

    @property
    def packets(self) -> list[RtpPacket]:
        return [event.packet for event in self.events if isinstance(event, RtpReceived)]

    @property
    def speech(self) -> list[bytes]:
        """Payloads that are not the relay's silence."""
        return [packet.payload for packet in self.packets if packet.payload != SILENCE_20MS_MONO]

    @property
    def close_reason(self) -> str | None:
        return next((event.reason for event in self.events if isinstance(event, PeerClosed)), None)

    def say(self, number: int) -> None:
        self.send_opus(opus(number))

    def next_packet(self, payload: bytes) -> RtpPacket:
        """The next one of its stream, not sent."""
        self._sequence += 1
        stamp = self._sequence * 960 & 0xFFFF_FFFF
        return RtpPacket(PUBLISHED, self._sequence & 0xFFFF, stamp, self.peer.ssrc, payload=payload)

    def send_opus(self, payload: bytes) -> None:
        """The next 20 ms of this speaker."""
        self.peer.send_rtp(self.next_packet(payload))

    async def talk(self, first: int, count: int) -> None:
        for number in range(first, first + count):
            self.say(number)
            await trio.sleep(FRAME_S)


async def add_client(
    nursery: trio.Nursery,
    net_socket: Callable[[], DatagramSocket],
    engine: Engine,
    room: MediaRoom,
    direction: Direction,
    owner: str,
    *,
    role: DtlsRole = DtlsRole.CLIENT,
    consumer: ConsumerParameters | None = None,
    candidate: IceCandidate | None = None,
    wait: bool = True,
) -> Client:
    """A publisher or listener, connected when this returns."""
    session = await room.open_session(direction, owner)
    client = Client(engine, session, net_socket())
    if direction is Direction.SEND:
        session.produce(ProducerParameters(PUBLISHED, ssrc=client.peer.ssrc))
    else:
        session.consume(consumer or ConsumerParameters())
    client.dial(role, candidate)
    nursery.start_soon(client.peer.run)
    if wait:
        await client.connected.wait()
    return client


class Studio:
    """An engine, one room, and clients on an in-memory network."""

    def __init__(
        self,
        net: Net,
        engine: Engine,
        room: MediaRoom,
        nursery: trio.Nursery,
        events: list[object],
        streams: StreamNet | None = None,
    ) -> None:
        self.net = net
        self.streams = streams
        self.engine = engine
        self.room = room
        self.events = events
        self.nursery = nursery
        self._people = 0

    async def add(
        self,
        direction: Direction,
        owner: str | None = None,
        *,
        role: DtlsRole = DtlsRole.CLIENT,
        consumer: ConsumerParameters | None = None,
        wait: bool = True,
    ) -> Client:
        self._people += 1
        ip = f"198.51.{self._people >> 8}.{self._people & 255}"
        return await add_client(
            self.nursery,
            lambda: self.net.open_socket(ip, 5000),
            self.engine,
            self.room,
            direction,
            owner or f"person-{self._people}",
            role=role,
            consumer=consumer,
            wait=wait,
        )

    async def publisher(self, owner: str | None = None, **kwargs: DtlsRole) -> Client:
        return await self.add(Direction.SEND, owner, **kwargs)

    async def listener(self, owner: str | None = None, *, consumer: ConsumerParameters | None = None) -> Client:
        return await self.add(Direction.RECV, owner, consumer=consumer)


@asynccontextmanager
async def open_studio(net: Net | None = None, streams: StreamNet | None = None) -> AsyncGenerator[Studio, None]:
    """Clients are cancelled before the room closes, and nothing may be left of anything."""
    net = net or Net()
    events: list[object] = []
    async with open_net_engine(net, streams) as engine:
        async with engine.open_room("room", events.append) as room, trio.open_nursery() as nursery:
            try:
                yield Studio(net, engine, room, nursery, events, streams)
            finally:
                nursery.cancel_scope.cancel("test over")
        assert (engine.session_count, engine.endpoint.peer_count, room.fanout.listeners) == (0, 0, 0)
    assert net.sockets == {}
