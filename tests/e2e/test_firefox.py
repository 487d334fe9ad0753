"""Firefox as listener and as host: over WHIP and WHEP, and on the web client's pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import pytest
from playwright.sync_api import Page

from tests.e2e.aiortc_clients import listening
from tests.e2e.asyncio_thread import AsyncioThread
from tests.e2e.chromium import MICROPHONE_HZ
from tests.e2e.conftest import RecordFigure
from tests.e2e.firefox import ENTER, TAB, Firefox, FirefoxPage, running_firefox
from tests.e2e.media_page import BROWSER_FOLDER, LOST_IN_RESTART_MAX, MediaPage, concealed_ratio
from tests.e2e.pages import HEARD_HZ, TOLERANCE_HZ
from tests.e2e.server import LacServer

pytestmark = pytest.mark.e2e

HEARING = ("hearing.js", "hearing_without_device.js")
SDP = (*HEARING, "ice.js", "whip.js")
#: The fewest and the most samples a packet, some time of silence before the first one included; and how many packets
#: are a second and a little.
VARIANTS = {"opus": (900, 1_900, 51), "opus3": (2_000, 9_000, 17)}

Arrive = Callable[..., FirefoxPage]


@pytest.fixture(scope="module")
def firefox() -> Iterator[Firefox]:
    with running_firefox() as browser:
        yield browser


@pytest.fixture
def arrive(firefox: Firefox) -> Iterator[Arrive]:
    """Somebody's page, with these scripts. What a console complains about fails the test."""
    pages: list[FirefoxPage] = []

    def arrive(*scripts: str) -> FirefoxPage:
        page = firefox.new_page(*(BROWSER_FOLDER / name for name in scripts))
        pages.append(page)
        return page

    firefox.complaints.clear()
    try:
        yield arrive
    finally:
        for page in pages:
            page.close()
    assert not firefox.complaints, firefox.complaints


class OnAir:
    """A show, and pages that publish to it and listen to it with nothing but RTCPeerConnection and fetch."""

    def __init__(self, server: LacServer, arrive: Arrive) -> None:
        self._server = server
        self._arrive = arrive
        self._host = server.register("Hanna")
        self.show_id: str = server.start_show(self._host)["id"]

    def publisher(self) -> MediaPage:
        return self._open("publish", f"/whip/{self.show_id}", self._host.token)

    def listener(self, variant: str = "opus") -> MediaPage:
        return self._open("listen", f"/whep/{self.show_id}?variant={variant}")

    def _open(self, way: str, path: str, token: str | None = None) -> MediaPage:
        page = self._arrive(*SDP)
        page.goto(f"{self._server.url}/health")
        session = MediaPage(cast("Page", page))  # as far as it is used here
        session.open(way, self._server.url + path, token)
        return session


@pytest.fixture
def on_air(server: LacServer, arrive: Arrive) -> OnAir:
    return OnAir(server, arrive)


def test_firefox_plays_opus_and_opus3_without_concealment(on_air: OnAir, record_figure: RecordFigure) -> None:
    publisher = on_air.publisher()
    listeners = {variant: on_air.listener(variant) for variant in VARIANTS}
    for variant, listener in listeners.items():
        fewest, most, packets = VARIANTS[variant]
        listener.wait_for_tone()
        stats = listener.wait_for_a_clean_second(packets)
        samples = stats["totalSamplesReceived"] / stats["packetsReceived"]
        assert stats["packetsLost"] == 0
        assert fewest < samples < most
        assert ("a=ptime:60" in listener.ask("answer")) == (variant == "opus3")
        record_figure(f"{variant}_samples_per_packet", samples)
        record_figure(f"{variant}_concealed_ratio", concealed_ratio(stats))
    publisher.wait_until("session.stats('remote-inbound-rtp')")
    assert publisher.ask("stats('remote-inbound-rtp')")["packetsLost"] == 0


def test_firefox_restarts_ice_on_either_side_and_the_audio_goes_on(on_air: OnAir) -> None:
    publisher, listener = on_air.publisher(), on_air.listener()
    listener.wait_for_tone()
    for page in (listener, publisher):
        page.restart_ice()
        assert listener.wait_for_packets(50)["packetsLost"] <= LOST_IN_RESTART_MAX
        listener.wait_for_tone()
        assert page.ask("states") == ["connecting", "connected"]


class PlayerPage:
    """/b/:id"""

    def __init__(self, page: FirefoxPage) -> None:
        self.page = page

    def wait_for_tone(self) -> None:
        self._hear(lambda hz: hz is not None and abs(hz - MICROPHONE_HZ) < TOLERANCE_HZ, f"{MICROPHONE_HZ} Hz")

    def wait_for_silence(self) -> None:
        """Until silence has been *received*: no sound at all does not count."""
        self._hear(lambda hz: hz == 0, "silence")

    def _hear(self, wanted: Callable[[float | None], bool], what: str) -> None:
        self.page.wait_until(lambda: self.page.evaluate(HEARD_HZ), wanted, what)


def test_a_host_and_a_listener_on_the_pages_of_the_web_client(
    server: LacServer, aio: AsyncioThread, arrive: Arrive
) -> None:
    account = server.register("Hanna")
    show_id = server.create_show(account, "Harbour talk")["id"]
    host = arrive()
    host.goto(f"{server.url}/login")
    host.fill("E-mail", account.email + TAB + account.password + ENTER)
    host.find("link", "Account of Hanna")
    host.goto(f"{server.url}/host/{show_id}")
    host.click("radio", "Music")  # which leaves the sound untouched
    host.click("button", "Go live")
    host.wait_for_text("You are on air.")

    guest = PlayerPage(arrive(*HEARING))
    guest.page.goto(f"{server.url}/b/{show_id}")
    guest.page.click("button", "Listen")
    with listening(aio, server, show_id) as other:
        guest.wait_for_tone()
        guest.page.wait_for_text("You are listening live")
        other.ear.wait_for_tone(MICROPHONE_HZ)

        host.fill("Message", "Good morning, everyone" + ENTER)
        guest.page.wait_for_text("Good morning, everyone")

        host.click("button", "Pause")
        guest.wait_for_silence()
        other.ear.wait_for_silence()
        host.click("button", "Continue")
        guest.wait_for_tone()
        other.ear.wait_for_tone(MICROPHONE_HZ)
    stats = guest.page.evaluate("lacDiagnostics.stats()")
    assert stats["packetsLost"] == 0
    assert stats["rebuilds"] == 0
    host.click("button", "End show")
    host.click("button", "End for everyone")
    guest.page.wait_for_text("This show has ended")
