"""A moderator's evening in Chromium: what they do in their page, and what it does in the others'."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.e2e.pages import ConsolePage, People, PlayerPage, sign_in
from tests.e2e.server import LacServer

pytestmark = pytest.mark.e2e


def test_a_moderators_evening(people: People, server: LacServer) -> None:
    hanna, mona, lena = (server.register(name) for name in ("Hanna", "Mona", "Lena"))
    show_id = server.create_show(hanna, "Harbour talk")["id"]
    host = ConsolePage(people.arrive())
    moderator, listener, guest = (PlayerPage(people.arrive()) for _ in range(3))
    for page, account in ((host, hanna), (moderator, mona), (listener, lena)):
        sign_in(page.page, account)
    host.open(show_id)
    host.go_live()
    for page in (moderator, listener, guest):
        page.open(show_id)
    guest.listen()
    guest.wait_for_tone()

    # The role counts on the open page, at once.
    expect(moderator.people).to_be_hidden()
    server.call("PUT", f"/api/broadcasts/{show_id}/roles/{mona.user_id}", token=hanna.token, json={"role": "moderator"})
    expect(moderator.people.get_by_text("Lena")).to_be_visible()

    _keep_the_chat_clean(moderator, listener, guest)
    _slow_the_chat_down_and_close_it(moderator, listener)
    _put_the_hands_in_order(moderator, listener, guest)
    people.tolerate(listener.page, "status of (404|409)")
    # The goodbye to a transport may come after the server has seen the end of its connection.
    people.tolerate(host.page, "status of 404")
    _bring_the_listener_on_stage_and_back(host, moderator, listener, guest)
    people.tolerate(guest.page, "status of 403")
    _ban_the_guest(moderator, guest)

    host.page.get_by_text("Activity", exact=True).click()
    activity = host.page.get_by_role("list", name="Activity")
    for line in ("Mona banned Spammer until", "Mona moved Lena to the audience", "Mona deleted a message"):
        expect(activity.get_by_text(line)).to_be_visible()


def _keep_the_chat_clean(moderator: PlayerPage, listener: PlayerPage, guest: PlayerPage) -> None:
    listener.say("Good evening")
    guest.say("BUY CHEAP WATCHES")
    guest.introduce("Spammer")
    expect(moderator.chat.get_by_text("BUY CHEAP WATCHES")).to_be_visible()
    moderator.choose("About the message of Spammer", "Delete message")
    for page in (moderator, listener, guest):
        expect(page.chat.get_by_text("BUY CHEAP WATCHES")).to_be_hidden()
    expect(guest.notice("A moderator has deleted a message of yours.")).to_be_visible()

    for text in ("CHEAPER WATCHES", "CHEAPEST WATCHES"):
        guest.say(text)
        expect(listener.chat.get_by_text(text)).to_be_visible()
    moderator.choose("More about Spammer", "Clear their messages")
    for page in (moderator, listener, guest):
        expect(page.chat.get_by_text("WATCHES")).to_have_count(0)
        expect(page.chat.get_by_text("Good evening")).to_be_visible()


def _slow_the_chat_down_and_close_it(moderator: PlayerPage, listener: PlayerPage) -> None:
    slow_mode = moderator.page.get_by_role("combobox", name="Slow mode")
    slow_mode.select_option("60")
    expect(listener.notice("Slow mode: one message every 60 s")).to_be_visible()
    listener.say("What a fine evening")
    expect(moderator.chat.get_by_text("What a fine evening")).to_be_visible()
    expect(listener.page.get_by_text("you can write again in")).to_be_visible()
    listener.page.reload()  # who comes back waits on
    expect(listener.notice("Slow mode: one message every 60 s")).to_be_visible()  # is in the room again
    listener.say("Too soon")
    expect(listener.page.get_by_text("you can write again in")).to_be_visible()
    expect(moderator.chat.get_by_text("Too soon")).to_be_hidden()
    slow_mode.select_option("0")
    expect(listener.page.get_by_text("you can write again in")).to_be_hidden()

    writers = moderator.page.get_by_role("combobox", name="Who may write")
    writers.select_option("closed")
    expect(listener.notice("The chat is closed just now.")).to_be_visible()
    expect(moderator.message).to_be_visible()
    writers.select_option("followers")
    listener.button("Follow Hanna").click()
    listener.say("I follow")
    expect(moderator.chat.get_by_text("I follow")).to_be_visible()
    writers.select_option("open")


def _put_the_hands_in_order(moderator: PlayerPage, listener: PlayerPage, guest: PlayerPage) -> None:
    guest.button("Raise hand").click()
    expect(moderator.hands.get_by_text("Spammer")).to_be_visible()
    listener.button("Raise hand").click()
    expect(listener.notice("Your hand is up, number 2 in the queue.")).to_be_visible()
    moderator.button("Move the hand of Lena up").click()
    expect(listener.notice("Your hand is up, number 1 in the queue.")).to_be_visible()
    expect(guest.notice("Your hand is up, number 2 in the queue.")).to_be_visible()
    expect(moderator.hands.get_by_role("listitem").first).to_contain_text("Lena")
    expect(moderator.button("Invite Spammer to speak")).to_be_hidden()  # guests cannot


def _bring_the_listener_on_stage_and_back(
    host: ConsolePage, moderator: PlayerPage, listener: PlayerPage, guest: PlayerPage
) -> None:
    moderator.button("Invite Lena to speak").click()
    invitation = listener.page.get_by_role("dialog", name="You are invited to speak")
    invitation.get_by_role("button", name="Accept").click()
    expect(listener.page.get_by_role("heading", name="You are on stage")).to_be_visible()
    expect(moderator.notice("Lena accepted, and may speak now.")).to_be_visible()
    expect(guest.notice("Your hand is up, number 1 in the queue.")).to_be_visible()

    expect(listener.notice("Nobody hears you yet.")).to_be_visible()
    listener.start_speaking()
    expect(listener.notice("Everyone hears you.")).to_be_visible()
    # Host and speaker hear each other, the audience hears both, and only the audience counts.
    host.wait_for_streams(1)
    listener.wait_for_streams(1)
    expect(guest.page.get_by_role("list", name="On stage").get_by_role("listitem")).to_contain_text(["Hanna", "Lena"])
    expect(guest.page.get_by_text("1 listener", exact=True)).to_be_visible()
    host.hand_over()
    listener.wait_for_streams(0)
    guest.wait_for_tone()
    listener.button("Mute myself").click()
    guest.wait_for_silence()
    listener.button("Unmute myself").click()
    guest.wait_for_tone()

    moderator.choose("More about Lena", "Move to the audience")
    expect(listener.notice("You are back in the audience")).to_be_visible()
    expect(listener.button("Start speaking")).to_be_hidden()
    guest.wait_for_silence()
    host.resume()
    guest.wait_for_tone()


def _ban_the_guest(moderator: PlayerPage, guest: PlayerPage) -> None:
    moderator.choose("More about Spammer", "Ban…")
    dialog = moderator.page.get_by_role("dialog", name="Ban Spammer?")
    dialog.get_by_label("Reason").fill("No advertising")
    dialog.get_by_label("For how long").select_option("1 hour")
    dialog.get_by_role("button", name="Ban", exact=True).click()
    for _ in range(2):
        expect(guest.page.get_by_role("heading", name="You are banned from this show")).to_be_visible()
        expect(guest.page.get_by_text("You can come back after")).to_be_visible()
        expect(guest.page.get_by_text("No advertising")).to_be_visible()
        guest.page.reload()
    expect(guest.button("Listen")).to_be_hidden()
    expect(moderator.people.get_by_text("Spammer")).to_be_hidden()
