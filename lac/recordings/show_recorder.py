"""The recorder of one show: begins and ends recordings as its hosts wish, for as long as it is on air.

`run` is a task of the broadcast's. It owns the take; `start` and `stop` only tell it what is wished, and wait. No error
in here is the show's: a recorder that fails is logged and goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import structlog
import trio

from lac.broadcasts.model import Broadcast
from lac.errors import ConflictError, UnavailableError
from lac.recordings.archive import Archive
from lac.recordings.manifest import Chapter
from lac.recordings.model import EndReason, RecorderState, Recording
from lac.recordings.take import Take, TappedRoom
from lac.recordings.tape import Origin
from lac.tasks import boundary, cleanup_scope
from lac_media.errors import MediaError
from lac_media.parameters import OPUS_CLOCK_RATE_HZ

log = structlog.get_logger(__name__)

#: To end all files of a recording, and to write down that it has ended. What takes longer is left for the next start.
CLOSE_S = 4.0
#: A recording that is to begin by itself, while the database does not take it.
BEGIN_RETRY_S = 2.0
#: After an error of ours.
RESTART_S = 1.0


class RecordedRoom(TappedRoom, Protocol):
    def media_time_s(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Show:
    """What the recorder needs of its broadcast. `tell` is called with every change of the state; `is_over` is false
    when only the process ends."""

    broadcast: Callable[[], Broadcast]
    tell: Callable[[RecorderState], None]
    name_of: Callable[[str], str | None]
    is_over: Callable[[], bool]


@dataclass(slots=True, eq=False)
class _Wish:
    """Somebody wants a recording to begin. `patient`: it may begin late, nobody waits for it."""

    actor_id: str | None
    patient: bool = False
    done: trio.Event = field(default_factory=trio.Event)
    recording: Recording | None = None
    error: Exception | None = None


class ShowRecorder:
    def __init__(self, show: Show, archive: Archive) -> None:
        self.state = RecorderState.OFF
        self._show = show
        self._archive = archive
        self._wish: _Wish | None = None
        self._asked = trio.Event()
        self._take: Take | None = None
        #: Of the present take: cancelled to stop it, who did, and set once it has ended.
        self._scope = trio.CancelScope()
        self._stopped_by: str | None = None
        self._ended = trio.Event()
        self._last: Recording | None = None
        self._running = False

    @property
    def recording(self) -> Recording | None:
        """The one that is being made."""
        return None if self._take is None else self._take.recording

    # what the hosts wish

    async def start(self, actor_id: str) -> Recording:
        """Begin to record; if it is recorded already, that recording. Raises `ConflictError` (not_live),
        `UnavailableError`."""
        await trio.lowlevel.checkpoint()
        while True:
            if not self._running:
                raise ConflictError("This show is not live.", code="not_live")
            if self._take is None or self._stopped_by is None:
                break
            await self._ended.wait()
        if self._take is not None:
            return self._take.recording
        wish = self._wish
        if wish is None:
            wish = self._wish = _Wish(actor_id)
            self._asked.set()
        await wish.done.wait()
        if wish.error is not None:
            raise wish.error
        if wish.recording is None:
            raise ConflictError("This show is not live any more.", code="not_live")
        return wish.recording

    def switch_on(self, actor_id: str) -> None:
        """Begin to record, unless it is recorded already; when it can, as at the beginning of a show. Does nothing when
        the show is over."""
        ending = self._take is not None and self._stopped_by is not None
        if self._running and self._wish is None and (self._take is None or ending):
            self._wish = _Wish(actor_id, patient=True)
            self._asked.set()

    async def stop(self, actor_id: str) -> Recording:
        """End the recording; it is published once it has been verified. Raises `ConflictError` (not_recording)."""
        await trio.lowlevel.checkpoint()
        take = self._take
        if take is None:
            raise ConflictError("This show is not being recorded.", code="not_recording")
        if self._stopped_by is None:
            self._stopped_by = actor_id
            self._scope.cancel("the recording was stopped")
        await self._ended.wait()
        return self._last or take.recording

    def add_chapter(self, title: str, person_id: str) -> Chapter:
        """Mark this moment. Raises `ConflictError` (not_recording, too_many_chapters)."""
        if self._take is None:
            raise ConflictError("This show is not being recorded.", code="not_recording")
        chapter = self._take.add_chapter(title, "marker", person_id)
        if chapter is None:
            raise ConflictError("This recording has as many chapters as it can have.", code="too_many_chapters")
        return chapter

    # what happens in the show

    def speaker_started(self, producer_id: str, person_id: str) -> None:
        """Synchronous, and raises nothing: it is called on the path of the audio."""
        if self._take is not None:
            with boundary("record a speaker", producer_id=producer_id):
                self._take.speaker_started(producer_id, person_id)

    def speaking_changed(self, loudest: str | None) -> None:
        """Who is the loudest now. Synchronous."""
        if self._take is not None:
            self._take.speaking_changed(loudest)

    # the task

    async def run(self, room: RecordedRoom, *, reopened: bool) -> None:
        """Record as wished until cancelled. `reopened`: the show was live when the process stopped."""
        self._running = True
        try:
            with boundary("record a show", broadcast_id=self._show.broadcast().id):
                if await self._begins_by_itself(reopened=reopened):
                    self._wish = self._wish or _Wish(None, patient=True)
                while True:
                    if self._wish is None:
                        self._asked = trio.Event()
                        await self._asked.wait()
                    wish = self._wish
                    if wish is not None:
                        await self._record(room, wish)
        finally:
            self._running = False
            wish, self._wish = self._wish, None
            if wish is not None:
                wish.done.set()

    async def _begins_by_itself(self, *, reopened: bool) -> bool:
        if not reopened:
            return self._show.broadcast().recording_enabled
        while True:
            try:
                return await self._archive.goes_on(self._show.broadcast())
            except UnavailableError as error:
                log.warning("it is not known yet whether a show is recorded further", why=error.code)
                await trio.sleep(BEGIN_RETRY_S)

    async def _record(self, room: RecordedRoom, wish: _Wish) -> None:
        """One recording, from its beginning to its end."""
        try:
            recording = await self._begin(room, wish)
        except Exception as error:
            self._wish, wish.error = None, error
            wish.done.set()
            if not isinstance(error, UnavailableError):
                log.exception("a recording could not begin", broadcast_id=self._show.broadcast().id)
            return
        try:
            take = self._open(room, recording)
        except MediaError as error:  # the show has just ended
            log.info("a recording did not begin any more", recording_id=recording.id, why=str(error))
            with cleanup_scope(CLOSE_S, "discard a recording", recording_id=recording.id):
                await self._archive.discard(recording)
            self._archive.let_go(recording.id)
            self._wish = None
            wish.done.set()
            return
        except Exception:
            self._archive.let_go(recording.id)
            raise
        self._wish, wish.recording = None, recording
        wish.done.set()
        log.info("recording", recording_id=recording.id, broadcast_id=recording.broadcast_id, part=recording.part)
        try:
            self._change(take.state)
            with self._scope:
                await self._keep_running(take)
        finally:
            await self._close(take)

    def _open(self, room: RecordedRoom, recording: Recording) -> Take:
        """Begin: nothing is missed from here on. Raises `MediaError` when the room is closing."""
        origin = Origin(round(room.media_time_s() * OPUS_CLOCK_RATE_HZ), trio.current_time())
        archive = self._archive
        directory = archive.directory(recording.id)
        take = Take(recording, directory, room, origin, archive.blocking, self._show.name_of, archive.has_room)
        archive.recorded_by(take)
        self._scope, self._ended, self._stopped_by = trio.CancelScope(), trio.Event(), None
        self._take = take
        return take

    async def _close(self, take: Take) -> None:
        """End it, whatever ended us: bounded, and shielded."""
        recording, reason = take.recording, self._reason()
        try:
            with cleanup_scope(CLOSE_S, "close a recording", recording_id=recording.id):
                await take.close(reason)
            if take.finished is None:
                self._archive.close_later(take, reason)
                return
            with cleanup_scope(CLOSE_S, "write down the end of a recording", recording_id=recording.id):
                self._last = await self._archive.ended(recording, take.finished, actor_id=self._stopped_by)
            self._archive.let_go(recording.id)
        finally:
            self._take = None
            self._change(RecorderState.OFF)
            self._ended.set()

    async def _begin(self, room: RecordedRoom, wish: _Wish) -> Recording:
        while True:
            try:
                return await self._archive.begin(
                    self._show.broadcast(), media_start_s=room.media_time_s(), actor_id=wish.actor_id
                )
            except UnavailableError as error:
                if not wish.patient:
                    raise
                log.warning("a recording has to wait for the database", why=error.code)
                self._change(RecorderState.INTERRUPTED)
            await trio.sleep(BEGIN_RETRY_S)

    async def _keep_running(self, take: Take) -> None:
        while True:
            with boundary("record", recording_id=take.recording.id):
                await take.run(self._change)
            await trio.sleep(RESTART_S)

    def _reason(self) -> EndReason:
        if self._stopped_by is not None:
            return EndReason.STOPPED
        return EndReason.ENDED if self._show.is_over() else EndReason.SHUTDOWN

    def _change(self, state: RecorderState) -> None:
        if state is not self.state:
            self.state = state
            self._show.tell(state)
