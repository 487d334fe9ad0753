"""Lists in pages: opaque cursors that name the last item seen, so that pages stay put while new items come in."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from lac.errors import InvalidInputError
from lac.text import invalid

T = TypeVar("T")

LIMIT_MAX = 100
_CURSOR_MAX = 256


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    items: tuple[T, ...]
    #: None: this was the last page.
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Position:
    """The last item of a page: the section of the list it was in, its time, and its id to settle ties."""

    section: str
    at: datetime
    id: str


def check_limit(limit: int) -> int:
    if not 1 <= limit <= LIMIT_MAX:
        raise invalid("limit", f"is not between 1 and {LIMIT_MAX}")
    return limit


def encode_cursor(position: Position) -> str:
    text = json.dumps([position.section, position.at.isoformat(), position.id])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor_untrusted(cursor: str) -> Position:
    """Raises `InvalidInputError` with code `invalid_cursor`."""
    try:
        if len(cursor) > _CURSOR_MAX:
            raise _invalid()
        parts = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        match parts:
            case [str(section), str(at), str(item_id)]:
                position = Position(section, datetime.fromisoformat(at), item_id)
            case _:
                raise _invalid()
    except (ValueError, binascii.Error, RecursionError):
        raise _invalid() from None
    if position.at.tzinfo is None or "\0" in item_id or not item_id.isascii():
        raise _invalid()
    return position


def _invalid() -> InvalidInputError:
    return invalid("cursor", "is not one that this list gave", code="invalid_cursor")
