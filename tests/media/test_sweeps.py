"""Cancelled at every step of every task, the media plane leaves nothing: no peer, session, seat, socket, task."""

from __future__ import annotations

import pytest
import trio

from lac_media.engine import Engine
from lac_media.errors import SessionClosedError
from lac_media.parameters import ConsumerParameters, Direction, Variant
from lac_media.rooms.events import RoomEvent, SessionClosed, SessionConnected, SpeakerStarted, SpeakerStopped
from lac_media.rooms.room import MediaRoom
from tests.fakes.net import Net
from tests.media.clients import Studio, open_net_engine, open_studio
from tests.sweep import Cut, sweep, sweep_within


class Remains:
    """What a run has left, looked at after it."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.net = Net()
        self.engine: Engine | None = None
        self.rooms: list[MediaRoom] = []
        self.events: list[RoomEvent] = []
        self.opened: list[str] = []

    def check(self) -> None:
        assert self.net.sockets == {}
        if self.engine is not None:
            assert (self.engine.endpoint.peer_count, self.engine.session_count) == (0, 0)
            assert self.engine._rooms == {}
            assert all(timer.attachment is None for timer in self.engine.endpoint._timers)
        for room in self.rooms:
            assert not room.sessions
            assert room.fanout.listeners == 0
            assert room.fanout._groups == {}
            assert room.fanout._switches == {}
            assert not any(room.fanout.listeners_by_variant.values())
            assert room.economy.timer_at() == float("inf"), "nothing is held for nobody"
            assert room.director.sources == []
        # Every session that was opened says goodbye exactly once, as the last thing, and speakers stop before that.
        closed = [event.session_id for event in self.events if isinstance(event, SessionClosed)]
        assert sorted(closed) == sorted(self.opened)
        for session_id in self.opened:
            own = [event for event in self.events if event.session_id == session_id]
            assert isinstance(own[-1], SessionClosed)
            assert own[-1].was_connected == any(isinstance(event, SessionConnected) for event in own)
            kinds = [type(event) for event in own if isinstance(event, SpeakerStarted | SpeakerStopped)]
            assert kinds.count(SpeakerStarted) == kinds.count(SpeakerStopped)


def test_nothing_is_left_of_a_handshake() -> None:
    remains = Remains()

    async def scenario() -> None:
        remains.begin()
        async with open_studio(remains.net) as studio:
            remember(remains, studio)
            await studio.listener("me")

    assert sweep(scenario, remains.check) > 25


def remember(remains: Remains, studio: Studio) -> None:
    """Keep what the run has opened in sight; sessions as they are made, whatever becomes of them."""
    remains.engine = studio.engine
    remains.rooms.append(studio.room)
    remains.events = studio.events  # type: ignore[assignment]  # the same events, less narrowly typed
    open_session = studio.room.open_session

    async def opening(direction: Direction, owner: str):  # type: ignore[no-untyped-def]  # as it is
        before = set(studio.room.sessions)
        try:
            return await open_session(direction, owner)
        finally:
            remains.opened.extend(set(studio.room.sessions) - before)

    studio.room.open_session = opening  # type: ignore[method-assign]  # listens in


def test_nothing_is_left_of_rooms_and_sessions_that_open_and_close() -> None:
    remains = Remains()

    async def scenario() -> None:
        remains.begin()
        async with open_net_engine(remains.net) as engine:
            remains.engine = engine
            async with engine.open_room("a", remains.events.append) as a:
                remains.rooms.append(a)
                async with engine.open_room("b", remains.events.append) as b:
                    remains.rooms.append(b)
                    for room, direction in ((a, Direction.SEND), (b, Direction.RECV), (b, Direction.SEND)):
                        session = await room.open_session(direction, "me")
                        remains.opened.append(session.id)
                    session.close("left")
                    await trio.sleep(0.1)
                await trio.sleep(0.1)

    assert sweep(scenario, remains.check) > 20


@pytest.mark.parametrize("seed", [0, 1])
def test_nothing_is_left_of_a_whole_room(seed: int) -> None:
    remains = Remains()

    async def scenario() -> None:
        remains.begin()
        async with open_studio(remains.net) as studio:
            remember(remains, studio)
            host = await studio.publisher("host")
            listeners = [await studio.listener() for _ in range(3)]
            await host.talk(1, 2)
            listeners[0].peer.close()
            studio.room.mute("host")
            await host.talk(3, 2)
            listeners[1].session.close("removed")
            again = await studio.publisher("host")
            studio.room.unmute("host")
            await again.talk(5, 2)
            studio.room.close_owner("host", "removed")
            await trio.sleep(0.05)

    assert sweep(scenario, remains.check, seed=seed) > 150


def test_nothing_is_left_of_listeners_to_variants() -> None:
    remains = Remains()

    async def scenario() -> None:
        remains.begin()
        async with open_studio(remains.net) as studio:
            remember(remains, studio)
            host = await studio.publisher("host")
            saver = await studio.listener("saver", consumer=ConsumerParameters(economy=True))
            able = await studio.listener("able", consumer=ConsumerParameters(red_payload_type=63))
            seat = able.session._seat
            assert seat is not None
            for number, variant in enumerate((Variant.OPUS_RED, Variant.OPUS, Variant.OPUS_RED)):
                studio.room.fanout.switch(seat, variant)
                await host.talk(1 + 2 * number, 2)
            saver.session.close("left")
            studio.room.fanout.switch(seat, Variant.OPUS)
            able.peer.close()
            await host.talk(7, 1)

    assert sweep(scenario, remains.check) > 100


def test_nothing_is_left_when_only_the_engine_is_shut_down() -> None:
    """The clients stay and see their server go."""
    remains = Remains()

    async def scenario(cut: Cut) -> None:
        remains.begin()
        async with trio.open_nursery() as nursery:
            with cut:
                async with open_net_engine(remains.net) as engine:
                    async with engine.open_room("room", remains.events.append) as room:
                        studio = Studio(remains.net, engine, room, nursery, [])
                        studio.events = remains.events  # type: ignore[assignment]  # less narrowly typed
                        remember(remains, studio)
                        host = await studio.publisher("host")
                        listeners = [await studio.listener() for _ in range(2)]
                        await host.talk(1, 3)
                    for client in (host, *listeners):
                        await client.closed.wait()
            with trio.move_on_after(120) as patience:
                while remains.net.sockets:  # noqa: ASYNC110  # in virtual time
                    await trio.sleep(1)
            assert not patience.cancelled_caught, "a client did not notice that its server is gone"

    assert sweep_within(scenario, remains.check) > 80


def test_a_session_asked_for_while_the_room_closes_is_refused_or_closed() -> None:
    """The request's task is not the room's: only the room is cancelled."""
    remains = Remains()

    async def scenario(cut: Cut) -> None:
        remains.begin()
        asked = trio.Event()
        rooms: list[MediaRoom] = []

        async def ask() -> None:
            await asked.wait()
            for _ in range(5):
                try:
                    remains.opened.append((await rooms[0].open_session(Direction.RECV, "late")).id)
                except SessionClosedError:
                    return

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            with cut:
                async with open_net_engine(remains.net) as engine:
                    remains.engine = engine
                    async with engine.open_room("room", remains.events.append) as room:
                        rooms.append(room)
                        remains.rooms.append(room)
                        asked.set()
                        await trio.sleep(0.01)
            if not rooms:
                nursery.cancel_scope.cancel("nothing to ask")

    assert sweep_within(scenario, remains.check) > 10
