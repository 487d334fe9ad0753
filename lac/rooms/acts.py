"""The names of what moderators do, as the audit log has them."""

from __future__ import annotations

from enum import StrEnum

from lac.broadcasts.ledger import Audited
from lac.clock import utc_now


class RoomAct(StrEnum):
    MUTED = "room.muted"
    UNMUTED = "room.unmuted"
    ALL_MUTED = "room.all_muted"
    REMOVED = "room.removed"
    BANNED = "room.banned"
    BAN_LIFTED = "room.ban_lifted"
    HAND_LOWERED = "room.hand_lowered"
    HAND_MOVED = "room.hand_moved"
    INVITED = "room.invited"
    INVITE_ACCEPTED = "room.invite_accepted"
    INVITE_DECLINED = "room.invite_declined"
    INVITE_WITHDRAWN = "room.invite_withdrawn"
    MOVED_TO_AUDIENCE = "room.moved_to_audience"
    ROLE_GIVEN = "room.role_given"
    ROLE_TAKEN = "room.role_taken"
    MESSAGE_DELETED = "room.message_deleted"
    MESSAGES_CLEARED = "room.messages_cleared"
    INVITE_LINK_USED = "room.invite_link_used"
    INVITE_LINK_RENEWED = "room.invite_link_renewed"
    STREAM_KEY_RENEWED = "room.stream_key_renewed"
    SETTINGS_CHANGED = "room.settings_changed"
    RECORDING_STARTED = "recording.started"
    RECORDING_STOPPED = "recording.stopped"
    RECORDING_REMOVED = "recording.removed"


def audited(act: RoomAct, actor_id: str, target_id: str | None = None, **detail: object) -> Audited:
    """A line of the audit log about what is being done now. What is None in `detail` is left out."""
    known = {name: value for name, value in detail.items() if value is not None}
    return Audited(act, actor_id, target_id, known, utc_now())
