"""ICE-TCP: passive TCP candidates (RFC 6544) for networks that block UDP. One listener, one task for each connection.

What comes in a frame goes the way of every datagram. What goes out is written at once or, as far as the kernel does not
take it, kept in a bounded buffer; when that is full, packets are dropped and counted. Nobody waits for a slow reader.
"""

from __future__ import annotations

import contextvars
import ipaddress
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import structlog
import trio

from lac_media.errors import ParseError
from lac_media.net.stream_socket import StreamListener, StreamSocket
from lac_media.parameters import Address, TcpAddress, UdpAddress
from lac_media.proto.demux import PacketKind, classify
from lac_media.proto.framing import MAX_FRAME, FrameParser, encode_frame
from lac_media.proto.ice import CONSENT_TIMEOUT_S

log = structlog.get_logger(__name__)

#: A connection on which no authentic check has come for this long after it was opened is closed.
PROOF_S = 5.0
#: Open at the same time: all; those without an authentic check so far; of these, from one IPv4 address or IPv6 /64.
MAX_CONNECTIONS = 4096
MAX_UNPROVEN = 512
MAX_UNPROVEN_PER_ADDRESS = 64
#: Of one connection, beyond what the kernel holds: about half a second of music.
MAX_UNSENT_BYTES = 16 * 1024
#: Read at once: enough for any frame, little enough for a flood of tiny ones not to hold up the others.
READ_BYTES = 2 * MAX_FRAME


@dataclass(slots=True)
class TcpCounters:
    """`refused`: connections beyond a limit. `unproven`: closed because they did not become anybody's in time, or were
    not ICE at all. `dropped`: packets that a slow connection did not take."""

    accepted: int = 0
    refused: int = 0
    unproven: int = 0
    frames_in: int = 0
    dropped: int = 0


class TcpConnection:
    """One connection. `run` is its task; the rest is synchronous. `on_frame` is called with every frame, and must not
    raise."""

    def __init__(
        self, sock: StreamSocket, address: TcpAddress, on_frame: Callable[[bytes, TcpAddress], None], *, now: float
    ) -> None:
        self.address = address
        self.ended = False
        #: Whether an authentic check has ever come on it.
        self.proven = False
        self._sock = sock
        self._on_frame = on_frame
        self._parser = FrameParser()
        self._unsent = bytearray()
        self._deadline = now + PROOF_S
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None

    def prove(self, *, now: float) -> None:
        """An authentic check has come on it."""
        self.proven = True
        self._deadline = now + CONSENT_TIMEOUT_S

    def send_nowait(self, data: bytes) -> bool:
        """Send one frame, whole or not at all. False if it was dropped."""
        if self.ended or (self._unsent and len(self._unsent) + len(data) > MAX_UNSENT_BYTES):
            return False
        frame = encode_frame(data)
        taken = 0 if self._unsent else self._write(frame)
        if taken < len(frame) and not self.ended:
            self._keep(frame[taken:])
        return not self.ended

    def end(self) -> None:
        """Close it: what the kernel has not taken by now is lost. Idempotent."""
        self.ended = True
        self._scope.cancel("connection ended")

    async def run(self) -> None:
        """Read until either side ends it, or until nothing authentic has come for too long. Closes the socket."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    try:
                        await self._read()
                    finally:
                        self.end()  # before the nursery closes: nobody may then want to send
        finally:
            self.ended = True
            self._nursery = None
            self._sock.close()

    async def _read(self) -> None:
        while not self.ended:
            with trio.move_on_at(self._deadline):
                await self._sock.wait_readable()
            if trio.current_time() >= self._deadline:
                return
            try:
                data = self._sock.receive_nowait(READ_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                return
            if not data:
                return
            try:
                self._take(data)
            except ParseError:
                return

    def _take(self, data: bytes) -> None:
        for frame in self._parser.feed_untrusted(data):
            if self.ended:
                return
            if not self.proven and classify(frame) is not PacketKind.STUN:
                raise ParseError("a connection of a peer begins with a check")
            self._on_frame(frame, self.address)

    def _write(self, data: bytes | bytearray) -> int:
        """How many bytes the kernel has taken. An error ends the connection."""
        try:
            return self._sock.send_nowait(data)
        except BlockingIOError:
            return 0
        except OSError:
            self.end()
            return 0

    def _keep(self, rest: bytes) -> None:
        """Have the rest of a frame, or a frame behind others, sent when the kernel takes more."""
        begins = not self._unsent
        self._unsent += rest
        if begins and self._nursery is not None:
            # A clean context: whoever sends may be somebody's request.
            contextvars.Context().run(self._nursery.start_soon, self._send_rest)

    async def _send_rest(self) -> None:
        while self._unsent:
            await self._sock.wait_writable()
            del self._unsent[: self._write(self._unsent)]


class TcpStreams:
    """All connections of a process. Owns no task: `run` is the task, to be started by the endpoint."""

    def __init__(self, listener: StreamListener) -> None:
        self.listener = listener
        self.counters = TcpCounters()
        self._connections: dict[TcpAddress, TcpConnection] = {}
        self._numbers = itertools.count(1)
        #: Connections that are nobody's yet, by where they come from.
        self._unproven: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._connections)

    def send_nowait(self, data: bytes, address: Address) -> bool:
        """Send one packet over the connection with this address; False if it was dropped, or there is none."""
        connection = self._connections.get(address) if isinstance(address, TcpAddress) else None
        if connection is not None and connection.send_nowait(data):
            return True
        self.counters.dropped += 1
        return False

    def prove(self, address: TcpAddress, *, now: float) -> None:
        """An authentic check has come over this connection."""
        connection = self._connections.get(address)
        if connection is not None:
            if not connection.proven:
                self._forget_unproven(address)
            connection.prove(now=now)

    def end(self, address: TcpAddress) -> None:
        """Close this connection, if it is still there."""
        connection = self._connections.get(address)
        if connection is not None:
            connection.end()

    async def run(self, on_frame: Callable[[bytes, TcpAddress], None], on_closed: Callable[[TcpAddress], None]) -> None:
        """Accept and read until cancelled; closes the listener."""

        def take(frame: bytes, address: TcpAddress) -> None:
            self.counters.frames_in += 1
            on_frame(frame, address)

        try:
            async with trio.open_nursery() as nursery:
                while True:
                    sock = await self.listener.accept()
                    if self._refuses(sock.remote_address):
                        self.counters.refused += 1
                        sock.close()
                    else:  # counted before its task runs: a burst must not slip through
                        nursery.start_soon(self._serve, self._admit(sock, take), on_closed)
        finally:
            self.listener.close()

    def _refuses(self, remote: UdpAddress) -> bool:
        unproven = self._unproven
        return (
            len(self._connections) >= MAX_CONNECTIONS
            or sum(unproven.values()) >= MAX_UNPROVEN
            or unproven.get(network_of(remote[0]), 0) >= MAX_UNPROVEN_PER_ADDRESS
        )

    def _admit(self, sock: StreamSocket, on_frame: Callable[[bytes, TcpAddress], None]) -> TcpConnection:
        address = TcpAddress(*sock.remote_address, next(self._numbers))
        connection = TcpConnection(sock, address, on_frame, now=trio.current_time())
        network = network_of(address.ip)
        self.counters.accepted += 1
        self._connections[address] = connection
        self._unproven[network] = self._unproven.get(network, 0) + 1
        return connection

    async def _serve(self, connection: TcpConnection, on_closed: Callable[[TcpAddress], None]) -> None:
        try:
            await connection.run()
        except Exception:  # boundary: one connection, not all of them
            log.exception("tcp connection failed")
        finally:
            del self._connections[connection.address]
            if not connection.proven:
                self.counters.unproven += 1
                self._forget_unproven(connection.address)
            on_closed(connection.address)

    def _forget_unproven(self, address: TcpAddress) -> None:
        network = network_of(address.ip)
        self._unproven[network] -= 1
        if not self._unproven[network]:
            del self._unproven[network]


def network_of(ip: str) -> str:
    """What counts as one address: a whole /64 of IPv6 belongs to one connection to the internet."""
    address = ipaddress.ip_address(ip)
    if address.version == 4:
        return ip
    return str(ipaddress.IPv6Network((int(address), 64), strict=False))
