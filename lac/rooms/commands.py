"""What clients send on `/ws`, as typed values: `{"event": name, "data": {...}, "ack": n?}`. JSON is camelCase; times
are RFC 3339 UTC.

Unknown fields are refused, so that a misspelt one is an error and not a silence.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from lac.broadcasts.model import ChatMode

CHAT_TEXT_MAX = 2_000
NAME_MAX = 64
NOTE_MAX = 200
REASON_MAX = 300
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
