"""One broadcast's HLS: the task that reads the program and has it encoded, and what players ask of it.

The program is encoded while somebody wants it: players ask for playlists again and again, and when nobody has for a
while it stops, until somebody does. Decoding, encoding and files are in worker threads with limiters of their own; the
live path knows nothing of all this but a tap.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeVar, TypeVarTuple

import structlog
import trio

from lac_media.errors import HlsBusyError, HlsRequestError, HlsTimeoutError, ParseError, SessionClosedError
from lac_media.hls.encoder import EncodedPart, ProgramEncoder
from lac_media.hls.files import SegmentFiles, StoredStream, StreamHead
from lac_media.hls.mp4 import FRAME_TICKS
from lac_media.hls.plan import Plan, Position
from lac_media.hls.renditions import PART_S, PART_TICKS, RENDITIONS, TARGET_DURATION_S, Rendition
from lac_media.parameters import OPUS_CLOCK_RATE_HZ
from lac_media.proto.opus import duration_ticks_untrusted, silence_packets
from lac_media.rooms.tap import Tap, TappedPacket
from lac_media.rooms.timeline import Piece, Timeline

log = structlog.get_logger(__name__)

T = TypeVar("T")
Args = TypeVarTuple("Args")

#: Encoding stops when nobody has asked for anything for so long.
IDLE_STOP_S = 60.0
#: A hole in the program that is longer than this (the process stood still) is not filled: the stream begins anew.
MAX_HOLE_TICKS = 10 * OPUS_CLOCK_RATE_HZ
#: Segments kept in memory: more than players at the live end ask for.
MEMORY_SEGMENTS = 10
#: Segments that have left the window and can still be had for a minute: players may have read the playlist just before.
LINGER_SEGMENTS = 16
#: How long a player waits for what is next (rfc8216bis section 6.2.5.2: three target durations).
WAIT_S = 3.0 * TARGET_DURATION_S
#: Requests that may wait at once for one stream.
MAX_WAITING = 5_000
#: For the last part and its file, once the show is over.
FINISH_S = 5.0
RESTART_S = 1.0

_NAME = re.compile(r"(?P<msn>\d{1,15})(?:\.(?P<part>\d{1,6}))?-(?P<run>[0-9a-z]{1,32})\.m4s", re.ASCII)


class Source(Protocol):
    """What the stream needs of a media room."""

    def tap_program(self) -> Tap: ...


@dataclass(frozen=True, slots=True)
class Workers:
    """Threads for encoding and for files, apart from each other and from everybody else's: shared by all streams."""

    encoding: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(2))
    files: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(4))

    async def encode(self, job: Callable[[*Args], T], *args: *Args) -> T:
        return await trio.to_thread.run_sync(job, *args, limiter=self.encoding)

    async def on_files(self, job: Callable[[*Args], T], *args: *Args) -> T:
        return await trio.to_thread.run_sync(job, *args, limiter=self.files)


@dataclass(frozen=True, slots=True)
class Playlist:
    """`entity_tag` names this state of it."""

    content: bytes
    entity_tag: str


class HlsStream:
    """`directory` is for its segments alone. `began_at` is the wall clock at media time 0; see `Plan` for the rest."""

    def __init__(
        self,
        directory: Path,
        *,
        run: str,
        began_at: datetime,
        first_msn: int,
        window_s: float,
        workers: Workers,
        keep_encoding: bool = False,
    ) -> None:
        self.plan = Plan(run=run, began_at=began_at, first_msn=first_msn, window_s=window_s)
        self.encoding = False
        #: Packets that came too late for us or were none.
        self.lost_packets = 0
        #: Segments that could not be written to disk.
        self.unwritten = 0
        self._files = SegmentFiles(directory)
        self._files_begun = False
        self._workers = workers
        self._init: tuple[bytes, ...] = ()
        #: Their files are still there.
        self._leaving: list[int] = []
        self._fragments = 1
        self._needed_at = -IDLE_STOP_S
        self._wanted = trio.Event()
        #: Set when the plan moves on, and replaced.
        self._news = trio.Event()
        self._waiting = 0
        self._released = False
        self._keeps_encoding = False
        self.keep_encoding(keep_encoding)

    @classmethod
    def finished(cls, directory: Path, stored: StoredStream, *, workers: Workers) -> HlsStream:
        """What an earlier process left: not to be `run`."""
        stream = cls(directory, run=stored.run, began_at=stored.began_at, first_msn=0, window_s=0.0, workers=workers)
        stream.plan = Plan.finished(
            run=stored.run,
            began_at=stored.began_at,
            segments=stored.segments,
            discontinuities=stored.discontinuities,
        )
        stream._init = stored.init
        return stream

    # what players ask

    def need(self) -> None:
        """Somebody is listening."""
        self._needed_at = trio.current_time()
        self._wanted.set()

    def keep_encoding(self, keeps: bool) -> None:
        """Encode although nobody asks."""
        self._keeps_encoding = keeps
        if keeps:
            self._wanted.set()

    async def playlist(
        self, rendition: Rendition, prefix: str = "", *, after: Position | None = None, skip: bool = False
    ) -> Playlist:
        """The media playlist, once it has got to `after` (rfc8216bis section 6.2.5.2).

        Raises `HlsRequestError`, `HlsBusyError`, `HlsTimeoutError`.
        """
        self.need()
        plan = self.plan
        await trio.lowlevel.checkpoint()
        if not plan.is_ready:
            await self._wait_until(lambda: plan.is_ready)
        if after is not None:
            if plan.is_too_far(after):
                raise HlsRequestError("this playlist is too far ahead: ask for the next one")
            if not plan.has_reached(after):
                await self._wait_until(lambda: plan.has_reached(after))
        tag = f"{plan.run}-{plan.version}-{rendition.name}{'-skip' if skip else ''}"
        return Playlist(plan.playlist(rendition, prefix, skip=skip), tag)

    async def file(self, rendition: Rendition, name: str) -> bytes | None:
        """A header, segment or part by its name in the playlist; the part that is next is waited for. None if there is
        no such file (any more). Raises `HlsBusyError`, `HlsTimeoutError`."""
        await trio.lowlevel.checkpoint()
        index = RENDITIONS.index(rendition)
        if name == self.plan.init_name:
            return self._init[index] if self._init else None
        match = _NAME.fullmatch(name)
        if match is None or match["run"] != self.plan.run:
            return None
        msn = int(match["msn"])
        if match["part"] is None:
            return await self._segment(msn, index)
        return await self._part(msn, int(match["part"]), index)

    async def changed(self) -> None:
        """Until there is more than there was, or the show is over."""
        await self._news.wait()

    async def _segment(self, msn: int, index: int) -> bytes | None:
        segment = self.plan.find(msn)
        if segment is not None and not segment.complete:
            return None
        if segment is not None and segment.in_memory:
            return segment.data(index)
        if segment is None and msn not in self._leaving:
            return None
        return await self._workers.on_files(self._files.read, msn, RENDITIONS[index].name)

    async def _part(self, msn: int, part: int, index: int) -> bytes | None:
        plan = self.plan
        if (msn, part) == plan.next_part and self.encoding:
            await self._wait_until(lambda: plan.ended or plan.next_part != (msn, part))
        segment = plan.find(msn)
        return segment.parts[part][index] if segment is not None and part < len(segment.parts) else None

    async def _wait_until(self, has_come: Callable[[], bool]) -> None:
        if self._released or self._waiting >= MAX_WAITING:
            raise HlsBusyError("too many requests wait for this stream")
        self._waiting += 1
        try:
            with trio.move_on_after(WAIT_S) as scope:
                while not has_come():
                    if self._released:
                        raise HlsBusyError("the server goes away")
                    await self._news.wait()
        finally:
            self._waiting -= 1
        if scope.cancelled_caught:
            raise HlsTimeoutError("nothing has come to wait for")

    # the task

    async def run(self, source: Source) -> None:
        """Encode while it is wanted, until cancelled, or until the program ends. Does not `end` the stream."""
        while True:
            await self._wanted.wait()
            try:
                await self._encode(source)
            except SessionClosedError:
                return
            except Exception:
                log.exception("HLS has stopped and begins anew", directory=self._files.directory.name)
                await trio.sleep(RESTART_S)
            if not self._is_wanted:
                self._wanted = trio.Event()

    def end(self) -> None:
        """The show is over: the playlists say so. Idempotent."""
        self.plan.end()
        self._notify()

    def release(self) -> None:
        """The server goes away: no request is to wait any more."""
        self._released = True
        self._notify()

    async def remove(self) -> None:
        """Delete every file."""
        await self._workers.on_files(self._files.remove)

    @property
    def _is_wanted(self) -> bool:
        return self._keeps_encoding or trio.current_time() - self._needed_at < IDLE_STOP_S

    async def _encode(self, source: Source) -> None:
        """One run: from a first packet on, without a hole, until nobody wants it or there is a hole that is too long.
        Raises `SessionClosedError` when the program has ended."""
        with closing(source.tap_program()) as tap:
            feed = _Feed(await _receive(tap))
            encoder = await self._workers.encode(_make_encoder, feed.begins_at, self._fragments)
            self._init = encoder.init_segments
            self.plan.begin()
            self.encoding = True
            log.info("HLS begins", stream=self._files.directory.name, media_time_s=feed.begins_at / OPUS_CLOCK_RATE_HZ)
            try:
                await self._go_on(tap, feed, encoder)
            finally:
                self.encoding = False
                feed.take(tap.receive_nowait())
                with trio.move_on_after(FINISH_S, shield=True):
                    await self._finish(encoder, feed)
                log.info("HLS pauses", stream=self._files.directory.name, lost=self.lost_packets)

    async def _go_on(self, tap: Tap, feed: _Feed, encoder: ProgramEncoder) -> None:
        #: Where the line must be for the next part: the encoder is two frames behind.
        due = feed.begins_at // FRAME_TICKS * FRAME_TICKS + PART_TICKS + 2 * FRAME_TICKS
        while self._is_wanted:
            missing = due - feed.line.position
            if missing > 0:
                # Everything before would be in vain: a task that sleeps is cheaper than one that counts packets.
                await trio.sleep(min(missing / OPUS_CLOCK_RATE_HZ, PART_S))
                if not feed.take(await _receive(tap)):
                    return
                continue
            # Taken from the feed when it is done: a call that is cancelled before it begins has encoded nothing.
            parts = await self._workers.encode(encoder.encode, feed.pieces)
            feed.pieces = []
            due += PART_TICKS * len(parts) or FRAME_TICKS
            self._add(parts)
            await self._store()
            self.lost_packets = tap.dropped + feed.line.late + feed.line.malformed + encoder.broken

    async def _finish(self, encoder: ProgramEncoder, feed: _Feed) -> None:
        parts = await self._workers.encode(_finish, encoder, feed.pieces)
        self._fragments = encoder.fragments
        self._add(parts)
        self.plan.pause()
        self._notify()
        await self._store()

    def _add(self, parts: list[EncodedPart]) -> None:
        for part in parts:
            self.plan.add_part(part.data, ticks=part.ticks, duration_ticks=part.duration_ticks)
        if parts:
            self._notify()

    async def _store(self) -> None:
        """What is complete goes on disk; then what is older is let go of."""
        for segment in self.plan.to_store():
            data = [segment.data(index) for index in range(len(RENDITIONS))]
            try:
                if not self._files_begun:
                    head = StreamHead(self.plan.run, round(self.plan.began_at.timestamp() * 1_000_000))
                    await self._workers.on_files(self._files.begin, head, self._init)
                    self._files_begun = True
                await self._workers.on_files(self._files.write, segment, data)
            except OSError as error:
                self.unwritten += 1
                log.warning("an HLS segment cannot be written", stream=self._files.directory.name, error=str(error))
                break
            segment.stored = True
        self._leaving += [segment.msn for segment in self.plan.trim(memory=MEMORY_SEGMENTS)]
        if len(self._leaving) > LINGER_SEGMENTS:
            gone, self._leaving = self._leaving[:-LINGER_SEGMENTS], self._leaving[-LINGER_SEGMENTS:]
            await self._workers.on_files(self._files.delete, gone)

    def _notify(self) -> None:
        self._news.set()
        self._news = trio.Event()


class _Feed:
    """Packets of the program on an unbroken line, for one run."""

    def __init__(self, packets: list[TappedPacket]) -> None:
        self.begins_at = min(packet.rtp_timestamp for packet in packets)
        self.line = Timeline(self.begins_at)
        #: What has come and is not encoded.
        self.pieces: list[Piece] = []
        self._last: tuple[int, int] | None = None
        self.take(packets)

    def take(self, packets: list[TappedPacket]) -> bool:
        """False: here is a hole that is too long; what comes after it is not taken."""
        for packet in packets:
            if packet.rtp_timestamp - self.line.position > MAX_HOLE_TICKS:
                return False
            try:
                ends_at = packet.rtp_timestamp + duration_ticks_untrusted(packet.payload)
            except ParseError:
                ends_at = packet.rtp_timestamp
            if self._last is not None and packet.sequence == self._last[0] + 1:
                # Nothing is missing between the two: the speaker was silent, and nothing need be waited for.
                ticks = self._last[1]
                for payload, duration in silence_packets(packet.rtp_timestamp - ticks):
                    self.pieces += self.line.receive(ticks, payload)
                    ticks += duration
            self.pieces += self.line.receive(packet.rtp_timestamp, packet.payload)
            if self._last is None or packet.sequence > self._last[0]:
                self._last = packet.sequence, ends_at
        return True


async def _receive(tap: Tap) -> list[TappedPacket]:
    try:
        return await tap.receive()
    except trio.EndOfChannel:
        raise SessionClosedError("the program has ended") from None


def _make_encoder(start_ticks: int, first_fragment: int) -> ProgramEncoder:
    return ProgramEncoder(start_ticks, first_fragment=first_fragment)


def _finish(encoder: ProgramEncoder, pieces: list[Piece]) -> list[EncodedPart]:
    return encoder.encode(pieces) + encoder.finish()
