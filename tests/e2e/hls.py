"""A show on air from the host's page, and those who listen to it by HLS with hls.js."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from playwright.sync_api import Page

from tests.e2e.chromium import MICROPHONE_HZ
from tests.e2e.pages import TOLERANCE_HZ, ConsolePage, People, PlayerPage, sign_in
from tests.e2e.server import LacServer

LIVE = "You are listening live, a few seconds behind"
#: What the element that hls.js feeds plays, in Hz.
HEARD_HZ = """() => {
  const audio = [...document.querySelectorAll("audio")].find(({ src, paused }) => src && !paused);
  if (!audio) return null;
  if (hearing.element !== audio) {
    hearing.element = audio;
    hearing.tap(audio.captureStream().getAudioTracks()[0]);
  }
  return hearing.frequency();
}"""
HEARD_AT = "window.lacDiagnostics.heardAt()"


class Show:
    """On air from the host's page."""

    def __init__(self, people: People, server: LacServer) -> None:
        self.people, self.server = people, server
        account = server.register("Hanna")
        self.host_token = account.token
        self.id: str = server.create_show(account, "Harbour talk")["id"]
        page = people.arrive()
        sign_in(page, account)
        self.host = ConsolePage(page)
        self.host.open(self.id)
        self.host.go_live()

    def listener(self) -> PlayerPage:
        player = PlayerPage(self.people.arrive())
        # Being sent to HLS is a refusal, and a goodbye may come after the DTLS one: browsers report both.
        self.people.tolerate(player.page, r"status of (503|404)|ERR_INTERNET_DISCONNECTED|WebSocket")
        player.open(self.id)
        player.listen()
        return player

    def media_time_zero(self) -> datetime:
        answer: dict[str, Any] = self.server.call("POST", f"/api/broadcasts/{self.id}/hls")
        return datetime.fromisoformat(answer["mediaTimeZero"])


def wait_for_tone(page: Page) -> None:
    page.wait_for_function(
        f"() => Math.abs(({HEARD_HZ})() - {MICROPHONE_HZ}) < {TOLERANCE_HZ}", timeout=30_000, polling=100
    )


def heard_at(page: Page) -> float:
    found = page.evaluate(HEARD_AT)
    assert found is not None
    return float(found)
