"""What is made from a recording when it is complete: kinds, states, and where the files are. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from lac_media.derive.encode import RECIPES, ExportFormat


class Kind(StrEnum):
    #: Waveform and loudness; of every recording.
    ANALYSIS = "analysis"
    M4A = "m4a"
    MP3 = "mp3"


class DerivativeStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    READY = "ready"
    #: It cannot be made; `error` says why.
    FAILED = "failed"


#: Below the recording's directory, and below its key in the bucket.
DERIVED = "derived"
_NAMES = {Kind.ANALYSIS: "peaks.json", Kind.M4A: "audio.m4a", Kind.MP3: "audio.mp3"}
#: Tried so often, with so long in between, after what may pass: a full disk, a bucket that is away, a killed worker.
MAX_ATTEMPTS = 3
AGAIN = timedelta(minutes=2)
PENDING = (DerivativeStatus.QUEUED, DerivativeStatus.RUNNING)


def file_name(kind: Kind) -> str:
    """Relative to the recording's directory."""
    return f"{DERIVED}/{_NAMES[kind]}"


def content_type(kind: Kind) -> str:
    return "application/json" if kind is Kind.ANALYSIS else RECIPES[ExportFormat(kind.value)].content_type


def expected_bytes(kind: Kind, duration_s: float) -> int:
    """About how large it becomes, rather more than less."""
    if kind is Kind.ANALYSIS:
        return int(duration_s * 120) + 1000
    return int(duration_s * RECIPES[ExportFormat(kind.value)].bitrate_bps / 8 * 1.1) + 100_000


@dataclass(frozen=True, slots=True)
class Derivative:
    recording_id: str
    kind: Kind
    status: DerivativeStatus
    kept: bool
    in_bucket: bool
    attempts: int
    size_bytes: int | None
    sha256: str | None
    duration_s: float | None
    #: Of an analysis: `integrated_lufs`, `range_lu`, `true_peak_dbtp`, each a number or None. Of a copy: `chapters`.
    detail: dict[str, float | None]
    error: str | None
    requested_at: datetime
    finished_at: datetime | None
    used_at: datetime
