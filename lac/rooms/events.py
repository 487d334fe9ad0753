"""What the server sends on `/ws`, as typed values: `{"event": name, "data": {...}}`. JSON is camelCase; times are
RFC 3339 UTC; media time is seconds since the program of the show began.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from lac.broadcasts.model import ChatMode, Role
from lac.recordings.model import RecorderState
from lac.rooms.values import Chat, Hand, HlsAddress, Person, ProducerInfo, Speaking, You


class Event(msgspec.Struct, frozen=True, rename="camel"):
    """Base of what the server sends; `EVENT_NAMES` has the names on the wire."""


class Joined(Event, frozen=True):
    you: You
    #: The broadcast as `GET /api/broadcasts/:id` shows it.
    broadcast: dict[str, object]
    role: Role
    #: In a large room hosts, speakers and moderators only; `memberCount` counts everyone.
    members: list[Person]
    member_count: int
    listener_count: int
    hands: list[Hand]
    producers: list[ProducerInfo]
    #: The last ones, oldest first; after `join {since}` those since then.
    recent_messages: list[Chat]
    media_time: float
    host_away: bool
    #: False once more than LARGE_ROOM people are in: joins and leaves of listeners are then not announced one by one.
    announces_everyone: bool
    #: When the show ends unless the host comes back; only while `host_away`.
    host_away_until: datetime | None = None
    slow_mode_s: int = 0
    chat_mode: ChatMode = ChatMode.OPEN
    locked: bool = False
    #: An invitation to speak waits for an answer.
    invited: bool = False
    recording: RecorderState = RecorderState.OFF
    #: After `join {since}`: more was written since than is sent, or `since` is not known. Show a gap; `GET
    #: /api/broadcasts/:id/messages` has the rest.
    messages_missed: bool = False
    #: After `join {since}`: messages that were deleted lately. Take them down where they are shown.
    deleted_messages: list[str] = msgspec.field(default_factory=list)
    #: While the show is on air.
    hls: HlsAddress | None = None


class UserJoined(Event, frozen=True):
    user: Person


class UserLeft(Event, frozen=True):
    user_id: str


class RoomSize(Event, frozen=True):
    """The room became large, or small again. When it becomes large, listeners are no longer announced one by one: drop
    them from the list that is shown. When it becomes small again, ask for `listMembers`."""

    announces_everyone: bool
    member_count: int


class RoleChanged(Event, frozen=True):
    user: Person


class ChatMessageSent(Event, frozen=True):
    id: str
    user: Person
    text: str
    media_time: float
    at: datetime


class Reactions(Event, frozen=True):
    """Counts since the last such event, merged over 250 ms."""

    counts: dict[str, int]
    media_time: float


class HandRaised(Event, frozen=True):
    user_id: str
    display_name: str
    note: str | None
    raised_at: datetime
    #: 1 is the next in the queue.
    position: int


class HandLowered(Event, frozen=True):
    """The hands after it move up by one."""

    user_id: str


class HandMoved(Event, frozen=True):
    """A moderator gave the hand another place; those between move by one."""

    user_id: str
    position: int


class HandPosition(Event, frozen=True):
    """To one person: their hand has another place now."""

    position: int


class InvitedToSpeak(Event, frozen=True):
    """To one person: answer with `acceptInvite` or `declineInvite`."""

    by_user_id: str


class InviteEnded(Event, frozen=True):
    """To the person and to moderators: the invitation was `accepted`, `declined` or `withdrawn`."""

    user_id: str
    outcome: str


class MessageDeleted(Event, frozen=True):
    id: str


class MessagesCleared(Event, frozen=True):
    """Take down everything of this person that is shown."""

    user_id: str


class SlowModeSet(Event, frozen=True):
    seconds: int


class ChatModeSet(Event, frozen=True):
    mode: ChatMode


class RoomLocked(Event, frozen=True):
    locked: bool


class Muted(Event, frozen=True):
    user_id: str


class Unmuted(Event, frozen=True):
    user_id: str


class Removed(Event, frozen=True, omit_defaults=True):
    reason: str | None
    banned: bool = False
    #: When the ban ends; None: for good.
    until: datetime | None = None


class ListenerCount(Event, frozen=True):
    count: int


class SpeakersChanged(Event, frozen=True):
    """Who is on the stage, and who of them is speaking just now, the loudest first. Twice a second at most.

    People on the stage consume each of the other `producers`; everybody else hears the program.
    """

    producers: list[ProducerInfo]
    speaking: list[Speaking]


class BroadcastStarted(Event, frozen=True):
    started_at: datetime


class BroadcastEnded(Event, frozen=True):
    ended_at: datetime
    reason: str


class RecordingChanged(Event, frozen=True):
    """Whether the show is being recorded. `interrupted`: it is meant to be, and cannot be written just now."""

    state: RecorderState


class HostAway(Event, frozen=True):
    """The show ends at `until` unless the host comes back."""

    until: datetime


class HostBack(Event, frozen=True):
    pass


class ListenVia(Event, frozen=True):
    """To one person who listens by HLS: there is room for WebRTC again (`via`: "webrtc")."""

    via: str


class Reconnect(Event, frozen=True):
    after_ms: int


class Stats(Event, frozen=True):
    """To hosts and moderators, every five seconds. Ratios are 0 to 1; None where nobody reports."""

    listeners: int
    sockets: int
    packets_in: int
    packets_lost_in: int
    worst_loss: float | None
    weak_listeners: int
    round_trip_ms: float | None


EVENT_NAMES: dict[type[Event], str] = {
    Joined: "joined",
    UserJoined: "userJoined",
    UserLeft: "userLeft",
    RoomSize: "roomSize",
    RoleChanged: "roleChanged",
    ChatMessageSent: "chatMessage",
    Reactions: "reaction",
    HandRaised: "handRaised",
    HandLowered: "handLowered",
    HandMoved: "handMoved",
    HandPosition: "handPosition",
    InvitedToSpeak: "invitedToSpeak",
    InviteEnded: "inviteEnded",
    MessageDeleted: "messageDeleted",
    MessagesCleared: "messagesCleared",
    SlowModeSet: "slowMode",
    ChatModeSet: "chatMode",
    RoomLocked: "roomLocked",
    Muted: "muted",
    Unmuted: "unmuted",
    Removed: "removed",
    ListenerCount: "listenerCount",
    SpeakersChanged: "activeSpeakers",
    BroadcastStarted: "broadcastStarted",
    BroadcastEnded: "broadcastEnded",
    RecordingChanged: "recording",
    HostAway: "hostAway",
    HostBack: "hostBack",
    ListenVia: "listenVia",
    Reconnect: "reconnect",
    Stats: "stats",
}


class CloseCode:
    """WebSocket close codes of `/ws`."""

    LEFT = 1000
    SHUTTING_DOWN = 1001
    POLICY = 1008
    TOO_LARGE = 1009
    INTERNAL_ERROR = 1011
    TOO_SLOW = 1013
    NOT_SIGNED_IN = 4401
    REMOVED = 4403
    NO_SUCH_BROADCAST = 4404
    TOO_MANY_MESSAGES = 4429


def encode_event(event: Event) -> bytes:
    """The text frame's payload, built once and shared by everyone who gets it."""
    return msgspec.json.encode({"event": EVENT_NAMES[type(event)], "data": event})
