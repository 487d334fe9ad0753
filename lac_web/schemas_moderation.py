"""JSON of moderation and of people, both ways. See `lac_web.schemas`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from lac.audit import AuditEntry
from lac.rooms.commands import REASON_MAX
from lac_web.schemas import Answer, AwareTime, Request


class PageQuery(Request, frozen=True):
    limit: Annotated[int, Meta(ge=1, le=100)] = 50
    cursor: Annotated[str, Meta(max_length=256)] | None = None


class NewRole(Request, frozen=True):
    role: Literal["speaker", "moderator", "cohost"]


class NewBan(Request, frozen=True):
    """Without `until` it is for good."""

    reason: Annotated[str, Meta(max_length=REASON_MAX)] | None = None
    until: AwareTime | None = None


class BanAnswer(Answer, frozen=True):
    """`displayName` is null for guests."""

    user_id: str
    display_name: str | None
    reason: str | None
    until: datetime | None
    created_at: datetime
    created_by: str | None


class BanPage(Answer, frozen=True):
    """Newest first, those that are over included."""

    items: list[BanAnswer]
    next_cursor: str | None


class SessionAnswer(Answer, frozen=True):
    """One media session. `userId` may be a guest's; `closedAt` is null while it is open."""

    id: str
    user_id: str
    display_name: str | None
    kind: str
    direction: str
    opened_at: datetime
    closed_at: datetime | None
    close_reason: str | None


class SessionPage(Answer, frozen=True):
    items: list[SessionAnswer]
    next_cursor: str | None


class BroadcastStats(Answer, frozen=True):
    """`listeners` and `sockets` are now, the rest is so far. `listenersByWay`: `webrtc`,
    `hls`, `ogg`, `mp3`, `aac`."""

    listeners: int
    listeners_by_way: dict[str, int]
    sockets: int
    sessions: int
    people: int
    messages: int
    reactions: dict[str, int]


class AuditPage(Answer, frozen=True):
    """The latest first."""

    items: list[AuditEntry]
    next_cursor: str | None


class ProfileAnswer(Answer, frozen=True):
    """`followed`: the caller follows this person."""

    id: str
    display_name: str
    created_at: datetime
    followers: int
    following: int
    followed: bool


class FollowAnswer(Answer, frozen=True):
    id: str
    display_name: str
    since: datetime


class FollowPage(Answer, frozen=True):
    items: list[FollowAnswer]
    next_cursor: str | None
