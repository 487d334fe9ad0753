"""Who may do what in a show, changed while it is on: roles, admins, sign-ins, invite links, bans, and what its record
says. `OnAir.rights`.

A right that is taken away ends at once, in the room and for the media. All of it counts in `Changes`, so that whoever
is just coming in is looked at again. What must not stay half done because its caller went away runs in a task of ours,
and the caller waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import trio

from lac.auth.sign_ins import SignInsEnded
from lac.broadcasts import policy
from lac.broadcasts.admission import GUEST_NAME, Admission, for_broadcast
from lac.broadcasts.hls import HlsDesk
from lac.broadcasts.jobs import Jobs
from lac.broadcasts.ledger import Audited
from lac.broadcasts.live_broadcast import LiveBroadcast
from lac.broadcasts.model import Broadcast, Role, Visibility
from lac.clock import utc_now
from lac.errors import InvalidInputError, NotFoundError
from lac.identity import Identity, IdentityKind
from lac.ids import new_id
from lac.rooms.acts import RoomAct, audited
from lac.rooms.kept_out import Exclusion
from lac.rooms.records import Records
from lac.rooms.room import check_ban
from lac.rooms.state import Actor
from lac.rooms.text import clean_name, one_line

if TYPE_CHECKING:
    from lac.auth.service import AuthService
    from lac.broadcasts.service import BroadcastService


class Rights:
    """Every method that takes an `identity` asks the policy itself. `shows` are those that have a task."""

    def __init__(
        self,
        shows: Mapping[str, LiveBroadcast],
        admission: Admission,
        records: Records,
        broadcasts: BroadcastService,
        auth: AuthService,
        hls: HlsDesk,
        jobs: Jobs,
    ) -> None:
        self._shows = shows
        self._admission = admission
        self._records = records
        self._broadcasts = broadcasts
        self._auth = auth
        self._hls = hls
        self._jobs = jobs

    # parts in the show

    async def set_role(self, identity: Identity, broadcast_id: str, user_id: str, role: Role | None) -> None:
        """Give an account a part in the broadcast, or (None) take its part away. It counts at once, on their sockets
        and for their media."""
        await self._jobs.run(partial(self._set_role, identity, broadcast_id, user_id, role))

    def role_changed(self, broadcast_id: str, user_id: str, role: Role | None) -> None:
        """A role was granted or (None) taken away: it counts at once, for everyone to see."""
        self._admission.changes.count += 1
        show = self._shows.get(broadcast_id)
        if show is not None and not show.over:
            show.change_role(user_id, role)

    def sign_ins_ended(self, ended: SignInsEnded) -> None:
        """Whoever came in by one of these sign-ins is let go, sockets and media, at once."""
        self._admission.changes.count += 1
        for show in list(self._shows.values()):
            if not show.over:
                show.sign_ins_ended(ended)

    # its record and its keys

    async def record_changed(self, identity: Identity, broadcast: Broadcast) -> None:
        """The record has been changed (title, visibility) by somebody who may: whoever comes in from now on gets the
        new one, and who may not listen any more is let go. A show that is to be recorded from now on is, at once;
        one that is not goes on being recorded until somebody stops that, or it ends."""
        await self._jobs.run(partial(self._record_changed, broadcast, by=identity.id))

    async def renew_stream_key(self, identity: Identity, broadcast_id: str) -> Broadcast:
        """A new stream key; an encoder that publishes with the old one is cut off."""
        return await self._jobs.run(partial(self._renew_stream_key, identity, broadcast_id))

    async def renew_invite(self, identity: Identity, broadcast_id: str) -> Broadcast:
        """A new invite link; who came by the old one, and has been given nothing more since, is let go."""
        return await self._jobs.run(partial(self._renew_invite, identity, broadcast_id))

    async def accept_invite(
        self, identity: Identity | None, broadcast_id: str, invite: str, name: str | None
    ) -> str | None:
        """Take up an invite link. An account may listen from then on; a guest gets the token (returned) to join and
        listen with. Raises `NotFoundError` (invite_invalid)."""
        identity = for_broadcast(identity, broadcast_id)
        broadcast = await self._broadcasts.accept_invite(identity, broadcast_id, invite)
        if identity is not None and identity.kind is IdentityKind.USER:
            return None
        guest_id = identity.id if identity is not None and identity.is_guest else f"guest-{new_id()}"
        display_name = clean_name(name, GUEST_NAME if identity is None else identity.display_name)
        return self._auth.issue_guest(broadcast_id, guest_id, display_name, invite_version=broadcast.invite_version)

    # bans

    async def remove_person(
        self,
        identity: Identity,
        broadcast_id: str,
        person_id: str,
        reason: str | None,
        *,
        ban: bool,
        until: datetime | None = None,
    ) -> None:
        """The same as the room's command `remove`, for a moderator who is not in the room."""
        check_ban(ban=ban, until=until)
        broadcast = await self._broadcasts.get(identity, broadcast_id)
        actor = Actor(identity.id, await self._admission.account_role(identity, broadcast))
        policy.may_moderate(actor.role)
        show = self._shows.get(broadcast_id)
        if show is not None and not show.over:
            await show.room.remove(actor, person_id, reason, ban=ban, until=until)
            return
        policy.may_act_on(actor.role, await self._broadcasts.account_role(person_id, broadcast))
        if not ban:
            raise NotFoundError("Nobody with this id is in the show.", code="no_such_person")
        if person_id == actor.id:
            raise InvalidInputError("You cannot ban yourself.", code="not_yourself")
        reason = one_line(reason or "") or None
        line = audited(
            RoomAct.BANNED, actor.id, person_id, reason=reason, until=None if until is None else until.isoformat()
        )
        exclusion = Exclusion(person_id, None, until)
        await self._jobs.run(partial(self._records.add_ban, broadcast_id, exclusion, reason, line))
        self._admission.changes.count += 1
        kept_out = self._admission.kept_out.get(broadcast_id)
        if kept_out is not None:  # a room that opened meanwhile
            kept_out.add(exclusion)

    async def lift_ban(self, identity: Identity, broadcast_id: str, person_id: str) -> None:
        """The person may come back, also one who was removed without a ban. No error where there is neither."""
        broadcast = await self._broadcasts.get(identity, broadcast_id)
        policy.may_moderate(await self._admission.account_role(identity, broadcast))
        line = audited(RoomAct.BAN_LIFTED, identity.id, person_id)
        await self._jobs.run(partial(self._lift_ban, broadcast_id, person_id, line))

    # in tasks of ours

    async def _set_role(self, identity: Identity, broadcast_id: str, user_id: str, role: Role | None) -> None:
        show = self._shows.get(broadcast_id)
        async with trio.Lock() if show is None else show.room.moderation.order:
            if show is not None:
                await show.records.withdraw_decisions(user_id)
            await self._broadcasts.set_role(identity, broadcast_id, user_id, role)
            self.role_changed(broadcast_id, user_id, role)

    async def _record_changed(self, broadcast: Broadcast, *, by: str) -> None:
        self._hls.updated(broadcast)
        show = self._shows.get(broadcast.id)
        if show is None or show.over or broadcast.status is not show.broadcast.status:
            return
        before, show.broadcast = show.broadcast, broadcast
        if broadcast.recording_enabled and not before.recording_enabled and show.recorder is not None:
            show.recorder.switch_on(by)
        if broadcast.visibility is not Visibility.PRIVATE:
            return
        if before.visibility is broadcast.visibility and before.invite_version == broadcast.invite_version:
            return
        self._admission.changes.count += 1  # for those who are just coming in
        accounts = [person_id for person_id in show.people() if not person_id.startswith(("guest-", "anon-"))]
        invited = await self._broadcasts.with_a_part(broadcast, accounts)
        if not show.over:
            show.keep_only(invited)

    async def _renew_stream_key(self, identity: Identity, broadcast_id: str) -> Broadcast:
        broadcast = await self._broadcasts.reset_stream_key(identity, broadcast_id)
        await self._record_changed(broadcast, by=identity.id)
        show = self._shows.get(broadcast_id)
        if show is not None and not show.over:
            show.stream_key_changed()
        return broadcast

    async def _renew_invite(self, identity: Identity, broadcast_id: str) -> Broadcast:
        broadcast = await self._broadcasts.reset_invite(identity, broadcast_id)
        await self._record_changed(broadcast, by=identity.id)
        return broadcast

    async def _lift_ban(self, broadcast_id: str, person_id: str, line: Audited) -> None:
        kept_out = self._admission.kept_out.get(broadcast_id)
        removed = kept_out is not None and kept_out.has(person_id, None, utc_now())
        show = self._shows.get(broadcast_id)
        if show is not None:
            await show.records.withdraw_decisions(person_id)
        await self._records.lift_ban(broadcast_id, person_id, line, removed=removed)
        self._admission.readmit(broadcast_id, person_id)
