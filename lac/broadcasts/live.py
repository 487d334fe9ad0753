"""The broadcasts on air, and the rooms where people wait for one: each one owned task, in one nursery.

They live under `open_on_air`, never in the request that began them. What must not stay half done because its caller
went away (start, end, remove, a ban) runs in a task of ours, and the caller waits for it.

Starting, ending and removing one broadcast, and opening its waiting room, exclude each other by one lock for each
broadcast: between the row in the database and the task here nobody else gets in. The task of a broadcast never takes
that lock, so whoever holds it may wait for the task.
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import WeakValueDictionary

import structlog
import trio

from lac.auth.sign_ins import SignInsEnded, ignore
from lac.auth.tokens import hash_address
from lac.broadcasts import policy
from lac.broadcasts.hls import HLS_DIRECTORY, HlsDesk
from lac.broadcasts.hls_pass import HlsPass
from lac.broadcasts.ledger import Audited
from lac.broadcasts.live_broadcast import Changes, LiveBroadcast, Means, Visitor, not_live, removed_error
from lac.broadcasts.model import Broadcast, BroadcastAction, BroadcastStatus, Role, Visibility
from lac.broadcasts.service import check_visible
from lac.broadcasts.stage import Closable
from lac.clock import utc_now
from lac.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    TooManyRequestsError,
    UnavailableError,
)
from lac.identity import Identity, IdentityKind
from lac.ids import new_id
from lac.rooms.acts import RoomAct, audited
from lac.rooms.kept_out import Exclusion, KeptOut
from lac.rooms.records import Memory, Records
from lac.rooms.room import Member, Outlet, check_ban
from lac.rooms.state import Actor, RoomState
from lac.rooms.text import clean_name, one_line
from lac.tasks import boundary, start_clean
from lac_media.load import RETRY_AFTER_S
from lac_media.parameters import Direction

if TYPE_CHECKING:
    from lac.auth.service import AuthService
    from lac.broadcasts.service import BroadcastService
    from lac.cdn.origin import HlsOrigin
    from lac.config import Settings
    from lac.db.engine import Database
    from lac.recordings.archive import Archive
    from lac.recordings.manifest import Chapter
    from lac.recordings.model import Recording
    from lac.recordings.show_recorder import ShowRecorder
    from lac_media.engine import Engine
    from lac_media.rooms.session import Session
    from lac_media.rooms.source import LocalSource
    from lac_media.streams.formats import StreamFormat
    from lac_media.streams.listener import StreamListener

log = structlog.get_logger(__name__)

T = TypeVar("T")
S = TypeVar("S", bound=Closable)

#: Ways in, as the sessions' rows name them.
ICECAST, STREAM = "icecast", "stream"
#: Those of encoders, which start a scheduled show by connecting.
ENCODERS = frozenset({"whip", ICECAST})
#: When a player may ask again for a show that has not begun.
STREAM_RETRY_S, STREAM_RETRY_MAX_S = 10.0, 300.0
GUEST_NAME = "Guest"
#: So full the server may be, of where it begins to send listeners to HLS, for some of them to come back.
RETURN_BELOW = 0.8
#: Sockets that one person may have in one room: tabs and devices. Without a bound one account could fill the server.
SOCKETS_PER_PERSON = 20
#: Messages that somebody who comes back gets at once; the rest is in the history.
RESUMED_MAX = 200


@asynccontextmanager
async def open_on_air(
    db: Database,
    engine: Engine,
    broadcasts: BroadcastService,
    auth: AuthService,
    settings: Settings,
    *,
    archive: Archive | None = None,
    origin: HlsOrigin | None = None,
) -> AsyncGenerator[OnAir, None]:
    """Take up the broadcasts that were live when the process stopped, each with its grace period running. On leaving,
    end every task and close every session row; the rows of broadcasts that are live then stay live."""
    async with trio.open_nursery() as nursery:
        on_air = OnAir(nursery, Records(db), engine, broadcasts, auth, settings, archive, origin)
        on_air.hls.restore()
        try:
            await on_air.reopen()
            nursery.start_soon(on_air.hls.keep_origin, broadcasts.find_many)
            auth.sign_ins.on_ended = on_air.sign_ins_ended
            yield on_air
        finally:
            auth.sign_ins.on_ended = ignore
            on_air.refuse_all()
            nursery.cancel_scope.cancel("on air closed")


class OnAir:
    """See the module. Every method that takes an `identity` asks the policy itself."""

    def __init__(
        self,
        nursery: trio.Nursery,
        records: Records,
        engine: Engine,
        broadcasts: BroadcastService,
        auth: AuthService,
        settings: Settings,
        archive: Archive | None = None,
        origin: HlsOrigin | None = None,
    ) -> None:
        self._nursery = nursery
        self._records = records
        self._broadcasts = broadcasts
        self._auth = auth
        self._engine = engine
        self._address_key = settings.jwt_secret
        self._changes = Changes()
        self._offload_from = settings.hls_offload_listeners
        self.hls = HlsDesk(
            self,
            settings.data_dir / HLS_DIRECTORY,
            key=settings.jwt_secret,
            window_s=settings.hls_window_s,
            keep_s=settings.hls_keep_s,
            cdn_url=settings.hls_cdn_url,
            origin=origin,
            start=self._start_task,
        )
        self._means = Means(
            engine, broadcasts, records, settings.host_grace_s, self._own, self.hls, self._changes, archive
        )
        self._shows: dict[str, LiveBroadcast] = {}
        self._locks: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()
        #: Broadcast -> who may not come in: outlives a waiting room that empties, ends with the broadcast.
        self._removed: dict[str, KeptOut] = {}
        self._draining = False
        #: Because the machine, or the operator, allows no more.
        self.listeners_refused = 0

    # the show

    async def start(self, identity: Identity, broadcast_id: str) -> Broadcast:
        """Go live; a no-op for a show that is. Raises `ConflictError` (`already_ended`)."""
        self._check_admitting()
        await self._require_to_run(identity, broadcast_id)
        return await self._own(partial(self._start, broadcast_id))

    async def end(self, identity: Identity, broadcast_id: str) -> Broadcast:
        """End the show for everyone; a no-op for one that has ended. Raises `ConflictError` (`not_live`)."""
        await self._require_to_run(identity, broadcast_id)
        return await self._own(partial(self._end, broadcast_id))

    async def remove(self, identity: Identity, broadcast_id: str) -> None:
        """Delete the broadcast; a show that is live ends first."""
        broadcast = await self._broadcasts.get(identity, broadcast_id)
        policy.may_delete(await self._account_role(identity, broadcast))
        await self._own(partial(self._remove, identity, broadcast_id))

    def listener_count(self, broadcast_id: str) -> int:
        """Listeners that the program reaches now."""
        show = self._shows.get(broadcast_id)
        return show.listener_count if show is not None else 0

    def listeners_by_way(self, broadcast_id: str) -> dict[str, int]:
        """The same by how the program reaches them: "webrtc", "hls", "ogg", "mp3", "aac"."""
        show = self._shows.get(broadcast_id)
        return show.listeners_by_way() if show is not None else {}

    def socket_count(self, broadcast_id: str) -> int:
        show = self._shows.get(broadcast_id)
        return len(show.room) if show is not None else 0

    async def updated(self, identity: Identity, broadcast: Broadcast) -> None:
        """The record has been changed (title, visibility) by somebody who may: whoever comes in from now on gets the
        new one, and who may not listen any more is let go. A show that is to be recorded from now on is, at once;
        one that is not goes on being recorded until somebody stops that, or it ends."""
        await self._own(partial(self._updated, broadcast, by=identity.id))

    async def renew_stream_key(self, identity: Identity, broadcast_id: str) -> Broadcast:
        """A new stream key; an encoder that publishes with the old one is cut off."""
        return await self._own(partial(self._renew_stream_key, identity, broadcast_id))

    async def renew_invite(self, identity: Identity, broadcast_id: str) -> Broadcast:
        """A new invite link; who came by the old one, and has been given nothing more since, is let go."""
        return await self._own(partial(self._renew_invite, identity, broadcast_id))

    async def accept_invite(
        self, identity: Identity | None, broadcast_id: str, invite: str, name: str | None
    ) -> str | None:
        """Take up an invite link. An account may listen from then on; a guest gets the token (returned) to join and
        listen with. Raises `NotFoundError` (invite_invalid)."""
        identity = _for_broadcast(identity, broadcast_id)
        broadcast = await self._broadcasts.accept_invite(identity, broadcast_id, invite)
        if identity is not None and identity.kind is IdentityKind.USER:
            return None
        guest_id = identity.id if identity is not None and identity.is_guest else f"guest-{new_id()}"
        display_name = clean_name(name, GUEST_NAME if identity is None else identity.display_name)
        return self._auth.issue_guest(broadcast_id, guest_id, display_name, invite_version=broadcast.invite_version)

    async def set_role(self, identity: Identity, broadcast_id: str, user_id: str, role: Role | None) -> None:
        """Give an account a part in the broadcast, or (None) take its part away. It counts at once, on their sockets
        and for their media."""
        await self._own(partial(self._set_role, identity, broadcast_id, user_id, role))

    def role_changed(self, broadcast_id: str, user_id: str, role: Role | None) -> None:
        """A role was granted or (None) taken away: it counts at once, for everyone to see."""
        self._changes.count += 1
        show = self._shows.get(broadcast_id)
        if show is not None and not show.over:
            show.change_role(user_id, role)

    async def account_changed(self, user_id: str) -> None:
        """The account has become an admin, or is none any more: look at its role again wherever it is."""
        self._changes.count += 1
        for show in list(self._shows.values()):
            if show.over or (user_id not in show.state and show.media_role(user_id) is None):
                continue
            given = await self._broadcasts.given_role(user_id, show.broadcast)
            if not show.over:
                show.change_role(user_id, given)

    def sign_ins_ended(self, ended: SignInsEnded) -> None:
        """Whoever came in by one of these sign-ins is let go, sockets and media, at once."""
        self._changes.count += 1
        for show in list(self._shows.values()):
            if not show.over:
                show.sign_ins_ended(ended)

    async def drain(self) -> None:
        """Let nobody in any more, and send everyone in a room elsewhere. Shows go on for those who listen, until the
        block of `open_on_air` is left."""
        self._draining = True
        for show in list(self._shows.values()):
            show.room.send_away()
        for stream in self.hls.streams:
            stream.release()
        await trio.lowlevel.checkpoint()

    # recordings

    async def start_recording(self, identity: Identity, broadcast_id: str) -> Recording:
        """Record the show from now on; a no-op while it is recorded. Raises `ConflictError` (not_live)."""
        recorder = await self._recorder_of(identity, broadcast_id)
        return await self._own(partial(recorder.start, identity.id))

    async def stop_recording(self, identity: Identity, broadcast_id: str) -> Recording:
        """End the recording of the show. Raises `ConflictError` (not_live, not_recording)."""
        recorder = await self._recorder_of(identity, broadcast_id)
        return await self._own(partial(recorder.stop, identity.id))

    async def mark_chapter(self, identity: Identity, broadcast_id: str, title: str) -> Chapter:
        """A chapter of the recording begins now. Raises `ConflictError` (not_live, not_recording)."""
        recorder = await self._recorder_of(identity, broadcast_id)
        return recorder.add_chapter(title, identity.id)

    async def _recorder_of(self, identity: Identity, broadcast_id: str) -> ShowRecorder:
        broadcast = await self._broadcasts.get(identity, broadcast_id)
        policy.require(await self._account_role(identity, broadcast), policy.Act.RECORD)
        show = self._shows.get(broadcast_id)
        if show is None or not show.on_air or show.recorder is None:
            raise not_live()
        await show.ready.wait()
        return show.recorder

    # people

    async def join(
        self,
        identity: Identity | None,
        broadcast_id: str,
        name: str | None,
        outlet: Outlet,
        *,
        address: str | None = None,
        since: str | None = None,
    ) -> Member:
        """Take a socket into the room. Its first frame, `joined`, is offered before this returns. `address` is where it
        comes from, `since` the last message that it has.

        Raises `NotFoundError`, `ForbiddenError` (`removed`, `room_locked`), `ConflictError` (`already_ended`),
        `TooManyRequestsError`, `UnavailableError`.
        """
        self._check_admitting()
        if identity is not None and identity.kind is IdentityKind.STREAM_KEY:
            raise ForbiddenError("A stream key is for publishing only. Sign in to join the room.")
        identity = _for_broadcast(identity, broadcast_id)
        address_hash = self._address_hash(identity, address)
        while True:
            # What is checked here must still be so when the socket is let in: nothing is awaited from there on.
            checked_at = self._changes.count
            if identity is not None:
                await self._auth.check_signed_in(identity)
            broadcast = await self._broadcasts.get(identity, broadcast_id)
            if broadcast.status is BroadcastStatus.ENDED:
                raise already_ended()
            role = await self._broadcasts.role_of(identity, broadcast)
            await self._check_not_removed(identity, role, broadcast_id, address_hash)
            visitor = self._room_visitor(identity, role, broadcast_id, name)
            visitor = replace(visitor, address_hash=address_hash)
            show = self._shows.get(broadcast_id)
            if since is not None:
                missed = None
                if show is None or not show.state.knows_message(since):
                    missed = await self._records.missed_messages(broadcast_id, since, RESUMED_MAX)
                    show = self._shows.get(broadcast_id)
                visitor = replace(visitor, since=since, missed=missed)
            if self._changes.count != checked_at:
                continue
            if show is not None and not show.over:
                return self._admit(show, outlet, visitor)
            async with self._lock(broadcast_id):
                show = await self._present(broadcast_id)
                if show is None:
                    broadcast = await self._broadcasts.get(identity, broadcast_id)
                    _check_waiting(broadcast)
                    memory = await self._records.memory(broadcast_id)
                if self._changes.count != checked_at:
                    continue
                # From here without an `await`: a waiting room exists while somebody's socket is in it.
                if show is None:
                    self._check_may_enter(visitor, broadcast)
                    show = self._open(broadcast, memory)
                return self._admit(show, outlet, visitor)

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
        actor = Actor(identity.id, await self._account_role(identity, broadcast))
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
        await self._own(partial(self._records.add_ban, broadcast_id, exclusion, reason, line))
        self._changes.count += 1
        kept_out = self._removed.get(broadcast_id)
        if kept_out is not None:  # a room that opened meanwhile
            kept_out.add(exclusion)

    async def lift_ban(self, identity: Identity, broadcast_id: str, person_id: str) -> None:
        """The person may come back, also one who was removed without a ban. No error where there is neither."""
        broadcast = await self._broadcasts.get(identity, broadcast_id)
        policy.may_moderate(await self._account_role(identity, broadcast))
        line = audited(RoomAct.BAN_LIFTED, identity.id, person_id)
        await self._own(partial(self._lift_ban, broadcast_id, person_id, line))

    def readmit(self, broadcast_id: str, person_id: str) -> None:
        """A ban was lifted: the person may come back in."""
        kept_out = self._removed.get(broadcast_id)
        if kept_out is not None:
            kept_out.readmit(person_id)

    async def open_media_session(
        self,
        identity: Identity | None,
        broadcast_id: str,
        direction: Direction,
        kind: str,
        *,
        address: str | None = None,
    ) -> Session:
        """A media session that the caller may have: to listen, or (`Direction.SEND`) to be heard.

        `kind` is the way in: "mediasoup", "whip" or "whep". An encoder that connects by WHIP starts a scheduled show.
        Raises `NotFoundError`, `ForbiddenError` (`removed`, `room_locked`), `ConflictError` (`not_live`,
        `stage_full`), `TooManyRequestsError`, `UnavailableError`.
        """
        return await self._open_media(
            identity,
            broadcast_id,
            direction,
            kind,
            address,
            lambda show, visitor: show.open_session(visitor, direction, kind),
        )

    async def open_source(self, identity: Identity, broadcast_id: str, *, address: str | None = None) -> LocalSource:
        """The same for an Icecast source client, who speaks with the stream key and starts a scheduled show."""
        return await self._open_media(
            identity,
            broadcast_id,
            Direction.SEND,
            ICECAST,
            address,
            lambda show, visitor: show.open_source(visitor, ICECAST),
        )

    async def open_stream(
        self,
        identity: Identity | None,
        broadcast_id: str,
        stream_format: StreamFormat,
        *,
        address: str | None = None,
        limited_by: str | None = None,
    ) -> StreamListener:
        """A listener of the program by plain HTTP. `limited_by` stands for where they come from, for the limit by
        address. Raises the same, `UnavailableError` (`not_live`) before the show, `ConflictError` (`already_ended`)
        after it, and `TooManyRequestsError` (`too_many_streams`) or `UnavailableError` (`streams_full`)."""
        try:
            return await self._open_media(
                identity,
                broadcast_id,
                Direction.RECV,
                STREAM,
                address,
                lambda show, visitor: show.open_stream(visitor, stream_format, STREAM, limited_by=limited_by),
            )
        except ConflictError as error:
            if error.code == "not_live":
                raise await self._no_stream(identity, broadcast_id) from None
            raise

    async def check_stream(
        self, identity: Identity | None, broadcast_id: str, *, address: str | None = None
    ) -> Broadcast:
        """Raise what `open_stream` would, but for what only depends on how full it is."""
        self._check_admitting()
        identity = _for_broadcast(identity, broadcast_id)
        address_hash = self._address_hash(identity, address)
        broadcast, _ = await self._check_media(identity, broadcast_id, Direction.RECV, address_hash)
        show = self._shows.get(broadcast_id)
        if show is None or show.over or not show.on_air:
            raise await self._no_stream(identity, broadcast_id)
        return broadcast

    async def set_song(self, identity: Identity, broadcast_id: str, song: str | None) -> None:
        """What the encoder with the stream key is playing: the title of the plain streams. Raises `ConflictError`
        (`not_live`, `no_source`)."""
        await self._check_media(_for_broadcast(identity, broadcast_id), broadcast_id, Direction.SEND, None)
        show = self._shows.get(broadcast_id)
        if show is None or show.over or not show.on_air:
            raise not_live()
        show.set_song(song)

    def end_streams(self) -> None:
        """The server stops: players and source clients are hung up on, and come back where they find it again."""
        for show in list(self._shows.values()):
            show.end_streams()

    async def _no_stream(self, identity: Identity | None, broadcast_id: str) -> ConflictError | UnavailableError:
        broadcast = await self._broadcasts.get(identity, broadcast_id)
        if broadcast.status is BroadcastStatus.ENDED:
            return already_ended()
        wait_s = STREAM_RETRY_S
        if broadcast.scheduled_at is not None:
            until_then_s = (broadcast.scheduled_at - utc_now()).total_seconds()
            wait_s = min(max(until_then_s, STREAM_RETRY_S), STREAM_RETRY_MAX_S)
        return UnavailableError("This show has not begun yet. Try again later.", retry_after_s=wait_s, code="not_live")

    async def _open_media(
        self,
        identity: Identity | None,
        broadcast_id: str,
        direction: Direction,
        kind: str,
        address: str | None,
        opening: Callable[[LiveBroadcast, Visitor], Awaitable[S]],
    ) -> S:
        self._check_admitting()
        identity = _for_broadcast(identity, broadcast_id)
        address_hash = self._address_hash(identity, address)
        checked_at = self._changes.count
        broadcast, role = await self._check_media(identity, broadcast_id, direction, address_hash)
        visitor = replace(_media_visitor(identity, role), address_hash=address_hash)
        if direction is Direction.RECV and not policy.is_allowed(role, policy.Act.PUBLISH):
            self._check_load(broadcast_id, visitor, radio=kind == STREAM)
        if (
            direction is Direction.SEND
            and kind in ENCODERS
            and broadcast.status is BroadcastStatus.SCHEDULED
            and policy.is_allowed(role, policy.Act.RUN)
        ):
            await self._own(partial(self._start, broadcast_id))
        show = self._shows.get(broadcast_id)
        if show is None or not show.on_air:
            raise not_live()
        await show.ready.wait()
        self._check_admitting()
        session = await opening(show, visitor)
        while self._changes.count != checked_at:
            # Somebody's rights changed while it opened. What changes from now on finds the session by itself.
            checked_at = self._changes.count
            try:
                _, role = await self._check_media(identity, broadcast_id, direction, address_hash)
            except BaseException:
                session.close("removed")
                raise
            show.stage.change_role(visitor.id, role)
        return session

    def check_may_hear_speakers(self, session: Session) -> None:
        """Raise `ForbiddenError` unless the session's owner may be sent single speakers: those on stage may."""
        show = self._shows.get(session.room.id)
        if show is None or show.over:
            raise not_live()
        show.check_may_hear_speakers(session)

    # what HLS asks

    def rights_changed(self) -> int:
        return self._changes.count

    def live_broadcast(self, broadcast_id: str) -> Broadcast | None:
        show = self._shows.get(broadcast_id)
        return show.broadcast if show is not None and show.on_air and not show.over else None

    async def check_may_listen(
        self, identity: Identity | None, broadcast_id: str, address_hash: str | None, *, entering: bool
    ) -> Broadcast:
        """As for a media session; `entering`: newcomers are kept out while the room is locked."""
        self._check_admitting()
        identity = _for_broadcast(identity, broadcast_id)
        broadcast, role = await self._check_media(identity, broadcast_id, Direction.RECV, address_hash)
        show = self._shows.get(broadcast_id)
        if entering and show is not None and show.on_air:
            await show.ready.wait()
            show.check_may_enter(replace(_media_visitor(identity, role), address_hash=address_hash))
        return broadcast

    async def identify_listener(self, broadcast_id: str, listener: HlsPass) -> Identity | None:
        if listener.person_id is None:
            return None
        if listener.is_guest:
            return Identity(
                IdentityKind.GUEST,
                listener.person_id,
                GUEST_NAME,
                broadcast_id=broadcast_id,
                invite_version=listener.invite_version,
            )
        return await self._auth.identify_sign_in(listener.person_id, listener.sign_in_id or "")

    def check_not_kept_out(self, broadcast_id: str, person_id: str | None, address_hash: str | None) -> None:
        kept_out = self._removed.get(broadcast_id)
        if kept_out is not None and kept_out.has(person_id, address_hash, utc_now()):
            raise removed_error()

    def address_hash(self, identity: Identity | None, address: str | None) -> str | None:
        return self._address_hash(identity, address)

    def prefers_hls(self) -> bool:
        return not self._engine.may_take_listener or self._engine.listeners >= self._offload_from

    def room_for_listeners(self) -> int:
        """Below where people are sent to HLS: they are not to go to and fro."""
        if not self._engine.may_take_listener:
            return 0
        return max(0, int(self._offload_from * RETURN_BELOW) - self._engine.listeners)

    # for open_on_air

    async def reopen(self) -> None:
        """Take up what was live when the process stopped. One that cannot be is logged and left as it is."""
        closed = await self._records.close_open_sessions(None, "lost")
        if closed:
            log.warning("session rows were left open by the last run", count=closed)
        for broadcast_id in await self._broadcasts.live_ids():
            with boundary("reopen a broadcast", broadcast_id=broadcast_id):
                await self._start(broadcast_id, reopened=True)

    def refuse_all(self) -> None:
        self._draining = True

    # in tasks of ours

    async def _set_role(self, identity: Identity, broadcast_id: str, user_id: str, role: Role | None) -> None:
        show = self._shows.get(broadcast_id)
        async with trio.Lock() if show is None else show.room.moderation.order:
            if show is not None:
                await show.withdraw_decisions(user_id)
            await self._broadcasts.set_role(identity, broadcast_id, user_id, role)
            self.role_changed(broadcast_id, user_id, role)

    async def _updated(self, broadcast: Broadcast, *, by: str) -> None:
        self.hls.updated(broadcast)
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
        self._changes.count += 1  # for those who are just coming in
        accounts = [person_id for person_id in show.people() if not person_id.startswith(("guest-", "anon-"))]
        invited = await self._broadcasts.with_a_part(broadcast, accounts)
        if not show.over:
            show.keep_only(invited)

    async def _renew_stream_key(self, identity: Identity, broadcast_id: str) -> Broadcast:
        broadcast = await self._broadcasts.reset_stream_key(identity, broadcast_id)
        await self._updated(broadcast, by=identity.id)
        show = self._shows.get(broadcast_id)
        if show is not None and not show.over:
            show.stream_key_changed()
        return broadcast

    async def _renew_invite(self, identity: Identity, broadcast_id: str) -> Broadcast:
        broadcast = await self._broadcasts.reset_invite(identity, broadcast_id)
        await self._updated(broadcast, by=identity.id)
        return broadcast

    async def _lift_ban(self, broadcast_id: str, person_id: str, line: Audited) -> None:
        kept_out = self._removed.get(broadcast_id)
        removed = kept_out is not None and kept_out.has(person_id, None, utc_now())
        show = self._shows.get(broadcast_id)
        if show is not None:
            await show.withdraw_decisions(person_id)
        await self._records.lift_ban(broadcast_id, person_id, line, removed=removed)
        self.readmit(broadcast_id, person_id)

    async def _start(self, broadcast_id: str, *, reopened: bool = False) -> Broadcast:
        async with self._lock(broadcast_id):
            memory = await self._records.memory(broadcast_id)
            broadcast = await self._broadcasts.set_status(broadcast_id, BroadcastAction.START)
            show = await self._present(broadcast_id) or self._open(broadcast, memory)
            show.go_live(broadcast, reopened=reopened)
            await show.ready.wait()
            if show.over:
                await show.gone.wait()
                raise UnavailableError("The show could not be started.", code="start_failed")
            return broadcast

    async def _end(self, broadcast_id: str) -> Broadcast:
        async with self._lock(broadcast_id):
            broadcast = await self._broadcasts.set_status(broadcast_id, BroadcastAction.END)
            await self._finish(broadcast_id, "ended", broadcast)
            return broadcast

    async def _remove(self, identity: Identity, broadcast_id: str) -> None:
        async with self._lock(broadcast_id):
            broadcast = None
            show = self._shows.get(broadcast_id)
            if show is not None and show.on_air:
                broadcast = await self._broadcasts.set_status(broadcast_id, BroadcastAction.END)
            await self._finish(broadcast_id, "removed", broadcast)
            await self._broadcasts.delete(identity, broadcast_id)
            self.hls.remove(broadcast_id)
            if self._means.archive is not None:
                self._means.archive.wake()  # its recordings' files go, too
            self._removed.pop(broadcast_id, None)

    async def _finish(self, broadcast_id: str, reason: str, broadcast: Broadcast | None) -> None:
        """End the task, if there is one, and wait until nothing of it is left."""
        show = self._shows.get(broadcast_id)
        if show is not None:
            show.finish(reason, broadcast.ended_at if broadcast is not None else None)
            await show.gone.wait()

    async def _own(self, job: Callable[[], Awaitable[T]]) -> T:
        """Run `job` in a task of ours and wait for it. It goes on when the caller is cancelled."""
        run = _Job(job)
        try:
            start_clean(self._nursery, run.run)
        except RuntimeError:  # the nursery has closed
            raise shutting_down() from None
        try:
            await run.done.wait()
        finally:
            run.abandoned = not run.done.is_set()
        return run.result()

    # inside

    def _start_task(self, task: Callable[[], Awaitable[None]]) -> None:
        with suppress(RuntimeError):  # the nursery has closed
            start_clean(self._nursery, task)

    def _lock(self, broadcast_id: str) -> trio.Lock:
        """The broadcast's lock. The dictionary keeps it as long as somebody holds it or waits for it."""
        return self._locks.setdefault(broadcast_id, trio.Lock())

    async def _present(self, broadcast_id: str) -> LiveBroadcast | None:
        """The broadcast's task, once an earlier one that is over is gone."""
        while (show := self._shows.get(broadcast_id)) is not None and show.over:
            await show.gone.wait()
        return show

    def _open(self, broadcast: Broadcast, memory: Memory) -> LiveBroadcast:
        """Begin a broadcast's task, with the lock held. Who calls this makes it live or puts somebody into it."""
        kept_out = self._removed.setdefault(broadcast.id, KeptOut())
        for ban in memory.bans:
            kept_out.add(ban)
        show = LiveBroadcast(broadcast, self._means, memory=memory, kept_out=kept_out, on_gone=self._gone)
        self._shows[broadcast.id] = show
        start_clean(self._nursery, show.run, name=f"broadcast {broadcast.id}")
        return show

    def _gone(self, show: LiveBroadcast) -> None:
        del self._shows[show.id]
        if show.on_air or self._removed[show.id].forgettable:
            del self._removed[show.id]

    def _admit(self, show: LiveBroadcast, outlet: Outlet, visitor: Visitor) -> Member:
        self._check_admitting()
        show.check_may_enter(visitor)
        if show.state.sockets_of(visitor.id) >= SOCKETS_PER_PERSON:
            raise TooManyRequestsError(
                "You have this show open too many times. Close a window and try again.",
                retry_after_s=10,
                code="too_many_sockets",
            )
        return show.join(outlet, visitor)

    def _check_load(self, broadcast_id: str, visitor: Visitor, *, radio: bool) -> None:
        """Whoever is in keeps on hearing well: it is those who come now who listen by HLS, or wait. A radio cannot
        change over, and costs little: for it there are never too many, only too much to do."""
        if self._engine.may_take_listener if radio else not self.prefers_hls():
            return
        self.listeners_refused += 1
        hls = self.hls.address_in_room(broadcast_id, visitor)
        if self._engine.may_take_listener:
            raise UnavailableError(
                "Many are listening. Listen by HLS, or try again when there are fewer.",
                retry_after_s=RETRY_AFTER_S,
                code="use_hls",
                hls=hls,
            )
        raise UnavailableError(
            "The server has as many listeners as it can bear just now. Listen by HLS, or try again in a few seconds.",
            retry_after_s=RETRY_AFTER_S,
            code="overloaded",
            hls=hls,
        )

    def _check_admitting(self) -> None:
        if self._draining:
            raise shutting_down()

    def _check_may_enter(self, visitor: Visitor, broadcast: Broadcast) -> None:
        """As the room would, which is not open yet."""
        self._check_admitting()
        if visitor.role is Role.ADMIN:
            return
        kept_out = self._removed.get(broadcast.id)
        if kept_out is not None and kept_out.has(visitor.id, visitor.address_hash, utc_now()):
            raise removed_error()
        RoomState(settings=broadcast.settings).check_lock(visitor.id, visitor.role)

    async def _check_media(
        self, identity: Identity | None, broadcast_id: str, direction: Direction, address_hash: str | None
    ) -> tuple[Broadcast, Role]:
        """The broadcast and the caller's role in it, if they may have such a session."""
        if identity is not None:
            await self._auth.check_signed_in(identity)
        show = self._shows.get(broadcast_id)
        if identity is None and show is not None and show.on_air and not show.over:
            broadcast = show.broadcast  # thousands come this way at once: no query for each
        else:
            broadcast = await self._broadcasts.get(identity, broadcast_id)
        role = await self._broadcasts.role_of(identity, broadcast) if identity is not None else Role.LISTENER
        if direction is Direction.SEND:
            policy.may_publish(role, broadcast)
        elif identity is not None and identity.kind is IdentityKind.STREAM_KEY:
            raise ForbiddenError("A stream key is for publishing only.")
        elif identity is None:
            check_visible(None, None, broadcast)
        await self._check_not_removed(identity, role, broadcast_id, address_hash)
        return broadcast, role

    async def _check_not_removed(
        self, identity: Identity | None, role: Role, broadcast_id: str, address_hash: str | None
    ) -> None:
        """Neither removed from this show nor banned. An admin could undo either, so neither binds an admin."""
        if role is Role.ADMIN:
            return
        person_id = None if identity is None else identity.id
        kept_out = self._removed.get(broadcast_id)
        if kept_out is not None and kept_out.has(person_id, address_hash, utc_now()):
            raise removed_error()
        if identity is None and (address_hash is None or broadcast_id in self._shows):
            return  # a room that is open knows the bans
        if await self._records.is_banned(broadcast_id, person_id or "", address_hash=address_hash):
            raise removed_error()

    def _address_hash(self, identity: Identity | None, address: str | None) -> str | None:
        """Of somebody without an account: what a ban knows them by. None for an address that says nothing: that of a
        proxy on this machine which `LAC_TRUSTED_PROXIES` does not name would stand for everybody."""
        if address is None or (identity is not None and not identity.is_guest):
            return None
        try:
            if ipaddress.ip_address(address).is_loopback:
                return None
        except ValueError:
            return None
        return hash_address(address, key=self._address_key)

    async def _require_to_run(self, identity: Identity, broadcast_id: str) -> None:
        broadcast = await self._broadcasts.get(identity, broadcast_id)
        policy.may_run(await self._account_role(identity, broadcast))

    async def _account_role(self, identity: Identity, broadcast: Broadcast) -> Role:
        """The role for anything but media: a stream key publishes as the host and is nothing more than that."""
        if identity.kind is not IdentityKind.USER:
            return Role.LISTENER
        return await self._broadcasts.role_of(identity, broadcast)

    def _room_visitor(self, identity: Identity | None, role: Role, broadcast_id: str, name: str | None) -> Visitor:
        if identity is None or identity.is_guest:
            # A guest who comes back under another name is the same person: whoever removes them removes their media.
            guest_id = f"guest-{new_id()}" if identity is None else identity.id
            display_name = clean_name(name, GUEST_NAME if identity is None else identity.display_name)
            invite_version = None if identity is None else identity.invite_version
            token = self._auth.issue_guest(broadcast_id, guest_id, display_name, invite_version=invite_version)
            return Visitor(
                guest_id, display_name, role, anonymous=True, user_id=None, token=token, invite_version=invite_version
            )
        return Visitor(
            identity.id,
            identity.display_name,
            role,
            anonymous=False,
            user_id=identity.id,
            sign_in_id=identity.sign_in_id,
        )


class _Job(Generic[T]):
    """One job in a task of `OnAir`'s, and whoever waits for it."""

    def __init__(self, job: Callable[[], Awaitable[T]]) -> None:
        self.done = trio.Event()
        self.abandoned = False
        self._job = job
        self._result: list[T] = []
        self._error: Exception | None = None

    async def run(self) -> None:
        try:
            self._result.append(await self._job())
        except Exception as error:
            self._error = error
            if self.abandoned:
                log.exception("a job failed after its caller had gone")
        finally:
            self.done.set()

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        if not self._result:  # cancelled: the process is going down
            raise shutting_down()
        return self._result[0]


def shutting_down() -> UnavailableError:
    return UnavailableError("The server is shutting down. Try again in a moment.", code="shutting_down")


def already_ended() -> ConflictError:
    return ConflictError("This show has ended.", code="already_ended")


def _check_waiting(broadcast: Broadcast) -> None:
    """Only a scheduled broadcast has a waiting room."""
    if broadcast.status is BroadcastStatus.ENDED:
        raise already_ended()
    if broadcast.status is BroadcastStatus.LIVE:
        raise UnavailableError("This show is live, but not here just now. Try again in a moment.", code="not_carried")


def _for_broadcast(identity: Identity | None, broadcast_id: str) -> Identity | None:
    """A guest's token is for one broadcast; in another it is worth no more than no token."""
    return None if identity is not None and identity.is_guest and identity.broadcast_id != broadcast_id else identity


def _media_visitor(identity: Identity | None, role: Role) -> Visitor:
    """Whose sessions these are: a stream key's are the host's, and without a token they are nobody else's."""
    if identity is None:
        return Visitor(f"anon-{new_id()}", GUEST_NAME, role, anonymous=True, user_id=None)
    user_id = None if identity.is_guest else identity.id
    return Visitor(
        identity.id,
        identity.display_name,
        role,
        anonymous=identity.is_guest,
        user_id=user_id,
        by_stream_key=identity.kind is IdentityKind.STREAM_KEY,
        sign_in_id=identity.sign_in_id,
        invite_version=identity.invite_version,
    )
