"""What recordings, HLS and plain streams read of a room: its program, or one speaker, packet by packet.

The live path only puts packets down here and never waits. A reader that is too slow loses the oldest, and can see so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import trio

from lac_media.proto.rtp import RtpPacket
from lac_media.proto.seq import SequenceExtender, TimestampExtender
from lac_media.rooms.line import ProgramPacket

#: Packets that wait for their reader: ten seconds of 20 ms frames. When full the oldest is dropped and counted.
TAP_PACKETS = 500


@dataclass(frozen=True, slots=True)
class TappedPacket:
    """One packet as it passed by; in the order of arrival, so a late one comes after those that overtook it.

    `sequence` and `rtp_timestamp` do not wrap. Timestamps are ticks of 1/48000 s: of the program, counted from its
    beginning, thus media time; of a speaker, by the speaker's own clock from any beginning, and they may leap when the
    speaker's encoder restarts. `payload` is one Opus packet as the network gave it: never empty, not checked.
    `level` is the RFC 6464 byte, where there is one.
    """

    sequence: int
    rtp_timestamp: int
    arrived_at: float
    payload: bytes
    level: int | None = None


class Tap:
    """One reader's queue. Made by `MediaRoom.tap_program` and `tap_speaker`; close it when done."""

    def __init__(self, on_close: Callable[[Tap], None]) -> None:
        #: Packets that the reader was too slow for.
        self.dropped = 0
        self._on_close = on_close
        self._packets: deque[TappedPacket] = deque()
        self._ended = False
        self._news = trio.Event()

    async def receive(self) -> list[TappedPacket]:
        """Everything that waits, at least one packet. Raises `trio.EndOfChannel` once the source has ended, or the tap
        is closed, and nothing waits any more. A cancelled call loses nothing."""
        await trio.lowlevel.checkpoint()
        while not self._packets:
            if self._ended:
                raise trio.EndOfChannel
            self._news = trio.Event()
            await self._news.wait()
        return self.receive_nowait()

    def receive_nowait(self) -> list[TappedPacket]:
        """Everything that waits; nothing if nothing does."""
        packets = list(self._packets)
        self._packets.clear()
        return packets

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more; something may still wait."""
        return self._ended

    def close(self) -> None:
        """Take no more; what waits is let go. Idempotent."""
        self._packets.clear()
        self.end()
        self._on_close(self)

    # What the room does

    def offer(self, packet: TappedPacket) -> None:
        """Queue one packet. Never blocks."""
        if len(self._packets) >= TAP_PACKETS:
            self._packets.popleft()
            self.dropped += 1
        self._packets.append(packet)
        self._news.set()

    def end(self) -> None:
        """There is nothing to come."""
        self._ended = True
        self._news.set()


class TapPoint:
    """The taps on one source, which number its packets alike."""

    def __init__(self) -> None:
        self._taps: list[Tap] = []
        self._sequences = SequenceExtender()
        self._timestamps = TimestampExtender()

    @property
    def is_empty(self) -> bool:
        return not self._taps

    def open(self) -> Tap:
        """A tap that gets everything from the next packet on."""
        tap = Tap(self._forget)
        self._taps.append(tap)
        return tap

    def offer_program(self, packet: ProgramPacket) -> None:
        """One packet of the program."""
        if self._taps:
            sequence = self._sequences.extend(packet.sequence)
            self._offer(TappedPacket(sequence, packet.ticks, packet.sent_at, packet.payload, packet.audio_level))

    def offer_rtp(self, packet: RtpPacket, level: int | None, *, now: float) -> None:
        """One packet of a speaker."""
        if self._taps and packet.payload:
            sequence = self._sequences.extend(packet.sequence)
            ticks = self._timestamps.extend(packet.timestamp)
            self._offer(TappedPacket(sequence, ticks, now, packet.payload, level))

    def end(self) -> None:
        """The source has ended."""
        for tap in self._taps:
            tap.end()
        self._taps.clear()

    def _offer(self, packet: TappedPacket) -> None:
        for tap in self._taps:
            tap.offer(packet)

    def _forget(self, tap: Tap) -> None:
        if tap in self._taps:
            self._taps.remove(tap)
