"""Chromium with nothing but RTCPeerConnection and fetch, against WHIP and WHEP."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import OpenPage, RecordFigure
from tests.e2e.media_page import BROWSER_FOLDER, LOST_IN_RESTART_MAX, MediaPage, concealed_ratio
from tests.e2e.room_socket import room_socket
from tests.e2e.server import LacServer

pytestmark = pytest.mark.e2e

SCRIPTS = [BROWSER_FOLDER / name for name in ("hearing.js", "ice.js", "whip.js")]


class OnAir:
    """A show, and pages that publish to it and listen to it."""

    def __init__(self, server: LacServer, open_page: OpenPage) -> None:
        self._open_page = open_page
        self.server = server
        self.host = server.register("Hanna")
        self.show_id: str = server.start_show(self.host)["id"]

    def publisher(self) -> MediaPage:
        page = MediaPage(self._open_page(scripts=SCRIPTS))
        page.open("publish", f"{self.server.url}/whip/{self.show_id}", self.host.token)
        return page

    def listener(self, url: str | None = None) -> MediaPage:
        """On a page of the server, or on the page at `url`."""
        if url is None:
            page = MediaPage(self._open_page(scripts=SCRIPTS))
        else:
            page = MediaPage(self._open_page(url, scripts=SCRIPTS, bypass_csp=True))
        page.open("listen", f"{self.server.url}/whep/{self.show_id}")
        return page

    def end(self) -> None:
        self.server.call("POST", f"/api/broadcasts/{self.show_id}/end", token=self.host.token)


@pytest.fixture
def on_air(server: LacServer, open_page: OpenPage) -> OnAir:
    return OnAir(server, open_page)


def test_chromium_hears_chromium_without_loss(on_air: OnAir, record_figure: RecordFigure) -> None:
    publisher, listener = on_air.publisher(), on_air.listener()
    listener.wait_for_tone()
    stats = listener.wait_for_a_clean_second()
    assert stats["packetsLost"] == 0
    assert publisher.ask("stats('remote-inbound-rtp')")["packetsLost"] == 0
    record_figure("first_sound_ms", listener.first_sound_ms())
    record_figure("concealed_ratio", concealed_ratio(stats))


def test_a_player_on_somebody_elses_page_trickles_and_hangs_up(on_air: OnAir) -> None:
    """Another origin: every answer has to pass the browser's cross-origin rules, ETag and Location included."""
    on_air.publisher()
    player = on_air.listener(on_air.server.url.replace("127.0.0.1", "localhost") + "/health")
    assert player.page.evaluate("location.origin") != on_air.server.url
    player.ask("gathered()")
    assert player.ask("patch(session.etag)")["status"] == 204
    assert player.ask("patch('\"another\"')")["status"] == 412
    assert player.ask("patch(null)")["status"] == 428
    player.wait_for_tone()
    assert player.ask("delete()") == 200
    player.wait_until("session.dtlsState === 'closed'")
    assert player.ask("delete()") == 404
    assert player.ask("patch(session.etag)")["status"] == 404


def test_either_side_restarts_ice_and_the_audio_goes_on(on_air: OnAir) -> None:
    publisher, listener = on_air.publisher(), on_air.listener()
    listener.wait_for_tone()
    for page in (listener, publisher):
        etag = page.ask("etag")
        page.restart_ice()
        assert page.ask("etag") != etag
        page.ask("gathered()")
        assert page.ask(f"patch('{etag}')")["status"] == 412
        assert page.ask("patch(session.etag)")["status"] == 204
        assert listener.wait_for_packets(50)["packetsLost"] <= LOST_IN_RESTART_MAX
        listener.wait_for_tone()
        assert page.ask("states") == ["connecting", "connected"]


def test_muting_the_host_silences_the_program_until_it_is_unmuted(on_air: OnAir) -> None:
    on_air.publisher()
    listener = on_air.listener()
    listener.wait_for_tone()
    with room_socket(on_air.server.url) as socket:
        socket.join(on_air.show_id, token=on_air.host.token)
        socket.command("mute", userId=on_air.host.user_id)
        socket.wait_for("muted", userId=on_air.host.user_id)
        listener.wait_for_silence()
        socket.command("unmute", userId=on_air.host.user_id)
        socket.wait_for("unmuted", userId=on_air.host.user_id)
        listener.wait_for_tone()
    assert listener.ask("states") == ["connecting", "connected"]


def test_a_listener_waits_through_the_publishers_closed_tab(on_air: OnAir) -> None:
    listener = on_air.listener()
    listener.wait_for_silence()
    for _ in range(2):
        publisher = on_air.publisher()
        listener.wait_for_tone()
        publisher.page.close()
        listener.wait_for_silence()
    stats = listener.wait_for_packets(10)
    assert stats["packetsLost"] == 0
    assert listener.ask("states") == ["connecting", "connected"]


def test_the_end_of_the_show_hangs_up_on_both(on_air: OnAir) -> None:
    publisher, listener = on_air.publisher(), on_air.listener()
    listener.wait_for_tone()
    on_air.end()
    for page in (publisher, listener):
        page.wait_until("session.dtlsState === 'closed'")
        assert page.ask("delete()") == 404
