"""Chromium on a network that blocks UDP: it publishes and listens over TCP, on the same port."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Route

from tests.e2e.conftest import OpenPage, RecordFigure
from tests.e2e.media_page import BROWSER_FOLDER, MediaPage, concealed_ratio
from tests.e2e.server import LacServer

pytestmark = pytest.mark.e2e

WHIP = [BROWSER_FOLDER / name for name in ("hearing.js", "ice.js", "whip.js")]
LIBRARY = [BROWSER_FOLDER / name for name in ("hearing.js", "ice.js", "mediasoup.js")]


def without_udp(route: Route) -> None:
    """As if nothing came of any UDP candidate: SDP, or the library's JSON."""
    answer = route.fetch()
    body = answer.text()
    if body.startswith("{"):
        transport = json.loads(body)
        transport["iceCandidates"] = [c for c in transport["iceCandidates"] if c["protocol"] != "udp"]
        assert all(c["tcpType"] == "passive" for c in transport["iceCandidates"])
        body = json.dumps(transport)
    else:
        body = re.sub(r"a=candidate:\S+ \d udp .*\r\n", "", body, flags=re.IGNORECASE)
    route.fulfill(response=answer, body=body)


def check_is_on_tcp(page: MediaPage) -> None:
    page.wait_until("session.remoteProtocol().then((protocol) => protocol === 'tcp')")


def test_the_library_publishes_and_listens_over_tcp(
    server: LacServer, open_page: OpenPage, library: Path, record_figure: RecordFigure
) -> None:
    host = server.register("Hanna")
    show_id = server.start_show(host)["id"]
    publisher, listener, by_udp = (MediaPage(open_page(scripts=[library, *LIBRARY])) for _ in range(3))
    for page, way, token in ((publisher, "publish", host.token), (listener, "listen", None)):
        page.page.route("**/transports", without_udp)
        page.open(way, f"/api/mediasoup/{show_id}", token)
    by_udp.open("listen", f"/api/mediasoup/{show_id}")
    for page in (listener, by_udp):
        page.wait_for_tone()
    for page in (publisher, listener):
        check_is_on_tcp(page)
    stats = listener.wait_for_a_clean_second()
    assert stats["packetsLost"] == 0
    record_figure("first_sound_ms", listener.first_sound_ms())
    record_figure("concealed_ratio", concealed_ratio(stats))
    listener.ask("transport.close()")
    publisher.restart_ice()
    by_udp.wait_for_tone()
    check_is_on_tcp(publisher)


def test_whip_and_whep_over_tcp(server: LacServer, open_page: OpenPage) -> None:
    host = server.register("Hanna")
    show_id = server.start_show(host)["id"]
    pages = []
    for way, endpoint, token in (("publish", "whip", host.token), ("listen", "whep", None)):
        page = MediaPage(open_page(scripts=WHIP))
        page.page.route(f"**/{endpoint}/*", without_udp)
        page.open(way, f"{server.url}/{endpoint}/{show_id}", token)
        pages.append(page)
    publisher, listener = pages
    listener.wait_for_tone()
    for page in pages:
        check_is_on_tcp(page)
    publisher.page.close()  # the goodbye comes over TCP, too
    listener.wait_for_silence()
    assert listener.ask("states") == ["connecting", "connected"]


def test_where_udp_works_it_is_used(server: LacServer, open_page: OpenPage) -> None:
    show_id = server.start_show(server.register("Hanna"))["id"]
    listener = MediaPage(open_page(scripts=WHIP))
    listener.open("listen", f"{server.url}/whep/{show_id}")
    listener.wait_for_packets(50)
    assert listener.ask("remoteProtocol()") == "udp"
    assert "tcptype passive" in listener.ask("answer")
