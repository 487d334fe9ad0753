"""One client of a plain stream."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from lac_media.parameters import Direction
from lac_media.streams.formats import StreamFormat, StreamTitle
from lac_media.streams.ring import Cursor

if TYPE_CHECKING:
    from lac_media.streams.program_stream import ProgramStream


class StreamListener:
    """Made by `Streams.open`. All but `receive` is synchronous. `owner` as with a `Session`."""

    direction = Direction.RECV

    def __init__(
        self, source: ProgramStream, owner: str, address: str | None, on_close: Callable[[StreamListener, str], None]
    ) -> None:
        self.id = secrets.token_hex(16)
        self.owner = owner
        self.address = address
        self.close_reason: str | None = None
        self.source = source
        self._on_close = on_close
        self._cursor = Cursor(source.ring)
        self._news = trio.Event()

    @property
    def format(self) -> StreamFormat:
        return self.source.format

    @property
    def title(self) -> StreamTitle:
        """What is on now."""
        return self.source.describe()

    @property
    def skips(self) -> int:
        """How often it was too slow and had to be moved forward."""
        return self._cursor.skips

    @property
    def closed(self) -> bool:
        return self.close_reason is not None

    async def receive(self) -> bytes:
        """What has come since the last call. Raises `trio.EndOfChannel` when the listener is closed, or the stream has
        ended and all of it was read. A cancelled call loses nothing."""
        await trio.lowlevel.checkpoint()
        while True:
            # When the show is over the last of it may still be heard.
            if self.closed and self.close_reason != "ended":
                raise trio.EndOfChannel
            if self._cursor.has_more:
                return self._cursor.read()
            if self.source.ended:
                raise trio.EndOfChannel
            self._news = trio.Event()
            await self._news.wait()

    def close(self, reason: str) -> None:
        """Give up the place. Idempotent."""
        if self.close_reason is None:
            self.close_reason = reason
            self.wake()
            self._on_close(self, reason)

    def wake(self) -> None:
        """There may be something to read."""
        self._news.set()
