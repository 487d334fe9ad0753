"""Datagrams on a byte stream: a length of two bytes before each (RFC 4571 section 2). RFC 6544 section 10.1 wants this
for everything on an ICE-TCP connection: STUN, DTLS, RTP and RTCP.

Sans-IO.
"""

from __future__ import annotations

from collections.abc import Iterator

from lac_media.errors import LocalProtocolError, ParseError

HEADER_BYTES = 2
#: As much as a datagram may have (`lac_media.net.udp.MAX_DATAGRAM`). The length field would allow 65,535.
MAX_FRAME = 2048


def encode_frame(data: bytes) -> bytes:
    """Raises `LocalProtocolError` for what no receiver of ours would take."""
    if not 0 < len(data) <= MAX_FRAME:
        raise LocalProtocolError(f"a frame of {len(data)} bytes is not within 1 to {MAX_FRAME}")
    return len(data).to_bytes(HEADER_BYTES, "big") + data


class FrameParser:
    """Cuts what comes out of a stream into frames. Holds one unfinished frame at the most."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed_untrusted(self, data: bytes) -> Iterator[bytes]:
        """The frames that are whole now; empty ones are left out. To be read to its end before more is fed.

        Raises ParseError, nothing else, after the frames before the bad one: the stream is of no further use.
        """
        rest = self._rest
        rest += data
        position = 0
        try:
            while len(rest) - position >= HEADER_BYTES:
                size = int.from_bytes(rest[position : position + HEADER_BYTES], "big")
                if size > MAX_FRAME:
                    raise ParseError(f"a frame claims {size} bytes; at most {MAX_FRAME} are taken")
                end = position + HEADER_BYTES + size
                if end > len(rest):
                    break
                frame = bytes(rest[position + HEADER_BYTES : end])
                position = end
                if frame:
                    yield frame
        finally:
            del rest[:position]
