"""The program in one format, as long as anybody listens: one task, which reads the program and fills a ring."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog
import trio

from lac_media.parameters import OPUS_CLOCK_RATE_HZ
from lac_media.rooms.tap import Tap, TappedPacket
from lac_media.rooms.timeline import ClockFollower, Piece, Timeline
from lac_media.rooms.track import QUIET_LEVEL
from lac_media.streams.formats import StreamFormat, StreamTitle
from lac_media.streams.hub import StreamHub
from lac_media.streams.listener import StreamListener
from lac_media.streams.packers import Packed, Packer, make_packer
from lac_media.streams.ring import Ring

log = structlog.get_logger(__name__)

#: How often a chunk is made: a bound of the delay, and what a batch costs is spread over it.
INTERVAL_S = 0.25
#: An encoder without listeners goes on for this long: radios that reconnect find their burst.
IDLE_S = 15.0
#: A hole in the program that is longer than this is left out, not filled: this process did not run.
MAX_HOLE_TICKS = 5 * OPUS_CLOCK_RATE_HZ
#: Listeners are woken so many at a time, with the others' turns in between: writing to hundreds of sockets at once
#: would delay the live audio by tens of milliseconds.
WAKE_SLICE = 8
#: The part of an interval in which all of them are.
WAKE_SHARE = 0.7


class ProgramLine:
    """The tapped program as an unbroken line on our own clock."""

    def __init__(self) -> None:
        self._line: Timeline | None = None
        self._clock = ClockFollower()
        self._clock_offset_ticks = 0

    def receive(self, packets: Iterable[TappedPacket], *, now: float) -> list[Piece]:
        """What is settled at `now`, in order."""
        out: list[Piece] = []
        for packet in packets:
            quiet = packet.level is not None and packet.level & 0x7F >= QUIET_LEVEL
            ticks = self._clock.place(packet.rtp_timestamp, quiet=quiet, now=packet.arrived_at)
            if self._line is None or ticks - self._line.position > MAX_HOLE_TICKS:
                self._line = Timeline(ticks)
                self._clock_offset_ticks = ticks - round(packet.arrived_at * OPUS_CLOCK_RATE_HZ)
            out.extend(self._line.receive(ticks, packet.payload))
        if self._line is not None:
            at = round(now * OPUS_CLOCK_RATE_HZ) + self._clock_offset_ticks
            if at - self._line.position <= MAX_HOLE_TICKS:
                out.extend(self._line.advance(at))
        return out


class ProgramStream:
    """See the module. Made by `Streams`, which runs it and lets listeners in."""

    def __init__(
        self, stream_format: StreamFormat, tap: Tap, describe: Callable[[], StreamTitle], hub: StreamHub
    ) -> None:
        self.format = stream_format
        self.ring = Ring()
        self.ended = False
        self.listeners: set[StreamListener] = set()
        self.describe = describe
        self._tap = tap
        self._hub = hub
        self._line = ProgramLine()
        self._packer: Packer | None = None
        self._empty_since: float | None = None

    async def run(self) -> None:
        """Until the program ends, or nobody has listened for a while. Then `ended` is set, and listeners get what is
        left of the ring."""
        self._hub.encoders[self.format] += 1
        try:
            self._packer = make_packer(self.format)
            next_at = trio.current_time()
            while not self._tap.ended and not self._is_idle():
                next_at = max(next_at + INTERVAL_S, trio.current_time())
                await trio.sleep_until(next_at)
                await self._step()
        except Exception:
            # This format's listeners are let go; neither the show nor the other formats are touched.
            log.exception("a plain stream failed", format=self.format)
        finally:
            self._hub.encoders[self.format] -= 1
            self._end()

    async def _step(self) -> None:
        """One interval's worth of the program."""
        pieces = self._line.receive(self._tap.receive_nowait(), now=trio.current_time())
        if not pieces or self._packer is None:
            return
        title = self.describe()
        if self.format is StreamFormat.OGG:
            packed = self._packer.pack(pieces, title)
        else:
            packed = await trio.to_thread.run_sync(self._packer.pack, pieces, title, limiter=self._hub.encoding)
        self._add(packed, sum(piece.duration_ticks for piece in pieces))
        await self._wake_all()

    def _add(self, packed: Packed, ticks: int) -> None:
        for number, (data, header) in enumerate(packed, 1):
            self.ring.add(data, ticks if number == len(packed) else 0, header)

    async def _wake_all(self) -> None:
        listeners = list(self.listeners)
        pause_s = INTERVAL_S * WAKE_SHARE * WAKE_SLICE / max(len(listeners), 1)
        for start in range(0, len(listeners), WAKE_SLICE):
            if start:
                await trio.sleep(min(pause_s, 0.01))
            for listener in listeners[start : start + WAKE_SLICE]:
                listener.wake()

    def _is_idle(self) -> bool:
        now = trio.current_time()
        if self.listeners:
            self._empty_since = None
        elif self._empty_since is None:
            self._empty_since = now
        return self._empty_since is not None and now - self._empty_since >= IDLE_S

    def _end(self) -> None:
        """Synchronous: also when cancelled."""
        self.ended = True
        self._tap.close()
        if self._packer is not None:
            self._add(self._packer.end(), 0)
        for listener in self.listeners:
            listener.wake()
