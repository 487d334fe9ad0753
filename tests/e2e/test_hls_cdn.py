"""HLS through a CDN that takes it from the server: hls.js in Chromium plays from another origin, and is counted."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.e2e.caching_proxy import Cdn, caching_proxy
from tests.e2e.conftest import RecordFigure
from tests.e2e.hls import LIVE, Show, heard_at, wait_for_tone
from tests.e2e.pages import People
from tests.e2e.server import LacServer, running_server

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def cdn() -> Iterator[Cdn]:
    with caching_proxy() as proxy:
        yield proxy


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, cdn: Cdn) -> Iterator[LacServer]:
    data = tmp_path_factory.mktemp("data")
    with running_server(
        data, LAC_HLS_CDN_URL=cdn.url, LAC_HLS_OFFLOAD_LISTENERS="1", LAC_OVERLOAD_LAG_MS="5000"
    ) as running:
        cdn.upstream = running.url
        yield running


def test_listeners_hear_from_the_cdn_and_are_counted_here(
    people: People, server: LacServer, cdn: Cdn, record_figure: RecordFigure
) -> None:
    show = Show(people, server)
    show.listener().wait_for_tone()
    asked: list[str] = []
    players = []
    for _ in range(2):
        player = show.listener()
        player.page.on("request", lambda request: asked.append(request.url))
        expect(player.notice(LIVE)).to_be_visible(timeout=30_000)
        wait_for_tone(player.page)
        players.append(player)
    page = players[-1].page
    delay_s = time.time() - show.media_time_zero().timestamp() - heard_at(page)
    record_figure("hls_through_a_cdn_delay_s", delay_s)
    assert 0.3 < delay_s < 12, "parts, as from here"
    expect(page.get_by_text("3 listeners")).to_be_visible()
    hls = [url for url in asked if ".m3u8" in url or ".m4s" in url]
    assert hls
    assert all(url.startswith(f"{cdn.url}/hls/") for url in hls)
    assert any(".m4s" in path for path in cdn.hits), "what one has heard the other need not fetch from here"
    assert not any(".m3u8" in path for path in cdn.kept), "each listener's own"
