from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lac.errors import InvalidInputError
from lac.rooms.commands import NAME_MAX
from lac.rooms.text import REACTIONS, clean_chat_text, clean_name, known_reaction


def test_chat_text_is_trimmed_and_keeps_its_lines() -> None:
    assert clean_chat_text("  one\r\ntwo \n") == "one\ntwo"


@pytest.mark.parametrize("text", ["", " \n ", "a\x00b", "a\x1b[31mb", "a\tb", "a\rb", "\x85x\x85y"])
def test_nothing_and_control_characters_are_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        clean_chat_text(text)


@given(st.text(max_size=200))
def test_a_name_is_one_visible_line(name: str) -> None:
    cleaned = clean_name(name, "Guest")
    assert 0 < len(cleaned) <= NAME_MAX
    assert not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in cleaned)
    assert clean_name(cleaned, "Guest").strip() == cleaned.strip()


def test_reactions_are_an_allow_list() -> None:
    assert len(REACTIONS) == len(set(REACTIONS)) == 12
    for reaction in REACTIONS:
        assert known_reaction(reaction) == reaction
        assert known_reaction(reaction.replace("\ufe0f", "")) == reaction
    for other in ("💩", "hello", "\ufe0f", "🔥🔥"):
        with pytest.raises(InvalidInputError):
            known_reaction(other)
