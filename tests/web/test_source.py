"""Icecast source clients over a real connection: with PUT, with SOURCE, with and without a length."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import trio

from lac_media.container.ogg_opus import OggOpusWriter
from lac_media.proto.opus import FRAME_20MS_TICKS
from lac_media.rooms.source import LocalSource
from tests.fakes.gateway import HOST, connected, read_head, read_to_end, serving
from tests.media.clients import opus
from tests.web.conftest import Api, problem_of
from tests.web.test_listen import SOON_S, wait_until
from tests.web.test_server_connections import QUICK


@pytest.fixture
async def host(api: Api) -> str:
    return await api.token("host")


@pytest.fixture
async def show(api: Api, host: str) -> dict[str, Any]:
    return await api.broadcast(host)


def basic(key: str, user: str = "source") -> str:
    return f"Basic {base64.b64encode(f'{user}:{key}'.encode()).decode()}"


def head(show: dict[str, Any], *headers: str, method: str = "PUT", version: str = "1.1", key: str = "") -> bytes:
    lines = [
        f"{method} /source/{show['id']} HTTP/{version}",
        f"Host: {HOST}",
        f"Authorization: {basic(key or show['streamKey'])}",
        "Content-Type: audio/ogg",
        *headers,
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


class Encoder:
    """Sends Opus in Ogg at the pace of the clock."""

    def __init__(self, stream: trio.SocketStream, *, chunked: bool = False) -> None:
        self._stream = stream
        self._chunked = chunked
        self._writer = OggOpusWriter(1)
        self._number = 0

    async def send(self, data: bytes) -> None:
        if self._chunked:
            data = b"%x\r\n%s\r\n" % (len(data), data)
        await self._stream.send_all(data)

    async def talk(self, seconds: float) -> None:
        if not self._number:
            await self.send(self._writer.begin())
        for _ in range(round(seconds / 0.1)):
            for _ in range(5):
                self._number += 1
                self._writer.add(opus(self._number))
            await self.send(self._writer.flush())
            await trio.sleep(5 * FRAME_20MS_TICKS / 48_000)


def sources(api: Api, show: dict[str, Any]) -> list[LocalSource]:
    room = api.services.engine._rooms.get(show["id"])
    return [] if room is None else list(room.sources.values())


async def is_heard(api: Api, show: dict[str, Any]) -> None:
    await wait_until(lambda: [source for source in sources(api, show) if source.packets > 5])


WAYS = [
    ("PUT", "1.1", (), False),
    ("PUT", "1.1", ("Transfer-Encoding: chunked",), True),
    ("PUT", "1.0", (), False),
    ("PUT", "1.1", ("Content-Length: 100000000",), False),
    ("SOURCE", "1.0", (), False),
    ("SOURCE", "1.1", (), False),
]


@pytest.mark.parametrize(("method", "version", "headers", "chunked"), WAYS)
async def test_a_source_client_begins_the_show_and_is_heard(
    api: Api, host: str, show: dict[str, Any], method: str, version: str, headers: tuple[str, ...], chunked: bool
) -> None:
    async with serving(api.app) as served, connected(served.port) as stream, trio.open_nursery() as nursery:
        with trio.fail_after(SOON_S):
            await stream.send_all(head(show, *headers, method=method, version=version))
            # Before a byte of audio. DarkIce insists on its own version, libshout on the phrase.
            assert (await read_head(stream)).startswith(f"HTTP/{version} 200 OK\r\n".encode())
            nursery.start_soon(Encoder(stream, chunked=chunked).talk, 2.0)
            await is_heard(api, show)
            answer = await (await api.call("GET", f"/api/broadcasts/{show['id']}")).get_json()
            assert answer["status"] == "live"
            nursery.cancel_scope.cancel()
    await wait_until(lambda: not sources(api, show))
    with trio.fail_after(SOON_S):
        while True:
            page = await (await api.call("GET", f"/api/broadcasts/{show['id']}/sessions", host)).get_json()
            if page["items"] and page["items"][0]["closedAt"]:
                break
            await trio.sleep(0.05)
    assert [(row["kind"], row["direction"]) for row in page["items"]] == [("icecast", "send")]


async def test_who_waits_for_100_continue_gets_it_or_the_refusal(api: Api, show: dict[str, Any]) -> None:
    async with serving(api.app) as served:
        async with connected(served.port) as stream:
            with trio.fail_after(SOON_S):
                await stream.send_all(head(show, "Expect: 100-continue"))
                data = await read_head(stream)
                assert data.startswith(b"HTTP/1.1 100 ")
                while b"HTTP/1.1 200 " not in data:
                    data += await stream.receive_some(1000)
        async with connected(served.port) as stream:
            with trio.fail_after(SOON_S):
                await stream.send_all(head(show, "Expect: 100-continue", key="wrong"))
                data = await read_head(stream)
                assert data.startswith(b"HTTP/1.1 401 ")
                assert b'www-authenticate: basic realm="stream key"' in data.lower()


async def test_libshout_is_told_to_sign_in_and_how(api: Api, show: dict[str, Any]) -> None:
    """It asks without a key first, and for TLS before that; a status line without a phrase is no answer to it."""
    async with serving(api.app) as served:
        for request in (
            f"OPTIONS * HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: TLS/1.0, HTTP/1.1\r\n\r\n",
            f"SOURCE /source/{show['id']} HTTP/1.0\r\nHost: {HOST}\r\nContent-Type: audio/mpeg\r\n"
            "Content-Length: 0\r\nConnection: Keep-Alive\r\nPrefer: return=minimal\r\n\r\n",
        ):
            async with connected(served.port) as stream:
                with trio.fail_after(SOON_S):
                    await stream.send_all(request.encode())
                    status, _, rest = (await read_head(stream)).partition(b"\r\n")
            if request.startswith("OPTIONS"):
                assert status == b"HTTP/1.1 200 OK"
            else:
                assert status == b"HTTP/1.0 401 Unauthorized"
                assert b'www-authenticate: basic realm="stream key"' in rest.lower()
    assert not sources(api, show)


async def test_only_the_stream_key_opens(api: Api, host: str, show: dict[str, Any]) -> None:
    path = f"/source/{show['id']}"
    other = await api.broadcast(host)

    async def put(credentials: str | None, content_type: str = "audio/ogg", where: str = path) -> Any:
        headers = {"Content-Type": content_type} | ({} if credentials is None else {"Authorization": credentials})
        return await api.call("PUT", where, headers=headers)

    response = await put(None)
    await problem_of(response, 401, "not_signed_in")
    assert response.headers["WWW-Authenticate"].startswith("Basic ")
    for credentials in (
        basic("nonsense"),
        basic(other["streamKey"]),
        basic(host),
        "Basic !!!",
        "Basic //79",
        f"Bearer {host}",
        basic("x" * 5000),
    ):
        await problem_of(await put(credentials), 401, "token_invalid")
    await problem_of(await put("Basic "), 401, "not_signed_in")
    await problem_of(await put("Digest x"), 401, "not_signed_in")
    await problem_of(await put(basic(show["streamKey"]), where="/source/nothing"), 401, "token_invalid")
    await problem_of(await put(basic(show["streamKey"]), "video/webm"), 415, "unsupported_media_type")
    assert not api.services.engine._rooms


async def test_after_the_show_nobody_can_publish(api: Api, host: str, show: dict[str, Any]) -> None:
    await api.call("POST", f"/api/broadcasts/{show['id']}/start", host)
    await api.call("POST", f"/api/broadcasts/{show['id']}/end", host)
    headers = {"Authorization": basic(show["streamKey"]), "Content-Type": "audio/mpeg"}
    await problem_of(await api.call("PUT", f"/source/{show['id']}", headers=headers), 409, "already_ended")


@pytest.mark.parametrize("how", ["stream key", "end", "ban", "mute"])
async def test_what_moderators_do_acts_at_once(api: Api, host: str, show: dict[str, Any], how: str) -> None:
    await api.call("POST", f"/api/broadcasts/{show['id']}/start", host)
    async with serving(api.app) as served, connected(served.port) as stream, trio.open_nursery() as nursery:
        with trio.fail_after(SOON_S):
            await stream.send_all(head(show))
            await read_head(stream)
            nursery.start_soon(talk_until_cut, Encoder(stream))
            await is_heard(api, show)
            (source,) = sources(api, show)
            room = source.room
            if how == "stream key":
                await api.call("POST", f"/api/broadcasts/{show['id']}/stream-key", host)
            elif how == "end":
                await api.call("POST", f"/api/broadcasts/{show['id']}/end", host)
            elif how == "ban":
                room.close_owner(source.owner, "removed")
            else:
                room.mute(source.owner)
                assert room.director.sources == []
                await trio.sleep(0.3)
                assert room.director.sources == []
                assert not source.closed
                room.unmute(source.owner)
                await wait_until(lambda: room.director.sources)
                nursery.cancel_scope.cancel()
                return
            assert source.closed
            assert room.director.sources == []
            await read_to_end(stream)
        nursery.cancel_scope.cancel()
    if how == "stream key":
        headers = {"Authorization": basic(show["streamKey"]), "Content-Type": "audio/mpeg"}
        await problem_of(await api.call("PUT", f"/source/{show['id']}", headers=headers), 401, "token_invalid")


async def talk_until_cut(encoder: Encoder) -> None:
    try:
        await encoder.talk(60.0)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return


async def test_the_second_source_replaces_the_first(api: Api, show: dict[str, Any]) -> None:
    async with (
        serving(api.app) as served,
        connected(served.port) as first,
        connected(served.port) as second,
        trio.open_nursery() as nursery,
    ):
        with trio.fail_after(SOON_S):
            await first.send_all(head(show))
            await read_head(first)
            nursery.start_soon(talk_until_cut, Encoder(first))
            await is_heard(api, show)
            (old,) = sources(api, show)
            await second.send_all(head(show, method="SOURCE", version="1.0"))
            await read_head(second)
            nursery.start_soon(talk_until_cut, Encoder(second))
            await wait_until(lambda: old.closed)
            assert old.close_reason == "replaced"
            await read_to_end(first)
            assert len(sources(api, show)) == 1
            nursery.cancel_scope.cancel()


async def test_the_title_of_what_is_playing(api: Api, host: str, show: dict[str, Any]) -> None:
    await api.call("POST", f"/api/broadcasts/{show['id']}/start", host)
    headers = {"Authorization": basic(show["streamKey"])}
    path = f"/admin/metadata?mount=/source/{show['id']}&mode=updinfo&song=A%20song%0D%0A"
    await problem_of(await api.call("GET", path), 401, "not_signed_in")
    await problem_of(await api.call("GET", "/admin/metadata?mode=updinfo", headers=headers), 400)
    await problem_of(await api.call("GET", path, headers=headers), 409, "no_source")
    async with serving(api.app) as served, connected(served.port) as stream, trio.open_nursery() as nursery:
        with trio.fail_after(SOON_S):
            await stream.send_all(head(show))
            await read_head(stream)
            nursery.start_soon(talk_until_cut, Encoder(stream))
            await is_heard(api, show)
            response = await api.call("GET", path, headers=headers)
            assert response.status_code == 200
            assert b"<return>1</return>" in await response.get_data()
            (source,) = sources(api, show)
            assert source.song == "A song"
            assert source.room.streams.describe().text == "A song"
            by_parts = path.replace("song=A%20song%0D%0A", "artist=Hanna&title=Now")
            assert (await api.call("GET", by_parts, headers=headers)).status_code == 200
            assert source.room.streams.describe().text == "Hanna - Now"
            in_latin_1 = path.replace("A%20song%0D%0A", "M%FCller+%26+Co&charset=ISO-8859-1")
            assert (await api.call("GET", in_latin_1, headers=headers)).status_code == 200
            assert source.room.streams.describe().text == "Müller & Co"
            too_much = path + "&song=x" * 50
            await problem_of(await api.call("GET", too_much, headers=headers), 400)
            async with connected(served.port) as in_a_hurry:  # BUTT does not wait for the answer
                request = path.replace("A%20song%0D%0A", "Later")
                lines = (f"GET {request} HTTP/1.0", f"Host: {HOST}", f"Authorization: {headers['Authorization']}")
                await in_a_hurry.send_all("\r\n".join((*lines, "", "")).encode())
            await wait_until(lambda: source.song == "Later")
            source.close("removed")
            assert source.room.streams.describe().text == "Host - A show"
            nursery.cancel_scope.cancel()


async def test_a_source_that_sends_too_fast_is_slowed_down_and_not_collected(api: Api, show: dict[str, Any]) -> None:
    """An hour of Opus as fast as TCP takes it: most of it stays with the sender."""
    sent = 0
    async with serving(api.app) as served, connected(served.port) as stream, trio.open_nursery() as nursery:

        async def flood() -> None:
            nonlocal sent
            writer = OggOpusWriter(1)
            await stream.send_all(writer.begin())
            for start in range(0, 180_000, 50):
                page = b"".join(writer.add(b"\xfc" + bytes(500)) for _ in range(start, start + 50))
                await stream.send_all(page)
                sent += len(page)

        with trio.fail_after(SOON_S):
            await stream.send_all(head(show))
            await read_head(stream)
            nursery.start_soon(flood)
            await is_heard(api, show)
            before = -1
            while before != sent:  # until TCP is full; what is played in the meantime is little
                before = sent
                await trio.sleep(0.2)
                if sent - before < 60_000:
                    break
            assert sent < 40_000_000
            nursery.cancel_scope.cancel()


async def test_the_server_stops_while_a_source_sends(api: Api, show: dict[str, Any]) -> None:
    async with (
        serving(api.app, grace_s=60.0) as served,
        connected(served.port) as stream,
        trio.open_nursery() as nursery,
    ):
        with trio.fail_after(SOON_S):
            await stream.send_all(head(show))
            await read_head(stream)
            nursery.start_soon(talk_until_cut, Encoder(stream))
            await is_heard(api, show)
            await api.services.on_air.drain()
            api.services.on_air.media.end_streams()
            served.shutdown.set()
            await served.ended.wait()
        nursery.cancel_scope.cancel()


async def test_what_a_client_without_a_body_gets(api: Api, show: dict[str, Any]) -> None:
    async with serving(api.app, limits=QUICK) as served, connected(served.port) as stream:
        with trio.fail_after(SOON_S):
            await stream.send_all(head(show, "Content-Length: 0"))
            assert (await read_to_end(stream)).startswith(b"HTTP/1.1 200 ")
    await wait_until(lambda: not sources(api, show))
