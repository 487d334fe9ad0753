"""Opus in Ogg, read back by FFmpeg."""

from __future__ import annotations

import contextlib
import io
import itertools
import random

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lac_media.container.ogg import (
    MAX_PAGE_BYTES,
    OggPage,
    OggPager,
    OggUnpager,
    encode_page,
    ogg_checksum,
    parse_page_untrusted,
)
from lac_media.container.ogg_opus import (
    ENCODER_DELAY_TICKS,
    OggOpusReader,
    OggOpusWriter,
    OpusHead,
    encode_head,
    mend_ogg_opus,
    parse_head_untrusted,
    reopen_ogg_opus,
)
from lac_media.errors import ParseError
from lac_media.proto.opus import SILENCE_20MS_STEREO, silence_packets

PACKETS = st.lists(st.binary(min_size=1, max_size=700), min_size=1, max_size=400)


def pages_of(data: bytes) -> list[OggPage]:
    pages, pos = [], 0
    while pos < len(data):
        pages.append(parse_page_untrusted(data, pos))
        pos += pages[-1].size
    return pages


def make_file(packets: int, *, end: bool = True, packets_per_page: int = 10) -> bytes:
    writer = OggOpusWriter(77, tags={"TITLE": "Ädas show"})
    out = bytearray(writer.begin())
    for number in range(packets):
        out += writer.add(SILENCE_20MS_STEREO)
        if number % packets_per_page == packets_per_page - 1:
            out += writer.flush()
    if end:
        out += writer.end()
    return bytes(out)


def decoded_samples(data: bytes) -> int:
    with av.open(io.BytesIO(data)) as container:
        return sum(frame.samples for frame in container.decode(audio=0))


def test_the_checksum_is_that_of_the_specification() -> None:
    def slow(data: bytes) -> int:
        register = 0
        for byte in data:
            register ^= byte << 24
            for _ in range(8):
                register = (register << 1) ^ (0x04C11DB7 if register & 0x8000_0000 else 0)
                register &= 0xFFFF_FFFF
        return register

    for size in (0, 1, 2, 27, 300):
        data = random.Random(size).randbytes(size)
        assert ogg_checksum(data) == slow(data)


@given(PACKETS, st.integers(1, 50))
def test_packets_come_back_from_their_pages(packets: list[bytes], per_page: int) -> None:
    pager = OggPager(5)
    data = bytearray()
    for number, packet in enumerate(packets):
        data += pager.add(packet, number)
        if number % per_page == 0:
            data += pager.flush()
    data += pager.end(len(packets))
    unpager = OggUnpager()
    pages = pages_of(bytes(data))
    assert [packet for page in pages for packet in unpager.receive(page)] == packets
    assert [page.number for page in pages] == list(range(len(pages)))
    assert [page.last for page in pages] == [False] * (len(pages) - 1) + [True]
    assert all(page.size <= MAX_PAGE_BYTES for page in pages)


def test_ffmpeg_plays_exactly_what_was_written_and_reads_the_title() -> None:
    data = make_file(100)
    assert decoded_samples(data) == 100 * 960 - ENCODER_DELAY_TICKS
    with av.open(io.BytesIO(data)) as container:
        assert container.streams.audio[0].metadata["TITLE"] == "Ädas show"


def test_a_page_holds_a_second_at_most() -> None:
    data = make_file(500, packets_per_page=10_000)
    granules = [page.granule for page in pages_of(data)[2:]]
    assert max(after - before for before, after in itertools.pairwise(granules)) <= 48_000


def test_silence_is_cut_to_any_length_and_every_piece_is_silent() -> None:
    for ticks in (0, 119, 120, 961, 2880, 12_345):
        pieces = list(silence_packets(ticks))
        assert sum(duration for _, duration in pieces) == ticks - ticks % 120
    writer = OggOpusWriter(1, head=OpusHead(pre_skip=0))
    data = writer.begin() + b"".join(writer.add(payload) for payload, _ in silence_packets(960 + 480 + 240 + 120))
    with av.open(io.BytesIO(data + writer.end())) as container:
        frames = list(container.decode(audio=0))
    assert sum(frame.samples for frame in frames) == 1800
    assert all(not frame.to_ndarray().any() for frame in frames)


@pytest.mark.parametrize("cut", [1, 20, 150])
def test_a_file_whose_writer_was_killed_is_mended(cut: int) -> None:
    whole = make_file(95, end=False)
    file = io.BytesIO(whole[:-cut])
    mended = mend_ogg_opus(file)
    assert not mended.was_complete
    lost_pages = 1 + (cut == 150) * 3  # pages of ten such packets are 27 + 10 + 30 bytes
    assert mended.duration_ticks <= 90 * 960 - ENCODER_DELAY_TICKS
    assert mended.duration_ticks >= (90 - 10 * lost_pages) * 960 - ENCODER_DELAY_TICKS
    assert decoded_samples(file.getvalue()) == mended.duration_ticks
    assert pages_of(file.getvalue())[-1].last
    assert mended.size == len(file.getvalue())
    assert mend_ogg_opus(file).was_complete


def test_a_complete_file_is_left_as_it_is() -> None:
    whole = make_file(33)
    file = io.BytesIO(whole)
    mended = mend_ogg_opus(file)
    assert mended.was_complete
    assert mended.dropped == 0
    assert file.getvalue() == whole


def test_a_damaged_page_ends_what_is_kept() -> None:
    whole = bytearray(make_file(50))
    pages = pages_of(bytes(whole))
    whole[sum(page.size for page in pages[:4]) + 40] ^= 1
    file = io.BytesIO(bytes(whole))
    assert mend_ogg_opus(file).size == sum(page.size for page in pages[:4])


@pytest.mark.parametrize("data", [b"", b"OggS", make_file(5)[:40], b"RIFF" + bytes(60)])
def test_what_breaks_off_within_its_headers_is_no_recording(data: bytes) -> None:
    with pytest.raises(ParseError):
        mend_ogg_opus(io.BytesIO(data))


@given(st.lists(st.integers(1, 400), max_size=30))
def test_a_stream_is_read_in_pieces_of_any_size(sizes: list[int]) -> None:
    data = make_file(40) + make_file(3)  # chained
    reader = OggOpusReader()
    packets = []
    pos = 0
    for size in [*sizes, len(data)]:
        packets += list(reader.receive(data[pos : pos + size]))
        pos += size
    assert packets == [SILENCE_20MS_STEREO] * 43
    assert reader.head == OpusHead()


def first_page(body: bytes) -> bytes:
    return encode_page(OggPage(0, 1, 0, continued=False, first=True, last=False, segments=b"\x10", body=body[:16]))


@given(st.binary(max_size=300))
def test_garbage_is_refused_with_a_reason(data: bytes) -> None:
    for parse in (
        parse_page_untrusted,
        parse_head_untrusted,
        lambda garbage: list(OggOpusReader().receive(garbage)),
        lambda garbage: list(OggOpusReader().receive(first_page(garbage))),
    ):
        with contextlib.suppress(ParseError):
            parse(data)


def test_other_codecs_and_surround_are_not_taken() -> None:
    with pytest.raises(ParseError):
        parse_head_untrusted(b"\x01vorbis" + bytes(30))
    with pytest.raises(ParseError):
        parse_head_untrusted(encode_head(OpusHead(channels=6)))


@pytest.mark.parametrize("cut", [0, 1, 20, 150])
@pytest.mark.parametrize("ended", [False, True])
def test_a_file_that_broke_off_can_be_gone_on_with(cut: int, ended: bool) -> None:
    whole = make_file(95, end=ended)
    file = io.BytesIO(whole[: len(whole) - cut])
    found = reopen_ogg_opus(file)
    writer = OggOpusWriter.resume(found)
    before = writer.granule
    file.write(b"".join(writer.add(SILENCE_20MS_STEREO) for _ in range(100)) + writer.end())
    data = file.getvalue()
    pages = list(pages_of(data))
    assert [page.number for page in pages] == list(range(len(pages)))
    assert {page.serial for page in pages} == {found.serial}
    assert [page.last for page in pages] == [False] * (len(pages) - 1) + [True]
    assert pages[-1].granule == before + 100 * 960
    with av.open(io.BytesIO(data)) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) == before + 100 * 960 - 312
