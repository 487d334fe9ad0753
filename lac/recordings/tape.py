"""One track of a recording while it is made: packets in, a growing Ogg file on disk. Blocking.

A tape whose file cannot be written tries again: what is sound of the file is kept, what came meanwhile is silence of
the exact length, and the stretch that follows is listed as a new segment. No error of one tape reaches another.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import structlog

from lac.recordings.manifest import Gap, Segment, TrackInfo, write_all
from lac.recordings.model import Failure
from lac_media.container.ogg_opus import reopen_ogg_opus
from lac_media.errors import ParseError
from lac_media.parameters import OPUS_CLOCK_RATE_HZ
from lac_media.proto.opus import SILENCE_20MS_MONO
from lac_media.rooms.program import SILENCE_LEVEL
from lac_media.rooms.tap import TappedPacket
from lac_media.rooms.track import Track

log = structlog.get_logger(__name__)

#: A speaker who sent nothing for this long begins anew on the time line, as in the program.
PAUSE_S = 0.5
#: A speaker's encoder whose timestamps are so far off the clock has restarted.
MAX_LEAP_TICKS = 5 * OPUS_CLOCK_RATE_HZ
#: What is there already may reach this far beyond the clock: a packet is put down when it begins.
MAX_LEAD_TICKS = 60 * OPUS_CLOCK_RATE_HZ // 1000
#: After a failure, until the file is tried again.
FIRST_RETRY_S = 1.0
LAST_RETRY_S = 10.0
#: The cause of an interruption that no error was.
TOO_SLOW = "disk_too_slow"
#: Interruptions that are listed one by one.
MAX_SEGMENTS = 1000
#: Of a disk that is full, or of a limit that amounts to the same.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class Origin:
    """Where second 0 of a recording is: in ticks of media time, and on the monotonic clock."""

    ticks: int
    at: float

    def ticks_at(self, now: float) -> int:
        return self.ticks + round((now - self.at) * OPUS_CLOCK_RATE_HZ)


@dataclass(frozen=True, slots=True)
class Batch:
    """What one source gave one tape since the last time. `source` numbers the sources of a recording as they came up;
    `dropped` packets were lost before these because the tape was too slow."""

    tape: Tape
    source: int
    packets: Sequence[TappedPacket]
    dropped: int


class Tape:
    """The program's (`person_id` None) or a speaker's. Its file is made with the first `write`."""

    def __init__(
        self,
        directory: Path,
        file: str,
        origin: Origin,
        serial: int,
        *,
        title: str,
        person_id: str | None = None,
        display_name: str | None = None,
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        self.file = file
        self._has_room = has_room
        self.person_id = person_id
        self.display_name = display_name
        #: Why it cannot be written just now.
        self.failure: Failure | None = None
        self.closed = False
        self.bytes_written = 0
        self.dropped = 0
        self.unwritten = 0
        self.interruptions = 0
        self._path = directory / file
        self._origin = origin
        self._file: IO[bytes] | None = None
        tags = {"TITLE": title} if display_name is None else {"TITLE": title, "ARTIST": display_name}
        self._track = Track(serial, origin.ticks, tags=tags)
        self._listed: list[Gap] = []
        self._segments = [Segment(start_s=0.0)]
        self._broke_off = False
        #: Ticks up to which it was whole before the present interruption.
        self._lost_from: int | None = None
        self._retry_at = 0.0
        self._retry_s = FIRST_RETRY_S
        # Where packets belong: the source that is heard, when it was, and its ticks' distance to ours.
        self._source = -1
        self._filler = False
        self._heard_at = -PAUSE_S
        self._offset = 0

    @property
    def lost_s(self) -> float:
        """Of it, silence because it could not be written."""
        return sum(
            segment.start_s - segment.lost_from_s for segment in self._segments if segment.lost_from_s is not None
        )

    def write(self, batches: Sequence[Batch], *, now: float) -> None:
        """Append what came, and silence up to what cannot come any more at `now`. Raises nothing; see `failure`."""
        if self.closed:
            return
        self.dropped += sum(batch.dropped for batch in batches)
        try:
            goes_on = False
            if self._file is None:
                if now < self._retry_at:
                    self.unwritten += sum(len(batch.packets) for batch in batches)
                    return
                self._check_room()
                # Silence goes no further than to what has just come.
                arrivals = [batch.packets[0].arrived_at for batch in batches if batch.packets]
                goes_on = self._open(min([now, *arrivals]))
            self._check_room()
            begins_at = self._track.duration_ticks
            dropped = any(batch.dropped for batch in batches)
            came = self._take(batches) + self._track.advance(self._origin.ticks_at(now))
            self._append(came + self._track.flush())
            if goes_on:
                self._note_segment(begins_at, self._lost_from or 0, self.failure)
                log.info("a track goes on", file=self.file, lost_from_s=self._segments[-1].lost_from_s)
                self._lost_from, self.failure, self._retry_s = None, None, FIRST_RETRY_S
            elif dropped:
                self._note_drop(begins_at)
        except Exception as error:
            self.unwritten += sum(len(batch.packets) for batch in batches)
            self._give_up(error, now)

    def end(self, batches: Sequence[Batch], *, now: float) -> None:
        """Write the rest and close the file, which ends at `now` by the clock. Raises nothing; see `failure`.
        Idempotent."""
        if self.closed:
            return
        self._retry_at = now
        self.write(batches, now=now)
        file = self._file
        if file is not None:
            try:
                self._append(self._track.end(self._origin.ticks_at(now)))
                os.fdatasync(file.fileno())
                file.close()
            except Exception as error:
                self._give_up(error, now)
        self._file = None
        self.closed = True

    def refuse(self, batches: Sequence[Batch], failure: Failure) -> None:
        """There is nowhere to write to just now. What comes meanwhile is lost as in any other interruption."""
        self.dropped += sum(batch.dropped for batch in batches)
        self.unwritten += sum(len(batch.packets) for batch in batches)
        self.interruptions += self.failure is None
        self.failure, self._broke_off = failure, True

    def sync(self, *, now: float) -> None:
        """Have what was written survive a loss of power. Raises nothing."""
        if self._file is None:
            return
        try:
            os.fdatasync(self._file.fileno())
        except OSError as error:
            self._give_up(error, now)

    def info(self) -> TrackInfo:
        track = self._track
        return TrackInfo(
            file=self.file,
            person_id=self.person_id,
            display_name=self.display_name,
            duration_s=_seconds(track.duration_ticks),
            closed=self.closed and self.failure is None,
            failure=self.failure,
            segments=list(self._segments),
            gaps=self._list_gaps(),
            unlisted_gaps=track.unlisted_gaps,
            dropped=self.dropped,
            unwritten=self.unwritten,
            late=track.late_packets,
            malformed=track.malformed_packets,
            clock_shifts=track.clock_shifts,
        )

    def _list_gaps(self) -> list[Gap]:
        """There are thousands, and only the last may have grown since they were listed before."""
        listed = self._listed
        del listed[-1:]
        for gap in self._track.gaps[len(listed) :]:
            listed.append(Gap(_seconds(gap.start_ticks), _seconds(gap.duration_ticks)))
        return list(listed)

    def _check_room(self) -> None:
        """What may be on our disk is a limit, as a quota is."""
        if not self._has_room():
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    def _open(self, now: float) -> bool:
        """Make the file, or go on with it after an interruption: which of both. Raises what the disk says."""
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        if not self._broke_off:
            self._file = self._path.open("xb+", buffering=0)
            self._append(self._track.begin())
            return False
        self._file = self._path.open("r+b" if self._path.exists() else "xb+", buffering=0)
        try:
            found = reopen_ogg_opus(self._file)
        except ParseError:  # not even its beginning was written
            self._file.truncate(0)
            self._file.seek(0)
            self._lost_from = 0
            self._append(self._track.begin())
        else:
            # A try before may have written some of the silence.
            before = found.granule if self._lost_from is None else self._lost_from
            self._lost_from = min(before, found.granule)
            self._track = self._track.resume(found)
            self._listed.clear()
        self._append(self._track.advance(self._origin.ticks_at(now)))
        return True

    def _note_segment(self, begins_at: int, lost_from: int, cause: str | None) -> None:
        """The track goes on at `begins_at` after an interruption since `lost_from`, both in its ticks."""
        if len(self._segments) < MAX_SEGMENTS:
            self._segments.append(Segment(start_s=_seconds(begins_at), lost_from_s=_seconds(lost_from), cause=cause))

    def _note_drop(self, before: int) -> None:
        """Packets were dropped because the disk was too slow: the first silence after `before` is theirs."""
        gap = next((gap for gap in self._track.gaps if gap.start_ticks >= before), None)
        if gap is not None:
            self._note_segment(gap.end_ticks, gap.start_ticks, TOO_SLOW)

    def _append(self, data: bytes) -> None:
        assert self._file is not None  # noqa: S101  for the type checker
        write_all(self._file.fileno(), data)
        self.bytes_written += len(data)

    def _give_up(self, error: Exception, now: float) -> None:
        failure = failure_of(error)
        if self.failure is not failure:
            known = isinstance(error, OSError)
            log.error("a track cannot be written", file=self.file, why=failure, exc_info=None if known else error)
        if self.failure is None:
            self.interruptions += 1
        self.failure = failure
        self._broke_off = True
        self._retry_at = now + self._retry_s
        self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as again:
                log.warning("a track could not be closed", file=self.file, why=again.strerror)

    def _take(self, batches: Sequence[Batch]) -> bytes:
        out = bytearray()
        for batch in batches:
            for packet in batch.packets:
                if batch.source >= self._source:  # not of a session that has been replaced
                    ticks = self._place(batch.source, packet)
                    out += self._track.receive(ticks, packet.payload, packet.level, now=packet.arrived_at)
        return bytes(out)

    def _place(self, source: int, packet: TappedPacket) -> int:
        """The packet on our time line. Whoever begins to be heard is put where the clock is, or right behind what is
        there already; what follows keeps its distance. Speakers begin again after a pause; the program with its own
        silence, which it sends by the clock, however far a speaker's clock had carried it off."""
        now = packet.arrived_at
        here = self._origin.ticks_at(now)
        filler = self.person_id is None and packet.payload == SILENCE_20MS_MONO and packet.level == SILENCE_LEVEL
        goes_on = source == self._source and filler is self._filler and now - self._heard_at < PAUSE_S
        if not goes_on or abs(packet.rtp_timestamp + self._offset - here) > MAX_LEAP_TICKS:
            self._source, self._filler = source, filler
            behind = min(self._track.position, here + MAX_LEAD_TICKS)
            self._offset = max(here, behind) - packet.rtp_timestamp
            self._track.follow_anew()
        self._heard_at = now
        return packet.rtp_timestamp + self._offset


def failure_of(error: Exception) -> Failure:
    full = isinstance(error, OSError) and error.errno in _FULL
    return Failure.DISK_FULL if full else Failure.DISK_ERROR


def _seconds(ticks: int) -> float:
    return round(ticks / OPUS_CLOCK_RATE_HZ, 6)
