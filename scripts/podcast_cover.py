"""Draw the picture of podcasts (lac_web/podcast_cover.png): the mark of the web client's icon, as a square.

Directories want 1400 to 3000 pixels a side, RGB, without transparency. To be run again when the icon changes.
"""

from __future__ import annotations

import math
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

SIDE = 1500
#: The icon's own units; `ZOOM` of them are the picture's side, so that the mark has room around it.
CENTRE, ZOOM = 16.0, 28.0
GREEN, WHITE, CORAL = (0x0B, 0x63, 0x54), (0xFF, 0xFF, 0xFF), (0xFF, 0x9A, 0x7F)
ARC_RADIUS, STROKE, DOT_RADIUS = 8.2, 2.6, 3.6
TARGET = Path(__file__).parent.parent / "lac_web/podcast_cover.png"

Plane = npt.NDArray[np.float64]


def draw() -> npt.NDArray[np.uint8]:
    unit = ZOOM / SIDE
    line = (np.arange(SIDE) + 0.5) * unit - ZOOM / 2
    x, y = np.meshgrid(line, line)
    picture = np.broadcast_to(np.array(GREEN, float), (SIDE, SIDE, 3)).copy()
    # The arcs span 45 degrees up and down on either side, with round ends.
    end = ARC_RADIUS * math.cos(math.pi / 4)
    on_arc = np.abs(x) >= np.abs(y)
    to_arc = np.abs(np.hypot(x, y) - ARC_RADIUS)
    to_end = np.hypot(np.abs(x) - end, np.abs(y) - end)
    _paint(picture, np.where(on_arc, to_arc, to_end) - STROKE / 2, unit, WHITE)
    _paint(picture, np.hypot(x, y) - DOT_RADIUS, unit, CORAL)
    return np.round(picture).astype(np.uint8)


def _paint(picture: Plane, distance: Plane, unit: float, colour: tuple[int, int, int]) -> None:
    """Where `distance` is negative; a pixel on the edge takes its share."""
    share = np.clip(0.5 - distance / unit, 0, 1)[..., None]
    picture += (np.array(colour, float) - picture) * share


def main() -> None:
    encoder = av.CodecContext.create("png", "w")
    assert isinstance(encoder, av.VideoCodecContext)  # noqa: S101  for the type checker
    encoder.width = encoder.height = SIDE
    encoder.pix_fmt = "rgb24"
    encoder.options = {"compression_level": "9", "pred": "mixed"}
    frame = av.VideoFrame.from_ndarray(draw(), format="rgb24")
    TARGET.write_bytes(b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)]))


if __name__ == "__main__":
    main()
