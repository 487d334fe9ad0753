"""A show is recorded from the host's page and heard again on its own, in Chromium."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.e2e.chromium import MICROPHONE_HZ
from tests.e2e.pages import TOLERANCE_HZ, ConsolePage, People, PlayerPage, accessibility_problems, sign_in
from tests.e2e.server import LacServer

#: Verifying and copying are done by processes of the lowest priority, which on a busy machine wait for all others.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

#: What the recording sounds like, in Hz, while it plays.
REPLAYED_HZ = """(() => {
  const audio = document.querySelector("audio[src]");
  if (!audio || audio.paused) return null;
  if (hearing.source !== audio) {
    hearing.source = audio;
    hearing.tap(audio.captureStream().getAudioTracks()[0]);
  }
  return hearing.frequency();
})()"""


def test_a_show_is_recorded_and_heard_again_with_its_chapters_and_its_chat(people: People, server: LacServer) -> None:
    hanna = server.register("Hanna")
    show_id = server.create_show(hanna, "Harbour talk")["id"]
    host, listener = ConsolePage(people.arrive()), PlayerPage(people.arrive())
    sign_in(host.page, hanna)
    host.open(show_id)
    host.go_live()
    listener.open(show_id)
    host.button("Record").click()
    expect(listener.page.get_by_text("Recorded", exact=True)).to_be_visible()
    host.say("Welcome aboard")
    host.page.wait_for_timeout(3000)  # to be heard again
    host.page.get_by_label("A new chapter begins now").fill("The lighthouse")
    host.button("Mark it").click()
    expect(host.notice("“The lighthouse” begins at")).to_be_visible()
    host.page.wait_for_timeout(2000)
    host.end()

    listener.button("Play the recording").click(timeout=90_000)
    listener.wait_until(f"{REPLAYED_HZ} !== null && Math.abs({REPLAYED_HZ} - {MICROPHONE_HZ}) < {TOLERANCE_HZ}")
    listener.page.get_by_role("button", name="The lighthouse").click()
    expect(listener.chat.get_by_text("Welcome aboard")).to_be_visible()
    listener.wait_until(f"{REPLAYED_HZ} !== null && Math.abs({REPLAYED_HZ} - {MICROPHONE_HZ}) < {TOLERANCE_HZ}")

    host.page.get_by_role("link", name="Recording and chat").click()
    host.button("Make MP3").click()
    copy = host.page.get_by_role("link", name="MP3")
    expect(copy).to_be_visible(timeout=90_000)
    assert server.call("GET", copy.get_attribute("href") or "").headers["Content-Type"] == "audio/mpeg"
    for page in (host.page, listener.page):
        assert accessibility_problems(page) == []
