"""A media engine without media: a test says what happens in a room, and the room reports it as the real one does."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from typing import Any

import trio

from lac_media.errors import SessionClosedError, UnknownProducerError
from lac_media.parameters import Direction
from lac_media.rooms.events import (
    AudienceChanged,
    RoomEvent,
    SessionClosed,
    SessionConnected,
    SpeakerStarted,
    SpeakerStopped,
)
from lac_media.rooms.room import RoomStats
from lac_media.rooms.tap import Tap, TapPoint

_numbers = count(1)


@dataclass(eq=False)
class FakeSession:
    """`connect`, `speak` and `fall_silent` are what the far end does; the rest is as in `lac_media`."""

    room: FakeMediaRoom
    direction: Direction
    owner: str
    id: str = field(default_factory=lambda: f"session-{next(_numbers)}")
    connected: bool = False
    producer_id: str | None = None
    speaking: bool = False
    closed: str | None = None

    def connect(self) -> FakeSession:
        self.connected = True
        self.room.report(SessionConnected(self.id, self.direction, self.owner))
        if self.direction is Direction.RECV and self.id in self.room.open_sessions:
            self.room.report(AudienceChanged(self.id, hears=True))
        return self

    def speak(self) -> FakeSession:
        if not self.connected:
            self.connect()
        self.producer_id = self.producer_id or f"producer-{next(_numbers)}"
        self.speaking = True
        self.room.report(SpeakerStarted(self.id, self.producer_id, self.owner))
        return self

    def fall_silent(self) -> None:
        if self.speaking and self.producer_id is not None:
            self.speaking = False
            self.room.report(SpeakerStopped(self.id, self.producer_id, self.owner))

    def close(self, reason: str) -> None:
        if self.closed is None:
            self.closed = reason
            del self.room.open_sessions[self.id]
            self.fall_silent()
            if self.producer_id in self.room.speaker_taps:
                self.room.speaker_taps.pop(self.producer_id).end()
            self.room.report(SessionClosed(self.id, self.direction, self.owner, reason, self.connected))


class FakeMediaRoom:
    def __init__(self, room_id: str, report: Callable[[RoomEvent], None]) -> None:
        self.id = room_id
        self.report = report
        self.open_sessions: dict[str, FakeSession] = {}
        self.muted: set[str] = set()
        self.left_stage: list[str] = []
        self.streams = SimpleNamespace(describe=None, by_format=dict)
        self.sources: dict[str, Any] = {}
        self.closed = False
        self.program_taps = TapPoint()
        #: By producer.
        self.speaker_taps: dict[str, TapPoint] = {}
        self.opened_at = trio.current_time()
        #: Set it to hold `open_session` back.
        self.gate: trio.Event | None = None
        #: The same, once the session exists.
        self.late_gate: trio.Event | None = None

    def end_streams(self, reason: str) -> None:
        pass

    @property
    def sessions(self) -> Mapping[str, FakeSession]:
        return self.open_sessions

    async def open_session(self, direction: Direction, owner: str) -> FakeSession:
        await trio.lowlevel.checkpoint()
        if self.gate is not None:
            await self.gate.wait()
        if self.closed:
            raise SessionClosedError("the room is closing")
        session = FakeSession(self, direction, owner)
        self.open_sessions[session.id] = session
        if self.late_gate is not None:
            await self.late_gate.wait()
        return session

    def tap_program(self) -> Tap:
        if self.closed:
            raise SessionClosedError("the room is closing")
        return self.program_taps.open()

    def tap_speaker(self, producer_id: str) -> Tap:
        if producer_id not in [known for known, _ in self.producers()]:
            raise UnknownProducerError("there is no such producer (any more)")
        return self.speaker_taps.setdefault(producer_id, TapPoint()).open()

    def producers(self) -> list[tuple[str, str]]:
        return [
            (session.producer_id, session.owner)
            for session in self.open_sessions.values()
            if session.producer_id is not None and session.speaking
        ]

    def mute(self, owner: str) -> None:
        self.muted.add(owner)

    def unmute(self, owner: str) -> None:
        self.muted.discard(owner)

    def is_muted(self, owner: str) -> bool:
        return owner in self.muted

    def close_stage(self, owner: str) -> None:
        self.left_stage.append(owner)

    def close_owner(self, owner: str, reason: str) -> None:
        for session in [session for session in self.open_sessions.values() if session.owner == owner]:
            session.close(reason)

    def media_time_s(self) -> float:
        return trio.current_time() - self.opened_at

    def stats(self) -> RoomStats:
        listeners = sum(s.connected and s.direction is Direction.RECV for s in self.open_sessions.values())
        return RoomStats(
            listeners=listeners,
            packets_in=1000,
            packets_lost_in=10,
            packets_out=0,
            dropped_out=0,
            worst_loss=0.25,
            weak_listeners=1,
            round_trip_s=0.04,
        )


class FakeEngine:
    def __init__(self) -> None:
        self.rooms: dict[str, FakeMediaRoom] = {}
        #: The next room that opens fails with it.
        self.open_error: Exception | None = None
        self.may_take_listener = True
        #: Listeners of other shows.
        self.others = 0
        self._crashes: dict[str, trio.Event] = {}

    @property
    def listeners(self) -> int:
        return self.others + sum(room.stats().listeners for room in self.rooms.values())

    def crash(self, room_id: str) -> None:
        """Let one of the room's own tasks fail."""
        self._crashes[room_id].set()

    @asynccontextmanager
    async def open_room(
        self, room_id: str, on_event: Callable[[RoomEvent], None]
    ) -> AsyncGenerator[FakeMediaRoom, None]:
        if self.open_error is not None:
            raise self.open_error
        crash = self._crashes[room_id] = trio.Event()

        async def run_program() -> None:
            await crash.wait()
            raise RuntimeError("the program broke")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_program)
            room = self.rooms[room_id] = FakeMediaRoom(room_id, on_event)
            try:
                yield room
            finally:
                room.closed = True
                for session in list(room.open_sessions.values()):
                    session.close("ended")
                room.program_taps.end()
                del self.rooms[room_id]
                nursery.cancel_scope.cancel()
