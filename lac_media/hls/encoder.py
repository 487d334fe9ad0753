"""The program as AAC: decoded once, encoded for every rendition. Plain and synchronous: it belongs in a worker thread.

What comes out keeps media time to the sample. An AAC frame is decoded together with the one before it, which is why
encoders put out one more at the beginning: it is left out, and the frame after it has the time of the first audio.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np

from lac_media.hls.mp4 import FRAME_TICKS, fragment, init_segment
from lac_media.hls.renditions import PART_FRAMES, RENDITIONS, Rendition
from lac_media.opus.codec import Decoder, OpusError
from lac_media.opus.library import Pcm
from lac_media.parameters import OPUS_CLOCK_RATE_HZ
from lac_media.rooms.timeline import Piece

#: So much of a hole is filled with what the decoder makes up, the rest is silence.
CONCEALED_TICKS = 100 * OPUS_CLOCK_RATE_HZ // 1000
#: What a decoder can make up at once.
_CONCEAL_STEP = 120


@dataclass(frozen=True, slots=True)
class EncodedPart:
    """`data` is one fragment for each rendition."""

    ticks: int
    duration_ticks: int
    data: tuple[bytes, ...]


class ProgramEncoder:
    """From one beginning to one end, without a hole. `first_fragment` numbers the fragments on."""

    def __init__(self, start_ticks: int, *, first_fragment: int = 1) -> None:
        #: Where the first frame begins: on the grid of frames, so at most a frame before `start_ticks`.
        self._position = start_ticks // FRAME_TICKS * FRAME_TICKS
        self.fragments = first_fragment
        self._decoder = Decoder()
        self._lanes = [_Lane(rendition) for rendition in RENDITIONS]
        self._pcm: list[Pcm] = [np.zeros((start_ticks - self._position, 2), np.float32)]
        self._concealed = 0
        self._broken = 0

    @property
    def init_segments(self) -> tuple[bytes, ...]:
        return tuple(
            init_segment(lane.config, channels=lane.rendition.channels, bitrate_bps=lane.rendition.bitrate_bps)
            for lane in self._lanes
        )

    @property
    def broken(self) -> int:
        """Packets that libopus refused: silence stands for them."""
        return self._broken

    def encode(self, pieces: Iterable[Piece]) -> list[EncodedPart]:
        """Take the next pieces; the parts that are whole now."""
        self._pcm += [self._decode(piece) for piece in pieces]
        pcm = np.concatenate(self._pcm)
        whole = len(pcm) // FRAME_TICKS * FRAME_TICKS
        self._pcm = [pcm[whole:]]
        for lane in self._lanes:
            lane.encode(pcm[:whole])
        parts = []
        while all(len(lane.frames) >= PART_FRAMES for lane in self._lanes):
            parts.append(self._part(PART_FRAMES))
        return parts

    def finish(self) -> list[EncodedPart]:
        """The rest, filled up with silence to a whole frame."""
        rest = sum(len(pcm) for pcm in self._pcm)
        self._pcm.append(np.zeros((-rest % FRAME_TICKS, 2), np.float32))
        parts = self.encode(())
        for lane in self._lanes:
            lane.finish()
        while left := min(len(lane.frames) for lane in self._lanes):
            parts.append(self._part(min(left, PART_FRAMES)))
        return parts

    def _part(self, frames: int) -> EncodedPart:
        data = tuple(fragment(lane.take(frames), number=self.fragments, ticks=self._position) for lane in self._lanes)
        part = EncodedPart(self._position, frames * FRAME_TICKS, data)
        self._position += part.duration_ticks
        self.fragments += 1
        return part

    def _decode(self, piece: Piece) -> Pcm:
        if piece.is_gap:
            return self._fill(piece.duration_ticks)
        self._concealed = 0
        try:
            pcm = self._decoder.decode(piece.payload)
        except OpusError:
            self._broken += 1
            return self._fill(piece.duration_ticks)
        if len(pcm) != piece.duration_ticks:  # the line's clock goes by what the packet said
            fitted = np.zeros((piece.duration_ticks, 2), np.float32)
            fitted[: len(pcm)] = pcm[: piece.duration_ticks]
            return fitted
        return pcm

    def _fill(self, ticks: int) -> Pcm:
        pcm = np.zeros((ticks, 2), np.float32)
        made_up = min(ticks, CONCEALED_TICKS - self._concealed) // _CONCEAL_STEP * _CONCEAL_STEP
        if made_up > 0:
            self._concealed += made_up
            try:
                pcm[:made_up] = self._decoder.conceal(made_up)
            except OpusError:
                self._broken += 1
        return pcm


class _Lane:
    """One rendition's encoder, and the frames that it has made."""

    def __init__(self, rendition: Rendition) -> None:
        self.rendition = rendition
        self.frames: list[bytes] = []
        self._layout = "mono" if rendition.channels == 1 else "stereo"
        self._next = 0
        context = av.CodecContext.create("aac", "w")
        context.sample_rate = OPUS_CLOCK_RATE_HZ
        context.layout = self._layout
        context.format = "fltp"
        context.bit_rate = rendition.bitrate_bps
        context.time_base = Fraction(1, OPUS_CLOCK_RATE_HZ)
        context.open()
        self._context = context
        self.config = bytes(context.extradata or b"")

    def encode(self, pcm: Pcm) -> None:
        """Whole frames of audio."""
        planes = pcm.mean(axis=1, keepdims=True) if self.rendition.channels == 1 else pcm
        for start in range(0, len(pcm), FRAME_TICKS):
            plane = np.ascontiguousarray(planes[start : start + FRAME_TICKS].T)
            frame = av.AudioFrame.from_ndarray(plane, format="fltp", layout=self._layout)
            frame.sample_rate = OPUS_CLOCK_RATE_HZ
            frame.pts = self._next
            self._next += FRAME_TICKS
            self._take(self._context.encode(frame))

    def finish(self) -> None:
        self._take(self._context.encode(None))

    def take(self, frames: int) -> list[bytes]:
        taken, self.frames = self.frames[:frames], self.frames[frames:]
        return taken

    def _take(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            if packet.pts is not None and 0 <= packet.pts < self._next:
                self.frames.append(bytes(packet))
