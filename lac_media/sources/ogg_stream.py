"""Takes an Ogg stream apart that never ends: one logical stream at a time, each a codec's headers and its packets.

Sans-IO, bounded: what is kept is one page and one packet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lac_media.container.ogg import OggUnpager, take_page_untrusted
from lac_media.errors import ParseError


@dataclass(frozen=True, slots=True)
class OggPacket:
    """`index` counts the packets of its logical stream from 0 on."""

    index: int
    data: bytes


class OggStreamReader:
    """Logical streams chained one after another (RFC 3533 section 4) are read on; several side by side are refused."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._unpager = OggUnpager()
        self._serial: int | None = None
        self._index = 0

    def receive(self, data: bytes) -> Iterator[OggPacket]:
        """The packets that `data` completes. Raises ParseError for what is no Ogg."""
        self._buffer += data
        while page := take_page_untrusted(self._buffer):
            if page.first:
                self._unpager, self._serial, self._index = OggUnpager(), page.serial, 0
            elif page.serial != self._serial:
                raise ParseError("several streams side by side in one Ogg stream are not supported")
            for packet in self._unpager.receive(page):
                yield OggPacket(self._index, packet)
                self._index += 1
