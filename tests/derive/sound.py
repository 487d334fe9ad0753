"""Recordings of known sound, as the recorder would leave them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lac_media.container.ogg_opus import OggOpusWriter, OpusHead
from lac_media.derive.audio import SAMPLE_RATE_HZ, Block
from lac_media.opus import Encoder

FRAME = 960


def tone(seconds: float, *, level: float = 0.2, hz: float = 997.0) -> Block:
    times = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    mono = level * np.sin(2 * np.pi * hz * times)
    return np.stack((mono, mono), axis=1).astype(np.float32)


def silence(seconds: float) -> Block:
    return np.zeros((round(seconds * SAMPLE_RATE_HZ), 2), np.float32)


def packets_of(pcm: Block) -> tuple[list[bytes], int]:
    """20 ms each, and the encoder's delay in ticks."""
    encoder = Encoder(bitrate_bps=64_000)
    frames = range(0, len(pcm) - FRAME + 1, FRAME)
    packets = [encoder.encode(np.ascontiguousarray(pcm[start : start + FRAME])) for start in frames]
    return packets, encoder.lookahead_ticks


def write_ogg(path: Path, pcm: Block, *, spoil: int | None = None) -> Path:
    """`spoil`: the packet with this number is no Opus that a decoder takes."""
    packets, delay = packets_of(pcm)
    writer = OggOpusWriter(7, head=OpusHead(pre_skip=delay))
    out = bytearray(writer.begin())
    for number, packet in enumerate(packets):
        # One frame of 20 ms, CELT, whose content makes no sense in the SILK layer that the second bit pattern claims.
        out += writer.add(packet[:1] + b"\xff" * 400 if number == spoil else packet)
    out += writer.end()
    path.write_bytes(out)
    return path
