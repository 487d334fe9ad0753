"""What there is of one stream in a bucket, and what has to happen next so that it is what it should be.

Sans-IO. Nothing is queued: each step follows from the plan as it is now and from what is up, so that a store which was
away is caught up with by itself, and of playlists only the newest goes up. The order of steps keeps the one promise: a
playlist never names what is not there. Media goes up first, then the playlists that name it; what they name no longer
goes a while after them.

Names are below the show's prefix: "high/init-r1.mp4", "high.m3u8".
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from lac_media.hls.plan import WHOLE_VERSION, Plan, Segment, multivariant_playlist
from lac_media.hls.renditions import RENDITIONS, Rendition
from lac_media.parameters import OPUS_CLOCK_RATE_HZ

INDEX = "index.m3u8"
#: What names media, and what names these: in the order in which they may go up.
PLAYLISTS = (*(f"{rendition.name}.m3u8" for rendition in RENDITIONS), INDEX)
#: Segments that go up at a time, in every rendition.
SEGMENTS_AT_ONCE = 2
#: What no playlist names any more stays for so long: players and caches have older playlists.
LINGER_S = 120.0
#: Objects that are deleted at a time.
DELETE_AT_ONCE = 1_000
#: Players are sent here when there is a little to play, and for as long as the end is not further behind than this.
READY_SEGMENTS = 3
FRESH_S = 12.0


class Aim(Enum):
    """What is to become of the stream in the bucket."""

    #: It is to be there, as it is here.
    PUSH = auto()
    #: Nothing of it is to be there: the show is private now.
    WITHDRAW = auto()
    #: Neither: another part of the same show has the place.
    WAIT = auto()


@dataclass(frozen=True, slots=True)
class MediaName:
    """A header or segment, as `HlsStream.file` finds it."""

    rendition: Rendition
    file: str
    #: Of a segment.
    msn: int | None = None

    def __str__(self) -> str:
        return f"{self.rendition.name}/{self.file}"


@dataclass(frozen=True, slots=True)
class PutMedia:
    """In any order, all at once."""

    names: tuple[MediaName, ...]


@dataclass(frozen=True, slots=True)
class PutPlaylists:
    """The media playlists first, then the index, which never changes: None when it is up. `ended`: nor will they."""

    media: dict[str, bytes]
    index: bytes | None
    first_msn: int
    last_msn: int
    ended: bool

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.media) if self.index is None else (*self.media, INDEX)


@dataclass(frozen=True, slots=True)
class Delete:
    names: tuple[str, ...]


Step = PutMedia | PutPlaylists | Delete


class Shelf:
    """For each step: `begin`, then `stored` for each of its media, or `done`; or the same step again."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        #: Media that is up for certain.
        self._here: set[str] = set()
        #: Whatever may be up: also what was begun only, and what an earlier process left.
        self._perhaps: set[str] = set()
        #: When what no playlist names any more may go.
        self._leaving: dict[str, float] = {}
        #: What the playlists that are up say.
        self._listed: PutPlaylists | None = None
        #: Segments up to this one cannot be had any more, although they should be there.
        self._lost = -1

    # how it stands

    @property
    def listed_segments(self) -> int:
        return 0 if self._listed is None else self._listed.last_msn - self._listed.first_msn + 1

    @property
    def is_closed(self) -> bool:
        """The playlists that are up are finished ones."""
        return self._listed is not None and self._listed.ended

    @property
    def behind_s(self) -> float:
        """How much of the program is complete here and not in the playlists that are up."""
        listed = -1 if self._listed is None else self._listed.last_msn
        ticks = sum(segment.duration_ticks for segment in self._complete() if segment.msn > listed)
        return ticks / OPUS_CLOCK_RATE_HZ

    @property
    def is_fresh(self) -> bool:
        """Players may be sent there."""
        if self._plan.ended:
            return self.is_closed
        return self.listed_segments >= READY_SEGMENTS and self.behind_s <= FRESH_S

    @property
    def perhaps(self) -> Collection[str]:
        """Whatever may be up."""
        return self._perhaps

    def timer_at(self) -> float:
        return min(self._leaving.values(), default=math.inf)

    # what happens

    def found(self, names: Collection[str]) -> None:
        """What is up: before the first step, and after others have been at it."""
        self._perhaps = set(names)
        self._here = {str(name) for name in self._wanted() if str(name) in self._perhaps}
        self._leaving.clear()
        self._listed = None

    def next_step(self, aim: Aim, *, now: float) -> Step | None:
        if aim is Aim.WAIT:
            return None
        if aim is Aim.WITHDRAW:
            return self._withdraw()
        step = self._list_what_is_here() or self._bring_what_is_missing()
        if step is not None:
            return step
        due = [name for name, at in self._leaving.items() if at <= now]
        return Delete(tuple(due[:DELETE_AT_ONCE])) if due else None

    def begin(self, step: Step) -> None:
        """From now on what it puts may be there."""
        if not isinstance(step, Delete):
            self._perhaps.update(str(name) for name in step.names)

    def stored(self, name: MediaName) -> None:
        self._here.add(str(name))

    def lost(self, name: MediaName) -> None:
        """There is no such file any more."""
        if name.msn is not None:
            self._lost = max(self._lost, name.msn)

    def done(self, step: PutPlaylists | Delete, *, now: float) -> None:
        if isinstance(step, PutPlaylists):
            self._listed = step
            keep = {str(name) for name in self._wanted() if name.msn is None or name.msn >= step.first_msn}
            for name in self._perhaps - keep - set(PLAYLISTS):
                self._leaving.setdefault(name, now + LINGER_S)
            return
        for name in step.names:
            self._leaving.pop(name, None)
        self._perhaps.difference_update(step.names)
        self._here.difference_update(step.names)
        if INDEX in step.names:
            self._listed = None

    # inside

    def _complete(self) -> Iterator[Segment]:
        return (segment for segment in self._plan.segments if segment.complete and segment.msn > self._lost)

    def _wanted(self) -> Iterator[MediaName]:
        for rendition in RENDITIONS:
            yield MediaName(rendition, self._plan.init_name)
        for segment in self._complete():
            yield from self._names_of(segment)

    def _names_of(self, segment: Segment) -> Iterator[MediaName]:
        for rendition in RENDITIONS:
            yield MediaName(rendition, self._plan.segment_name(segment), segment.msn)

    def _is_here(self, segment: Segment) -> bool:
        return all(str(name) in self._here for name in self._names_of(segment))

    def _list_what_is_here(self) -> PutPlaylists | None:
        """Everything up to the first segment that is missing."""
        if any(f"{rendition.name}/{self._plan.init_name}" not in self._here for rendition in RENDITIONS):
            return None
        first = last = None
        complete = True
        for segment in self._complete():
            if not self._is_here(segment):
                complete = False
                break
            first, last = first if first is not None else segment.msn, segment.msn
        if first is None or last is None:
            return None
        ended = self._plan.ended and complete
        listed = self._listed
        if listed is not None and (listed.last_msn, listed.ended) == (last, ended):
            return None  # that the first one leaves is said with the next one that comes
        playlists = {
            f"{rendition.name}.m3u8": self._plan.whole_playlist(rendition, first, last, ended=ended)
            for rendition in RENDITIONS
        }
        index = multivariant_playlist(version=WHOLE_VERSION) if listed is None else None
        return PutPlaylists(playlists, index, first, last, ended)

    def _bring_what_is_missing(self) -> PutMedia | None:
        missing: list[MediaName] = []
        segments = 0
        for segment in self._complete():
            names = [name for name in self._names_of(segment) if str(name) not in self._here]
            if names:
                missing += names
                segments += 1
            if segments == SEGMENTS_AT_ONCE:
                break
        if not segments and not self._here:
            return None  # nothing to play yet: no headers either
        headers = [MediaName(rendition, self._plan.init_name) for rendition in RENDITIONS]
        missing = [name for name in headers if str(name) not in self._here] + missing
        return PutMedia(tuple(missing)) if missing else None

    def _withdraw(self) -> Delete | None:
        for names in from_the_top(self._perhaps):
            if names:
                return Delete(tuple(names[:DELETE_AT_ONCE]))
        return None


def from_the_top(names: Collection[str]) -> tuple[list[str], list[str], list[str]]:
    """In the order in which they have to go: the index, the media playlists, the media. Names may be whole keys."""
    playlists = [name for name in names if name.endswith(".m3u8")]
    index = [name for name in playlists if name.rpartition("/")[2] == INDEX]
    return (
        index,
        sorted(set(playlists) - set(index)),
        sorted(set(names) - set(playlists)),
    )
