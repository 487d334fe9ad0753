"""What is made from recordings: copies in other formats, the waveform, the loudness."""

from __future__ import annotations

from pathlib import Path

import msgspec
from quart import Blueprint, Response
from quart_schema import tag_blueprint

from lac.broadcasts import policy
from lac.errors import ConflictError, NotFoundError, UnavailableError
from lac.identity import Identity
from lac.recordings.derivative import Derivative, DerivativeStatus, Kind, content_type, file_name
from lac.recordings.model import RecordingStatus
from lac.recordings.service import Found
from lac_media.derive.encode import ExportFormat
from lac_web.api.endpoint import access, endpoint
from lac_web.file_responses import file_response, redirect_to
from lac_web.schemas_exports import ExportAnswer, ExportList, LoudnessAnswer, NewExport, Peaks, WhereaboutsAnswer
from lac_web.security import Access, identify
from lac_web.services import current_services

blueprint = Blueprint("exports", __name__)
tag_blueprint(blueprint, ["recordings"])

#: A copy that is being made: when to look again.
PENDING_RETRY_S = 30.0
AUDIO = "audio/*"


def _answer(found: Found, derivative: Derivative) -> ExportAnswer:
    recording, kind = found.recording, derivative.kind
    progress = 0.0
    if derivative.status is DerivativeStatus.READY:
        progress = 1.0
    elif recording.duration_s:
        done_s = current_services().afterwards.derivatives.progress(recording.id, kind)
        progress = min(1.0, done_s / recording.duration_s)
    ready = derivative.status is DerivativeStatus.READY
    return ExportAnswer(
        format=ExportFormat(kind.value),
        status=derivative.status,
        progress=round(progress, 3),
        size_bytes=derivative.size_bytes,
        duration_s=derivative.duration_s,
        error=derivative.error,
        requested_at=derivative.requested_at,
        finished_at=derivative.finished_at,
        url=f"/api/recordings/{recording.id}/exports/{kind}/download" if ready else None,
    )


def _kind(export: str) -> Kind:
    """Raises `NotFoundError` for what is no format."""
    try:
        return Kind(ExportFormat(export).value)
    except ValueError:
        raise _no_export() from None


async def _find(found: Found, export: str) -> Derivative:
    derivative = await current_services().afterwards.derivatives.find(found.recording.id, _kind(export))
    if derivative is None:
        raise _no_export()
    return derivative


@blueprint.get("/api/recordings/<recording_id>/exports")
@endpoint(Access.OPTIONAL, returns=ExportList)
async def list_exports(identity: Identity | None, recording_id: str) -> ExportList:
    """The copies that there are, or that are being made."""
    services = current_services()
    found = await services.recordings.get(identity, recording_id)
    derivatives = await services.afterwards.derivatives.of(recording_id)
    return ExportList(items=[_answer(found, one) for one in derivatives if one.kind is not Kind.ANALYSIS])


@blueprint.post("/api/recordings/<recording_id>/exports")
@endpoint(Access.ACCOUNT, takes=NewExport, returns=ExportAnswer, status=202)
async def request_export(identity: Identity, recording_id: str, data: NewExport) -> ExportAnswer:
    """Have a copy made. If it is there, or on its way, this changes nothing; one that failed is tried again.

    Look at `GET …/exports/{export}` now and then until it is "ready".
    """
    services = current_services()
    found = await services.recordings.get(identity, recording_id)
    policy.require(found.role, policy.Act.EXPORT)
    return _answer(found, await services.afterwards.derivatives.request(found.recording, Kind(data.format.value)))


@blueprint.get("/api/recordings/<recording_id>/exports/<export>")
@endpoint(Access.OPTIONAL, returns=ExportAnswer)
async def get_export(identity: Identity | None, recording_id: str, export: str) -> ExportAnswer:
    """One copy: how far it is, and where."""
    found = await current_services().recordings.get(identity, recording_id)
    return _answer(found, await _find(found, export))


@blueprint.delete("/api/recordings/<recording_id>/exports/<export>")
@endpoint(Access.ACCOUNT, status=204)
async def delete_export(identity: Identity, recording_id: str, export: str) -> None:
    """Stop making a copy, or remove it."""
    services = current_services()
    found = await services.recordings.get(identity, recording_id)
    policy.require(found.role, policy.Act.EDIT)
    await services.afterwards.derivatives.remove(recording_id, _kind(export))


@blueprint.get("/api/recordings/<recording_id>/exports/<export>/download")
@access(Access.OPTIONAL, status=200, returns_file=AUDIO)
async def download_export(recording_id: str, export: str) -> Response:
    """The copy itself, with ranges, or a redirect to where it is for some hours."""
    identity = await identify(Access.OPTIONAL)
    found = await current_services().recordings.get(identity, recording_id)
    derivative = await _find(found, export)
    if derivative.status is not DerivativeStatus.READY:
        raise ConflictError("This copy is not ready yet. Look at its status.", code="export_not_ready")
    return await copy_response(derivative, name=found.recording.title)


async def copy_response(derivative: Derivative, *, name: str) -> Response:
    """A copy that is ready, for the present request."""
    services = current_services()
    kind, recording_id = derivative.kind, derivative.recording_id
    extension = f".{kind}"
    place = await services.afterwards.places.find(
        recording_id,
        file_name(kind),
        in_bucket=derivative.in_bucket,
        content_type=content_type(kind),
        download_as=f"{name}{extension}",
    )
    if place is None:
        raise NotFoundError("This copy is not there any more. Ask for it again.", code="export_gone")
    await services.afterwards.derivatives.used(derivative)
    if not isinstance(place, Path):
        return redirect_to(place.url)
    return await file_response(
        place,
        content_type=content_type(kind),
        entity_tag=(derivative.sha256 or f"{recording_id}-{kind}")[:64],
        name=name,
        extension=extension,
        limiter=services.archive.readers,
    )


@blueprint.get("/api/recordings/<recording_id>/whereabouts")
@endpoint(Access.ACCOUNT, returns=WhereaboutsAnswer)
async def get_whereabouts(identity: Identity, recording_id: str) -> WhereaboutsAnswer:
    """Where a recording's files are, and how far on their way into the bucket; for those who run the show."""
    services = current_services()
    found = await services.recordings.get(identity, recording_id)
    policy.require(found.role, policy.Act.SEE_TRACKS)
    state = await services.afterwards.whereabouts(recording_id)
    return WhereaboutsAnswer(
        place=state.place, size_bytes=state.size_bytes, sent_bytes=state.sent_bytes, trouble=state.trouble
    )


@blueprint.get("/api/recordings/<recording_id>/peaks")
@endpoint(Access.OPTIONAL, returns=Peaks)
async def get_peaks(identity: Identity | None, recording_id: str) -> tuple[msgspec.Raw, dict[str, str]]:
    """The waveform, ten pixels a second. 409 `analysis_pending` while it is being made, shortly after the show."""
    services = current_services()
    derivative = await _analysis(await services.recordings.get(identity, recording_id))
    data = await services.afterwards.places.read(recording_id, file_name(Kind.ANALYSIS), in_bucket=derivative.in_bucket)
    if data is None:
        raise NotFoundError("The waveform is not there any more.", code="export_gone")
    tag = (derivative.sha256 or recording_id)[:64]
    return msgspec.Raw(data), {"ETag": f'"{tag}"', "Cache-Control": "private, max-age=3600"}


@blueprint.get("/api/recordings/<recording_id>/loudness")
@endpoint(Access.OPTIONAL, returns=LoudnessAnswer)
async def get_loudness(identity: Identity | None, recording_id: str) -> LoudnessAnswer:
    """How loud it is. 409 `analysis_pending` while it is being measured, shortly after the show."""
    derivative = await _analysis(await current_services().recordings.get(identity, recording_id))
    return LoudnessAnswer(**{name: derivative.detail.get(name) for name in LoudnessAnswer.__struct_fields__})


async def _analysis(found: Found) -> Derivative:
    if found.recording.status is RecordingStatus.FAILED and not found.recording.is_playable:
        raise NotFoundError("There is nothing in this recording that can be played.", code="nothing_recorded")
    derivative = await current_services().afterwards.derivatives.find(found.recording.id, Kind.ANALYSIS)
    if derivative is None or derivative.status is not DerivativeStatus.READY:
        if derivative is not None and derivative.status is DerivativeStatus.FAILED:
            raise NotFoundError("This recording could not be analysed.", code="analysis_failed")
        raise ConflictError("This recording is still being analysed. Come back soon.", code="analysis_pending")
    return derivative


def export_pending() -> UnavailableError:
    return UnavailableError(
        "This episode is being prepared. Come back in a minute.", retry_after_s=PENDING_RETRY_S, code="export_pending"
    )


def _no_export() -> NotFoundError:
    return NotFoundError("Nobody has asked for such a copy.", code="no_such_export")
