"""Listeners by the thousand in one task: connected one by one, then looked at in rounds.

A listener that is connected costs one `recv` for each packet and a look at its sequence number, which RTP leaves in
the clear (RFC 3711 section 3.1). Only a sample is decrypted, to see that it is the audio that was sent, and how late.
That is how one machine can test itself: the server does far more for each packet.

What listeners report of their losses is true, and so the server treats them as it would treat people. With repair they
also ask again for what is missing, and take redundant copies. To have losses on a network that has none, some of what
comes can be thrown away unseen.
"""

from __future__ import annotations

import errno
import random
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

import trio

from lac.loadtest.reception import Copies, Reception, Tally
from lac_media.errors import EngineStartError, ParseError
from lac_media.net.peer_task import ClientPeer
from lac_media.net.udp import STAMP_SPACE, UdpSocket, keep_last_stamp, last_received_at, received_at
from lac_media.proto.peer import PeerClosed, PeerEvent
from lac_media.proto.rtcp import Nack, ReceiverReport, SenderReport, parse_rtcp_untrusted

#: Packets wait in the kernel for so long: five of them, at 50 a second.
ROUND_S = 0.1
#: The same for listeners who ask for what is missing: a question that waits is an answer that comes late. Less would
#: cost more than the packets do.
ROUND_WITH_REPAIR_S = 0.04
#: A sampled listener decrypts one of so many packets.
SAMPLE_EVERY = 2
#: Listeners looked at between two checkpoints.
SLICE = 100
#: Of `select.epoll.poll`: so many are ready at once at the most.
MAX_READY = 10_000
REPORT_INTERVAL_S = 5.0
#: Larger than any packet of ours.
PACKET_BYTES = 2048
#: Room in the kernel for what comes between two rounds that are late.
RECEIVE_BUFFER = 256 * 1024
#: First bytes of RTP and RTCP (RFC 7983), and what tells RTCP from RTP in the second (RFC 5761 section 4).
_MEDIA = range(128, 192)
_RTCP = range(64, 96)
_TIMESTAMP_AND_SSRC = struct.Struct("!4xLL")


@dataclass(frozen=True, slots=True)
class Habits:
    """How a listener deals with losses. It sends NACKs (RFC 4585) if it `asks`, takes redundant copies (RFC 2198) of
    `payload_type` if it was promised any as `red_payload_type`, and loses a share of what comes to it: `lose`."""

    asks: bool = False
    payload_type: int = 0
    red_payload_type: int | None = None
    lose: float = 0.0


class Listener:
    """One connection, from its socket to what has come over it. `on_audio(payload, received_at)` is told what a sampled
    one hears, with the Unix time at which the kernel received it."""

    __slots__ = (
        "_copies",
        "_habits",
        "_on_audio",
        "_random",
        "closed",
        "fd",
        "peer",
        "reception",
        "report_at",
        "sock",
    )

    def __init__(
        self,
        sock: UdpSocket,
        make_peer: Callable[[UdpSocket, Callable[[PeerEvent], None]], ClientPeer],
        on_audio: Callable[[bytes, float], None] | None,
        *,
        seed: int = 0,
    ) -> None:
        self.sock = sock
        self.fd = sock.socket.fileno()
        self.peer = make_peer(sock, self._on_event)
        self.closed: str | None = None
        self.report_at = 0.0
        #: None before the first packet.
        self.reception: Reception | None = None
        self._copies: Copies | None = None
        self._on_audio = on_audio
        self._habits = Habits()
        self._random = random.Random(seed).random  # noqa: S311  the same losses each time are wanted

    @property
    def is_sampled(self) -> bool:
        return self._on_audio is not None

    @property
    def tally(self) -> Tally:
        """Since `forget`. `expected` is what the server has sent, as the numbering tells."""
        return Tally() if self.reception is None else self.reception.since_mark()

    @property
    def is_missing_any(self) -> bool:
        return self.reception is not None and self.reception.is_missing_any

    def behave(self, habits: Habits) -> None:
        """Of a listener that is connected, from its first packet on."""
        self._habits = habits
        if not self.is_sampled:
            keep_last_stamp(self.sock.socket)

    def forget(self) -> None:
        """Count from here on: the numbering before is not this measurement's."""
        if self.reception is not None:
            self.reception.mark()

    def drain(self, buffer: bytearray, now: float) -> None:
        """Take everything that has come."""
        sock = self.sock.socket
        receive = self._receive_sampled if self.is_sampled else self._receive
        try:
            while True:
                receive(sock, buffer, now)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ECONNREFUSED:
                raise

    def _receive(self, sock: socket.socket, buffer: bytearray, now: float) -> None:
        size = sock.recv_into(buffer)
        if size <= 12 or buffer[0] not in _MEDIA:
            self._feed(bytes(buffer[:size]), now)
        elif self._habits.lose and self._random() < self._habits.lose:
            pass
        elif buffer[1] & 0x7F in _RTCP:
            self._hear_report(bytes(buffer[:size]), last_received_at(sock))
        else:
            number = self._count(buffer, now)
            if number is not None and self._copies is not None:
                self._look_for_copies(self._copies, number, buffer, size)

    def _receive_sampled(self, sock: socket.socket, _buffer: bytearray, now: float) -> None:
        data, ancillary, _, _ = sock.recvmsg(PACKET_BYTES, STAMP_SPACE)
        if len(data) <= 12 or data[0] not in _MEDIA:
            self._feed(data, now)
        elif self._habits.lose and self._random() < self._habits.lose:
            pass
        elif data[1] & 0x7F in _RTCP:
            self._hear_report(data, received_at(ancillary))
        else:
            self._hear(data, received_at(ancillary), now)

    def _hear(self, data: bytes, arrived_at: float, now: float) -> None:
        number = self._count(data, now)
        if number is None or self.reception is None:
            return
        timestamp, _ = _TIMESTAMP_AND_SSRC.unpack_from(data)
        if arrived_at and number == self.reception.highest:
            self.reception.measure_jitter(timestamp, arrived_at=arrived_at)
        copies = self._copies
        wanted = copies is not None and data[1] & 0x7F == copies.red_payload_type and copies.wants(number)
        if number % SAMPLE_EVERY and not wanted:
            return
        core = self.peer.core
        plain = None if core is None or core.srtp is None else core.srtp.unprotect(data)
        if plain is None:
            return
        if copies is not None and wanted:
            copies.look(number, plain)
        if self._on_audio is not None:
            self._on_audio(plain, arrived_at)

    def _count(self, packet: bytes | bytearray, now: float) -> int | None:
        """Its extended number, if it is new."""
        sequence = packet[2] << 8 | packet[3]
        if self.reception is not None:
            return self.reception.receive(sequence, now=now)
        habits = self._habits
        self.reception = Reception(_TIMESTAMP_AND_SSRC.unpack_from(packet)[1], sequence, asks=habits.asks)
        if habits.red_payload_type is not None:
            self._copies = Copies(
                self.reception, payload_type=habits.payload_type, red_payload_type=habits.red_payload_type
            )
        return sequence

    def _look_for_copies(self, copies: Copies, number: int, buffer: bytearray, size: int) -> None:
        core = self.peer.core
        if not copies.wants(number) or buffer[1] & 0x7F != copies.red_payload_type or core is None or core.srtp is None:
            return
        plain = core.srtp.unprotect(bytes(buffer[:size]))
        if plain is not None:
            copies.look(number, plain)

    def _hear_report(self, data: bytes, arrived_at: float) -> None:
        core = self.peer.core
        plain = None if core is None or core.srtp is None else core.srtp.unprotect_rtcp(data)
        if plain is None or self.reception is None:
            return
        try:
            packets = parse_rtcp_untrusted(plain)
        except ParseError:
            return
        for packet in packets:
            if isinstance(packet, SenderReport):
                self.reception.receive_sender_report(packet, arrived_at=arrived_at or time.time())

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
        if now >= self.report_at and core.srtp is not None and self.reception is not None:
            self.report_at = now + REPORT_INTERVAL_S
            block = self.reception.report_block(unix_s=time.time())
            core.send_rtcp([ReceiverReport(self.peer.ssrc, (block,))])
        self.peer.flush()

    def ask(self, now: float) -> None:
        """For what is missing, as far as it is time to."""
        core, reception = self.peer.core, self.reception
        if core is None or core.closed or core.srtp is None or reception is None:
            return
        numbers = reception.questions(now=now)
        if numbers:
            core.send_rtcp([Nack(self.peer.ssrc, reception.ssrc, tuple(numbers))])
            self.peer.flush()

    def close(self) -> None:
        self.peer.close()
        self.sock.close()

    def _on_event(self, event: PeerEvent) -> None:
        if isinstance(event, PeerClosed):
            self.closed = event.reason


class Swarm:
    """The listeners that are connected. `run` is its one task. With `repair` it looks at them more often, and lets them
    ask for what is missing."""

    def __init__(self, *, repair: bool = False) -> None:
        self.listeners: list[Listener] = []
        #: Those that the server, or the network, has closed: reason -> count.
        self.lost: dict[str, int] = {}
        self._repair = repair
        self._by_fd: dict[int, Listener] = {}
        #: Who misses something.
        self._asking: dict[Listener, None] = {}
        self._epoll = select.epoll()

    def add(self, listener: Listener) -> None:
        self.listeners.append(listener)
        self._by_fd[listener.fd] = listener
        self._epoll.register(listener.fd, select.EPOLLIN)

    async def run(self) -> None:
        buffer = bytearray(PACKET_BYTES)
        keep_alive_at = 0.0
        while True:
            await trio.sleep(ROUND_WITH_REPAIR_S if self._repair else ROUND_S)
            await self._drain(self._epoll.poll(0, MAX_READY), buffer)
            self._ask(trio.current_time())
            if trio.current_time() >= keep_alive_at:
                keep_alive_at = trio.current_time() + ROUND_S
                await self._keep_alive()

    async def _drain(self, ready: list[tuple[int, int]], buffer: bytearray) -> None:
        now = trio.current_time()
        for number, (fd, _) in enumerate(ready):
            listener = self._by_fd.get(fd)
            if listener is not None:
                listener.drain(buffer, now)
                if listener.closed is not None:
                    self._remove(listener)
                elif self._repair and listener.is_missing_any:
                    self._asking[listener] = None
            if number % SLICE == SLICE - 1:
                await trio.lowlevel.checkpoint()
                now = trio.current_time()

    def _ask(self, now: float) -> None:
        for listener in tuple(self._asking):
            listener.ask(now)
            if not listener.is_missing_any:
                del self._asking[listener]

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
        self._asking.pop(listener, None)
        del self._by_fd[listener.fd]
        self._epoll.unregister(listener.fd)
        listener.sock.close()

    def close(self) -> None:
        """Hang up everywhere."""
        for listener in self.listeners:
            listener.close()
        self.listeners.clear()
        self._by_fd.clear()
        self._asking.clear()
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
