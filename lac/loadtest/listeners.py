"""Listeners by the thousand in one task: connected one by one, then looked at in rounds.

A listener that is connected costs one `recv` for each packet and a look at its sequence number, which RTP leaves in
the clear (RFC 3711 section 3.1). Only a sample is decrypted, to see that it is the audio that was sent, and how late.
That is how one machine can test itself: the server does far more for each packet.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
from collections.abc import Callable

import trio

from lac_media.errors import EngineStartError
from lac_media.net.peer_task import ClientPeer
from lac_media.net.udp import STAMP_SPACE, UdpSocket, received_at
from lac_media.proto.peer import PeerClosed, PeerEvent
from lac_media.proto.rtcp import ReceiverReport, ReportBlock
from lac_media.proto.seq import SequenceExtender

#: Packets wait in the kernel for so long: five of them, at 50 a second.
ROUND_S = 0.1
#: Listeners looked at between two checkpoints.
SLICE = 100
#: Of `select.epoll.poll`: so many are ready at once at the most.
MAX_READY = 10_000
REPORT_INTERVAL_S = 5.0
#: Larger than any packet of ours.
PACKET_BYTES = 2048
#: Room in the kernel for what comes between two rounds that are late.
RECEIVE_BUFFER = 256 * 1024
_RTP = range(128, 192)
_RTCP = range(64, 96)
_SEQUENCE = struct.Struct("!2xH")
_SSRC = struct.Struct("!8xL")


class Listener:
    """One connection, from its socket to what has come over it. `on_audio(payload, received_at)` is told what a sampled
    one hears, with the Unix time at which the kernel received it."""

    __slots__ = (
        "_first",
        "_highest",
        "_on_audio",
        "_sequences",
        "_ssrc",
        "closed",
        "fd",
        "packets",
        "peer",
        "report_at",
        "sock",
    )

    def __init__(
        self,
        sock: UdpSocket,
        make_peer: Callable[[UdpSocket, Callable[[PeerEvent], None]], ClientPeer],
        on_audio: Callable[[bytes, float], None] | None,
    ) -> None:
        self.sock = sock
        self.fd = sock.socket.fileno()
        self.peer = make_peer(sock, self._on_event)
        self.packets = 0
        self.closed: str | None = None
        self.report_at = 0.0
        self._on_audio = on_audio
        self._sequences = SequenceExtender()
        self._first: int | None = None
        self._highest = 0
        self._ssrc = 0

    @property
    def is_sampled(self) -> bool:
        return self._on_audio is not None

    @property
    def expected(self) -> int:
        """Packets that the server has sent, as the numbering tells."""
        return 0 if self._first is None else self._highest - self._first + 1

    def forget(self) -> None:
        """Count from here on: the numbering before is not this measurement's."""
        self._first = None
        self._sequences.reset()
        self.packets = 0

    def drain(self, buffer: bytearray, now: float) -> None:
        """Take everything that has come."""
        sock = self.sock.socket
        receive = self._receive_sampled if self.is_sampled else self._receive
        try:
            while receive(sock, buffer, now):
                pass
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ECONNREFUSED:
                raise

    def _receive(self, sock: socket.socket, buffer: bytearray, now: float) -> bool:
        size = sock.recv_into(buffer)
        if size > 12 and buffer[0] in _RTP and buffer[1] & 0x7F not in _RTCP:
            self._count(buffer)
        else:
            self._feed(bytes(buffer[:size]), now)
        return True

    def _receive_sampled(self, sock: socket.socket, _buffer: bytearray, now: float) -> bool:
        data, ancillary, _, _ = sock.recvmsg(PACKET_BYTES, STAMP_SPACE)
        if len(data) > 12 and data[0] in _RTP and data[1] & 0x7F not in _RTCP:
            self._count(data)
            if self._on_audio is not None and self.peer.core is not None and self.peer.core.srtp is not None:
                plain = self.peer.core.srtp.unprotect(data)
                if plain is not None:
                    self._on_audio(plain, received_at(ancillary))
        else:
            self._feed(data, now)
        return True

    def _count(self, packet: bytes | bytearray) -> None:
        sequence = self._sequences.extend(_SEQUENCE.unpack_from(packet)[0])
        if self._first is None:
            self._first = self._highest = sequence
            self._ssrc = _SSRC.unpack_from(packet)[0]
        self._highest = max(self._highest, sequence)
        self.packets += 1

    def _feed(self, data: bytes, now: float) -> None:
        core, address = self.peer.core, self.peer.core.remote_address if self.peer.core is not None else None
        if core is not None and address is not None:
            core.receive_datagram(data, address, now=now)
            self.peer.flush()

    def keep_alive(self, now: float) -> None:
        """Checks of ICE, and a report on what has come, when they are due."""
        core = self.peer.core
        if core is None or core.closed:
            return
        if now >= core.timer_at():
            core.handle_timer(now=now)
        if now >= self.report_at and core.srtp is not None and self._first is not None:
            self.report_at = now + REPORT_INTERVAL_S
            lost = max(0, self.expected - self.packets)
            block = ReportBlock(self._ssrc, 0, min(lost, 0x7FFFFF), self._highest & 0xFFFF_FFFF, 0, 0, 0)
            core.send_rtcp([ReceiverReport(self.peer.ssrc, (block,))])
        self.peer.flush()

    def close(self) -> None:
        self.peer.close()
        self.sock.close()

    def _on_event(self, event: PeerEvent) -> None:
        if isinstance(event, PeerClosed):
            self.closed = event.reason


class Swarm:
    """The listeners that are connected. `run` is its one task."""

    def __init__(self) -> None:
        self.listeners: list[Listener] = []
        #: Those that the server, or the network, has closed: reason -> count.
        self.lost: dict[str, int] = {}
        self._by_fd: dict[int, Listener] = {}
        self._epoll = select.epoll()

    def add(self, listener: Listener) -> None:
        self.listeners.append(listener)
        self._by_fd[listener.fd] = listener
        self._epoll.register(listener.fd, select.EPOLLIN)

    async def run(self) -> None:
        buffer = bytearray(PACKET_BYTES)
        while True:
            await trio.sleep(ROUND_S)
            for number, (fd, _) in enumerate(self._epoll.poll(0, MAX_READY)):
                listener = self._by_fd.get(fd)
                if listener is not None:
                    listener.drain(buffer, trio.current_time())
                    if listener.closed is not None:
                        self._remove(listener)
                if number % SLICE == SLICE - 1:
                    await trio.lowlevel.checkpoint()
            await self._keep_alive()

    async def _keep_alive(self) -> None:
        now = trio.current_time()
        for number, listener in enumerate(list(self.listeners)):
            core = listener.peer.core
            if core is not None and (now >= core.timer_at() or now >= listener.report_at):
                listener.keep_alive(now)
                if listener.closed is not None:
                    self._remove(listener)
            if number % SLICE == SLICE - 1:
                await trio.lowlevel.checkpoint()

    def _remove(self, listener: Listener) -> None:
        reason = listener.closed or "closed"
        self.lost[reason] = self.lost.get(reason, 0) + 1
        self.listeners.remove(listener)
        del self._by_fd[listener.fd]
        self._epoll.unregister(listener.fd)
        listener.sock.close()

    def close(self) -> None:
        """Hang up everywhere."""
        for listener in self.listeners:
            listener.close()
        self.listeners.clear()
        self._by_fd.clear()
        self._epoll.close()


def open_client_socket(host: str) -> UdpSocket:
    """A socket of its own, so that the server sees a client of its own. Raises `EngineStartError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        sock.bind(("", 0))
    except OSError as error:
        raise EngineStartError(f"no more sockets ({error.strerror}): raise the limit with ulimit -n") from error
    return UdpSocket(sock)
