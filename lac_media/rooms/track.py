"""One recorded track: packets of a program or of a speaker in, bytes of an Ogg Opus file out.

Sans-IO. The track begins at `start_ticks` of media time and is as long as the clock says, whatever came: what is
missing is silence, and listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lac_media.container.ogg_opus import OggOpusWriter, Scanned
from lac_media.parameters import OPUS_CLOCK_RATE_HZ
from lac_media.rooms.timeline import ClockFollower, Piece, Timeline

#: A page of the file: what is lost at most, with the hold-back, when the process is killed and nobody calls `flush`.
PAGE_TICKS = OPUS_CLOCK_RATE_HZ // 4
#: Gaps that are listed one by one. Further ones are counted, and their silence is in the file like any other's.
MAX_GAPS = 10_000
#: From this level on, in -dBov (RFC 6464), nobody hears whether 15 ms are missing.
QUIET_LEVEL = 60


@dataclass(slots=True)
class Gap:
    """Silence of our making. Ticks, from the beginning of the track."""

    start_ticks: int
    duration_ticks: int

    @property
    def end_ticks(self) -> int:
        return self.start_ticks + self.duration_ticks


class Track:
    """`serial` is any 32 bits. All bytes returned are to be appended to the file in order."""

    def __init__(self, serial: int, start_ticks: int, *, tags: Mapping[str, str] | None = None) -> None:
        self.start_ticks = start_ticks
        self.gaps: list[Gap] = []
        self.unlisted_gaps = 0
        self._line = Timeline(start_ticks)
        self._clock = ClockFollower()
        self._shifts_before = 0
        self._writer = OggOpusWriter(serial, tags=tags)
        self._page_at = 0

    def resume(self, found: Scanned) -> Track:
        """A track that goes on with this one's file, of which only `found` has been kept: what it had of its gaps, too.
        There is no `begin`."""
        track = Track(found.serial, self.start_ticks)
        track._writer = OggOpusWriter.resume(found)
        track._page_at = found.granule
        track._line = Timeline(self.start_ticks + found.granule)
        track._line.late, track._line.malformed = self._line.late, self._line.malformed
        track._shifts_before = self.clock_shifts
        track.unlisted_gaps = self.unlisted_gaps
        for gap in self.gaps:
            if gap.start_ticks < found.granule:
                kept = min(gap.duration_ticks, found.granule - gap.start_ticks)
                track.gaps.append(Gap(gap.start_ticks, kept))
        return track

    @property
    def duration_ticks(self) -> int:
        """What has been settled so far."""
        return self._line.position - self.start_ticks

    @property
    def late_packets(self) -> int:
        return self._line.late

    @property
    def malformed_packets(self) -> int:
        return self._line.malformed

    @property
    def clock_shifts(self) -> int:
        """How often the sender's clock had to be set right."""
        return self._shifts_before + self._clock.shifts

    @property
    def position(self) -> int:
        """Where the next packet in order would begin: ticks of media time."""
        return self._line.position

    def follow_anew(self) -> None:
        """What comes from here on is numbered by another clock, or anew."""
        self._shifts_before += self._clock.shifts
        self._clock = ClockFollower()

    def begin(self) -> bytes:
        """The file's headers."""
        return self._writer.begin()

    def receive(self, ticks: int, payload: bytes, level: int | None, *, now: float) -> bytes:
        """One packet that its sender placed at `ticks`, arriving at `now` with its RFC 6464 byte, if it has one."""
        quiet = level is not None and level & 0x7F >= QUIET_LEVEL
        return self._write(self._line.receive(self._clock.place(ticks, quiet=quiet, now=now), payload))

    def advance(self, ticks: int) -> bytes:
        """The clock is at `ticks`: what will not come any more becomes silence."""
        return self._write(self._line.advance(ticks))

    def flush(self) -> bytes:
        """What is settled and waits for its page."""
        self._page_at = self._writer.granule
        return self._writer.flush()

    def end(self, ticks: int) -> bytes:
        """The rest of the file; the track ends at `ticks`."""
        return self._write(self._line.end(ticks)) + self._writer.end()

    def _write(self, pieces: Iterable[Piece]) -> bytes:
        out = bytearray()
        for piece in pieces:
            if piece.is_gap:
                self._note_gap(piece.ticks - self.start_ticks, piece.duration_ticks)
            out += self._writer.add(piece.payload)
            if self._writer.granule - self._page_at >= PAGE_TICKS:
                self._page_at = self._writer.granule
                out += self._writer.flush()
        return bytes(out)

    def _note_gap(self, start: int, duration: int) -> None:
        last = self.gaps[-1] if self.gaps else None
        if last is not None and last.end_ticks == start:
            last.duration_ticks += duration
        elif len(self.gaps) < MAX_GAPS:
            self.gaps.append(Gap(start, duration))
        else:
            self.unlisted_gaps += 1
