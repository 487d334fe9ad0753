"""Connections over real sockets: what clients see, and what the room sees of them."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.lowlevel
from quart_trio import QuartTrio
from trio_websocket import ConnectionRejected

from lac.errors import ConflictError, ForbiddenError, LacError, TooManyRequestsError, UnavailableError
from lac.rooms.commands import ChatMessage
from lac.rooms.values import MemberPage, Value
from lac_web.gateway.connection import GatewayLimits
from lac_web.gateway.routes import Gateway, origin_allowed, register_gateway
from lac_web.server import HttpLimits
from tests.fakes.gateway import (
    FakeMember,
    FakeOnAir,
    FakeServices,
    FakeSettings,
    Served,
    close_code_in,
    connected,
    read_head,
    serving,
    text_frame,
    upgrade,
    websocket_client,
)

SOON_S = 5.0
QUICK_HTTP = HttpLimits(write_timeout_s=0.3, linger_s=0.1)


class Stage(Served):
    on_air: FakeOnAir
    gateway: Gateway


@asynccontextmanager
async def stage(
    limits: GatewayLimits | None = None, *, http: HttpLimits = QUICK_HTTP, settings: FakeSettings | None = None
) -> AsyncGenerator[Stage, None]:
    """A served gateway. In the end nobody is in, and every socket is gone."""
    app = QuartTrio("tests")
    services = FakeServices(settings=settings or FakeSettings())
    gateway = register_gateway(app, services, limits)
    async with serving(app, limits=http) as server:
        here = Stage(server.port, server.shutdown, server.ended)
        here.on_air, here.gateway = services.on_air, gateway
        with trio.fail_after(30):
            yield here
            await services.on_air.count_is(0)
    assert gateway.connections == set()


async def test_joining_is_answered_and_acks_are_echoed() -> None:
    async with stage() as here, websocket_client(here.port) as client:
        assert (await client.join())["event"] == "joined"
        assert await client.next() == {"event": "ack", "ack": 0, "data": {}}
        await client.send("chatMessage", {"text": "hi"}, ack=2**31)
        assert await client.next() == {"event": "ack", "ack": 2**31, "data": {}}
        assert here.on_air.commands == [ChatMessage("hi")]


async def test_what_the_member_returns_is_the_data_of_the_ack() -> None:
    async def page(member: FakeMember, text: str) -> Value:
        return MemberPage([], "next")

    async with stage() as here, websocket_client(here.port) as client:
        here.on_air.on_chat = page
        await client.send("join", {"broadcastId": "b1"})
        await client.next()
        await client.send("chatMessage", {"text": "who?"}, ack=1)
        assert await client.next() == {"event": "ack", "ack": 1, "data": {"items": [], "nextCursor": "next"}}


async def test_leaving_is_acknowledged_and_closes_with_1000() -> None:
    async with stage() as here, websocket_client(here.port) as client:
        await client.join()
        await client.send("leave", ack=9)
        with trio.fail_after(SOON_S):
            assert await client.closed() == (1000, "left")
        assert client.received[-1] == {"event": "ack", "ack": 9, "data": {}}


@pytest.mark.parametrize("politely", [True, False], ids=["close frame", "connection lost"])
async def test_a_client_that_goes_has_left(politely: bool) -> None:
    async with stage() as here:
        async with websocket_client(here.port) as client:
            await client.join()
            await here.on_air.count_is(1)
            if politely:
                await client.connection.aclose()
        with trio.fail_after(SOON_S):
            await here.on_air.count_is(0)


@pytest.mark.parametrize(
    ("join", "code", "word"),
    [
        ({"broadcastId": "gone"}, 4404, "not_found"),
        ({"broadcastId": "b1", "token": "old"}, 4401, "token_expired"),
        ({"broadcastId": "private"}, 4401, "forbidden"),
        ({"broadcastId": "private", "token": "good:u1"}, 4403, "forbidden"),
        ({"broadcastId": "b1", "token": "good:banned"}, 4403, "removed"),
        ({"broadcastId": "b1", "nom": "x"}, 1008, "bad_data"),
    ],
)
async def test_who_may_not_join_is_told_why_and_closed(join: dict[str, str], code: int, word: str) -> None:
    async with stage() as here, websocket_client(here.port) as client:
        here.on_air.removed.add("banned")
        await client.send("join", join, ack=4)
        with trio.fail_after(SOON_S):
            assert await client.closed() == (code, word)
        [error] = client.received
        assert (error["event"], error["ack"], error["data"]["code"]) == ("error", 4, word)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConflictError("It has ended.", code="already_ended"), 1008),
        (ForbiddenError("A moderator removed you.", code="removed"), 4403),
        (TooManyRequestsError("Too many.", retry_after_s=1), 4429),
        (UnavailableError("Shutting down."), 1001),
    ],
)
async def test_other_refusals_have_their_close_codes(error: LacError, code: int) -> None:
    async with stage() as here, websocket_client(here.port) as client:
        here.on_air.join_error = error
        await client.send("join", {"broadcastId": "b1"})
        with trio.fail_after(SOON_S):
            assert (await client.closed())[0] == code


async def test_whoever_does_not_join_in_time_is_closed() -> None:
    async with stage(GatewayLimits(join_s=0.05)) as here, websocket_client(here.port) as client:
        with trio.fail_after(SOON_S):
            assert (await client.closed())[0] == 1008
        assert client.received[0]["data"]["code"] == "join_late"


async def test_the_first_frame_has_to_be_join() -> None:
    async with stage() as here, websocket_client(here.port) as client:
        await client.send("chatMessage", {"text": "hi"}, ack=1)
        with trio.fail_after(SOON_S):
            assert await client.closed() == (1008, "join_first")


async def test_a_second_join_is_an_error_and_changes_nothing() -> None:
    async with stage() as here, websocket_client(here.port) as client:
        await client.join()
        await client.next()
        await client.send("join", {"broadcastId": "b1"}, ack=2)
        assert (await client.next())["data"]["code"] == "already_joined"
        assert len(here.on_air.members) == 1


async def test_bad_frames_are_answered_and_the_connection_goes_on() -> None:
    async with stage() as here, websocket_client(here.port) as client:
        await client.send("join", {"broadcastId": "b1"})
        await client.next()
        await client.connection.send_message("{nonsense")
        assert (await client.next())["data"]["code"] == "not_json"
        await client.connection.send_message(b"")
        assert (await client.next())["data"]["code"] == "not_text"
        await client.send("chatMessage", {"txet": "hi"}, ack=3)
        error = await client.next()
        assert (error["ack"], error["data"]["code"]) == (3, "bad_data")
        assert "`txet`" in error["data"]["message"]
        await client.send("chatMessage", {"text": "hi"}, ack=4)
        assert (await client.next())["event"] == "ack"


@pytest.mark.parametrize("ack", [None, 5])
async def test_a_refused_command_is_an_error_frame_also_without_ack(ack: int | None) -> None:
    async def refuse(member: FakeMember, text: str) -> Value:
        raise TooManyRequestsError("One message every 30 seconds.", retry_after_s=2, code="slow_mode")

    async with stage() as here, websocket_client(here.port) as client:
        here.on_air.on_chat = refuse
        await client.send("join", {"broadcastId": "b1"})
        await client.next()
        await client.send("chatMessage", {"text": "hi"}, ack=ack)
        error = await client.next()
        assert error.get("ack") == ack
        assert error["data"] == {"code": "slow_mode", "message": "One message every 30 seconds.", "retryAfterMs": 2000}


async def test_a_bug_in_a_handler_closes_with_1011_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def bug(member: FakeMember, text: str) -> Value:
        raise KeyError("a bug")

    with caplog.at_level(logging.ERROR):
        async with stage() as here, websocket_client(here.port) as client, websocket_client(here.port) as other:
            here.on_air.on_chat = bug
            await client.join()
            await other.join()
            await other.next()
            await client.send("chatMessage", {"text": "hi"})
            with trio.fail_after(SOON_S):
                assert await client.closed() == (1011, "internal error")
            await here.on_air.count_is(1)
            here.on_air.send_all(b'{"event":"still here"}')
            assert await other.next() == {"event": "still here"}


async def test_an_oversized_frame_closes_with_1009() -> None:
    async with stage() as here:
        async with websocket_client(here.port) as client:
            await client.join()
            await client.connection.send_message("x" * 17_000)  # refused while it is still coming in
            with trio.fail_after(SOON_S):
                assert (await client.closed())[0] == 1009
        async with websocket_client(here.port) as client:
            await client.join()
            await client.connection.send_message("ü" * 9_000)  # few enough characters, but too many bytes
            with trio.fail_after(SOON_S):
                assert await client.closed() == (1009, "too_large")


async def test_a_flood_closes_with_4429_and_the_client_gets_to_know() -> None:
    async with stage(GatewayLimits(frame_burst=20, frames_per_s=0.01)) as here, connected(here.port) as stream:
        await stream.send_all(upgrade())
        await read_head(stream)
        await stream.send_all(text_frame(b'{"event":"join","data":{"broadcastId":"b1"}}'))
        chat = text_frame(b'{"event":"chatMessage","data":{"text":"spam"}}')
        data = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, chat * 2000)
            with trio.fail_after(SOON_S):
                while more := await stream.receive_some():
                    data += more
            nursery.cancel_scope.cancel()
        assert close_code_in(data) == 4429
        assert len(here.on_air.commands) == 19


async def test_what_was_queued_before_a_close_is_delivered_before_it() -> None:
    async with stage() as here, websocket_client(here.port) as client:
        await client.join()
        [member] = here.on_air.members
        for number in range(50):
            member.outlet.offer(b'{"event":"%d"}' % number)
        member.remove("spam")
        member.outlet.offer(b'{"event":"too late"}')
        member.outlet.close(1000, "too late")
        with trio.fail_after(SOON_S):
            assert await client.closed() == (4403, "removed")
        assert [frame["event"] for frame in client.received[-51:]] == [*map(str, range(50)), "removed"]


async def test_a_drain_closes_everyone_with_1001_and_refuses_new_sockets() -> None:
    async with stage() as here, websocket_client(here.port) as joined, websocket_client(here.port) as not_yet:
        await joined.join()
        here.gateway.close_all()
        with trio.fail_after(SOON_S):
            assert await joined.closed() == (1001, "shutting down")
            assert await not_yet.closed() == (1001, "shutting down")
        with pytest.RaisesGroup(ConnectionRejected, flatten_subgroups=True, allow_unwrapped=True) as refused:
            async with websocket_client(here.port):
                pass
        assert "503" in repr(refused.value.exceptions)


async def test_a_drained_server_ends_at_once() -> None:
    async with stage() as here, websocket_client(here.port) as client:
        await client.join()
        here.shutdown.set()
        here.gateway.close_all()
        await client.closed()
        await client.connection.aclose()
        with trio.fail_after(SOON_S):
            await here.ended.wait()


async def test_a_client_that_stops_reading_is_closed_and_the_others_notice_nothing() -> None:
    frame = b'{"event":"chatMessage","data":{"text":"%s"}}' % (b"x" * 4000)
    late: list[float] = []
    async with (
        stage(http=HttpLimits(write_timeout_s=2.0, linger_s=0.1)) as here,
        connected(here.port, receive_buffer=4096) as stalled,
        websocket_client(here.port) as lively,
    ):
        await stalled.send_all(upgrade())
        await read_head(stalled)
        await stalled.send_all(text_frame(b'{"event":"join","data":{"broadcastId":"b1"}}'))
        await here.on_air.count_is(1)
        slow = here.on_air.members[0]
        await lively.join()
        await lively.next()
        rounds = 0
        while not slow.left:
            sent_at = trio.current_time()
            here.on_air.send_all(frame)
            with trio.fail_after(SOON_S):
                await lively.next()
            late.append(trio.current_time() - sent_at)
            rounds += 1
            assert rounds < 5000
        assert slow.outlet.closing == (1013, "too slow to keep up")  # type: ignore[attr-defined]  # a Connection
        assert max(late) < 1.5, f"the slow client delayed the other by {max(late):.3f} s"
        for _ in range(150):  # the lively one is still in, and gets everything
            here.on_air.send_all(frame)
            await lively.next()
        assert here.on_air.members[0].left is False
        with trio.fail_after(SOON_S):  # and the stalled one, which still reads nothing, is cut
            while len(here.gateway.connections) != 1:  # noqa: ASYNC110  # a set, not an event
                await trio.sleep(0.01)


async def test_a_slow_client_that_reads_again_in_time_sees_1013() -> None:
    frame = b'{"event":"chatMessage","data":{"text":"%s"}}' % (b"x" * 4000)
    async with (
        stage(http=HttpLimits(write_timeout_s=5.0, linger_s=0.1)) as here,
        connected(here.port, receive_buffer=4096) as slow,
    ):
        await slow.send_all(upgrade())
        head = await read_head(slow)
        await slow.send_all(text_frame(b'{"event":"join","data":{"broadcastId":"b1"}}'))
        await here.on_air.count_is(1)
        while here.on_air.members:
            here.on_air.send_all(frame)
            await trio.lowlevel.checkpoint()
        data = head.split(b"\r\n\r\n", 1)[1]
        with trio.fail_after(SOON_S):
            while more := await slow.receive_some():
                data += more
        assert close_code_in(data) == 1013


async def test_foreign_pages_may_not_connect_and_ours_may() -> None:
    settings = FakeSettings(cors_origins=("https://studio.test",))
    async with stage(settings=settings) as here:
        for origin in (b"http://127.0.0.1:%d" % here.port, b"https://studio.test"):
            async with websocket_client(here.port, headers=[(b"Origin", origin)]) as client:
                await client.join()
        with pytest.RaisesGroup(ConnectionRejected, flatten_subgroups=True, allow_unwrapped=True) as refused:
            async with websocket_client(here.port, headers=[(b"Origin", b"https://evil.test")]):
                pass
        assert "403" in repr(refused.value.exceptions)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("https://lac.test", True),
        ("https://LAC.test:443", True),
        ("http://lac.test", True),  # the proxy in front may speak TLS while we do not
        ("https://lac.test.evil.test", False),
        ("https://lac.test:8443", False),
        ("https://public.test", True),
        ("http://public.test", False),
        ("https://listed.test", True),
        ("null", False),
        ("", False),
        ("file://", False),
    ],
)
def test_origins(origin: str | None, allowed: bool) -> None:
    assert (
        origin_allowed(origin, host="lac.test", public_url="https://public.test/live", allowed=["https://listed.test"])
        is allowed
    )


def test_any_origin_can_be_allowed() -> None:
    assert origin_allowed("https://evil.test", host="lac.test", public_url=None, allowed=["*"])
