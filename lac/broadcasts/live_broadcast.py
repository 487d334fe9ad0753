"""One broadcast while somebody waits for it or it is on air: one task, whose cancel scope is the broadcast's life.

It joins its parts, each of which has its own state: the room (sockets, chat, moderation) and what it has written down,
the media, the host's clock, the recorder. What happens in one part and concerns another goes through here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from operator import ne
from typing import TYPE_CHECKING

import structlog
import trio
from trio_util import AsyncValue

from lac.auth.sign_ins import SignInsEnded
from lac.broadcasts.host_clock import HostClock
from lac.broadcasts.ledger import Ledger
from lac.broadcasts.model import Broadcast, BroadcastAction, Role, Visibility
from lac.broadcasts.show_media import ShowMedia
from lac.broadcasts.view import broadcast_view
from lac.broadcasts.visitor import Visitor, removed_error
from lac.clock import utc_now
from lac.errors import NotFoundError
from lac.recordings.model import RecorderState
from lac.recordings.show_recorder import Show, ShowRecorder
from lac.rooms.events import (
    BroadcastEnded,
    BroadcastStarted,
    CloseCode,
    Event,
    Joined,
    ListenerCount,
    ListenVia,
    RecordingChanged,
    Stats,
    encode_event,
)
from lac.rooms.kept_out import KeptOut
from lac.rooms.recent_chat import Resumed
from lac.rooms.room import Member, Outlet, Room
from lac.rooms.room_records import RoomRecords
from lac.rooms.state import Group, Only, RoomState
from lac.rooms.values import You
from lac.tasks import cleanup_scope
from lac_media.parameters import Direction
from lac_media.rooms.events import RoomEvent, SessionClosed, SpeakerStarted, SpeakingChanged

if TYPE_CHECKING:
    from lac.broadcasts.hls import HlsDesk
    from lac.broadcasts.hls_pass import HlsPass
    from lac.broadcasts.service import BroadcastService
    from lac.recordings.archive import Archive
    from lac.rooms.records import Memory, Records
    from lac_media.engine import Engine
    from lac_media.rooms.room import MediaRoom

log = structlog.get_logger(__name__)

COUNT_INTERVAL_S = 1.0
STATS_INTERVAL_S = 5.0
END_DEADLINE_S = 10.0


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
        self._means = means
        self._on_gone = on_gone
        self._ledger = Ledger(broadcast.id, means.records)
        self.records = RoomRecords(broadcast.id, means.records, self._ledger, means.own)
        self.room = Room(broadcast.id, self, self.records, self.state)
        self.media = ShowMedia(self, self._ledger)
        #: On air, or over.
        self.ready = trio.Event()
        self.gone = trio.Event()
        self.recorder: ShowRecorder | None = None
        if means.archive is not None:
            show = Show(
                lambda: self.broadcast, self._tell_recorder_state, self.name_of, lambda: self._reason is not None
            )
            self.recorder = ShowRecorder(show, means.archive)
        self._scope = trio.CancelScope()
        self._go = trio.Event()
        self._reopened = False
        self._listeners = AsyncValue(0)
        self._over = False
        #: Why it ended; None while it has not, and when it was cancelled from outside.
        self._reason: str | None = None
        self._host_clock = HostClock(broadcast.id, means.host_grace_s)

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
        return self.media.stage.listeners + self._means.hls.listener_count(self.id)

    def listeners_by_way(self) -> dict[str, int]:
        """The same, by how: "webrtc", "hls", or the format of a plain stream."""
        streams = self.media.stream_listeners()
        hls = self._means.hls.listener_count(self.id)
        return {"webrtc": self.media.stage.listeners - sum(streams.values()), "hls": hls, **streams}

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
        self.media.change_role(person_id, role)
        self.room.tell(self.state.change_role(person_id, role))
        if given is None and self.broadcast.visibility is Visibility.PRIVATE:
            self.room.let_go(person_id, "private")
        self._check_host()

    def people(self) -> set[str]:
        """Everyone who is in the room or has a media session."""
        return self.room.people() | self.media.stage.people()

    def keep_only(self, people: Collection[str]) -> None:
        """Let everyone else go: the show has become private, or its invite link another."""
        self._means.changes.count += 1
        for person_id in self.people() - set(people):
            self.room.let_go(person_id, "private")

    def sign_ins_ended(self, ended: SignInsEnded) -> None:
        """Close what came in by them. Encoders with the stream key need no sign-in and stay."""
        self.room.sign_ins_ended(ended)
        self.media.sign_ins_ended(ended)

    def stream_key_changed(self) -> None:
        """Whoever publishes with the old one is cut off."""
        self._means.changes.count += 1
        self.media.stream_key_changed()

    def check_may_enter(self, visitor: Visitor) -> None:
        """Raise `ForbiddenError` for somebody who was removed, and for newcomers while the room is locked. An admin
        could undo either, so neither binds an admin."""
        if visitor.role is Role.ADMIN:
            return
        if self.state.kept_out.has(visitor.id, visitor.address_hash, utc_now()):
            raise removed_error()
        self.state.check_lock(visitor.id, visitor.role)

    # what the media room reports

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
        if isinstance(event, SpeakerStarted) and self.recorder is not None:
            self.recorder.speaker_started(event.producer_id, event.owner)
        self.media.take_event(event)
        if self._over or (isinstance(event, SessionClosed) and event.reason == "ended"):
            return  # the media room closes: that is no news to anybody
        self._listeners.value = self.listener_count
        self.room.tell(self.state.change_speakers(self.media.stage.speaking()))
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
        return self.media.time_s()

    def media_role(self, person_id: str) -> Role | None:
        return self.media.stage.role_of(person_id)

    def media_address(self, person_id: str) -> str | None:
        return self.media.stage.address_of(person_id)

    def publishers(self) -> Mapping[str, Role]:
        return self.media.stage.publishers()

    async def absent_role(self, person_id: str) -> Role:
        return await self._means.broadcasts.account_role(person_id, self.broadcast)

    def person_muted(self, person_id: str) -> None:
        self.media.mute(person_id)
        self._check_host()

    def person_unmuted(self, person_id: str) -> None:
        self.media.unmute(person_id)
        self._check_host()

    def person_removed(self, person_id: str, reason: str = "removed") -> None:
        self._means.changes.count += 1
        self.media.close_owner(person_id, reason)

    def address_removed(self, address_hash: str) -> None:
        self.media.address_removed(address_hash)

    async def own(self, job: Callable[[], Awaitable[None]]) -> None:
        await self._means.own(job)

    async def follows_host(self, person_id: str) -> bool:
        return await self._means.records.follows(person_id, self.broadcast.host_id)

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
                    await self._until_host_is_gone()
                finally:
                    # The sessions close now: that is no news about the host or the speakers to anybody.
                    self._over = True

    def _went_live(self, media: MediaRoom) -> None:
        self.media.begin(media, self.state.muted)
        self._host_clock.begin(reopened=self._reopened, now=trio.current_time(), at=utc_now())
        started_at = self.broadcast.started_at or utc_now()
        self.room.send(Group.EVERYONE, BroadcastStarted(started_at=started_at))
        self.ready.set()
        log.info("broadcast on air", broadcast_id=self.id, reopened=self._reopened)

    async def _until_host_is_gone(self) -> None:
        """End the show when the grace period runs out. `_check_host` starts and stops it."""
        ended = await self._host_clock.run(self._write_end)
        if ended is None:
            self.finish("removed", None)
        else:
            self.broadcast = ended
            self.finish("host_left", ended.ended_at)

    async def _write_end(self) -> Broadcast | None:
        try:
            return await self._means.broadcasts.set_status(self.id, BroadcastAction.END)
        except NotFoundError:  # deleted past us
            return None

    def _check_host(self) -> None:
        """Start or stop the grace clock, and say so."""
        if not self.media.has_room or self._over:
            return
        kept = self.media.stage.is_kept(self.state.is_muted)
        news = self._host_clock.update(kept=kept, now=trio.current_time(), at=utc_now())
        if news is not None:
            self._tell_everyone(news)

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
            stats = self.media.stats() if self.room.has_staff() else None
            if stats is None:
                continue
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
        self.media.end()
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
        resumed = Resumed(state.chat.listed(), missed=False, deleted=[])
        if visitor.since is not None:
            resumed = state.chat.resume(visitor.since, visitor.missed)
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
            host_away=self._host_clock.away_until is not None,
            announces_everyone=state.announces_everyone,
            host_away_until=self._host_clock.away_until,
            slow_mode_s=state.settings.slow_mode_s,
            chat_mode=state.settings.chat_mode,
            locked=state.settings.locked,
            invited=visitor.id in state.invites,
            recording=RecorderState.OFF if self.recorder is None else self.recorder.state,
            messages_missed=resumed.missed,
            deleted_messages=resumed.deleted,
            hls=self._means.hls.address_in_room(self.id, visitor),
        )
