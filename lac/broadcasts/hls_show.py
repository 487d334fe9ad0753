"""One show's HLS and who listens to it; and what it needs of others."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

import trio

from lac.broadcasts.hls_pass import HlsPass
from lac.broadcasts.model import Broadcast
from lac.identity import Identity
from lac.ids import new_id

if TYPE_CHECKING:
    from lac.cdn.pusher import Pusher
    from lac_media.hls.stream import HlsStream

#: A listener who has not asked for so long has gone: three times what players without parts wait.
GONE_AFTER_S = 15.0


class Gate(Protocol):
    """What decides who may listen: `Admission`."""

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

    def is_private(self) -> bool: ...

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
        #: Of a show that is over; None: nobody has looked yet.
        self.private: bool | None = None
        self.pusher: Pusher | None = None
        #: By their passes. Who has been invited to WebRTC goes to the end.
        self.listeners: dict[str, HlsListener] = {}

    @property
    def is_private(self) -> bool | None:
        return self.private if self.show is None else self.show.is_private()

    def add(self, listener: HlsListener) -> None:
        self.listeners[listener.token.id] = listener
        if self.show is not None:
            self.show.hls_opened(listener.session_id, listener.token)

    def invited(self, listener: HlsListener, *, now: float) -> None:
        listener.invited_at = now
        self.listeners[listener.token.id] = self.listeners.pop(listener.token.id)

    def drop_gone(self, *, now: float) -> None:
        for listener in [item for item in self.listeners.values() if now - item.seen_at > GONE_AFTER_S]:
            self.drop(listener)

    def drop(self, listener: HlsListener) -> None:
        if self.listeners.pop(listener.token.id, None) is not None and self.show is not None:
            self.show.hls_closed(listener.session_id)

    def over(self) -> None:
        """The broadcast closes what it has opened by itself."""
        self.private = self.is_private
        self.show = None
        self.stream.end()
