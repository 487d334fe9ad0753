"""MP3, AAC and Vorbis, decoded and encoded once more, as Opus. For a worker thread: some 10 ms for a second of audio.

The bytes are a stranger's. FFmpeg gets only frames, of the one codec that was announced: none of its containers, no
probing, nothing that opens files or addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import av
import numpy as np

from lac_media.errors import ParseError
from lac_media.opus import Encoder
from lac_media.parameters import OPUS_CLOCK_RATE_HZ
from lac_media.proto.opus import FRAME_20MS_TICKS

#: For music that has been through one lossy codec already.
OPUS_BPS = 128_000


class OpusMaker:
    """Decoded frames in, Opus packets of 20 ms out."""

    def __init__(self) -> None:
        self._encoder = Encoder(bitrate_bps=OPUS_BPS)
        self._resampler = _new_resampler()
        self._shape: tuple[int, str, str] | None = None

    def encode(self, frame: av.AudioFrame) -> Iterator[bytes]:
        shape = (frame.sample_rate, frame.layout.name, frame.format.name)
        if shape != self._shape:  # another song from another file
            self._resampler, self._shape = _new_resampler(), shape
        frame.pts = None
        for part in self._resampler.resample(frame):
            if part.samples == FRAME_20MS_TICKS:
                pcm = np.ascontiguousarray(part.to_ndarray().reshape(-1, 2), np.float32)
                yield self._encoder.encode(np.clip(np.nan_to_num(pcm), -1.0, 1.0))


def _new_resampler() -> av.AudioResampler:
    return av.AudioResampler(format="flt", layout="stereo", rate=OPUS_CLOCK_RATE_HZ, frame_size=FRAME_20MS_TICKS)


class FrameDecoder:
    """MP3 ("mp3") or AAC in ADTS ("aac"): a stream of frames that can be found by themselves. What is damaged is left
    out."""

    def __init__(self, codec: str) -> None:
        self._context = _open(codec)
        self.damaged = 0

    def decode(self, data: bytes) -> Iterator[av.AudioFrame]:
        try:
            packets = self._context.parse(data)
        except av.FFmpegError:
            self.damaged += 1
            return
        yield from self.decode_packets(packets)

    def decode_packets(self, packets: Iterable[Any]) -> Iterator[av.AudioFrame]:
        for packet in packets:
            try:
                frames = self._context.decode(packet)
            except (av.FFmpegError, ValueError):
                self.damaged += 1
                continue
            yield from (frame for frame in frames if isinstance(frame, av.AudioFrame))


class VorbisDecoder(FrameDecoder):
    """Vorbis packets, after the three that begin each stream. Raises ParseError for headers that cannot be used."""

    def __init__(self, headers: Sequence[bytes]) -> None:
        self._context = _open("vorbis", _xiph_lacing(headers))
        self.damaged = 0

    def decode_packet(self, data: bytes) -> Iterator[av.AudioFrame]:
        if data:
            yield from self.decode_packets([av.Packet(data)])


def _open(codec: str, extradata: bytes | None = None) -> av.AudioCodecContext:
    context = av.CodecContext.create(codec, "r")
    if not isinstance(context, av.AudioCodecContext):
        raise TypeError(f"FFmpeg's {codec} decodes no audio")
    context.thread_count = 1
    if extradata is not None:
        context.extradata = extradata
        try:
            context.open()
        except (av.FFmpegError, ValueError) as error:
            raise ParseError(f"the {codec} headers cannot be used: {error}") from None
    return context


def _xiph_lacing(headers: Sequence[bytes]) -> bytes:
    """Several packets in one, as FFmpeg wants Vorbis's headers."""
    sizes = b"".join(b"\xff" * (len(header) // 255) + bytes([len(header) % 255]) for header in headers[:-1])
    return bytes([len(headers) - 1]) + sizes + b"".join(headers)
