"""JSON of what is made from recordings."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from lac.recordings.derivative import DerivativeStatus
from lac.recordings.offload import Place
from lac_media.derive.encode import ExportFormat
from lac_web.schemas import Answer, AwareTime, Request


class NewExport(Request, frozen=True):
    format: ExportFormat


class ExportAnswer(Answer, frozen=True):
    """A copy of a recording in another format. `progress` goes from 0 to 1; `url` is where it can be fetched, once
    `status` is "ready". `error` says why one "failed", or, while it is "queued" again, why it was not made yet."""

    format: ExportFormat
    status: DerivativeStatus
    progress: Annotated[float, Meta(ge=0, le=1)]
    size_bytes: int | None
    duration_s: float | None
    error: str | None
    requested_at: AwareTime
    finished_at: AwareTime | None
    url: str | None


class ExportList(Answer, frozen=True):
    """Those that were asked for."""

    items: list[ExportAnswer]


class WhereaboutsAnswer(Answer, frozen=True):
    """Where a recording's files are. While they are "uploading", "waiting" or "refused", `sentBytes` of `sizeBytes` are
    in the bucket so far, and `trouble` says what they wait for."""

    place: Place
    size_bytes: int
    sent_bytes: int
    trouble: str | None


class Peaks(Answer, frozen=True, rename=None):
    """The waveform in the form of audiowaveform, version 2, which peaks.js and wavesurfer.js read: `data` is the lowest
    and the highest sample of each pixel in turn, from -127 to 127. A pixel is `samples_per_pixel` / `sample_rate`
    seconds, a tenth of a second."""

    version: int
    channels: int
    sample_rate: int
    samples_per_pixel: int
    bits: int
    length: int
    data: list[Annotated[int, Meta(ge=-128, le=127)]]


class LoudnessAnswer(Answer, frozen=True):
    """After EBU R 128, of the whole program; null where there is only silence. `rangeLu` is the loudness range."""

    integrated_lufs: float | None
    range_lu: float | None
    true_peak_dbtp: float | None


class ChapterMark(Answer, frozen=True):
    start_time: float
    title: str


class PodcastChapters(Answer, frozen=True):
    """JSON chapters of the Podcasting 2.0 namespace."""

    version: str
    chapters: list[ChapterMark]
