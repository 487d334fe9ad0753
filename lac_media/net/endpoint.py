"""Who gets which datagram, and who is due when: one receive loop and one timer loop for all peers of a process.

Peers are found by remote address, or, for a STUN request from a new one, by the ufrag it names (RFC 8445 7.3). All
work on a datagram is synchronous; the loops await only between bursts.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import structlog
import trio

from lac_media.errors import ParseError
from lac_media.net.udp import DatagramSocket
from lac_media.parameters import Address
from lac_media.proto.demux import PacketKind, classify
from lac_media.proto.peer import PeerClosed, PeerCore, PeerEvent, PeerReached
from lac_media.proto.stun import local_ufrag, parse_stun_untrusted

log = structlog.get_logger(__name__)

#: Datagrams handled between two checkpoints: about 10 ms of work at the worst.
BURST = 128


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

    __slots__ = ("addresses", "core", "due_at", "on_event", "ufrags")

    def __init__(self, core: PeerCore, ufrag: str, on_event: Callable[[PeerEvent], None]) -> None:
        self.core = core
        self.on_event = on_event
        self.ufrags = {ufrag}
        self.addresses: set[Address] = set()
        #: When the timer loop will look at this peer next; infinity when it is not in the heap.
        self.due_at = float("inf")


class Endpoint:
    """Owns no task: `run` is the task, to be started by the engine. Everything else is synchronous."""

    def __init__(self, sock: DatagramSocket) -> None:
        self.socket = sock
        self.counters = EndpointCounters()
        self._by_ufrag: dict[str, Attachment] = {}
        self._by_address: dict[Address, Attachment] = {}
        self._timers: list[tuple[float, int, Attachment]] = []
        self._order = itertools.count()
        self._timer_changed = trio.Event()

    @property
    def peer_count(self) -> int:
        """Registered ufrags: zero when nothing is left over."""
        return len(self._by_ufrag) + len(self._by_address)

    # Registration

    def attach(self, core: PeerCore, ufrag: str, on_event: Callable[[PeerEvent], None]) -> Attachment:
        """Receive for `core` from now on; ended by `detach`."""
        attachment = Attachment(core, ufrag, on_event)
        self._by_ufrag[ufrag] = attachment
        self._schedule(attachment)
        return attachment

    def add_ufrag(self, attachment: Attachment, ufrag: str) -> None:
        """The peer restarts ICE: answer to this ufrag as well."""
        attachment.ufrags.add(ufrag)
        self._by_ufrag[ufrag] = attachment

    def detach(self, attachment: Attachment) -> None:
        """Forget the peer. Idempotent."""
        for ufrag in attachment.ufrags:
            self._by_ufrag.pop(ufrag, None)
        for address in attachment.addresses:
            if self._by_address.get(address) is attachment:
                del self._by_address[address]
        attachment.ufrags.clear()
        attachment.addresses.clear()
        attachment.due_at = float("-inf")  # its entry in the heap is void

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
        for old in attachment.addresses:
            if self._by_address.get(old) is attachment:
                del self._by_address[old]
        attachment.addresses = {address}
        self._by_address[address] = attachment

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
                for _ in range(BURST):
                    data, address = self.socket.receive_nowait()
                    self.counters.datagrams_in += 1
                    self.receive(data, address, now=now)
            except BlockingIOError:
                continue

    async def _timer_loop(self) -> None:
        while True:
            due = self._timers[0][0] if self._timers else float("inf")
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
                self._guarded(attachment, lambda core: core.receive_stun(message, address, now=now))
                return
        elif attachment is not None:
            self._guarded(attachment, lambda core: core.receive_datagram(data, address, now=now))
            return
        self.counters.unknown_source += 1

    def run_timers(self, *, now: float) -> None:
        """Let every peer that is due do what it has to."""
        timers = self._timers
        while timers and timers[0][0] <= now:
            due, _, attachment = heapq.heappop(timers)
            if due != attachment.due_at:
                continue  # detached, or an earlier entry took its place
            attachment.due_at = float("inf")
            if attachment.core.timer_at() <= now:
                self._guarded(attachment, lambda core: core.handle_timer(now=now))
            else:
                self._schedule(attachment)

    def _schedule(self, attachment: Attachment) -> None:
        """Deadlines mostly move back (a check renews consent); those are looked at again when the old one is due."""
        if attachment.due_at == float("-inf"):
            return
        due = attachment.core.timer_at()
        if due < attachment.due_at:
            attachment.due_at = due
            heapq.heappush(self._timers, (due, next(self._order), attachment))
            if self._timers[0][2] is attachment:
                self._timer_changed.set()

    def _guarded(self, attachment: Attachment, step: Callable[[PeerCore], None]) -> None:
        """Boundary: a bug in one peer's handling ends that peer, not the process."""
        try:
            step(attachment.core)
            self.flush(attachment)
        except Exception:
            log.exception("peer failed")
            self.counters.peer_failures += 1
            attachment.on_event(PeerClosed("failed", "internal error"))
