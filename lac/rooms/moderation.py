"""What moderators do in a room: the shell round the commands of `RoomState` that change rights, chat and settings.

What cannot wait (mute, remove, move to audience) happens in memory and in the media first, then is written down. What
can (messages, settings, a role that somebody gains) is written first, with its line in the audit log, and then told;
when the database is away nothing of it has happened. Whatever writes runs in a task of the owner's, one after the
other, so that memory and database change in the same order and a caller who goes away leaves nothing half done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Protocol

import trio

from lac.broadcasts import policy
from lac.broadcasts.model import ChatMode, Role
from lac.clock import utc_now
from lac.errors import ForbiddenError, InvalidInputError, NotFoundError
from lac.rooms.acts import RoomAct, audited
from lac.rooms.commands import (
    AcceptInvite,
    ClearMessages,
    Command,
    DeclineInvite,
    DeleteMessage,
    InviteToSpeak,
    LockRoom,
    LowerHand,
    MoveHand,
    MoveToAudience,
    Mute,
    MuteAll,
    SetChatMode,
    SlowMode,
    Unmute,
)
from lac.rooms.state import Actor, Notice, RoomState
from lac.rooms.values import MutedAll, Value

if TYPE_CHECKING:
    from lac.rooms.room_records import RoomRecords


class ModeratedBroadcast(Protocol):
    """What moderation needs of the broadcast."""

    def media_role(self, person_id: str) -> Role | None:
        """The role of somebody who has media sessions open, in the room or not."""

    def publishers(self) -> Mapping[str, Role]:
        """Everyone with a media session that sends."""

    async def absent_role(self, person_id: str) -> Role:
        """The role of an account that is not here now."""

    def person_muted(self, person_id: str) -> None: ...

    def person_unmuted(self, person_id: str) -> None: ...

    def change_role(self, person_id: str, role: Role) -> None:
        """It counts at once: in the room, for the media, for whoever is just coming in."""

    async def own(self, job: Callable[[], Awaitable[None]]) -> None:
        """Run it in a task that does not end with the caller, and wait for it."""


class Moderation:
    """`chat_order` is held while the chat is written: what is deleted then has all been sent before."""

    def __init__(
        self,
        owner: ModeratedBroadcast,
        records: RoomRecords,
        state: RoomState,
        tell: Callable[[list[Notice]], None],
        chat_order: trio.Lock,
    ) -> None:
        self._owner = owner
        self._records = records
        self._state = state
        self._tell = tell
        self._chat_order = chat_order
        #: Roles and settings change one after the other. Each who waits is a moderator or was invited.
        self.order = trio.Lock()

    async def handle(self, actor: Actor, command: Command) -> Value | None:
        match command:
            case MuteAll():
                return self._mute_all(actor)
            case Mute(user_id=person_id):
                self._tell(self._state.mute(actor, person_id, await self.role_of(actor, person_id)))
                self._owner.person_muted(person_id)
                self._records.audit(audited(RoomAct.MUTED, actor.id, person_id))
            case Unmute(user_id=person_id):
                self._tell(self._state.unmute(actor, person_id, await self.role_of(actor, person_id)))
                self._owner.person_unmuted(person_id)
                self._records.audit(audited(RoomAct.UNMUTED, actor.id, person_id))
            case LowerHand(user_id=person_id):
                notices = self._state.lower_hand(actor, person_id)
                self._tell(notices)
                if notices and person_id is not None and person_id != actor.id:
                    self._records.audit(audited(RoomAct.HAND_LOWERED, actor.id, person_id))
            case MoveHand(user_id=person_id, position=position):
                self._tell(self._state.move_hand(actor, person_id, position))
                self._records.audit(audited(RoomAct.HAND_MOVED, actor.id, person_id, position=position))
            case InviteToSpeak(user_id=person_id):
                self._invite(actor, person_id)
            case AcceptInvite():
                by = self._state.invites.take(actor.id)
                await self._owner.own(partial(self._grant, actor.id, by))
            case DeclineInvite():
                self._tell(self._state.decline_invite(actor.id))
                self._records.audit(audited(RoomAct.INVITE_DECLINED, actor.id, actor.id))
            case MoveToAudience(user_id=person_id):
                await self._move_to_audience(actor, person_id)
            case DeleteMessage(message_id=message_id):
                await self._owner.own(partial(self._delete_message, actor, message_id))
            case ClearMessages(user_id=person_id):
                policy.may_act_on(actor.role, await self.role_of(actor, person_id, may_be_absent=True))
                await self._owner.own(partial(self._clear_messages, actor, person_id))
            case SlowMode(seconds=seconds):
                await self._owner.own(partial(self._change_settings, actor, slow_mode_s=seconds))
            case SetChatMode(mode=mode):
                await self._owner.own(partial(self._change_settings, actor, chat_mode=mode))
            case LockRoom(locked=locked):
                await self._owner.own(partial(self._change_settings, actor, locked=locked))
            case _:
                raise InvalidInputError("You are in the room already.", code="already_joined")
        return None

    async def role_of(self, actor: Actor, person_id: str, *, may_be_absent: bool = False) -> Role:
        """The role of whoever is commanded about: in the room, on the stage, or (muted, or to be banned) away."""
        policy.may_moderate(actor.role)
        role = self._state.role_of(person_id) or self._owner.media_role(person_id)
        if role is not None:
            return role
        if not may_be_absent and not self._state.is_muted(person_id):
            raise NotFoundError("Nobody with this id is in the show.", code="no_such_person")
        role = await self._owner.absent_role(person_id)
        self.check_still(actor)
        return role

    def check_still(self, actor: Actor) -> None:
        """After a wait: whoever began it may have lost the right meanwhile."""
        role = self._state.role_of(actor.id)
        if role is not None:
            policy.may_moderate(role)
        elif self._state.kept_out.has(actor.id, None, utc_now()):
            raise ForbiddenError("You have been removed from this show.", code="removed")

    def _mute_all(self, actor: Actor) -> MutedAll:
        muted, notices = self._state.mute_all(actor, self._owner.publishers())
        self._tell(notices)
        for person_id in muted:
            self._owner.person_muted(person_id)
        self._records.audit(audited(RoomAct.ALL_MUTED, actor.id, userIds=muted))
        return MutedAll(user_ids=muted)

    def _invite(self, actor: Actor, person_id: str) -> None:
        if person_id not in self._state:
            policy.may_moderate(actor.role)
            raise NotFoundError("Nobody with this id is in the show.", code="no_such_person")
        self._tell(self._state.invite(actor, person_id))
        self._records.audit(audited(RoomAct.INVITED, actor.id, person_id))

    async def _move_to_audience(self, actor: Actor, person_id: str) -> None:
        role = actor.role if person_id == actor.id else await self.role_of(actor, person_id)
        self._state.check_move_to_audience(actor, person_id, role)
        self._tell(self._state.withdraw_invite(person_id))
        if role is Role.LISTENER:
            self._records.audit(audited(RoomAct.INVITE_WITHDRAWN, actor.id, person_id))
            return
        self._owner.change_role(person_id, Role.LISTENER)
        await self._owner.own(partial(self._take_role, actor, person_id, role))

    # in tasks of the owner's

    async def _grant(self, person_id: str, by: str) -> None:
        line = audited(RoomAct.INVITE_ACCEPTED, person_id, person_id, invitedBy=by)
        try:
            async with self.order:
                role = await self._records.grant_speaker(person_id, by, line)
                self._tell(self._state.accepted(person_id))
                self._owner.change_role(person_id, role)
        except Exception:
            self._state.invites.put_back(person_id, by)
            raise

    async def _take_role(self, actor: Actor, person_id: str, role: Role) -> None:
        async with self.order:
            await self._records.take_role(person_id, audited(RoomAct.MOVED_TO_AUDIENCE, actor.id, person_id, role=role))
            # Once more: a role may have been given while this one waited for its turn.
            self._owner.change_role(person_id, Role.LISTENER)

    async def _delete_message(self, actor: Actor, message_id: str) -> None:
        async with self._chat_order:
            self.check_still(actor)
            line = audited(RoomAct.MESSAGE_DELETED, actor.id)
            await self._records.delete_message(message_id, actor.role, line)
            self._tell(self._state.delete_message(message_id))

    async def _clear_messages(self, actor: Actor, person_id: str) -> None:
        async with self._chat_order:
            self.check_still(actor)
            line = audited(RoomAct.MESSAGES_CLEARED, actor.id, person_id)
            cleared = await self._records.clear_messages(person_id, line)
            self._tell(self._state.clear_messages(person_id, cleared))

    async def _change_settings(
        self,
        actor: Actor,
        *,
        slow_mode_s: int | None = None,
        chat_mode: ChatMode | None = None,
        locked: bool | None = None,
    ) -> None:
        async with self.order:
            self.check_still(actor)
            settings = self._state.with_settings(actor, slow_mode_s=slow_mode_s, chat_mode=chat_mode, locked=locked)
            if settings == self._state.settings:
                return
            line = audited(RoomAct.SETTINGS_CHANGED, actor.id, slowMode=slow_mode_s, chatMode=chat_mode, locked=locked)
            await self._records.store_settings(settings, line)
            self._tell(self._state.change_settings(settings))
