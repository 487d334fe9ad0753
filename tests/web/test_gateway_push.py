"""Frames for a whole room go straight to the kernel, and never garble what goes the long way."""

from __future__ import annotations

import json

import pytest
import trio
import trio.testing
from hypercorn.typing import ASGISendEvent
from quart_trio import QuartTrio

from lac_web.gateway.connection import GatewayLimits
from lac_web.gateway.protocol import encode_text_frame
from lac_web.gateway.routes import Gateway, register_gateway
from lac_web.hypercorn_fixes import BoundedTCPServer, GuardedWSStream
from tests.fakes.gateway import FakeServices, connected, read_head, serving, text_frame, upgrade, websocket_client


def make_app(services: FakeServices, limits: GatewayLimits | None = None) -> tuple[QuartTrio, Gateway]:
    app = QuartTrio("gateway")
    return app, register_gateway(app, services, limits)


async def read_frames(stream: trio.SocketStream, count: int) -> list[bytes]:
    """Payloads of whole unmasked frames; control frames are left out."""
    data, payloads = b"", []
    while len(payloads) < count:
        data += await stream.receive_some(65536)
        while len(data) >= 2:
            size, start = data[1], 2
            if size == 126:
                size, start = int.from_bytes(data[2:4], "big"), 4
            elif size == 127:
                size, start = int.from_bytes(data[2:10], "big"), 10
            if len(data) < max(start, 4) or len(data) < start + size:
                break
            assert data[0] in (0x81, 0x89), f"garbled: {data[:16]!r}"
            if data[0] == 0x81:
                payloads.append(data[start : start + size])
            data = data[start + size :]
    return payloads


async def test_a_room_frame_does_not_pass_through_the_framework(monkeypatch: pytest.MonkeyPatch) -> None:
    through_the_framework: list[str] = []
    app_send = GuardedWSStream.app_send

    async def counting(self: GuardedWSStream, message: ASGISendEvent | None) -> None:
        through_the_framework.append("end" if message is None else message["type"])
        await app_send(self, message)

    monkeypatch.setattr(GuardedWSStream, "app_send", counting)
    services = FakeServices()
    app, gateway = make_app(services)
    async with serving(app) as server, websocket_client(server.port) as client:
        await client.join()
        (connection,) = gateway.connections
        pipe = connection._pipe
        assert isinstance(pipe, GuardedWSStream)
        assert isinstance(pipe.tcp, BoundedTCPServer)
        for number in range(5):
            services.on_air.send_all(b'{"event":"n","data":{"n":%d}}' % number)
        received = [await client.next() for _ in range(6)]
        assert [frame["data"]["n"] for frame in received if frame["event"] == "n"] == [0, 1, 2, 3, 4]
        assert "websocket.send" not in through_the_framework


async def test_frames_arrive_whole_and_in_order_when_the_kernel_takes_only_a_part() -> None:
    """A client that reads late, with frames so large that they are cut anywhere; acks take the long way in between."""
    services = FakeServices()
    app, gateway = make_app(services, GatewayLimits(outbox_frames=1000))
    async with serving(app) as server, connected(server.port, receive_buffer=2048) as stream:
        await stream.send_all(upgrade())
        await read_head(stream)
        await stream.send_all(text_frame(b'{"event":"join","data":{"broadcastId":"b1"}}'))
        await services.on_air.count_is(1)
        (connection,) = gateway.connections
        was_cut = False
        for number in range(400):
            services.on_air.send_all(json.dumps({"event": "n", "data": {"n": number, "fill": "x" * 9000}}).encode())
            was_cut |= connection._pipe is not None and connection._pipe.unsent
            if number % 100 == 50:
                await stream.send_all(text_frame(b'{"event":"raiseHand","data":{},"ack":%d}' % number))
                await trio.testing.wait_all_tasks_blocked(0.01)
        assert was_cut
        with trio.fail_after(10):
            payloads = [json.loads(payload) for payload in await read_frames(stream, 405)]
        assert [payload["data"]["n"] for payload in payloads if payload["event"] == "n"] == list(range(400))
        assert [payload["ack"] for payload in payloads if "ack" in payload] == [50, 150, 250, 350]


def test_text_frames_have_the_three_lengths_of_the_rfc() -> None:
    assert encode_text_frame(b"x" * 125)[:2] == b"\x81\x7d"
    assert encode_text_frame(b"x" * 126)[:4] == b"\x81\x7e\x00\x7e"
    assert encode_text_frame(b"x" * 65536)[:10] == b"\x81\x7f" + (65536).to_bytes(8, "big")
