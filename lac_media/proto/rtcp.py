"""RTCP compound packets: SR, RR, SDES, BYE (RFC 3550 section 6), generic NACK (RFC 4585 section 6.2.1).

Reduced-size compounds (RFC 5506) are taken as they come: no packet has to be first. What we do not speak (transport-cc,
PLI, XR, APP) is kept as `UnknownRtcp`. All times are NTP (64 bits, 2**-32 s) or its middle 32 bits (2**-16 s).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from struct import Struct
from struct import error as struct_error

from lac_media.errors import LocalProtocolError, ParseError

SR, RR, SDES, BYE, RTPFB = 200, 201, 202, 203, 205
NACK_FORMAT = 1
SDES_CNAME = 1

#: Seconds from 1900-01-01 (NTP) to 1970-01-01 (Unix).
NTP_UNIX_OFFSET_S = 2_208_988_800
#: A longer round trip is a broken report, not a slow network.
MAX_ROUND_TRIP_S = 60.0
#: Both ends round their clocks: a round trip this little below zero (2**-16 s) is zero.
_ROUNDING_SLACK = 66

_HEADER = Struct("!BBH")
_SSRC = Struct("!L")
_TWO_SSRCS = Struct("!LL")
_SENDER_INFO = Struct("!LQLLL")
_REPORT_BLOCK = Struct("!LLLLLL")
_NACK_ITEM = Struct("!HH")

_MAX_COUNT = 31
#: Sequence numbers that all NACKs of one datagram may name; those beyond are not read. 1,400 bytes have room for 5,900,
#: our rings have at most 128 packets, and Chromium keeps a list of 500.
MAX_LOST = 512


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """RFC 3550 section 6.4.1, about the stream `ssrc`.

    `fraction_lost` in 1/256 since the last report; `cumulative_lost` signed, [-2**23, 2**23); `highest_sequence` with
    its cycles in the upper 16 bits; `jitter` in ticks; `lsr` and `dlsr` in 2**-16 s, zero while no SR has come.
    """

    ssrc: int
    fraction_lost: int
    cumulative_lost: int
    highest_sequence: int
    jitter: int
    lsr: int = 0
    dlsr: int = 0


@dataclass(frozen=True, slots=True)
class SenderReport:
    """RFC 3550 section 6.4.1. `ntp_timestamp` and `rtp_timestamp` name one and the same moment."""

    ssrc: int
    ntp_timestamp: int
    rtp_timestamp: int
    packet_count: int
    octet_count: int
    reports: tuple[ReportBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    """RFC 3550 section 6.4.2. `ssrc` is the reporter's."""

    ssrc: int
    reports: tuple[ReportBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class SdesChunk:
    """RFC 3550 section 6.5: what one source says of itself, as (item type, value)."""

    ssrc: int
    items: tuple[tuple[int, bytes], ...] = ()

    @property
    def cname(self) -> str | None:
        for kind, value in self.items:
            if kind == SDES_CNAME:
                return value.decode("utf-8", "replace")
        return None


@dataclass(frozen=True, slots=True)
class SourceDescription:
    chunks: tuple[SdesChunk, ...] = ()


@dataclass(frozen=True, slots=True)
class Bye:
    """RFC 3550 section 6.6."""

    ssrcs: tuple[int, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Nack:
    """RFC 4585 section 6.2.1: `lost` are the 16-bit sequence numbers that `sender_ssrc` misses of `media_ssrc`."""

    sender_ssrc: int
    media_ssrc: int
    lost: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class UnknownRtcp:
    """A packet of another type, unread. `count` is the five bits beside the version (count, subtype or format)."""

    packet_type: int
    count: int
    body: bytes


RtcpPacket = SenderReport | ReceiverReport | SourceDescription | Bye | Nack | UnknownRtcp


def parse_rtcp_untrusted(data: bytes) -> list[RtcpPacket]:
    """Parse one decrypted RTCP datagram. Raises ParseError, nothing else, and then none of it counts.

    NACKs name `MAX_LOST` sequence numbers together; what they name beyond that is left out.
    """
    packets: list[RtcpPacket] = []
    lost_left = MAX_LOST
    size = len(data)
    pos = 0
    while pos < size or not packets:
        if size - pos < 4:
            raise ParseError(f"RTCP ends after {size - pos} of the 4 bytes of a packet header")
        first, packet_type, words = _HEADER.unpack_from(data, pos)
        if first >> 6 != 2:
            raise ParseError(f"RTCP version is {first >> 6}, not 2")
        start, end = pos + 4, pos + 4 + 4 * words
        if end > size:
            raise ParseError(f"RTCP packet of type {packet_type} claims {4 * words} bytes, {size - start} are there")
        pos = end
        if first & 0x20:
            # RFC 3550 section 6.4.1: only the last packet of a compound may carry padding.
            padding = data[end - 1] if words else 0
            if end != size or padding == 0 or padding % 4 or padding > end - start:
                raise ParseError(f"RTCP packet of type {packet_type} has invalid padding")
            end -= padding
        packet = _parse_one(packet_type, first & 0x1F, data[start:end], lost_left)
        if isinstance(packet, Nack):
            lost_left -= len(packet.lost)
            if not packet.lost:
                continue
        packets.append(packet)
    return packets


def _parse_one(packet_type: int, count: int, body: bytes, lost_left: int) -> RtcpPacket:
    if packet_type == RR:
        if len(body) < 4:
            raise ParseError("RTCP receiver report ends before its SSRC")
        return ReceiverReport(_SSRC.unpack_from(body)[0], _parse_reports(body, 4, count))
    if packet_type == SR:
        if len(body) < 24:
            raise ParseError(f"RTCP sender report has {len(body)} of the 24 bytes of its sender information")
        ssrc, ntp, rtp, packet_count, octet_count = _SENDER_INFO.unpack_from(body)
        return SenderReport(ssrc, ntp, rtp, packet_count, octet_count, _parse_reports(body, 24, count))
    if packet_type == RTPFB and count == NACK_FORMAT:
        return _parse_nack(body, lost_left)
    if packet_type == SDES:
        return _parse_sdes(body, count)
    if packet_type == BYE:
        return _parse_bye(body, count)
    return UnknownRtcp(packet_type, count, bytes(body))


def _parse_reports(body: bytes, pos: int, count: int) -> tuple[ReportBlock, ...]:
    """`count` report blocks; a profile's extension behind them (RFC 3550 section 6.4.3) is skipped."""
    if len(body) < pos + 24 * count:
        raise ParseError(f"RTCP report announces {count} blocks and ends after {len(body) - pos} bytes of them")
    reports = []
    for at in range(pos, pos + 24 * count, 24):
        ssrc, lost, highest, jitter, lsr, dlsr = _REPORT_BLOCK.unpack_from(body, at)
        # The 24 bits of the cumulative loss are signed: duplicates make it negative (RFC 3550 section 6.4.1).
        cumulative = ((lost & 0xFFFFFF) ^ 0x800000) - 0x800000
        reports.append(ReportBlock(ssrc, lost >> 24, cumulative, highest, jitter, lsr, dlsr))
    return tuple(reports)


def _parse_nack(body: bytes, at_most: int) -> Nack:
    """The first `at_most` of its sequence numbers."""
    if len(body) < 12:
        raise ParseError(f"RTCP NACK of {len(body)} bytes names no lost packet")
    sender, media = _TWO_SSRCS.unpack_from(body)
    lost: list[int] = []
    for at in range(8, len(body) - 3, 4):
        if len(lost) >= at_most:
            break
        pid, blp = _NACK_ITEM.unpack_from(body, at)
        lost.append(pid)
        while blp:
            bit = blp & -blp
            lost.append((pid + bit.bit_length()) & 0xFFFF)
            blp ^= bit
    return Nack(sender, media, tuple(lost[:at_most]))


def _parse_sdes(body: bytes, count: int) -> SourceDescription:
    chunks: list[SdesChunk] = []
    size = len(body)
    pos = 0
    for _ in range(count):
        if size < pos + 4:
            raise ParseError(f"RTCP SDES announces {count} chunks and ends after {len(chunks)}")
        ssrc = _SSRC.unpack_from(body, pos)[0]
        pos += 4
        items = []
        while True:
            if pos >= size:
                raise ParseError("RTCP SDES chunk is not terminated")
            kind = body[pos]
            if kind == 0:
                pos += 4 - pos % 4  # the null and the rest of its word
                break
            if pos + 2 > size or pos + 2 + body[pos + 1] > size:
                raise ParseError(f"RTCP SDES item of type {kind} ends beyond the packet")
            stop = pos + 2 + body[pos + 1]
            items.append((kind, bytes(body[pos + 2 : stop])))
            pos = stop
        chunks.append(SdesChunk(ssrc, tuple(items)))
    return SourceDescription(tuple(chunks))


def _parse_bye(body: bytes, count: int) -> Bye:
    size = len(body)
    end = 4 * count
    if size < end:
        raise ParseError(f"RTCP BYE announces {count} sources and ends after {size} bytes")
    ssrcs = tuple(_SSRC.unpack_from(body, at)[0] for at in range(0, end, 4))
    reason = ""
    if size > end:
        stop = end + 1 + body[end]
        if stop > size:
            raise ParseError("RTCP BYE reason ends beyond the packet")
        reason = bytes(body[end + 1 : stop]).decode("utf-8", "replace")
    return Bye(ssrcs, reason)


def encode_rtcp(packets: Iterable[RtcpPacket]) -> bytes:
    """Encode one compound, in the given order. Raises LocalProtocolError when a field is out of its range."""
    out = bytearray()
    for packet in packets:
        try:
            packet_type, count, body = _encode_one(packet)
            if count > _MAX_COUNT:
                raise LocalProtocolError(f"RTCP packet of type {packet_type} with {count} parts; 31 is the most")
            if len(body) % 4:
                raise LocalProtocolError(f"RTCP body of {len(body)} bytes is not a multiple of 4")
            out += _HEADER.pack(0x80 | count, packet_type, len(body) // 4)
        except (struct_error, ValueError, UnicodeError) as exc:
            raise LocalProtocolError(f"RTCP field out of range: {exc}") from exc
        out += body
    return bytes(out)


def _encode_one(packet: RtcpPacket) -> tuple[int, int, bytes]:
    match packet:
        case ReceiverReport():
            return RR, len(packet.reports), _SSRC.pack(packet.ssrc) + _encode_reports(packet.reports)
        case SenderReport():
            info = _SENDER_INFO.pack(
                packet.ssrc, packet.ntp_timestamp, packet.rtp_timestamp, packet.packet_count, packet.octet_count
            )
            return SR, len(packet.reports), info + _encode_reports(packet.reports)
        case Nack():
            return (
                RTPFB,
                NACK_FORMAT,
                _TWO_SSRCS.pack(packet.sender_ssrc, packet.media_ssrc) + _encode_lost(packet.lost),
            )
        case SourceDescription():
            return SDES, len(packet.chunks), b"".join(map(_encode_chunk, packet.chunks))
        case Bye():
            body = b"".join(map(_SSRC.pack, packet.ssrcs))
            if packet.reason:
                reason = packet.reason.encode("utf-8")
                body += bytes((len(reason),)) + reason
                body += bytes(-len(body) % 4)
            return BYE, len(packet.ssrcs), body
        case UnknownRtcp():
            return packet.packet_type, packet.count, packet.body


def _encode_reports(reports: tuple[ReportBlock, ...]) -> bytes:
    return b"".join(
        _REPORT_BLOCK.pack(
            r.ssrc,
            r.fraction_lost << 24 | clamp_cumulative_lost(r.cumulative_lost) & 0xFFFFFF,
            r.highest_sequence,
            r.jitter,
            r.lsr,
            r.dlsr,
        )
        for r in reports
    )


def _encode_lost(lost: tuple[int, ...]) -> bytes:
    """Pack sequence numbers, best in rising order, into pairs of a number and a bit mask of the 16 after it."""
    if not lost:
        raise LocalProtocolError("a NACK names at least one lost packet")
    out = bytearray()
    pid, blp = lost[0], 0
    for sequence in lost[1:]:
        step = (sequence - pid) & 0xFFFF
        if 1 <= step <= 16:
            blp |= 1 << (step - 1)
        elif step:
            out += _NACK_ITEM.pack(pid, blp)
            pid, blp = sequence, 0
    return bytes(out + _NACK_ITEM.pack(pid, blp))


def _encode_chunk(chunk: SdesChunk) -> bytes:
    out = bytearray(_SSRC.pack(chunk.ssrc))
    for kind, value in chunk.items:
        if not 1 <= kind <= 255:
            raise LocalProtocolError(f"SDES item type {kind} is not within 1 to 255")
        out.append(kind)
        out.append(len(value))
        out += value
    # One null at least, and as many as fill the word.
    return bytes(out + bytes(4 - len(out) % 4))


def cname_sdes(ssrc: int, cname: str) -> SourceDescription:
    """The description that must accompany every SR of ours (RFC 3550 section 6.5.1)."""
    return SourceDescription((SdesChunk(ssrc, ((SDES_CNAME, cname.encode("utf-8")),)),))


def clamp_cumulative_lost(count: int) -> int:
    """RFC 3550 section A.3: the count stays at its limits instead of wrapping."""
    return max(-0x800000, min(count, 0x7FFFFF))


def ntp_from_unix(unix_s: float) -> int:
    """Unix time in seconds to a 64-bit NTP timestamp in units of 2**-32 s (modulo its era of 136 years)."""
    whole = int(unix_s // 1)
    return ((whole + NTP_UNIX_OFFSET_S) << 32 | int((unix_s - whole) * (1 << 32))) & 0xFFFFFFFFFFFFFFFF


def unix_from_ntp(ntp: int) -> float:
    """A 64-bit NTP timestamp of the present era (1968 to 2104, RFC 2030 section 3) as Unix seconds."""
    seconds = ntp >> 32
    if seconds < 0x80000000:
        seconds += 1 << 32
    return seconds - NTP_UNIX_OFFSET_S + (ntp & 0xFFFFFFFF) / (1 << 32)


def ntp_short(ntp: int) -> int:
    """The middle 32 bits of a 64-bit NTP timestamp: 16 of seconds, 16 of fraction, as `lsr` has it."""
    return (ntp >> 16) & 0xFFFFFFFF


def round_trip_s(now_ntp: int, lsr: int, dlsr: int) -> float | None:
    """RFC 3550 section 6.4.1: round trip in seconds from a report block that arrived at `now_ntp` (64 bits).

    None when the peer has had no SR yet, or when the numbers cannot be true (negative, or above a minute).
    """
    if lsr == 0:
        return None
    units = (ntp_short(now_ntp) - lsr - dlsr) & 0xFFFFFFFF
    if units >= (1 << 32) - _ROUNDING_SLACK:
        return 0.0
    seconds = units / 65536
    return seconds if seconds <= MAX_ROUND_TRIP_S else None
