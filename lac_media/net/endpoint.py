"""Who gets which datagram, and who is due when: one receive loop and one timer loop for all peers of a process.

Peers are found by remote address, or, for a STUN request from a new one, by the ufrag it names (RFC 8445 7.3). All
work on a datagram is synchronous; the loops await only between bursts.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import structlog
import trio

from lac_media.errors import ParseError
from lac_media.net.udp import DatagramSocket
from lac_media.parameters import Address
from lac_media.proto.demux import PacketKind, classify
from lac_media.proto.peer import PeerClosed, PeerCore, PeerEvent, PeerReached
from lac_media.proto.stun import Message, local_ufrag, parse_stun_untrusted

log = structlog.get_logger(__name__)

#: Datagrams handled between two checkpoints, and for how long: each handshake of a crowd takes half a millisecond.
BURST = 128
TURN_S = 0.003


@dataclass(slots=True)
class EndpointCounters:
    """Datagrams of the whole process. "Unknown" ones belong to no peer and are dropped unanswered."""

    datagrams_in: int = 0
    datagrams_out: int = 0
    dropped_out: int = 0
    unknown_source: int = 0
    malformed: int = 0
    peer_failures: int = 0


class Attachment:
    """One peer on the endpoint. `on_event` is called synchronously with everything that the core reports."""

    __slots__ = ("address", "attached", "core", "on_event", "timer", "ufrags")

    def __init__(self, core: PeerCore, ufrag: str, on_event: Callable[[PeerEvent], None]) -> None:
        self.core = core
        self.on_event = on_event
        self.ufrags: tuple[str, ...] = (ufrag,)
        self.address: Address | None = None
        self.attached = True
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

    def __init__(self, sock: DatagramSocket) -> None:
        self.socket = sock
        self.counters = EndpointCounters()
        self._by_ufrag: dict[str, Attachment] = {}
        self._by_address: dict[Address, Attachment] = {}
        self._timers: list[_Timer] = []
        self._timer_changed = trio.Event()

    @property
    def peer_count(self) -> int:
        """Registered ufrags and addresses: zero when nothing is left over."""
        return len(self._by_ufrag) + len(self._by_address)

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
        """Send one datagram; a full buffer drops and counts."""
        if self.socket.send_nowait(data, address):
            self.counters.datagrams_out += 1
        else:
            self.counters.dropped_out += 1

    def _move(self, attachment: Attachment, address: Address) -> None:
        self._leave_address(attachment)
        attachment.address = address
        self._by_address[address] = attachment

    def _leave_address(self, attachment: Attachment) -> None:
        old, attachment.address = attachment.address, None
        if old is not None and self._by_address.get(old) is attachment:
            del self._by_address[old]

    # The two loops

    async def run(self) -> None:
        """Receive and run timers until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive_loop)
            nursery.start_soon(self._timer_loop)

    async def _receive_loop(self) -> None:
        while True:
            await self.socket.wait_readable()
            try:
                now = trio.current_time()
                turn_ends_at = now + TURN_S
                for _ in range(BURST):
                    data, address = self.socket.receive_nowait()
                    self.counters.datagrams_in += 1
                    self.receive(data, address, now=now)
                    now = trio.current_time()
                    if now >= turn_ends_at:
                        break
            except BlockingIOError:
                continue

    async def _timer_loop(self) -> None:
        while True:
            due = self._timers[0].due if self._timers else float("inf")
            with trio.move_on_at(due):
                await self._timer_changed.wait()
            self._timer_changed = trio.Event()
            self.run_timers(now=trio.current_time())

    def receive(self, data: bytes, address: Address, *, now: float) -> None:
        """Deal with one datagram. Never raises for what the network sent."""
        attachment = self._by_address.get(address)
        kind = classify(data) if data else PacketKind.OTHER
        if kind is PacketKind.STUN:
            try:
                message = parse_stun_untrusted(data)
            except ParseError:
                self.counters.malformed += 1
                return
            # The ufrag decides: a peer may begin anew from the address of an older one.
            attachment = self._by_ufrag.get(local_ufrag(message) or "", attachment)
            if attachment is not None:
                self._receive_stun(attachment, message, address, now)
                return
        elif attachment is not None:
            self._guarded(attachment, lambda core: core.receive_datagram(data, address, now=now))
            return
        self.counters.unknown_source += 1

    def run_timers(self, *, now: float) -> None:
        """Let every peer that is due do what it has to."""
        timers = self._timers
        due: list[Attachment] = []
        while timers and timers[0].due <= now:
            attachment = heapq.heappop(timers).attachment
            if attachment is not None:
                attachment.timer = None
                due.append(attachment)
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

    @staticmethod
    def _void_timer(attachment: Attachment) -> None:
        if attachment.timer is not None:
            attachment.timer.attachment = None
            attachment.timer = None

    def _receive_stun(self, attachment: Attachment, message: Message, address: Address, now: float) -> None:
        def step(core: PeerCore) -> None:
            authentic = core.receive_stun(message, address, now=now)
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
