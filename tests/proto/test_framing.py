"""Frames on a stream (RFC 4571): whole ones only, however the stream is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lac_media.errors import LocalProtocolError, ParseError
from lac_media.net.udp import MAX_DATAGRAM
from lac_media.proto.framing import MAX_FRAME, FrameParser, encode_frame

frames = st.lists(st.binary(min_size=1, max_size=300), max_size=12)


def feed(parser: FrameParser, data: bytes) -> list[bytes]:
    return list(parser.feed_untrusted(data))


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({place % (len(stream) + 1) for place in cuts} | {0, len(stream)})
    return [stream[begin:end] for begin, end in pairwise(places)]


@given(frames, st.lists(st.integers(0, 10_000), max_size=40))
def test_what_was_framed_comes_out_however_it_is_cut(sent: list[bytes], cuts: list[int]) -> None:
    parser = FrameParser()
    got = [frame for part in cut(b"".join(map(encode_frame, sent)), cuts) for frame in feed(parser, part)]
    assert got == sent
    assert not parser._rest


@given(st.lists(st.binary(max_size=1500), max_size=8))
def test_any_bytes_give_frames_or_a_parse_error_and_are_not_piled_up(parts: list[bytes]) -> None:
    parser = FrameParser()
    try:
        for part in parts:
            for frame in parser.feed_untrusted(part):
                assert 0 < len(frame) <= MAX_FRAME
            assert len(parser._rest) < 2 + MAX_FRAME
    except ParseError:
        pass


@given(st.binary(max_size=2000), st.lists(st.integers(0, 10_000), max_size=20))
def test_the_cuts_make_no_difference_even_in_garbage(stream: bytes, cuts: list[int]) -> None:
    def outcome(parts: list[bytes]) -> tuple[list[bytes], bool]:
        parser = FrameParser()
        got: list[bytes] = []
        try:
            for part in parts:
                got.extend(parser.feed_untrusted(part))
        except ParseError:
            return got, True
        return got, False

    assert outcome(cut(stream, cuts)) == outcome([stream])


def test_a_frame_may_be_as_long_as_a_datagram() -> None:
    assert MAX_FRAME == MAX_DATAGRAM
    longest = bytes(MAX_FRAME)
    assert feed(FrameParser(), encode_frame(longest)) == [longest]
    with pytest.raises(LocalProtocolError, match="2049 bytes"):
        encode_frame(bytes(MAX_FRAME + 1))
    with pytest.raises(LocalProtocolError, match="0 bytes"):
        encode_frame(b"")


def test_empty_frames_are_left_out() -> None:
    assert feed(FrameParser(), b"\0\0\0\1x\0\0") == [b"x"]


def test_frames_before_a_bad_one_come_out() -> None:
    got: list[bytes] = []
    with pytest.raises(ParseError, match="claims 18245 bytes"):
        got.extend(FrameParser().feed_untrusted(b"\0\1xGET / HTTP/1.1"))
    assert got == [b"x"]


def test_a_reader_who_stops_in_between_loses_nothing_twice() -> None:
    parser = FrameParser()
    first = next(parser.feed_untrusted(b"\0\1a\0\1b"))
    assert first == b"a"
    assert feed(parser, b"\0\1c") == [b"b", b"c"]
