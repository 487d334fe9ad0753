"""Opus in Ogg (RFC 7845): the two headers, pages of packets, and mending a file whose writer was killed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from struct import Struct
from typing import IO

from lac_media.container.ogg import (
    MAX_PAGE_BYTES,
    NO_GRANULE,
    OggPage,
    OggPager,
    OggUnpager,
    encode_page,
    parse_page_untrusted,
    take_page_untrusted,
)
from lac_media.errors import ParseError
from lac_media.parameters import OPUS_CLOCK_RATE_HZ
from lac_media.proto.opus import duration_ticks_untrusted

#: Ticks by which libopus's output lags behind its input: a player skips them, and the rest is where it belongs.
ENCODER_DELAY_TICKS = 312
#: RFC 7845 section 4.2: what a decoder that starts in the middle needs before it is right, 80 ms.
CONVERGENCE_TICKS = 3840
#: RFC 7845 section 4: pages should not hold more than a second.
MAX_PAGE_TICKS = OPUS_CLOCK_RATE_HZ
VENDOR = "LiveAudioCast"

_HEAD = Struct("<8sBBHLhB")
_HEAD_MAGIC, _TAGS_MAGIC = b"OpusHead", b"OpusTags"


@dataclass(frozen=True, slots=True)
class OpusHead:
    """RFC 7845 section 5.1. `pre_skip` in ticks; `input_rate_hz` informs only; `gain` in 1/256 dB."""

    channels: int = 2
    pre_skip: int = ENCODER_DELAY_TICKS
    input_rate_hz: int = OPUS_CLOCK_RATE_HZ
    gain: int = 0


def encode_head(head: OpusHead) -> bytes:
    return _HEAD.pack(_HEAD_MAGIC, 1, head.channels, head.pre_skip, head.input_rate_hz, head.gain, 0)


def parse_head_untrusted(packet: bytes) -> OpusHead:
    """Raises ParseError, also for more than stereo: mapping families other than 0 are not for us."""
    if len(packet) < _HEAD.size or not packet.startswith(_HEAD_MAGIC):
        raise ParseError("this Ogg stream does not begin with an Opus header")
    _, version, channels, pre_skip, rate, gain, family = _HEAD.unpack_from(packet)
    if version >> 4 or family or channels not in (1, 2):
        raise ParseError("only mono and stereo Opus of version 1 can be taken")
    return OpusHead(channels, pre_skip, rate, gain)


def encode_tags(tags: Mapping[str, str]) -> bytes:
    """RFC 7845 section 5.2. Names are ASCII without "="; values any text."""
    comments = [f"{name}={value}".encode() for name, value in tags.items()]
    parts = [_TAGS_MAGIC, *_text(VENDOR.encode()), len(comments).to_bytes(4, "little")]
    for comment in comments:
        parts += _text(comment)
    return b"".join(parts)


def _text(value: bytes) -> tuple[bytes, bytes]:
    return len(value).to_bytes(4, "little"), value


class OggOpusWriter:
    """Makes one file or stream. Everything returned is to be appended, in order."""

    def __init__(self, serial: int, *, head: OpusHead | None = None, tags: Mapping[str, str] | None = None) -> None:
        self.head = head or OpusHead()
        self._tags = dict(tags or {})
        self._pager = OggPager(serial)
        #: Of all packets so far, pre-skip included: the granule position.
        self.granule = 0
        self._page_began_at = 0

    @classmethod
    def resume(cls, found: Scanned) -> OggOpusWriter:
        """Go on with the stream of a file that was broken off and is cut to `found.size`. There is no `begin`."""
        writer = cls(found.serial, head=found.head)
        writer._pager = OggPager(found.serial, first_page=found.pages)
        writer.granule = writer._page_began_at = found.granule
        return writer

    @property
    def duration_ticks(self) -> int:
        """What a player plays."""
        return max(0, self.granule - self.head.pre_skip)

    def begin(self) -> bytes:
        """The two header pages; first of all."""
        head = self._pager.add(encode_head(self.head), 0) + self._pager.flush()
        return head + self._pager.add(encode_tags(self._tags), 0) + self._pager.flush()

    def add(self, packet: bytes) -> bytes:
        """One Opus packet. Returns finished pages. Raises ParseError for what is not Opus, and takes nothing of it."""
        ticks = duration_ticks_untrusted(packet)
        pages = b""
        if self.granule + ticks - self._page_began_at > MAX_PAGE_TICKS:
            pages = self.flush()
        self.granule += ticks
        return pages + self._pager.add(packet, self.granule)

    def flush(self) -> bytes:
        """What waits, as a page of its own."""
        self._page_began_at = self.granule
        return self._pager.flush()

    def end(self, *, trim_ticks: int = 0) -> bytes:
        """The last page. A player leaves out the last `trim_ticks` (RFC 7845 section 4.4), which must lie within the
        packets of that page."""
        return self._pager.end(self.granule - trim_ticks)


class OggOpusReader:
    """Takes a file or a stream in pieces and gives its Opus packets. Streams chained after one another (RFC 3533
    section 4) are read on, each with its own header; other codecs multiplexed in between are not for us."""

    def __init__(self) -> None:
        self.head: OpusHead | None = None
        self._buffer = bytearray()
        self._unpager = OggUnpager()
        self._serial = 0
        self._headers_left = 2

    def receive(self, data: bytes) -> Iterator[bytes]:
        """The packets that `data` completes. Raises ParseError for what is not Opus in Ogg."""
        self._buffer += data
        while page := take_page_untrusted(self._buffer):
            if page.first:
                self.head, self._unpager, self._headers_left = None, OggUnpager(), 2
                self._serial = page.serial
            elif page.serial != self._serial:
                raise ParseError("several streams side by side in one Ogg file are not supported")
            for packet in self._unpager.receive(page):
                if self._headers_left == 0:
                    yield packet
                elif self.head is None:
                    self.head = parse_head_untrusted(packet)
                    self._headers_left -= 1
                else:
                    self._headers_left -= 1  # the tags


@dataclass(frozen=True, slots=True)
class Scanned:
    """The sound part of a file: its first `size` bytes are `pages` whole pages, up to the position `granule`, the last
    of them beginning at `last_start`. After it came `dropped` bytes of something else."""

    head: OpusHead
    serial: int
    pages: int
    granule: int
    size: int
    last: OggPage
    last_start: int
    dropped: int

    @property
    def duration_ticks(self) -> int:
        """What a player plays."""
        return max(0, self.granule - self.head.pre_skip)


def scan_ogg_opus(file: IO[bytes]) -> Scanned:
    """Find what is sound of a file of `OggOpusWriter`'s. Raises ParseError if not even the headers are there. Blocks on
    the disk: for a worker thread."""
    pages = sound = last_start = granule = 0
    last: OggPage | None = None
    head: OpusHead | None = None
    file.seek(0)
    buffer, pos = b"", 0
    while True:
        if len(buffer) - pos < MAX_PAGE_BYTES:
            buffer, pos = buffer[pos:] + file.read(8 * MAX_PAGE_BYTES), 0
        try:
            page = parse_page_untrusted(buffer, pos)
        except ParseError:  # the end, or what is left of a page
            break
        if head is None:
            head = parse_head_untrusted(page.body)
        pages += 1
        last, last_start = page, sound
        sound += page.size
        pos += page.size
        granule = granule if page.granule == NO_GRANULE else page.granule
    if head is None or last is None or pages < 2:
        raise ParseError("the recording breaks off within its headers")
    return Scanned(head, last.serial, pages, granule, sound, last, last_start, file.seek(0, 2) - sound)


@dataclass(frozen=True, slots=True)
class Mended:
    """What `mend_ogg_opus` found and left: `size` bytes; `duration_ticks` are played; `dropped` bytes were cut off."""

    size: int
    duration_ticks: int
    dropped: int
    was_complete: bool


def mend_ogg_opus(file: IO[bytes]) -> Mended:
    """Make a file of `OggOpusWriter`'s playable whose writer was killed: cut off the page that is not whole, mark the
    last whole one as last. The file is open for reading and writing; nothing is changed in one that is complete.

    Raises ParseError if not even the headers are there. Blocks on the disk: for a worker thread.
    """
    found = scan_ogg_opus(file)
    _cut(file, found, last=True)
    was_complete = found.last.last and not found.dropped
    return Mended(found.size, found.duration_ticks, found.dropped, was_complete)


def reopen_ogg_opus(file: IO[bytes]) -> Scanned:
    """The opposite: make the file ready for `OggOpusWriter.resume`, with the position at its end. A page that is not
    whole is cut off, and no page is marked as the last. Raises ParseError. Blocks on the disk."""
    found = scan_ogg_opus(file)
    _cut(file, found, last=False)
    file.seek(found.size)
    return found


def _cut(file: IO[bytes], found: Scanned, *, last: bool) -> None:
    if found.dropped:
        file.truncate(found.size)
    if found.last.last != last:
        file.seek(found.last_start)
        file.write(encode_page(replace(found.last, last=last)))
    file.flush()
