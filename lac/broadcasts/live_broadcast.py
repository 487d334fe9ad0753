"""One broadcast while somebody waits for it or it is on air: one task, whose cancel scope is the broadcast's life."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from operator import ne
from typing import TYPE_CHECKING, TypeVar

import structlog
import trio
from trio_util import AsyncValue

from lac.auth.sign_ins import SignInsEnded
from lac.broadcasts import policy
from lac.broadcasts.ledger import Audited, Banned, Ledger, RoleTaken
from lac.broadcasts.model import Broadcast, BroadcastAction, Role, RoomSettings, Visibility
from lac.broadcasts.stage import Closable, Stage
from lac.broadcasts.view import broadcast_view
from lac.clock import utc_now
from lac.errors import ConflictError, ForbiddenError, NotFoundError, TooManyRequestsError, UnavailableError
from lac.recordings.model import RecorderState
from lac.recordings.show_recorder import Show, ShowRecorder
from lac.rooms.kept_out import Exclusion, KeptOut
from lac.rooms.messages import (
    BroadcastEnded,
    BroadcastStarted,
    Chat,
    CloseCode,
    Event,
    HostAway,
    HostBack,
    Joined,
    ListenerCount,
    ListenVia,
    RecordingChanged,
    Stats,
    You,
    encode_event,
)
from lac.rooms.room import Member, Outlet, Room
from lac.rooms.state import Group, Missed, Only, Resumed, RoomState
from lac.rooms.text import one_line
from lac.tasks import cleanup_scope
from lac_media.errors import MediaError, StreamsFullError
from lac_media.parameters import Direction
from lac_media.rooms.events import (
    AudienceChanged,
    RoomEvent,
    SessionClosed,
    SessionConnected,
    SpeakerStarted,
    SpeakerStopped,
    SpeakingChanged,
)
from lac_media.rooms.source import LocalSource
from lac_media.streams.formats import StreamFormat, StreamTitle
from lac_media.streams.listener import StreamListener

if TYPE_CHECKING:
    from lac.broadcasts.hls import HlsDesk
    from lac.broadcasts.hls_pass import HlsPass
    from lac.broadcasts.service import BroadcastService
    from lac.recordings.archive import Archive
    from lac.rooms.records import Memory, Records
    from lac_media.engine import Engine
    from lac_media.rooms.room import MediaRoom
    from lac_media.rooms.session import Session

log = structlog.get_logger(__name__)

S = TypeVar("S", bound=Closable)

COUNT_INTERVAL_S = 1.0
STATS_INTERVAL_S = 5.0
#: When the end of a show whose host is gone cannot be written down, it goes on and is tried again after this time.
END_RETRY_S = 5.0
END_DEADLINE_S = 10.0
#: Of what an encoder says is playing, so many characters are shown.
SONG_MAX = 300
#: When a player that found no place may try again.
STREAMS_RETRY_S = 60.0


@dataclass(slots=True)
class Changes:
    """Counts what takes rights away or gives them. Whoever checks rights and then waits looks whether it has moved."""

    count: int = 0


@dataclass(frozen=True, slots=True)
class Means:
    """What every broadcast on air works with."""

    engine: Engine
    broadcasts: BroadcastService
    records: Records
    host_grace_s: float
    #: Runs something in a task of `OnAir`'s: a caller that goes away does not stop it.
    own: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]
    hls: HlsDesk
    changes: Changes = field(default_factory=Changes)
    #: None: shows are not recorded here.
    archive: Archive | None = None


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who wants to come in, after every check."""

    id: str
    display_name: str
    role: Role
    anonymous: bool
    #: The account, if there is one.
    user_id: str | None
    #: For guests: their token for the media calls.
    token: str | None = None
    #: Which sign-in of the account this is.
    sign_in_id: str | None = None
    #: Comes with the show's stream key.
    by_stream_key: bool = False
    #: Of somebody without an account: the hash of where they come from, if that is known.
    address_hash: str | None = None
    #: Of a guest: the invite link that they came by.
    invite_version: int | None = None
    #: The last message they have, and what the database has after it.
    since: str | None = None
    missed: Missed | None = None


class LiveBroadcast:
    """A waiting room until `go_live`, then the show.

    Ends by `finish` (the show is over), by its waiting room being empty, by an error in its task, or by cancellation
    from outside, which means that the process stops: then its row stays live and the next start takes the show up
    again. However it ends, no session, socket, task or open row is left behind, and `gone` is set.
    """

    def __init__(
        self,
        broadcast: Broadcast,
        means: Means,
        *,
        memory: Memory,
        kept_out: KeptOut,
        on_gone: Callable[[LiveBroadcast], None],
    ) -> None:
        self.broadcast = broadcast
        self.state = RoomState(memory.recent, kept_out, broadcast.settings)
        self.room = Room(broadcast.id, self, self.state)
        self.stage = Stage()
        #: On air, or over.
        self.ready = trio.Event()
        self.gone = trio.Event()
        self._means = means
        self._on_gone = on_gone
        self._ledger = Ledger(broadcast.id, means.records)
        self.recorder: ShowRecorder | None = None
        if means.archive is not None:
            show = Show(
                lambda: self.broadcast, self._tell_recorder_state, self.name_of, lambda: self._reason is not None
            )
            self.recorder = ShowRecorder(show, means.archive)
        self._scope = trio.CancelScope()
        self._go = trio.Event()
        self._reopened = False
        self._media: MediaRoom | None = None
        self._listeners = AsyncValue(0)
        self._over = False
        #: Why it ended; None while it has not, and when it was cancelled from outside.
        self._reason: str | None = None
        # The grace clock: when the show ends unless a host is heard before. Infinite while one is.
        self._deadline = math.inf
        self._clock = trio.CancelScope()
        #: What everyone was told about it.
        self._away_until: datetime | None = None

    @property
    def id(self) -> str:
        return self.broadcast.id

    @property
    def over(self) -> bool:
        """Nobody comes in any more; `gone` follows."""
        return self._over

    @property
    def on_air(self) -> bool:
        """Live, or about to be: `ready` tells when."""
        return self._go.is_set()

    @property
    def listener_count(self) -> int:
        """Whom the show reaches, by WebRTC or by HLS."""
        return self.stage.listeners + self._means.hls.listener_count(self.id)

    # what OnAir asks of it, all of it synchronous

    def go_live(self, broadcast: Broadcast, *, reopened: bool = False) -> None:
        """The show has started, or (`reopened`) was live when the process stopped. Idempotent."""
        self.broadcast = broadcast
        if not self._go.is_set():
            self._reopened = reopened
            self._go.set()

    def finish(self, reason: str, ended_at: datetime | None) -> None:
        """The show is over, which has been written down: tell everyone, then end the task. Idempotent."""
        if self._over:
            return
        self._over = True
        self._reason = reason
        self.room.send(Group.EVERYONE, BroadcastEnded(ended_at=ended_at or utc_now(), reason=reason))
        self.room.close(CloseCode.LEFT, reason)
        self._scope.cancel(reason)
        log.info("broadcast ended", broadcast_id=self.id, reason=reason)

    def join(self, outlet: Outlet, visitor: Visitor) -> Member:
        """Take in one socket; its first frame is `joined`."""
        member = self.room.admit(
            outlet,
            visitor.id,
            visitor.display_name,
            visitor.role,
            anonymous=visitor.anonymous,
            address_hash=visitor.address_hash,
            sign_in_id=visitor.sign_in_id,
        )
        outlet.offer(encode_event(self._joined(visitor)))
        return member

    def change_role(self, person_id: str, given: Role | None) -> None:
        """It counts at once, for everyone to see. Who may not be heard any more is cut off, and who may not even
        listen is let go. `given` is None for who has no part in the show any more."""
        self._means.changes.count += 1
        role = given or Role.LISTENER
        self.stage.change_role(person_id, role)
        if not policy.is_allowed(role, policy.Act.PUBLISH):
            for session in self.stage.publishing_of(person_id):
                session.close("moved_to_audience")
            if self._media is not None:
                self._media.close_stage(person_id)
        self.room.tell(self.state.change_role(person_id, role))
        if given is None and self.broadcast.visibility is Visibility.PRIVATE:
            self.room.let_go(person_id, "private")
        self._check_host()

    def people(self) -> set[str]:
        """Everyone who is in the room or has a media session."""
        return self.room.people() | self.stage.people()

    def keep_only(self, people: Collection[str]) -> None:
        """Let everyone else go: the show has become private, or its invite link another."""
        self._means.changes.count += 1
        for person_id in self.people() - set(people):
            self.room.let_go(person_id, "private")

    def sign_ins_ended(self, ended: SignInsEnded) -> None:
        """Close what came in by them. Encoders with the stream key need no sign-in and stay."""
        self.room.sign_ins_ended(ended)
        for session in self.stage.opened_by(ended):
            session.close("removed")

    def stream_key_changed(self) -> None:
        """Whoever publishes with the old one is cut off."""
        self._means.changes.count += 1
        for session in self.stage.opened_by_key():
            session.close("removed")

    # media sessions

    async def open_session(self, visitor: Visitor, direction: Direction, kind: str) -> Session:
        """Open one media session. The caller has asked the policy."""
        return await self._enter(visitor, direction, kind, lambda media: media.open_session(direction, visitor.id))

    async def open_source(self, visitor: Visitor, kind: str) -> LocalSource:
        """The same for a speaker whose audio comes in by another way than WebRTC."""

        async def open_source(media: MediaRoom) -> LocalSource:
            await trio.lowlevel.checkpoint()
            return media.open_source(visitor.id)

        source = await self._enter(visitor, Direction.SEND, kind, open_source)
        source.room.begin_source(source)
        return source

    async def open_stream(
        self, visitor: Visitor, stream_format: StreamFormat, kind: str, *, limited_by: str | None
    ) -> StreamListener:
        """A listener by plain HTTP. `limited_by` stands for where they come from."""

        async def open_stream(media: MediaRoom) -> StreamListener:
            await trio.lowlevel.checkpoint()
            return media.streams.open(stream_format, visitor.id, limited_by)

        listener = await self._enter(visitor, Direction.RECV, kind, open_stream)
        if self._media is not None:
            self._media.streams.begin(listener)
        return listener

    async def _enter(
        self, visitor: Visitor, direction: Direction, kind: str, opening: Callable[[MediaRoom], Awaitable[S]]
    ) -> S:
        media = self._media
        if media is None or self._over:
            raise not_live()
        if direction is Direction.SEND:
            self.stage.check_publish(visitor.id, visitor.role)
        with self.stage.opening(visitor.id):
            try:
                session = await opening(media)
            except StreamsFullError as error:
                raise _streams_full(error) from error
            except MediaError as error:
                if self._over:
                    raise not_live() from error
                raise UnavailableError("The connection could not be prepared. Try again.") from error
        if self._over or session.closed:
            session.close("ended")
            raise not_live()
        try:
            self.check_may_enter(visitor)
        except ForbiddenError:
            session.close("removed")
            raise
        self.stage.opened(
            session,
            visitor.id,
            visitor.role,
            direction,
            address_hash=visitor.address_hash,
            by_stream_key=visitor.by_stream_key,
            sign_in_id=visitor.sign_in_id,
        )
        self._ledger.session_opened(session.id, visitor.id, visitor.user_id, kind, direction)
        return session

    def set_song(self, song: str | None) -> None:
        """What the encoders with the stream key are playing. Raises `ConflictError` (no_source) if there are none."""
        sources = [source for source in self.stage.opened_by_key() if isinstance(source, LocalSource)]
        if not sources:
            raise ConflictError("No encoder is connected to this show.", code="no_source")
        for source in sources:
            source.song = song

    def listeners_by_way(self) -> dict[str, int]:
        """Those that the program reaches, by how: "webrtc", "hls", or the format of a plain stream."""
        by_format = {} if self._media is None else self._media.streams.by_format()
        streams = {stream_format.value: count for stream_format, count in by_format.items()}
        hls = self._means.hls.listener_count(self.id)
        return {"webrtc": self.stage.listeners - sum(streams.values()), "hls": hls, **streams}

    def end_streams(self) -> None:
        """Hang up on players and source clients: the server stops."""
        if self._media is not None:
            self._media.end_streams("shutdown")

    def _stream_title(self) -> StreamTitle:
        """What players of the plain streams show."""
        sources = () if self._media is None else self._media.sources.values()
        song = next((source.song for source in sources if source.song and source.heard_at is not None), None)
        song = one_line(song or "")[:SONG_MAX] or None
        return StreamTitle(self.broadcast.title, self.broadcast.host_name, song)

    def check_may_hear_speakers(self, session: Session) -> None:
        """Raise `ForbiddenError` unless the session's owner is one of those who may speak: the others on stage are for
        them, everybody else hears the program."""
        policy.require(self.stage.role_of(session.owner) or Role.LISTENER, policy.Act.PUBLISH)

    def check_may_enter(self, visitor: Visitor) -> None:
        """Raise `ForbiddenError` for somebody who was removed, and for newcomers while the room is locked. An admin
        could undo either, so neither binds an admin."""
        if visitor.role is Role.ADMIN:
            return
        if self.state.kept_out.has(visitor.id, visitor.address_hash, utc_now()):
            raise removed_error()
        self.state.check_lock(visitor.id, visitor.role)

    def _on_media(self, event: RoomEvent) -> None:
        """From the media room, synchronously. An error in here is this broadcast's, never the engine's."""
        try:
            self._take_media_event(event)
        except Exception:
            log.exception("broadcast failed on a media event", broadcast_id=self.id)
            self._fail()

    def _take_media_event(self, event: RoomEvent) -> None:
        if isinstance(event, SpeakingChanged):
            self.room.tell(self.state.change_levels(event.speaking))
            if self.recorder is not None:
                self.recorder.speaking_changed(event.speaking[0][0] if event.speaking else None)
            return
        match event:
            case SessionConnected():
                self.stage.connected(event.session_id)
            case AudienceChanged():
                self.stage.hears_program(event.session_id, event.hears)
            case SpeakerStarted():
                if self.recorder is not None:
                    self.recorder.speaker_started(event.producer_id, event.owner)
                for session, reason in self.stage.started(event.session_id, event.producer_id):
                    session.close(reason)
            case SpeakerStopped():
                self.stage.stopped(event.session_id)
            case SessionClosed():
                known = self.stage.closed(event.session_id)
                # "ended": the room itself closes. Those rows are closed at once, with what ended the broadcast.
                if event.reason == "ended":
                    return
                if known:
                    self._ledger.session_ended(event.session_id, event.reason)
        if self._over:
            return
        self._listeners.value = self.listener_count
        self.room.tell(self.state.change_speakers(self.stage.speaking()))
        self._check_host()

    # what HLS tells it

    def rewind_enabled(self) -> bool:
        return self.broadcast.rewind_enabled

    def is_private(self) -> bool:
        return self.broadcast.visibility is Visibility.PRIVATE

    def hls_opened(self, session_id: str, listener: HlsPass) -> None:
        self._ledger.session_opened(session_id, listener.owner, listener.user_id, "hls", Direction.RECV)
        self._listeners.value = self.listener_count

    def hls_closed(self, session_id: str) -> None:
        self._ledger.session_ended(session_id, "left")
        self._listeners.value = self.listener_count

    def invite_to_webrtc(self, person_id: str) -> bool:
        if person_id not in self.state:
            return False
        self.room.send(Only(person_id), ListenVia(via="webrtc"))
        return True

    # what the room asks of it

    def media_time_s(self) -> float:
        return self._media.media_time_s() if self._media is not None else 0.0

    def media_role(self, person_id: str) -> Role | None:
        return self.stage.role_of(person_id)

    def media_address(self, person_id: str) -> str | None:
        return self.stage.address_of(person_id)

    def publishers(self) -> Mapping[str, Role]:
        return self.stage.publishers()

    async def absent_role(self, person_id: str) -> Role:
        return await self._means.broadcasts.account_role(person_id, self.broadcast)

    def person_muted(self, person_id: str) -> None:
        if self._media is not None:
            self._media.mute(person_id)
            self._check_host()

    def person_unmuted(self, person_id: str) -> None:
        if self._media is not None:
            self._media.unmute(person_id)
            self._check_host()

    def person_removed(self, person_id: str, reason: str = "removed") -> None:
        self._means.changes.count += 1
        if self._media is not None:
            self._media.close_owner(person_id, reason)

    def address_removed(self, address_hash: str) -> None:
        for session in self.stage.from_address(address_hash):
            session.close("removed")

    def audit(self, line: Audited) -> None:
        self._ledger.audited(line)

    async def own(self, job: Callable[[], Awaitable[None]]) -> None:
        await self._means.own(job)

    async def follows_host(self, person_id: str) -> bool:
        return await self._means.records.follows(person_id, self.broadcast.host_id)

    async def store_message(self, chat: Chat) -> Chat | None:
        return await self._means.records.add_message(self.id, chat)

    async def store_ban(self, ban: Exclusion, reason: str | None, line: Audited) -> None:
        """It holds already. When the database is away, it is written later."""
        try:
            await self._means.own(partial(self._means.records.add_ban, self.id, ban, reason, line))
        except UnavailableError:
            self._ledger.decided(Banned(ban, reason, line))

    async def store_settings(self, settings: RoomSettings, line: Audited) -> None:
        await self._means.records.store_settings(self.id, settings, line)

    async def grant_speaker(self, person_id: str, by: str, line: Audited) -> Role:
        return await self._means.records.grant_speaker(self.id, person_id, by, line)

    async def take_role(self, person_id: str, line: Audited) -> None:
        """It holds already. When the database is away, it is written later."""
        try:
            await self._means.records.take_role(self.id, person_id, line)
        except UnavailableError:
            self._ledger.decided(RoleTaken(person_id, line))

    async def withdraw_decisions(self, person_id: str) -> None:
        """Before something else is decided about this person: what waits to be written must not come after it."""
        await self._ledger.withdraw(person_id)

    async def delete_message(self, message_id: str, actor_role: Role, line: Audited) -> None:
        await self._means.records.delete_message(self.id, message_id, actor_role, line)

    async def clear_messages(self, person_id: str, line: Audited) -> list[str]:
        return await self._means.records.clear_messages(self.id, person_id, line)

    def record_reactions(self, counts: dict[str, int], media_time: float, at: datetime) -> None:
        self._ledger.reacted(counts, media_time, at)

    def room_emptied(self) -> None:
        if not self._go.is_set() and not self._over:
            self._over = True
            self._reason = "empty"
            self._scope.cancel("the waiting room is empty")

    # the task

    async def run(self) -> None:
        try:
            with self._scope:
                await self._live()
        except* Exception:
            log.exception("broadcast failed", broadcast_id=self.id)
            self._fail()
        finally:
            await self._clean_up()

    async def _live(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.room.run_reactions)
            nursery.start_soon(self._ledger.run)
            await self._go.wait()
            async with self._means.engine.open_room(self.id, self._on_media) as media:
                self._went_live(media)
                nursery.start_soon(self._announce_listeners)
                nursery.start_soon(self._send_stats)
                nursery.start_soon(self._means.hls.serve, self, media)
                if self.recorder is not None:
                    nursery.start_soon(partial(self.recorder.run, media, reopened=self._reopened))
                try:
                    await self._watch_clock()
                finally:
                    # The sessions close now: that is no news about the host or the speakers to anybody.
                    self._over = True

    def _went_live(self, media: MediaRoom) -> None:
        self._media = media
        media.streams.describe = self._stream_title
        for person_id in self.state.muted:
            media.mute(person_id)
        self._deadline = trio.current_time() + self._means.host_grace_s
        if self._reopened:
            # Who comes back now finds the show without its host; a show that starts just has not been heard yet.
            self._away_until = utc_now() + timedelta(seconds=self._means.host_grace_s)
        started_at = self.broadcast.started_at or utc_now()
        self.room.send(Group.EVERYONE, BroadcastStarted(started_at=started_at))
        self.ready.set()
        log.info("broadcast on air", broadcast_id=self.id, reopened=self._reopened)

    async def _watch_clock(self) -> None:
        """End the show when the grace period runs out. `_check_host` moves the deadline."""
        while True:
            with trio.CancelScope(deadline=self._deadline) as self._clock:
                await trio.sleep_forever()
            try:
                self.broadcast = await self._means.broadcasts.set_status(self.id, BroadcastAction.END)
            except NotFoundError:  # deleted past us
                self.finish("removed", None)
                continue
            except Exception:
                log.exception("the end of the show could not be written down", broadcast_id=self.id)
                if self._deadline < math.inf:
                    self._deadline = trio.current_time() + END_RETRY_S
                continue
            self.finish("host_left", self.broadcast.ended_at)

    def _check_host(self) -> None:
        """Start or stop the grace clock, and say so."""
        if self._media is None or self._over:
            return
        kept = self.stage.is_kept(self.state.is_muted)
        if kept and self._deadline < math.inf:
            self._deadline = self._clock.deadline = math.inf
            if self._away_until is not None:
                self._away_until = None
                self._tell_everyone(HostBack())
        elif not kept and self._deadline == math.inf:
            self._deadline = self._clock.deadline = trio.current_time() + self._means.host_grace_s
            self._away_until = utc_now() + timedelta(seconds=self._means.host_grace_s)
            self._tell_everyone(HostAway(until=self._away_until))

    async def _announce_listeners(self) -> None:
        """Coalesced: the latest count, at most once every COUNT_INTERVAL_S."""
        announced = 0
        while True:
            await self._listeners.wait_value(partial(ne, announced))
            count = self._listeners.value
            if count != announced:
                announced = count
                self._tell_everyone(ListenerCount(count=count))
                await trio.sleep(COUNT_INTERVAL_S)

    async def _send_stats(self) -> None:
        while True:
            await trio.sleep(STATS_INTERVAL_S)
            if self._media is None or not self.room.has_staff():
                continue
            stats = self._media.stats()
            self.room.send(
                Group.STAFF,
                Stats(
                    listeners=stats.listeners,
                    sockets=len(self.room),
                    packets_in=stats.packets_in,
                    packets_lost_in=stats.packets_lost_in,
                    worst_loss=stats.worst_loss,
                    weak_listeners=stats.weak_listeners,
                    round_trip_ms=None if stats.round_trip_s is None else stats.round_trip_s * 1000,
                ),
            )

    def _fail(self) -> None:
        """Something of ours broke: everyone is let go, and the show is over, because nothing carries it any more."""
        self._over = True
        if self._reason is None:
            self._reason = "failed"
            self.room.close(CloseCode.INTERNAL_ERROR, "the show has failed")
        self._scope.cancel("failed")

    async def _clean_up(self) -> None:
        """The task's last act, bounded, whatever ended it. The media room and the other tasks are gone by now."""
        self._over = True
        self._media = None
        reason = self._reason or "shutdown"
        self.room.close(CloseCode.SHUTTING_DOWN, "the server is shutting down")  # only what is not closed yet
        self.ready.set()
        try:
            if reason == "failed" and self._go.is_set():
                with cleanup_scope(END_DEADLINE_S, "end the failed broadcast", broadcast_id=self.id):
                    await self._means.broadcasts.set_status(self.id, BroadcastAction.END)
            if self._go.is_set() or self._ledger.waiting:
                await self._ledger.close(reason)
        finally:
            self._on_gone(self)
            self.gone.set()

    def name_of(self, person_id: str) -> str | None:
        """What somebody is called who may speak; None where that is not known."""
        if person_id in self.state:
            return self.state.person(person_id).display_name
        return self.broadcast.host_name if person_id == self.broadcast.host_id else None

    def _tell_recorder_state(self, state: RecorderState) -> None:
        self._tell_everyone(RecordingChanged(state=state))

    def _tell_everyone(self, event: Event) -> None:
        self.room.send(Group.EVERYONE, event)

    def _joined(self, visitor: Visitor) -> Joined:
        state = self.state
        resumed = Resumed(state.recent_messages(), missed=False, deleted=[])
        if visitor.since is not None:
            resumed = state.resume(visitor.since, visitor.missed)
        return Joined(
            you=You(
                id=visitor.id,
                display_name=visitor.display_name,
                role=visitor.role,
                anonymous=visitor.anonymous,
                token=visitor.token,
            ),
            broadcast=broadcast_view(self.broadcast, role=visitor.role, listener_count=self.listener_count),
            role=visitor.role,
            members=state.members(),
            member_count=state.member_count,
            listener_count=self.listener_count,
            hands=state.hands(),
            producers=state.producers(),
            recent_messages=resumed.messages,
            media_time=self.media_time_s(),
            host_away=self._away_until is not None,
            announces_everyone=state.announces_everyone,
            host_away_until=self._away_until,
            slow_mode_s=state.settings.slow_mode_s,
            chat_mode=state.settings.chat_mode,
            locked=state.settings.locked,
            invited=state.is_invited(visitor.id),
            recording=RecorderState.OFF if self.recorder is None else self.recorder.state,
            messages_missed=resumed.missed,
            deleted_messages=resumed.deleted,
            hls=self._means.hls.address_in_room(self.id, visitor),
        )


def not_live() -> ConflictError:
    return ConflictError("This show is not live.", code="not_live")


def removed_error() -> ForbiddenError:
    return ForbiddenError("You have been removed from this show.", code="removed")


def _streams_full(error: StreamsFullError) -> TooManyRequestsError | UnavailableError:
    if error.here:
        return TooManyRequestsError(
            "Too many plain streams are open from your address. Close one and try again.",
            retry_after_s=STREAMS_RETRY_S,
            code="too_many_streams",
        )
    return UnavailableError(
        "The server streams to as many players as it may. Try again in a minute.",
        retry_after_s=STREAMS_RETRY_S,
        code="streams_full",
    )
