"""What source clients send, and what strangers might: Opus packets come out, or a ParseError."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lac_media.container.comments import parse_comments_untrusted, song_of
from lac_media.container.ogg import OggPage, OggPager, encode_page
from lac_media.container.ogg_opus import OggOpusWriter, OpusHead, encode_head, encode_tags
from lac_media.errors import ParseError
from lac_media.opus import Decoder, Encoder
from lac_media.proto.opus import duration_ticks_untrusted, parse_opus_untrusted, split_untrusted
from lac_media.rooms.program import MAX_PAYLOAD
from lac_media.sources.ingest import BATCH_TICKS, PIECE_BYTES, Ingest, SourceType
from lac_media.sources.ogg_stream import OggStreamReader
from tests.e2e.tone import RATE_HZ, dominant_frequency_hz
from tests.fuzz.budget import slow
from tests.media.clients import opus


def encoded(codec: str, container: str, *, rate: int = 44_100, seconds: float = 3.0, hertz: float = 440.0) -> bytes:
    """A tone in some other format, as an encoder would send it."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as muxer:
        stream = muxer.add_stream(codec, rate=rate, options={"strict": "experimental"})
        stream.layout = "stereo"
        at = np.arange(round(seconds * rate)) / rate
        pcm = (0.4 * np.sin(2 * np.pi * hertz * at)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.stack([pcm, pcm]), format="fltp", layout="stereo")
        frame.sample_rate = rate
        frame.pts = 0
        fifo = av.AudioFifo()
        fifo.write(frame)
        for part in fifo.read_many(1024, partial=True):
            muxer.mux(stream.encode(part))
        muxer.mux(stream.encode(None))
    return out.getvalue()


def ingested(ingest: Ingest, data: bytes, size: int = PIECE_BYTES) -> list[bytes]:
    packets: list[bytes] = []
    for start in range(0, len(data), size):
        piece = data[start : start + size]
        while batch := ingest.work(piece):
            piece = b""
            packets += batch
            assert sum(map(duration_ticks_untrusted, batch)) <= BATCH_TICKS + 5760
    return packets


def heard(packets: list[bytes]) -> np.ndarray:
    decoder = Decoder()
    return np.concatenate([decoder.decode(packet)[:, 0] for packet in packets])


FORMATS = [
    ("libmp3lame", "mp3", SourceType.MP3),
    ("vorbis", "ogg", SourceType.OGG),
    ("aac", "adts", SourceType.AAC),
    ("libopus", "ogg", SourceType.MP3),  # ffmpeg announces MP3 unless it is told otherwise
]


@pytest.mark.parametrize(("codec", "container", "announced"), FORMATS)
def test_the_tone_comes_through_and_keeps_its_length(codec: str, container: str, announced: SourceType) -> None:
    data = encoded(codec, container, rate=48_000 if codec == "libopus" else 44_100)
    packets = ingested(Ingest(announced), data, 1000)
    sound = heard(packets)
    assert abs(len(sound) / RATE_HZ - 3.0) < 0.15
    assert abs(dominant_frequency_hz(sound[RATE_HZ:]) - 440) < 2
    assert all(len(packet) <= MAX_PAYLOAD for packet in packets)


@pytest.mark.parametrize(("codec", "container", "announced"), FORMATS[:3])
def test_a_stream_that_is_joined_in_the_middle_or_damaged_goes_on(
    codec: str, container: str, announced: SourceType
) -> None:
    data = encoded(codec, container)
    if container != "ogg":  # TCP loses nothing; Ogg begins with its headers
        data = data[1234:]
        data = data[:5000] + bytes(100) + data[5100:]
    sound = heard(ingested(Ingest(announced), data))
    assert abs(dominant_frequency_hz(sound[-RATE_HZ:]) - 440) < 3


def test_songs_that_follow_each_other_may_have_other_rates() -> None:
    data = encoded("vorbis", "ogg", rate=44_100) + encoded("vorbis", "ogg", rate=22_050, hertz=880)
    sound = heard(ingested(Ingest(SourceType.OGG), data))
    assert abs(dominant_frequency_hz(sound[RATE_HZ : 2 * RATE_HZ]) - 440) < 2
    assert abs(dominant_frequency_hz(sound[-RATE_HZ:]) - 880) < 2


def test_opus_goes_through_untouched_and_says_its_song() -> None:
    ingest = Ingest(SourceType.OGG)
    payloads = [opus(number) for number in range(100)]
    for title in ("One", "Two"):
        writer = OggOpusWriter(len(title), tags={"artist": "Hanna", "Title": title})
        data = writer.begin() + b"".join(writer.add(payload) for payload in payloads) + writer.end()
        assert ingested(ingest, data, 333) == payloads
        assert ingest.song == f"Hanna - {title}" or (title == "Two" and ingest.song == "Hanna - Two")


def _size(size: int) -> bytes:
    """RFC 6716 section 3.2.1, of more than 251 bytes."""
    first = 252 + (size - 252) % 4
    return bytes([first, (size - first) // 4])


def test_packets_that_would_not_fit_a_datagram_are_split_into_their_frames() -> None:
    encoder = Encoder(bitrate_bps=510_000)
    noise = np.random.default_rng(1).standard_normal((960 * 3, 2)).astype(np.float32) * 0.3
    frames = [encoder.encode(np.ascontiguousarray(noise[n * 960 : (n + 1) * 960])) for n in range(3)]
    sizes = b"".join(_size(len(frame) - 1) for frame in frames[:2])
    joined = bytes([frames[0][0] | 3, 0x80 | 3]) + sizes + b"".join(frame[1:] for frame in frames)
    assert parse_opus_untrusted(joined).frame_count == 3
    assert split_untrusted(joined) == frames
    writer = OggOpusWriter(1)
    data = writer.begin() + writer.add(joined) + writer.end()
    assert ingested(Ingest(SourceType.OGG), data) == frames


@given(st.integers(1, 12), st.integers(0, 300), st.booleans())
def test_split_frames_are_the_frames(count: int, padding: int, stereo: bool) -> None:
    toc = 0x48 & 0xF8 | (4 if stereo else 0) | 3
    frames = [bytes([number]) * 7 for number in range(count if count <= 6 else 6)]
    pads = bytes([255]) * (padding // 254) + bytes([padding % 254]) if padding else b""
    flags = (0x40 if padding else 0) | len(frames)
    packet = bytes([toc, flags]) + pads + b"".join(frames) + bytes(padding)
    assert split_untrusted(packet) == [bytes([toc & 0xFC]) + frame for frame in frames]


@given(st.binary(max_size=300))
def test_splitting_anything_raises_parse_errors_only(data: bytes) -> None:
    try:
        parts = split_untrusted(data)
    except ParseError:
        return
    assert sum(map(duration_ticks_untrusted, parts)) == duration_ticks_untrusted(data)


@pytest.mark.parametrize(
    "head",
    [
        encode_head(OpusHead())[:-1] + b"\x01",  # a mapping family of its own
        b"\x7fFLAC\x01\x00",
        b"OpusHead",
        b"",
    ],
)
def test_what_is_neither_opus_nor_vorbis_is_refused(head: bytes) -> None:
    page = OggPage(0, 1, 0, continued=False, first=True, last=False, segments=bytes([len(head)]), body=head)
    ingest = Ingest(SourceType.OGG)
    with pytest.raises(ParseError):
        ingest.work(encode_page(page))


def test_several_streams_side_by_side_are_refused() -> None:
    one, two = OggOpusWriter(1), OggOpusWriter(2)
    first = one.begin()
    two.begin()
    reader = OggStreamReader()
    list(reader.receive(first))
    with pytest.raises(ParseError, match="side by side"):
        list(reader.receive(two.add(opus(1)) + two.flush()))


def test_vorbis_headers_that_make_no_sense_are_refused() -> None:
    def page(number: int, body: bytes) -> bytes:
        segments = b"\xff" * (len(body) // 255) + bytes([len(body) % 255])
        return encode_page(
            OggPage(0, 1, number, continued=False, first=number == 0, last=False, segments=segments, body=body)
        )

    ingest = Ingest(SourceType.OGG)
    data = page(0, b"\x01vorbis" + bytes(23)) + page(1, b"\x03vorbis" + bytes(9)) + page(2, b"\x05vorbis" + bytes(50))
    with pytest.raises(ParseError):
        ingested(ingest, data)


def test_a_few_bytes_that_stand_for_minutes_come_in_batches() -> None:
    writer = OggOpusWriter(1)
    long = b"\x1b\x02\x00\x00"  # 120 ms in four bytes
    data = writer.begin() + b"".join(writer.add(long) for _ in range(900)) + writer.end()
    assert len(data) < 3 * PIECE_BYTES
    assert len(ingested(Ingest(SourceType.OGG), data)) == 900


def mutated(data: bytes, cuts: list[tuple[int, int]]) -> bytes:
    out = bytearray(data)
    for at, value in cuts:
        out[at % len(out)] = value
    return bytes(out)


SAMPLES = {kind: encoded(codec, container, seconds=0.3) for codec, container, kind in FORMATS[:3]}


@pytest.mark.parametrize("kind", SourceType)
@slow
@given(
    cuts=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=20),
    size=st.integers(50, 5000),
)
def test_damaged_streams_raise_parse_errors_only(kind: SourceType, cuts: list[tuple[int, int]], size: int) -> None:
    try:
        packets = ingested(Ingest(kind), mutated(SAMPLES[kind], cuts), size)
    except ParseError:
        return
    for packet in packets:
        duration_ticks_untrusted(packet)


VORBIS = list(OggStreamReader().receive(SAMPLES[SourceType.OGG]))


@slow
@given(
    headers=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=3),
    packets=st.lists(st.binary(max_size=200), max_size=8),
)
def test_vorbis_of_strangers_in_sound_pages_raises_parse_errors_only(
    headers: list[tuple[int, int]], packets: list[bytes]
) -> None:
    setup = mutated(VORBIS[2].data, headers)
    pager = OggPager(1)
    data = pager.add(VORBIS[0].data, 0) + pager.flush() + pager.add(VORBIS[1].data, 0) + pager.add(setup, 0)
    for packet in [VORBIS[3].data, *packets, VORBIS[4].data]:
        data += pager.add(packet, 1000)
    data += pager.flush()
    try:
        ingested(Ingest(SourceType.OGG), data)
    except ParseError:
        return


@pytest.mark.parametrize("kind", SourceType)
@slow
@given(data=st.binary(max_size=2000))
def test_anything_at_all_raises_parse_errors_only(kind: SourceType, data: bytes) -> None:
    ingest = Ingest(kind)
    try:
        ingested(ingest, data, 500)
    except ParseError:
        return


@given(st.dictionaries(st.text("ABCDEFGH", min_size=1), st.text(), max_size=5))
def test_comments_are_read_as_they_were_written(tags: dict[str, str]) -> None:
    tags = {name: value.encode("utf-8", "replace").decode() for name, value in tags.items()}
    assert parse_comments_untrusted(encode_tags(tags)) == tags


@given(st.sampled_from([b"OpusTags", b"\x03vorbis"]), st.binary(max_size=200))
def test_comments_of_anything_raise_parse_errors_only(magic: bytes, rest: bytes) -> None:
    try:
        found = parse_comments_untrusted(magic + rest)
    except ParseError:
        return
    song_of(found)


def test_a_song_is_what_there_is_of_artist_and_title() -> None:
    assert song_of({"ARTIST": "A", "TITLE": "T"}) == "A - T"
    assert song_of({"TITLE": "T", "ARTIST": " "}) == "T"
    assert song_of({"ALBUM": "X"}) is None


def pieces_of(data: bytes) -> Iterator[bytes]:
    for size in itertools.cycle((1, 7, 250)):
        if not data:
            return
        yield data[:size]
        data = data[size:]


def test_it_does_not_matter_how_the_bytes_are_cut() -> None:
    writer = OggOpusWriter(1)
    data = writer.begin() + b"".join(writer.add(opus(number)) for number in range(50)) + writer.end()
    ingest, out = Ingest(SourceType.MP3), []
    for piece in pieces_of(data):
        while batch := ingest.work(piece):
            piece = b""
            out += batch
    assert out == [opus(number) for number in range(50)]


def test_silence_is_audio_too() -> None:
    packets = ingested(Ingest(SourceType.MP3), encoded("libmp3lame", "mp3", hertz=0.0))
    assert len(packets) > 100
