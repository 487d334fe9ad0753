"""Each test here fails with hypercorn as it comes; `lac_web/hypercorn_fixes` says why."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest
import trio
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import Handshake, WSStream
from hypercorn.trio.tcp_server import TCPServer
from quart import request, websocket
from quart_trio import QuartTrio

from lac_web import hypercorn_fixes
from lac_web.server import HttpLimits, ServerConfig
from tests.fakes.gateway import (
    close_code_in,
    connected,
    read_head,
    read_to_end,
    read_until,
    serving,
    text_frame,
    upgrade,
    websocket_client,
)

QUICK = HttpLimits(
    write_timeout_s=0.15, slowest_bytes_per_s=1e6, linger_s=0.15, keep_alive_s=0.15, ping_interval_s=60.0
)
#: Much more than any of the times above, much less than a hang.
SOON_S = 5.0


def make_app() -> QuartTrio:
    app = QuartTrio("tests")
    app.sockets_ended = trio.Event()  # type: ignore[attr-defined]  # for the tests that wait for a handler's end
    app.ran_away = False  # type: ignore[attr-defined]  # for the one that counts

    @app.get("/hello")
    async def hello() -> str:
        return "hello"

    @app.get("/slow")
    async def slow() -> str:
        await trio.sleep(0.2)
        return "done"

    @app.post("/refuse")
    async def refuse() -> tuple[str, int]:
        return "no", 413

    @app.get("/endless")
    async def endless() -> AsyncIterator[bytes]:
        async def body() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 65536

        return body()

    @app.post("/echo")
    async def echo() -> bytes:
        return await request.get_data()

    @app.websocket("/echo")
    async def echo_socket() -> None:
        while True:
            await websocket.send(await websocket.receive())

    @app.websocket("/shout")
    async def shout() -> None:
        try:
            for _ in range(10_000):
                await websocket.send("x" * 65536)
            app.ran_away = True  # type: ignore[attr-defined]  # sending to nobody, without ever yielding
        finally:
            app.sockets_ended.set()  # type: ignore[attr-defined]

    @app.websocket("/deaf")
    async def deaf() -> None:
        await websocket.accept()
        try:
            await trio.sleep_forever()
        finally:
            app.sockets_ended.set()  # type: ignore[attr-defined]

    return app


GET = b"GET %s HTTP/1.1\r\nHost: lac.test\r\n%s\r\n"


async def test_a_response_is_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []
    write = hypercorn_fixes.BoundedTCPServer._write

    async def watched(self: hypercorn_fixes.BoundedTCPServer, data: bytes) -> bool:
        writes.append(data)
        return await write(self, data)

    monkeypatch.setattr(hypercorn_fixes.BoundedTCPServer, "_write", watched)
    async with serving(make_app(), limits=HttpLimits()) as server, connected(server.port) as stream:
        with trio.fail_after(SOON_S):
            await stream.send_all(GET % (b"/hello", b"Connection: close\r\n"))
            assert await read_to_end(stream) == b"".join(writes)
    assert len(writes) == 1
    assert writes[0].endswith(b"hello")


async def test_connection_close_closes() -> None:
    async with serving(make_app(), limits=HttpLimits()) as server, connected(server.port) as stream:
        with trio.fail_after(SOON_S):
            await stream.send_all(GET % (b"/hello", b"Connection: close\r\n"))
            assert (await read_to_end(stream)).endswith(b"hello")


async def test_an_idle_connection_is_closed_after_the_keep_alive_time_and_serves_until_then() -> None:
    async with serving(make_app(), limits=QUICK) as server, connected(server.port) as stream:
        for _ in range(2):
            await stream.send_all(GET % (b"/hello", b""))
            await read_until(stream, b"hello")
            await trio.sleep(0.05)
        with trio.fail_after(SOON_S):
            assert await stream.receive_some() == b""


@pytest.mark.parametrize("drip", [b"", b"G"])
async def test_a_client_that_never_finishes_its_headers_is_closed(drip: bytes) -> None:
    async with serving(make_app(), limits=QUICK) as server, connected(server.port) as stream:
        # A byte that crosses the close makes the end a reset, which is as good.
        with trio.fail_after(SOON_S), contextlib.suppress(trio.BrokenResourceError):
            while True:
                with trio.move_on_after(0.02):
                    assert await stream.receive_some() == b""
                    return
                await stream.send_all(drip)


async def test_headers_have_a_size() -> None:
    async with serving(make_app(), limits=QUICK) as server, connected(server.port) as stream:
        await stream.send_all(b"GET /hello HTTP/1.1\r\nX: ")
        await stream.send_all(b"x" * 20_000)
        with trio.fail_after(SOON_S):
            assert b" 431 " in await read_head(stream)


async def test_a_refused_upload_gets_its_answer_and_not_a_reset() -> None:
    async with serving(make_app(), limits=HttpLimits()) as server, connected(server.port) as stream:
        head = b"POST /refuse HTTP/1.1\r\nHost: lac.test\r\nContent-Length: 4000000\r\n\r\n"
        await stream.send_all(head + b"x" * 300_000)
        with trio.fail_after(SOON_S):
            assert b" 413 " in await read_to_end(stream)


async def test_an_application_that_ends_with_its_queue_full_does_not_keep_the_connection() -> None:
    async def reads_nothing(
        scope: dict[str, object],
        receive: Callable[[], Awaitable[dict[str, object]]],
        send: Callable[[dict[str, object]], Awaitable[None]],
    ) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await trio.sleep(0.1)

    async with serving(reads_nothing, limits=HttpLimits()) as server, connected(server.port) as stream:
        head = b"POST / HTTP/1.1\r\nHost: lac.test\r\nContent-Length: 40000000\r\n\r\n"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, head + b"x" * 2_000_000)
            with trio.fail_after(SOON_S):
                assert b" 500 " in await read_to_end(stream)
            nursery.cancel_scope.cancel()


async def test_a_stalled_http_reader_is_cut() -> None:
    async with serving(make_app(), limits=QUICK) as server, connected(server.port, receive_buffer=4096) as stream:
        await stream.send_all(GET % (b"/endless", b""))
        await trio.sleep(0.6)
        with pytest.raises(trio.BrokenResourceError), trio.fail_after(SOON_S):
            await read_to_end(stream)


async def test_a_stalled_websocket_reader_is_cut_and_its_handler_ends() -> None:
    app = make_app()
    async with serving(app, limits=QUICK) as server, connected(server.port, receive_buffer=4096) as stream:
        await stream.send_all(upgrade(b"/shout"))
        with trio.fail_after(SOON_S):
            await app.sockets_ended.wait()  # type: ignore[attr-defined]
        assert not app.ran_away  # type: ignore[attr-defined]


async def test_a_stalled_reader_does_not_hold_the_exit() -> None:
    limits = HttpLimits(write_timeout_s=60.0)
    async with (
        serving(make_app(), limits=limits, grace_s=0.2) as server,
        connected(server.port, receive_buffer=4096) as stream,
    ):
        await stream.send_all(upgrade(b"/shout"))
        await trio.sleep(0.1)
        server.shutdown.set()
        with trio.fail_after(SOON_S):
            await server.ended.wait()


async def test_a_stalled_reader_does_not_hold_a_cancellation() -> None:
    async with trio.open_nursery() as nursery:
        async with serving(make_app(), limits=HttpLimits(write_timeout_s=60.0)) as server:
            stream = await trio.open_tcp_stream("127.0.0.1", server.port)
            await stream.send_all(upgrade(b"/shout"))
            await trio.sleep(0.1)
            nursery.cancel_scope.deadline = trio.current_time() + SOON_S
        await trio.aclose_forcefully(stream)
        assert not nursery.cancel_scope.cancel_called


async def test_an_idle_keep_alive_connection_does_not_delay_the_exit() -> None:
    async with serving(make_app(), limits=HttpLimits(), grace_s=30.0) as server, connected(server.port) as stream:
        await stream.send_all(GET % (b"/hello", b""))
        await read_until(stream, b"hello")
        server.shutdown.set()
        with trio.fail_after(SOON_S):
            await server.ended.wait()
            assert await stream.receive_some() == b""


async def test_a_request_in_flight_is_answered_during_the_shutdown() -> None:
    async with serving(make_app(), limits=HttpLimits(), grace_s=30.0) as server, connected(server.port) as stream:
        await stream.send_all(GET % (b"/slow", b""))
        await trio.sleep(0.05)
        server.shutdown.set()
        with trio.fail_after(SOON_S):
            assert (await read_to_end(stream)).endswith(b"done")
            await server.ended.wait()


async def test_no_new_connection_is_taken_during_the_shutdown() -> None:
    async with serving(make_app(), limits=HttpLimits()) as server, websocket_client(server.port, "/echo"):
        server.shutdown.set()
        await trio.sleep(0.05)
        with pytest.raises(OSError, match="all attempts"):
            await trio.open_tcp_stream("127.0.0.1", server.port)


async def test_permessage_deflate_is_never_agreed_to() -> None:
    offer = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    async with serving(make_app(), limits=QUICK) as server, connected(server.port) as stream:
        await stream.send_all(upgrade(b"/echo", offer))
        head = await read_head(stream)
        assert b" 101 " in head
        assert b"sec-websocket-extensions" not in head.lower()
        deflater = zlib.compressobj(wbits=-15)
        packed = deflater.compress(b"x" * 100_000) + deflater.flush(zlib.Z_SYNC_FLUSH)
        frame = bytearray(text_frame(packed[:-4]))
        frame[0] |= 0x40  # RSV1: "compressed", although nobody agreed to it
        await stream.send_all(frame)
        with trio.fail_after(SOON_S):
            assert close_code_in(await read_to_end(stream)) == 1002


async def test_a_message_that_is_too_large_is_answered_with_1009_and_the_rest_is_not_kept() -> None:
    limits = HttpLimits(max_message_chars=1000, linger_s=0.3)
    async with serving(make_app(), limits=limits) as server, connected(server.port) as stream:
        await stream.send_all(upgrade(b"/echo"))
        await read_head(stream)
        await stream.send_all(text_frame(b"x" * 300_000))
        with trio.fail_after(SOON_S):
            assert close_code_in(await read_to_end(stream)) == 1009


@pytest.mark.parametrize(
    ("frame", "code"),
    [(text_frame(b"\xff\xfe"), 1007), (b"\x81\x01x", 1002), (text_frame(b"x", opcode=3), 1002)],
    ids=["not UTF-8", "not masked", "unknown opcode"],
)
async def test_a_protocol_violation_is_answered_with_its_code(frame: bytes, code: int) -> None:
    async with serving(make_app(), limits=QUICK) as server, connected(server.port) as stream:
        await stream.send_all(upgrade(b"/echo"))
        await read_head(stream)
        await stream.send_all(frame)
        with trio.fail_after(SOON_S):
            assert close_code_in(await read_to_end(stream)) == code


async def test_a_refused_handshake_is_closed() -> None:
    async with serving(make_app(), limits=HttpLimits()) as server, connected(server.port) as stream:
        await stream.send_all(upgrade(b"/echo").replace(b"Version: 13", b"Version: 12"))
        with trio.fail_after(SOON_S):
            assert b" 400 " in await read_to_end(stream)


async def test_frames_before_the_handshake_is_answered_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(make_app(), limits=HttpLimits()) as server, connected(server.port) as stream:
        await stream.send_all(upgrade(b"/deaf") + text_frame(b"early"))
        with trio.fail_after(SOON_S):
            assert b" 400 " in await read_to_end(stream)
    assert caplog.records == []


async def test_a_handler_that_reads_nothing_still_learns_that_its_client_has_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hypercorn_fixes.sockets, "DISCONNECT_NOTICE_S", 0.1)
    app = make_app()
    async with serving(app, limits=HttpLimits(ping_interval_s=0.05)) as server:
        async with connected(server.port) as stream:
            await stream.send_all(upgrade(b"/deaf"))
            await read_head(stream)
            await stream.send_all(text_frame(b"x") * 50)
            await trio.sleep(0.05)
        with trio.fail_after(SOON_S):
            await app.sockets_ended.wait()  # type: ignore[attr-defined]


async def test_a_peer_that_answers_no_pings_is_closed_and_one_that_does_is_not() -> None:
    # Long enough that a busy machine answers in time.
    limits = HttpLimits(ping_interval_s=0.3, linger_s=0.05)
    async with (
        serving(make_app(), limits=limits) as server,
        connected(server.port) as silent,
        websocket_client(server.port, "/echo") as lively,
    ):
        await silent.send_all(upgrade(b"/deaf"))
        started = trio.current_time()
        with trio.fail_after(5 * SOON_S):
            await read_to_end(silent)
        assert trio.current_time() - started >= 0.6
        await lively.connection.send_message("still here")
        assert await lively.connection.get_message() == "still here"


async def test_the_pings_of_a_closed_socket_do_not_delay_the_exit() -> None:
    async with serving(make_app(), limits=HttpLimits(), grace_s=30.0) as server:
        async with websocket_client(server.port, "/echo") as client:
            await client.connection.aclose()
        server.shutdown.set()
        with trio.fail_after(SOON_S):
            await server.ended.wait()


async def test_an_error_in_one_connection_does_not_end_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(self: object, event: object) -> None:
        raise OSError("no such device")

    async with serving(make_app(), limits=HttpLimits()) as server:
        with monkeypatch.context() as patch:
            patch.setattr(hypercorn_fixes.GuardedHTTPStream, "handle", broken)
            async with connected(server.port) as stream:
                await stream.send_all(GET % (b"/hello", b""))
                with trio.fail_after(SOON_S):
                    assert await stream.receive_some() == b""
        async with connected(server.port) as stream:
            await stream.send_all(GET % (b"/hello", b""))
            assert b" 200 " in await read_head(stream)


async def test_http_2_is_not_spoken() -> None:
    async with serving(make_app(), limits=QUICK) as server:
        for preface in (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            GET % (b"/hello", b"Upgrade: h2c\r\nConnection: Upgrade\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"),
        ):
            async with connected(server.port) as stream:
                await stream.send_all(preface)
                with trio.fail_after(SOON_S):
                    assert (await read_to_end(stream)).startswith((b"HTTP/1.1 4", b"HTTP/1.1 200"))


async def test_an_upload_still_works() -> None:
    body = bytes(range(256)) * 1000
    async with serving(make_app(), limits=HttpLimits()) as server, connected(server.port) as stream:
        head = b"POST /echo HTTP/1.1\r\nHost: lac.test\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(stream.send_all, head + body))
            with trio.fail_after(SOON_S):
                assert (await read_to_end(stream)).endswith(body)


def test_what_we_replace_is_what_it_was_written_for() -> None:
    """A new hypercorn has to be read again before the pin moves."""
    from importlib.metadata import version

    from hypercorn.trio.worker_context import TrioSingleTask

    assert version("hypercorn").startswith("0.18.")
    hypercorn_fixes.apply()
    hypercorn_fixes.apply()
    for module, name, replacement in hypercorn_fixes.REPLACED:
        assert getattr(module, name) is replacement
        assert replacement.__mro__[1].__name__ == name
    for owner, names in {
        TCPServer: ["run", "protocol_send", "_read_data", "_idle_timeout", "_close"],
        H11Protocol: ["_check_protocol", "_maybe_recycle", "_close_stream", "_create_stream"],
        HTTPStream: ["app_send", "handle"],
        WSStream: [
            "app_send",
            "handle",
            "_handle_events",
            "_send_pings",
            "_send_wsproto_event",
            "_send_error_response",
        ],
        Handshake: ["accept", "is_valid"],
        TrioSingleTask: ["restart", "stop"],
    }.items():
        assert [name for name in names if not callable(getattr(owner, name, None))] == []


async def test_strangers_cannot_fill_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    config = ServerConfig([], HttpLimits(), 1.0)
    for number in range(50):
        try:
            int("x")
        except ValueError:
            await config.log.exception("provoked %d", number)
        await config.log.info("Running on %s", "nowhere")
    written = capsys.readouterr().out
    assert "provoked 0" in written
    assert 1 <= written.count("http server: provoked") <= 2 * hypercorn_fixes.FrameworkLog.PER_MINUTE
    assert "Running on nowhere" not in written
