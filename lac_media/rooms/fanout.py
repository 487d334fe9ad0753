"""Delivering the program to its audience: per packet one plaintext for each group of like listeners, sent in slices.

No listener has a queue or a wake-up of its own. What the kernel does not take is dropped and counted.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

import trio

from lac_media.net.batch import SendBatch
from lac_media.parameters import Address, ConsumerParameters, TcpAddress
from lac_media.proto.srtp import SrtpSession
from lac_media.rooms.line import ProgramPacket

#: Listeners per system call: about half a millisecond.
SLICE = 100
#: After so much work in one go everything else gets its turn. Giving way more often would let a crowd that is joining
#: stand before every slice, and the audience wait for it.
TURN_S = 0.004

_HEADER = Struct("!BBHLL")
_LEVEL_EXTENSION = Struct("!HHBBxx")


class Seat:
    """A listener's place in the fan-out: slot `index` of a slice."""

    __slots__ = ("address", "index", "parameters", "slice", "srtp")

    def __init__(self, parameters: ConsumerParameters, srtp: SrtpSession, address: Address) -> None:
        self.parameters = parameters
        self.srtp = srtp
        self.address = address
        self.slice: _Slice | None = None
        self.index = 0


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

    __slots__ = ("parameters", "slices")

    def __init__(self, parameters: ConsumerParameters) -> None:
        self.parameters = parameters
        self.slices: list[_Slice] = []


class Fanout:
    """The audience of one program. `make_batch(n)` gives a batch of n slots on the process's socket,
    `make_tcp_batch(n)` one for those who are reached over TCP, if anybody can be."""

    def __init__(
        self,
        ssrc: int,
        make_batch: Callable[[int], SendBatch],
        *,
        make_tcp_batch: Callable[[int], SendBatch] | None = None,
    ) -> None:
        self._ssrc = ssrc
        self._make_batch = make_batch
        self._make_tcp_batch = make_tcp_batch or make_batch
        self._groups: dict[ConsumerParameters, _Group] = {}
        self.listeners = 0
        self.packets_out = 0
        #: Deliveries that the kernel did not take.
        self.dropped = 0

    def add(self, parameters: ConsumerParameters, srtp: SrtpSession, address: Address) -> Seat:
        """Seat a listener; it gets everything from the next packet on."""
        seat = Seat(parameters, srtp, address)
        self._enter(seat)
        self.listeners += 1
        return seat

    def move(self, seat: Seat, address: Address) -> None:
        """The listener is at another address now."""
        seat.address = address
        part = seat.slice
        if part is None:
            return
        if part.over_tcp == isinstance(address, TcpAddress):
            part.batch.set_slot(seat.index, seat.srtp, address)
        else:
            self._leave(seat, part)
            self._enter(seat)

    def remove(self, seat: Seat) -> None:
        """Give the seat up. Idempotent."""
        if seat.slice is not None:
            self._leave(seat, seat.slice)
            self.listeners -= 1

    def _enter(self, seat: Seat) -> None:
        """Into the first slice of its group that has room."""
        group = self._groups.setdefault(seat.parameters, _Group(seat.parameters))
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
                del self._groups[part.group.parameters]

    async def send(self, packet: ProgramPacket) -> None:
        """Deliver one packet to everyone."""
        turn_ends_at = trio.current_time() + TURN_S
        for group in tuple(self._groups.values()):
            plain = encode_for(group.parameters, packet, self._ssrc)
            for part in tuple(group.slices):
                if trio.current_time() >= turn_ends_at:
                    await trio.lowlevel.checkpoint()
                    turn_ends_at = trio.current_time() + TURN_S
                count = len(part.seats)
                self.dropped += part.batch.send_rtp(plain, count)
                self.packets_out += count
        await trio.lowlevel.checkpoint()

    async def send_report(self, report: bytes) -> None:
        """Deliver one compound RTCP packet to everyone."""
        for group in tuple(self._groups.values()):
            for part in tuple(group.slices):
                self.dropped += part.batch.send_rtcp(report, len(part.seats))
                await trio.lowlevel.checkpoint()


def encode_for(parameters: ConsumerParameters, packet: ProgramPacket, ssrc: int) -> bytes:
    """The plaintext RTP packet for listeners with these parameters (RFC 3550 section 5.1, RFC 6464)."""
    level_id = parameters.audio_level_extension_id
    has_level = level_id is not None and packet.audio_level is not None
    second = parameters.payload_type | (0x80 if packet.marker else 0)
    header = _HEADER.pack(0x90 if has_level else 0x80, second, packet.sequence, packet.timestamp, ssrc)
    if level_id is None or packet.audio_level is None:
        return header + packet.payload
    # One-byte form (RFC 8285 section 4.2): id, length 1 written as 0; padded to a word.
    return header + _LEVEL_EXTENSION.pack(0xBEDE, 1, level_id << 4, packet.audio_level) + packet.payload
