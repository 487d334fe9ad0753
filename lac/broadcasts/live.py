"""The broadcasts on air, and the rooms where people wait for one: each one owned task, in one nursery.

They live under `open_on_air`, never in the request that began them. What must not stay half done because its caller
went away (start, end, remove) runs in a task of ours, and the caller waits for it.

Starting, ending and removing one broadcast, and opening its waiting room, exclude each other by one lock for each
broadcast: between the row in the database and the task here nobody else gets in. The task of a broadcast never takes
that lock, so whoever holds it may wait for the task.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import structlog
import trio

from lac.auth.sign_ins import ignore
from lac.broadcasts import policy
from lac.broadcasts.admission import Admission, already_ended, for_broadcast
from lac.broadcasts.hls import HLS_DIRECTORY, HlsDesk
from lac.broadcasts.jobs import Jobs
from lac.broadcasts.live_broadcast import LiveBroadcast, Means
from lac.broadcasts.media_door import MediaDoor
from lac.broadcasts.model import Broadcast, BroadcastAction, BroadcastStatus
from lac.broadcasts.rights import Rights
from lac.broadcasts.visitor import Visitor, not_live
from lac.errors import ForbiddenError, TooManyRequestsError, UnavailableError
from lac.identity import Identity, IdentityKind
from lac.rooms.kept_out import KeptOut
from lac.rooms.records import Memory, Records
from lac.rooms.room import Member, Outlet
from lac.tasks import boundary, start_clean

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

log = structlog.get_logger(__name__)


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
            auth.sign_ins.on_ended = on_air.rights.sign_ins_ended
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
        self._jobs = Jobs(nursery)
        self._records = records
        self._broadcasts = broadcasts
        self._auth = auth
        self._shows: dict[str, LiveBroadcast] = {}
        self._locks: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()
        self.admission = Admission(self._shows, records, engine, broadcasts, auth, settings)
        self.hls = HlsDesk(
            self.admission,
            settings.data_dir / HLS_DIRECTORY,
            key=settings.jwt_secret,
            window_s=settings.hls_window_s,
            keep_s=settings.hls_keep_s,
            cdn_url=settings.hls_cdn_url,
            origin=origin,
            start=self._jobs.start,
        )
        self.rights = Rights(self._shows, self.admission, records, broadcasts, auth, self.hls, self._jobs)
        self.media = MediaDoor(self._shows, self.admission, broadcasts, self.hls, self._start_owned)
        self._means = Means(
            engine,
            broadcasts,
            records,
            settings.host_grace_s,
            self._jobs.run,
            self.hls,
            self.admission.changes,
            archive,
        )

    # the show

    async def start(self, identity: Identity, broadcast_id: str) -> Broadcast:
        """Go live; a no-op for a show that is. Raises `ConflictError` (`already_ended`)."""
        self.admission.check_admitting()
        await self._require_to_run(identity, broadcast_id)
        return await self._start_owned(broadcast_id)

    async def end(self, identity: Identity, broadcast_id: str) -> Broadcast:
        """End the show for everyone; a no-op for one that has ended. Raises `ConflictError` (`not_live`)."""
        await self._require_to_run(identity, broadcast_id)
        return await self._jobs.run(partial(self._end, broadcast_id))

    async def remove(self, identity: Identity, broadcast_id: str) -> None:
        """Delete the broadcast; a show that is live ends first."""
        broadcast = await self._broadcasts.get(identity, broadcast_id)
        policy.may_delete(await self.admission.account_role(identity, broadcast))
        await self._jobs.run(partial(self._remove, identity, broadcast_id))

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

    async def drain(self) -> None:
        """Let nobody in any more, and send everyone in a room elsewhere. Shows go on for those who listen, until the
        block of `open_on_air` is left."""
        self.admission.draining = True
        for show in list(self._shows.values()):
            show.room.send_away()
        for stream in self.hls.streams:
            stream.release()
        await trio.lowlevel.checkpoint()

    # recordings

    async def start_recording(self, identity: Identity, broadcast_id: str) -> Recording:
        """Record the show from now on; a no-op while it is recorded. Raises `ConflictError` (not_live)."""
        recorder = await self._recorder_of(identity, broadcast_id)
        return await self._jobs.run(partial(recorder.start, identity.id))

    async def stop_recording(self, identity: Identity, broadcast_id: str) -> Recording:
        """End the recording of the show. Raises `ConflictError` (not_live, not_recording)."""
        recorder = await self._recorder_of(identity, broadcast_id)
        return await self._jobs.run(partial(recorder.stop, identity.id))

    async def mark_chapter(self, identity: Identity, broadcast_id: str, title: str) -> Chapter:
        """A chapter of the recording begins now. Raises `ConflictError` (not_live, not_recording)."""
        recorder = await self._recorder_of(identity, broadcast_id)
        return recorder.add_chapter(title, identity.id)

    async def _recorder_of(self, identity: Identity, broadcast_id: str) -> ShowRecorder:
        broadcast = await self._broadcasts.get(identity, broadcast_id)
        policy.require(await self.admission.account_role(identity, broadcast), policy.Act.RECORD)
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
        self.admission.check_admitting()
        if identity is not None and identity.kind is IdentityKind.STREAM_KEY:
            raise ForbiddenError("A stream key is for publishing only. Sign in to join the room.")
        identity = for_broadcast(identity, broadcast_id)
        address_hash = self.admission.address_hash(identity, address)
        while True:
            # What is checked here must still be so when the socket is let in: nothing is awaited from there on.
            checked_at = self.admission.changes.count
            if identity is not None:
                await self._auth.check_signed_in(identity)
            broadcast = await self._broadcasts.get(identity, broadcast_id)
            if broadcast.status is BroadcastStatus.ENDED:
                raise already_ended()
            role = await self._broadcasts.role_of(identity, broadcast)
            await self.admission.check_not_removed(identity, role, broadcast_id, address_hash)
            visitor = self.admission.room_visitor(identity, role, broadcast_id, name)
            visitor = replace(visitor, address_hash=address_hash)
            show = self._shows.get(broadcast_id)
            if since is not None:
                missed = None
                if show is None or since not in show.state.chat:
                    missed = await self._records.missed_messages(broadcast_id, since, RESUMED_MAX)
                    show = self._shows.get(broadcast_id)
                visitor = replace(visitor, since=since, missed=missed)
            if self.admission.changes.count != checked_at:
                continue
            if show is not None and not show.over:
                return self._admit(show, outlet, visitor)
            async with self._lock(broadcast_id):
                show = await self._present(broadcast_id)
                if show is None:
                    broadcast = await self._broadcasts.get(identity, broadcast_id)
                    _check_waiting(broadcast)
                    memory = await self._records.memory(broadcast_id)
                if self.admission.changes.count != checked_at:
                    continue
                # From here without an `await`: a waiting room exists while somebody's socket is in it.
                if show is None:
                    self.admission.check_may_enter(visitor, broadcast)
                    show = self._open(broadcast, memory)
                return self._admit(show, outlet, visitor)

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
        self.admission.draining = True

    # in tasks of ours

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

    async def _start_owned(self, broadcast_id: str) -> Broadcast:
        return await self._jobs.run(partial(self._start, broadcast_id))

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
            self.admission.kept_out.pop(broadcast_id, None)

    async def _finish(self, broadcast_id: str, reason: str, broadcast: Broadcast | None) -> None:
        """End the task, if there is one, and wait until nothing of it is left."""
        show = self._shows.get(broadcast_id)
        if show is not None:
            show.finish(reason, broadcast.ended_at if broadcast is not None else None)
            await show.gone.wait()

    # inside

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
        kept_out = self.admission.kept_out.setdefault(broadcast.id, KeptOut())
        for ban in memory.bans:
            kept_out.add(ban)
        show = LiveBroadcast(broadcast, self._means, memory=memory, kept_out=kept_out, on_gone=self._gone)
        self._shows[broadcast.id] = show
        start_clean(self._nursery, show.run, name=f"broadcast {broadcast.id}")
        return show

    def _gone(self, show: LiveBroadcast) -> None:
        del self._shows[show.id]
        if show.on_air or self.admission.kept_out[show.id].forgettable:
            del self.admission.kept_out[show.id]

    def _admit(self, show: LiveBroadcast, outlet: Outlet, visitor: Visitor) -> Member:
        self.admission.check_admitting()
        show.check_may_enter(visitor)
        if show.state.sockets_of(visitor.id) >= SOCKETS_PER_PERSON:
            raise TooManyRequestsError(
                "You have this show open too many times. Close a window and try again.",
                retry_after_s=10,
                code="too_many_sockets",
            )
        return show.join(outlet, visitor)

    async def _require_to_run(self, identity: Identity, broadcast_id: str) -> None:
        broadcast = await self._broadcasts.get(identity, broadcast_id)
        policy.may_run(await self.admission.account_role(identity, broadcast))


def _check_waiting(broadcast: Broadcast) -> None:
    """Only a scheduled broadcast has a waiting room."""
    if broadcast.status is BroadcastStatus.ENDED:
        raise already_ended()
    if broadcast.status is BroadcastStatus.LIVE:
        raise UnavailableError("This show is live, but not here just now. Try again in a moment.", code="not_carried")
