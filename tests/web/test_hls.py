"""HLS over HTTP: who gets what, how long caches may keep it, who is counted, and who is sent here."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from lac.broadcasts import hls, hls_show
from lac.broadcasts.hls_pass import decode_pass_untrusted, encode_pass, new_pass
from lac.broadcasts.model import Role
from lac.clock import utc_now
from lac.config import Settings
from lac.identity import Identity, IdentityKind
from lac_media.engine import Engine
from tests.hls.playlists import ReadPlaylist, read
from tests.web.conftest import Api, problem_of
from tests.web.test_whip_whep import offer


async def text(response: Any) -> str:
    body: str = await response.get_data(as_text=True)
    assert response.status_code == 200, body
    return body


async def playlist_addresses(api: Api, index: str, token: str | None = None) -> list[str]:
    """The addresses of the media playlists, the best first."""
    response = await api.call("GET", index, token)
    lines = (await text(response)).splitlines()
    assert response.headers["Content-Type"] == "application/vnd.apple.mpegurl"
    assert response.headers["Cache-Control"] == "no-store"
    assert all('CODECS="mp4a.40.2"' in line for line in lines if line.startswith("#EXT-X-STREAM-INF"))
    folder = index.rpartition("/")[0]
    return [f"{folder}/{line}" for line in lines if not line.startswith("#")]


async def media_playlist(api: Api, address: str) -> ReadPlaylist:
    return read((await text(await api.call("GET", address))).encode())


def resolve(playlist_address: str, uri: str) -> str:
    parts = playlist_address.split("/")[:-1]
    for part in uri.split("/"):
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/".join(parts)


async def issued(api: Api, show_id: str, token: str | None = None) -> dict[str, Any]:
    response = await api.call("POST", f"/api/broadcasts/{show_id}/hls", token)
    assert response.status_code == 201, await response.get_data(as_text=True)
    body: dict[str, Any] = await response.get_json()
    return body


async def gone(path: Path) -> None:
    with trio.fail_after(60):
        while path.exists():  # noqa: ASYNC110, ASYNC240  a thread removes it
            await trio.sleep(0.05)


@asynccontextmanager
async def show(api: Api, **fields: Any) -> AsyncGenerator[tuple[dict[str, Any], str], None]:
    token = await api.token("host")
    yield await api.broadcast(token, live=True, **fields), token


async def test_a_public_show_is_played_from_its_index(api: Api) -> None:
    async with show(api) as (live, _):
        high, low = await playlist_addresses(api, f"/hls/{live['id']}/index.m3u8")
        response = await api.call("GET", high, headers={"Origin": "https://anywhere.example"})
        playlist = read((await text(response)).encode())
        assert response.headers["Cache-Control"] == "private, max-age=1"
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        again = await api.call("GET", high, headers={"If-None-Match": response.headers["ETag"]})
        assert again.status_code in (200, 304)  # 200: the stream has gone on

        files = [playlist.map_uri, playlist.whole[0].uri, playlist.segments[0].parts[0].uri, playlist.hint]
        for uri in files:
            assert uri is not None
            assert uri.startswith("../media/high/"), "the same address for everybody"
            address = resolve(high, uri)
            response = await api.call("GET", address, headers={"Origin": "https://anywhere.example"})
            assert response.status_code == 200, address
            assert response.headers["Content-Type"] == "audio/mp4"
            assert response.headers["Cache-Control"] == "public, max-age=3600, immutable"
            assert response.headers["Access-Control-Allow-Origin"] == "*"
            unchanged = await api.call("GET", address, headers={"If-None-Match": response.headers["ETag"]})
            assert unchanged.status_code == 304
            assert not await unchanged.get_data()

        last = playlist.segments[-1]
        blocked = await api.call("GET", f"{low}?_HLS_msn={last.msn + 1}&_HLS_part=1&_HLS_skip=YES")
        newer = read((await text(blocked)).encode())
        assert blocked.headers["Cache-Control"] == "private, max-age=24"
        assert (newer.segments[-1].msn, len(newer.segments[-1].parts)) >= (last.msn + 1, 2)


async def test_nonsense_is_refused(api: Api) -> None:
    async with show(api) as (live, _):
        high, _low = await playlist_addresses(api, f"/hls/{live['id']}/index.m3u8")
        for query in ("_HLS_msn=x", "_HLS_part=1", "_HLS_msn=-1", f"_HLS_msn={10**12}", "_HLS_msn=1&_HLS_part=1.5"):
            await problem_of(await api.call("GET", f"{high}?{query}"), 400, "bad_request")
        folder = high.rpartition("/")[0]
        for path in (f"{folder}/middle.m3u8", f"{folder}/high/x", f"{folder}/middle/x.m4s", f"{high}/"):
            await problem_of(await api.call("GET", path), 404)
        await problem_of(await api.call("GET", high.replace("/hls/", "/hls/x")), 404)
        token = folder.split("/")[3]
        changed = folder.replace(token, ("A" if token[0] != "A" else "B") + token[1:])
        for wrong in (changed, f"/hls/{live['id']}/nothing", f"/hls/{live['id']}/" + "A" * 5000):
            await problem_of(await api.call("GET", f"{wrong}/high.m3u8"), 404)
        await problem_of(await api.call("GET", "/hls/nosuchshow/index.m3u8"), 404)


async def test_a_pass_has_to_come_into_use_before_it_expires_and_is_for_one_show(api: Api, settings: Settings) -> None:
    async with show(api) as (live, token):
        old = new_pass("x", None, now=utc_now() - timedelta(hours=1))
        address = f"/hls/{live['id']}/{encode_pass(old, live['id'], key=settings.jwt_secret)}/high.m3u8"
        await problem_of(await api.call("GET", address), 403, "hls_expired")
        other = await api.broadcast(token, live=True)
        good = (await issued(api, other["id"]))["url"].split("/")[3]
        await problem_of(await api.call("GET", f"/hls/{live['id']}/{good}/high.m3u8"), 404)
        # One that is in use goes on.
        in_use = replace_expiry(good, other["id"], settings)
        served = api.services.on_air.hls._shows[other["id"]]
        await api.call("GET", f"/hls/{other['id']}/{good}/index.m3u8")
        assert len(served.listeners) == 1
        await text(await api.call("GET", f"/hls/{other['id']}/{in_use}/high.m3u8"))


def replace_expiry(token: str, show_id: str, settings: Settings) -> str:
    listener = decode_pass_untrusted(token, show_id, key=settings.jwt_secret)
    assert listener is not None
    return encode_pass(msgspec.structs.replace(listener, expires_at=0), show_id, key=settings.jwt_secret)


async def test_a_private_show_is_only_for_those_who_may_hear_it(api: Api) -> None:
    async with show(api, visibility="private") as (live, host_token):
        index = f"/hls/{live['id']}/index.m3u8"
        assert (await api.call("GET", index)).status_code == 404
        assert (await api.call("GET", index, await api.token("stranger"))).status_code == 404
        assert (await api.call("POST", f"/api/broadcasts/{live['id']}/hls")).status_code == 404
        guest = await api.account("friend")
        host = Identity(IdentityKind.USER, live["host"]["id"], "Host")
        await api.services.on_air.rights.set_role(host, live["id"], guest["user"]["id"], Role.MODERATOR)
        url = (await issued(api, live["id"], guest["accessToken"]))["url"]
        high, _ = await playlist_addresses(api, url)
        playlist = await media_playlist(api, high)
        assert playlist.map_uri is not None
        assert playlist.map_uri.startswith("high/")
        address = resolve(high, playlist.map_uri)
        response = await api.call("GET", address)
        assert response.status_code == 200
        assert response.headers["Cache-Control"] == "private, max-age=3600, immutable"
        public = address.replace(address.split("/")[3], "media")
        await problem_of(await api.call("GET", public), 403, "private")
        # The role goes, and with it the stream, in the middle of it.
        await api.services.on_air.rights.set_role(host, live["id"], guest["user"]["id"], None)
        assert (await api.call("GET", address)).status_code == 404
        assert (await api.call("GET", high)).status_code == 404
        # The same with the end of a sign-in.
        url = (await issued(api, live["id"], host_token))["url"]
        assert (await api.call("GET", url)).status_code == 200
        assert (await api.call("POST", "/api/auth/logout-all", host_token)).status_code == 204
        await problem_of(await api.call("GET", url), 401, "token_invalid")


async def test_who_is_removed_hears_nothing_more(api: Api) -> None:
    async with show(api) as (live, token):
        person = await api.account("troll")
        url = (await issued(api, live["id"], person["accessToken"]))["url"]
        high, _ = await playlist_addresses(api, url)
        await media_playlist(api, high)
        ban = await api.call("POST", f"/api/broadcasts/{live['id']}/bans/{person['user']['id']}", token, json={})
        assert ban.status_code in (200, 201, 204)
        await problem_of(await api.call("GET", high), 403, "removed")
        new = await api.call("POST", f"/api/broadcasts/{live['id']}/hls", person["accessToken"])
        await problem_of(new, 403, "removed")


async def test_listeners_are_counted_while_they_ask(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hls_show, "GONE_AFTER_S", 0.5)
    monkeypatch.setattr(hls, "LOOK_INTERVAL_S", 0.05)

    async def count() -> int:
        listeners: int = (await (await api.call("GET", f"/api/broadcasts/{live['id']}")).get_json())["listenerCount"]
        return listeners

    async with show(api) as (live, token):
        urls = [(await issued(api, live["id"], None if number else token))["url"] for number in range(3)]
        assert await count() == 0
        for url in urls:
            await api.call("GET", url)
        assert await count() == 3
        for _ in range(100):
            if not await count():
                break
            await trio.sleep(0.1)
        assert await count() == 0
        await api.call("POST", f"/api/broadcasts/{live['id']}/end", token)
        sessions = await (await api.call("GET", f"/api/broadcasts/{live['id']}/sessions", token)).get_json()
        rows = [row for row in sessions["items"] if row["kind"] == "hls"]
        assert len(rows) == 3
        assert all(row["closedAt"] is not None for row in rows)


async def test_the_show_ends_and_can_be_heard_for_a_while(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async with show(api) as (live, token):
        url = (await issued(api, live["id"]))["url"]
        high, _ = await playlist_addresses(api, url)
        await media_playlist(api, high)
        await api.call("POST", f"/api/broadcasts/{live['id']}/end", token)
        response = await api.call("GET", high)
        playlist = read((await text(response)).encode())
        assert playlist.ended
        assert response.headers["Cache-Control"] == "private, max-age=60"
        for uri in (playlist.map_uri, playlist.whole[-1].uri):
            assert (await api.call("GET", resolve(high, uri or ""))).status_code == 200
        late = await playlist_addresses(api, f"/hls/{live['id']}/index.m3u8")
        assert (await media_playlist(api, late[0])).ended
        kept = api.services.settings.data_dir / "hls"
        assert len(list(kept.iterdir())) == 1
        monkeypatch.setattr(hls, "KEPT_MAX", 0)  # room for newer ones
        another = await api.broadcast(token, live=True)
        await media_playlist(api, (await playlist_addresses(api, f"/hls/{another['id']}/index.m3u8"))[0])
        await api.call("POST", f"/api/broadcasts/{another['id']}/end", token)
        with trio.fail_after(60):
            while list(kept.iterdir()):  # noqa: ASYNC110  a thread removes them
                await trio.sleep(0.05)
        await problem_of(await api.call("GET", high), 404, "not_live")


async def test_what_an_earlier_process_left_is_kept_for_the_rest_of_its_time(api: Api) -> None:
    desk = api.services.on_air.hls
    async with show(api) as (live, token):
        high, _ = await playlist_addresses(api, (await issued(api, live["id"]))["url"])
        await media_playlist(api, high)
        await api.call("POST", f"/api/broadcasts/{live['id']}/end", token)
    directory = api.services.settings.data_dir / "hls"
    useless = directory / "some-show" / "high-1.m4s"
    useless.parent.mkdir()
    useless.write_bytes(b"old")
    (ended,) = (path for path in directory.iterdir() if path != useless.parent)
    aside = api.services.settings.data_dir / ended.name
    shutil.copytree(ended, aside)  # as if the process had been killed
    desk.remove(live["id"])
    await gone(ended)
    await problem_of(await api.call("GET", high), 404, "not_live")
    aside.rename(ended)

    desk.restore()
    assert not useless.parent.exists()
    playlist = await media_playlist(api, (await playlist_addresses(api, f"/hls/{live['id']}/index.m3u8"))[0])
    assert playlist.ended
    for uri in (playlist.map_uri, playlist.whole[-1].uri):
        address = resolve(high, uri or "")
        assert (await api.call("GET", address)).status_code == 200
    response = await api.call("DELETE", f"/api/broadcasts/{live['id']}", token)
    assert response.status_code == 204
    await gone(ended)

    ended.mkdir()
    for path in useless, ended / "segments.jsonl":
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"{}")
    desk.restore()
    assert list(directory.iterdir()) == []


async def test_new_listeners_are_sent_here_when_there_are_many(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async with show(api) as (live, token):

        async def ask(token: str | None = None, direction: str = "recv") -> Any:
            path = f"/api/mediasoup/{live['id']}/transports"
            return await api.call("POST", path, token, json={"direction": direction})

        async def call(token: str | None) -> Any:
            sdp = offer("recvonly")
            return await api.call(
                "POST", f"/whep/{live['id']}", token, data=sdp, headers={"Content-Type": "application/sdp"}
            )

        assert (await ask()).status_code == 201
        assert (await call(None)).status_code == 201
        monkeypatch.setattr(Engine, "listeners", property(lambda engine: 100))
        for response in (await ask(), await call(None)):
            problem = await problem_of(response, 503, "use_hls")
            assert int(response.headers["Retry-After"]) >= 1
            assert problem["hls"]["preferred"] is True
            assert len(await playlist_addresses(api, problem["hls"]["url"])) == 2
        assert (await ask(token)).status_code == 201, "who may speak is not sent away"
        assert (await call(token)).status_code == 201
        assert (await ask(token, "send")).status_code == 201
        monkeypatch.setattr(Engine, "listeners", property(lambda engine: 99))
        assert (await ask()).status_code == 201
        api.services.engine.load.overloaded = True
        monkeypatch.setattr(Engine, "may_take_listener", property(lambda engine: False))
        for response in (await ask(), await call(None)):
            problem = await problem_of(response, 503, "overloaded")
            assert len(await playlist_addresses(api, problem["hls"]["url"])) == 2


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, hls_window_s=60.0)
