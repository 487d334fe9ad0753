"""RTP packets (RFC 3550 section 5) with header extensions (RFC 8285), audio level (RFC 6464) and mid (RFC 9143).

`parse_rtp_untrusted` and `encode_rtp` run once per packet of every publisher: they copy the payload once and no more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct
from struct import error as struct_error
from typing import NamedTuple

from lac_media.errors import LocalProtocolError, ParseError

HEADER_LENGTH = 12
ONE_BYTE_PROFILE = 0xBEDE
#: The low four bits are "appbits" and mean nothing to us (RFC 8285 section 4.3).
TWO_BYTE_PROFILE = 0x1000

_HEADER = Struct("!BBHLL")
_EXTENSION_HEADER = Struct("!HH")
_CSRCS = tuple(Struct(f"!{count}L") for count in range(16))


@dataclass(slots=True)
class RtpPacket:
    """One RTP packet. `extensions` maps the negotiated id (1 to 255) to the element's value.

    `payload` is without padding; a packet that is nothing but padding has an empty one. Not frozen, because freezing
    triples the cost of making one; treat it as a value all the same.
    """

    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    marker: bool = False
    payload: bytes = b""
    extensions: dict[int, bytes] = field(default_factory=dict)
    csrcs: tuple[int, ...] = ()


class AudioLevel(NamedTuple):
    """RFC 6464: `level` in -dBov, 0 (loudest) to 127 (silence); `voice` is the sender's guess at speech."""

    level: int
    voice: bool


def parse_rtp_untrusted(data: bytes) -> RtpPacket:
    """Parse one decrypted RTP packet. Raises ParseError, nothing else.

    Extensions of a profile that is neither of RFC 8285's two forms are skipped (RFC 3550 section 5.3.1).
    """
    size = len(data)
    if size < HEADER_LENGTH:
        raise ParseError(f"RTP packet of {size} bytes is shorter than its fixed header of 12")
    first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(data)
    if first >> 6 != 2:
        raise ParseError(f"RTP version is {first >> 6}, not 2")
    start = HEADER_LENGTH
    csrcs: tuple[int, ...] = ()
    if first & 0x0F:
        count = first & 0x0F
        start += 4 * count
        if size < start:
            raise ParseError(f"RTP packet of {size} bytes ends within its {count} contributing sources")
        csrcs = _CSRCS[count].unpack_from(data, HEADER_LENGTH)
    extensions: dict[int, bytes] = {}
    if first & 0x10:
        if size < start + 4:
            raise ParseError(f"RTP packet of {size} bytes ends within the header of its extensions")
        profile, words = _EXTENSION_HEADER.unpack_from(data, start)
        start += 4
        end = start + 4 * words
        if size < end:
            raise ParseError(f"RTP header extensions claim {4 * words} bytes, {size - start} are there")
        if profile == ONE_BYTE_PROFILE:
            extensions = _parse_one_byte_elements(data, start, end)
        elif profile & 0xFFF0 == TWO_BYTE_PROFILE:
            extensions = _parse_two_byte_elements(data, start, end)
        start = end
    end = size
    if first & 0x20:
        # RFC 3550 section 5.1: the last byte counts the padding, itself included.
        padding = data[-1] if size > start else 0
        if not 0 < padding <= size - start:
            raise ParseError(f"RTP padding of {padding} bytes does not fit the {size - start} after the header")
        end -= padding
    return RtpPacket(
        second & 0x7F, sequence, timestamp, ssrc, second >= 0x80, bytes(data[start:end]), extensions, csrcs
    )


def _parse_one_byte_elements(data: bytes, pos: int, end: int) -> dict[int, bytes]:
    """RFC 8285 section 4.2: four bits of id, four bits of length minus one."""
    elements: dict[int, bytes] = {}
    while pos < end:
        head = data[pos]
        pos += 1
        if head == 0:  # padding
            continue
        number = head >> 4
        if number in {0, 15}:
            # Id 15, or id 0 with a length: what came before counts, the rest is ignored (RFC 8285 section 4.2).
            break
        stop = pos + (head & 0x0F) + 1
        if stop > end:
            raise ParseError(f"RTP header extension {number} ends beyond the extension block")
        elements[number] = bytes(data[pos:stop])
        pos = stop
    return elements


def _parse_two_byte_elements(data: bytes, pos: int, end: int) -> dict[int, bytes]:
    """RFC 8285 section 4.3: a byte of id, a byte of length."""
    elements: dict[int, bytes] = {}
    while pos < end:
        number = data[pos]
        pos += 1
        if number == 0:  # padding
            continue
        if pos >= end:
            raise ParseError(f"RTP header extension {number} ends before its length")
        stop = pos + 1 + data[pos]
        if stop > end:
            raise ParseError(f"RTP header extension {number} ends beyond the extension block")
        elements[number] = bytes(data[pos + 1 : stop])
        pos = stop
    return elements


def encode_rtp(packet: RtpPacket) -> bytes:
    """Encode without padding, extensions in RFC 8285's one-byte form where they fit it, else in the two-byte form.

    Raises LocalProtocolError when a field is out of its range.
    """
    if not 0 <= packet.payload_type <= 127:
        raise LocalProtocolError(f"RTP payload type {packet.payload_type} is not within 0 to 127")
    first = 0x80
    block = b""
    if packet.extensions:
        first |= 0x10
        block = encode_extensions(packet.extensions)
    if packet.csrcs:
        count = len(packet.csrcs)
        if count > 15:
            raise LocalProtocolError(f"RTP packet with {count} contributing sources; 15 is the most")
        first |= count
    try:
        header = _HEADER.pack(
            first,
            packet.payload_type | 0x80 if packet.marker else packet.payload_type,
            packet.sequence,
            packet.timestamp,
            packet.ssrc,
        )
        if packet.csrcs:
            header += _CSRCS[len(packet.csrcs)].pack(*packet.csrcs)
    except struct_error as exc:
        raise LocalProtocolError(f"RTP header field out of range: {exc}") from exc
    return b"%b%b%b" % (header, block, packet.payload)


def encode_extensions(extensions: dict[int, bytes]) -> bytes:
    """Encode the extension block, its four-byte header included; b"" for none. Raises LocalProtocolError."""
    if not extensions:
        return b""
    one_byte = True
    for number, value in extensions.items():
        if not 1 <= number <= 255 or len(value) > 255:
            raise LocalProtocolError(f"RTP header extension {number} of {len(value)} bytes cannot be encoded")
        if number > 14 or not 1 <= len(value) <= 16:
            one_byte = False
    block = bytearray(4)
    if one_byte:
        for number, value in extensions.items():
            block.append(number << 4 | len(value) - 1)
            block += value
    else:
        for number, value in extensions.items():
            block.append(number)
            block.append(len(value))
            block += value
    block += bytes(-len(block) % 4)
    words = len(block) // 4 - 1
    if words > 0xFFFF:
        raise LocalProtocolError("RTP header extensions exceed 65535 words")
    _EXTENSION_HEADER.pack_into(block, 0, ONE_BYTE_PROFILE if one_byte else TWO_BYTE_PROFILE, words)
    return bytes(block)


def parse_audio_level_untrusted(value: bytes) -> AudioLevel:
    """RFC 6464 section 3: the value of the extension, one byte. Raises ParseError."""
    if len(value) != 1:
        raise ParseError(f"audio level extension has {len(value)} bytes, not 1")
    return AudioLevel(value[0] & 0x7F, value[0] >= 0x80)


def encode_audio_level(level: int, voice: bool) -> bytes:
    """`level` in -dBov, 0 (loudest) to 127 (silence). Raises LocalProtocolError outside that."""
    if not 0 <= level <= 127:
        raise LocalProtocolError(f"audio level {level} is not within 0 to 127")
    return bytes((level | 0x80 if voice else level,))


def parse_mid_untrusted(value: bytes) -> str:
    """RFC 9143 section 15: the identification-tag of the m-line, an SDP token. Raises ParseError."""
    if not value:
        raise ParseError("mid extension is empty")
    if not value.isascii():
        raise ParseError("mid extension is not ASCII")
    return value.decode("ascii")


def encode_mid(mid: str) -> bytes:
    """The mid as extension value. Raises LocalProtocolError unless it is 1 to 255 ASCII characters."""
    if not mid.isascii() or not 1 <= len(mid) <= 255:
        raise LocalProtocolError("a mid is 1 to 255 ASCII characters")
    return mid.encode("ascii")
