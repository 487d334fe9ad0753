"""What a broadcast is: its record, its states and the moves between them. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from lac.errors import ConflictError


class BroadcastStatus(StrEnum):
    SCHEDULED = "scheduled"
    LIVE = "live"
    ENDED = "ended"


class Visibility(StrEnum):
    #: Listed, and open to anonymous listeners.
    PUBLIC = "public"
    #: Open to whoever has the link; never listed.
    UNLISTED = "unlisted"
    #: Only for accounts that have a part in it, and for whoever comes by its invite link.
    PRIVATE = "private"


class ChatMode(StrEnum):
    """Who may write in the chat. Those who moderate always may."""

    OPEN = "open"
    #: Those who follow the host, and those who have a role.
    FOLLOWERS = "followers"
    CLOSED = "closed"


class Role(StrEnum):
    """A person's part in one broadcast, strongest first."""

    ADMIN = "admin"
    HOST = "host"
    COHOST = "cohost"
    MODERATOR = "moderator"
    SPEAKER = "speaker"
    LISTENER = "listener"


class BroadcastAction(StrEnum):
    START = "start"
    END = "end"


TRANSITIONS: dict[tuple[BroadcastStatus, BroadcastAction], BroadcastStatus] = {
    (BroadcastStatus.SCHEDULED, BroadcastAction.START): BroadcastStatus.LIVE,
    # Starting what is live is what a host does who reloads the page: it changes nothing.
    (BroadcastStatus.LIVE, BroadcastAction.START): BroadcastStatus.LIVE,
    (BroadcastStatus.LIVE, BroadcastAction.END): BroadcastStatus.ENDED,
    (BroadcastStatus.ENDED, BroadcastAction.END): BroadcastStatus.ENDED,
}


def next_status(status: BroadcastStatus, action: BroadcastAction) -> BroadcastStatus:
    """The status after `action`. A move that does not exist raises `ConflictError` (`not_live`, `already_ended`)."""
    try:
        return TRANSITIONS[status, action]
    except KeyError:
        if status is BroadcastStatus.ENDED:
            raise ConflictError(
                "This show has ended. Create a new one to go live again.", code="already_ended"
            ) from None
        raise ConflictError("This show is not live.", code="not_live") from None


@dataclass(frozen=True, slots=True)
class RoomSettings:
    """What moderators set for the room of one broadcast."""

    #: Seconds that a person has to wait between two messages; 0: none.
    slow_mode_s: int = 0
    chat_mode: ChatMode = ChatMode.OPEN
    #: Nobody new comes in: only those who were in, and those with a role.
    locked: bool = False


@dataclass(frozen=True, slots=True)
class Broadcast:
    """One show. Times are aware UTC."""

    id: str
    host_id: str
    host_name: str
    title: str
    description: str
    status: BroadcastStatus
    visibility: Visibility
    tags: tuple[str, ...]
    recording_enabled: bool
    scheduled_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    created_at: datetime
    updated_at: datetime
    #: Raised to make all earlier stream keys invalid.
    stream_key_version: int = 1
    settings: RoomSettings = RoomSettings()
    #: Raised to make all earlier invite links, and what came of them, invalid.
    invite_version: int = 1
    #: Encoded for HLS from the beginning on, whether or not somebody listens: who comes late can go back.
    rewind_enabled: bool = False
