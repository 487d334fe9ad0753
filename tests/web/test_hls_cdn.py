"""HLS by way of a CDN: which address is given out to whom, and what the CDN's origin in the bucket becomes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import trio

from lac.cdn import shelf
from lac.cdn.origin import HlsOrigin
from lac.config import Settings
from lac_media.engine import Engine
from tests.cdn.bucket import WatchedStore
from tests.hls.playlists import read
from tests.web.conftest import Api, problem_of

CDN = "https://cdn.example/radio"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, hls_cdn_url=CDN)


@pytest.fixture
def store() -> WatchedStore:
    return WatchedStore()


@asynccontextmanager
async def show(api: Api, **fields: Any) -> AsyncGenerator[tuple[dict[str, Any], str], None]:
    token = await api.token("host")
    yield await api.broadcast(token, live=True, **fields), token


async def address_of(api: Api, show_id: str, token: str | None = None) -> dict[str, Any]:
    response = await api.call("POST", f"/api/broadcasts/{show_id}/hls", token)
    assert response.status_code == 201, await response.get_data(as_text=True)
    body: dict[str, Any] = await response.get_json()
    return body


async def change(api: Api, show_id: str, token: str, visibility: str) -> None:
    response = await api.call("PATCH", f"/api/broadcasts/{show_id}", token, json={"visibility": visibility})
    assert response.status_code == 200, await response.get_data(as_text=True)


async def until(holds: Callable[[], bool]) -> None:
    with trio.fail_after(60):
        while not holds():  # noqa: ASYNC110  other tasks and threads bring it about
            await trio.sleep(0.05)


# --- a CDN that takes it from us --------------------------------------------------------------------------------------


async def test_a_cdn_in_front_of_us_is_where_players_are_sent(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async with show(api, visibility="unlisted") as (live, _):
        address = await address_of(api, live["id"])
        assert address["url"].startswith(f"{CDN}/hls/{live['id']}/")
        assert address["expiresAt"] is not None
        own = address["url"].removeprefix(CDN)
        response = await api.call("GET", own)  # as the CDN asks, for a player that did not say where it is from
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert all(not line.startswith(("/", "http")) for line in (await response.get_data(as_text=True)).splitlines())
        index = await api.call("GET", f"/hls/{live['id']}/index.m3u8")
        assert index.status_code == 200, "what is here stays here"
        assert CDN not in await index.get_data(as_text=True)

        monkeypatch.setattr(Engine, "listeners", property(lambda engine: 100))
        refused = await api.call("POST", f"/api/mediasoup/{live['id']}/transports", json={"direction": "recv"})
        assert (await problem_of(refused, 503, "use_hls"))["hls"]["url"].startswith(CDN)


async def test_private_shows_stay_here(api: Api) -> None:
    async with show(api, visibility="private") as (live, token):
        assert (await address_of(api, live["id"], token))["url"].startswith("/hls/")


async def test_our_pages_may_load_from_the_cdn_and_from_nowhere_else(api: Api) -> None:
    policy = (await api.call("GET", "/")).headers["Content-Security-Policy"]
    directives = dict(item.strip().split(" ", 1) for item in policy.split(";"))
    assert directives["media-src"] == "'self' blob: https://cdn.example"
    assert "https://cdn.example" in directives["connect-src"].split()
    assert "cdn.example" not in directives["script-src"] + directives["default-src"]


# --- a CDN that takes it from the bucket ------------------------------------------------------------------------------


@pytest.fixture
def pushing(store: WatchedStore, settings: Settings) -> HlsOrigin:
    return HlsOrigin(store, keep=timedelta(seconds=settings.hls_keep_s))


class TestPush:
    @pytest.fixture
    def origin(self, pushing: HlsOrigin, monkeypatch: pytest.MonkeyPatch) -> HlsOrigin:
        """In less time."""
        monkeypatch.setattr(shelf, "READY_SEGMENTS", 1)
        monkeypatch.setattr(shelf, "FRESH_S", 0.0)
        return pushing

    async def test_a_show_from_its_beginning_to_its_removal(self, api: Api, store: WatchedStore) -> None:
        async with show(api) as (live, token):
            prefix = f"hls/{live['id']}/"
            assert (await address_of(api, live["id"]))["url"].startswith("/hls/"), "nothing is there yet"
            await until(lambda: f"{prefix}index.m3u8" in store.objects)  # although nobody listens
            pusher = api.services.on_air.hls._shows[live["id"]].pusher
            assert pusher is not None
            await until(lambda: pusher.is_fresh)
            address = await address_of(api, live["id"])
            assert address["url"] == f"{CDN}/{prefix}index.m3u8"
            assert address["expiresAt"] is None
            store.away = True
            await until(lambda: not pusher.is_fresh)
            assert (await address_of(api, live["id"]))["url"].startswith("/hls/"), "until it is back"
            store.away = False

            await api.call("POST", f"/api/broadcasts/{live['id']}/end", token)
            await until(lambda: read(store.objects[f"{prefix}high.m3u8"]).ended)
            await until(lambda: pusher.is_fresh)
            assert (await address_of(api, live["id"]))["url"] == f"{CDN}/{prefix}index.m3u8"
            metrics = await (await api.call("GET", "/metrics", scope_base={"client": ("127.0.0.1", 1)})).get_data(
                as_text=True
            )
            assert "lac_hls_push_behind_seconds 0.0" in metrics
            await api.call("DELETE", f"/api/broadcasts/{live['id']}", token)
            await until(lambda: not store.objects)

    async def test_a_private_show_is_not_in_the_bucket(self, api: Api, store: WatchedStore) -> None:
        async with show(api, visibility="private") as (live, token):
            assert (await address_of(api, live["id"], token))["url"].startswith("/hls/")
            stream = api.services.on_air.hls._shows[live["id"]].stream
            await until(lambda: stream.plan.is_ready)
            assert store.objects == {}
            await change(api, live["id"], token, "public")
            await until(lambda: f"hls/{live['id']}/index.m3u8" in store.objects)
            await change(api, live["id"], token, "private")
            await until(lambda: not store.objects)
            await change(api, live["id"], token, "unlisted")
            await api.call("POST", f"/api/broadcasts/{live['id']}/end", token)
            await until(lambda: f"hls/{live['id']}/index.m3u8" in store.objects)
            await change(api, live["id"], token, "private")
            await until(lambda: not store.objects)

    async def test_what_an_earlier_process_left(self, api: Api, store: WatchedStore) -> None:
        desk = api.services.on_air.hls
        async with show(api) as (live, token):
            prefix = f"hls/{live['id']}/"
            await until(lambda: f"{prefix}index.m3u8" in store.objects)
            await api.call("POST", f"/api/broadcasts/{live['id']}/end", token)
            await until(lambda: read(store.objects[f"{prefix}high.m3u8"]).ended)
        served = desk._finished.pop(live["id"])  # as if the process had been killed before it could close the list
        assert served.pusher is not None
        served.pusher.stop()
        for name in ("high.m3u8", "low.m3u8"):
            store.objects[prefix + name] = store.objects[prefix + name].replace(b"#EXT-X-ENDLIST\n", b"")
        desk.restore()
        again = desk._finished[live["id"]]
        assert again.pusher is not None
        assert not again.pusher.is_fresh, "nobody has looked yet whether it is still public"
        await desk._learn(api.services.broadcasts.find_many)
        await until(lambda: again.pusher is not None and again.pusher.is_fresh)
        assert read(store.objects[f"{prefix}high.m3u8"]).ended
        await api.services.broadcasts.delete(await api.services.auth.identify(token), live["id"])  # past us
        again.private = None
        await desk._learn(api.services.broadcasts.find_many)
        await until(lambda: not store.objects)
