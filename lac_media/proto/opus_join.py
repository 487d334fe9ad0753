"""Joining Opus packets into one of several frames, without decoding (RFC 6716 section 3.2).

A packet is one byte that says how its frames are coded, how many they are and how long, and the frames. Frames that are
coded in the same way may stand in one packet, whichever packets they came in: a decoder cannot tell the difference.
"""

from __future__ import annotations

from lac_media.errors import LocalProtocolError
from lac_media.proto.opus import MAX_DURATION_TICKS, OpusPacket

#: RFC 6716 section 3.2.5: 120 ms of the shortest frames.
MAX_FRAMES = 48


class OpusJoiner:
    """Collects packets and gives them out as one.

    `max_ticks` (at most 5,760) and `max_bytes` are the limits of that one; a single packet may exceed them.
    """

    def __init__(self, *, max_ticks: int = MAX_DURATION_TICKS, max_bytes: int) -> None:
        if not 0 < max_ticks <= MAX_DURATION_TICKS:
            raise LocalProtocolError(f"an Opus packet is not {max_ticks} ticks long")
        self._max_ticks = max_ticks
        self._max_bytes = max_bytes
        self._packets: list[bytes] = []
        self._frames: list[bytes] = []
        #: Configuration and stereo bit, as they stand in the TOC byte of every packet here.
        self._coding = 0
        self._frame_ticks = 0
        #: Bytes of the frames, and of the lengths of all frames, which an unequal last one does without.
        self._frame_bytes = 0
        self._length_bytes = 0

    @property
    def ticks(self) -> int:
        """Duration of what is held."""
        return self._frame_ticks * len(self._frames)

    def add(self, packet: OpusPacket, data: bytes) -> bool:
        """Hold this packet, too; `packet` is what `parse_opus_untrusted` says of `data`. The first is always taken.

        False, and nothing changes, if it cannot be joined to what is held: it is coded in another way (bandwidth, mode,
        frame length or channels), or together they would be too long or too large."""
        frames = _frames_of(packet, data)
        frame_bytes = self._frame_bytes + sum(packet.frame_sizes)
        length_bytes = self._length_bytes + sum(map(_length_bytes, packet.frame_sizes))
        if self._packets:
            count = len(self._frames) + len(frames)
            # The sizes as if they were unequal: a byte or two more than equal ones need.
            size = 2 + length_bytes + frame_bytes
            if (
                data[0] & 0xFC != self._coding
                or count > MAX_FRAMES
                or count * packet.frame_ticks > self._max_ticks
                or size > self._max_bytes
            ):
                return False
        self._packets.append(data)
        self._frames += frames
        self._coding, self._frame_ticks = data[0] & 0xFC, packet.frame_ticks
        self._frame_bytes, self._length_bytes = frame_bytes, length_bytes
        return True

    def take(self) -> bytes:
        """Everything that is held, as one packet; a single one as it came. Afterwards nothing is held. Raises
        `LocalProtocolError` if there is nothing."""
        if not self._packets:
            raise LocalProtocolError("no Opus packet is held that could be taken")
        joined = self._packets[0] if len(self._packets) == 1 else join_frames(self._coding, self._frames)
        self._packets, self._frames = [], []
        self._frame_ticks = self._frame_bytes = self._length_bytes = 0
        return joined


def join_frames(coding: int, frames: list[bytes]) -> bytes:
    """A packet of one to 48 frames. `coding` is a TOC byte whose lower two bits do not count. The smallest form: code 0
    to 2 for one or two frames, code 3 for more (RFC 6716 sections 3.2.2 to 3.2.5), never padded."""
    toc = coding & 0xFC
    equal = len({len(frame) for frame in frames}) == 1
    if len(frames) == 1:
        header = bytes([toc])
    elif len(frames) == 2 and equal:
        header = bytes([toc | 1])
    elif len(frames) == 2:
        header = bytes([toc | 2]) + _encode_length(len(frames[0]))
    elif equal:
        header = bytes([toc | 3, len(frames)])
    else:
        header = bytes([toc | 3, 0x80 | len(frames)]) + b"".join(_encode_length(len(frame)) for frame in frames[:-1])
    return header + b"".join(frames)


def _frames_of(packet: OpusPacket, data: bytes) -> list[bytes]:
    frames, at = [], packet.frames_at
    for size in packet.frame_sizes:
        frames.append(data[at : at + size])
        at += size
    return frames


def _length_bytes(size: int) -> int:
    return 1 if size < 252 else 2


def _encode_length(size: int) -> bytes:
    """RFC 6716 section 3.2.1: up to 251 in one byte; more is 4 * second + first, the first within 252 to 255."""
    if size < 252:
        return bytes([size])
    first = 252 + (size & 3)
    return bytes([first, (size - first) >> 2])
