"""Which protocol a datagram on the one media port belongs to (RFC 7983 section 7, RFC 5761 section 4)."""

from __future__ import annotations

from enum import Enum


class PacketKind(Enum):
    STUN = "stun"
    DTLS = "dtls"
    RTP = "rtp"
    RTCP = "rtcp"
    #: TURN channels, ZRTP, noise: nothing that we speak.
    OTHER = "other"


def _kind_of_first_byte(first: int) -> PacketKind:
    if first <= 3:
        return PacketKind.STUN
    if 20 <= first <= 63:
        return PacketKind.DTLS
    if 128 <= first <= 191:
        return PacketKind.RTP
    return PacketKind.OTHER


_BY_FIRST_BYTE = tuple(_kind_of_first_byte(first) for first in range(256))


def classify(data: bytes) -> PacketKind:
    """Return the kind of a UDP payload by its first two bytes. Never raises; says nothing about validity."""
    if len(data) < 2:
        return PacketKind.OTHER
    kind = _BY_FIRST_BYTE[data[0]]
    # RFC 5761 section 4: payload types 64 to 95 are not used by RTP, so that RTCP's 192 to 223 stand out.
    if kind is PacketKind.RTP and 64 <= data[1] & 0x7F < 96:
        return PacketKind.RTCP
    return kind
