"""HLS pushed into a bucket (rclone's S3 server), from which ffmpeg and hls.js in Chromium play it; and what becomes of
it when the server is killed."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import RecordFigure
from tests.e2e.hls import LIVE, Show, heard_at, wait_for_tone
from tests.e2e.pages import People
from tests.e2e.server import LacServer, running_server
from tests.hls.playlists import ReadPlaylist, read
from tests.rclone import BUCKET, KEY, SECRET, Rclone, rclone_server

pytestmark = pytest.mark.e2e

#: A machine that is busy with other things takes long.
WITHIN_S = 60.0


def environment(rclone: Rclone) -> dict[str, str]:
    return {
        "S3_BUCKET_NAME": BUCKET,
        "S3_ENDPOINT_URL": rclone.url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "LAC_HLS_PUSH": "s3",
        "LAC_HLS_CDN_URL": f"{rclone.url}/{BUCKET}",
        "LAC_HLS_OFFLOAD_LISTENERS": "1",
        "LAC_OVERLOAD_LAG_MS": "5000",
    }


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rclone]:
    with rclone_server(tmp_path_factory.mktemp("s3"), public=True) as server:
        yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, rclone: Rclone) -> Iterator[LacServer]:
    with running_server(tmp_path_factory.mktemp("data"), **environment(rclone)) as running:
        yield running


def wait_for(condition: Callable[[], bool], server: LacServer) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, server.log()
        time.sleep(0.1)


def address_of(server: LacServer, show_id: str) -> str:
    return str(server.call("POST", f"/api/broadcasts/{show_id}/hls")["url"])


def pushed(rclone: Rclone, show_id: str) -> ReadPlaylist:
    return read(httpx.get(f"{rclone.url}/{BUCKET}/hls/{show_id}/high.m3u8").raise_for_status().content)


def listed(rclone: Rclone, show_id: str) -> list[str]:
    """The show's objects, as the store says: on its disk may be pieces of what was being sent by who was killed."""
    answer = httpx.get(f"{rclone.url}/{BUCKET}", params={"list-type": "2", "prefix": f"hls/{show_id}/"})
    return re.findall(r"<Key>([^<]+)</Key>", answer.raise_for_status().text)


def decoded_s(url: str, *options: str) -> float:
    """How much ffmpeg plays of it."""
    command = ["ffmpeg", "-v", "error", "-i", url, *options, "-f", "f32le", "-ac", "1", "-ar", "48000", "-"]
    return len(subprocess.run(command, capture_output=True, timeout=90, check=True).stdout) / 4 / 48_000


def test_players_play_from_the_bucket_live_and_when_it_is_over(
    people: People, server: LacServer, rclone: Rclone, record_figure: RecordFigure
) -> None:
    show = Show(people, server)
    url = f"{rclone.url}/{BUCKET}/hls/{show.id}/index.m3u8"
    show.listener().wait_for_tone()  # by WebRTC: the next one is sent to HLS
    wait_for(lambda: address_of(server, show.id) == url, server)
    player = show.listener()
    asked: list[str] = []
    player.page.on("request", lambda request: asked.append(request.url))
    expect(player.notice(LIVE)).to_be_visible(timeout=30_000)
    wait_for_tone(player.page)
    assert decoded_s(url, "-t", "3") == 3
    delay_s = time.time() - show.media_time_zero().timestamp() - heard_at(player.page)
    record_figure("hls_from_a_bucket_delay_s", delay_s)
    assert 3 < delay_s < 30
    hls = [request for request in asked if ".m3u8" in request or ".m4s" in request]
    assert hls
    assert all(request.startswith(f"{rclone.url}/") for request in hls)

    server.call("POST", f"/api/broadcasts/{show.id}/end", token=show.host_token)
    wait_for(lambda: pushed(rclone, show.id).ended, server)
    finished = pushed(rclone, show.id)
    whole_s = sum(segment.duration or 0 for segment in finished.segments)
    assert abs(decoded_s(url) - whole_s) < 0.1
    probe = subprocess.run(
        ["ffprobe", "-v", "error", "-show_entries", "stream=codec_name,profile,channels", "-of", "csv=p=0", url],
        capture_output=True,
        timeout=60,
        check=True,
        text=True,
    )
    assert {"aac,LC,2", "aac,LC,1"} <= set(probe.stdout.split())
    index = httpx.get(url)
    assert index.headers["Content-Type"] == "application/vnd.apple.mpegurl"
    assert index.headers["Cache-Control"] == "public, max-age=60"


def test_a_killed_server_leaves_nothing_half(rclone: Rclone, tmp_path: Any) -> None:
    settings = environment(rclone)
    with running_server(tmp_path, **settings) as server:
        host = server.register("Hanna")
        show = server.start_show(host)
        private = server.start_show(host, "Ours", visibility="private")
        server.call("POST", f"/api/broadcasts/{private['id']}/hls", token=host.token)
        wait_for(lambda: f"hls/{show['id']}/index.m3u8" in listed(rclone, show["id"]), server)
        server.kill()
    first = pushed(rclone, show["id"]).map_uri
    # Taken up again: in its place in the bucket, too.
    with running_server(tmp_path, **settings) as server:
        wait_for(lambda: pushed(rclone, show["id"]).map_uri != first, server)
        assert not pushed(rclone, show["id"]).ended
        server.call("POST", f"/api/broadcasts/{show['id']}/end", token=host.token)
        server.kill()  # perhaps before the list is closed
    assert not listed(rclone, private["id"])
    with running_server(tmp_path, **settings) as server:
        wait_for(lambda: pushed(rclone, show["id"]).ended, server)
        wait_for(lambda: address_of(server, show["id"]).startswith(rclone.url), server)
        assert decoded_s(f"{server.url}/hls/{show['id']}/index.m3u8") > 0.5, "here, too"
        server.call("DELETE", f"/api/broadcasts/{show['id']}", token=host.token)
        wait_for(lambda: not listed(rclone, show["id"]), server)
