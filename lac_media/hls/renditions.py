"""What the program is offered as, and how it is cut. Ticks are 1/48000 s of media time."""

from __future__ import annotations

from dataclasses import dataclass

from lac_media.hls.mp4 import FRAME_TICKS
from lac_media.parameters import OPUS_CLOCK_RATE_HZ

#: AAC-LC (RFC 6381, ISO/IEC 14496-3).
CODEC = "mp4a.40.2"
#: 15 frames: 0.32 s.
PART_FRAMES = 15
PART_TICKS = PART_FRAMES * FRAME_TICKS
PART_S = PART_TICKS / OPUS_CLOCK_RATE_HZ
#: 12 parts: 3.84 s.
SEGMENT_PARTS = 12
SEGMENT_S = SEGMENT_PARTS * PART_S
#: What EXT-X-TARGETDURATION says: no segment is longer, rounded.
TARGET_DURATION_S = 4
#: The first segments after a start are shorter: a player that waits for one waits for a second, not for four.
FIRST_SEGMENTS_PARTS = (3, 6)
#: How far behind the end a player stays that loads parts: at least three of them (rfc8216bis section 4.4.3.8).
PART_HOLD_BACK_S = 1.0
#: How old a player's playlist may be to be brought up to date by a delta: at least six target durations.
SKIP_UNTIL_S = 6 * TARGET_DURATION_S


@dataclass(frozen=True, slots=True)
class Rendition:
    """`peak_bps` and `average_bps` are of the stream with its boxes: 168 bytes for a part."""

    name: str
    bitrate_bps: int
    channels: int
    peak_bps: int
    average_bps: int


#: The first is what a player begins with that has no opinion.
RENDITIONS = (
    Rendition("high", 96_000, 2, peak_bps=128_000, average_bps=101_000),
    Rendition("low", 32_000, 1, peak_bps=52_000, average_bps=37_000),
)
