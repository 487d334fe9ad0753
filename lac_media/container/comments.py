"""Vorbis comments, which Opus uses too (RFC 7845 section 5.2): what a source says is playing."""

from __future__ import annotations

from lac_media.errors import ParseError

OPUS_MAGIC, VORBIS_MAGIC = b"OpusTags", b"\x03vorbis"
#: More comments than this are not looked at, nor longer ones: pictures.
MAX_COMMENTS = 200
MAX_COMMENT_BYTES = 2000


def parse_comments_untrusted(packet: bytes) -> dict[str, str]:
    """The comments of a header packet by upper-case name, of several with a name the first. Raises ParseError."""
    magic = next((magic for magic in (OPUS_MAGIC, VORBIS_MAGIC) if packet.startswith(magic)), None)
    if magic is None:
        raise ParseError("this is no comment header")
    _, pos = _take(packet, len(magic))
    count, pos = _number(packet, pos)
    found: dict[str, str] = {}
    for _ in range(min(count, MAX_COMMENTS)):
        comment, pos = _take(packet, pos)
        name, equals, value = comment[:MAX_COMMENT_BYTES].partition(b"=")
        if equals and len(comment) <= MAX_COMMENT_BYTES:
            found.setdefault(name.decode("ascii", "replace").upper(), value.decode(errors="replace"))
    return found


def song_of(comments: dict[str, str]) -> str | None:
    """As radios show it: artist and title, or what there is of them."""
    parts = [comments[name].strip() for name in ("ARTIST", "TITLE") if comments.get(name, "").strip()]
    return " - ".join(parts) or None


def _number(data: bytes, pos: int) -> tuple[int, int]:
    if len(data) < pos + 4:
        raise ParseError("comment header ends within a length")
    return int.from_bytes(data[pos : pos + 4], "little"), pos + 4


def _take(data: bytes, pos: int) -> tuple[bytes, int]:
    size, pos = _number(data, pos)
    if size > len(data) - pos:
        raise ParseError(f"comment of {size} bytes does not fit its header")
    return data[pos : pos + size], pos + size
