"""From the bytes of one source client to Opus packets, whatever it sends.

No I/O. For a worker thread, one call at a time: parsing strangers' bytes in Python and decoding them takes its time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import StrEnum

from lac_media.container.comments import parse_comments_untrusted, song_of
from lac_media.container.ogg_opus import parse_head_untrusted
from lac_media.errors import ParseError
from lac_media.proto.opus import duration_ticks_untrusted, split_untrusted
from lac_media.rooms.program import MAX_PAYLOAD
from lac_media.sources.ogg_stream import OggPacket, OggStreamReader
from lac_media.sources.transcode import FrameDecoder, OpusMaker, VorbisDecoder

#: How much audio one call gives at most, about: a few bytes can stand for minutes.
BATCH_TICKS = 48_000
#: How much a call should be fed at most.
PIECE_BYTES = 4096


class SourceType(StrEnum):
    OGG = "ogg"
    MP3 = "mp3"
    AAC = "aac"


#: By the media type that a client sends. Without one, and for ffmpeg, which says MP3 unless told otherwise, the first
#: bytes decide whether it is Ogg.
MEDIA_TYPES = {
    "audio/ogg": SourceType.OGG,
    "application/ogg": SourceType.OGG,
    "audio/opus": SourceType.OGG,
    "audio/vorbis": SourceType.OGG,
    "audio/mpeg": SourceType.MP3,
    "audio/mp3": SourceType.MP3,
    "audio/aac": SourceType.AAC,
    "audio/aacp": SourceType.AAC,
    "audio/x-aac": SourceType.AAC,
}
_OGG_CAPTURE = b"OggS"


class Ingest:
    """One source client's stream. After an error it is of no more use."""

    def __init__(self, source_type: SourceType) -> None:
        self._type = source_type
        self._first = b""
        self._unpacked: Iterator[bytes] | None = None
        self._fed: deque[bytes] = deque()
        #: What is playing, as the stream itself says.
        self.song: str | None = None

    def work(self, data: bytes = b"") -> list[bytes]:
        """Take `data`, and give the next Opus packets: about a second at most. To be called without data until it gives
        nothing any more. Raises ParseError for what cannot be taken."""
        if data:
            self._fed.append(data)
        if self._unpacked is None:
            self._first = b"".join((self._first, *self._fed))
            self._fed.clear()
            if len(self._first) < len(_OGG_CAPTURE):
                return []
            if self._first.startswith(_OGG_CAPTURE):
                self._type = SourceType.OGG
            self._fed.append(self._first)
            self._unpacked = self._ogg() if self._type is SourceType.OGG else self._frames(self._type.value)
        packets: list[bytes] = []
        ticks = 0
        for packet in self._unpacked:
            if not packet:  # everything that was fed is used up
                break
            try:
                ticks += duration_ticks_untrusted(packet)
            except ParseError:
                continue
            packets.append(packet)
            if ticks >= BATCH_TICKS:
                break
        return packets

    # Generators that go on where they were. They give an empty packet when they have nothing more to work on.

    def _frames(self, codec: str) -> Iterator[bytes]:
        decoder, maker = FrameDecoder(codec), OpusMaker()
        while True:
            while self._fed:
                for frame in decoder.decode(self._fed.popleft()):
                    yield from maker.encode(frame)
            yield b""

    def _ogg(self) -> Iterator[bytes]:
        reader = OggStreamReader()
        codec: _OpusInOgg | _VorbisInOgg | None = None
        while True:
            while self._fed:
                for packet in reader.receive(self._fed.popleft()):
                    if packet.index == 0:
                        codec = _codec_of(packet.data)
                    elif codec is not None:
                        yield from codec.receive(packet)
                        if packet.index == 1:
                            self.song = codec.song
            yield b""


class _OpusInOgg:
    """Goes through as it is."""

    song: str | None = None

    def __init__(self, head: bytes) -> None:
        parse_head_untrusted(head)

    def receive(self, packet: OggPacket) -> Iterator[bytes]:
        if packet.index == 1:
            self.song = _song_in(packet.data)
        elif len(packet.data) > MAX_PAYLOAD:
            yield from split_untrusted(packet.data)
        elif packet.data:
            yield packet.data


class _VorbisInOgg:
    """Decoded, and encoded once."""

    song: str | None = None

    def __init__(self, head: bytes) -> None:
        self._headers = [head]
        self._maker = OpusMaker()
        self._decoder: VorbisDecoder | None = None

    def receive(self, packet: OggPacket) -> Iterator[bytes]:
        if packet.index == 1:
            self.song = _song_in(packet.data)
        if packet.index < 3:
            self._headers.append(packet.data)
            if packet.index == 2:
                self._decoder = VorbisDecoder(self._headers)
        elif self._decoder is not None:
            for frame in self._decoder.decode_packet(packet.data):
                yield from self._maker.encode(frame)


def _codec_of(head: bytes) -> _OpusInOgg | _VorbisInOgg:
    if head.startswith(b"OpusHead"):
        return _OpusInOgg(head)
    if head.startswith(b"\x01vorbis"):
        return _VorbisInOgg(head)
    raise ParseError("only Opus and Vorbis can be taken from Ogg")


def _song_in(comment_header: bytes) -> str | None:
    try:
        return song_of(parse_comments_untrusted(comment_header))
    except ParseError:
        return None  # nothing that is worth losing the stream for
