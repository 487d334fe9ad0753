"""The media engine of a process: one UDP socket and one TCP listener, their loops, and the rooms that use them."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import trio

from lac_media.certificate import DtlsIdentity, make_dtls_identity
from lac_media.errors import EngineStartError
from lac_media.load import LoadLimits, LoadMeter
from lac_media.net.endpoint import Endpoint, EndpointCounters
from lac_media.net.stream_socket import StreamListener, open_tcp_listener
from lac_media.net.tcp import TcpStreams
from lac_media.net.udp import DatagramSocket, open_udp_socket
from lac_media.opus.library import opus_library
from lac_media.parameters import Fingerprint, IceCandidate
from lac_media.rooms.events import RoomEvent
from lac_media.rooms.room import MediaRoom, open_media_room
from lac_media.rooms.session import Session
from lac_media.streams.hub import StreamHub, StreamLimits
from lac_media.totals import MediaTotals

#: RFC 8445 section 5.1.2.2: the recommended type preference of host candidates.
_HOST_PREFERENCE = 126
#: Below all UDP ones, as RFC 6544 section 4.2 wants it where UDP is preferred; and its direction preference of passive
#: candidates, the upper three bits of the local preference.
_TCP_HOST_PREFERENCE = 90
_PASSIVE_PREFERENCE = 4
#: How many ports are tried until one is found that is free for UDP and TCP.
_PORT_TRIES = 20


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """`listen_ip` "::" serves IPv4 and IPv6. `port` 0 takes a free one. `announced_ips` are told to clients instead of
    `listen_ip`: needed for wildcards and behind NAT. `ice_tcp`: listen on the same port number for TCP, too."""

    listen_ip: str = "127.0.0.1"
    port: int = 0
    announced_ips: tuple[str, ...] = ()
    ice_tcp: bool = False
    limits: LoadLimits = field(default_factory=LoadLimits)
    streams: StreamLimits = field(default_factory=StreamLimits)


class Engine:
    """Made by `open_engine`."""

    def __init__(
        self,
        endpoint: Endpoint,
        identity: DtlsIdentity,
        candidates: tuple[IceCandidate, ...],
        limits: LoadLimits,
        streams: StreamLimits | None = None,
    ) -> None:
        self.endpoint = endpoint
        #: Its `run` belongs to whoever serves.
        self.load = LoadMeter(limits)
        self.candidates = candidates
        self.streams = StreamHub(streams)
        self._identity = identity
        self._rooms: dict[str, MediaRoom] = {}
        #: Of rooms that have closed.
        self._before = MediaTotals()

    @property
    def port(self) -> int:
        return self.endpoint.socket.local_address[1]

    @property
    def fingerprints(self) -> tuple[Fingerprint, ...]:
        return (self._identity.fingerprint,)

    @property
    def counters(self) -> EndpointCounters:
        counters = self.endpoint.counters
        counters.overruns = self.endpoint.socket.overruns()
        return counters

    def open_room(self, room_id: str, on_event: Callable[[RoomEvent], None]) -> AbstractAsyncContextManager[MediaRoom]:
        """A media room in the caller's task. `on_event` is called synchronously with what happens in it."""
        return self._open_room(room_id, on_event)

    @asynccontextmanager
    async def _open_room(self, room_id: str, on_event: Callable[[RoomEvent], None]) -> AsyncGenerator[MediaRoom, None]:
        room: MediaRoom | None = None
        try:
            async with open_media_room(
                room_id, self.endpoint, self._identity, on_event, self.load, self.streams
            ) as room:
                self._rooms[room_id] = room
                try:
                    yield room
                finally:
                    del self._rooms[room_id]
        finally:
            if room is not None:  # its sessions have ended by now
                self._before.add_past(room.totals())

    def session(self, session_id: str) -> Session | None:
        """Any room's session, by its id."""
        for room in self._rooms.values():
            session = room.sessions.get(session_id)
            if session is not None:
                return session
        return None

    @property
    def is_bound(self) -> bool:
        """Whether the media socket is open on its port."""
        try:
            return self.port > 0
        except OSError:
            return False

    def totals(self) -> MediaTotals:
        """Since the engine was opened, rooms that have closed included."""
        totals = MediaTotals()
        totals.add_past(self._before)
        for room in self._rooms.values():
            totals.add(room.totals())
        return totals

    @property
    def listeners(self) -> int:
        """Whom the programs of all rooms reach."""
        return sum(room.fanout.listeners for room in self._rooms.values())

    @property
    def may_take_listener(self) -> bool:
        """Whether one more would not be heard by those who are in already."""
        return self.load.admits(self.listeners, self.session_count)

    @property
    def peers(self) -> int:
        """Names (ufrags) and addresses by which the endpoint knows its peers."""
        return self.endpoint.peer_count

    @property
    def session_count(self) -> int:
        return sum(len(room.sessions) + len(room.sources) for room in self._rooms.values())


def host_candidates(config: EngineConfig, port: int) -> tuple[IceCandidate, ...]:
    """What we announce. Raises `EngineStartError` for a wildcard without an address to announce."""
    ips = config.announced_ips or (config.listen_ip,)
    for ip in ips:
        try:
            wildcard = ipaddress.ip_address(ip).is_unspecified
        except ValueError:
            raise EngineStartError(f"{ip!r} cannot be announced to clients: it is not an IP address") from None
        if wildcard:
            raise EngineStartError("set MEDIASOUP_ANNOUNCED_IP to the address at which clients reach this machine")
    candidates = [
        IceCandidate(str(number), (_HOST_PREFERENCE << 24) + ((65535 - number) << 8) + 255, ip, port)
        for number, ip in enumerate(ips)
    ]
    if config.ice_tcp:
        for number, ip in enumerate(ips):
            local = (_PASSIVE_PREFERENCE << 13) + 8191 - number
            priority = (_TCP_HOST_PREFERENCE << 24) + (local << 8) + 255
            candidates.append(IceCandidate(f"tcp{number}", priority, ip, port, "tcp"))
    return tuple(candidates)


def _open_sockets(
    config: EngineConfig,
    open_socket: Callable[[str, int], DatagramSocket],
    open_listener: Callable[[str, int], StreamListener],
) -> tuple[DatagramSocket, StreamListener | None]:
    """Both on the same port number."""
    for tries_left in reversed(range(_PORT_TRIES)):
        sock = open_socket(config.listen_ip, config.port)
        if not config.ice_tcp:
            return sock, None
        try:
            return sock, open_listener(config.listen_ip, sock.local_address[1])
        except BaseException as error:
            sock.close()
            if not isinstance(error, EngineStartError) or config.port or not tries_left:
                raise
    raise AssertionError("unreachable")


@asynccontextmanager
async def open_engine(
    config: EngineConfig,
    *,
    open_socket: Callable[[str, int], DatagramSocket] = open_udp_socket,
    open_listener: Callable[[str, int], StreamListener] = open_tcp_listener,
    identity: DtlsIdentity | None = None,
) -> AsyncGenerator[Engine, None]:
    """An engine for as long as the block lasts; rooms are opened inside it. Raises `EngineStartError`.

    Tests pass `open_socket` and `open_listener` for an in-memory network, and an `identity` made once.
    """
    opus_library()  # now, and not when the second speaker of the first show comes up
    sock, listener = _open_sockets(config, open_socket, open_listener)
    try:
        candidates = host_candidates(config, sock.local_address[1])
        endpoint = Endpoint(sock, None if listener is None else TcpStreams(listener))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(endpoint.run)
            try:
                yield Engine(endpoint, identity or make_dtls_identity(), candidates, config.limits, config.streams)
            finally:
                nursery.cancel_scope.cancel("media engine closed")
    finally:
        sock.close()
        if listener is not None:
            listener.close()
