"""The messages of `/ws`, both ways, as typed values. JSON is camelCase; times are RFC 3339 UTC; media time is seconds
since the program of the show began.

A command comes in `{"event": name, "data": {...}, "ack": n?}`; a server event goes out as
`{"event": name, "data": {...}}`.
Unknown fields are refused in commands, so that a misspelt one is an error and not a silence.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from lac.broadcasts.model import ChatMode, Role
from lac.recordings.model import RecorderState

CHAT_TEXT_MAX = 2_000
NAME_MAX = 64
NOTE_MAX = 200
REASON_MAX = 300
EMOJI_MAX_BYTES = 64
SLOW_MODE_MAX_S = 3600

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=CHAT_TEXT_MAX)]
MessageId = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
UserId = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class Command(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Base of what clients send."""


class Join(Command, frozen=True):
    broadcast_id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    token: Annotated[str, msgspec.Meta(max_length=4096)] | None = None
    name: Annotated[str, msgspec.Meta(max_length=NAME_MAX)] | None = None
    #: For who comes back: the id of the last message they have. `joined.recentMessages` then begins after it, and
    #: `deletedMessages` and `messagesMissed` count.
    since: MessageId | None = None


class Leave(Command, frozen=True):
    pass


class ChatMessage(Command, frozen=True):
    """With a `clientId` of its own choice a client may send the same message again when it did not hear the answer: it
    is stored and sent to the room once."""

    text: Text
    client_id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] | None = None


class Reaction(Command, frozen=True):
    emoji: Annotated[str, msgspec.Meta(min_length=1, max_length=16)]


class RaiseHand(Command, frozen=True):
    note: Annotated[str, msgspec.Meta(max_length=NOTE_MAX)] | None = None


class LowerHand(Command, frozen=True):
    """Without `user_id` one's own hand; with it, somebody else's (moderators)."""

    user_id: UserId | None = None


class Mute(Command, frozen=True):
    user_id: UserId


class Unmute(Command, frozen=True):
    user_id: UserId


class Remove(Command, frozen=True):
    """Close the person's sockets and media now; `ban` also keeps them out of this broadcast, for good or `until`. A
    guest's ban also holds for whoever comes without an account from the same address."""

    user_id: UserId
    reason: Annotated[str, msgspec.Meta(max_length=REASON_MAX)] | None = None
    ban: bool = False
    until: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class MoveHand(Command, frozen=True):
    """To this place in the queue; 1 is the next."""

    user_id: UserId
    position: Annotated[int, msgspec.Meta(ge=1, le=1000)]


class MuteAll(Command, frozen=True):
    """Everyone on the stage whose role is weaker than one's own. The ack says whom: `{userIds}`."""


class InviteToSpeak(Command, frozen=True):
    """Ask a listener on the stage, who answers with `acceptInvite` or `declineInvite`."""

    user_id: UserId


class AcceptInvite(Command, frozen=True):
    """Become a speaker of this broadcast."""


class DeclineInvite(Command, frozen=True):
    pass


class MoveToAudience(Command, frozen=True):
    """Take a speaker off the stage: their audio ends now and they are a listener. Withdraws an invitation, too."""

    user_id: UserId


class DeleteMessage(Command, frozen=True):
    message_id: MessageId


class ClearMessages(Command, frozen=True):
    """Delete everything this person has written."""

    user_id: UserId


class SlowMode(Command, frozen=True):
    """How long everyone but moderators waits between two messages; 0 ends it. Who is too soon gets the error
    `slow_mode` with `retryAfterMs`."""

    seconds: Annotated[int, msgspec.Meta(ge=0, le=SLOW_MODE_MAX_S)]


class SetChatMode(Command, frozen=True):
    mode: ChatMode


class LockRoom(Command, frozen=True):
    """While it is locked nobody new comes in: only who was in already, and who has a role."""

    locked: bool


class ListMembers(Command, frozen=True):
    """Everyone in the room, page by page; answered in the ack as `{items, nextCursor}`."""

    cursor: Annotated[str, msgspec.Meta(max_length=128)] | None = None


#: Event name on the wire -> command type.
COMMANDS: dict[str, type[Command]] = {
    "join": Join,
    "leave": Leave,
    "chatMessage": ChatMessage,
    "reaction": Reaction,
    "raiseHand": RaiseHand,
    "lowerHand": LowerHand,
    "mute": Mute,
    "unmute": Unmute,
    "remove": Remove,
    "listMembers": ListMembers,
    "moveHand": MoveHand,
    "muteAll": MuteAll,
    "inviteToSpeak": InviteToSpeak,
    "acceptInvite": AcceptInvite,
    "declineInvite": DeclineInvite,
    "moveToAudience": MoveToAudience,
    "deleteMessage": DeleteMessage,
    "clearMessages": ClearMessages,
    "slowMode": SlowMode,
    "chatMode": SetChatMode,
    "lockRoom": LockRoom,
}
#: Command type -> event name.
COMMAND_NAMES = {command: name for name, command in COMMANDS.items()}


class Value(msgspec.Struct, frozen=True, rename="camel"):
    """Base of what the server sends inside events."""


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
