"""From the pieces of the program's line to bytes of a stream: Opus into Ogg pages as it is, or decoded and encoded as
MP3 or AAC.

No I/O. An `OggPacker` is cheap; a `CodecPacker` takes some 10 ms of a core for a quarter of a second and belongs into a
worker thread, one call at a time.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Protocol

import av
import numpy as np

from lac_media.container.ogg_opus import OggOpusWriter
from lac_media.opus import Decoder, OpusError, Pcm
from lac_media.opus.codec import CONCEAL_STEP_TICKS
from lac_media.parameters import OPUS_CLOCK_RATE_HZ
from lac_media.rooms.timeline import Piece
from lac_media.streams.formats import AAC_BPS, MP3_BPS, StreamFormat, StreamTitle

#: RFC 3533's pages allow more; decoders that join in the middle wait for the next one.
MAX_PAGE_TICKS = OPUS_CLOCK_RATE_HZ // 5
#: What is lost for longer than this is silence, not concealment.
MAX_CONCEALED_TICKS = OPUS_CLOCK_RATE_HZ // 10

#: Bytes, and the header that a decoder needs before them.
Packed = list[tuple[bytes, bytes]]


class Packer(Protocol):
    """`pack` returns what is complete, in order; `end` the rest."""

    def pack(self, pieces: Sequence[Piece], title: StreamTitle) -> Packed: ...

    def end(self) -> Packed: ...


class OggPacker:
    """Ogg Opus. With another title one logical stream ends and the next begins (RFC 3533 section 4): that is how Ogg
    says what is playing. A client that joins gets the headers of the stream it joins."""

    def __init__(self) -> None:
        self._title: StreamTitle | None = None
        self._writer: OggOpusWriter | None = None
        self._header = b""
        self._page_began_at = 0

    def pack(self, pieces: Sequence[Piece], title: StreamTitle) -> Packed:
        out: Packed = []
        if self._writer is None or title != self._title:
            out += self.end()
            tags = {"TITLE": title.song or title.show, "ARTIST": title.host, "ALBUM": title.show}
            self._title = title
            self._writer = OggOpusWriter(secrets.randbits(32), tags={name: text for name, text in tags.items() if text})
            self._header = self._writer.begin()
            self._page_began_at = 0
        writer = self._writer
        data = bytearray()
        for piece in pieces:
            data += writer.add(piece.payload)
            if writer.granule - self._page_began_at >= MAX_PAGE_TICKS:
                data += self._flush(writer)
        data += self._flush(writer)
        if data:
            out.append((bytes(data), self._header))
        return out

    def end(self) -> Packed:
        writer, self._writer = self._writer, None
        return [] if writer is None else [(writer.end(), self._header)]

    def _flush(self, writer: OggOpusWriter) -> bytes:
        self._page_began_at = writer.granule
        return writer.flush()


class CodecPacker:
    """MP3 frames, or AAC-LC in ADTS frames (ISO/IEC 13818-7 section 6.2), at 48 kHz in stereo. Both can be joined at
    any frame and need no header. Titles are not in them."""

    def __init__(self, stream_format: StreamFormat) -> None:
        self._is_aac = stream_format is StreamFormat.AAC
        self._decoder = Decoder()
        encoder = av.CodecContext.create("aac" if self._is_aac else "libmp3lame", "w")
        if not isinstance(encoder, av.AudioCodecContext):
            raise TypeError("FFmpeg's audio encoder is none")
        encoder.sample_rate = OPUS_CLOCK_RATE_HZ
        encoder.layout = "stereo"
        encoder.format = "fltp"
        encoder.bit_rate = AAC_BPS if self._is_aac else MP3_BPS
        encoder.thread_count = 1
        encoder.open()
        self._encoder = encoder
        self._frame_ticks: int = encoder.frame_size
        self._waiting: Pcm = np.zeros((0, 2), np.float32)
        self._position = 0

    def pack(self, pieces: Sequence[Piece], title: StreamTitle) -> Packed:
        pcm = np.concatenate([self._waiting, *(self._decode(piece) for piece in pieces)])
        data = bytearray()
        whole = len(pcm) // self._frame_ticks * self._frame_ticks
        for start in range(0, whole, self._frame_ticks):
            data += self._encode(pcm[start : start + self._frame_ticks])
        self._waiting = pcm[whole:].copy()
        return [(bytes(data), b"")] if data else []

    def end(self) -> Packed:
        """What the encoder's look-ahead holds back is a few hundredths of a second; it is let go."""
        return []

    def _decode(self, piece: Piece) -> Pcm:
        try:
            if piece.is_gap and piece.duration_ticks <= MAX_CONCEALED_TICKS:
                steps = max(1, piece.duration_ticks // CONCEAL_STEP_TICKS)
                return _fitted(self._decoder.conceal(steps * CONCEAL_STEP_TICKS), piece.duration_ticks)
            if not piece.is_gap:
                return _fitted(self._decoder.decode(piece.payload), piece.duration_ticks)
        except OpusError:
            self._decoder.reset()
        return np.zeros((piece.duration_ticks, 2), np.float32)

    def _encode(self, pcm: Pcm) -> bytes:
        planes = np.ascontiguousarray(np.clip(pcm, -1.0, 1.0).T)
        frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout="stereo")
        frame.sample_rate = OPUS_CLOCK_RATE_HZ
        frame.pts = self._position
        self._position += len(pcm)
        packets = [bytes(packet) for packet in self._encoder.encode(frame)]
        return b"".join(_adts(len(packet)) + packet if self._is_aac else packet for packet in packets)


def make_packer(stream_format: StreamFormat) -> Packer:
    return OggPacker() if stream_format is StreamFormat.OGG else CodecPacker(stream_format)


def _fitted(pcm: Pcm, ticks: int) -> Pcm:
    """Exactly so many samples: what a corrupt packet decodes to must not move the line."""
    if len(pcm) == ticks:
        return pcm
    out: Pcm = np.zeros((ticks, 2), np.float32)
    out[: len(pcm)] = pcm[:ticks]
    return out


def _adts(size: int) -> bytes:
    """The header of one frame of `size` bytes: MPEG-4, no CRC, AAC-LC, 48 kHz, two channels, variable rate."""
    length = size + 7
    sampling_48_khz, channels = 3, 2
    return bytes(
        (
            0xFF,
            0xF1,
            (1 << 6) | (sampling_48_khz << 2) | (channels >> 2),
            ((channels & 3) << 6) | (length >> 11),
            (length >> 3) & 0xFF,
            ((length & 7) << 5) | 0x1F,
            0xFC,
        )
    )
