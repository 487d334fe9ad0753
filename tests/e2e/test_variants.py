"""The variants of the program in players that are not ours."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.aiortc_clients import AiortcPeer, listening, publishing
from tests.e2e.asyncio_thread import AsyncioThread
from tests.e2e.conftest import OpenPage, RecordFigure
from tests.e2e.impairing_proxy import impairing_proxy, through
from tests.e2e.media_page import BROWSER_FOLDER, MediaPage, concealed_ratio
from tests.e2e.server import LacServer
from tests.e2e.tone import RATE_HZ, purity

pytestmark = pytest.mark.e2e

SDP_SCRIPTS = [BROWSER_FOLDER / name for name in ("hearing.js", "ice.js", "whip.js")]
LIBRARY_SCRIPTS = [BROWSER_FOLDER / name for name in ("hearing.js", "ice.js", "mediasoup.js")]
#: Of 60 ms each; a second and a little.
JOINED_PACKETS, JOINED_SAMPLES = 17, 2880
#: What is made up of lost speech with redundancy, by what is made up without: a fiftieth in a quiet run.
WITH_BY_WITHOUT = 0.25
TRIES = 5
#: Of the power of a tone. What Opus adds is far below; one missing frame of 20 ms in two seconds is above.
PURE = 0.999


def test_chromium_plays_opus3_over_whep_and_with_the_library(
    server: LacServer, open_page: OpenPage, library: Path, record_figure: RecordFigure
) -> None:
    host = server.register("Hanna")
    show_id = server.start_show(host)["id"]
    publisher = MediaPage(open_page(scripts=SDP_SCRIPTS))
    publisher.open("publish", f"{server.url}/whip/{show_id}", host.token)
    player, client = (
        MediaPage(open_page(scripts=SDP_SCRIPTS)),
        MediaPage(open_page(scripts=[library, *LIBRARY_SCRIPTS])),
    )
    player.open("listen", f"{server.url}/whep/{show_id}?variant=opus3")
    client.open("listen", f"/api/mediasoup/{show_id}", None, {"variant": "opus3"})
    for name, listener in (("whep", player), ("library", client)):
        listener.wait_for_tone()
        stats = listener.wait_for_a_clean_second(JOINED_PACKETS)
        samples = stats["totalSamplesReceived"] / stats["packetsReceived"]
        assert stats["packetsLost"] == 0
        assert samples > 2000, "more than two frames of 20 ms a packet, some time of silence before the first included"
        record_figure(f"{name}_samples_per_packet", samples)
    assert "a=ptime:60" in player.ask("answer")


def test_aiortc_plays_opus3(server: LacServer, aio: AsyncioThread) -> None:
    host = server.register("Hanna")
    show_id = server.start_show(host)["id"]
    with (
        publishing(aio, server, show_id, 440, host.token),
        listening(aio, server, show_id, query="?variant=opus3") as listener,
    ):
        listener.ear.wait_for_tone(440)
        assert "a=ptime:60" in listener.http.answer
        wait_for_two_whole_seconds(listener)


def wait_for_two_whole_seconds(listener: AiortcPeer) -> None:
    """Until two seconds have been heard of which every packet held 60 ms of audio that joins the 60 ms before."""
    seen = []
    for _ in range(TRIES):
        listener.ear.wait_for_samples(2 * JOINED_PACKETS * JOINED_SAMPLES)
        frames = list(listener.played)[-2 * JOINED_PACKETS :]
        assert len(frames) * JOINED_SAMPLES > 2 * RATE_HZ
        steps = {later.timestamp - frame.timestamp for frame, later in pairwise(frames)}
        sizes = {len(frame.mono) for frame in frames}
        seen.append((steps, sizes, purity(np.concatenate([frame.mono for frame in frames]), 440)))
        # A publisher on a busy machine skips time, and what comes before that is not joined with what comes after.
        if steps == sizes == {JOINED_SAMPLES} and seen[-1][2] > PURE:
            return
    raise AssertionError(f"no two seconds are whole: {seen}")


def bytes_a_packet(stats: dict[str, Any], since: dict[str, Any]) -> float:
    return float(stats["bytesReceived"] - since["bytesReceived"]) / (
        stats["packetsReceived"] - since["packetsReceived"]
    )


def test_chromium_on_a_network_that_loses_packets_ends_on_redundancy(
    server: LacServer, open_page: OpenPage, record_figure: RecordFigure
) -> None:
    """By itself: nobody asks. Its reports about us come every five seconds or so."""
    host = server.register("Hanna")
    show_id = server.start_show(host)["id"]
    publisher, player = MediaPage(open_page(scripts=SDP_SCRIPTS)), MediaPage(open_page(scripts=SDP_SCRIPTS))
    publisher.open("publish", f"{server.url}/whip/{show_id}", host.token)
    with impairing_proxy(server.media_port) as network:
        player.page.route("**/whep/*", through(network.port))
        player.open("listen", f"{server.url}/whep/{show_id}")
        player.wait_for_tone()
        network.up.loss = network.down.loss = 0.1
        session_id = player.ask("location").rsplit("/", 1)[1]
        plain = player.ask("stats('inbound-rtp')")
        stats = f"fetch('/api/mediasoup/transports/{session_id}/stats').then((answer) => answer.json())"
        player.wait_until(f"{stats}.then((stats) => stats.variant === 'opus+red')", patience_s=30)
        before = player.ask("stats('inbound-rtp')")
        without = concealed_ratio(before, plain)
        record_figure("concealed_ratio_without", without)
        _, repaired = player.wait_for_concealed(WITH_BY_WITHOUT * without, packets=150)
        record_figure("concealed_ratio_with", repaired)
        network.up.loss = network.down.loss = 0.0
        clean = player.wait_for_a_clean_second()
        assert bytes_a_packet(clean, before) > 1.6 * bytes_a_packet(before, plain), "every frame twice"
        assert player.page.evaluate(stats)["variant"] == "opus+red", "for a while"
        player.wait_for_tone()
        assert network.lost_down > 30
    metrics = server.call("GET", "/metrics").text
    assert 'lac_listeners_by_variant{variant="opus+red"}' in metrics
