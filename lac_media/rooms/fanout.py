"""Delivering the program to its audience: per packet one plaintext for each group of like listeners, sent in slices.

No listener has a queue or a wake-up of its own. What the kernel does not take is dropped and counted.

The program has variants (`lac_media.parameters.Variant`), each made once for all who get it. What went out is kept for
a second as it went out, because nothing else may ever go out under the same number: with another plaintext the key
stream of SRTP would be used twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple

import trio

from lac_media.errors import LocalProtocolError
from lac_media.net.batch import SendBatch
from lac_media.parameters import Address, ConsumerParameters, TcpAddress, Variant
from lac_media.proto.opus import is_dtx
from lac_media.proto.red import MAX_REDUNDANT_BYTES, MAX_TIMESTAMP_OFFSET, build_red
from lac_media.proto.srtp import SrtpSession
from lac_media.rooms.economy import Economy
from lac_media.rooms.line import PacketRing, ProgramPacket
from lac_media.rooms.program import MAX_PAYLOAD

#: Listeners per system call: about half a millisecond.
SLICE = 100
#: After so much work in one go everything else gets its turn: about 2,500 listeners. Giving way more often would let a
#: busy API stand before every slice, and the audience wait for it.
TURN_S = 0.02

_HEADER = Struct("!BBHLL")
_LEVEL_EXTENSION = Struct("!HHBBxx")
#: What RED adds to a copy, and to the frame itself (RFC 2198 section 3).
RED_COPY_BYTES, RED_BYTES = 4, 1
#: How many of the packets before go along, as copies or once more. Where one in ten is lost one in a hundred is lost
#: twice, and that is more than may be heard.
COPIES = 2
#: Beyond the first only those of so many bytes, 80 kbit/s: three times as much of music would fill many a network.
SMALL_BYTES = 200
#: How many deliveries a packet may be behind to be sent to listeners of `Variant.OPUS_AGAIN` once more; and how many a
#: listener must have had before it becomes one. Nobody is sent a packet from before its first one (see `Seat.since`).
AGAIN_REACH = 10


class Form(NamedTuple):
    """Everything that the plaintext of a packet depends on beside the packet. Listeners with the same share it."""

    variant: Variant
    payload_type: int
    audio_level_extension_id: int | None
    #: Of `Variant.OPUS_RED` only.
    red_payload_type: int | None
    ssrc: int


def form_of(seat: Seat, variant: Variant) -> Form:
    parameters = seat.parameters
    red = parameters.red_payload_type if variant is Variant.OPUS_RED else None
    return Form(variant, parameters.payload_type, parameters.audio_level_extension_id, red, seat.ssrc)


@dataclass(slots=True)
class Count:
    """Of what was sent: packets, and the bytes of their payloads, as sender reports have them."""

    packets: int = 0
    octets: int = 0

    def add(self, octets: int) -> None:
        self.packets += 1
        self.octets += octets


@dataclass(frozen=True, slots=True)
class Delivery:
    """One packet of a stream, as it went out. `number` counts deliveries, whatever their sequence numbers; `copies` are
    the packets before it that listeners with redundancy got along with it, the oldest first."""

    packet: ProgramPacket
    number: int
    copies: tuple[ProgramPacket, ...] = ()

    @property
    def sequence(self) -> int:
        return self.packet.sequence

    @property
    def sent_at(self) -> float:
        return self.packet.sent_at


class Seat:
    """A listener's place in the fan-out: slot `index` of a slice."""

    __slots__ = (
        "address",
        "before",
        "index",
        "more",
        "parameters",
        "since",
        "slice",
        "srtp",
        "ssrc",
        "switched_at",
        "variant",
    )

    def __init__(
        self, parameters: ConsumerParameters, ssrc: int, srtp: SrtpSession, address: Address, *, since: int
    ) -> None:
        self.parameters = parameters
        self.ssrc = ssrc
        self.srtp = srtp
        self.address = address
        self.slice: _Slice | None = None
        self.index = 0
        self.variant = Variant.OPUS3 if parameters.economy else Variant.OPUS
        #: The first delivery that may be repeated. What is older the listener's SRTP session has never seen, and around
        #: a wrap of the sequence it would take it for the next round.
        self.since = since
        #: The first delivery in the present variant, and what those before it were in.
        self.switched_at = since
        self.before = self.variant
        #: What it was sent beyond (or short of) somebody who has always been in its present variant.
        self.more = Count()


class _Slice:
    """Listeners who are reached in the same way: all by UDP or all over TCP."""

    __slots__ = ("batch", "group", "over_tcp", "seats")

    def __init__(self, group: _Group, batch: SendBatch, *, over_tcp: bool) -> None:
        self.group = group
        self.batch = batch
        self.over_tcp = over_tcp
        self.seats: list[Seat] = []


class _Group:
    """Listeners who get byte-identical plaintext."""

    __slots__ = ("form", "slices")

    def __init__(self, form: Form) -> None:
        self.form = form
        self.slices: list[_Slice] = []


class Fanout:
    """The audience of one program. `make_batch(n)` gives a batch of n slots on the process's socket,
    `make_tcp_batch(n)` one for those who are reached over TCP, if anybody can be. Without an `economy` nobody can be
    seated who wants one."""

    def __init__(
        self,
        ssrc: int,
        make_batch: Callable[[int], SendBatch],
        *,
        make_tcp_batch: Callable[[int], SendBatch] | None = None,
        economy: Economy | None = None,
    ) -> None:
        self._ssrc = ssrc
        self._make_batch = make_batch
        self._make_tcp_batch = make_tcp_batch or make_batch
        self._economy = economy
        self._groups: dict[Form, _Group] = {}
        #: Who is to get another variant from the next packet on.
        self._switches: dict[Seat, Variant] = {}
        #: Who is reached in another way from the next packet on: by UDP instead of TCP, or the other way round.
        self._movers: dict[Seat, None] = {}
        #: For each variant, what those have been sent who have had it from the beginning.
        self.counts = {variant: Count() for variant in Variant}
        self._deliveries = 0
        self._sent = PacketRing[Delivery]()
        self._sent_joined = PacketRing[Delivery]()
        self.listeners = 0
        self.listeners_by_variant: Counter[Variant] = Counter()
        self.packets_out = 0
        #: Deliveries that the kernel did not take.
        self.dropped = 0
        #: Listeners moved to another variant.
        self.switched = 0

    def add(
        self, parameters: ConsumerParameters, srtp: SrtpSession, address: Address, *, ssrc: int | None = None
    ) -> Seat:
        """Seat a listener; it gets everything from the next packet on. `ssrc` is the program's own unless this SRTP
        session has had a seat under that before: see `lac_media.rooms.session.Session.consume`."""
        if parameters.economy and self._economy is None:
            raise LocalProtocolError("this program has no economy variant")
        if ssrc is None:
            ssrc = self._economy.ssrc if parameters.economy and self._economy is not None else self._ssrc
        seat = Seat(parameters, ssrc, srtp, address, since=self._deliveries + 1)
        self._enter(seat)
        self.listeners += 1
        return seat

    def move(self, seat: Seat, address: Address) -> None:
        """The listener is at another address now. What is just being delivered still goes where it began to go if the
        new address needs another slice: one that is served already, or still to be served, would miss it or get it
        twice."""
        seat.address = address
        part = seat.slice
        if part is None:
            return
        if part.over_tcp == isinstance(address, TcpAddress):
            part.batch.set_slot(seat.index, seat.srtp, address)
        else:
            self._movers[seat] = None

    def switch(self, seat: Seat, variant: Variant) -> None:
        """Give the listener another variant from the next packet on. One that is just being delivered still goes out
        to everyone as it began: none is missed, none comes twice. `LocalProtocolError` for a variant that is not
        numbered as the present one is, or that the listener cannot take."""
        red = seat.parameters.red_payload_type
        if Variant.OPUS3 in (variant, seat.variant) or (variant is Variant.OPUS_RED and red is None):
            raise LocalProtocolError(f"a listener to {seat.variant} cannot be switched to {variant}")
        if seat.slice is not None:
            self._switches[seat] = variant

    def remove(self, seat: Seat) -> None:
        """Give the seat up. Idempotent."""
        if seat.slice is None:
            return
        self._switches.pop(seat, None)
        self._movers.pop(seat, None)
        self._leave(seat, seat.slice)
        self.listeners -= 1
        if self._economy is not None and not self.listeners_by_variant[Variant.OPUS3]:
            self._economy.clear()

    def retransmission(self, seat: Seat, sequence: int, *, now: float) -> bytes | None:
        """The plaintext under this 16-bit sequence number as this listener was sent it; None if it was not, or too long
        ago to be worth sending again (RFC 4585 section 6.2.1)."""
        joined = seat.variant is Variant.OPUS3
        delivery = (self._sent_joined if joined else self._sent).find(sequence, now=now)
        if delivery is None or delivery.number < seat.since or seat.slice is None:
            return None
        variant = seat.variant if delivery.number >= seat.switched_at else seat.before
        return _encode(form_of(seat, variant), delivery)

    def deliver(self, packet: ProgramPacket) -> Iterator[None]:
        """Deliver one packet to everyone, in each listener's variant: synchronously, while the iterator is stepped to
        its end. Each step is a turn at most; what happens between two steps is the caller's business, but another
        delivery may not begin before this one has ended."""
        self._apply_switches()
        self._deliveries += 1
        before: list[Delivery] = []
        copies: tuple[ProgramPacket, ...] = ()
        if self.listeners_by_variant[Variant.OPUS_RED] or self.listeners_by_variant[Variant.OPUS_AGAIN]:
            before = self._before(packet)
            copies = copies_for(packet, [earlier.packet for earlier in before])
        delivery = Delivery(packet, self._deliveries, copies)
        self._sent.add(delivery)
        size = len(packet.payload)
        self.counts[Variant.OPUS].add(size)
        self.counts[Variant.OPUS_AGAIN].add(size)
        self.counts[Variant.OPUS_RED].add(red_size(packet, copies))
        yield from self._deliver(delivery, (Variant.OPUS, Variant.OPUS_RED, Variant.OPUS_AGAIN))
        for earlier in before:
            if earlier.packet in copies and self._deliveries - earlier.number <= AGAIN_REACH:
                self.counts[Variant.OPUS_AGAIN].add(len(earlier.packet.payload))
                yield from self._deliver(earlier, (Variant.OPUS_AGAIN,))
        if self._economy is not None and self.listeners_by_variant[Variant.OPUS3]:
            yield from self._deliver_joined(self._economy.receive(packet, now=trio.current_time()))

    def handle_timer(self, *, now: float) -> Iterator[None]:
        """Deliver joined packets that have waited long enough for more, as `deliver` does."""
        if self._economy is not None:
            yield from self._deliver_joined(self._economy.handle_timer(now=now))

    def timer_at(self) -> float:
        """When `handle_timer` has something to do; infinity for never."""
        return float("inf") if self._economy is None else self._economy.timer_at()

    async def send_report(self, report: Callable[[int, int, int], bytes]) -> None:
        """Deliver a compound RTCP packet to everyone. `report(ssrc, packets, octets)` writes it for whoever was sent so
        much under this SSRC: mostly it is the same for all."""
        written: dict[tuple[int, int, int], bytes] = {}
        for group in tuple(self._groups.values()):
            usual = self.counts[group.form.variant]
            for part in tuple(group.slices):
                texts = []
                for seat in part.seats:
                    sent = (seat.ssrc, usual.packets + seat.more.packets, usual.octets + seat.more.octets)
                    text = written.get(sent)
                    if text is None:
                        text = written[sent] = report(*sent)
                    texts.append(text)
                self.dropped += part.batch.send_rtcp(texts)
                await trio.lowlevel.checkpoint()

    def _before(self, packet: ProgramPacket) -> list[Delivery]:
        """Those right before this packet, as far as they went out, the newest first."""
        found = (
            self._sent.find((packet.sequence - distance) & 0xFFFF, now=packet.sent_at)
            for distance in range(1, COPIES + 1)
        )
        return [delivery for delivery in found if delivery is not None]

    def _deliver_joined(self, packets: Iterable[ProgramPacket]) -> Iterator[None]:
        for packet in packets:
            self._deliveries += 1
            delivery = Delivery(packet, self._deliveries)
            self._sent_joined.add(delivery)
            self.counts[Variant.OPUS3].add(len(packet.payload))
            yield from self._deliver(delivery, (Variant.OPUS3,))

    def _deliver(self, delivery: Delivery, variants: tuple[Variant, ...]) -> Iterator[None]:
        """To everyone in these variants."""
        self._apply_moves()
        turn_ends_at = trio.current_time() + TURN_S
        for group in tuple(self._groups.values()):
            if group.form.variant not in variants:
                continue
            plain = _encode(group.form, delivery)
            for part in tuple(group.slices):
                if trio.current_time() >= turn_ends_at:
                    yield
                    turn_ends_at = trio.current_time() + TURN_S
                count = len(part.seats)
                self.dropped += part.batch.send_rtp(plain, count)
                self.packets_out += count

    def _enter(self, seat: Seat) -> None:
        """Into the first slice of its group that has room."""
        form = form_of(seat, seat.variant)
        group = self._groups.get(form)
        if group is None:
            group = self._groups[form] = _Group(form)
        over_tcp = isinstance(seat.address, TcpAddress)
        part = next((part for part in group.slices if part.over_tcp == over_tcp and len(part.seats) < SLICE), None)
        if part is None:
            batch = self._make_tcp_batch(SLICE) if over_tcp else self._make_batch(SLICE)
            part = _Slice(group, batch, over_tcp=over_tcp)
            group.slices.append(part)
        seat.index = len(part.seats)
        # First: a slot without an address would stop the whole slice.
        part.batch.set_slot(seat.index, seat.srtp, seat.address)
        seat.slice = part
        part.seats.append(seat)
        self.listeners_by_variant[seat.variant] += 1

    def _leave(self, seat: Seat, part: _Slice) -> None:
        seat.slice = None
        last = part.seats.pop()
        if last is seat:
            part.batch.clear_slot(seat.index)
        else:
            part.batch.move_slot(last.index, seat.index)
            part.seats[seat.index] = last
            last.index = seat.index
        if not part.seats:
            part.group.slices.remove(part)
            if not part.group.slices:
                del self._groups[part.group.form]
        self.listeners_by_variant[seat.variant] -= 1

    def _apply_switches(self) -> None:
        switches, self._switches = self._switches, {}
        for seat, variant in switches.items():
            if seat.slice is None or seat.variant is variant:
                continue
            if variant is Variant.OPUS_AGAIN and self._deliveries - seat.since < AGAIN_REACH:
                self._switches[seat] = variant  # soon
                continue
            self._leave(seat, seat.slice)
            # One switch back is remembered; what is older than that cannot be repeated as it was.
            seat.since, seat.switched_at = seat.switched_at, self._deliveries + 1
            seat.before, seat.variant = seat.variant, variant
            was, becomes = self.counts[seat.before], self.counts[variant]
            seat.more.packets += was.packets - becomes.packets
            seat.more.octets += was.octets - becomes.octets
            self._enter(seat)
            self.switched += 1

    def _apply_moves(self) -> None:
        """Between two deliveries. Who has come back meanwhile, or changed the variant, is where they belong already."""
        movers, self._movers = self._movers, {}
        for seat in movers:
            part = seat.slice
            if part is not None and part.over_tcp != isinstance(seat.address, TcpAddress):
                self._leave(seat, part)
                self._enter(seat)


def copies_for(packet: ProgramPacket, before: Iterable[ProgramPacket]) -> tuple[ProgramPacket, ...]:
    """Of the packets before, the newest first, those that go along as redundancy for this one, the oldest first. Not
    those that are worth none (a pause), nor what does not fit beside it."""
    copies: tuple[ProgramPacket, ...] = ()
    for earlier in before:
        fits = (
            0 < packet.ticks - earlier.ticks <= MAX_TIMESTAMP_OFFSET
            and len(earlier.payload) <= (SMALL_BYTES if copies else MAX_REDUNDANT_BYTES)
            and red_size(packet, (earlier, *copies)) <= MAX_PAYLOAD
        )
        if fits and not is_dtx(earlier.payload):
            copies = (earlier, *copies)
    return copies


def red_size(packet: ProgramPacket, copies: tuple[ProgramPacket, ...]) -> int:
    """Bytes of the payload with these copies; without any it is plain Opus."""
    if not copies:
        return len(packet.payload)
    return len(packet.payload) + RED_BYTES + sum(len(copy.payload) + RED_COPY_BYTES for copy in copies)


def _encode(form: Form, delivery: Delivery) -> bytes:
    packet, ssrc = delivery.packet, form.ssrc
    if form.red_payload_type is None or not delivery.copies:
        return _encode_rtp(form.payload_type, form.audio_level_extension_id, packet, packet.payload, ssrc)
    redundant = [(packet.ticks - copy.ticks, copy.payload) for copy in delivery.copies]
    payload = build_red(packet.payload, redundant, payload_type=form.payload_type)
    return _encode_rtp(form.red_payload_type, form.audio_level_extension_id, packet, payload, ssrc)


def encode_for(parameters: ConsumerParameters, packet: ProgramPacket, ssrc: int) -> bytes:
    """The plaintext RTP packet for listeners with these parameters: plain Opus."""
    return _encode_rtp(parameters.payload_type, parameters.audio_level_extension_id, packet, packet.payload, ssrc)


def payload_size(packet: bytes) -> int:
    """Of a plaintext RTP packet of ours, in bytes."""
    return len(packet) - _HEADER.size - (_LEVEL_EXTENSION.size if packet[0] & 0x10 else 0)


def _encode_rtp(payload_type: int, level_id: int | None, packet: ProgramPacket, payload: bytes, ssrc: int) -> bytes:
    """RFC 3550 section 5.1, RFC 6464."""
    has_level = level_id is not None and packet.audio_level is not None
    second = payload_type | (0x80 if packet.marker else 0)
    header = _HEADER.pack(0x90 if has_level else 0x80, second, packet.sequence, packet.timestamp, ssrc)
    if level_id is None or packet.audio_level is None:
        return header + payload
    # One-byte form (RFC 8285 section 4.2): id, length 1 written as 0; padded to a word.
    return header + _LEVEL_EXTENSION.pack(0xBEDE, 1, level_id << 4, packet.audio_level) + payload
