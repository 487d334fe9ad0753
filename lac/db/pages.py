"""Pages of a list in the database: what comes after a position, and the page that the rows which were found make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

import sqlalchemy as sa

from lac.paging import Page, Position, encode_cursor

R = TypeVar("R")
T = TypeVar("T")


def earlier_than(
    position: Position, at: sa.SQLColumnExpression[datetime], row_id: sa.SQLColumnExpression[str]
) -> sa.ColumnElement[bool]:
    """What comes after it in a list that has the latest first."""
    return (at < position.at) | ((at == position.at) & (row_id < position.id))


def later_than(
    position: Position, at: sa.SQLColumnExpression[datetime], row_id: sa.SQLColumnExpression[str]
) -> sa.ColumnElement[bool]:
    """What comes after it in a list that has the earliest first."""
    return (at > position.at) | ((at == position.at) & (row_id > position.id))


def page_of(found: Sequence[R], limit: int, to_item: Callable[[R], T], position_of: Callable[[T], Position]) -> Page[T]:
    """The first `limit` of them. One more was asked for: if it is there, there is another page."""
    items = tuple(to_item(row) for row in found[:limit])
    return Page(items, encode_cursor(position_of(items[-1])) if len(found) > limit else None)
