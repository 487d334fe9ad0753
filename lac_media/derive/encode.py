"""A recording in the formats that phones, cars and podcast players take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av

from lac_media.derive.audio import SAMPLE_RATE_HZ, read_audio


class ExportFormat(StrEnum):
    M4A = "m4a"
    MP3 = "mp3"


@dataclass(frozen=True, slots=True)
class Recipe:
    container: str
    codec: str
    bitrate_bps: int
    content_type: str
    options: Mapping[str, str]


RECIPES: dict[ExportFormat, Recipe] = {
    # The index at the beginning, so that players can start before they have it all.
    ExportFormat.M4A: Recipe("ipod", "aac", 128_000, "audio/mp4", {"movflags": "+faststart"}),
    ExportFormat.MP3: Recipe("mp3", "libmp3lame", 128_000, "audio/mpeg", {"id3v2_version": "3"}),
}


@dataclass(frozen=True, slots=True)
class ChapterMark:
    start_s: float
    title: str


def encode(
    source: Path,
    target: Path,
    export: ExportFormat,
    *,
    tags: Mapping[str, str],
    chapters: Sequence[ChapterMark] = (),
    progress: Callable[[float], None] = lambda seconds: None,
) -> float:
    """Write `source` to `target`; returns its length in seconds. `progress` hears now and then how far it is.

    Chapters become those of the container (MP4 chapters, ID3v2 CHAP). Raises as `read_audio`; what was written by then
    is the caller's to remove.
    """
    recipe = RECIPES[export]
    ticks = 0
    with av.open(str(target), "w", format=recipe.container, options=dict(recipe.options)) as output:
        output.metadata.update(tags)
        stream = cast("av.AudioStream", output.add_stream(recipe.codec, rate=SAMPLE_RATE_HZ, layout="stereo"))
        stream.bit_rate = recipe.bitrate_bps
        if chapters:
            output.set_chapters(_chapters(chapters))
        fifo = av.AudioFifo()
        for block in read_audio(source):
            frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), format="flt", layout="stereo")
            frame.sample_rate = SAMPLE_RATE_HZ
            frame.time_base = Fraction(1, SAMPLE_RATE_HZ)
            frame.pts = ticks
            ticks += len(block)
            fifo.write(frame)
            while (ready := fifo.read(_frame_size(stream))) is not None:
                output.mux(stream.encode(ready))
            progress(ticks / SAMPLE_RATE_HZ)
        if (rest := fifo.read(0, partial=True)) is not None:
            output.mux(stream.encode(rest))
        output.mux(stream.encode(None))
    return ticks / SAMPLE_RATE_HZ


def _frame_size(stream: av.AudioStream) -> int:
    """What the encoder takes at a time; known once it is open."""
    return stream.codec_context.frame_size or 1152


def _chapters(marks: Sequence[ChapterMark]) -> list[Any]:
    ends = [mark.start_s for mark in marks[1:]] + [marks[-1].start_s + 1.0]
    return [
        {
            "id": number,
            "start": round(mark.start_s * 1000),
            "end": max(round(end * 1000), round(mark.start_s * 1000) + 1),
            "time_base": Fraction(1, 1000),
            "metadata": {"title": mark.title},
        }
        for number, (mark, end) in enumerate(zip(marks, ends, strict=True), 1)
    ]
