"""Recordings: start and stop them, find them, change them, take them home."""

from __future__ import annotations

from pathlib import Path

from quart import Blueprint, Response, request
from quart_schema import tag_blueprint

from lac.broadcasts import policy
from lac.errors import ConflictError, NotFoundError
from lac.identity import Identity
from lac.recordings.layout import CONTENT_TYPE
from lac.recordings.manifest import Manifest, TrackInfo
from lac.recordings.model import Recording
from lac.recordings.service import Found
from lac.recordings.store import UNFINISHED
from lac_web.api.endpoint import access, endpoint
from lac_web.file_responses import file_response, redirect_to
from lac_web.schemas import MessageQuery
from lac_web.schemas_recordings import (
    ChapterAnswer,
    Chapters,
    NewChapter,
    RecordingAnswer,
    RecordingChanges,
    RecordingPage,
    RecordingQuery,
    SaidPage,
    chapter_answer,
    said_answer,
)
from lac_web.security import Access, identify
from lac_web.services import current_services

blueprint = Blueprint("recordings", __name__)
tag_blueprint(blueprint, ["recordings"])

Answered = tuple[RecordingAnswer, dict[str, str]]


def _answer(recording: Recording) -> RecordingAnswer:
    return RecordingAnswer(
        id=recording.id,
        broadcast_id=recording.broadcast_id,
        status=recording.status,
        title=recording.title,
        description=recording.description,
        part=recording.part,
        started_at=recording.started_at,
        ended_at=recording.ended_at,
        duration_s=recording.duration_s,
        size_bytes=recording.size_bytes,
        content_type=recording.content_type,
        sha256=recording.sha256,
        media_start_s=recording.media_start_s,
        lost_s=recording.lost_s,
        end_reason=recording.end_reason,
        failure=recording.failure,
        playable=recording.is_playable,
    )


def entity_tag(recording: Recording) -> str:
    """Names what people can change of it, and its status."""
    return f"{recording.id}-{recording.revision}-{recording.status}"


def _answer_one(recording: Recording) -> Answered:
    return _answer(recording), {"ETag": f'"{entity_tag(recording)}"'}


@blueprint.post("/api/broadcasts/<broadcast_id>/record/start")
@endpoint(Access.ACCOUNT, returns=RecordingAnswer)
async def start_recording(identity: Identity, broadcast_id: str) -> Answered:
    """Record a live show from now on. While it is recorded already this changes nothing."""
    return _answer_one(await current_services().on_air.start_recording(identity, broadcast_id))


@blueprint.post("/api/broadcasts/<broadcast_id>/record/stop")
@endpoint(Access.ACCOUNT, returns=RecordingAnswer)
async def stop_recording(identity: Identity, broadcast_id: str) -> Answered:
    """End the recording of a live show. It is `ready` once it has been verified."""
    return _answer_one(await current_services().on_air.stop_recording(identity, broadcast_id))


@blueprint.post("/api/broadcasts/<broadcast_id>/record/chapters")
@endpoint(Access.ACCOUNT, takes=NewChapter, returns=ChapterAnswer, status=201)
async def mark_chapter(identity: Identity, broadcast_id: str, data: NewChapter) -> ChapterAnswer:
    """A chapter of the recording begins now."""
    return chapter_answer(await current_services().on_air.mark_chapter(identity, broadcast_id, data.title))


@blueprint.get("/api/recordings")
@endpoint(Access.OPTIONAL, query=RecordingQuery, returns=RecordingPage)
async def list_recordings(identity: Identity | None, query: RecordingQuery) -> RecordingPage:
    """Recordings that the caller may know of, the latest first.

    Those who run a show see its recordings before they are ready, too, and those that failed.
    """
    page = await current_services().recordings.list(
        identity, broadcast_id=query.broadcast_id, host_id=query.host_id, limit=query.limit, cursor=query.cursor
    )
    return RecordingPage(items=[_answer(item) for item in page.items], next_cursor=page.next_cursor)


@blueprint.get("/api/recordings/<recording_id>")
@endpoint(Access.OPTIONAL, returns=RecordingAnswer)
async def get_recording(identity: Identity | None, recording_id: str) -> Answered:
    """One recording."""
    return _answer_one((await current_services().recordings.get(identity, recording_id)).recording)


@blueprint.patch("/api/recordings/<recording_id>")
@endpoint(Access.ACCOUNT, takes=RecordingChanges, returns=RecordingAnswer)
async def update_recording(identity: Identity, recording_id: str, data: RecordingChanges) -> Answered:
    """Change what is given and leave the rest.

    With `If-Match` only while it is what the caller has seen: 412 if it has changed meanwhile.
    """
    changes = {name: value for name in data.__struct_fields__ if isinstance(value := getattr(data, name), str)}
    tags = request.if_match if "If-Match" in request.headers else None
    found = await current_services().recordings.update(
        identity,
        recording_id,
        changes,
        only_if=None if tags is None else lambda recording: tags.contains(entity_tag(recording)),
    )
    return _answer_one(found.recording)


@blueprint.delete("/api/recordings/<recording_id>")
@endpoint(Access.ACCOUNT, status=204)
async def delete_recording(identity: Identity, recording_id: str) -> None:
    """Remove a recording and its files. One that is being made has to be stopped first."""
    await current_services().recordings.delete(identity, recording_id)


@blueprint.get("/api/recordings/<recording_id>/manifest")
@endpoint(Access.ACCOUNT, returns=Manifest)
async def get_manifest(identity: Identity, recording_id: str) -> Manifest:
    """What a recording consists of, what is missing in it and what was verified, for those who run the show."""
    services = current_services()
    found = await services.recordings.get(identity, recording_id)
    policy.require(found.role, policy.Act.SEE_TRACKS)
    return await services.recordings.manifest(found)


@blueprint.get("/api/recordings/<recording_id>/chapters")
@endpoint(Access.OPTIONAL, returns=Chapters)
async def list_chapters(identity: Identity | None, recording_id: str) -> Chapters:
    """Where somebody set a mark, and where somebody else began to speak."""
    services = current_services()
    found = await services.recordings.get(identity, recording_id)
    manifest = await services.recordings.manifest(found)
    return Chapters(chapters=[chapter_answer(chapter) for chapter in manifest.chapters])


@blueprint.get("/api/recordings/<recording_id>/messages")
@endpoint(Access.OPTIONAL, query=MessageQuery, returns=SaidPage)
async def list_recording_messages(identity: Identity | None, recording_id: str, query: MessageQuery) -> SaidPage:
    """The chat, each line at its moment of the recording, the earliest first."""
    services = current_services()
    found = await services.recordings.get(identity, recording_id)
    page = await services.recordings.chat(found, query.limit, query.cursor)
    return SaidPage(items=[said_answer(said) for said in page.items], next_cursor=page.next_cursor)


@blueprint.get("/api/recordings/<recording_id>/download")
@access(Access.OPTIONAL, status=200, returns_file=CONTENT_TYPE)
async def download_recording(recording_id: str) -> Response:
    """What the audience heard, Opus in Ogg.

    Ranges are served; the ETag names the bytes. Where recordings are kept in a bucket, a redirect to where it is for
    some hours.
    """
    identity = await identify(Access.OPTIONAL)
    services = current_services()
    found = await services.recordings.get(identity, recording_id)
    return await _download(found, (await _finished_manifest(found)).program, 1)


@blueprint.get("/api/recordings/<recording_id>/tracks/<number>")
@access(Access.ACCOUNT, status=200, returns_file=CONTENT_TYPE)
async def download_track(recording_id: str, number: str) -> Response:
    """One track by its place in the manifest: 1 is the program, the others one speaker each.

    All begin at the same moment. For those who run the show.
    """
    identity = await identify(Access.ACCOUNT)
    found = await current_services().recordings.get(identity, recording_id)
    policy.require(found.role, policy.Act.SEE_TRACKS)
    tracks = (await _finished_manifest(found)).tracks
    place = int(number) if number.isascii() and number.isdigit() and len(number) < 5 else 0
    return await _download(found, tracks[place - 1] if 0 < place <= len(tracks) else None, place)


async def _finished_manifest(found: Found) -> Manifest:
    if found.recording.status in UNFINISHED:
        raise ConflictError("This recording is not ready yet. Come back in a moment.", code="recording_active")
    return await current_services().recordings.manifest(found)


async def _download(found: Found, track: TrackInfo | None, number: int) -> Response:
    if track is None:
        raise NotFoundError("This recording has no such track.", code="no_such_track")
    services, recording = current_services(), found.recording
    name = _file_name(recording, track)
    place = await services.afterwards.places.find(
        recording.id,
        track.file,
        in_bucket=await services.afterwards.is_in_bucket(recording.id),
        content_type=CONTENT_TYPE,
        download_as=f"{name}.ogg",
    )
    if place is None:
        raise NotFoundError("This file is not there any more.", code="no_such_track")
    if not isinstance(place, Path):
        return redirect_to(place.url)
    return await file_response(
        place,
        content_type=CONTENT_TYPE,
        entity_tag=(track.sha256 or f"{recording.id}-{number}-{recording.status}")[:64],
        name=name,
        limiter=services.archive.readers,
    )


def _file_name(recording: Recording, track: TrackInfo) -> str:
    parts = [f"{recording.started_at:%Y-%m-%d}", recording.title]
    if recording.part > 1:
        parts.append(f"({recording.part})")
    if track.person_id is not None:
        parts.append(f"- {track.display_name or track.person_id}")
    return " ".join(parts)
