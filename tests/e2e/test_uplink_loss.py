"""Chromium publishes over a network that loses its packets: how whole the program is that others hear."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import OpenPage, RecordFigure
from tests.e2e.impairing_proxy import impairing_proxy, through
from tests.e2e.media_page import BROWSER_FOLDER, MediaPage
from tests.e2e.raw_listener import RawListener, recording_packets
from tests.e2e.server import LacServer
from tests.fakes.impairment import Impairment

pytestmark = pytest.mark.e2e

LOSS = 0.1
#: Half a round trip.
WAY_S = 0.02
PACKETS = 400
#: What repair leaves, as a ratio: with retransmission; with one redundant copy alone (two in a row are lost in one of a
#: hundred cases, and 400 packets leave room for chance).
REPAIRED, COPIES_ALONE = 0.005, 0.03


def missing_ratio(raw: RawListener) -> float:
    """Of the program's numbers from the first packet recorded to the last, those that never came."""
    numbers = [packet.sequence for _, packet in raw.arrivals]
    first = numbers[0]
    places = {((number - first + 0x8000) & 0xFFFF) - 0x8000 for number in numbers}
    span = max(places) - min(places) + 1
    assert len(numbers) == len(places), "a number came twice"
    return 1 - len(places) / span


def missing_after_repair(
    server: LacServer, page: MediaPage, show_id: str, publish: Callable[[], None], urls: str
) -> float:
    """Publish over a network that loses every tenth datagram, both ways: questions get lost, and answers. The ratio of
    the program that is missing then."""
    up, down = Impairment(delay_s=WAY_S), Impairment(delay_s=WAY_S)
    with (
        impairing_proxy(server.media_port, up=up, down=down) as proxy,
        recording_packets(server, show_id) as raw,
    ):
        page.page.route(urls, through(proxy.port))
        publish()
        page.wait_until("session.stats('outbound-rtp').then((stats) => stats?.packetsSent > 50)")
        raw.arrivals.clear()
        up.loss = down.loss = LOSS
        for _ in range(PACKETS // 100):
            raw.wait_for_packets(100)
        up.loss = down.loss = 0.0
        raw.wait_for_packets(60)  # what was lost last gets its chance, too
        assert proxy.lost_up > PACKETS * LOSS / 2
        return missing_ratio(raw)


@pytest.mark.parametrize(
    ("options", "worst"),
    [({"red": True}, COPIES_ALONE), ({"nack": True}, REPAIRED), ({"red": True, "nack": True}, REPAIRED)],
    ids=["red", "nack", "red and nack"],
)
def test_what_a_browser_sends_over_whip_is_made_whole(
    server: LacServer, open_page: OpenPage, record_figure: RecordFigure, options: dict[str, bool], worst: float
) -> None:
    host = server.register("Hanna")
    show_id = server.start_show(host)["id"]
    page = MediaPage(open_page(scripts=[BROWSER_FOLDER / name for name in ("hearing.js", "ice.js", "whip.js")]))
    missing = missing_after_repair(
        server,
        page,
        show_id,
        lambda: page.open("publish", f"{server.url}/whip/{show_id}", host.token, options),
        "**/whip/*",
    )
    record_figure("missing_ratio", missing)
    assert missing <= worst
    stats = page.ask("stats('outbound-rtp')")
    assert (stats["bytesSent"] / stats["packetsSent"] > 120) == ("red" in options), "every frame twice"
    assert ("nack" in options) == (stats["nackCount"] > 0)
    if len(options) == 2:
        assert stats["nackCount"] < 1.5 * PACKETS * LOSS, "once when it is overdue, and not again what the copies had"


def test_what_the_library_sends_is_made_whole(
    server: LacServer, open_page: OpenPage, library: Path, record_figure: RecordFigure
) -> None:
    host = server.register("Hanna")
    show_id = server.start_show(host)["id"]
    scripts = [library, *(BROWSER_FOLDER / name for name in ("hearing.js", "ice.js", "mediasoup.js"))]
    page = MediaPage(open_page(scripts=scripts))
    missing = missing_after_repair(
        server,
        page,
        show_id,
        lambda: page.open("publish", f"/api/mediasoup/{show_id}", host.token, {"opusNack": True}),
        "**/transports",
    )
    record_figure("missing_ratio", missing)
    assert missing <= REPAIRED
