"""Segments on disk: what has left the memory and is still in the window, or outlives its show for a while.

Plain and synchronous: for worker threads. Every stream has a directory of its own, so that it can go as a whole. Beside
the segments is a journal with a line for each, written after it: what a process leaves behind, however it ends, is
found again by the next one (`read_stream`).
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from lac_media.hls.plan import Segment
from lac_media.hls.renditions import RENDITIONS

JOURNAL = "segments.jsonl"


class StreamHead(msgspec.Struct, frozen=True):
    """The journal's first line. `began_at` in microseconds of Unix time: see `Plan` for what they are."""

    run: str
    began_at_us: int


class _Line(msgspec.Struct, frozen=True, array_like=True):
    msn: int
    ticks: int
    duration_ticks: int
    discontinuity: bool
    #: Bytes of its file in each rendition: a machine that lost its power may have left less.
    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StoredStream:
    """What there is of a stream whose process has ended. `segments` follow upon each other; never empty."""

    run: str
    began_at: datetime
    ended_at: datetime
    init: tuple[bytes, ...]
    segments: tuple[Segment, ...]
    #: Of segments that are gone.
    discontinuities: int


class SegmentFiles:
    """`directory` is made by `begin`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def begin(self, head: StreamHead, init: Sequence[bytes]) -> None:
        """Before the first segment. Raises `OSError`."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for rendition, content in zip(RENDITIONS, init, strict=True):
            _init_path(self.directory, rendition.name).write_bytes(content)
        (self.directory / JOURNAL).write_bytes(msgspec.json.encode(head))

    def write(self, segment: Segment, data: Sequence[bytes]) -> None:
        """One segment, in every rendition. Raises `OSError`; then nothing of it is left."""
        line = _Line(
            segment.msn,
            segment.ticks,
            segment.duration_ticks,
            segment.discontinuity,
            tuple(len(content) for content in data),
        )
        try:
            for rendition, content in zip(RENDITIONS, data, strict=True):
                _path(self.directory, segment.msn, rendition.name).write_bytes(content)
            with (self.directory / JOURNAL).open("ab") as journal:
                # The line's end comes first: half a line, from a full disk, spoils none but itself.
                journal.write(b"\n" + msgspec.json.encode(line))
        except OSError:
            self.delete((segment.msn,))
            raise

    def read(self, msn: int, rendition: str) -> bytes | None:
        """None: it has been deleted."""
        try:
            return _path(self.directory, msn, rendition).read_bytes()
        except FileNotFoundError:
            return None

    def delete(self, msns: Iterable[int]) -> None:
        """These segments, as far as they are there."""
        for msn in msns:
            for rendition in RENDITIONS:
                with contextlib.suppress(OSError):
                    _path(self.directory, msn, rendition.name).unlink(missing_ok=True)

    def remove(self) -> None:
        """Everything."""
        shutil.rmtree(self.directory, ignore_errors=True)


def read_stream(directory: Path) -> StoredStream | None:
    """What is in a stream's directory: from the last whole segment back to where one is missing. None if that is
    nothing."""
    try:
        first, *lines = (directory / JOURNAL).read_bytes().split(b"\n")
        ended_at = datetime.fromtimestamp((directory / JOURNAL).stat().st_mtime, UTC)
        head = msgspec.json.decode(first, type=StreamHead)
        init = tuple(_init_path(directory, rendition.name).read_bytes() for rendition in RENDITIONS)
    except (OSError, msgspec.DecodeError):
        return None
    known: dict[int, _Line] = {}
    for raw in lines:
        with contextlib.suppress(msgspec.DecodeError):
            line = msgspec.json.decode(raw, type=_Line)
            known[line.msn] = line
    kept: list[_Line] = []
    for msn in sorted(known, reverse=True):
        if kept and msn != kept[-1].msn - 1:
            break
        if _is_whole(directory, known[msn]):
            kept.append(known[msn])
        elif kept:
            break
    kept.reverse()
    if not kept:
        return None
    segments = tuple(
        Segment(
            line.msn, line.ticks, line.discontinuity, 0, durations=[line.duration_ticks], complete=True, stored=True
        )
        for line in kept
    )
    gone = sum(line.discontinuity for msn, line in known.items() if msn < kept[0].msn)
    began_at = datetime.fromtimestamp(head.began_at_us / 1_000_000, UTC)
    return StoredStream(head.run, began_at, ended_at, init, segments, gone)


def _is_whole(directory: Path, line: _Line) -> bool:
    try:
        sizes = tuple(_path(directory, line.msn, rendition.name).stat().st_size for rendition in RENDITIONS)
    except OSError:
        return False
    return sizes == line.sizes


def _path(directory: Path, msn: int, rendition: str) -> Path:
    return directory / f"{rendition}-{msn}.m4s"


def _init_path(directory: Path, rendition: str) -> Path:
    return directory / f"{rendition}-init.mp4"
