"""Listening by HLS: the streams of the shows, who may have them, and who is listening.

A stream belongs to the task of its broadcast (`serve`). When the show is over what there is of it stays for a while as
a finished playlist, in a task of our own; so does, after a start, what an earlier process left. Whoever listens has a
pass (`hls_pass`) in the address. The passes in use are counted: a player asks for the playlist again all the time, and
one that does not has gone.

A public show's segments have addresses without a pass, so that a CDN keeps one copy for everyone; a private show's are
below the pass.
"""

from __future__ import annotations

import math
import secrets
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import structlog
import trio

from lac.broadcasts.hls_pass import PASS_LIFETIME, HlsPass, decode_pass_untrusted, encode_pass, new_pass
from lac.broadcasts.model import Broadcast, Visibility
from lac.clock import utc_now
from lac.errors import ForbiddenError, NotFoundError, TooManyRequestsError
from lac.identity import Identity, IdentityKind
from lac.ids import new_id
from lac.rooms.messages import HlsAddress
from lac.tasks import boundary, cleanup_scope
from lac_media.hls.files import read_stream
from lac_media.hls.renditions import SEGMENT_S
from lac_media.hls.stream import HlsStream, Workers

if TYPE_CHECKING:
    from lac.broadcasts.live_broadcast import Visitor
    from lac_media.rooms.room import MediaRoom

log = structlog.get_logger(__name__)

HLS_DIRECTORY = "hls"
#: In the place of a pass, for what anybody may have.
PUBLIC = "media"
#: A listener who has not asked for so long has gone: three times what players without parts wait.
GONE_AFTER_S = 15.0
LOOK_INTERVAL_S = 1.0
#: Listeners of one show.
LISTENERS_MAX = 20_000
#: A private show's listeners are looked at again after this time, whatever happened.
RECHECK_S = 60.0
#: Finished streams kept in all, whatever their time: on disk one is at most 29 MB for half an hour.
KEPT_MAX = 20
#: How often those who listen by HLS are invited back to WebRTC when there is room again, and how many at a time. They
#: come by themselves within seconds of it: no more than the server can take in.
RETURN_INTERVAL_S = 5.0
RETURN_AT_ONCE = 10
RETURN_AGAIN_S = 120.0
REMOVE_DEADLINE_S = 5.0


class Gate(Protocol):
    """What decides who may listen: `OnAir`."""

    def rights_changed(self) -> int:
        """Counts what takes rights away or gives them."""

    async def check_may_listen(
        self, identity: Identity | None, broadcast_id: str, address_hash: str | None, *, entering: bool
    ) -> Broadcast: ...

    async def identify_listener(self, broadcast_id: str, listener: HlsPass) -> Identity | None: ...

    def live_broadcast(self, broadcast_id: str) -> Broadcast | None:
        """The broadcast, if it is on air."""

    def check_not_kept_out(self, broadcast_id: str, person_id: str | None, address_hash: str | None) -> None: ...

    def address_hash(self, identity: Identity | None, address: str | None) -> str | None: ...

    def prefers_hls(self) -> bool:
        """Listeners who come now are to listen by HLS."""

    def room_for_listeners(self) -> int:
        """How many of those who listen by HLS may come to WebRTC now."""


class Show(Protocol):
    """What a stream needs of its broadcast: `LiveBroadcast`."""

    @property
    def id(self) -> str: ...

    def rewind_enabled(self) -> bool:
        """Encode although nobody listens."""

    def hls_opened(self, session_id: str, listener: HlsPass) -> None: ...

    def hls_closed(self, session_id: str) -> None: ...

    def invite_to_webrtc(self, person_id: str) -> bool:
        """False if the person has no socket here."""


@dataclass(slots=True, eq=False)
class HlsListener:
    """Somebody who listens now."""

    token: HlsPass
    seen_at: float
    checked_at: float
    #: `Gate.rights_changed` at the last check.
    checked_change: int
    invited_at: float = -math.inf
    #: In the history of listeners: who comes back by the same pass listens once more.
    session_id: str = field(default_factory=new_id)


class HlsShow:
    """One broadcast's stream and its listeners; without a `show` once that is over."""

    def __init__(self, broadcast_id: str, stream: HlsStream, began_at: datetime, show: Show | None) -> None:
        self.broadcast_id = broadcast_id
        self.stream = stream
        self.began_at = began_at
        self.show = show
        #: Cancelled when what is left of it has to go before its time.
        self.kept = trio.CancelScope()
        self.listeners: dict[str, HlsListener] = {}

    def add(self, listener: HlsListener) -> None:
        self.listeners[listener.token.id] = listener
        if self.show is not None:
            self.show.hls_opened(listener.session_id, listener.token)

    def drop_gone(self, *, now: float) -> None:
        for listener in [item for item in self.listeners.values() if now - item.seen_at > GONE_AFTER_S]:
            self.drop(listener)

    def drop(self, listener: HlsListener) -> None:
        if self.listeners.pop(listener.token.id, None) is not None and self.show is not None:
            self.show.hls_closed(listener.session_id)

    def over(self) -> None:
        """The broadcast closes what it has opened by itself."""
        self.show = None
        self.stream.end()


class HlsDesk:
    """See the module. `start` starts a task that outlives a broadcast's."""

    def __init__(
        self,
        gate: Gate,
        directory: Path,
        *,
        key: str,
        window_s: float,
        keep_s: float,
        start: Callable[[Callable[[], Awaitable[None]]], None],
    ) -> None:
        self._gate = gate
        self._directory = directory
        self._key = key
        self._window_s = window_s
        self._keep_s = keep_s
        self._start = start
        self._workers: Workers | None = None
        #: On air. One that has been taken up again after a start goes before what is left of its first part.
        self._shows: dict[str, HlsShow] = {}
        #: Over, the oldest first.
        self._finished: dict[str, HlsShow] = {}

    def restore(self) -> None:
        """Take up what an earlier process left, for the rest of its time, and remove what is of no use. Before anybody
        is served."""
        if not self._directory.exists():
            return
        found = []
        for directory in self._directory.iterdir():
            stored = read_stream(directory)
            if stored is None or utc_now() >= stored.ended_at + timedelta(seconds=self._keep_s):
                shutil.rmtree(directory, ignore_errors=True)
            else:
                found.append((stored.ended_at, directory, stored))
        for ended_at, directory, stored in sorted(found, key=lambda item: item[0]):
            broadcast_id = directory.name.removesuffix(f"-{stored.run}")
            stream = HlsStream.finished(directory, stored, workers=self._get_workers())
            log.info("HLS of an earlier process is kept", broadcast_id=broadcast_id, segments=len(stored.segments))
            left_s = self._keep_s - (utc_now() - ended_at).total_seconds()
            self._finish(HlsShow(broadcast_id, stream, stored.began_at, None), left_s)

    # the broadcast's

    async def serve(self, show: Show, media: MediaRoom) -> None:
        """The broadcast's stream, for as long as it is on air."""
        run = secrets.token_hex(4)
        began_at = utc_now() - timedelta(seconds=media.media_time_s())
        stream = HlsStream(
            self._directory / f"{show.id}-{run}",
            run=run,
            began_at=began_at,
            # Later than of any earlier run, also of an earlier process: players go on.
            first_msn=int(utc_now().timestamp() / SEGMENT_S),
            window_s=self._window_s,
            workers=self._get_workers(),
            keep_encoding=show.rewind_enabled(),
        )
        served = self._shows[show.id] = HlsShow(show.id, stream, began_at, show)
        try:
            with boundary("HLS of a broadcast", broadcast_id=show.id):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(stream.run, media)
                    nursery.start_soon(self._look_after, served)
        finally:
            served.over()
            if self._shows.get(show.id) is served:
                del self._shows[show.id]
            if stream.plan.segments:
                self._finish(served, self._keep_s)

    def remove(self, broadcast_id: str) -> None:
        """The broadcast is gone: what is left of it goes, too."""
        served = self._finished.pop(broadcast_id, None)
        if served is not None:
            served.kept.cancel("the broadcast has been removed")

    def listener_count(self, broadcast_id: str) -> int:
        """Who listens to the live show by HLS."""
        served = self._shows.get(broadcast_id)
        return len(served.listeners) if served is not None else 0

    @property
    def streams(self) -> list[HlsStream]:
        return [served.stream for served in (*self._shows.values(), *self._finished.values())]

    @property
    def listeners(self) -> int:
        """Of all shows that are on air."""
        return sum(len(served.listeners) for served in self._shows.values())

    def address_in_room(self, broadcast_id: str, visitor: Visitor) -> HlsAddress | None:
        """For somebody who has just been let into the room. None where nothing is on air."""
        served = self._shows.get(broadcast_id)
        if served is None:
            return None
        listener = new_pass(
            new_id(),
            visitor.id,
            is_guest=visitor.anonymous,
            sign_in_id=visitor.sign_in_id,
            invite_version=visitor.invite_version,
            address_hash=visitor.address_hash,
            now=utc_now(),
        )
        return self._issue(served, listener)

    # the listeners'

    async def address(self, identity: Identity | None, broadcast_id: str, *, address: str | None) -> HlsAddress:
        """Where the caller can listen. Raises `NotFoundError`, `ForbiddenError` (`removed`, `room_locked`)."""
        address_hash = self._gate.address_hash(identity, address)
        await self._gate.check_may_listen(identity, broadcast_id, address_hash, entering=True)
        served = self._find(broadcast_id)
        served.stream.need()  # so that something is there when the player comes
        if identity is None or identity.kind is IdentityKind.STREAM_KEY:
            return self._issue(served, new_pass(new_id(), None, address_hash=address_hash, now=utc_now()))
        listener = new_pass(
            new_id(),
            identity.id,
            is_guest=identity.is_guest,
            sign_in_id=identity.sign_in_id,
            invite_version=identity.invite_version,
            address_hash=address_hash,
            now=utc_now(),
        )
        return self._issue(served, listener)

    async def admit(self, broadcast_id: str, token: str) -> tuple[HlsShow, bool]:
        """The show, for somebody who asks for a playlist and is counted by it; and whether it is private.

        Raises `NotFoundError`, `ForbiddenError` (`hls_expired`, `removed`, `private`), `NotSignedInError`,
        `TooManyRequestsError`."""
        served, listener = await self._look_up(broadcast_id, token)
        listener.seen_at = trio.current_time()
        return served, self._is_private(served)

    async def admit_file(self, broadcast_id: str, token: str) -> HlsShow:
        """The show, for somebody who asks for a segment. Raises as `admit`."""
        if token != PUBLIC:
            served, listener = await self._look_up(broadcast_id, token)
            listener.seen_at = trio.current_time()
            return served
        served = self._find(broadcast_id)
        broadcast = self._gate.live_broadcast(broadcast_id)
        if broadcast is None:
            await self._gate.check_may_listen(None, broadcast_id, None, entering=False)
        elif broadcast.visibility is Visibility.PRIVATE:
            raise ForbiddenError("This show is private.", code="private")
        return served

    # inside

    def _find(self, broadcast_id: str) -> HlsShow:
        served = self._shows.get(broadcast_id) or self._finished.get(broadcast_id)
        if served is None:
            raise NotFoundError("There is nothing to hear of this show.", code="not_live")
        return served

    def _issue(self, served: HlsShow, listener: HlsPass) -> HlsAddress:
        token = encode_pass(listener, served.broadcast_id, key=self._key)
        return HlsAddress(
            url=f"/hls/{served.broadcast_id}/{token}/index.m3u8",
            expires_at=utc_now() + PASS_LIFETIME,
            media_time_zero=served.began_at,
            window_s=self._window_s,
            preferred=served.show is not None and self._gate.prefers_hls(),
        )

    async def _look_up(self, broadcast_id: str, token: str) -> tuple[HlsShow, HlsListener]:
        served = self._find(broadcast_id)
        listener_pass = decode_pass_untrusted(token, broadcast_id, key=self._key)
        if listener_pass is None:
            raise NotFoundError("There is nothing at this address.", code="not_found")
        listener = served.listeners.get(listener_pass.id)
        if listener is None:
            if listener_pass.is_expired(utc_now()):
                raise ForbiddenError("This address has expired. Ask for a new one.", code="hls_expired")
            if len(served.listeners) >= LISTENERS_MAX:
                raise TooManyRequestsError("This show has as many listeners as it can have.", retry_after_s=10)
            change = await self._check(served, listener_pass)
            listener = served.listeners.get(listener_pass.id)  # two requests at once
            if listener is None:
                now = trio.current_time()
                listener = HlsListener(listener_pass, now, now, change)
                served.add(listener)
        elif self._is_due(served, listener):
            try:
                listener.checked_change = await self._check(served, listener_pass)
            except BaseException:
                served.drop(listener)
                raise
            listener.checked_at = trio.current_time()
        return served, listener

    def _is_due(self, served: HlsShow, listener: HlsListener) -> bool:
        if listener.checked_change != self._gate.rights_changed():
            return True
        return self._is_private(served) and trio.current_time() - listener.checked_at > RECHECK_S

    def _is_private(self, served: HlsShow) -> bool:
        """Of a show that is over nobody asks often: it is treated as if it were."""
        broadcast = self._gate.live_broadcast(served.broadcast_id)
        return broadcast is None or broadcast.visibility is Visibility.PRIVATE

    async def _check(self, served: HlsShow, listener: HlsPass) -> int:
        """The policy, as of now. Returns what `rights_changed` said at the time."""
        gate = self._gate
        while True:
            change = gate.rights_changed()
            broadcast = gate.live_broadcast(served.broadcast_id)
            if broadcast is not None and broadcast.visibility is not Visibility.PRIVATE:
                # Open to all but those who were removed. From memory: a moderator's act must not make a query for each.
                gate.check_not_kept_out(served.broadcast_id, listener.person_id, listener.address_hash)
                return change
            identity = await gate.identify_listener(served.broadcast_id, listener)
            await gate.check_may_listen(identity, served.broadcast_id, listener.address_hash, entering=False)
            if change == gate.rights_changed():
                return change

    async def _look_after(self, served: HlsShow) -> None:
        """Notice who has gone, and invite back to WebRTC while there is room."""
        invite_at = trio.current_time() + RETURN_INTERVAL_S
        while True:
            await trio.sleep(LOOK_INTERVAL_S)
            now = trio.current_time()
            served.drop_gone(now=now)
            if served.show is not None:
                served.stream.keep_encoding(served.show.rewind_enabled())
            if now >= invite_at:
                invite_at = now + RETURN_INTERVAL_S
                self._invite_back(served, now=now)

    def _invite_back(self, served: HlsShow, *, now: float) -> None:
        invited = 0
        room = min(RETURN_AT_ONCE, self._gate.room_for_listeners())
        for listener in list(served.listeners.values()):
            if invited >= room or served.show is None:
                return
            person_id = listener.token.person_id
            if person_id is not None and now - listener.invited_at >= RETURN_AGAIN_S:
                listener.invited_at = now
                invited += served.show.invite_to_webrtc(person_id)

    def _finish(self, served: HlsShow, keep_s: float) -> None:
        """Keep what there is of a show that is over, for a while."""
        earlier = self._finished.pop(served.broadcast_id, None)
        if earlier is not None:
            earlier.kept.cancel("there is a newer part of this show")
        self._finished[served.broadcast_id] = served
        while len(self._finished) > KEPT_MAX:
            self._finished.pop(next(iter(self._finished))).kept.cancel("others are newer")
        self._start(lambda: self._keep(served, keep_s))

    async def _keep(self, served: HlsShow, keep_s: float) -> None:
        """When its time is over its files go. When the server stops before that they stay: see `restore`."""
        try:
            with served.kept:
                deadline = trio.current_time() + keep_s
                while trio.current_time() < deadline:
                    await trio.sleep(min(GONE_AFTER_S, deadline - trio.current_time()))
                    served.drop_gone(now=trio.current_time())
        finally:
            if self._finished.get(served.broadcast_id) is served:
                del self._finished[served.broadcast_id]
        with cleanup_scope(REMOVE_DEADLINE_S, "remove HLS files", broadcast_id=served.broadcast_id):
            await served.stream.remove()

    def _get_workers(self) -> Workers:
        self._workers = self._workers or Workers()
        return self._workers
