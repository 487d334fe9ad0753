"""Redundant audio, RFC 2198 ("RED"): one RTP payload that carries a frame and copies of earlier ones.

A block is four bytes of header per redundant frame (a flag, payload type, 14 bits of timestamp offset, 10 bits of
length), one byte for the primary, then the data of all of them in the same order. RED says nothing of sequence numbers:
see `lac_media.proto.recovery` for how copies are told apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from lac_media.errors import LocalProtocolError, ParseError

#: Ticks: what 14 bits hold, 341 ms at 48 kHz.
MAX_TIMESTAMP_OFFSET = 0x3FFF
#: Bytes of a redundant block: what 10 bits hold. The primary has no such limit.
MAX_REDUNDANT_BYTES = 0x3FF
#: Redundant blocks that are read from one packet. Senders put one or two; 341 ms of 10 ms frames are 34.
MAX_REDUNDANT_BLOCKS = 34


class RedBlock(NamedTuple):
    """One frame. `timestamp_offset` is how many ticks it is older than the packet's timestamp; the primary has 0."""

    payload_type: int
    timestamp_offset: int
    payload: bytes


def parse_red_untrusted(payload: bytes) -> list[RedBlock]:
    """The blocks of one RTP payload, in the order of the packet: the primary is the last. Raises ParseError, nothing
    else. Blocks may be empty, and their payload types are anybody's."""
    size = len(payload)
    headers: list[tuple[int, int, int]] = []
    pos = 0
    while True:
        if pos >= size:
            raise ParseError(f"RED packet ends after {len(headers)} headers, without that of its primary")
        first = payload[pos]
        if not first & 0x80:
            pos += 1
            break
        if size < pos + 4:
            raise ParseError("RED packet ends within the header of a redundant block")
        if len(headers) == MAX_REDUNDANT_BLOCKS:
            raise ParseError(f"RED packet of more than {MAX_REDUNDANT_BLOCKS} redundant blocks")
        offset_and_length = int.from_bytes(payload[pos + 1 : pos + 4], "big")
        headers.append((first & 0x7F, offset_and_length >> 10, offset_and_length & 0x3FF))
        pos += 4
    blocks = []
    for payload_type, offset, length in headers:
        if size < pos + length:
            raise ParseError(f"redundant block of RED claims {length} bytes, {size - pos} are there")
        blocks.append(RedBlock(payload_type, offset, bytes(payload[pos : pos + length])))
        pos += length
    blocks.append(RedBlock(first, 0, bytes(payload[pos:])))
    return blocks


def build_red(primary: bytes, redundant: Iterable[tuple[int, bytes]], *, payload_type: int) -> bytes:
    """One RED payload. `redundant` are (timestamp offset in ticks, frame), the oldest first; every block has
    `payload_type`, that of Opus. Raises LocalProtocolError for what the fields cannot hold: leave such frames out
    (`MAX_TIMESTAMP_OFFSET`, `MAX_REDUNDANT_BYTES`)."""
    if not 0 <= payload_type <= 127:
        raise LocalProtocolError(f"RTP payload type {payload_type} is not within 0 to 127")
    headers, data = bytearray(), bytearray()
    for offset, frame in redundant:
        if not 0 <= offset <= MAX_TIMESTAMP_OFFSET:
            raise LocalProtocolError(f"RED has no room for a timestamp offset of {offset} ticks")
        if len(frame) > MAX_REDUNDANT_BYTES:
            raise LocalProtocolError(f"RED has no room for a redundant block of {len(frame)} bytes")
        headers.append(payload_type | 0x80)
        headers += (offset << 10 | len(frame)).to_bytes(3, "big")
        data += frame
    headers.append(payload_type)
    return bytes(headers + data + primary)
