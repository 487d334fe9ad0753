"""JSON of recordings."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from lac.recordings.manifest import Chapter
from lac.recordings.model import EndReason, Failure, RecordingStatus
from lac.recordings.store import Said
from lac.rooms.values import Person
from lac_web.schemas import Answer, AwareTime, Description, Request, Title


class RecordingQuery(Request, frozen=True):
    broadcast_id: Annotated[str, Meta(max_length=64)] | None = None
    host_id: Annotated[str, Meta(max_length=64)] | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    cursor: Annotated[str, Meta(max_length=256)] | None = None


class RecordingChanges(Request, frozen=True):
    """Only what is present changes."""

    title: Title | UnsetType = UNSET
    description: Description | UnsetType = UNSET


class NewChapter(Request, frozen=True):
    title: Title


class RecordingAnswer(Answer, frozen=True):
    """`durationS`, `sizeBytes` and `sha256` are of the program, and null until they are known. `lostS` of it is silence
    because it could not be written. `mediaStartS` is the show's media time at its beginning. A show that is recorded
    again after a pause or an interruption has several `part`s. One that failed can be `playable` all the same, up to
    where it broke off."""

    id: str
    broadcast_id: str
    status: RecordingStatus
    title: str
    description: str
    part: int
    started_at: AwareTime
    ended_at: AwareTime | None
    duration_s: float | None
    size_bytes: int | None
    content_type: str | None
    sha256: str | None
    media_start_s: float
    lost_s: float
    end_reason: EndReason | None
    failure: Failure | None
    playable: bool


class RecordingPage(Answer, frozen=True):
    items: list[RecordingAnswer]
    next_cursor: str | None


class ChapterAnswer(Answer, frozen=True):
    """`startS` counts from the beginning of the recording."""

    start_s: float
    title: str
    kind: str
    person_id: str | None


class Chapters(Answer, frozen=True):
    chapters: list[ChapterAnswer]


class SaidAnswer(Answer, frozen=True):
    """One line of the chat, `startS` from the beginning of the recording."""

    start_s: float
    id: str
    user: Person
    text: str
    at: AwareTime


class SaidPage(Answer, frozen=True):
    items: list[SaidAnswer]
    next_cursor: str | None


def said_answer(said: Said) -> SaidAnswer:
    user = Person(id=said.person_id, display_name=said.display_name, role=said.role, anonymous=said.anonymous)
    return SaidAnswer(start_s=said.start_s, id=said.id, user=user, text=said.text, at=said.at)


def chapter_answer(chapter: Chapter) -> ChapterAnswer:
    return ChapterAnswer(start_s=chapter.start_s, title=chapter.title, kind=chapter.kind, person_id=chapter.person_id)
