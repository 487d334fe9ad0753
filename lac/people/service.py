"""Follow people, see who they are, be reminded of a show."""

from __future__ import annotations

from sqlalchemy import orm

from lac.broadcasts.model import BroadcastStatus
from lac.broadcasts.service import BroadcastService
from lac.clock import Clock, utc_now
from lac.db.engine import Database
from lac.errors import ConflictError, InvalidInputError, NotFoundError
from lac.identity import Identity, IdentityKind
from lac.paging import Page, decode_cursor_untrusted
from lac.people import store
from lac.people.store import Followed, Profile
from lac.text import invalid


class PeopleService:
    def __init__(self, db: Database, broadcasts: BroadcastService, *, clock: Clock = utc_now) -> None:
        self._db = db
        self._broadcasts = broadcasts
        self._clock = clock

    async def profile(self, identity: Identity | None, user_id: str) -> Profile:
        viewer = identity.id if identity is not None and identity.kind is IdentityKind.USER else None
        profile = await self._db.read(lambda session: store.find_profile(session, user_id, viewer_id=viewer))
        if profile is None:
            raise _no_such_user()
        return profile

    async def follow(self, identity: Identity, user_id: str) -> None:
        """Raises `NotFoundError`, `InvalidInputError` (not_yourself)."""
        if user_id == identity.id:
            raise InvalidInputError("You cannot follow yourself.", code="not_yourself")
        at = self._clock()
        if not await self._db.run(lambda session: store.follow(session, identity.id, user_id, at)):
            raise _no_such_user()

    async def unfollow(self, identity: Identity, user_id: str) -> None:
        """No error where nobody was followed."""
        await self._db.run(lambda session: store.unfollow(session, identity.id, user_id))

    async def follows(self, user_id: str, which: str, limit: int, cursor: str | None) -> Page[Followed]:
        after = None if cursor is None else decode_cursor_untrusted(cursor)
        if after is not None and after.section != which:
            raise invalid("cursor", "is not one that this list gave", code="invalid_cursor")

        def read(session: orm.Session) -> Page[Followed] | None:
            if store.find_profile(session, user_id, viewer_id=None) is None:
                return None
            return store.list_follows(session, user_id, which, limit=limit, after=after)

        page = await self._db.read(read)
        if page is None:
            raise _no_such_user()
        return page

    async def remind(self, identity: Identity, broadcast_id: str) -> None:
        """Raises `ConflictError` (already_started) where there is nothing to wait for."""
        broadcast = await self._broadcasts.get(identity, broadcast_id)
        if broadcast.status is not BroadcastStatus.SCHEDULED:
            raise ConflictError("This show has started already.", code="already_started")
        at = self._clock()
        await self._db.run(lambda session: store.add_reminder(session, broadcast_id, identity.id, at))

    async def forget_reminder(self, identity: Identity, broadcast_id: str) -> None:
        await self._db.run(lambda session: store.remove_reminder(session, broadcast_id, identity.id))


def _no_such_user() -> NotFoundError:
    return NotFoundError("There is no such user.")
