"""Somebody who wants to come into a broadcast, to its room or its media, and what those are told who may not."""

from __future__ import annotations

from dataclasses import dataclass

from lac.broadcasts.model import Role
from lac.errors import ConflictError, ForbiddenError
from lac.rooms.recent_chat import Missed


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who wants to come in, after every check."""

    id: str
    display_name: str
    role: Role
    anonymous: bool
    #: The account, if there is one.
    user_id: str | None
    #: For guests: their token for the media calls.
    token: str | None = None
    #: Which sign-in of the account this is.
    sign_in_id: str | None = None
    #: Comes with the show's stream key.
    by_stream_key: bool = False
    #: Of somebody without an account: the hash of where they come from, if that is known.
    address_hash: str | None = None
    #: Of a guest: the invite link that they came by.
    invite_version: int | None = None
    #: The last message they have, and what the database has after it.
    since: str | None = None
    missed: Missed | None = None


def not_live() -> ConflictError:
    return ConflictError("This show is not live.", code="not_live")


def removed_error() -> ForbiddenError:
    return ForbiddenError("You have been removed from this show.", code="removed")
