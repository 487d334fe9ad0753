"""ICY, what radios understand: titles in between the audio, as SHOUTcast began it and everybody else followed.

A client that sends `Icy-MetaData: 1` is told in `icy-metaint` after how many bytes of audio a block comes: one byte
with its length in units of 16, then `StreamTitle='…';`, padded with zeros. A length of 0 says that nothing has changed.
"""

from __future__ import annotations

import re

#: As most servers have it. At 128 kbit/s a block every second.
METAINT = 16_000
_UNIT = 16
#: What one byte can count.
_BLOCK_MAX = 255 * _UNIT
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_PREFIX, _SUFFIX = b"StreamTitle='", b"';"


def encode_block(title: str) -> bytes:
    """One block with its length. UTF-8, as players expect by now. `';` would end the title: the quote is replaced by a
    typographic one there. A title that is too long is cut between two characters."""
    text = header_text(title).replace("';", "’;")
    if text.endswith("'"):
        text = text[:-1] + "’"
    room = _BLOCK_MAX - len(_PREFIX) - len(_SUFFIX)
    content = _PREFIX + text.encode()[:room].decode(errors="ignore").encode() + _SUFFIX
    units = -(-len(content) // _UNIT)
    return bytes([units]) + content.ljust(units * _UNIT, b"\0")


def header_text(text: str) -> str:
    """`text` as it may stand in a header: one line, without control characters and halves of characters."""
    return _CONTROL.sub(" ", text).encode(errors="ignore").decode().strip()


class IcyInterleaver:
    """Puts the blocks into one client's audio."""

    def __init__(self, metaint: int = METAINT) -> None:
        self._metaint = metaint
        self._left = metaint
        self._told: str | None = None

    def feed(self, audio: bytes, title: str) -> bytes:
        """The next bytes of audio with the blocks that fall into them; `title` is what is on now."""
        out = bytearray()
        pos = 0
        while len(audio) - pos >= self._left:
            out += audio[pos : pos + self._left]
            pos += self._left
            self._left = self._metaint
            out += b"\0" if title == self._told else encode_block(title)
            self._told = title
        out += audio[pos:]
        self._left -= len(audio) - pos
        return bytes(out)
