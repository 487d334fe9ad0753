"""JSON of accounts and broadcasts, both ways. Requests refuse unknown fields; times are RFC 3339 UTC.

Bounds here keep out the absurd; what a title or password must be beyond that is the services' business.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from lac.broadcasts.model import BroadcastStatus, Role, Visibility
from lac.rooms.values import Chat


class Request(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Base of what clients send."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of what we answer."""


Email = Annotated[str, Meta(min_length=3, max_length=254)]
Password = Annotated[str, Meta(min_length=1, max_length=1024)]
DisplayName = Annotated[str, Meta(min_length=1, max_length=64)]
Token = Annotated[str, Meta(min_length=1, max_length=4096)]
Title = Annotated[str, Meta(min_length=1, max_length=200)]
Description = Annotated[str, Meta(max_length=10_000)]
Tags = Annotated[list[Annotated[str, Meta(min_length=1, max_length=40)]], Meta(max_length=20)]
AwareTime = Annotated[datetime, Meta(tz=True)]


# --- accounts ---------------------------------------------------------------------------------------------------------


class Register(Request, frozen=True):
    email: Email
    password: Password
    display_name: DisplayName


class Login(Request, frozen=True):
    email: Email
    password: Password


class RefreshToken(Request, frozen=True):
    refresh_token: Token


class SetupAdmin(Request, frozen=True):
    """`token` is the single-use one from the link that the first start prints."""

    token: Token
    email: Email
    password: Password
    display_name: DisplayName


class UpdateMe(Request, frozen=True):
    display_name: DisplayName


class OwnUser(Answer, frozen=True):
    id: str
    email: str
    display_name: str
    is_admin: bool
    email_verified: bool
    created_at: AwareTime


class SignedInAnswer(Answer, frozen=True):
    """`expiresIn` is the access token's life in seconds. A refresh token is good for one use."""

    user: OwnUser
    access_token: str
    refresh_token: str
    expires_in: int


# --- broadcasts -------------------------------------------------------------------------------------------------------


class NewBroadcast(Request, frozen=True):
    title: Title
    description: Description = ""
    scheduled_at: AwareTime | None = None
    visibility: Visibility = Visibility.PUBLIC
    tags: Tags = msgspec.field(default_factory=list)
    recording_enabled: bool = False
    #: Encode for HLS from the beginning on, so that who comes late can go back.
    rewind_enabled: bool = False


class BroadcastChanges(Request, frozen=True):
    """Only what is present changes."""

    title: Title | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    scheduled_at: AwareTime | UnsetType | None = UNSET
    visibility: Visibility | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET
    recording_enabled: bool | UnsetType = UNSET
    rewind_enabled: bool | UnsetType = UNSET


class BroadcastQuery(Request, frozen=True):
    status: BroadcastStatus | None = None
    host_id: Annotated[str, Meta(max_length=64)] | None = None
    q: Annotated[str, Meta(max_length=200)] | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    cursor: Annotated[str, Meta(max_length=256)] | None = None


class Host(Answer, frozen=True):
    id: str
    display_name: str


class BroadcastAnswer(Answer, frozen=True):
    """`yourRole` is null when nobody is signed in. `streamKey` is there for hosts, co-hosts and admins, where one
    broadcast is answered; `invite` likewise where it is private: the link is the show's page with `#invite=` and it."""

    id: str
    title: str
    description: str
    status: BroadcastStatus
    visibility: Visibility
    tags: list[str]
    scheduled_at: AwareTime | None
    started_at: AwareTime | None
    ended_at: AwareTime | None
    recording_enabled: bool
    rewind_enabled: bool
    host: Host
    listener_count: int
    created_at: AwareTime
    updated_at: AwareTime
    your_role: Role | None
    stream_key: str | UnsetType = UNSET
    invite: str | UnsetType = UNSET


class AcceptInvite(Request, frozen=True):
    """`name` is how a guest wants to be called."""

    invite: Annotated[str, Meta(min_length=1, max_length=128)]
    name: Annotated[str, Meta(max_length=64)] | None = None


class InviteAccepted(Answer, frozen=True):
    """`token` is for guests; who has signed in needs none."""

    broadcast_id: str
    token: str | None


class BroadcastPage(Answer, frozen=True):
    items: list[BroadcastAnswer]
    next_cursor: str | None


class MessageQuery(Request, frozen=True):
    limit: Annotated[int, Meta(ge=1, le=100)] = 50
    cursor: Annotated[str, Meta(max_length=256)] | None = None


class MessagePage(Answer, frozen=True):
    """Newest first. The messages are as `/ws` sends them; `mediaTime` is seconds since the program began."""

    items: list[Chat]
    next_cursor: str | None


# --- the process ------------------------------------------------------------------------------------------------------


class Health(Answer, frozen=True):
    status: str


class Ready(Health, frozen=True):
    """Each part that has to be there, "ok"; otherwise the answer is an error whose code says which is not."""

    database: str
    migrations: str
    media: str
