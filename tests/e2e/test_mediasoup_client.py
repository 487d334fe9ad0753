"""The published mediasoup-client library in Chromium, bundled and otherwise as it comes from npm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.build_web import FRONTEND
from tests.e2e.conftest import OpenPage, RecordFigure
from tests.e2e.media_page import BROWSER_FOLDER, LOST_IN_RESTART_MAX, MediaPage, concealed_ratio
from tests.e2e.raw_listener import recording_packets
from tests.e2e.server import LacServer

pytestmark = pytest.mark.e2e

SCRIPTS = [BROWSER_FOLDER / name for name in ("hearing.js", "ice.js", "mediasoup.js")]


class OnAir:
    """A show, and pages that publish to it and listen to it with the library."""

    def __init__(self, server: LacServer, open_page: OpenPage, library: Path) -> None:
        self._open_page = open_page
        self._library = library
        self.server = server
        self.host = server.register("Hanna")
        self.show_id: str = server.start_show(self.host)["id"]

    def page(self, way: str, token: str | None, options: object = None) -> MediaPage:
        page = MediaPage(self._open_page(scripts=[self._library, *SCRIPTS]))
        page.open(way, f"/api/mediasoup/{self.show_id}", token, options)
        return page

    def publisher(self, codec_options: object = None) -> MediaPage:
        return self.page("publish", self.host.token, codec_options)

    def listener(self) -> MediaPage:
        return self.page("listen", None)

    def whep_listener(self, options: object) -> MediaPage:
        page = MediaPage(
            self._open_page(scripts=[BROWSER_FOLDER / name for name in ("hearing.js", "ice.js", "whip.js")])
        )
        page.open("listen", f"{self.server.url}/whep/{self.show_id}", None, options)
        return page


@pytest.fixture
def on_air(server: LacServer, open_page: OpenPage, library: Path) -> OnAir:
    return OnAir(server, open_page, library)


def test_the_library_publishes_and_listens(on_air: OnAir, record_figure: RecordFigure) -> None:
    on_air.publisher()
    listener = on_air.listener()
    listener.wait_for_tone()
    stats = listener.wait_for_a_clean_second()
    assert stats["packetsLost"] == 0
    assert listener.ask("states") == ["connecting", "connected"]
    record_figure("first_sound_ms", listener.first_sound_ms())
    record_figure("concealed_ratio", concealed_ratio(stats))


def test_music_is_heard_in_stereo_by_the_library_and_by_players_that_offer_it(on_air: OnAir) -> None:
    left, right = 440, 1000
    on_air.publisher(
        {
            "opusNack": True,
            "opusFec": True,
            "opusStereo": True,
            "opusMaxAverageBitrate": 256_000,
            "tones": [left, right],
        }
    )
    listeners = on_air.listener(), on_air.whep_listener({"stereo": True})
    for listener in listeners:
        listener.wait_until(
            f"hearing.frequencies().every((heard, side) => Math.abs(heard - [{left}, {right}][side]) < 6)"
        )
        assert listener.wait_for_a_clean_second()["packetsLost"] == 0


def test_the_library_in_this_test_is_the_one_that_the_web_client_uses(on_air: OnAir) -> None:
    wanted = json.loads((FRONTEND / "client" / "package.json").read_text())["dependencies"]["mediasoup-client"]
    assert on_air.listener().page.evaluate("mediasoupClient.version") == wanted


def test_the_library_restarts_ice_on_both_sides(on_air: OnAir) -> None:
    publisher, listener = on_air.publisher(), on_air.listener()
    listener.wait_for_tone()
    for page in (listener, publisher):
        page.restart_ice()
        assert listener.wait_for_packets(25)["packetsLost"] <= LOST_IN_RESTART_MAX
        assert page.ask("transport.connectionState") == "connected"
    listener.wait_for_tone()


def test_discontinuous_transmission_leaves_no_gap_in_the_program(on_air: OnAir) -> None:
    """With DTX a silent publisher sends a packet every 400 ms, and timestamps jump where sequence numbers do not."""
    publisher = on_air.publisher({"opusDtx": True})
    listener = on_air.listener()
    with recording_packets(on_air.server, on_air.show_id) as raw:
        listener.wait_for_tone()
        publisher.ask("media.pause()")
        listener.wait_for_silence()
        raw.wait_for_packets(4)
        publisher.ask("media.resume()")
        listener.wait_for_tone()
    raw.check_one_unbroken_stream()
    assert listener.ask("stats('inbound-rtp')")["packetsLost"] == 0


def test_a_closed_transport_leaves_silence_until_the_next_one(on_air: OnAir) -> None:
    listener = on_air.listener()
    listener.wait_for_silence()
    for _ in range(2):
        publisher = on_air.publisher()
        listener.wait_for_tone()
        publisher.ask("transport.close()")
        listener.wait_for_silence()
    assert listener.ask("states") == ["connecting", "connected"]
    assert listener.wait_for_packets(10)["packetsLost"] == 0


def test_the_end_of_the_show_ends_the_librarys_transports(on_air: OnAir) -> None:
    publisher, listener = on_air.publisher(), on_air.listener()
    listener.wait_for_tone()
    on_air.server.call("POST", f"/api/broadcasts/{on_air.show_id}/end", token=on_air.host.token)
    for page in (publisher, listener):
        # The browser calls the connection lost only when ICE has timed out; DTLS has said goodbye long before.
        page.wait_until("session.stats('transport').then(({ dtlsState }) => dtlsState === 'closed')")
