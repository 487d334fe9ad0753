"""Where the files of a recording are, below the data directory:

    recordings/<recording id>/manifest.json                what there is (lac.recordings.manifest)
                              program.ogg                  what the audience heard
                              speakers/<n>-<person>.ogg    one speaker each, on the same time line

The Ogg files grow by whole pages until the recording ends, and are never rewritten but at their end: see
docs/protocol/recordings.md. `manifest.json` is replaced as a whole.
"""

from __future__ import annotations

import re
from pathlib import Path

RECORDINGS = "recordings"
MANIFEST = "manifest.json"
PROGRAM = "program.ogg"
SPEAKERS = "speakers"
CONTENT_TYPE = "audio/ogg; codecs=opus"
#: Of a file that is being written, and will take the place of the one without it.
TEMPORARY = ".tmp"

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NOT_FOR_NAMES = re.compile(r"[^A-Za-z0-9_-]+")
_TRACK = re.compile(rf"{re.escape(PROGRAM)}|{SPEAKERS}/[0-9]{{1,4}}-[A-Za-z0-9_-]{{1,64}}\.ogg")


def recordings_dir(data_dir: Path) -> Path:
    return data_dir / RECORDINGS


def recording_dir(data_dir: Path, recording_id: str) -> Path:
    """Raises ValueError for what is no id of ours: it would be a way out of the directory."""
    if not _ID.fullmatch(recording_id):
        raise ValueError(f"{recording_id!r} is not the id of a recording")
    return recordings_dir(data_dir) / recording_id


def storage_key(recording_id: str) -> str:
    """Of the program, relative to the data directory."""
    return f"{RECORDINGS}/{recording_id}/{PROGRAM}"


def speaker_file(number: int, person_id: str) -> str:
    """Relative to the recording's directory."""
    return f"{SPEAKERS}/{number}-{_NOT_FOR_NAMES.sub('_', person_id)[:64] or '_'}.ogg"


def is_track_file(name: str) -> bool:
    """Whether a manifest may name this file."""
    return _TRACK.fullmatch(name) is not None
