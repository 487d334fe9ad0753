"""What people type, checked and tidied: chat lines, names, reactions."""

from __future__ import annotations

import unicodedata

from lac.errors import FieldError, InvalidInputError
from lac.rooms.commands import NAME_MAX

#: The reactions a room knows. An allow-list, so that a thousand clients cannot make the room carry (and store)
#: anything of their own as an "emoji".
REACTIONS = ("👍", "❤️", "😂", "👏", "🔥", "🎉", "😮", "😢", "🤔", "🙏", "💯", "👀")

#: Some keyboards send the plain character, some append the variation selector that asks for the coloured one.
_EMOJI_VARIATION = "\ufe0f"
_REACTION_BY_PLAIN = {reaction.replace(_EMOJI_VARIATION, ""): reaction for reaction in REACTIONS}

#: Embeddings, overrides and isolates: in a name they would turn the text after it around.
_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean_chat_text(text: str) -> str:
    """`text` as it is stored and shown: trimmed, line ends as "\\n". Raises `InvalidInputError` when nothing is left
    or a control character other than the line end is in it."""
    cleaned = text.replace("\r\n", "\n").strip()
    if not cleaned:
        raise InvalidInputError(
            "Write something before you send it.", FieldError("text", "is empty"), code="empty_message"
        )
    if any(unicodedata.category(character) == "Cc" and character != "\n" for character in cleaned):
        raise InvalidInputError(
            "The message has control characters in it; send plain text.",
            FieldError("text", "has control characters"),
        )
    return cleaned


def one_line(text: str) -> str:
    """`text` on one line, without control and direction characters; may be empty."""
    printable = "".join(
        " " if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") else character
        for character in text
        if character not in _BIDI_CONTROLS
    )
    return " ".join(printable.split())


def clean_name(name: str | None, default: str) -> str:
    """A display name as it is shown; `default` when nothing is left of it."""
    return one_line(name or "")[:NAME_MAX] or default


def known_reaction(emoji: str) -> str:
    """The form of `emoji` in `REACTIONS`; `InvalidInputError` when it is not one of them."""
    reaction = _REACTION_BY_PLAIN.get(emoji.replace(_EMOJI_VARIATION, ""))
    if reaction is None:
        raise InvalidInputError(
            f"Send one of these reactions: {' '.join(REACTIONS)}", FieldError("emoji", "is not a known reaction")
        )
    return reaction
