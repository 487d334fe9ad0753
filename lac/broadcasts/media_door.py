"""Media sessions, source clients and plain streams: the ways in to be heard, or to hear. `OnAir.media`.

Who may is asked here, what is let in is opened by the show's own media (`show_media`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from lac.broadcasts import policy
from lac.broadcasts.admission import Admission, already_ended, for_broadcast, media_visitor
from lac.broadcasts.hls import HlsDesk
from lac.broadcasts.live_broadcast import LiveBroadcast
from lac.broadcasts.model import Broadcast, BroadcastStatus
from lac.broadcasts.stage import Closable
from lac.broadcasts.visitor import Visitor, not_live
from lac.clock import utc_now
from lac.errors import ConflictError, UnavailableError
from lac.identity import Identity
from lac_media.parameters import Direction

if TYPE_CHECKING:
    from lac.broadcasts.service import BroadcastService
    from lac_media.rooms.session import Session
    from lac_media.rooms.source import LocalSource
    from lac_media.streams.formats import StreamFormat
    from lac_media.streams.listener import StreamListener

S = TypeVar("S", bound=Closable)

#: Ways in, as the sessions' rows name them.
ICECAST, STREAM = "icecast", "stream"
#: Those of encoders, which start a scheduled show by connecting.
ENCODERS = frozenset({"whip", ICECAST})
#: When a player may ask again for a show that has not begun.
STREAM_RETRY_S, STREAM_RETRY_MAX_S = 10.0, 300.0


class MediaDoor:
    """Every method asks the policy itself. `start` has a scheduled show begin; `shows` are those that have a task."""

    def __init__(
        self,
        shows: Mapping[str, LiveBroadcast],
        admission: Admission,
        broadcasts: BroadcastService,
        hls: HlsDesk,
        start: Callable[[str], Awaitable[Broadcast]],
    ) -> None:
        self._shows = shows
        self._admission = admission
        self._broadcasts = broadcasts
        self._hls = hls
        self._start = start

    async def open_session(
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
            lambda show, visitor: show.media.open_session(visitor, direction, kind),
        )

    async def open_source(self, identity: Identity, broadcast_id: str, *, address: str | None = None) -> LocalSource:
        """The same for an Icecast source client, who speaks with the stream key and starts a scheduled show."""
        return await self._open_media(
            identity,
            broadcast_id,
            Direction.SEND,
            ICECAST,
            address,
            lambda show, visitor: show.media.open_source(visitor, ICECAST),
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
                lambda show, visitor: show.media.open_stream(visitor, stream_format, STREAM, limited_by=limited_by),
            )
        except ConflictError as error:
            if error.code == "not_live":
                raise await self._no_stream(identity, broadcast_id) from None
            raise

    async def check_stream(
        self, identity: Identity | None, broadcast_id: str, *, address: str | None = None
    ) -> Broadcast:
        """Raise what `open_stream` would, but for what only depends on how full it is."""
        self._admission.check_admitting()
        identity = for_broadcast(identity, broadcast_id)
        address_hash = self._admission.address_hash(identity, address)
        broadcast, _ = await self._admission.check_media(identity, broadcast_id, Direction.RECV, address_hash)
        show = self._shows.get(broadcast_id)
        if show is None or show.over or not show.on_air:
            raise await self._no_stream(identity, broadcast_id)
        return broadcast

    async def set_song(self, identity: Identity, broadcast_id: str, song: str | None) -> None:
        """What the encoder with the stream key is playing: the title of the plain streams. Raises `ConflictError`
        (`not_live`, `no_source`)."""
        await self._admission.check_media(for_broadcast(identity, broadcast_id), broadcast_id, Direction.SEND, None)
        show = self._shows.get(broadcast_id)
        if show is None or show.over or not show.on_air:
            raise not_live()
        show.media.set_song(song)

    def end_streams(self) -> None:
        """The server stops: players and source clients are hung up on, and come back where they find it again."""
        for show in list(self._shows.values()):
            show.media.end_streams()

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
        self._admission.check_admitting()
        identity = for_broadcast(identity, broadcast_id)
        address_hash = self._admission.address_hash(identity, address)
        checked_at = self._admission.changes.count
        broadcast, role = await self._admission.check_media(identity, broadcast_id, direction, address_hash)
        visitor = replace(media_visitor(identity, role), address_hash=address_hash)
        if direction is Direction.RECV and not policy.is_allowed(role, policy.Act.PUBLISH):
            self._admission.check_load(lambda: self._hls.address_in_room(broadcast_id, visitor), radio=kind == STREAM)
        if (
            direction is Direction.SEND
            and kind in ENCODERS
            and broadcast.status is BroadcastStatus.SCHEDULED
            and policy.is_allowed(role, policy.Act.RUN)
        ):
            await self._start(broadcast_id)
        show = self._shows.get(broadcast_id)
        if show is None or not show.on_air:
            raise not_live()
        await show.ready.wait()
        self._admission.check_admitting()
        session = await opening(show, visitor)
        while self._admission.changes.count != checked_at:
            # Somebody's rights changed while it opened. What changes from now on finds the session by itself.
            checked_at = self._admission.changes.count
            try:
                _, role = await self._admission.check_media(identity, broadcast_id, direction, address_hash)
            except BaseException:
                session.close("removed")
                raise
            show.media.stage.change_role(visitor.id, role)
        return session

    def check_may_hear_speakers(self, session: Session) -> None:
        """Raise `ForbiddenError` unless the session's owner may be sent single speakers: those on stage may."""
        show = self._shows.get(session.room.id)
        if show is None or show.over:
            raise not_live()
        show.media.check_may_hear_speakers(session)
