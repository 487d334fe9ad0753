"""Fragmented MP4 (ISO/IEC 14496-12, CMAF) with one AAC-LC track: the header, and one fragment for each part.

Pure. Times are ticks of 1/48000 s of media time. A segment is its fragments one after the other and nothing more, so
whoever has read the parts has read the segment.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from lac_media.parameters import OPUS_CLOCK_RATE_HZ

#: An AAC-LC frame.
FRAME_TICKS = 1024

_TRACK_ID = 1
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
#: tfhd: the data offset counts from the moof; a default duration and default flags follow.
_TFHD_FLAGS = 0x020000 | 0x000008 | 0x000020
#: Depends on no other sample, as every one of AAC.
_SYNC_SAMPLE = 0x02000000
#: trun: a data offset, and a size for each sample.
_TRUN_FLAGS = 0x000001 | 0x000200


def init_segment(config: bytes, *, channels: int, bitrate_bps: int) -> bytes:
    """The header (ftyp and moov). `config` is the AudioSpecificConfig of ISO/IEC 14496-3, as the encoder gives it."""
    return _box(b"ftyp", b"iso6", _u32(0), b"iso6", b"cmfc", b"mp41") + _box(
        b"moov",
        _full(
            b"mvhd", 0, 0, _u32(0, 0, OPUS_CLOCK_RATE_HZ, 0, 0x10000), b"\1\0", bytes(10), _MATRIX, bytes(24), _u32(2)
        ),
        _box(
            b"trak",
            # In the movie, enabled.
            _full(b"tkhd", 0, 3, _u32(0, 0, _TRACK_ID, 0, 0), bytes(8), b"\0\0\0\0\1\0\0\0", _MATRIX, _u32(0, 0)),
            _box(
                b"mdia",
                _full(b"mdhd", 0, 0, _u32(0, 0, OPUS_CLOCK_RATE_HZ, 0), struct.pack(">HH", 0x55C4, 0)),  # "und"
                _full(b"hdlr", 0, 0, _u32(0), b"soun", bytes(12), b"LiveAudioCast\0"),
                _box(
                    b"minf",
                    _full(b"smhd", 0, 0, bytes(4)),
                    _box(b"dinf", _full(b"dref", 0, 0, _u32(1), _full(b"url ", 0, 1))),
                    _box(
                        b"stbl",
                        _full(b"stsd", 0, 0, _u32(1), _sample_entry(config, channels, bitrate_bps)),
                        _full(b"stts", 0, 0, _u32(0)),
                        _full(b"stsc", 0, 0, _u32(0)),
                        _full(b"stsz", 0, 0, _u32(0, 0)),
                        _full(b"stco", 0, 0, _u32(0)),
                    ),
                ),
            ),
        ),
        _box(b"mvex", _full(b"trex", 0, 0, _u32(_TRACK_ID, 1, FRAME_TICKS, 0, _SYNC_SAMPLE))),
    )


def fragment(frames: Sequence[bytes], *, number: int, ticks: int) -> bytes:
    """One moof and mdat: these AAC frames, of which the first begins at `ticks`. `number` counts fragments from 1."""
    sizes = struct.pack(f">{len(frames)}I", *map(len, frames))

    def moof(data_offset: int) -> bytes:
        return _box(
            b"moof",
            _full(b"mfhd", 0, 0, _u32(number & 0xFFFF_FFFF)),
            _box(
                b"traf",
                _full(b"tfhd", 0, _TFHD_FLAGS, _u32(_TRACK_ID, FRAME_TICKS, _SYNC_SAMPLE)),
                _full(b"tfdt", 1, 0, struct.pack(">Q", ticks)),
                _full(b"trun", 0, _TRUN_FLAGS, _u32(len(frames), data_offset), sizes),
            ),
        )

    return moof(len(moof(0)) + 8) + _box(b"mdat", *frames)


def _sample_entry(config: bytes, channels: int, bitrate_bps: int) -> bytes:
    fields = struct.pack(">6xH8xHHHHI", 1, channels, 16, 0, 0, OPUS_CLOCK_RATE_HZ << 16)
    return _box(b"mp4a", fields, _full(b"esds", 0, 0, _es_descriptor(config, bitrate_bps)))


def _es_descriptor(config: bytes, bitrate_bps: int) -> bytes:
    """ISO/IEC 14496-1 section 7.2.6.5: an audio stream (5) of MPEG-4 audio (0x40)."""
    decoder = struct.pack(">BB3sII", 0x40, (5 << 2) | 1, bytes(3), bitrate_bps, bitrate_bps) + _descriptor(5, config)
    return _descriptor(3, struct.pack(">HB", 0, 0) + _descriptor(4, decoder) + _descriptor(6, b"\2"))


def _descriptor(tag: int, payload: bytes) -> bytes:
    """Shorter than 128 bytes, all of ours."""
    return struct.pack(">BB", tag, len(payload)) + payload


def _box(kind: bytes, *content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, content)), kind) + b"".join(content)


def _full(kind: bytes, version: int, flags: int, *content: bytes) -> bytes:
    return _box(kind, _u32(version << 24 | flags), *content)


def _u32(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)
