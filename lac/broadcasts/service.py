"""Broadcasts: create, find, change, list, and who has which part in them. What is on air is `lac.broadcasts.live`'s."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Any

from sqlalchemy import orm

from lac.audit import add_audit
from lac.auth.tokens import keyed_digest
from lac.broadcasts import policy, store
from lac.broadcasts.model import Broadcast, BroadcastAction, BroadcastStatus, Role, Visibility
from lac.clock import Clock, utc_now
from lac.config import Settings
from lac.db.engine import Database
from lac.errors import (
    ChangedError,
    ConflictError,
    FieldError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    NotSignedInError,
)
from lac.idempotency import KeptAnswer, find_answer, keep_answer
from lac.identity import Identity, IdentityKind
from lac.ids import new_id
from lac.paging import Page, check_limit, decode_cursor_untrusted
from lac.rooms.acts import RoomAct
from lac.text import clean_line, clean_text, invalid

TITLE_MAX = 200
DESCRIPTION_MAX = 10_000
TAGS_MAX = 20
TAG_MAX = 40
#: Broadcasts that are looked up by one query.
FIND_BATCH = 500

Ids = list[str]


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A request that its sender may send again. `key` has passed `idempotency.check_key`."""

    key: str
    request_hash: str


class BroadcastService:
    def __init__(self, db: Database, settings: Settings, *, clock: Clock = utc_now) -> None:
        self._db = db
        self._settings = settings
        self._clock = clock

    async def create(
        self,
        identity: Identity,
        title: str,
        description: str = "",
        scheduled_at: datetime | None = None,
        visibility: Visibility = Visibility.PUBLIC,
        tags: Collection[str] = (),
        recording_enabled: bool = False,
        rewind_enabled: bool = False,
        *,
        repeatable: Repeatable | None = None,
    ) -> Broadcast:
        """A new broadcast whose host is the caller; for a request that was made before, the one that it made then.

        Raises `ForbiddenError` without an account, `InvalidInputError` (also idempotency_key_reused), `ConflictError`
        (request_repeated), `NotFoundError` (what the first request made is gone).
        """
        _require_account(identity)
        values = _checked(
            {
                "title": title,
                "description": description,
                "scheduled_at": scheduled_at,
                "visibility": visibility,
                "tags": tags,
                "recording_enabled": recording_enabled,
                "rewind_enabled": rewind_enabled,
            }
        )
        now = self._clock()

        def add(session: orm.Session) -> Broadcast:
            host_name = store.user_name(session, identity.id, keep=True)
            if host_name is None:
                raise NotSignedInError("This account does not exist any more.", code="token_invalid")
            if repeatable is not None:
                kept = find_answer(session, identity.id, repeatable.key, repeatable.request_hash, at=now)
                if kept is not None:
                    return _find_visible(session, identity, kept.body)[0]
            broadcast = Broadcast(
                id=new_id(),
                host_id=identity.id,
                host_name=host_name,
                status=BroadcastStatus.SCHEDULED,
                started_at=None,
                ended_at=None,
                created_at=now,
                updated_at=now,
                **values,
            )
            store.add(session, broadcast)
            if repeatable is not None:
                # Its id only: the answer has the stream key in it, which is nowhere in the database.
                answer = KeptAnswer(HTTPStatus.CREATED, broadcast.id)
                keep_answer(session, identity.id, repeatable.key, repeatable.request_hash, answer, at=now)
            return broadcast

        return await self._db.run(add)

    async def get(self, identity: Identity | None, broadcast_id: str) -> Broadcast:
        """Raises `NotFoundError` when there is none, and likewise when the caller may not know of it."""
        return await self._db.read(lambda session: _find_visible(session, identity, broadcast_id)[0])

    async def list(
        self,
        identity: Identity | None,
        status: BroadcastStatus | None = None,
        host_id: str | None = None,
        q: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page[Broadcast]:
        """Public broadcasts and the caller's own; an admin sees all. Live ones first (the latest start first), then
        scheduled (the next one first), then ended (the latest first). `q` is looked for in titles.
        """
        check_limit(limit)
        after = None if cursor is None else decode_cursor_untrusted(cursor)
        sections = [str(section) for section in ([status] if status is not None else BroadcastStatus)]
        if after is not None and after.section not in sections:
            raise invalid("cursor", "is not one that this list gave", code="invalid_cursor")
        account = identity if identity is not None and identity.kind is IdentityKind.USER else None
        text = None if q is None else " ".join(q.replace("\0", "").split())
        return await self._db.read(
            lambda session: store.list_page(
                session,
                viewer_id=None if account is None else account.id,
                sees_all=account is not None and account.is_admin,
                status=status,
                host_id=host_id,
                q=text,
                limit=limit,
                after=after,
            )
        )

    async def update(
        self,
        identity: Identity,
        broadcast_id: str,
        changes: Mapping[str, Any],
        *,
        only_if: Callable[[Broadcast], bool] | None = None,
    ) -> Broadcast:
        """Change the fields in `changes` (title, description, scheduled_at, visibility, tags, recording_enabled,
        rewind_enabled).

        Raises `ChangedError` when `only_if` says that it is not what the caller has seen.
        """
        values = _checked(changes)

        def change(session: orm.Session) -> Broadcast:
            broadcast, role = _find_visible(session, identity, broadcast_id, for_update=True)
            policy.may_edit(_account_role(identity, role), values.keys())
            if only_if is not None and not only_if(broadcast):
                raise ChangedError("Somebody has changed this show since you read it. Read it again.")
            if "scheduled_at" in values and broadcast.status is not BroadcastStatus.SCHEDULED:
                raise ConflictError("This show has started already: its schedule is past.", code="already_started")
            return store.change(session, broadcast_id, values, at=self._clock())

        return await self._db.run(change)

    async def delete(self, identity: Identity, broadcast_id: str) -> None:
        """Delete the record and all that hangs on it. For one that may be live call `OnAir.remove`."""

        def remove(session: orm.Session) -> None:
            _, role = _find_visible(session, identity, broadcast_id, for_update=True)
            policy.may_delete(_account_role(identity, role))
            store.delete(session, broadcast_id, at=self._clock())

        await self._db.run(remove)

    async def set_status(self, broadcast_id: str, action: BroadcastAction) -> Broadcast:
        """Move it through its states, in one transaction. Asks nobody's permission: `OnAir` has done that.

        Raises `NotFoundError`, and `ConflictError` (not_live, already_ended).
        """
        broadcast = await self._db.run(lambda session: store.move(session, broadcast_id, action, at=self._clock()))
        if broadcast is None:
            raise _not_found()
        return broadcast

    async def role_of(self, identity: Identity | None, broadcast: Broadcast) -> Role:
        """The caller's part in it. A stream key acts as the host of its own broadcast, for publishing only."""
        known = _role_without_database(identity, broadcast)
        if known is not None or identity is None:
            return known or Role.LISTENER
        granted = await self._db.read(lambda session: store.granted_role(session, broadcast.id, identity.id))
        return granted or Role.LISTENER

    async def account_role(self, user_id: str, broadcast: Broadcast) -> Role:
        """The part of an account that is not asking itself; that of a listener for whoever is none."""

        def find(session: orm.Session) -> Role:
            if store.is_admin(session, user_id):
                return Role.ADMIN
            if user_id == broadcast.host_id:
                return Role.HOST
            return store.granted_role(session, broadcast.id, user_id) or Role.LISTENER

        return await self._db.read(find)

    async def with_a_part(self, broadcast: Broadcast, user_ids: Collection[str]) -> set[str]:
        """Those of these accounts that may listen although it is private."""
        known = await self._db.read(lambda session: store.people_with_a_part(session, broadcast.id, user_ids))
        return known | {broadcast.host_id}

    async def roles_of(self, identity: Identity | None, broadcasts: Collection[Broadcast]) -> dict[str, Role]:
        """`role_of` for a whole list, by the broadcasts' ids, with one query at most."""
        roles = {broadcast.id: _role_without_database(identity, broadcast) for broadcast in broadcasts}
        unknown = [broadcast_id for broadcast_id, role in roles.items() if role is None]
        granted: dict[str, Role] = {}
        if unknown and identity is not None:
            granted = await self._db.read(lambda session: store.granted_roles(session, unknown, identity.id))
        return {broadcast_id: role or granted.get(broadcast_id, Role.LISTENER) for broadcast_id, role in roles.items()}

    async def set_role(self, identity: Identity, broadcast_id: str, user_id: str, role: Role | None) -> None:
        """Give an account a part in the broadcast, in place of an earlier one; None takes it away."""
        if role is not None and role not in policy.GRANTABLE:
            raise invalid("role", "is not one that can be given")

        def grant(session: orm.Session) -> None:
            broadcast, own_role = _find_visible(session, identity, broadcast_id, for_update=True)
            policy.require(_account_role(identity, own_role), policy.Act.GRANT)
            if user_id == broadcast.host_id:
                raise ConflictError("The host needs no other role.", code="is_host")
            before = store.granted_role(session, broadcast_id, user_id)
            if store.user_name(session, user_id, keep=True) is None:
                raise NotFoundError("There is no such user.")
            if role is before:
                return
            at = self._clock()
            store.set_role(session, broadcast_id, user_id, role, by=identity.id, at=at)
            add_audit(
                session,
                RoomAct.ROLE_TAKEN if role is None else RoomAct.ROLE_GIVEN,
                at=at,
                actor_id=identity.id,
                broadcast_id=broadcast_id,
                target_id=user_id,
                detail={"role": role, "before": before},
            )

        await self._db.run(grant)

    def stream_key(self, broadcast: Broadcast) -> str:
        """What an encoder presents to publish as the host. Derived, not stored: `reset_stream_key` makes a new one."""
        digest = keyed_digest(
            "stream-key", broadcast.id, str(broadcast.stream_key_version), key=self._settings.jwt_secret
        )
        return base64.b32encode(digest[:20]).decode().lower()

    async def reset_stream_key(self, identity: Identity, broadcast_id: str) -> Broadcast:
        """Make the present stream key worthless. For a show that may be live call `Rights.renew_stream_key`."""
        return await self._renew(identity, broadcast_id, "stream_key_version", RoomAct.STREAM_KEY_RENEWED)

    def invite_token(self, broadcast: Broadcast) -> str:
        """What the invite link of a private broadcast carries. Derived, not stored, like the stream key."""
        digest = keyed_digest("invite-link", broadcast.id, str(broadcast.invite_version), key=self._settings.jwt_secret)
        return base64.b32encode(digest[:20]).decode().lower()

    async def reset_invite(self, identity: Identity, broadcast_id: str) -> Broadcast:
        """Make the present invite link worthless, and take the part of everyone who came by it and was given nothing
        more since. For a show that may be live call `Rights.renew_invite`."""
        return await self._renew(identity, broadcast_id, "invite_version", RoomAct.INVITE_LINK_RENEWED)

    async def accept_invite(self, identity: Identity | None, broadcast_id: str, invite: str) -> Broadcast:
        """Take up an invite link. An account has a listener's part from then on; a guest needs a token that carries the
        broadcast's `invite_version`. Raises `NotFoundError` (invite_invalid) for a link that does not hold (any more).
        """
        account = identity if identity is not None and identity.kind is IdentityKind.USER else None

        def accept(session: orm.Session) -> Broadcast:
            broadcast = store.find(session, broadcast_id, for_update=account is not None)
            expected = "" if broadcast is None else self.invite_token(broadcast)
            if broadcast is None or not hmac.compare_digest(expected.encode(), invite.encode("utf-8", "surrogatepass")):
                raise NotFoundError(
                    "This invite link is not valid (any more). Ask for a new one.", code="invite_invalid"
                )
            if account is None or _role_without_database(account, broadcast) is not None:
                return broadcast
            if store.user_name(session, account.id, keep=True) is None:
                raise NotSignedInError("This account does not exist any more.", code="token_invalid")
            if store.granted_role(session, broadcast_id, account.id) is None:
                at = self._clock()
                store.set_role(session, broadcast_id, account.id, Role.LISTENER, by=None, at=at)
                add_audit(
                    session,
                    RoomAct.INVITE_LINK_USED,
                    at=at,
                    actor_id=account.id,
                    broadcast_id=broadcast_id,
                    target_id=account.id,
                    detail={},
                )
            return broadcast

        return await self._db.run(accept)

    async def _renew(self, identity: Identity, broadcast_id: str, version: str, act: RoomAct) -> Broadcast:
        def renew(session: orm.Session) -> Broadcast:
            broadcast, role = _find_visible(session, identity, broadcast_id, for_update=True)
            policy.may_edit(_account_role(identity, role))
            at = self._clock()
            if act is RoomAct.INVITE_LINK_RENEWED:
                store.take_listener_roles(session, broadcast_id)
            add_audit(session, act, at=at, actor_id=identity.id, broadcast_id=broadcast_id, target_id=None, detail={})
            return store.change(session, broadcast_id, {version: getattr(broadcast, version) + 1}, at=at)

        return await self._db.run(renew)

    async def identify_stream_key(self, broadcast_id: str, key: str) -> Identity:
        """Raises `NotSignedInError` (token_invalid), also when there is no such broadcast."""
        broadcast = await self._db.read(lambda session: store.find(session, broadcast_id))
        expected = "" if broadcast is None else self.stream_key(broadcast)
        matches = hmac.compare_digest(expected.encode(), key.encode("utf-8", "surrogatepass"))
        if broadcast is None or not matches:
            raise NotSignedInError("This is not the broadcast's stream key.", code="token_invalid")
        return Identity(IdentityKind.STREAM_KEY, broadcast.host_id, broadcast.host_name, broadcast_id=broadcast.id)

    async def find_many(self, broadcast_ids: Collection[str]) -> Mapping[str, Broadcast]:
        """By id, those that there are: for the server itself, which asks for nobody."""
        ids = sorted(broadcast_ids)
        found: dict[str, Broadcast] = {}
        for start in range(0, len(ids), FIND_BATCH):
            found |= await self._db.read(partial(store.find_many, broadcast_ids=ids[start : start + FIND_BATCH]))
        return found

    async def live_ids(self) -> Ids:
        return await self._db.read(store.live_ids)


def _find_visible(
    session: orm.Session, identity: Identity | None, broadcast_id: str, *, for_update: bool = False
) -> tuple[Broadcast, Role]:
    """The broadcast and the caller's role. What they may not listen to does not exist for them."""
    broadcast = store.find(session, broadcast_id, for_update=for_update)
    if broadcast is None:
        raise _not_found()
    role = _role_without_database(identity, broadcast)
    if role is None and identity is not None:
        role = store.granted_role(session, broadcast.id, identity.id)
    check_visible(identity, role, broadcast)
    return broadcast, role or Role.LISTENER


def check_visible(identity: Identity | None, given: Role | None, broadcast: Broadcast) -> None:
    """Raise `NotFoundError` for a broadcast that the caller may not know of, as for one that does not exist."""
    try:
        policy.may_listen(identity, given, broadcast)
    except ForbiddenError:
        raise _not_found() from None


def _role_without_database(identity: Identity | None, broadcast: Broadcast) -> Role | None:
    """The role, where the identity alone tells; None for an account whose role has to be looked up."""
    if identity is None or identity.kind is IdentityKind.GUEST:
        return Role.LISTENER
    if identity.kind is IdentityKind.STREAM_KEY:
        return Role.HOST if identity.broadcast_id == broadcast.id else Role.LISTENER
    if identity.is_admin:
        return Role.ADMIN
    return Role.HOST if identity.id == broadcast.host_id else None


def _account_role(identity: Identity, role: Role) -> Role:
    """The role for anything but media: a stream key publishes as the host and is nothing more than that."""
    return role if identity.kind is IdentityKind.USER else Role.LISTENER


def _require_account(identity: Identity) -> None:
    if identity.kind is not IdentityKind.USER:
        raise ForbiddenError("Sign in with an account to create a show.", code="account_needed")


def _checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields, each tidied and within its bounds. Raises `InvalidInputError` that names every wrong one."""
    checked: dict[str, Any] = {}
    errors: list[FieldError] = []
    for name, value in values.items():
        if name not in _CHECKS:
            raise invalid(name, "is not a field that can be set")
        try:
            checked[name] = _CHECKS[name](value)
        except InvalidInputError as error:
            errors.extend(error.errors)
    if errors:
        raise InvalidInputError("; ".join(f"{error.field} {error.message}" for error in errors) + ".", *errors)
    return checked


def _check_schedule(value: datetime | None) -> datetime | None:
    if value is None:
        return None
    if value.tzinfo is None:
        raise invalid("scheduledAt", "has no time zone")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise invalid("scheduledAt", "is out of range") from None


def _check_tags(value: Collection[str]) -> tuple[str, ...]:
    tags: dict[str, str] = {}
    for tag in value:
        line = clean_line("tags", tag, max_length=TAG_MAX)
        tags.setdefault(line.casefold(), line)
    if len(tags) > TAGS_MAX:
        raise invalid("tags", f"are more than {TAGS_MAX}")
    return tuple(tags.values())


_CHECKS: dict[str, Any] = {
    "title": lambda value: clean_line("title", value, max_length=TITLE_MAX),
    "description": lambda value: clean_text("description", value, max_length=DESCRIPTION_MAX),
    "scheduled_at": _check_schedule,
    "visibility": Visibility,
    "tags": _check_tags,
    "recording_enabled": bool,
    "rewind_enabled": bool,
}


def _not_found() -> NotFoundError:
    return NotFoundError("There is no such broadcast.")
