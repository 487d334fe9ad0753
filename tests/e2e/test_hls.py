"""Listening by HLS in Chromium with hls.js, and with ffmpeg, from a server that sends the third listener there."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import RecordFigure
from tests.e2e.hls import HEARD_AT, LIVE, Show, heard_at, wait_for_tone
from tests.e2e.pages import People, accessibility_problems
from tests.e2e.server import LacServer, running_server

pytestmark = pytest.mark.e2e

OFFLOAD_FROM = 2
#: The target is 3 s; a machine that is busy with other things takes longer.
DELAY_MAX_S = 12.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LacServer]:
    data = tmp_path_factory.mktemp("data")
    with running_server(data, LAC_HLS_OFFLOAD_LISTENERS=str(OFFLOAD_FROM), LAC_OVERLOAD_LAG_MS="5000") as running:
        yield running


def test_the_third_listener_hears_by_hls_goes_back_returns_and_changes_over(
    people: People, server: LacServer, record_figure: RecordFigure
) -> None:
    show = Show(people, server)
    first, second = show.listener(), show.listener()
    for listener in (first, second):
        listener.wait_for_tone()
    third = show.listener()
    page = third.page
    expect(third.notice(LIVE)).to_be_visible(timeout=30_000)
    wait_for_tone(page)
    page.wait_for_timeout(3_000)  # it has settled by then
    delay_s = time.time() - show.media_time_zero().timestamp() - heard_at(page)
    record_figure("hls_delay_s", delay_s)
    assert 0.3 < delay_s < DELAY_MAX_S
    expect(page.get_by_text("3 listeners")).to_be_visible()

    # What is said is shown when it is heard, and not before.
    show.host.say("Ahoy")
    expect(first.chat).to_contain_text("Ahoy")
    expect(third.chat).to_contain_text("Ahoy")
    (said,) = server.call("GET", f"/api/broadcasts/{show.id}/messages")["items"]
    assert heard_at(page) >= said["mediaTime"]

    # Back, and to the present again, by the keyboard.
    back, to_live = third.button("Back 30 s"), third.button("Return to live")
    expect(back).to_be_visible(timeout=30_000)
    expect(to_live).to_be_disabled()
    assert accessibility_problems(page) == []
    before = heard_at(page)
    back.press("Enter")
    expect(third.notice("You hear what was said before")).to_be_visible()
    page.wait_for_function(f"() => {HEARD_AT} < {before} - 4", timeout=15_000)
    slider = page.get_by_role("slider", name="How far back you listen")
    expect(slider).to_have_attribute("aria-valuetext", re.compile("seconds? before live"))
    to_live.press("Enter")
    expect(third.notice(LIVE)).to_be_visible(timeout=15_000)
    wait_for_tone(page)

    # The network goes away for a while.
    page.context.set_offline(True)
    page.wait_for_timeout(5_000)
    page.context.set_offline(False)
    stalled_at = heard_at(page)
    page.wait_for_function(f"() => {HEARD_AT} > {stalled_at} + 3", timeout=40_000)
    wait_for_tone(page)
    # Nobody has asked to hear what was said before.
    expect(third.notice(LIVE)).to_be_visible(timeout=15_000)

    # There is room again.
    first.button("Stop listening").click()
    second.button("Stop listening").click()
    expect(page.get_by_role("status").filter(has_text=re.compile("^You are listening live$"))).to_be_visible(
        timeout=40_000
    )
    third.wait_for_tone()


def test_ffmpeg_plays_it_live(people: People, server: LacServer) -> None:
    show = Show(people, server)
    url = f"{server.url}/hls/{show.id}/index.m3u8"
    decoded = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", url, "-t", "4", "-f", "f32le", "-ac", "1", "-ar", "48000", "-"],
        capture_output=True,
        timeout=90,
        check=True,
    )
    assert len(decoded.stdout) == 4 * 4 * 48_000
    probe = subprocess.run(
        ["ffprobe", "-v", "error", "-show_entries", "stream=codec_name,profile,channels", "-of", "csv=p=0", url],
        capture_output=True,
        timeout=60,
        check=True,
        text=True,
    )
    assert {"aac,LC,2", "aac,LC,1"} <= set(probe.stdout.split())
