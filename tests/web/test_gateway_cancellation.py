"""A connection may be cancelled at any step of its life, and takes nothing with it and leaves nothing behind."""

from __future__ import annotations

import gc
import itertools
import json
from collections.abc import Awaitable, Callable

import pytest
import trio
from quart_trio import QuartTrio
from trio.testing import MockClock

from lac_web.gateway.connection import GatewayLimits
from lac_web.gateway.routes import Gateway, register_gateway
from lac_web.server import HttpLimits
from tests.fakes.gateway import FakeServices, connected, serving, text_frame, upgrade

#: Of the life over real sockets only every so many-th step is tried: one run takes some 10 ms.
STRIDE = 2


class CancelAtStep(trio.abc.Instrument):
    def __init__(self, step: int) -> None:
        self.step, self.scope = step, trio.CancelScope()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.step -= 1
        if self.step == 0:
            self.scope.cancel("sweep")


class MemorySocket:
    """An ASGI WebSocket that plays a script: text comes in, None waits for the server."""

    def __init__(self, script: list[dict[str, object] | None]) -> None:
        self.script = list(script)
        self.sent: list[str] = []
        self.codes: list[int] = []
        self.busy = 0

    async def accept(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive(self) -> str:
        await trio.lowlevel.checkpoint()
        if not self.script or self.script[0] is None:
            await trio.sleep_forever()
        return json.dumps(self.script.pop(0))

    async def send(self, data: str) -> None:
        assert not self.codes
        assert not self.busy, "two tasks send at once"
        self.busy += 1
        try:
            await trio.sleep(0.01)
            self.sent.append(data)
        finally:
            self.busy -= 1

    async def close(self, code: int, reason: str = "") -> None:
        assert not self.codes
        await trio.lowlevel.checkpoint()
        self.codes.append(code)


JOIN: dict[str, object] = {"event": "join", "data": {"broadcastId": "b1", "token": "good:u1"}, "ack": 0}
CHAT: dict[str, object] = {"event": "chatMessage", "data": {"text": "hi"}, "ack": 1}
LEAVE: dict[str, object] = {"event": "leave", "ack": 2}


async def leaves_by_itself(services: FakeServices) -> MemorySocket:
    socket = MemorySocket([JOIN, CHAT, LEAVE])
    await Gateway(services, GatewayLimits()).serve(socket)
    return socket


async def is_removed(services: FakeServices) -> MemorySocket:
    socket = MemorySocket([JOIN, CHAT])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Gateway(services, GatewayLimits()).serve, socket)
        await trio.sleep(1)
        services.on_air.members[0].remove("spam")
    return socket


async def overflows(services: FakeServices) -> MemorySocket:
    socket = MemorySocket([JOIN])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Gateway(services, GatewayLimits(outbox_frames=3)).serve, socket)
        await trio.sleep(1)
        for _ in range(5):
            services.on_air.send_all(b"{}")
    return socket


async def never_joins(services: FakeServices) -> MemorySocket:
    socket = MemorySocket([])
    await Gateway(services, GatewayLimits()).serve(socket)
    return socket


@pytest.mark.parametrize(
    ("scenario", "code"), [(leaves_by_itself, 1000), (is_removed, 4403), (overflows, 1013), (never_joins, 1008)]
)
def test_cancelled_at_every_step(scenario: Callable[[FakeServices], Awaitable[MemorySocket]], code: int) -> None:
    for step in itertools.count(1):
        services = FakeServices()
        probe = CancelAtStep(step)

        async def main(services: FakeServices = services, probe: CancelAtStep = probe) -> list[int] | None:
            with probe.scope:
                return (await scenario(services)).codes
            return None

        codes = trio.run(main, clock=MockClock(autojump_threshold=0), instruments=[probe])
        assert services.on_air.members == []
        if not probe.scope.cancel_called:
            assert codes == [code]
            return
        assert step < 1000


def test_nothing_is_queued_or_sent_after_the_close_frame() -> None:
    async def main() -> None:
        services = FakeServices()
        socket = await is_removed(services)
        assert [json.loads(text)["event"] for text in socket.sent] == ["joined", "ack", "ack", "removed"]

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_a_stuck_socket_holds_the_close_no_longer_than_the_limits_say() -> None:
    class Stuck(MemorySocket):
        async def send(self, data: str) -> None:
            await trio.sleep_forever()

        async def close(self, code: int, reason: str = "") -> None:
            self.codes.append(code)
            await trio.sleep_forever()

    async def main() -> None:
        services = FakeServices()
        socket = Stuck([JOIN])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Gateway(services, GatewayLimits(flush_s=2, close_s=1)).serve, socket)
            await trio.sleep(5)
            services.on_air.members[0].remove("spam")
            await trio.testing.wait_all_tasks_blocked()
            assert services.on_air.members == []  # left at once, whatever its socket does
        assert trio.current_time() - started == pytest.approx(5 + 2 + 1)
        assert socket.codes == [4403]

    started = 0.0

    async def timed() -> None:
        nonlocal started
        started = trio.current_time()
        await main()

    trio.run(timed, clock=MockClock(autojump_threshold=0))


def test_offering_and_closing_never_yield() -> None:
    async def main() -> None:
        services = FakeServices()
        gateway = Gateway(services, GatewayLimits())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gateway.serve, MemorySocket([JOIN]))
            await trio.sleep(1)
            [connection] = gateway.connections
            with trio.testing.assert_no_checkpoints():
                for _ in range(500):
                    connection.offer(b"{}")
                connection.close(4403, "removed")
            assert connection.closing == (1013, "too slow to keep up")

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_cancelled_over_real_sockets() -> None:
    """The same with hypercorn and Quart in between, cancelling everything: the server too."""
    for step in itertools.count(1, STRIDE):
        services = FakeServices()
        probe = CancelAtStep(step)

        async def main(services: FakeServices = services, probe: CancelAtStep = probe) -> None:
            app = QuartTrio("tests")
            gateway = register_gateway(app, services)
            limits = HttpLimits(linger_s=0.01)
            with trio.fail_after(30), probe.scope:
                async with serving(app, limits=limits) as server, connected(server.port) as stream:
                    await stream.send_all(upgrade())
                    await stream.receive_some()
                    for frame in (JOIN, CHAT, LEAVE):
                        await stream.send_all(text_frame(json.dumps(frame).encode()))
                    while await stream.receive_some():
                        pass
            assert gateway.connections == set()

        trio.run(main, instruments=[probe])
        assert services.on_air.members == []
        if not probe.scope.cancel_called:
            break
        assert step < 5000
    gc.collect()  # a socket that was left open is a warning, and so an error, now
