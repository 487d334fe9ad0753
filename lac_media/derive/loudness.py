"""Loudness after EBU R 128 (ITU-R BS.1770), by FFmpeg's `ebur128` filter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import av
import av.filter
import numpy as np

from lac_media.derive.audio import CHANNELS, SAMPLE_RATE_HZ, Block

#: What the absolute gate of BS.1770 leaves nothing of is silence.
_GATE_LUFS = -70.0
#: FFmpeg's filter takes frames of this many samples: a tenth of a second.
_FRAME_TICKS = SAMPLE_RATE_HZ // 10


@dataclass(frozen=True, slots=True)
class Loudness:
    """Of silence: None. `range_lu` is the loudness range (EBU Tech 3342)."""

    integrated_lufs: float | None
    range_lu: float | None
    true_peak_dbtp: float | None


class LoudnessMeter:
    def __init__(self) -> None:
        graph = av.filter.Graph()
        source = graph.add_abuffer(
            sample_rate=SAMPLE_RATE_HZ, format="flt", layout="stereo", time_base=Fraction(1, SAMPLE_RATE_HZ)
        )
        meter = graph.add("ebur128", "metadata=1:peak=true:framelog=quiet")
        sink = graph.add("abuffersink")
        source.link_to(meter)
        meter.link_to(sink)
        graph.configure()
        self._graph = graph
        self._latest: dict[str, str] = {}
        self._true_peak = 0.0
        self._ticks = 0

    def add(self, block: Block) -> None:
        for start in range(0, len(block), _FRAME_TICKS):
            part = np.ascontiguousarray(block[start : start + _FRAME_TICKS])
            frame = av.AudioFrame.from_ndarray(part.reshape(1, -1), format="flt", layout="stereo")
            frame.sample_rate = SAMPLE_RATE_HZ
            frame.pts = self._ticks
            self._ticks += len(part)
            self._graph.push(frame)
            self._drain()

    def result(self) -> Loudness:
        """After the last block. What is shorter than 0.4 s has a peak but no loudness."""
        self._graph.push(None)
        self._drain()
        integrated = float(self._latest.get("lavfi.r128.I", "-inf"))
        heard = integrated > _GATE_LUFS
        return Loudness(
            integrated_lufs=round(integrated, 2) if heard else None,
            range_lu=round(float(self._latest.get("lavfi.r128.LRA", "0")), 2) if heard else None,
            true_peak_dbtp=round(20 * math.log10(self._true_peak), 2) if self._true_peak > 0 else None,
        )

    def _drain(self) -> None:
        while True:
            try:
                frame = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            self._latest = dict(frame.metadata) or self._latest
            peaks = (self._latest.get(f"lavfi.r128.true_peaks_ch{channel}", "0") for channel in range(CHANNELS))
            self._true_peak = max(self._true_peak, *map(float, peaks))
