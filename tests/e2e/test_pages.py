"""The web client in Chromium against a running server: what the host's microphone sends is what listeners hear."""

from __future__ import annotations

import os
import time

import pytest
from playwright.sync_api import Error, Page, expect

from tests.e2e.chromium import MICROPHONE_HZ, REMOTE_NAME
from tests.e2e.conftest import RecordFigure
from tests.e2e.media_page import concealed_ratio
from tests.e2e.pages import (
    TOLERANCE_HZ,
    ConsolePage,
    People,
    PlayerPage,
    accessibility_problems,
    create_show,
    register,
    sign_in,
)
from tests.e2e.server import LacServer

pytestmark = pytest.mark.e2e

#: From the host's click to the removed person's silence, on a busy machine.
REMOVED_WITHIN_S = 5.0
TAB_STOPS_MAX = 30


class Show:
    """A show on air from the host's page."""

    def __init__(self, people: People, server: LacServer) -> None:
        self._people = people
        account = server.register("Hanna")
        self.id: str = server.create_show(account, "Harbour talk", description="News from the harbour.")["id"]
        page = people.arrive()
        sign_in(page, account)
        self.host = ConsolePage(page)
        self.host.open(self.id)
        self.host.go_live()

    def listener(self) -> PlayerPage:
        """A guest who hears the host."""
        player = PlayerPage(self._people.arrive())
        player.open(self.id)
        player.listen()
        player.wait_for_tone()
        return player


@pytest.fixture
def show(people: People, server: LacServer) -> Show:
    return Show(people, server)


def test_two_listeners_hear_the_tone_from_the_first_minute_to_the_end(
    people: People, server: LacServer, record_figure: RecordFigure
) -> None:
    """From the host's registration on, everything by way of the pages."""
    host = ConsolePage(people.arrive())
    register(host.page, "Hanna", f"hanna-{os.urandom(4).hex()}@example.org", "a long enough password")
    show_id = create_show(host.page, "Harbour talk")

    guest, member = PlayerPage(people.arrive()), PlayerPage(people.arrive())
    sign_in(member.page, server.register("Mia"))
    for listener in (guest, member):
        listener.open(show_id)
        expect(listener.page.get_by_text("You are in the waiting room.")).to_be_visible()

    host.go_live()
    for listener in (guest, member):
        listener.listen()
    for listener in (guest, member):
        listener.wait_for_tone()
        expect(listener.notice("You are listening live")).to_be_visible()
        stats = listener.wait_for_a_clean_second()
        assert stats["packetsLost"] == 0
        heard_hz = listener.heard_hz() or 0.0
        assert abs(heard_hz - MICROPHONE_HZ) < TOLERANCE_HZ
        record_figure("heard_hz", heard_hz)
        record_figure("concealed_ratio", concealed_ratio(stats))
    expect(host.page.get_by_text("2 listeners").first).to_be_visible()
    expect(host.people.get_by_text("Mia")).to_be_visible()

    host.end()
    expect(host.notice("The show has ended")).to_be_visible()
    for listener in (guest, member):
        expect(listener.notice("This show has ended")).to_be_visible()
        expect(listener.page.get_by_text("the chat is closed")).to_be_visible()
        assert listener.heard_hz() is None


def test_chat_reactions_and_hands_reach_the_other_side(show: Show, people: People, server: LacServer) -> None:
    host, guest, member = show.host, show.listener(), PlayerPage(people.arrive())
    sign_in(member.page, server.register("Mia"))
    member.open(show.id)

    host.say("Good morning, everyone")
    for listener in (guest, member):
        expect(listener.chat.get_by_text("Good morning, everyone")).to_be_visible()
    guest.say("Hello from the ferry")
    guest.introduce("Seagull")
    member.say("Hello from the lighthouse")
    for page in (host, guest, member):
        expect(page.chat.get_by_text("Hello from the ferry")).to_be_visible()
        expect(page.chat.get_by_text("Hello from the lighthouse")).to_be_visible()
    expect(host.chat.get_by_text("Seagull")).to_be_visible()
    guest.wait_for_tone()  # taking a name does not cost the sound

    guest.button("React with applause").click()
    expect(host.page.get_by_text("👏").first).to_be_visible()

    guest.button("Raise hand").click()
    expect(host.hands.get_by_text("Seagull")).to_be_visible()
    expect(guest.notice("Your hand is up, number 1 in the queue.")).to_be_visible()
    host.button("Lower the hand of Seagull").click()
    expect(guest.button("Raise hand")).to_be_visible()
    expect(host.hands).to_be_hidden()


def test_a_muted_host_is_silent_for_everyone_until_unmuted(show: Show, people: People, server: LacServer) -> None:
    """Muted by an admin from the same console: the server enforces it, the host's page goes on sending."""
    host, listener = show.host, show.listener()
    before = listener.connection()
    page = people.arrive()
    sign_in(page, server.admin())
    admin = ConsolePage(page)
    admin.open(show.id)

    admin.button("Mute Hanna").click()
    expect(host.notice("You are muted")).to_be_visible()
    listener.wait_for_silence()
    sent = host.page.evaluate("() => lacDiagnostics.stats().then((stats) => stats.packets)")
    host.wait_until(f"lacDiagnostics.stats().then((stats) => stats.packets > {sent + 25})")
    assert listener.heard_hz() == 0
    expect(listener.notice("The host has lost the connection")).to_be_hidden()

    admin.button("Unmute Hanna").click()
    expect(host.notice("You are muted")).to_be_hidden()
    listener.wait_for_tone()
    assert listener.connection() == before


def test_pausing_sends_silence_and_nobody_takes_the_host_for_lost(show: Show) -> None:
    listener = show.listener()
    show.host.button("Pause").click()
    listener.wait_for_silence()
    expect(show.host.notice("On air, but paused")).to_be_visible()
    show.host.button("Continue").click()
    listener.wait_for_tone()
    expect(listener.notice("The host has lost the connection")).to_be_hidden()


def test_a_removed_listener_is_out_at_once_and_stays_out(show: Show, people: People) -> None:
    removed, other = show.listener(), show.listener()
    removed.say("BUY CHEAP WATCHES")
    removed.introduce("Spammer")
    expect(show.host.people.get_by_text("Spammer")).to_be_visible()

    asked_at = time.monotonic()
    show.host.remove("Spammer", "No advertising")
    expect(removed.page.get_by_role("heading", name="You were removed from this show")).to_be_visible()
    expect(removed.page.get_by_text("No advertising")).to_be_visible()
    removed.wait_until("connections.sockets.at(-1).closeCode === 4403")
    removed.wait_until("connections.peers.every(({ pc }) => pc.connectionState === 'closed')")
    assert time.monotonic() - asked_at < REMOVED_WITHIN_S
    assert removed.heard_hz() is None

    people.tolerate(removed.page, "status of 403")
    removed.page.reload()
    expect(removed.page.get_by_role("heading", name="You were removed from this show")).to_be_visible()
    expect(removed.button("Listen")).to_be_hidden()
    expect(show.host.people.get_by_text("Spammer")).to_be_hidden()
    other.wait_for_tone()


def test_listeners_wait_through_the_hosts_crash_without_reconnecting(show: Show) -> None:
    listeners = [show.listener(), show.listener()]
    before = [listener.connection() for listener in listeners]
    page = crash(show.host.page)
    for listener in listeners:
        listener.wait_for_silence()
        expect(listener.notice("The host has lost the connection")).to_be_visible()
        expect(listener.page.get_by_text("Host away")).to_be_visible()

    host = ConsolePage(page)
    host.open(show.id)
    host.resume()
    for listener in listeners:
        listener.wait_for_tone()
        expect(listener.notice("The host has lost the connection")).to_be_hidden()
        assert listener.received()["packetsLost"] == 0
    after = [listener.connection() for listener in listeners]
    assert after == before
    assert all(connection["peers"] == [["connecting", "connected"]] for connection in after)


def crash(page: Page) -> Page:
    """Kill the page's process, which gets to say goodbye to nobody; a new page of the same person."""
    with page.expect_event("crash"), pytest.raises(Error):
        page.goto("chrome://crash")
    page.close()
    return page.context.new_page()


def test_the_keyboard_alone_is_enough_to_listen_and_to_chat(show: Show, people: People) -> None:
    player = PlayerPage(people.arrive())
    player.open(show.id)
    keyboard = player.page.keyboard
    tab_to(player, "Listen")
    keyboard.press("Enter")
    player.wait_for_tone()
    tab_to(player, "Message")
    keyboard.type("No mouse here")
    keyboard.press("Enter")
    expect(player.page.get_by_role("textbox", name="Your name")).to_be_focused()
    keyboard.type("Keys")
    keyboard.press("Enter")
    expect(show.host.chat.get_by_text("No mouse here")).to_be_visible()
    expect(player.message).to_be_focused()
    keyboard.press("Shift+Tab")
    assert player.page.evaluate("document.activeElement.matches(':focus-visible')")


def tab_to(player: PlayerPage, name: str) -> None:
    for _ in range(TAB_STOPS_MAX):
        player.page.keyboard.press("Tab")
        if player.page.evaluate("document.activeElement.ariaLabel") == name:
            assert player.page.evaluate("document.activeElement.matches(':focus-visible')")
            return
    raise AssertionError(f"{name} is not reached by {TAB_STOPS_MAX} presses of Tab")


def test_one_switch_saves_data_at_once_and_after_a_reload(show: Show) -> None:
    listener = show.listener()
    saving = listener.page.get_by_role("switch", name="Save data")
    expect(saving).not_to_be_checked()
    saving.check()
    listener.wait_for_samples_a_packet(at_least=2000)
    listener.wait_for_tone()
    expect(listener.notice("You are listening live")).to_be_visible()
    listener.page.reload()
    expect(saving).to_be_checked()
    listener.listen()
    listener.wait_for_tone()
    listener.wait_for_samples_a_packet(at_least=2000)


def test_pages_on_air_meet_wcag_2_2_aa(show: Show, people: People) -> None:
    guest = show.listener()
    guest.say("Hello from the ferry")
    guest.introduce("Seagull")
    guest.button("Raise hand").click()
    expect(show.host.hands).to_be_visible()
    home = people.arrive()
    home.goto("/")
    expect(home.get_by_role("link", name="Harbour talk").first).to_be_visible()
    for page in (guest.page, show.host.page, home):
        assert accessibility_problems(page) == []


def test_account_pages_meet_wcag_2_2_aa(people: People) -> None:
    page = people.arrive()
    for path, button, told in (
        ("/login", "Sign in", "Write your password."),
        ("/register", "Create account", "Write the new password."),
    ):
        page.goto(path)
        page.get_by_role("button", name=button).click()
        expect(page.get_by_text(told)).to_be_visible()
        assert accessibility_problems(page) == []


def test_over_plain_http_the_console_says_why_there_is_no_microphone(people: People, server: LacServer) -> None:
    account = server.register("Hanna")
    show_id = server.create_show(account)["id"]
    page = people.arrive(server.url.replace("127.0.0.1", REMOTE_NAME))
    sign_in(page, account)
    console = ConsolePage(page)
    console.open(show_id)
    assert not page.evaluate("isSecureContext")
    expect(console.notice("This page may not use a microphone")).to_be_visible()
    expect(console.notice("HTTPS")).to_be_visible()


def test_a_private_show_opens_by_its_invite_link_until_there_is_a_new_one(people: People, server: LacServer) -> None:
    account = server.register("Hanna")
    page = people.arrive()
    sign_in(page, account)
    show = server.create_show(account, "Among friends")
    console = ConsolePage(page)
    console.open(show["id"])
    page.get_by_role("button", name="Edit show").click()
    dialog = page.get_by_role("dialog", name="Edit show")
    dialog.get_by_role("radio", name="Invited people").check()
    dialog.get_by_role("button", name="Save").click()
    link = page.get_by_role("textbox", name="Invite link")
    expect(link).to_be_visible()
    address = link.input_value()

    guest, stranger = (PlayerPage(people.arrive()) for _ in range(2))
    people.tolerate(guest.page, "404")
    people.tolerate(stranger.page, "404")
    stranger.page.goto(f"/b/{show['id']}")
    expect(stranger.page.get_by_role("heading", name="This show was not found")).to_be_visible()
    guest.page.goto(address)
    expect(guest.page.get_by_role("heading", name="Among friends")).to_be_visible()
    console.go_live()
    guest.listen()
    guest.wait_for_tone()
    guest.page.goto(f"/b/{show['id']}")  # the page remembers the invitation
    expect(guest.page.get_by_role("heading", name="Among friends")).to_be_visible()

    page.get_by_role("button", name="New invite link").click()
    page.get_by_role("button", name="Replace it").click()
    expect(guest.page.get_by_role("heading", name="This invite link does not work any more")).to_be_visible()
    expect(link).not_to_have_value(address)
