"""After the recorder, or the process, has gone: close what is open, verify, and decide what the recording is.

`mend` blocks; `examine_files` runs the verifier as a process; `decide` is pure.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import structlog
import trio

from lac.recordings.layout import PROGRAM, SPEAKERS, TEMPORARY, is_track_file
from lac.recordings.manifest import Manifest, TrackInfo, read_manifest
from lac.recordings.model import EndReason, Failure, Recording, RecordingStatus
from lac_media.container.ogg_opus import mend_ogg_opus
from lac_media.errors import ParseError
from lac_media.parameters import OPUS_CLOCK_RATE_HZ

log = structlog.get_logger(__name__)

#: How far a file that was closed in order may be off the clock. A line of packets is off by half of this at most.
DURATION_ERROR_S = 0.04
#: Of what a decoder gave back, the share that must be there: broken packets from a speaker are no fault of the file.
DECODED_SHARE = 0.5
#: The verifier decodes a hundred times faster than the clock, or this machine is in trouble.
VERIFY_DEADLINE_S = 60.0
VERIFY_SHARE = 0.05


class Examined(msgspec.Struct, frozen=True):
    """What `lac.recordings.verify` found in one file."""

    size: Annotated[int, msgspec.Meta(ge=0)]
    sha256: str
    packets: int
    undecodable: int
    decoded_s: float = msgspec.field(name="decodedS")
    error: str | None = None


class VerifierError(Exception):
    """The verifier itself did not come to an end. Says nothing about the files."""


@dataclass(frozen=True, slots=True)
class Mended:
    """What was found on disk, every file closed. `durations` are seconds, by the manifest's file names; a track whose
    file cannot be made sense of is not in it."""

    manifest: Manifest
    durations: Mapping[str, float]


def mend(directory: Path, recording: Recording) -> Mended:
    """Close every Ogg file that is still open and remove what was half written. Blocking. Raises `OSError`.

    A track that began after the manifest was last written is a track all the same."""
    for temporary in [*directory.glob(f"*{TEMPORARY}"), *directory.glob(f"{SPEAKERS}/*{TEMPORARY}")]:
        temporary.unlink(missing_ok=True)
    manifest = read_manifest(directory)
    if manifest is None or manifest.id != recording.id:
        log.error("a recording has no manifest that can be read; it is made anew", recording_id=recording.id)
        manifest = _manifest_without_tracks(recording)
    manifest = msgspec.structs.replace(manifest, tracks=[*manifest.tracks, *_unlisted_tracks(directory, manifest)])
    durations: dict[str, float] = {}
    for track in manifest.tracks:
        path = directory / track.file
        try:
            with path.open("r+b", buffering=0) as file:
                mended = mend_ogg_opus(file)
        except (ParseError, FileNotFoundError) as error:
            log.warning("a track cannot be read", recording_id=recording.id, file=track.file, why=str(error))
            continue
        if not mended.was_complete:
            log.info("a track was mended", recording_id=recording.id, file=track.file, cut_bytes=mended.dropped)
        durations[track.file] = mended.duration_ticks / OPUS_CLOCK_RATE_HZ
    return Mended(manifest, durations)


def _manifest_without_tracks(recording: Recording) -> Manifest:
    return Manifest(
        id=recording.id,
        broadcast_id=recording.broadcast_id,
        title=recording.title,
        part=recording.part,
        status=RecordingStatus.RECORDING,
        started_at=recording.started_at,
        media_start_s=recording.media_start_s,
    )


def _unlisted_tracks(directory: Path, manifest: Manifest) -> list[TrackInfo]:
    """Files of this recording that its manifest does not name, the program first."""
    listed = {track.file for track in manifest.tracks}
    names = [PROGRAM, *sorted(path.relative_to(directory).as_posix() for path in directory.glob(f"{SPEAKERS}/*.ogg"))]
    return [
        TrackInfo(file=name, person_id=None if name == PROGRAM else name.partition("-")[2].removesuffix(".ogg"))
        for name in names
        if name not in listed and is_track_file(name) and (directory / name).exists()
    ]


async def examine_files(directory: Path, mended: Mended) -> dict[str, Examined]:
    """Decode and hash every track in a process of its own, which ends with the caller. Raises `VerifierError`."""
    names = list(mended.durations)
    if not names:
        return {}
    deadline_s = VERIFY_DEADLINE_S + VERIFY_SHARE * sum(mended.durations.values())
    command = [sys.executable, "-m", "lac.recordings.verify", *(str(directory / name) for name in names)]
    with trio.move_on_after(deadline_s) as scope:
        done = await trio.run_process(command, capture_stdout=True, stderr=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            raise VerifierError(f"the verifier ended with {done.returncode}")
        found = msgspec.convert(json.loads(done.stdout), dict[str, Examined])
        return {name: found[str(directory / name)] for name in names}
    assert scope.cancelled_caught  # noqa: S101  for the type checker
    raise VerifierError(f"the verifier took more than {deadline_s:.0f} s")


def decide(mended: Mended, examined: Mapping[str, Examined]) -> Manifest:
    """The manifest of a recording that is finished: `ready`, or `failed` with the reason."""
    manifest = mended.manifest
    was_closed = manifest.end_reason is not None
    tracks = [
        _judge(track, mended.durations.get(track.file), examined.get(track.file), manifest) for track in manifest.tracks
    ]
    program = msgspec.structs.replace(manifest, tracks=tracks).program
    if program is None or (not program.verified and program.failure is None):
        failure: Failure | None = Failure.NOTHING_RECORDED
    else:
        failure = program.failure
    duration_s = manifest.duration_s
    if program is not None and (not was_closed or failure is not None):
        duration_s = program.duration_s
    return msgspec.structs.replace(
        manifest,
        status=RecordingStatus.READY if failure is None else RecordingStatus.FAILED,
        failure=failure,
        duration_s=duration_s,
        end_reason=manifest.end_reason or EndReason.LOST,
        tracks=tracks,
    )


def _judge(track: TrackInfo, duration_s: float | None, examined: Examined | None, manifest: Manifest) -> TrackInfo:
    if duration_s is None:
        return msgspec.structs.replace(track, closed=False, failure=track.failure or Failure.NOTHING_RECORDED)
    if examined is None:  # the verifier, tried again and again, does not come through it
        return msgspec.structs.replace(track, closed=False, failure=track.failure or Failure.UNDECODABLE)
    failure = track.failure
    was_closed = manifest.end_reason is not None and track.closed
    if failure is None and examined.packets == 0:
        failure = Failure.NOTHING_RECORDED
    if failure is None and (
        examined.error is not None or examined.decoded_s < DECODED_SHARE * duration_s - DURATION_ERROR_S
    ):
        failure = Failure.UNDECODABLE
    if failure is None and was_closed and abs(duration_s - manifest.duration_s) > DURATION_ERROR_S:
        failure = Failure.DURATION
    return msgspec.structs.replace(
        track,
        closed=True,
        verified=failure is None,
        failure=failure,
        duration_s=round(duration_s, 6),
        size_bytes=examined.size,
        sha256=examined.sha256,
        undecodable=examined.undecodable,
    )


def lost_s(manifest: Manifest) -> float:
    """Seconds of the program that are silence because they could not be written."""
    program = manifest.program
    if program is None:
        return 0.0
    return sum(segment.start_s - segment.lost_from_s for segment in program.segments if segment.lost_from_s is not None)


def row_values(manifest: Manifest) -> dict[str, object]:
    """What the table says of a recording that is finished."""
    program = manifest.program
    return {
        "failure": manifest.failure,
        "duration_s": manifest.duration_s,
        "started_at": manifest.started_at,
        "ended_at": manifest.ended_at,
        "end_reason": manifest.end_reason,
        "media_start_s": manifest.media_start_s,
        "size_bytes": None if program is None else program.size_bytes,
        "sha256": None if program is None else program.sha256,
        "lost_s": lost_s(manifest),
    }
