"""The plan of one stream: which parts and segments there are, how they are called, and the playlists that list them.

Sans-IO. Ticks are 1/48000 s of media time. Media sequence numbers (MSN) count segments, parts count from 0 in each.
All renditions are cut alike, so one plan is for all of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lac_media.hls.renditions import (
    CODEC,
    FIRST_SEGMENTS_PARTS,
    PART_HOLD_BACK_S,
    PART_TICKS,
    RENDITIONS,
    SEGMENT_PARTS,
    SKIP_UNTIL_S,
    TARGET_DURATION_S,
    Rendition,
)
from lac_media.parameters import OPUS_CLOCK_RATE_HZ

#: EXT-X-SKIP needs 9 (rfc8216bis section 8).
VERSION = 9
#: EXT-X-MAP in a list of audio needs 6: all that whole segments need.
WHOLE_VERSION = 6
#: Parts are listed of the segments in the last so many seconds (rfc8216bis section 4.4.4.9: three target durations).
PARTS_LISTED_S = 3 * TARGET_DURATION_S
#: A playlist that is asked for further ahead than this is a mistake (rfc8216bis section 6.2.5.2).
MAX_AHEAD = 2

#: An MSN, and a part of it or all of it.
Position = tuple[int, int | None]


@dataclass(eq=False)
class Segment:
    """`parts` has each part's data, one for each rendition, while they are in memory; `durations` their lengths in
    ticks, which stay."""

    msn: int
    ticks: int
    #: What comes before does not lead up to it.
    discontinuity: bool
    size: int
    parts: list[tuple[bytes, ...]] = field(default_factory=list)
    durations: list[int] = field(default_factory=list)
    complete: bool = False
    #: The segment can be read elsewhere.
    stored: bool = False

    @property
    def duration_ticks(self) -> int:
        return sum(self.durations)

    @property
    def in_memory(self) -> bool:
        return bool(self.parts)

    def data(self, rendition: int) -> bytes:
        return b"".join(part[rendition] for part in self.parts)


class Plan:
    """`began_at` is the wall clock at media time 0 (aware), `run` a short text that no earlier plan of the broadcast
    had: the names of its files contain it, so that caches never give out another's."""

    def __init__(self, *, run: str, began_at: datetime, first_msn: int, window_s: float) -> None:
        self.run = run
        self.began_at = began_at
        #: Nothing is appended any more.
        self.ended = False
        #: How often the end has moved: names a state of the playlists.
        self.version = 0
        self.segments: deque[Segment] = deque()
        #: Segments with a discontinuity that have left the list.
        self.discontinuities = 0
        #: The end is that of a run which goes on, and there is a whole segment of it; or nothing more will come. A
        #: playlist before that is of no use to a player: it would begin where nothing follows.
        self.is_ready = False
        self._window_ticks = round(window_s * OPUS_CLOCK_RATE_HZ)
        self._next_msn = first_msn
        self._sizes: Iterator[int] = iter(())
        self._playlists: dict[tuple[str, str, bool], bytes] = {}

    @classmethod
    def finished(cls, *, run: str, began_at: datetime, segments: Sequence[Segment], discontinuities: int) -> Plan:
        """Of a stream that is over, with what there is of it: at least one segment."""
        plan = cls(run=run, began_at=began_at, first_msn=segments[-1].msn + 1, window_s=0.0)
        plan.segments.extend(segments)
        plan.discontinuities = discontinuities
        plan.end()
        return plan

    # what the packager does

    def begin(self) -> None:
        """Parts come, after a pause or for the first time; they need not begin where the last ended."""
        self._sizes = iter(FIRST_SEGMENTS_PARTS)

    def add_part(self, data: tuple[bytes, ...], *, ticks: int, duration_ticks: int) -> None:
        """One more part at the end. One that is shorter than others is the last of its segment."""
        segment = self.segments[-1] if self.segments else None
        if segment is None or segment.complete:
            before = segment
            discontinuity = before is not None and before.ticks + before.duration_ticks != ticks
            segment = Segment(self._next_msn, ticks, discontinuity, next(self._sizes, SEGMENT_PARTS))
            self._next_msn += 1
            self.segments.append(segment)
        segment.parts.append(data)
        segment.durations.append(duration_ticks)
        segment.complete = len(segment.durations) == segment.size or duration_ticks < PART_TICKS
        self.is_ready |= segment.complete
        self._changed()

    def pause(self) -> None:
        """No parts come for a while: the segment at the end is complete as it is."""
        self.is_ready = self.ended
        if self.segments and not self.segments[-1].complete:
            self.segments[-1].complete = True
            self._changed()

    def end(self) -> None:
        """The show is over. Idempotent."""
        if not self.ended:
            self.ended = self.is_ready = True
            self._changed()

    def trim(self, *, memory: int) -> list[Segment]:
        """Let go of what has left the window, and of the data of stored segments but the last `memory`; what is neither
        stored nor among those cannot be kept either. Returns the segments that are gone."""
        gone = []
        while len(self.segments) > 1 and self._is_out(self.segments[0]):
            gone.append(self.segments.popleft())
        for segment in list(self.segments)[: -memory or None]:
            if segment.stored:
                segment.parts.clear()
            elif segment.in_memory:
                while self.segments[0] is not segment:
                    gone.append(self.segments.popleft())
                gone.append(self.segments.popleft())
        if gone:
            # A tag stays with its segment; that there was one is counted when it leaves (section 6.2.2).
            self.discontinuities += sum(segment.discontinuity for segment in gone)
            self._changed()
        return gone

    def _is_out(self, first: Segment) -> bool:
        """Would the window be full without it?"""
        last = self.segments[-1]
        return last.ticks + last.duration_ticks - (first.ticks + first.duration_ticks) >= self._window_ticks

    def _changed(self) -> None:
        self.version += 1
        self._playlists.clear()

    # what the players ask

    @property
    def end_position(self) -> Position:
        """The last MSN and part; (first MSN - 1, None) before the first."""
        if not self.segments:
            return self._next_msn - 1, None
        last = self.segments[-1]
        return last.msn, len(last.durations) - 1

    @property
    def next_part(self) -> tuple[int, int]:
        """What comes next, unless the show ends."""
        if not self.segments or self.segments[-1].complete:
            return self._next_msn, 0
        return self.segments[-1].msn, len(self.segments[-1].durations)

    def to_store(self) -> list[Segment]:
        """Complete segments that are only in memory."""
        return [segment for segment in self.segments if segment.complete and segment.in_memory and not segment.stored]

    def find(self, msn: int) -> Segment | None:
        if not self.segments:
            return None
        index = msn - self.segments[0].msn
        return self.segments[index] if 0 <= index < len(self.segments) else None

    def has_reached(self, position: Position) -> bool:
        """Whether the playlist has this segment, or this part, or a later one (rfc8216bis section 6.2.5.2)."""
        msn, part = position
        last_msn, last_part = self.end_position
        if self.ended or msn < last_msn:
            return True
        if msn > last_msn or last_part is None:
            return False
        return self.segments[-1].complete if part is None else part <= last_part

    def is_too_far(self, position: Position) -> bool:
        return not self.ended and position[0] > self.end_position[0] + MAX_AHEAD

    def date_of(self, ticks: int) -> str:
        """The wall clock at a media time, RFC 3339 with milliseconds."""
        # Of integers, so that the same media time is always the same text.
        micros = round(self.began_at.timestamp() * 1_000_000) + ticks * 1_000_000 // OPUS_CLOCK_RATE_HZ
        return datetime.fromtimestamp(micros / 1_000_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def playlist(self, rendition: Rendition, prefix: str = "", *, skip: bool = False) -> bytes:
        """The media playlist. `prefix` goes before the names of its files; with `skip` it is a delta (rfc8216bis
        section 5.2.1). Built once for each state."""
        key = rendition.name, prefix, skip
        known = self._playlists.get(key)
        if known is None:
            known = self._playlists[key] = "\n".join(self._lines(rendition, prefix, skip=skip)).encode()
        return known

    def whole_playlist(self, rendition: Rendition, first_msn: int, last_msn: int, *, ended: bool) -> bytes:
        """Of whole segments only, for where nobody can wait for what comes next: a store of files. These segments have
        to be complete and in the list."""
        before = [segment for segment in self.segments if segment.msn < first_msn]
        lines = ["#EXTM3U", f"#EXT-X-VERSION:{WHOLE_VERSION}", f"#EXT-X-TARGETDURATION:{TARGET_DURATION_S}"]
        lines.append(f"#EXT-X-MEDIA-SEQUENCE:{first_msn}")
        discontinuities = self.discontinuities + sum(segment.discontinuity for segment in before)
        if discontinuities:
            lines.append(f"#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuities}")
        lines.append(f'#EXT-X-MAP:URI="{rendition.name}/{self.init_name}"')
        for segment in self.segments:
            if first_msn <= segment.msn <= last_msn:
                lines += self._segment_begins(segment)
                lines += self._segment_ends(segment, f"{rendition.name}/")
        if ended:
            lines.append("#EXT-X-ENDLIST")
        return "\n".join([*lines, ""]).encode()

    def segment_name(self, segment: Segment) -> str:
        return f"{segment.msn}-{self.run}.m4s"

    def part_name(self, msn: int, part: int) -> str:
        return f"{msn}.{part}-{self.run}.m4s"

    @property
    def init_name(self) -> str:
        return f"init-{self.run}.mp4"

    def _lines(self, rendition: Rendition, prefix: str, *, skip: bool) -> Iterator[str]:
        path = f"{prefix}{rendition.name}/"
        yield "#EXTM3U"
        yield f"#EXT-X-VERSION:{VERSION}"
        yield f"#EXT-X-TARGETDURATION:{TARGET_DURATION_S}"
        if not self.ended:
            yield f"#EXT-X-PART-INF:PART-TARGET={_seconds(PART_TICKS)}"
            yield (
                f"#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL={SKIP_UNTIL_S},"
                f"PART-HOLD-BACK={PART_HOLD_BACK_S}"
            )
        first = self.segments[0].msn if self.segments else self._next_msn
        yield f"#EXT-X-MEDIA-SEQUENCE:{first}"
        if self.discontinuities:
            yield f"#EXT-X-DISCONTINUITY-SEQUENCE:{self.discontinuities}"
        skipped = self._skippable() if skip and not self.ended else 0
        if skipped:
            yield f"#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}"
        yield f'#EXT-X-MAP:URI="{path}{self.init_name}"'
        last = self.segments[-1] if self.segments else None
        listed_from = 0 if last is None else last.ticks + last.duration_ticks - PARTS_LISTED_S * OPUS_CLOCK_RATE_HZ
        for index, segment in enumerate(self.segments):
            if index < skipped:
                continue
            yield from self._segment_begins(segment)
            if not self.ended and segment.ticks >= listed_from:
                for part, duration in enumerate(segment.durations):
                    name = self.part_name(segment.msn, part)
                    yield f'#EXT-X-PART:DURATION={_seconds(duration)},URI="{path}{name}",INDEPENDENT=YES'
            if segment.complete:
                yield from self._segment_ends(segment, path)
        if self.ended:
            yield "#EXT-X-ENDLIST"
        else:
            yield f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="{path}{self.part_name(*self.next_part)}"'
            msn, last_part = self.end_position
            if last_part is not None:
                for other in RENDITIONS:
                    if other is not rendition:
                        yield f'#EXT-X-RENDITION-REPORT:URI="{other.name}.m3u8",LAST-MSN={msn},LAST-PART={last_part}'
        yield ""

    def _segment_begins(self, segment: Segment) -> Iterator[str]:
        if segment.discontinuity:
            yield "#EXT-X-DISCONTINUITY"
        yield f"#EXT-X-PROGRAM-DATE-TIME:{self.date_of(segment.ticks)}"

    def _segment_ends(self, segment: Segment, path: str) -> Iterator[str]:
        yield f"#EXTINF:{_seconds(segment.duration_ticks)},"
        yield f"{path}{self.segment_name(segment)}"

    def _skippable(self) -> int:
        """Complete segments that end further from the end than CAN-SKIP-UNTIL, when it is worth it."""
        last = self.segments[-1] if self.segments else None
        if last is None:
            return 0
        boundary = last.ticks + last.duration_ticks - SKIP_UNTIL_S * OPUS_CLOCK_RATE_HZ
        count = 0
        for segment in self.segments:
            if segment.ticks + segment.duration_ticks > boundary:
                break
            count += 1
        return count


def multivariant_playlist(prefix: str = "", *, version: int = VERSION) -> bytes:
    """The list of renditions. `prefix` goes before the names of their playlists."""
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{version}", "#EXT-X-INDEPENDENT-SEGMENTS"]
    for rendition in RENDITIONS:
        lines.append(
            f"#EXT-X-STREAM-INF:BANDWIDTH={rendition.peak_bps},AVERAGE-BANDWIDTH={rendition.average_bps},"
            f'CODECS="{CODEC}"'
        )
        lines.append(f"{prefix}{rendition.name}.m3u8")
    return "\n".join([*lines, ""]).encode()


def _seconds(ticks: int) -> str:
    """Exact to a microsecond, without zeros that say nothing."""
    return f"{ticks / OPUS_CLOCK_RATE_HZ:.6f}".rstrip("0").rstrip(".")
