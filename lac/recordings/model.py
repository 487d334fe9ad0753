"""What a recording is: its record, its states and the moves between them. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from lac.errors import ConflictError


class RecordingStatus(StrEnum):
    #: Being made. Its files grow.
    RECORDING = "recording"
    #: The show, or its recorder, has ended; the files are being mended and verified.
    PROCESSING = "processing"
    #: Whole and verified. The files do not change any more.
    READY = "ready"
    #: It could not be made whole, `failure` says why. What can be played of it is kept.
    FAILED = "failed"


class EndReason(StrEnum):
    """Why the recorder stopped."""

    #: Somebody stopped it.
    STOPPED = "stopped"
    #: The show was over.
    ENDED = "ended"
    #: The server was stopped in order. What was live is taken up again by the next start, and recorded further.
    SHUTDOWN = "shutdown"
    #: The process went away without a word; the next start found what was left.
    LOST = "lost"


class Failure(StrEnum):
    """What keeps a recording from being whole."""

    #: Nothing at all was written.
    NOTHING_RECORDED = "nothing_recorded"
    #: The disk was full, or refused to be written to, until the end.
    DISK_FULL = "disk_full"
    DISK_ERROR = "disk_error"
    #: The file is not as long as the clock says it must be.
    DURATION = "duration"
    #: A decoder cannot play it.
    UNDECODABLE = "undecodable"


class RecorderState(StrEnum):
    """What a show's recorder does just now, as everyone in the room is told."""

    OFF = "off"
    RECORDING = "recording"
    #: It is wanted, but cannot be written just now: what is said is lost until it is `recording` again.
    INTERRUPTED = "interrupted"


#: The recorder leaves these; a show that is taken up again after them is recorded further.
INTERRUPTIONS = frozenset({EndReason.SHUTDOWN, EndReason.LOST})

TRANSITIONS: frozenset[tuple[RecordingStatus, RecordingStatus]] = frozenset(
    {
        (RecordingStatus.RECORDING, RecordingStatus.PROCESSING),
        (RecordingStatus.PROCESSING, RecordingStatus.READY),
        (RecordingStatus.PROCESSING, RecordingStatus.FAILED),
    }
)


def check_move(before: RecordingStatus, after: RecordingStatus) -> None:
    """Raise `ConflictError` (wrong_state) for a move that does not exist. Staying is no move."""
    if before is not after and (before, after) not in TRANSITIONS:
        raise ConflictError(f"A recording that is {before} cannot become {after}.", code="wrong_state")


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording of one show. Times are aware UTC."""

    id: str
    broadcast_id: str
    status: RecordingStatus
    title: str
    description: str
    #: Of the program, relative to the data directory (or to a bucket).
    storage_key: str | None
    content_type: str | None
    #: Of the program's file, once it is known.
    size_bytes: int | None
    duration_s: float | None
    sha256: str | None
    started_at: datetime
    ended_at: datetime | None
    created_at: datetime
    #: Media time of the show at which it begins.
    media_start_s: float
    #: A show that is recorded again after an interruption, or after a pause, has several: 1, 2, ...
    part: int
    #: None: it began by itself, with the show.
    started_by: str | None
    end_reason: EndReason | None
    failure: Failure | None
    #: Seconds of it that are silence because they could not be written.
    lost_s: float
    #: Raised by every change that people make.
    revision: int

    @property
    def is_playable(self) -> bool:
        """Whether there is something to hear, be it whole or failed. In SQL: `store.is_playable`."""
        if self.status is RecordingStatus.FAILED:
            kept = self.failure is not Failure.NOTHING_RECORDED and self.size_bytes and self.duration_s
            return bool(kept)
        return self.status is RecordingStatus.READY
