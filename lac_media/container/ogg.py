"""Ogg pages (RFC 3533): writing packets into them and finding them again in what is left of a file."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from lac_media.errors import ParseError

MAX_SEGMENTS = 255
#: A header, its table of segments, and 255 segments of 255 bytes.
MAX_PAGE_BYTES = 27 + MAX_SEGMENTS + MAX_SEGMENTS * 255
#: RFC 3533 section 6, "granule position": no packet ends on this page.
NO_GRANULE = -1

_HEADER = Struct("<4sBBqLLLB")
_CAPTURE = b"OggS"
_CONTINUED, _FIRST, _LAST = 1, 2, 4
_CRC_OFFSET = 22
#: Ogg's checksum is CRC-32 with the bits the other way round than zlib's.
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True, slots=True)
class OggPage:
    """`granule` as the codec defines it, NO_GRANULE where no packet ends. `segments` are the lacing values."""

    granule: int
    serial: int
    number: int
    continued: bool
    first: bool
    last: bool
    segments: bytes
    body: bytes

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return _HEADER.size + len(self.segments) + len(self.body)


def ogg_checksum(data: bytes) -> int:
    """RFC 3533 section 6, field 7: polynomial 0x04c11db7, nothing inverted."""
    reflected = zlib.crc32(data.translate(_REVERSED_BITS), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int.from_bytes(reflected.to_bytes(4, "little").translate(_REVERSED_BITS), "big")


def encode_page(page: OggPage) -> bytes:
    """One page, checksum included."""
    flags = _CONTINUED * page.continued | _FIRST * page.first | _LAST * page.last
    header = _HEADER.pack(_CAPTURE, 0, flags, page.granule, page.serial, page.number, 0, len(page.segments))
    data = bytearray(header + page.segments + page.body)
    data[_CRC_OFFSET : _CRC_OFFSET + 4] = ogg_checksum(bytes(data)).to_bytes(4, "little")
    return bytes(data)


def parse_page_untrusted(data: bytes, pos: int = 0) -> OggPage:
    """The whole page at `pos`. Raises ParseError, nothing else: also for one that is not all there."""
    if len(data) - pos < _HEADER.size:
        raise ParseError("Ogg page ends within its header")
    capture, version, flags, granule, serial, number, checksum, count = _HEADER.unpack_from(data, pos)
    if capture != _CAPTURE or version != 0:
        raise ParseError("this is not the beginning of an Ogg page")
    table_end = pos + _HEADER.size + count
    segments = bytes(data[pos + _HEADER.size : table_end])
    end = table_end + sum(segments)
    if len(segments) < count or len(data) < end:
        raise ParseError("Ogg page is not complete")
    raw = bytearray(data[pos:end])
    raw[_CRC_OFFSET : _CRC_OFFSET + 4] = bytes(4)
    if ogg_checksum(bytes(raw)) != checksum:
        raise ParseError("Ogg page is damaged: its checksum differs")
    return OggPage(
        granule,
        serial,
        number,
        continued=bool(flags & _CONTINUED),
        first=bool(flags & _FIRST),
        last=bool(flags & _LAST),
        segments=segments,
        body=bytes(data[table_end:end]),
    )


def take_page_untrusted(buffer: bytearray) -> OggPage | None:
    """Take the page that `buffer` begins with out of it; None while it is not all there. Raises ParseError when it is
    no page."""
    size = _page_size_untrusted(buffer)
    if size is None or len(buffer) < size:
        return None
    page = parse_page_untrusted(bytes(buffer[:size]))
    del buffer[:size]
    return page


def _page_size_untrusted(data: bytes | bytearray) -> int | None:
    """Bytes of the page that `data` begins with, all there or not; None while that cannot be said yet. Raises
    ParseError when it is no page."""
    if not data.startswith(_CAPTURE[: len(data)]):
        raise ParseError("this is not the beginning of an Ogg page")
    if len(data) < _HEADER.size or len(data) < _HEADER.size + data[_HEADER.size - 1]:
        return None
    table_end = _HEADER.size + data[_HEADER.size - 1]
    return table_end + sum(data[_HEADER.size : table_end])


class OggPager:
    """Puts the packets of one logical stream into pages. `serial` is 32 bits, the caller's choice, unique in a file.

    A page goes out when it is full, or when the caller says so: the more packets on a page, the less overhead, and the
    more is lost when a file breaks off.
    """

    def __init__(self, serial: int, *, first_page: int = 0) -> None:
        """`first_page` other than 0 goes on with a stream that has so many pages already."""
        self._serial = serial
        self._number = first_page
        self._segments = bytearray()
        self._body = bytearray()
        self._granule = NO_GRANULE
        self._continued = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits for its page."""
        return not self._segments

    def add(self, packet: bytes, granule: int) -> bytes:
        """Take one packet; `granule` is the position at its end. Returns the pages that are full now, often none."""
        pages = bytearray()
        lacing = b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255])
        pos = 0
        for value in lacing:
            if len(self._segments) == MAX_SEGMENTS:
                pages += self._page(last=False)
                self._continued = pos > 0
            self._segments.append(value)
            self._body += packet[pos : pos + value]
            pos += value
        self._granule = granule
        return bytes(pages)

    def flush(self) -> bytes:
        """The page with what waits, if anything does."""
        return self._page(last=False) if self._segments else b""

    def end(self, granule: int) -> bytes:
        """The last page, written even if it is empty; the stream ends at `granule`."""
        self._granule = granule
        return self._page(last=True)

    def _page(self, *, last: bool) -> bytes:
        page = OggPage(
            self._granule,
            self._serial,
            self._number,
            continued=self._continued,
            first=self._number == 0,
            last=last,
            segments=bytes(self._segments),
            body=bytes(self._body),
        )
        self._number += 1
        self._segments.clear()
        self._body.clear()
        self._granule, self._continued = NO_GRANULE, False
        return encode_page(page)


class OggUnpager:
    """Gives the packets of one logical stream back, page by page."""

    def __init__(self) -> None:
        self._partial: bytearray | None = None
        #: Bytes of a packet that never ends are not kept for ever.
        self.max_packet_bytes = 1 << 20

    def receive(self, page: OggPage) -> Iterator[bytes]:
        """The packets that end on this page. One whose beginning was lost is skipped. Raises ParseError."""
        if not page.continued:
            self._partial = bytearray()
        packet = self._partial
        pos = 0
        for value in page.segments:
            if packet is not None:
                packet += page.body[pos : pos + value]
                if len(packet) > self.max_packet_bytes:
                    self._partial = None
                    raise ParseError(f"Ogg packet of more than {self.max_packet_bytes} bytes")
            pos += value
            if value < 255:
                if packet is not None:
                    yield bytes(packet)
                packet = bytearray()
        self._partial = packet
