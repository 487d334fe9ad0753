"""Text that people type: trimmed, bounded, and free of what no reader can see."""

from __future__ import annotations

import unicodedata

from lac.errors import FieldError, InvalidInputError

#: They turn the text around them, so that a name can pass for another.
_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean_line(field: str, value: str, *, max_length: int, min_length: int = 1) -> str:
    """One line, NFC, with each run of white space as one space. Raises `InvalidInputError` for `field`."""
    line = " ".join(unicodedata.normalize("NFC", value).split())
    if any(_is_control(char) or char in _BIDI_CONTROLS for char in line):
        raise invalid(field, "contains characters that cannot be shown")
    return _bounded(field, line, min_length, max_length)


def clean_text(field: str, value: str, *, max_length: int, min_length: int = 0) -> str:
    """Like `clean_line`, but keeps line breaks and tabs."""
    text = unicodedata.normalize("NFC", value).replace("\r\n", "\n").strip()
    if any(_is_control(char) and char not in "\n\t" for char in text):
        raise invalid(field, "contains characters that cannot be shown")
    return _bounded(field, text, min_length, max_length)


def invalid(field: str, message: str, *, code: str | None = None) -> InvalidInputError:
    return InvalidInputError(f"{field} {message}.", FieldError(field, message), code=code)


def _bounded(field: str, text: str, min_length: int, max_length: int) -> str:
    if len(text) > max_length:
        raise invalid(field, f"is longer than {max_length} characters")
    # Letters joined by invisible characters count; invisible characters alone do not.
    if len(text) < min_length or (min_length and all(unicodedata.category(char)[0] in "ZC" for char in text)):
        raise invalid(field, "must not be empty" if min_length == 1 else f"is shorter than {min_length} characters")
    return text


def _is_control(char: str) -> bool:
    """Control characters, and lone surrogates, which no database can store."""
    return unicodedata.category(char) in ("Cc", "Cs")
