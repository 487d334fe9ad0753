"""What the events of `/ws` and the answers to its commands are made of: people, hands, messages. JSON is camelCase;
times are RFC 3339 UTC; media time is seconds since the program of the show began.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from lac.broadcasts.model import Role


class Value(msgspec.Struct, frozen=True, rename="camel"):
    """Base of what the server sends inside events, and in acks."""


class Person(Value, frozen=True):
    id: str
    display_name: str
    role: Role
    anonymous: bool = False
    muted: bool = False
    #: This person's audio is reaching the program.
    speaking: bool = False


class Hand(Value, frozen=True):
    user_id: str
    display_name: str
    note: str | None
    raised_at: datetime
    #: 1 is the next in the queue.
    position: int


class Chat(Value, frozen=True):
    id: str
    user: Person
    text: str
    media_time: float
    at: datetime


class HlsAddress(Value, frozen=True):
    """Where to listen by HLS (docs/protocol/hls.md). The address is the caller's own: it counts one listener, and it
    has to come into use before it expires. One that does not expire is everybody's."""

    #: A path of this server, or, where there is a CDN for it, an absolute address.
    url: str
    expires_at: datetime | None
    #: What EXT-X-PROGRAM-DATE-TIME says at media time 0.
    media_time_zero: datetime
    #: How far back one can go, in seconds.
    window_s: float
    #: Listen here rather than by WebRTC: the server has many listeners.
    preferred: bool


class ProducerInfo(Value, frozen=True):
    id: str
    user_id: str


class Speaking(Value, frozen=True):
    """`level` in dBov: 0 is full scale, -50 barely audible."""

    user_id: str
    level: int


class You(Value, frozen=True):
    id: str
    display_name: str
    role: Role
    anonymous: bool
    #: For guests: the token to present (as Bearer) on the media calls of this broadcast.
    token: str | None = None


class MemberPage(Value, frozen=True):
    """The ack data of `listMembers`."""

    items: list[Person]
    next_cursor: str | None


class MutedAll(Value, frozen=True):
    """The ack data of `muteAll`."""

    user_ids: list[str]


class ChatAccepted(Value, frozen=True):
    """The ack data of `chatMessage`: the message is stored and sent."""

    id: str
    at: datetime
    media_time: float
