"""The media of one show: who may open a session, a source or a plain stream in its media room, and who is cut off.

`media_door` stands before it, for all shows: it asks the policy. Who has a session is the stage's to know (`stage`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Protocol, TypeVar

import trio

from lac.auth.sign_ins import SignInsEnded
from lac.broadcasts import policy
from lac.broadcasts.model import Broadcast, Role
from lac.broadcasts.stage import Closable, Stage
from lac.broadcasts.visitor import Visitor, not_live
from lac.errors import ConflictError, ForbiddenError, TooManyRequestsError, UnavailableError
from lac.rooms.text import one_line
from lac_media.errors import MediaError, StreamsFullError
from lac_media.parameters import Direction
from lac_media.rooms.events import (
    AudienceChanged,
    RoomEvent,
    SessionClosed,
    SessionConnected,
    SpeakerStarted,
    SpeakerStopped,
)
from lac_media.rooms.source import LocalSource
from lac_media.streams.formats import StreamFormat, StreamTitle
from lac_media.streams.listener import StreamListener

if TYPE_CHECKING:
    from lac.broadcasts.ledger import Ledger
    from lac_media.rooms.room import MediaRoom, RoomStats
    from lac_media.rooms.session import Session

S = TypeVar("S", bound=Closable)

#: Of what an encoder says is playing, so many characters are shown.
SONG_MAX = 300
#: When a player that found no place may try again.
STREAMS_RETRY_S = 60.0


class MediaOwner(Protocol):
    """What the media need of the broadcast that they belong to: `LiveBroadcast`."""

    @property
    def broadcast(self) -> Broadcast: ...

    @property
    def over(self) -> bool:
        """Nobody comes in any more."""

    def check_may_enter(self, visitor: Visitor) -> None:
        """Raise `ForbiddenError` for somebody who may not come in just now."""


class ShowMedia:
    """Between `begin` and `end` there is a media room. Sessions are entered in the ledger as they come and go."""

    def __init__(self, owner: MediaOwner, ledger: Ledger) -> None:
        self.stage = Stage()
        self._owner = owner
        self._ledger = ledger
        self._room: MediaRoom | None = None

    def begin(self, room: MediaRoom, muted: Iterable[str]) -> None:
        self._room = room
        room.streams.describe = self._stream_title
        for person_id in muted:
            room.mute(person_id)

    def end(self) -> None:
        """The room is gone."""
        self._room = None

    @property
    def has_room(self) -> bool:
        return self._room is not None

    # ways in

    async def open_session(self, visitor: Visitor, direction: Direction, kind: str) -> Session:
        """Open one media session. The caller has asked the policy."""
        return await self._enter(visitor, direction, kind, lambda room: room.open_session(direction, visitor.id))

    async def open_source(self, visitor: Visitor, kind: str) -> LocalSource:
        """The same for a speaker whose audio comes in by another way than WebRTC."""

        async def open_source(room: MediaRoom) -> LocalSource:
            await trio.lowlevel.checkpoint()
            return room.open_source(visitor.id)

        source = await self._enter(visitor, Direction.SEND, kind, open_source)
        source.room.begin_source(source)
        return source

    async def open_stream(
        self, visitor: Visitor, stream_format: StreamFormat, kind: str, *, limited_by: str | None
    ) -> StreamListener:
        """A listener by plain HTTP. `limited_by` stands for where they come from."""

        async def open_stream(room: MediaRoom) -> StreamListener:
            await trio.lowlevel.checkpoint()
            return room.streams.open(stream_format, visitor.id, limited_by)

        listener = await self._enter(visitor, Direction.RECV, kind, open_stream)
        if self._room is not None:
            self._room.streams.begin(listener)
        return listener

    async def _enter(
        self, visitor: Visitor, direction: Direction, kind: str, opening: Callable[[MediaRoom], Awaitable[S]]
    ) -> S:
        room = self._room
        if room is None or self._owner.over:
            raise not_live()
        if direction is Direction.SEND:
            self.stage.check_publish(visitor.id, visitor.role)
        with self.stage.opening(visitor.id):
            try:
                session = await opening(room)
            except StreamsFullError as error:
                raise _streams_full(error) from error
            except MediaError as error:
                if self._owner.over:
                    raise not_live() from error
                raise UnavailableError("The connection could not be prepared. Try again.") from error
        if self._owner.over or session.closed:
            session.close("ended")
            raise not_live()
        try:
            self._owner.check_may_enter(visitor)
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

    def check_may_hear_speakers(self, session: Session) -> None:
        """Raise `ForbiddenError` unless the session's owner is one of those who may speak: the others on stage are for
        them, everybody else hears the program."""
        policy.require(self.stage.role_of(session.owner) or Role.LISTENER, policy.Act.PUBLISH)

    # who is heard no more, and who is cut off

    def mute(self, person_id: str) -> None:
        if self._room is not None:
            self._room.mute(person_id)

    def unmute(self, person_id: str) -> None:
        if self._room is not None:
            self._room.unmute(person_id)

    def change_role(self, person_id: str, role: Role) -> None:
        """It counts at once: who may not be heard any more leaves the stage."""
        self.stage.change_role(person_id, role)
        if not policy.is_allowed(role, policy.Act.PUBLISH):
            for session in self.stage.publishing_of(person_id):
                session.close("moved_to_audience")
            if self._room is not None:
                self._room.close_stage(person_id)

    def close_owner(self, person_id: str, reason: str) -> None:
        if self._room is not None:
            self._room.close_owner(person_id, reason)

    def address_removed(self, address_hash: str) -> None:
        """Close what everyone without an account has open who comes from there."""
        for session in self.stage.from_address(address_hash):
            session.close("removed")

    def sign_ins_ended(self, ended: SignInsEnded) -> None:
        """Close what came in by them. Encoders with the stream key need no sign-in and stay."""
        for session in self.stage.opened_by(ended):
            session.close("removed")

    def stream_key_changed(self) -> None:
        """Whoever publishes with the old one is cut off."""
        for session in self.stage.opened_by_key():
            session.close("removed")

    def end_streams(self) -> None:
        """Hang up on players and source clients: the server stops."""
        if self._room is not None:
            self._room.end_streams("shutdown")

    # what happens in the room

    def take_event(self, event: RoomEvent) -> None:
        match event:
            case SessionConnected():
                self.stage.connected(event.session_id)
            case AudienceChanged():
                self.stage.hears_program(event.session_id, event.hears)
            case SpeakerStarted():
                for session, reason in self.stage.started(event.session_id, event.producer_id):
                    session.close(reason)
            case SpeakerStopped():
                self.stage.stopped(event.session_id)
            case SessionClosed():
                known = self.stage.closed(event.session_id)
                # "ended": the room itself closes. Those rows are closed at once, with what ended the broadcast.
                if known and event.reason != "ended":
                    self._ledger.session_ended(event.session_id, event.reason)

    def time_s(self) -> float:
        return self._room.media_time_s() if self._room is not None else 0.0

    def stats(self) -> RoomStats | None:
        return self._room.stats() if self._room is not None else None

    def stream_listeners(self) -> dict[str, int]:
        """Those of the listeners whom the program reaches by a plain stream, by its format."""
        by_format = {} if self._room is None else self._room.streams.by_format()
        return {stream_format.value: count for stream_format, count in by_format.items()}

    # what is playing

    def set_song(self, song: str | None) -> None:
        """What the encoders with the stream key are playing. Raises `ConflictError` (no_source) if there are none."""
        sources = [source for source in self.stage.opened_by_key() if isinstance(source, LocalSource)]
        if not sources:
            raise ConflictError("No encoder is connected to this show.", code="no_source")
        for source in sources:
            source.song = song

    def _stream_title(self) -> StreamTitle:
        """What players of the plain streams show."""
        sources = () if self._room is None else self._room.sources.values()
        song = next((source.song for source in sources if source.song and source.heard_at is not None), None)
        song = one_line(song or "")[:SONG_MAX] or None
        return StreamTitle(self._owner.broadcast.title, self._owner.broadcast.host_name, song)


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
