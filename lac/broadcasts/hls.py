"""Listening by HLS: the streams of the shows, who may have them, and who is listening.

A stream belongs to the task of its broadcast (`serve`). When the show is over what there is of it stays for a while as
a finished playlist, in a task of our own; so does, after a start, what an earlier process left. Whoever listens has a
pass (`hls_pass`) in the address. The passes in use are counted: a player asks for the playlist again all the time, and
one that does not has gone.

A public show's segments have addresses without a pass, so that a CDN keeps one copy for everyone; a private show's are
below the pass. Where the CDN takes them from a bucket (`origin`), streams of shows that are not private are encoded and
pushed for as long as they are here, and who comes is sent there while what is there is fresh.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import trio

from lac.broadcasts.hls_pass import PASS_LIFETIME, HlsPass, decode_pass_untrusted, encode_pass, new_pass
from lac.broadcasts.hls_show import GONE_AFTER_S, Gate, HlsListener, HlsShow, Show
from lac.broadcasts.model import Broadcast, Visibility
from lac.cdn.origin import RETRY_S, Find, HlsOrigin
from lac.cdn.pusher import PushCounters, Pusher
from lac.cdn.shelf import Aim
from lac.clock import utc_now
from lac.errors import ForbiddenError, NotFoundError, TooManyRequestsError
from lac.identity import Identity, IdentityKind
from lac.ids import new_id
from lac.rooms.values import HlsAddress
from lac.tasks import boundary, cleanup_scope
from lac_media.hls.files import read_stream
from lac_media.hls.renditions import SEGMENT_S
from lac_media.hls.stream import HlsStream, Workers

if TYPE_CHECKING:
    from lac.broadcasts.visitor import Visitor
    from lac_media.rooms.room import MediaRoom

log = structlog.get_logger(__name__)

HLS_DIRECTORY = "hls"
#: In the place of a pass, for what anybody may have.
PUBLIC = "media"
LOOK_INTERVAL_S = 1.0
#: Listeners of one show.
LISTENERS_MAX = 20_000
#: A private show's listeners are looked at again after this time, whatever happened.
RECHECK_S = 60.0
#: Finished streams kept in all, whatever their time: on disk one is at most 29 MB for half an hour.
KEPT_MAX = 20
#: How often those who listen by HLS are invited back to WebRTC when there is room again, and how many at a time. They
#: come by themselves within seconds of it: no more than the server can take in. Who does not come (the way there was
#: blocked for a moment, or they hear what was said before) is invited again, after all others.
RETURN_INTERVAL_S = 5.0
RETURN_AT_ONCE = 10
RETURN_AGAIN_S = 20.0
REMOVE_DEADLINE_S = 5.0


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
        cdn_url: str | None = None,
        origin: HlsOrigin | None = None,
        start: Callable[[Callable[[], Awaitable[None]]], None],
    ) -> None:
        self._gate = gate
        self._directory = directory
        self._key = key
        self._window_s = window_s
        self._keep_s = keep_s
        self._cdn_url = cdn_url
        self._origin = origin
        #: It is known which shows are on air: what is left of their first parts is not for the bucket.
        self._settled = False
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
            keep_encoding=self._is_encoded_always(show),
        )
        served = self._shows[show.id] = HlsShow(show.id, stream, began_at, show)
        self._push(served)
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
            elif served.pusher is not None:
                served.pusher.stop()
                self._leave_to_origin(served)

    def updated(self, broadcast: Broadcast) -> None:
        """The record has been changed."""
        served = self._finished.get(broadcast.id)
        if served is not None:
            served.private = broadcast.visibility is Visibility.PRIVATE

    def remove(self, broadcast_id: str) -> None:
        """The broadcast is gone: what is left of it goes, too."""
        served = self._finished.pop(broadcast_id, None)
        if served is not None:
            served.kept.cancel("the broadcast has been removed")

    def has(self, broadcast_id: str) -> bool:
        return broadcast_id in self._shows or self._is_on_air(broadcast_id) or broadcast_id in self._finished

    async def keep_origin(self, find: Find) -> None:
        """Look after the bucket, once it is known which shows are on air. Ends at once where there is none."""
        self._settled = True
        while self._origin is not None:
            with boundary("HLS in the bucket"):
                await self._learn(find)
                await self._origin.run(self, find)
            await trio.sleep(RETRY_S)

    async def _learn(self, find: Find) -> None:
        """What has become, while there was no process, of the shows that an earlier one left."""
        restored = [served.broadcast_id for served in self._finished.values() if served.private is None]
        known = await find(restored) if restored else {}
        for broadcast_id in restored:
            if broadcast_id in known:
                self.updated(known[broadcast_id])
            else:
                self.remove(broadcast_id)

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

    @property
    def pushed(self) -> PushCounters | None:
        """None: nothing is pushed into a bucket."""
        return None if self._origin is None else self._origin.counters

    @property
    def push_behind_s(self) -> float:
        """Of the show on air that is furthest behind in the bucket."""
        pushers = [served.pusher for served in self._shows.values() if served.pusher and not served.is_private]
        return max((pusher.shelf.behind_s for pusher in pushers), default=0.0)

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
        return self._issue(served, listener, is_private=bool(served.is_private))

    # the listeners'

    async def address(self, identity: Identity | None, broadcast_id: str, *, address: str | None) -> HlsAddress:
        """Where the caller can listen. Raises `NotFoundError`, `ForbiddenError` (`removed`, `room_locked`)."""
        served, broadcast, listener = await self._enter(identity, broadcast_id, address)
        return self._issue(served, listener, is_private=broadcast.visibility is Visibility.PRIVATE)

    async def issue_pass(self, identity: Identity | None, broadcast_id: str, *, address: str | None) -> str:
        """For the address of a playlist of ours. Raises as `address`."""
        _, _, listener = await self._enter(identity, broadcast_id, address)
        return encode_pass(listener, broadcast_id, key=self._key)

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

    async def _enter(
        self, identity: Identity | None, broadcast_id: str, address: str | None
    ) -> tuple[HlsShow, Broadcast, HlsPass]:
        address_hash = self._gate.address_hash(identity, address)
        broadcast = await self._gate.check_may_listen(identity, broadcast_id, address_hash, entering=True)
        served = self._find(broadcast_id)
        served.stream.need()  # so that something is there when the player comes
        if identity is None or identity.kind is IdentityKind.STREAM_KEY:
            return served, broadcast, new_pass(new_id(), None, address_hash=address_hash, now=utc_now())
        listener = new_pass(
            new_id(),
            identity.id,
            is_guest=identity.is_guest,
            sign_in_id=identity.sign_in_id,
            invite_version=identity.invite_version,
            address_hash=address_hash,
            now=utc_now(),
        )
        return served, broadcast, listener

    def _issue(self, served: HlsShow, listener: HlsPass, *, is_private: bool) -> HlsAddress:
        token = encode_pass(listener, served.broadcast_id, key=self._key)
        url = f"/hls/{served.broadcast_id}/{token}/index.m3u8"
        expires_at: datetime | None = utc_now() + PASS_LIFETIME
        if self._cdn_url is not None and not is_private:
            if self._origin is None:
                url = self._cdn_url + url
            elif served.pusher is not None and served.pusher.is_fresh:
                url, expires_at = f"{self._cdn_url}/hls/{served.broadcast_id}/index.m3u8", None
        return HlsAddress(
            url=url,
            expires_at=expires_at,
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
                served.stream.keep_encoding(self._is_encoded_always(served.show))
            if now >= invite_at:
                invite_at = now + RETURN_INTERVAL_S
                self._invite_back(served, now=now)

    def _invite_back(self, served: HlsShow, *, now: float) -> None:
        room = min(RETURN_AT_ONCE, self._gate.room_for_listeners())
        if served.show is None or room == 0:
            return
        for listener in list(served.listeners.values()):
            if now - listener.invited_at < RETURN_AGAIN_S or listener.token.person_id is None:
                continue
            if served.show.invite_to_webrtc(listener.token.person_id):
                served.invited(listener, now=now)
                room -= 1
                if room == 0:
                    return

    def _finish(self, served: HlsShow, keep_s: float) -> None:
        """Keep what there is of a show that is over, for a while."""
        earlier = self._finished.pop(served.broadcast_id, None)
        if earlier is not None:
            earlier.kept.cancel("there is a newer part of this show")
        self._finished[served.broadcast_id] = served
        if served.pusher is None:
            self._push(served)
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
            if served.pusher is not None:
                served.pusher.stop()
        self._leave_to_origin(served)
        with cleanup_scope(REMOVE_DEADLINE_S, "remove HLS files", broadcast_id=served.broadcast_id):
            await served.stream.remove()

    # the bucket

    def _is_encoded_always(self, show: Show) -> bool:
        """Who listens at the CDN is not seen here."""
        return show.rewind_enabled() or (self._origin is not None and not show.is_private())

    def _push(self, served: HlsShow) -> None:
        """In a task that outlives the broadcast's, as the finished playlist does."""
        origin = self._origin
        if origin is None:
            return
        pusher = served.pusher = Pusher(
            served.stream,
            origin.store,
            served.broadcast_id,
            aim=lambda: self._aim(served),
            counters=origin.counters,
        )

        async def push() -> None:
            with boundary("HLS into the bucket", broadcast_id=served.broadcast_id):
                await pusher.run()

        self._start(push)

    def _aim(self, served: HlsShow) -> Aim:
        place = self._shows.get(served.broadcast_id)
        if place is None and self._settled and not self._is_on_air(served.broadcast_id):
            place = self._finished.get(served.broadcast_id)
        private = served.is_private
        if place is not served or private is None:
            return Aim.WAIT
        return Aim.WITHDRAW if private else Aim.PUSH

    def _is_on_air(self, broadcast_id: str) -> bool:
        return self._gate.live_broadcast(broadcast_id) is not None

    def _leave_to_origin(self, served: HlsShow) -> None:
        if self._origin is not None and served.pusher is not None and not self.has(served.broadcast_id):
            self._origin.remove(served.broadcast_id, served.pusher.shelf.perhaps)

    def _get_workers(self) -> Workers:
        self._workers = self._workers or Workers()
        return self._workers
