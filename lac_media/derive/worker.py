"""A process that makes one thing from one recording: `python -m lac_media.derive.worker`.

The first line of its standard input is the job, as JSON; the rest of it only says that whoever wants the result is
still there: at its end the worker ends too, in the middle of anything. It answers in lines of JSON: `{"at": seconds}`
now and then, and last `{"done": {...}}` or `{"error": "..."}`. It writes to `target` alone, which is not there yet.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from lac_media.derive.audio import SAMPLE_RATE_HZ, UnreadableError, read_audio
from lac_media.derive.encode import ChapterMark, ExportFormat, encode
from lac_media.derive.loudness import LoudnessMeter
from lac_media.derive.peaks import PeakMeter

#: The live path goes first.
NICENESS = 10
REPORT_EVERY_S = 0.5


class EncodeJob(msgspec.Struct, frozen=True, tag="encode"):
    source: str
    target: str
    format: ExportFormat
    tags: dict[str, str] = {}
    chapters: list[tuple[float, str]] = []


class AnalyseJob(msgspec.Struct, frozen=True, tag="analyse"):
    """`target` is the waveform (`lac_media.derive.peaks`), as JSON."""

    source: str
    target: str


Job = EncodeJob | AnalyseJob


class Made(msgspec.Struct, frozen=True):
    """Of the file that was made, and of what was measured on the way."""

    duration_s: float
    size: int
    sha256: str
    integrated_lufs: float | None = None
    range_lu: float | None = None
    true_peak_dbtp: float | None = None


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the worker's. `at`: how much of the recording is done, in seconds."""

    at: float | None = None
    done: Made | None = None
    error: str | None = None


def do_job(job: Job, report: Callable[[float], None]) -> Made:
    """Raises `UnreadableError` and OSError."""
    source, target = Path(job.source), Path(job.target)
    measured: dict[str, Any] = {}
    if isinstance(job, EncodeJob):
        chapters = [ChapterMark(*chapter) for chapter in job.chapters]
        duration_s = encode(source, target, job.format, tags=job.tags, chapters=chapters, progress=report)
    else:
        peaks, loudness = PeakMeter(), LoudnessMeter()
        for block in read_audio(source):
            peaks.add(block)
            loudness.add(block)
            report(peaks.ticks / SAMPLE_RATE_HZ)
        target.write_bytes(msgspec.json.encode(peaks.result()))
        duration_s = peaks.ticks / SAMPLE_RATE_HZ
        found = loudness.result()
        measured = {name: getattr(found, name) for name in ("integrated_lufs", "range_lu", "true_peak_dbtp")}
    with target.open("rb") as file:
        os.fsync(file.fileno())
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Made(duration_s, target.stat().st_size, sha256, **measured)


class _Paced:
    """Reports progress, but not for every block."""

    def __init__(self) -> None:
        self._due = 0.0

    def __call__(self, seconds: float) -> None:
        now = time.monotonic()
        if now >= self._due:
            self._due = now + REPORT_EVERY_S
            say(Report(at=round(seconds, 1)))


def say(report: Report) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    sys.stdout.buffer.flush()


def _end_with_parent() -> None:
    """The other end of standard input closes with the process that has it, however that ends."""
    while sys.stdin.buffer.read(1024):
        pass
    os._exit(1)


def main() -> int:
    job: Job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
    os.nice(NICENESS)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        made = do_job(job, _Paced())
    except (UnreadableError, OSError) as error:
        say(Report(error=str(error)))
        return 1
    say(Report(done=made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
