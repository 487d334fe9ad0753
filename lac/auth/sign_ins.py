"""Ending sign-ins, and telling at once whoever has let somebody in on the strength of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import trio
from sqlalchemy import orm

from lac.auth.recent import RecentSignIns
from lac.db.engine import Database

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SignInsEnded:
    """Sign-ins of one account have ended: `only` this one, all `but` this one, or all of them."""

    user_id: str
    only: str | None = None
    but: str | None = None

    def has(self, sign_in_id: str | None) -> bool:
        """Whether this sign-in of the account is among them."""
        if self.only is not None:
            return sign_in_id == self.only
        return self.but is None or sign_in_id != self.but


class SignInEnder:
    """`on_ended` is called synchronously; whoever keeps sockets and media open sets it for as long as it does."""

    def __init__(self, db: Database) -> None:
        self.on_ended: Callable[[SignInsEnded], None] = ignore
        self.recent = RecentSignIns()
        self._db = db

    def tell(self, ended: SignInsEnded) -> None:
        """These have ended: nobody is let in on the strength of them any more, or stays."""
        self.recent.forget(ended.user_id)
        self.on_ended(ended)

    async def end(self, ended: SignInsEnded, write: Callable[[orm.Session], T]) -> T:
        """Run the transaction that ends them, then tell. A caller who is cancelled may have been heard by the database
        all the same: then it is told, too, and who is still signed in comes back."""
        try:
            result = await self._db.run(write)
        except trio.Cancelled:
            self.tell(ended)
            raise
        self.tell(ended)
        return result


def ignore(ended: SignInsEnded) -> None:
    """Nobody keeps anything open."""
