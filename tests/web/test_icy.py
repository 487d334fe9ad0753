"""ICY titles: a client that counts bytes finds them, whatever is in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lac_web.icy import IcyInterleaver, encode_block, header_text


def parse(data: bytes, metaint: int) -> tuple[bytes, list[str]]:
    """As a player reads it: the audio, and the titles in the order in which they came."""
    audio, titles, pos = bytearray(), [], 0
    while pos < len(data):
        audio += data[pos : pos + metaint]
        pos += metaint
        if pos < len(data):
            size = data[pos] * 16
            block = data[pos + 1 : pos + 1 + size]
            assert len(block) == size
            pos += 1 + size
            if size:
                text = block.rstrip(b"\0").decode()
                assert text.startswith("StreamTitle='")
                titles.append(text[len("StreamTitle='") : text.index("';")])
    return bytes(audio), titles


def test_a_title_comes_once_and_again_when_it_is_another() -> None:
    icy = IcyInterleaver(10)
    data = icy.feed(bytes(25), "One") + icy.feed(bytes(10), "Two") + icy.feed(bytes(15), "Two")
    assert parse(data, 10) == (bytes(50), ["One", "Two"])
    assert data.count(b"StreamTitle") == 2


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("Hanna - The show", "Hanna - The show"),
        ("Don't stop", "Don't stop"),
        ("it';StreamUrl='x", "it’;StreamUrl='x"),
        ("ends with '", "ends with ’"),
        ("two\r\nlines\0", "two lines"),
        ("Łódź 🎉", "Łódź 🎉"),
        ("half \ud800 character", "half  character"),
        ("", ""),
    ],
)
def test_titles_are_escaped(title: str, shown: str) -> None:
    block = encode_block(title)
    assert len(block) == 1 + 16 * block[0]
    assert parse(bytes(10) + block, 10)[1] == [shown]


def test_a_title_that_is_too_long_is_cut_between_characters() -> None:
    block = encode_block("🎉" * 2000)
    assert len(block) == 1 + 16 * 255
    (title,) = parse(bytes(10) + block, 10)[1]
    assert set(title) == {"🎉"}


@given(st.lists(st.tuples(st.binary(max_size=100), st.text(max_size=50)), max_size=20), st.integers(1, 50))
def test_the_audio_is_all_there_however_it_is_cut(pieces: list[tuple[bytes, str]], metaint: int) -> None:
    icy = IcyInterleaver(metaint)
    data = b"".join(icy.feed(audio, title) for audio, title in pieces)
    assert parse(data, metaint)[0] == b"".join(audio for audio, _ in pieces)


@given(st.text())
def test_header_text_is_one_line_of_utf_8(text: str) -> None:
    shown = header_text(text)
    shown.encode()
    assert not set(shown) & set("\r\n\0")
