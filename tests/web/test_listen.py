"""`/listen` over a real connection: what players see before, during and after a show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import trio

from lac.identity import Identity, IdentityKind
from lac_media.container.ogg_opus import OggOpusReader
from lac_media.streams.formats import StreamFormat
from lac_media.streams.hub import StreamLimits
from lac_web.icy import METAINT
from tests.fakes.gateway import HOST, connected, read_head, read_to_end, read_until, serving
from tests.web.conftest import Api, problem_of
from tests.web.test_icy import parse
from tests.web.test_server_connections import QUICK

SOON_S = 10.0


@pytest.fixture
async def host(api: Api) -> str:
    return await api.token("host")


@pytest.fixture
async def show(api: Api, host: str) -> dict[str, Any]:
    return await api.broadcast(host, live=True, title="Don't stop")


def get(path: str, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", f"Host: {HOST}", *headers]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


async def wait_until(condition: Any) -> None:
    with trio.fail_after(SOON_S):
        while not condition():  # noqa: ASYNC110  # the state of others, who do not tell us
            await trio.sleep(0.01)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_player_gets_an_endless_body_that_is_not_chunked(api: Api, show: dict[str, Any], version: str) -> None:
    with trio.fail_after(SOON_S):
        async with serving(api.app) as served, connected(served.port) as stream:
            await stream.send_all(get(f"/listen/{show['id']}.ogg", "Range: bytes=0-", version=version))
            head, _, body = (await read_until(stream, b"OpusTags")).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            lines = {line.partition(b":")[0].lower(): line for line in head.split(b"\r\n")}
            assert lines[b"content-type"].endswith(b" audio/ogg")
            assert lines[b"connection"].endswith(b"close")
            assert b"no-store" in lines[b"cache-control"]
            assert lines[b"x-accel-buffering"].endswith(b"no")
            assert lines[b"icy-name"].endswith(b"Don't stop")
            assert not lines.keys() & {b"transfer-encoding", b"content-length", b"icy-metaint"}
            assert body.startswith(b"OggS")
            reader, packets = OggOpusReader(), 0
            while packets < 20:
                packets += len(list(reader.receive(body)))
                body = await stream.receive_some(4096)
            # The last byte comes with the end of the show.
            await api.services.on_air.end((await identity_of(api, show)), show["id"])
            await read_to_end(stream)


async def identity_of(api: Api, show: dict[str, Any]) -> Any:
    return Identity(IdentityKind.USER, show["host"]["id"], "Host")


async def test_titles_come_with_the_audio_when_they_are_asked_for(api: Api, show: dict[str, Any], host: str) -> None:
    with trio.fail_after(SOON_S):
        async with serving(api.app) as served, connected(served.port) as stream:
            await stream.send_all(get(f"/listen/{show['id']}.mp3", "Icy-MetaData: 1"))
            head, _, data = (await read_head(stream)).partition(b"\r\n\r\n")
            assert f"icy-metaint: {METAINT}".encode() in head
            assert b"audio/mpeg" in head
            while len(data) < METAINT + 300:
                data += await stream.receive_some(65536)
            changed = await api.call("PATCH", f"/api/broadcasts/{show['id']}", host, json={"title": "Another"})
            assert changed.status_code == 200
            while len(data) < 2 * METAINT + 600:
                data += await stream.receive_some(65536)
    audio, titles = parse(data[: 2 * METAINT + 500], METAINT)
    assert titles == ["Host - Don't stop", "Host - Another"]
    assert audio[0] == 0xFF
    assert audio[1] & 0xE0 == 0xE0  # MP3 frames from the first byte on


async def test_head_says_the_same_and_opens_nothing(api: Api, show: dict[str, Any]) -> None:
    with trio.fail_after(SOON_S):
        async with serving(api.app) as served, connected(served.port) as stream:
            await stream.send_all(get(f"/listen/{show['id']}.aac", "Icy-MetaData: 1", method="HEAD"))
            data = await read_to_end(stream)
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"audio/aac" in head
    assert b"icy-metaint" in head
    assert body == b""
    assert not api.services.engine.streams.encoders


async def test_before_and_after_the_show_the_answer_says_so(api: Api, host: str) -> None:
    show = await api.broadcast(host)
    path = f"/listen/{show['id']}.mp3"
    for method in ("GET", "HEAD"):
        response = await api.call(method, path)
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) >= 5
    await problem_of(await api.call("GET", path), 503, "not_live")
    planned = await api.broadcast(host, scheduledAt="2099-01-01T00:00:00Z")
    response = await api.call("GET", f"/listen/{planned['id']}.mp3")
    assert response.headers["Retry-After"] == "300"
    await api.call("POST", f"/api/broadcasts/{show['id']}/start", host)
    await api.call("POST", f"/api/broadcasts/{show['id']}/end", host)
    await problem_of(await api.call("GET", path), 409, "already_ended")
    await problem_of(await api.call("GET", "/listen/nothing.mp3"), 404, "not_found")
    assert (await api.call("GET", f"/listen/{show['id']}.wav")).status_code == 404


async def test_a_private_show_is_for_whoever_has_a_token(api: Api, host: str) -> None:
    show = await api.broadcast(host, live=True, visibility="private")
    path = f"/listen/{show['id']}.mp3"
    stranger = await api.token("stranger")
    for refused in (
        await api.call("GET", path),
        await api.call("GET", path, stranger),
        await api.call("POST", f"/api/broadcasts/{show['id']}/listen", stranger),
        await api.call("POST", f"/api/broadcasts/{show['id']}/listen"),
    ):
        await problem_of(refused, 404, "not_found")
    await problem_of(await api.call("GET", f"{path}?token=nonsense"), 401, "token_invalid")
    await problem_of(await api.call("GET", f"{path}?token={'x' * 5000}"), 401, "token_invalid")
    link = await api.services.broadcasts.get(await identity_of(api, show), show["id"])
    invite = api.services.broadcasts.invite_token(link)
    accepted = await api.call("POST", f"/api/broadcasts/{show['id']}/invite/accept", json={"invite": invite})
    guest = (await accepted.get_json())["token"]
    # An access token opens more than this: it does not belong into an address.
    await problem_of(await api.call("GET", f"{path}?token={host}"), 401, "token_invalid")
    for token in (host, guest):
        assert (await api.call("HEAD", path, token)).status_code == 200
        answer = await api.call("POST", f"/api/broadcasts/{show['id']}/listen", token)
        assert answer.status_code == 201
        addresses = await answer.get_json()
        assert addresses.keys() == {"ogg", "mp3", "aac"}
        for address in addresses.values():
            assert (await api.call("HEAD", address)).status_code == 200
        # Good for listening to this show, and nothing else.
        query = addresses["mp3"].partition("?token=")[2]
        other = await api.broadcast(host, live=True, visibility="private")
        refused = await api.call("GET", f"/listen/{other['id']}.mp3?token={query}")
        assert refused.status_code in (401, 404)
        if token == host:
            await problem_of(await api.call("GET", "/api/auth/me", query), 401, "token_invalid")
            mine = addresses["ogg"]
    await api.call("POST", "/api/auth/logout-all", host)
    await problem_of(await api.call("GET", mine), 401, "token_invalid")


async def test_addresses_of_a_show_for_everybody_are_everybodys(api: Api, host: str, show: dict[str, Any]) -> None:
    for token in (None, host):
        answer = await api.call("POST", f"/api/broadcasts/{show['id']}/listen", token)
        assert (await answer.get_json())["mp3"] == f"/listen/{show['id']}.mp3"


async def test_listeners_count_and_moderation_reaches_them(api: Api, host: str, show: dict[str, Any]) -> None:
    listener = await api.account("lea")
    with trio.fail_after(SOON_S):
        async with serving(api.app) as served, connected(served.port) as stream:
            path = f"/listen/{show['id']}.ogg"
            await stream.send_all(get(path, f"Authorization: Bearer {listener['accessToken']}"))
            await read_until(stream, b"OpusTags")
            assert api.services.on_air.listener_count(show["id"]) == 1
            response = await api.call("GET", f"/api/broadcasts/{show['id']}", host)
            assert (await response.get_json())["listenerCount"] == 1
            stats = await (await api.call("GET", f"/api/broadcasts/{show['id']}/stats", host)).get_json()
            assert (stats["listeners"], stats["listenersByWay"]) == (1, {"webrtc": 0, "hls": 0, "ogg": 1})
            assert b'lac_stream_listeners{format="ogg"} 1.0' in api.app.metrics.render()
            person = listener["user"]["id"]
            banned = await api.call("POST", f"/api/broadcasts/{show['id']}/bans/{person}", host, json={})
            assert banned.status_code in (200, 201, 204), await banned.get_data()
            await read_to_end(stream)
            assert api.services.on_air.listener_count(show["id"]) == 0
        await problem_of(await api.call("GET", path, listener["accessToken"]), 403, "removed")


async def test_a_client_that_goes_away_leaves_nothing(api: Api, show: dict[str, Any]) -> None:
    hub = api.services.engine.streams
    async with serving(api.app) as served:
        async with connected(served.port) as stream:
            await stream.send_all(get(f"/listen/{show['id']}.ogg"))
            with trio.fail_after(SOON_S):
                await read_until(stream, b"OpusTags")
        await wait_until(lambda: not +hub.listeners)
        assert api.services.on_air.listener_count(show["id"]) == 0
        # Gone before the answer.
        async with connected(served.port) as stream:
            await stream.send_all(get(f"/listen/{show['id']}.ogg"))
        await wait_until(lambda: not +hub.listeners)


async def test_too_many_are_told_to_come_back(api: Api, show: dict[str, Any]) -> None:
    hub = api.services.engine.streams
    hub.limits = StreamLimits(listeners=5, per_address=1)
    path = f"/listen/{show['id']}.ogg"
    async with serving(api.app) as served, connected(served.port) as stream:
        await stream.send_all(get(path))
        with trio.fail_after(SOON_S):
            await read_until(stream, b"OpusTags")
        async with connected(served.port) as other:
            await other.send_all(get(path))
            assert (await read_head(other)).startswith(b"HTTP/1.1 429 ")
        hub.limits = StreamLimits(listeners=1, per_address=10)
        async with connected(served.port) as other:
            await other.send_all(get(path))
            head = await read_head(other)
            assert head.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 60" in head.lower()


async def test_a_stalled_client_is_cut_off_and_the_others_hear_on(api: Api, show: dict[str, Any]) -> None:
    """It reads nothing: what we can give the kernel is full at some time, and then the write's deadline runs."""
    hub = api.services.engine.streams
    async with (
        serving(api.app, limits=replace(QUICK, slowest_bytes_per_s=1e8)) as served,
        connected(served.port, receive_buffer=2048) as stalled,
        connected(served.port) as good,
    ):
        for stream in (stalled, good):
            await stream.send_all(get(f"/listen/{show['id']}.mp3"))
            with trio.fail_after(SOON_S):
                await read_head(stream)
        victim, other = api.services.engine._rooms[show["id"]].streams._listeners.values()
        victim.source.ring.add(bytes(8_000_000), 0, b"")  # hours at once, so to speak
        other._cursor._next = victim.source.ring.next_number
        victim.wake()
        await wait_until(lambda: hub.listeners[StreamFormat.MP3] == 1)
        with trio.fail_after(SOON_S):
            assert await good.receive_some(1000)


async def test_the_server_stops_while_players_listen(api: Api, show: dict[str, Any]) -> None:
    with trio.fail_after(SOON_S):
        async with serving(api.app, grace_s=60.0) as served, connected(served.port) as stream:
            await stream.send_all(get(f"/listen/{show['id']}.ogg"))
            await read_until(stream, b"OpusTags")
            await api.services.on_air.drain()
            api.services.on_air.media.end_streams()
            served.shutdown.set()
            await read_to_end(stream)
            await served.ended.wait()
    await problem_of(await api.call("GET", f"/listen/{show['id']}.ogg"), 503, "shutting_down")


async def test_players_on_other_peoples_pages_may_listen(api: Api, show: dict[str, Any]) -> None:
    headers = {"Origin": "https://player.example", "Access-Control-Request-Method": "GET"}
    response = await api.call("OPTIONS", f"/listen/{show['id']}.mp3", headers=headers)
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "Icy-MetaData" in response.headers["Access-Control-Allow-Headers"]
    response = await api.call("HEAD", f"/listen/{show['id']}.mp3", headers={"Origin": "https://player.example"})
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "Icy-Metaint" in response.headers["Access-Control-Expose-Headers"]
