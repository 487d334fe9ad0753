"""One source client from its first byte to its last: read, unpacked in a worker thread, and played into the room."""

from __future__ import annotations

from collections.abc import AsyncIterator

import structlog
import trio

from lac_media.errors import ParseError
from lac_media.rooms.source import LocalSource
from lac_media.sources.ingest import PIECE_BYTES, Ingest
from lac_media.sources.pacer import Pacer
from lac_media.streams.hub import StreamHub

log = structlog.get_logger(__name__)

#: A client that sends nothing for this long is gone, though nobody has told us.
IDLE_S = 15.0


async def serve_source(source: LocalSource, ingest: Ingest, body: AsyncIterator[bytes], hub: StreamHub) -> None:
    """Play `body` until it ends, its client falls silent, it turns out to be no audio, or the source is closed from
    outside; then the source is closed, whatever the reason. What has come is played to its end first, unless somebody
    has closed the source."""
    reason = "hung_up"
    pace = _Pace(source)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when_closed, source, nursery.cancel_scope)
            nursery.start_soon(pace.run)
            try:
                if not await _read(source, ingest, body, pace, hub):
                    reason = "lost"
            except ParseError as error:
                log.info("a source client sends what cannot be taken", session_id=source.id, why=str(error))
                reason = "failed"
            await pace.drained()
            nursery.cancel_scope.cancel("the source has ended")
    finally:
        source.close(reason)


async def _read(source: LocalSource, ingest: Ingest, body: AsyncIterator[bytes], pace: _Pace, hub: StreamHub) -> bool:
    """False when nothing has come for too long."""
    while True:
        data = None
        with trio.move_on_after(IDLE_S):
            data = await anext(body, b"")
        if data is None:
            return False
        if not data:
            return True
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            while packets := await trio.to_thread.run_sync(ingest.work, piece, limiter=hub.decoding):
                piece = b""
                if ingest.song is not None:
                    source.song, ingest.song = ingest.song, None
                await pace.play(packets)


async def _cancel_when_closed(source: LocalSource, scope: trio.CancelScope) -> None:
    await source.wait_closed()
    scope.cancel("the source was closed")


class _Pace:
    """The pacer with a clock and a task."""

    def __init__(self, source: LocalSource) -> None:
        self._source = source
        self._pacer = Pacer()
        self._changed = trio.Event()

    async def run(self) -> None:
        while True:
            with trio.move_on_at(self._pacer.timer_at()):
                await self._changed.wait()
            for payload in self._pacer.take(now=trio.current_time()):
                self._source.push(payload)
            self._change()

    async def play(self, packets: list[bytes]) -> None:
        """Take these packets, as soon as there is room."""
        while self._pacer.is_full:
            await self._changed.wait()
        for packet in packets:
            self._pacer.add(packet, now=trio.current_time())
        self._change()

    async def drained(self) -> None:
        while not self._pacer.is_empty:
            await self._changed.wait()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
