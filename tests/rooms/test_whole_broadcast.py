"""A whole broadcast with nothing faked but the wires and the clock: the real room on the real relay, with real peers
over an in-memory network, stopped at every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import trio
import trio.testing

from lac.errors import LacError
from lac.identity import Identity
from lac.rooms.commands import ChatMessage, Mute, RaiseHand, Unmute
from lac_media.engine import Engine
from lac_media.errors import MediaError
from lac_media.parameters import ConsumerParameters, Direction, ProducerParameters
from tests.fakes.air import HOST, LISTENER, MODERATOR, FakeSocket, Station
from tests.fakes.net import Net
from tests.media.clients import PUBLISHED, Client, open_net_engine, opus
from tests.sweep import sweep


class Broadcast:
    """What one run of the scenario made, to be looked at when it is over."""

    def __init__(self, station: Station) -> None:
        self.station = station
        self.net = Net()
        self.engine: Engine | None = None
        self.clients: list[Client] = []

    async def connect(
        self, nursery: trio.Nursery, engine: Engine, direction: Direction, identity: Identity | None
    ) -> Client:
        session = await self.station.on_air.media.open_session(identity, self.station.show_id, direction, "mediasoup")
        client = Client(engine, session, self.net.open_socket(f"198.51.100.{len(self.clients) + 1}", 5000))
        self.clients.append(client)
        if direction is Direction.SEND:
            session.produce(ProducerParameters(PUBLISHED, ssrc=client.peer.ssrc))
        else:
            session.consume(ConsumerParameters())
        client.dial()
        nursery.start_soon(client.peer.run)
        await client.connected.wait()
        return client

    async def run(self) -> None:
        async with open_net_engine(self.net) as engine:
            self.engine = engine
            self.station.engine = cast("Any", engine)
            async with trio.open_nursery() as people, self.station.open() as on_air:
                sockets = {}
                for person in (LISTENER, MODERATOR, None):
                    sockets[person] = socket = FakeSocket()
                    self.station.sockets.append(socket)
                    await people.start(socket.serve, on_air, person, self.station.show_id)
                await self.station.start()
                host = await self.connect(people, engine, Direction.SEND, HOST)
                listeners = [await self.connect(people, engine, Direction.RECV, who) for who in (LISTENER, None)]
                await host.talk(0, 5)
                await sockets[LISTENER].do(ChatMessage("hello"))
                await sockets[LISTENER].do(RaiseHand())
                await sockets[MODERATOR].do(Mute(LISTENER.id))
                await sockets[MODERATOR].do(Unmute(LISTENER.id))
                # The host comes back on a new connection while the old one is still there.
                again = await self.connect(people, engine, Direction.SEND, HOST)
                await again.talk(100, 5)
                await host.closed.wait()
                for listener in listeners:
                    assert listener.speech[-1] == opus(104)
                    assert listener.close_reason is None
                listeners[0].peer.close()
                await on_air.end(HOST, self.station.show_id)
                await again.closed.wait()
                await listeners[1].closed.wait()


def test_a_whole_broadcast_stopped_at_any_step_leaves_nothing(new_station: Callable[[], Station]) -> None:
    runs: list[Broadcast] = []

    async def scenario() -> None:
        runs[:] = [Broadcast(new_station())]
        await runs[0].run()

    def check() -> None:
        run = runs[0]
        assert run.net.sockets.keys() <= {client.peer.socket.local_address for client in run.clients}
        if run.engine is not None:
            assert run.engine.session_count == 0
            assert run.engine.endpoint.peer_count == 0
        for client in run.clients:
            assert client.session.closed
            assert client.session.close_reason is not None
        assert run.station.db.session_rows(only_open=True) == []
        for socket in run.station.sockets:
            assert socket.member is None or socket.member._room is None

    steps = sweep(scenario, check, refusals=(LacError, MediaError))
    assert steps > 100
