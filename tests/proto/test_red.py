from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lac_media.errors import LocalProtocolError, ParseError
from lac_media.proto.red import (
    MAX_REDUNDANT_BLOCKS,
    MAX_REDUNDANT_BYTES,
    MAX_TIMESTAMP_OFFSET,
    RedBlock,
    build_red,
    parse_red_untrusted,
)

#: Opus 111, a copy of 3 bytes from 960 ticks before, a primary of 2 bytes: written by hand from RFC 2198 section 3.
GOLDEN = bytes.fromhex("ef 0f0003 6f 010203 0405")


def test_golden_packet_both_ways() -> None:
    assert parse_red_untrusted(GOLDEN) == [RedBlock(111, 960, b"\1\2\3"), RedBlock(111, 0, b"\4\5")]
    assert build_red(b"\4\5", [(960, b"\1\2\3")], payload_type=111) == GOLDEN


def test_a_primary_alone_has_one_byte_of_header() -> None:
    assert build_red(b"\x78ab", [], payload_type=111) == b"\x6f\x78ab"
    assert parse_red_untrusted(b"\x6f\x78ab") == [RedBlock(111, 0, b"\x78ab")]


@given(
    st.integers(0, 127),
    st.binary(max_size=1300),
    st.lists(
        st.tuples(st.integers(0, MAX_TIMESTAMP_OFFSET), st.binary(max_size=MAX_REDUNDANT_BYTES)),
        max_size=MAX_REDUNDANT_BLOCKS,
    ),
)
def test_parse_undoes_build(payload_type: int, primary: bytes, redundant: list[tuple[int, bytes]]) -> None:
    blocks = parse_red_untrusted(build_red(primary, redundant, payload_type=payload_type))
    assert blocks == [
        *(RedBlock(payload_type, offset, frame) for offset, frame in redundant),
        RedBlock(payload_type, 0, primary),
    ]


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, "after 0 headers"),
        (1, "within the header"),
        (3, "within the header"),
        (4, "after 1 headers"),
        (5, "claims 3 bytes, 0 are there"),
        (7, "claims 3 bytes, 2 are there"),
    ],
)
def test_each_truncation_says_what_is_missing(size: int, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        parse_red_untrusted(GOLDEN[:size])


def test_more_redundant_blocks_than_anybody_sends_are_refused() -> None:
    most = [(960, b"")] * MAX_REDUNDANT_BLOCKS
    assert len(parse_red_untrusted(build_red(b"x", most, payload_type=111))) == MAX_REDUNDANT_BLOCKS + 1
    with pytest.raises(ParseError, match="more than"):
        parse_red_untrusted(build_red(b"x", [*most, (960, b"")], payload_type=111))


@pytest.mark.parametrize(
    ("redundant", "payload_type"),
    [
        ([(MAX_TIMESTAMP_OFFSET + 1, b"")], 111),
        ([(-1, b"")], 111),
        ([(960, bytes(MAX_REDUNDANT_BYTES + 1))], 111),
        ([], 128),
    ],
)
def test_what_the_fields_cannot_hold_is_our_error(redundant: list[tuple[int, bytes]], payload_type: int) -> None:
    with pytest.raises(LocalProtocolError):
        build_red(b"x", redundant, payload_type=payload_type)
