"""The framing of Opus packets (RFC 6716 section 3): durations and frames, without decoding. Ticks are 1/48000 s."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lac_media.errors import ParseError

#: RFC 6716 section 3.2.5: no packet is longer than this.
MAX_DURATION_TICKS = 5760
#: RFC 6716 section 3.2.1: nor a frame bigger, in bytes.
MAX_FRAME_BYTES = 1275

#: 20 ms that every decoder plays as silence: CELT, full band, one frame whose first bit flags it as silent.
SILENCE_20MS_MONO = b"\xf8\xff\xfe"
SILENCE_20MS_STEREO = b"\xfc\xff\xfe"
FRAME_20MS_TICKS = 960
SHORTEST_FRAME_TICKS = 120

_SILK = (480, 960, 1920, 2880)
_HYBRID = (480, 960)
_CELT = (120, 240, 480, 960)
#: RFC 6716 table 2: ticks of a frame by the configuration number, the TOC's upper five bits.
_FRAME_TICKS = _SILK * 3 + _HYBRID * 2 + _CELT * 4

#: Silence as above: six frames of 20 ms in one packet (RFC 6716 section 3.2.5, code 3 with equal sizes), then single
#: frames of 20, 10, 5 and 2.5 ms.
_SILENCE = (
    (MAX_DURATION_TICKS, bytes([SILENCE_20MS_MONO[0] | 3, 6]) + SILENCE_20MS_MONO[1:] * 6),
    *((_CELT[size], bytes([(28 + size) << 3]) + SILENCE_20MS_MONO[1:]) for size in (3, 2, 1, 0)),
)


@dataclass(frozen=True, slots=True)
class OpusPacket:
    """What the framing tells. `config` is 0 to 31 (RFC 6716 table 2); `frame_sizes` in bytes, 0: not sent; `frames_at`
    is where the first begins, and the others follow it without anything between."""

    config: int
    channels: int
    frame_ticks: int
    frame_sizes: tuple[int, ...]
    frames_at: int

    @property
    def frame_count(self) -> int:
        return len(self.frame_sizes)

    @property
    def duration_ticks(self) -> int:
        return self.frame_ticks * len(self.frame_sizes)

    @property
    def is_dtx(self) -> bool:
        """Discontinuous transmission: no frame says more than "still silent"."""
        return max(self.frame_sizes) <= 1


def parse_opus_untrusted(data: bytes) -> OpusPacket:
    """Check one packet against all of RFC 6716 section 3.4, rules R1 to R7. Raises ParseError, nothing else."""
    if not data:
        raise ParseError("Opus packet is empty")  # R1
    toc = data[0]
    code = toc & 0x03
    size, at = len(data), 1
    if code == 0:
        sizes: tuple[int, ...] = (size - 1,)
    elif code == 1:
        if size % 2 == 0:
            raise ParseError("Opus packet of two equal frames has an odd number of bytes for them")  # R3
        sizes = (size // 2,) * 2
    elif code == 2:
        first, at = _frame_size(data, 1, size)
        if first > size - at:
            raise ParseError(f"first Opus frame claims {first} bytes, {size - at} are there")  # R4
        sizes = (first, size - at - first)
    else:
        sizes, at = _code_3_sizes(data)
    if max(sizes) > MAX_FRAME_BYTES:
        raise ParseError(f"Opus frame of {max(sizes)} bytes; 1275 is the most")  # R2
    frame_ticks = _FRAME_TICKS[toc >> 3]
    if frame_ticks * len(sizes) > MAX_DURATION_TICKS:
        raise ParseError("Opus packet is longer than 120 ms")  # R5
    return OpusPacket(toc >> 3, 2 if toc & 0x04 else 1, frame_ticks, sizes, at)


def duration_ticks_untrusted(data: bytes) -> int:
    """Duration of a packet by its first two bytes alone, for hot paths. Raises ParseError, nothing else."""
    if not data:
        raise ParseError("Opus packet is empty")
    toc = data[0]
    code = toc & 0x03
    ticks = _FRAME_TICKS[toc >> 3]
    if code == 3:
        if len(data) < 2:
            raise ParseError("Opus packet ends before its frame count")
        ticks *= data[1] & 0x3F
    elif code:
        ticks *= 2
    if not 0 < ticks <= MAX_DURATION_TICKS:
        raise ParseError("Opus packet is empty or longer than 120 ms")
    return ticks


def silence_packets(ticks: int) -> Iterator[tuple[bytes, int]]:
    """Packets of silence with their durations: together `ticks`, less what is shorter than the shortest frame."""
    for frame_ticks, payload in _SILENCE:
        while ticks >= frame_ticks:
            yield payload, frame_ticks
            ticks -= frame_ticks


def split_untrusted(data: bytes) -> list[bytes]:
    """The frames of a packet as packets of one frame each, which play the same. Raises ParseError, nothing else."""
    packet = parse_opus_untrusted(data)
    toc = bytes([data[0] & 0xFC])
    pos = packet.frames_at
    out = []
    for size in packet.frame_sizes:
        out.append(toc + data[pos : pos + size])
        pos += size
    return out


def is_dtx(data: bytes) -> bool:
    """Is this packet a sign of life in silence (discontinuous transmission)? False for malformed ones."""
    if data and data[0] & 0x03 == 0:
        return len(data) <= 2
    try:
        return parse_opus_untrusted(data).is_dtx
    except ParseError:
        return False


def _frame_size(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """RFC 6716 section 3.2.1: a size of one or two bytes at `pos`, and the position after it."""
    if pos >= end:
        raise ParseError("Opus packet ends before a frame's size")
    first = data[pos]
    if first < 252:
        return first, pos + 1
    if pos + 1 >= end:
        raise ParseError("Opus packet ends within a frame's size")
    return 4 * data[pos + 1] + first, pos + 2


def _code_3_sizes(data: bytes) -> tuple[tuple[int, ...], int]:
    """RFC 6716 section 3.2.5: a count of frames, padding, sizes if they differ. Also where the first frame begins."""
    size = len(data)
    if size < 2:
        raise ParseError("Opus packet ends before its frame count")  # R6
    count = data[1] & 0x3F
    if not 1 <= count <= 48:
        raise ParseError(f"Opus packet of {count} frames")  # R5
    pos, padding = 2, 0
    if data[1] & 0x40:
        while True:
            if pos >= size:
                raise ParseError("Opus packet ends within the length of its padding")
            byte = data[pos]
            pos += 1
            padding += 254 if byte == 255 else byte
            if byte != 255:
                break
    end = size - padding
    if end < pos:
        raise ParseError(f"Opus padding of {padding} bytes does not fit the packet")  # R6, R7
    if not data[1] & 0x80:
        if (end - pos) % count:
            raise ParseError(f"{end - pos} bytes do not divide into {count} equal Opus frames")  # R6
        return ((end - pos) // count,) * count, pos
    sizes = []
    for _ in range(count - 1):
        frame, pos = _frame_size(data, pos, end)
        sizes.append(frame)
    last = end - pos - sum(sizes)
    if last < 0:
        raise ParseError("Opus frames claim more bytes than are there")  # R7
    return (*sizes, last), pos
