"""Who gets which datagram, and who is due when: one receive loop and one timer loop for all peers of a process. Where
there are TCP connections (`lac_media.net.tcp`), a frame on one of them is a datagram like any other.

Peers are found by remote address, or, for a STUN request from a new one, by the ufrag it names (RFC 8445 7.3). All
work on a datagram is synchronous; the loops await only between bursts. What belongs to a peer that is still connecting
waits until the socket is empty: a crowd's handshakes must not lie in front of the audio.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog
import trio

from lac_media.errors import LocalProtocolError, ParseError
from lac_media.net.batch import LoopBatch, SendBatch, make_batch
from lac_media.net.tcp import TcpStreams
from lac_media.net.udp import DatagramSocket
from lac_media.parameters import Address, TcpAddress
from lac_media.proto.demux import PacketKind, classify
from lac_media.proto.peer import PeerClosed, PeerCore, PeerEvent, PeerReached
from lac_media.proto.stun import Message, local_ufrag, parse_stun_untrusted

log = structlog.get_logger(__name__)

#: Datagrams handled between two checkpoints, and for how long: each handshake of a crowd takes half a millisecond.
BURST = 128
TURN_S = 0.003
#: Datagrams of peers that are connecting, put aside. What finds no room is dropped: their handshakes send it again.
MAX_ASIDE = 2048
#: Timers that are so late have stood behind something else, as the socket has: what came meanwhile is read first, for
#: it may be what they would ask a publisher for. But not for longer than this, should the socket never be empty.
LATE_S = 0.005
READ_FIRST_S = 0.05
#: Void timers stay in the heap until they are due, half a minute later, or until they are more than this and more than
#: the others.
VOID_TIMERS_KEPT = 256
#: TCP connections of one peer: browsers try several and keep a spare.
MAX_CONNECTIONS_PER_PEER = 4


@dataclass(slots=True)
class EndpointCounters:
    """Datagrams of the whole process. "Unknown" ones belong to no peer and are dropped unanswered. `overruns`: those
    for which the kernel had no room before we read them, as `Engine.counters` has last asked. `crowded_out`: those of
    connecting peers for which there was none after that."""

    datagrams_in: int = 0
    datagrams_out: int = 0
    dropped_out: int = 0
    unknown_source: int = 0
    malformed: int = 0
    peer_failures: int = 0
    overruns: int = 0
    crowded_out: int = 0


@dataclass(frozen=True, slots=True)
class _Datagram:
    """One that has been read and belongs to somebody; `message` is what is in it, if it is STUN."""

    attachment: Attachment
    data: bytes
    message: Message | None
    address: Address


class Attachment:
    """One peer on the endpoint. `on_event` is called synchronously with everything that the core reports."""

    __slots__ = ("address", "attached", "connections", "core", "on_event", "timer", "ufrags")

    def __init__(self, core: PeerCore, ufrag: str, on_event: Callable[[PeerEvent], None]) -> None:
        self.core = core
        self.on_event = on_event
        self.ufrags: tuple[str, ...] = (ufrag,)
        self.address: Address | None = None
        self.attached = True
        #: TCP connections on which it has proven itself, the oldest first.
        self.connections: dict[TcpAddress, None] = {}
        #: Its one live entry in the heap of timers.
        self.timer: _Timer | None = None


class _Timer:
    """An entry of the heap. A void one has lost its attachment: it must not keep a dead peer's keys until it is due."""

    __slots__ = ("attachment", "due")

    def __init__(self, due: float, attachment: Attachment) -> None:
        self.due = due
        self.attachment: Attachment | None = attachment

    def __lt__(self, other: _Timer) -> bool:
        return self.due < other.due


class Endpoint:
    """Owns no task: `run` is the task, to be started by the engine. Everything else is synchronous."""

    def __init__(self, sock: DatagramSocket, streams: TcpStreams | None = None) -> None:
        self.socket = sock
        #: None: without ICE-TCP.
        self.streams = streams
        self.counters = EndpointCounters()
        #: How long the datagram that is being dealt with had lain in the socket, seconds.
        self.waited_s = 0.0
        self._by_ufrag: dict[str, Attachment] = {}
        self._by_address: dict[Address, Attachment] = {}
        #: Whose each TCP connection is, the one in use and spare ones.
        self._by_connection: dict[TcpAddress, Attachment] = {}
        self._timers: list[_Timer] = []
        #: How many of them are void.
        self._void_timers = 0
        self._timer_changed = trio.Event()
        #: What belongs to peers that are connecting, the oldest first.
        self._aside: deque[_Datagram] = deque()
        #: The receive loop's last turn ended before the socket was empty.
        self._more_to_read = False

    @property
    def peer_count(self) -> int:
        """Registered ufrags, addresses and connections: zero when nothing is left over."""
        return len(self._by_ufrag) + len(self._by_address) + len(self._by_connection)

    # Registration

    def attach(self, core: PeerCore, ufrag: str, on_event: Callable[[PeerEvent], None]) -> Attachment:
        """Receive for `core` from now on; ended by `detach`."""
        attachment = Attachment(core, ufrag, on_event)
        self._by_ufrag[ufrag] = attachment
        self._schedule(attachment)
        return attachment

    def set_ufrags(self, attachment: Attachment, ufrags: tuple[str, ...]) -> None:
        """The peer restarts ICE: answer to these ufrags and no others."""
        for ufrag in attachment.ufrags:
            del self._by_ufrag[ufrag]
        attachment.ufrags = ufrags
        for ufrag in ufrags:
            self._by_ufrag[ufrag] = attachment

    def detach(self, attachment: Attachment) -> None:
        """Forget the peer. Idempotent."""
        attachment.attached = False
        self.set_ufrags(attachment, ())
        self._leave_address(attachment)
        self._void_timer(attachment)
        for connection in tuple(attachment.connections):
            self._end_connection(connection)

    def flush(self, attachment: Attachment) -> None:
        """Send what the core has to send, report its events, renew its deadline. Call after every local request."""
        core = attachment.core
        for data, address in core.datagrams_to_send():
            self.send(data, address)
        for event in core.events():
            if isinstance(event, PeerReached):
                self._move(attachment, event.address)
            attachment.on_event(event)
        self._schedule(attachment)

    def send(self, data: bytes, address: Address) -> None:
        """Send one datagram, or one frame; a full buffer drops and counts."""
        if isinstance(address, TcpAddress):
            if self.streams is not None:
                self.streams.send_nowait(data, address)  # counts for itself
        elif self.socket.send_nowait(data, address):
            self.counters.datagrams_out += 1
        else:
            self.counters.dropped_out += 1

    def make_batch(self, slots: int) -> SendBatch:
        """For listeners that are reached by UDP."""
        return make_batch(self.socket, slots)

    def make_tcp_batch(self, slots: int) -> SendBatch:
        """For listeners that are reached over TCP connections. Raises `LocalProtocolError` without ICE-TCP."""
        if self.streams is None:
            raise LocalProtocolError("there are no TCP connections")
        return LoopBatch(self.streams, slots)

    def _move(self, attachment: Attachment, address: Address) -> None:
        self._leave_address(attachment)
        attachment.address = address
        self._by_address[address] = attachment

    def _leave_address(self, attachment: Attachment) -> None:
        old, attachment.address = attachment.address, None
        if old is not None and self._by_address.get(old) is attachment:
            del self._by_address[old]

    # TCP connections

    def _receive_frame(self, data: bytes, connection: TcpAddress) -> None:
        self.receive(data, connection, now=trio.current_time())

    def _proven(self, attachment: Attachment, connection: TcpAddress, now: float) -> None:
        """The peer has proven itself on this connection. One too many takes the place of the oldest not in use."""
        if self.streams is None:
            return
        self.streams.prove(connection, now=now)
        if self._by_connection.get(connection) is attachment:
            return
        self._forget_connection(connection)
        self._by_connection[connection] = attachment
        attachment.connections[connection] = None
        spare = [other for other in attachment.connections if other not in (connection, attachment.core.remote_address)]
        if len(attachment.connections) > MAX_CONNECTIONS_PER_PEER:
            self._end_connection(spare[0])

    def _end_connection(self, connection: TcpAddress) -> None:
        self._forget_connection(connection)
        if self.streams is not None:
            self.streams.end(connection)

    def _forget_connection(self, connection: TcpAddress) -> None:
        attachment = self._by_connection.pop(connection, None)
        if attachment is not None:
            del attachment.connections[connection]

    def _connection_closed(self, connection: TcpAddress) -> None:
        """The peer may be back on another one: its session goes on until ICE gives it up."""
        self._forget_connection(connection)
        attachment = self._by_address.get(connection)
        if attachment is not None:
            self._leave_address(attachment)
            attachment.core.path_lost(connection)

    # The loops

    async def run(self) -> None:
        """Receive and run timers until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive_loop)
            nursery.start_soon(self._timer_loop)
            if self.streams is not None:
                nursery.start_soon(self.streams.run, self._receive_frame, self._connection_closed)

    async def _receive_loop(self) -> None:
        while True:
            if self._aside:
                await trio.lowlevel.checkpoint()
            else:
                await self.socket.wait_readable()
            self._more_to_read = True
            now = trio.current_time()
            turn_ends_at = now + TURN_S
            for _ in range(BURST):
                if not self._read_one(now) and not self._deal_with_one_aside(now):
                    break
                now = trio.current_time()
                if now >= turn_ends_at:
                    # A socket that is never empty keeps nobody from connecting for ever.
                    self._deal_with_one_aside(now)
                    break

    def _read_one(self, now: float) -> bool:
        """Read one datagram and deal with it, or put it aside. False if there is none."""
        try:
            data, address = self.socket.receive_nowait()
        except BlockingIOError:
            self._more_to_read = False
            return False
        self.counters.datagrams_in += 1
        datagram = self._find(data, address)
        if datagram is None:
            return True
        if datagram.attachment.core.srtp is not None:
            self.waited_s = self.socket.waited_s
            self._deal_with(datagram, now)
            self.waited_s = 0.0
        elif len(self._aside) < MAX_ASIDE:
            self._aside.append(datagram)
        else:
            self.counters.crowded_out += 1
        return True

    def _deal_with_one_aside(self, now: float) -> bool:
        """False if there is none."""
        if not self._aside:
            return False
        datagram = self._aside.popleft()
        if datagram.attachment.attached:
            self._deal_with(datagram, now)
        return True

    async def _timer_loop(self) -> None:
        while True:
            with trio.move_on_at(self._next_due()):
                await self._timer_changed.wait()
            self._timer_changed = trio.Event()
            woken_at = trio.current_time()
            if woken_at - self._next_due() > LATE_S:
                await trio.lowlevel.checkpoint()  # where there is something to read, the receive loop is awake, too
                while self._more_to_read and trio.current_time() < woken_at + READ_FIRST_S:
                    await trio.lowlevel.checkpoint()
            self.run_timers(now=trio.current_time())

    def _next_due(self) -> float:
        return self._timers[0].due if self._timers else float("inf")

    def receive(self, data: bytes, address: Address, *, now: float) -> None:
        """Deal with one datagram at once. Never raises for what the network sent."""
        datagram = self._find(data, address)
        if datagram is not None:
            self._deal_with(datagram, now)

    def _find(self, data: bytes, address: Address) -> _Datagram | None:
        """Whose it is; None, and counted, if nobody's."""
        attachment, message = self._by_address.get(address), None
        kind = classify(data) if data else PacketKind.OTHER
        if kind is PacketKind.STUN:
            try:
                message = parse_stun_untrusted(data)
            except ParseError:
                self.counters.malformed += 1
                return None
            # The ufrag decides: a peer may begin anew from the address of an older one.
            attachment = self._by_ufrag.get(local_ufrag(message) or "", attachment)
        if attachment is None:
            self.counters.unknown_source += 1
            return None
        return _Datagram(attachment, data, message, address)

    def _deal_with(self, datagram: _Datagram, now: float) -> None:
        data, address = datagram.data, datagram.address
        if datagram.message is not None:
            self._receive_stun(datagram.attachment, datagram.message, address, now)
        else:
            self._guarded(datagram.attachment, lambda core: core.receive_datagram(data, address, now=now))

    def run_timers(self, *, now: float) -> None:
        """Let every peer that is due do what it has to."""
        due: list[Attachment] = []
        while self._timers and self._timers[0].due <= now:
            attachment = heapq.heappop(self._timers).attachment
            if attachment is not None:
                attachment.timer = None
                due.append(attachment)
            else:
                self._void_timers -= 1
        # Each once: a peer that is due again at once gets its turn in the next round, and the loop its checkpoint.
        for attachment in due:
            if not attachment.attached:
                continue  # closed by what another one's timer brought about
            if attachment.core.timer_at() <= now:
                self._guarded(attachment, lambda core: core.handle_timer(now=now))
            else:
                self._schedule(attachment)

    def _schedule(self, attachment: Attachment) -> None:
        """Deadlines mostly move back (a check renews consent); those are looked at again when the old one is due."""
        if not attachment.attached:
            return
        due = attachment.core.timer_at()
        if attachment.timer is None or due < attachment.timer.due:
            self._void_timer(attachment)
            if due == float("inf"):
                return
            timer = attachment.timer = _Timer(due, attachment)
            heapq.heappush(self._timers, timer)
            if self._timers[0] is timer:
                self._timer_changed.set()

    def _void_timer(self, attachment: Attachment) -> None:
        if attachment.timer is None:
            return
        attachment.timer.attachment = None
        attachment.timer = None
        self._void_timers += 1
        if self._void_timers > max(VOID_TIMERS_KEPT, len(self._timers) // 2):
            self._timers = [timer for timer in self._timers if timer.attachment is not None]
            heapq.heapify(self._timers)
            self._void_timers = 0

    def _receive_stun(self, attachment: Attachment, message: Message, address: Address, now: float) -> None:
        def step(core: PeerCore) -> None:
            authentic = core.receive_stun(message, address, now=now)
            if authentic and isinstance(address, TcpAddress):
                self._proven(attachment, address, now)
            # This peer's proven address may meanwhile have been claimed by another, with a forged source.
            if authentic and address == core.remote_address and self._by_address.get(address) is not attachment:
                self._move(attachment, address)

        self._guarded(attachment, step)

    def _guarded(self, attachment: Attachment, step: Callable[[PeerCore], None]) -> None:
        """Boundary: a bug in one peer's handling ends that peer, not the process."""
        try:
            step(attachment.core)
            self.flush(attachment)
        except Exception:
            log.exception("peer failed")
            self.counters.peer_failures += 1
            attachment.on_event(PeerClosed("failed", "internal error"))
