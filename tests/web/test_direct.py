"""What is answered past the framework is what the framework would have answered, and nothing else is taken."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import h11
import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from lac_web.direct import plain_get
from lac_web.server import listening_on, serve_http
from tests.web.conftest import Api

PREFIX = b"/hls/"
PLAIN = b"GET /hls/a/b-_/high.m3u8?_HLS_msn=1&_HLS_part=2 HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n"


def test_a_plain_request_is_understood() -> None:
    assert plain_get(PLAIN, PREFIX) == ("/hls/a/b-_/high.m3u8", "_HLS_msn=1&_HLS_part=2")


@pytest.mark.parametrize(
    "changed",
    [
        PLAIN[:-1],
        PLAIN + b"x",
        PLAIN + PLAIN,
        PLAIN.replace(b"GET", b"HEAD"),
        PLAIN.replace(b"/hls/", b"/api/"),
        PLAIN.replace(b"1.1", b"1.0"),
        PLAIN.replace(b"/b-_/", b"/%2e%2e/"),
        PLAIN.replace(b"Host: x\r\n", b""),
        PLAIN.replace(b"Host: x\r\n", b"Host: x\r\nHost: y\r\n"),
        *(
            PLAIN.replace(b"Accept: */*", field)
            for field in (
                b"Content-Length: 3",
                b"transfer-encoding: chunked",
                b"Connection: close",
                b"Connection: Upgrade",
                b"Upgrade: websocket",
                b"Expect: 100-continue",
                b'If-None-Match: "x"',
                b"Range: bytes=0-1",
                b" folded: x",
                b"No colon",
                b"Space : x",
                b"Nul: \x00",
                b"Bare: a\nb: c",
            )
        ),
    ],
)
def test_anything_else_goes_the_usual_way(changed: bytes) -> None:
    assert plain_get(changed, PREFIX) is None


_PIECES = st.sampled_from(
    [
        b"GET ",
        b"/hls/a",
        b"?x=1",
        b" HTTP/1.1",
        b"\r\n",
        b"\n",
        b"Host: x",
        b":",
        b" ",
        b"Content-Length: 0",
        b"\r\n\r\n",
    ]
)


@given(st.lists(st.one_of(_PIECES, st.binary(max_size=3)), max_size=8).map(b"".join))
def test_what_is_taken_is_one_whole_request_to_h11_too(rest: bytes) -> None:
    data = b"GET /hls/" + rest
    found = plain_get(data, PREFIX)
    if found is None:
        return
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    path, query = found
    assert request.target.decode() == (f"{path}?{query}" if b"?" in request.target else path)
    assert isinstance(connection.next_event(), h11.EndOfMessage)
    assert connection.trailing_data == (b"", False)


@asynccontextmanager
async def served(api: Api) -> AsyncGenerator[str, None]:
    shutdown = trio.Event()
    async with listening_on("127.0.0.1", 0) as listening, trio.open_nursery() as nursery:
        serve = partial(serve_http, api.app, listening, shutdown=shutdown, direct=api.app.direct)
        (url,) = await nursery.start(serve)
        yield url
        shutdown.set()


async def test_the_same_is_answered_on_either_way(api: Api) -> None:
    show = await api.broadcast(await api.token("host"), live=True)
    async with served(api) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        index = await client.get(f"/hls/{show['id']}/index.m3u8")
        folder = f"/hls/{show['id']}/{index.text.splitlines()[4].partition('/')[0]}"
        stream = api.services.on_air.hls.streams[0]
        playlist = await client.get(f"{folder}/high.m3u8")
        assert "x-request-id" not in playlist.headers, "answered past the framework"
        name = stream.plan.segment_name(stream.plan.segments[0])
        for path in (f"{folder}/high/{name}", f"/hls/{show['id']}/media/low/{name}"):
            quick = await client.get(path)
            usual = await client.get(path, headers={"Range": "bytes=0-"})
            assert "x-request-id" in usual.headers
            assert quick.status_code == usual.status_code == 200
            assert quick.content == usual.content
            for header in (
                "content-type",
                "cache-control",
                "etag",
                "content-security-policy",
                "x-content-type-options",
            ):
                assert quick.headers[header] == usual.headers[header]
        for wrong, status in (
            (f"{folder}/high/1-x.m4s", 404),
            (f"{folder}/high.m3u8?_HLS_part=1", 400),
            (f"{folder}/high.m3u8?_HLS_msn=1&_HLS_msn=2", 200),
            ("/hls/x/y/high.m3u8", 404),
        ):
            response = await client.get(wrong)
            assert response.status_code == status
            assert "x-request-id" in response.headers, "errors are the application's"
        metrics = (await client.get("/metrics")).text
        assert 'route="/hls/<broadcast_id>/<listen_pass>/<rendition>/<file>",status="200"' in metrics


async def test_nobody_waits_for_a_server_that_goes_away(api: Api) -> None:
    show = await api.broadcast(await api.token("host"), live=True)
    async with served(api) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        index = await client.get(f"/hls/{show['id']}/index.m3u8")
        folder = f"/hls/{show['id']}/{index.text.splitlines()[4].partition('/')[0]}"
        await client.get(f"{folder}/high.m3u8")
        last_msn, _ = api.services.on_air.hls.streams[0].plan.end_position
        async with trio.open_nursery() as nursery:
            answers: list[int] = []

            async def ask() -> None:
                answers.append((await client.get(f"{folder}/high.m3u8?_HLS_msn={last_msn + 2}")).status_code)

            nursery.start_soon(ask)
            while not api.services.on_air.hls.streams[0]._waiting:  # noqa: ASYNC110  no event tells of it
                await trio.sleep(0.01)
            began_at = trio.current_time()
            await api.services.on_air.drain()
        assert answers == [503]
        assert trio.current_time() - began_at < 3
