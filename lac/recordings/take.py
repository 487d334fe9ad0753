"""One recording while it is made: taps on the program and on every speaker, and a worker thread that writes.

The live path puts packets into the taps and knows nothing of the disk. A disk that is slow for more than ten seconds
costs packets, which are counted; one that refuses costs until it takes again. See `lac.recordings.tape`.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import structlog
import trio

from lac.clock import utc_now
from lac.recordings.chapters import SpeakerChapters
from lac.recordings.deck import Deck, Written
from lac.recordings.manifest import Chapter, Manifest
from lac.recordings.model import EndReason, RecorderState, Recording
from lac.recordings.tape import Batch, Origin, Tape
from lac_media.errors import MediaError
from lac_media.rooms.tap import Tap

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: How often what came is handed to the kernel. With what `Timeline` holds back behind a hole (0.4 s) it is what a
#: killed process loses: less than a second.
WRITE_INTERVAL_S = 0.25
#: A disk that has not taken something for this long hangs, and will cost packets.
HANGS_S = 5.0
#: Chapters of one recording. Further ones are not kept.
MAX_CHAPTERS = 1000


#: No producer's id.
_PROGRAM = ""


class TappedRoom(Protocol):
    """What a take needs of a media room."""

    def tap_program(self) -> Tap: ...

    def tap_speaker(self, producer_id: str) -> Tap: ...

    def producers(self) -> list[tuple[str, str]]: ...


class Blocking(Protocol):
    """Runs something that blocks on the disk elsewhere. A caller that is cancelled does not wait for it to end."""

    def __call__(self, job: Callable[[], T], /) -> Awaitable[T]: ...


@dataclass(slots=True, eq=False)
class _Source:
    """A tap that fills a tape. `dropped` is what was counted of the tap's own count."""

    number: int
    tap: Tap
    tape: Tape
    dropped: int = 0

    def take(self) -> Batch:
        dropped, self.dropped = self.tap.dropped - self.dropped, self.tap.dropped
        return Batch(self.tape, self.number, self.tap.receive_nowait(), dropped)


class Take:
    """Begins when it is made: second 0 of the recording is `origin`, and from then on nothing is missed; a disk that
    takes its time has ten seconds. `run` writes until it is cancelled, and `close` ends it.

    `name_of` says what a person is called; while `has_room` says no, nothing is written. Raises `MediaError` when the
    room is closing.
    """

    def __init__(
        self,
        recording: Recording,
        directory: Path,
        room: TappedRoom,
        origin: Origin,
        blocking: Blocking,
        name_of: Callable[[str], str | None],
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        self.recording = recording
        self._deck = Deck(recording, directory, origin, serial=partial(secrets.randbits, 32), has_room=has_room)
        self._room = room
        self._blocking = blocking
        self._name_of = name_of
        self._number = 0
        self._speaker_chapters = SpeakerChapters()
        self._closed = False
        #: Once it has been closed.
        self.finished: Manifest | None = None
        self._writing_since: float | None = None
        self._closing: Callable[[], Manifest] | None = None
        self._sources = {_PROGRAM: _Source(0, room.tap_program(), self._deck.program)}
        for producer_id, person_id in room.producers():
            self.speaker_started(producer_id, person_id)

    @property
    def state(self) -> RecorderState:
        hangs = self._writing_since is not None and trio.current_time() - self._writing_since >= HANGS_S
        if hangs or self._deck.program.failure is not None:
            return RecorderState.INTERRUPTED
        return RecorderState.RECORDING

    def written(self) -> Written:
        return self._deck.written()

    def position_s(self) -> float:
        """Seconds since it began."""
        return trio.current_time() - self._deck.origin.at

    def speaker_started(self, producer_id: str, person_id: str) -> None:
        """Somebody is heard: from their first packet on, they are on a track of their own. Synchronous."""
        if self._closed or producer_id in self._sources:
            return
        tape = self._deck.speaker(person_id, self._name_of(person_id))
        if tape is None:
            log.warning("a speaker has no track left", recording_id=self.recording.id, person_id=person_id)
            return
        try:
            tap = self._room.tap_speaker(producer_id)
        except MediaError:  # gone already
            return
        self._number += 1
        self._sources[producer_id] = _Source(self._number, tap, tape)

    def speaking_changed(self, loudest: str | None) -> None:
        """Who is the loudest from now on; None for nobody."""
        self._speaker_chapters.hear(loudest, self.position_s())

    def add_chapter(
        self, title: str, kind: str, person_id: str | None = None, *, start_s: float | None = None
    ) -> Chapter | None:
        """A chapter from this moment (or `start_s`) on. None when there are too many already."""
        if len(self._deck.chapters) >= MAX_CHAPTERS:
            return None
        at_s = self.position_s() if start_s is None else start_s
        chapter = Chapter(start_s=round(at_s, 3), title=title, kind=kind, person_id=person_id)
        self._deck.chapters.append(chapter)
        return chapter

    async def run(self, on_state: Callable[[RecorderState], None]) -> None:
        """Write until cancelled. `on_state` is told of every change of `state`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, on_state)
            await self._write()

    async def _watch(self, on_state: Callable[[RecorderState], None]) -> None:
        state = self.state
        while True:
            await trio.sleep(WRITE_INTERVAL_S)
            if self.state is not state:
                state = self.state
                on_state(state)

    async def _write(self) -> None:
        while True:
            now = trio.current_time()
            begun = self._speaker_chapters.due(self.position_s())
            if begun is not None:
                start_s, person_id = begun
                self.add_chapter(self._name_of(person_id) or person_id, "speaker", person_id, start_s=start_s)
            self._writing_since = now
            try:
                await self._blocking(partial(self._deck.write, self._collect(), now=now))
            finally:
                self._writing_since = None
            await trio.sleep(WRITE_INTERVAL_S)

    async def close(self, reason: EndReason) -> None:
        """End it at this moment. The caller bounds the time. A call that was given up can be repeated: it is the moment
        of the first that counts. The directory stays locked until it has been closed."""
        if self._closing is None:
            batches = self._collect()
            self._let_go()
            self._closing = partial(
                self._deck.close, batches, now=trio.current_time(), ended_at=utc_now(), reason=reason
            )
        self.finished = await self._blocking(self._closing)

    def _collect(self) -> list[Batch]:
        """What has come. Sources that have ended are forgotten."""
        batches = [source.take() for source in self._sources.values()]
        for producer_id in [producer_id for producer_id, source in self._sources.items() if source.tap.ended]:
            if producer_id != _PROGRAM:
                del self._sources[producer_id]
        return batches

    def _let_go(self) -> None:
        self._closed = True
        for source in self._sources.values():
            source.tap.close()
        self._sources.clear()
