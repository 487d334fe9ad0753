"""`manifest.json`: what a recording consists of, what is missing in it, and what was verified. Blocking.

It is the recording's own account of itself: with it and the Ogg files everything else, the row in the database too, can
be made anew. Times in seconds count from the beginning of the recording, on the clock of this machine; all tracks begin
at zero.
"""

from __future__ import annotations

import contextlib
import os
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec

from lac.recordings.layout import MANIFEST, PROGRAM, TEMPORARY, is_track_file
from lac.recordings.model import EndReason, Failure, RecordingStatus

VERSION = 1
#: More than ten hours of a dozen people who pause all the time need.
MAX_BYTES = 64 * 1024 * 1024


class Gap(msgspec.Struct, frozen=True, array_like=True):
    """Silence of our making, because nothing came: a pause without packets (DTX), loss, absence, or an interruption."""

    start_s: float
    duration_s: float


class Segment(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One stretch that was written without an interruption; the first begins at 0. Before a later one lies silence from
    `lostFromS` on: so long the track could not be written, and `cause` says why."""

    start_s: float
    lost_from_s: float | None = None
    cause: str | None = None


class TrackInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One Ogg Opus file. `sizeBytes` and `sha256` are there once it has been verified; `undecodable` counts packets
    that came broken and that decoders pass over."""

    file: str
    person_id: str | None = None
    display_name: str | None = None
    duration_s: float = 0.0
    #: Complete: its last page is marked as the last.
    closed: bool = False
    verified: bool = False
    failure: Failure | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    segments: list[Segment] = msgspec.field(default_factory=lambda: [Segment(start_s=0.0)])
    gaps: list[Gap] = msgspec.field(default_factory=list)
    #: Gaps beyond those that are listed.
    unlisted_gaps: int = 0
    #: Packets for which the disk was too slow, that came while the track could not be written, that came too late, and
    #: that were no Opus: their time is silence.
    dropped: int = 0
    unwritten: int = 0
    late: int = 0
    malformed: int = 0
    undecodable: int = 0
    #: How often the speaker's clock was set right.
    clock_shifts: int = 0


class Chapter(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`kind` is "marker" (somebody set it) or "speaker" (somebody else speaks from here on)."""

    start_s: float
    title: str
    kind: str
    person_id: str | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`durationS` is what the clock says; while it is recorded, at the moment of writing. `mediaStartS` is the media
    time of the show at its beginning: what happened in the show at media time m is at m - mediaStartS."""

    version: Annotated[int, msgspec.Meta(ge=1, le=VERSION)] = VERSION
    id: str
    broadcast_id: str
    title: str
    part: int
    status: RecordingStatus
    started_at: datetime
    media_start_s: float
    duration_s: float = 0.0
    ended_at: datetime | None = None
    end_reason: EndReason | None = None
    failure: Failure | None = None
    #: The program first.
    tracks: list[TrackInfo] = msgspec.field(default_factory=list)
    chapters: list[Chapter] = msgspec.field(default_factory=list)
    #: Speakers for whom there was no track left.
    untracked_speakers: int = 0

    @property
    def program(self) -> TrackInfo | None:
        return next((track for track in self.tracks if track.file == PROGRAM), None)


def encode_manifest(manifest: Manifest) -> bytes:
    return msgspec.json.encode(manifest)


def write_manifest(directory: Path, manifest: Manifest, *, sync: bool = True) -> None:
    """Replace it as a whole. Raises `OSError`; the one before is then still there, and nothing else is left."""
    write_whole(directory / MANIFEST, encode_manifest(manifest), sync=sync)


def write_whole(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Put `content` in place of the file, all of it or nothing. Raises `OSError`."""
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        with temporary.open("wb", buffering=0) as file:
            write_all(file.fileno(), content)
            if sync:
                os.fdatasync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_all(descriptor: int, content: bytes | bytearray) -> None:
    """All of it, or `OSError`: a disk that is filling up takes less than it is given before it refuses."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def read_manifest(directory: Path) -> Manifest | None:
    """None where there is none that can be read: it was never written, or something else has damaged it."""
    try:
        path = directory / MANIFEST
        if path.stat().st_size > MAX_BYTES:
            return None
        return parse_manifest_untrusted(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None


def parse_manifest_untrusted(data: bytes) -> Manifest | None:
    """None for what is no manifest, or names other files than a recording has."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError:
        return None
    return manifest if all(is_track_file(track.file) for track in manifest.tracks) else None
