"""The plain streams of one room: an encoder for each format that somebody listens to, and those who do."""

from __future__ import annotations

import contextvars
from collections import Counter
from collections.abc import Callable

import trio

from lac_media.errors import SessionClosedError
from lac_media.parameters import Direction
from lac_media.rooms.events import AudienceChanged, RoomEvent, SessionClosed, SessionConnected
from lac_media.rooms.tap import Tap
from lac_media.streams.formats import StreamFormat, StreamTitle
from lac_media.streams.hub import StreamHub
from lac_media.streams.listener import StreamListener
from lac_media.streams.program_stream import ProgramStream


class Streams:
    """Owned by a `MediaRoom`; encoders run in its nursery. Listeners come and go by the same events as sessions."""

    def __init__(
        self,
        nursery: trio.Nursery,
        hub: StreamHub,
        tap_program: Callable[[], Tap],
        on_event: Callable[[RoomEvent], None],
    ) -> None:
        #: What players show; asked whenever a chunk is made.
        self.describe: Callable[[], StreamTitle] = StreamTitle
        self._nursery = nursery
        self._hub = hub
        self._tap_program = tap_program
        self._on_event = on_event
        self._running: dict[StreamFormat, ProgramStream] = {}
        self._listeners: dict[str, StreamListener] = {}
        self._closed = False

    def __len__(self) -> int:
        """Listeners."""
        return len(self._listeners)

    def by_format(self) -> dict[StreamFormat, int]:
        """Listeners of each format that has any."""
        return Counter(listener.format for listener in self._listeners.values())

    def open(self, stream_format: StreamFormat, owner: str, address: str | None = None) -> StreamListener:
        """A new listener, with a burst of what was on just now. Raises `StreamsFullError`, and `SessionClosedError`
        once the room is closing."""
        if self._closed:
            raise SessionClosedError("the room is closing")
        self._hub.check(address)
        stream = self._running.get(stream_format)
        if stream is None or stream.ended:
            stream = ProgramStream(stream_format, self._tap_program(), self._title, self._hub)
            self._running[stream_format] = stream
            # A clean context: the encoder outlives the request that began it.
            contextvars.Context().run(self._nursery.start_soon, stream.run)
        listener = StreamListener(stream, owner, address, self._on_close)
        stream.listeners.add(listener)
        self._listeners[listener.id] = listener
        self._hub.enter(stream_format, address)
        return listener

    def begin(self, listener: StreamListener) -> None:
        """The owner has entered the listener in its books: it counts from now on."""
        if not listener.closed:
            self._on_event(SessionConnected(listener.id, Direction.RECV, listener.owner))
            self._on_event(AudienceChanged(listener.id, True))

    def close_owner(self, owner: str, reason: str) -> None:
        for listener in [listener for listener in self._listeners.values() if listener.owner == owner]:
            listener.close(reason)

    def close(self, reason: str) -> None:
        """No one can listen any more. The encoders end with the nursery, or because nobody listens."""
        self._closed = True
        for listener in list(self._listeners.values()):
            listener.close(reason)

    def _title(self) -> StreamTitle:
        return self.describe()

    def _on_close(self, listener: StreamListener, reason: str) -> None:
        del self._listeners[listener.id]
        if reason != "ended":  # else it is still to be told of the end
            listener.source.listeners.discard(listener)
        self._hub.leave(listener.format, listener.address)
        self._hub.skips += listener.skips
        self._on_event(SessionClosed(listener.id, Direction.RECV, listener.owner, reason, was_connected=True))
