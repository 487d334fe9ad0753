"""Show every page of the built web client in its main states, with a made-up server, and check them with axe.

    python frontend/web/screens/screens.py OUT_DIR [--only NAME]...

Writes OUT_DIR/<page>-<phone|desktop>-<light|dark>.png and prints what axe finds against WCAG 2.2 AA. Needs `playwright`
and `axe-playwright-python`, a Chromium (CHROMIUM names it; /usr/bin/chromium by default), and a build in web/dist.
"""

from __future__ import annotations

import argparse
import json
import mimetypes
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Browser, Page, Route, WebSocketRoute, sync_playwright

DIST = Path(__file__).resolve().parent.parent / "dist"
ORIGIN = "http://localhost:8000"
SIZES = {"phone": (390, 844), "desktop": (1280, 800)}
SCHEMES = ("light", "dark")
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
]
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]

NOW = datetime.now(UTC)


def at(**delta: float) -> str:
    return (NOW + timedelta(**delta)).isoformat().replace("+00:00", "Z")


ANA = {
    "id": "u-ana",
    "email": "ana@example.org",
    "displayName": "Ana Lindqvist",
    "emailVerified": True,
    "isAdmin": False,
    "createdAt": at(days=-90),
}


def show(**changes: Any) -> dict[str, Any]:
    return {
        "id": "b-morning",
        "title": "Morning coffee with Ana: what the tide brings in",
        "description": "News from the harbour, an hour of talk, and your questions. Raise your hand to come on air.",
        "status": "live",
        "visibility": "public",
        "tags": [],
        "scheduledAt": None,
        "startedAt": at(minutes=-42),
        "endedAt": None,
        "recordingEnabled": False,
        "host": {"id": ANA["id"], "displayName": ANA["displayName"]},
        "listenerCount": 128,
        "createdAt": at(days=-2),
        "updatedAt": at(days=-1),
        "yourRole": None,
        **changes,
    }


LIVE = show()
SCHEDULED = show(
    id="b-later",
    title="Saturday jazz from the cellar",
    description="Two sets, one break.",
    status="scheduled",
    scheduledAt=at(hours=3, minutes=12),
    startedAt=None,
    listenerCount=6,
)
ENDED = show(id="b-past", title="The long goodbye", status="ended", startedAt=at(hours=-3), endedAt=at(hours=-1))
MINE = {"yourRole": "host", "streamKey": "sk_7c1f2b3e9d5a48f0b6"}
SHOWS = [
    LIVE,
    show(id="b-2", title="Night shift radio", host={"id": "u-2", "displayName": "Bo"}, listenerCount=1, description=""),
    show(
        id="b-3",
        title="Ham operators of the northern islands: weekly round table",
        host={"id": "u-3", "displayName": "Kirsten Mo"},
        listenerCount=3412,
    ),
    SCHEDULED,
    show(
        id="b-5",
        title="Town council, live",
        status="scheduled",
        scheduledAt=at(days=2),
        startedAt=None,
        host={"id": "u-4", "displayName": "City of Varberg"},
    ),
    show(id="b-6", title="Sometime soon", status="scheduled", startedAt=None, description=""),
    ENDED,
]


def person(id: str, name: str, role: str = "listener", **changes: Any) -> dict[str, Any]:
    base = {"id": id, "displayName": name, "role": role, "anonymous": False, "muted": False, "speaking": False}
    return {**base, **changes}


HOST = person("u-ana", "Ana Lindqvist", "host", speaking=True)
PEOPLE = [
    HOST,
    person("u-mod", "Miro", "moderator"),
    person("u-spk", "Dr. Ingeborg Sandström-Okonkwo", "speaker", speaking=True),
    person("g-1", "Seagull", anonymous=True),
    person("g-2", "Tom"),
    person("u-9", "Yuki", "speaker", muted=True),
]
LINES = [
    (PEOPLE[3], "Good morning from the ferry!"),
    (PEOPLE[1], "Welcome everyone. Questions go here, or raise your hand."),
    (HOST, "Hello hello, can you all hear me well?"),
    (PEOPLE[4], "Loud and clear 👍"),
    (PEOPLE[2], "The link to the tide tables: https://tides.example/harbour/2026/november/overview-of-all-stations"),
    (PEOPLE[5], "I missed the beginning. What happened to the lighthouse keeper?"),
    (PEOPLE[3], "He moved to the mainland, his sister runs it now."),
    (HOST, "We will call her in ten minutes, stay on."),
]
CHAT = [
    {"id": f"m-{index}", "user": user, "text": text, "mediaTime": index * 60.0, "at": at(minutes=index - 12)}
    for index, (user, text) in enumerate(LINES)
]


def joined(broadcast: dict[str, Any], you: dict[str, Any], **changes: Any) -> dict[str, Any]:
    shown = {key: value for key, value in broadcast.items() if key not in ("streamKey", "yourRole")}
    live = broadcast["status"] == "live"
    return {
        "you": {"token": "guest-token" if you["anonymous"] else None, **you},
        "broadcast": {**shown, "yourRole": None},
        "role": you["role"],
        "members": PEOPLE if live else PEOPLE[3:5],
        "memberCount": 131 if live else 2,
        "listenerCount": broadcast["listenerCount"],
        "hands": [],
        "producers": [{"id": "p-1", "userId": "u-ana"}] if live else [],
        "recentMessages": CHAT,
        "mediaTime": 2520.0,
        "hostAway": False,
        "announcesEveryone": True,
        "slowModeS": 0,
        "chatMode": "open",
        "locked": False,
        "invited": False,
        "messagesMissed": False,
        "deletedMessages": [],
        **changes,
    }


GUEST = person("g-1", "Seagull", anonymous=True)

#: Stands in for mediasoup-client: a tone to hear, and a link that says that it is connected.
FAKE_WEBRTC = """
const tone = () => {
  const audio = new AudioContext(), source = audio.createOscillator(), gain = audio.createGain();
  const out = audio.createMediaStreamDestination();
  gain.gain.value = 0.3; source.connect(gain).connect(out); source.start();
  return out.stream.getAudioTracks()[0];
};
const link = (options, direction, track) => {
  setTimeout(() => {
    if (direction === 'recv') options.onTrack(track);
    options.onState({ name: 'connected' });
  }, 50);
  return {
    state: { name: 'connecting' }, track,
    stats: async () => ({ direction, state: 'connected', rebuilds: 0, packets: 4211, bytes: 812345, packetsLost: 3,
      lossRatio: 0.004, concealedRatio: 0.001, jitterMs: 2, jitterBufferMs: 41, roundTripMs: 38, bitrateKbps: 41,
      audioLevel: 0.2, totalAudioEnergy: 3, codec: 'audio/opus', remote: 'udp 203.0.113.9:40000' }),
    rawStats: async () => [], replaceTrack: async () => {}, retryNow() {}, close() {},
  };
};
export const codecOptions = () => ({});
export const listen = (options) => link(options, 'recv', tone());
export const publish = (options, track) => link(options, 'send', track);
"""

Answer = tuple[int, Any]


class World:
    """The server as one screenshot sees it."""

    def __init__(
        self,
        *,
        user: dict[str, Any] | None = None,
        broadcast: dict[str, Any] | None = None,
        join: dict[str, Any] | None = None,
        close: tuple[int, dict[str, Any] | None] | None = None,
        events: list[tuple[str, dict[str, Any]]] | None = None,
        shows: list[dict[str, Any]] = SHOWS,
        answers: dict[str, Answer] | None = None,
        refuse: str | None = None,
    ) -> None:
        self.refuse = refuse
        self.user, self.broadcast, self.join, self.close = user, broadcast, join, close
        self.events, self.shows, self.answers = events or [], shows, answers or {}

    def open(self, page: Page) -> None:
        page.route("**/*", self.handle)
        page.route_web_socket("**/ws", self.socket)
        if self.user:
            session = {
                "user": self.user,
                "accessToken": "a",
                "refreshToken": "r",
                "expiresAt": (NOW.timestamp() + 3600) * 1000,
            }
            page.add_init_script(f"localStorage.setItem('lac.session', {json.dumps(json.dumps(session))})")

    def handle(self, route: Route) -> None:
        url = route.request.url
        path = url.removeprefix(ORIGIN).split("?")[0]
        if not url.startswith(ORIGIN):
            route.abort()
        elif path.startswith("/api/"):
            status, body = self.answer(route.request.method, path, url)
            route.fulfill(status=status, json=body)
        elif path.startswith("/assets/webrtc-"):
            route.fulfill(content_type="text/javascript", body=FAKE_WEBRTC)
        else:
            file = DIST / path.lstrip("/")
            if not file.is_file():
                file = DIST / "index.html"
            kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            route.fulfill(content_type=kind, body=file.read_bytes())

    def answer(self, method: str, path: str, url: str) -> Answer:
        if (known := self.answers.get(f"{method} {path}", self.answers.get(path))) is not None:
            return known
        if path == "/api/broadcasts":
            return 200, {"items": [item for item in self.shows if wanted(item, url)], "nextCursor": None}
        if self.broadcast and path.startswith(f"/api/broadcasts/{self.broadcast['id']}"):
            return 200, self.broadcast
        return 404, {"status": 404, "code": "not_found", "detail": "There is no such thing."}

    def socket(self, socket: WebSocketRoute) -> None:
        def receive(message: str | bytes) -> None:
            frame = json.loads(message)
            if frame["event"] == "join" and self.join:
                socket.send(json.dumps({"event": "joined", "data": self.join}))
                for event, data in self.events:
                    socket.send(json.dumps({"event": event, "data": data}))
                if self.close:
                    socket.close(code=self.close[0])
            elif frame["event"] == "join" and self.refuse:
                data = {"code": self.refuse, "message": "No."}
                socket.send(json.dumps({"event": "error", "ack": frame.get("ack"), "data": data}))
                if self.close:
                    socket.close(code=self.close[0])
            elif "ack" in frame:
                socket.send(json.dumps({"event": "ack", "ack": frame["ack"], "data": {}}))

        socket.on_message(receive)


def wanted(item: dict[str, Any], url: str) -> bool:
    for status in ("live", "scheduled", "ended"):
        if f"status={status}" in url and item["status"] != status:
            return False
    return True


def click(*names: str) -> Callable[[Page], None]:
    def act(page: Page) -> None:
        for name in names:
            page.get_by_role("button", name=name, exact=True).click()
        page.wait_for_timeout(700)

    return act


def fill_wrong(page: Page) -> None:
    page.get_by_label("E-mail").fill("ana")
    page.get_by_role("button", name="Create account").click()


def open_details(text: str) -> Callable[[Page], None]:
    return lambda page: page.get_by_text(text, exact=True).click()


def write_as_guest(page: Page) -> None:
    page.get_by_role("textbox", name="Message").fill("Hello there")
    page.get_by_role("button", name="Send").click()
    page.wait_for_timeout(200)


def studio(page: Page) -> None:
    click("Resume show")(page)
    page.wait_for_timeout(2500)


def forgot(page: Page) -> None:
    page.get_by_label("E-mail").fill("ana@example.org")
    click("Send the link")(page)


def new_password(page: Page) -> None:
    page.get_by_label("New password", exact=True).fill("correct horse battery")
    click("Set new password")(page)


def short_password(page: Page) -> None:
    page.get_by_label("New password", exact=True).fill("short")
    click("Show new password", "Set new password")(page)


def account_errors(page: Page) -> None:
    page.get_by_label("Current password", exact=True).fill("old horse")
    page.get_by_label("New password", exact=True).fill("correct horse battery")
    click("Change password", "Send the link again", "Sign out everywhere", "Download my data")(page)


def delete_account(page: Page) -> None:
    click("Delete my account")(page)
    page.get_by_label("Your password", exact=True).fill("correct horse battery")
    click("Delete for good")(page)


NEW_ANA = {**ANA, "emailVerified": False}
RESET, VERIFY = "/api/auth/password-reset", "/api/auth/verify-email"
WRONG_PASSWORD = (403, {"code": "wrong_password", "detail": "The password is wrong."})
MAIL_LIMIT = (
    429,
    {"code": "mail_limit", "detail": "You have been sent several links. Look into the spam folder too, or try later."},
)
BUSY = (503, {"code": "database_busy", "detail": "The server is busy. Try again in a moment."})

HANDS = [
    {"userId": "g-1", "displayName": "Seagull", "note": "About the lighthouse", "raisedAt": at(minutes=-3)},
    {"userId": "g-2", "displayName": "Tom", "note": None, "raisedAt": at(minutes=-1)},
]
STATS = {
    "listeners": 128,
    "sockets": 131,
    "packetsIn": 90000,
    "packetsLostIn": 12,
    "worstLoss": 0.11,
    "weakListeners": 3,
    "roundTripMs": 41.0,
}
TOM = person("g-2", "Tom")
TOM_USER = {**ANA, "id": TOM["id"], "displayName": "Tom", "email": "tom@example.org"}
MIRO = person("u-mod", "Miro", "moderator")
MIRO_USER = {**ANA, "id": MIRO["id"], "displayName": "Miro", "email": "miro@example.org"}
SPEAKER = {**TOM, "role": "speaker"}


def act(index: int, action: str, actor: str, target: str | None = None, **detail: Any) -> dict[str, Any]:
    return {
        "id": f"a-{index}",
        "at": at(minutes=-index),
        "actorId": actor,
        "action": f"room.{action}",
        "broadcastId": "b-morning",
        "targetId": target,
        "detail": detail,
    }


AUDIT = [
    act(1, "banned", "u-mod", "g-1", reason="Advertising, again and again", until=at(hours=1)),
    act(2, "messages_cleared", "u-mod", "g-1"),
    act(4, "invited", "u-ana", "g-2"),
    act(5, "settings_changed", "u-mod", slowMode=10),
    act(9, "role_given", "u-ana", "u-mod", role="moderator"),
]


def menu(name: str) -> Callable[[Page], None]:
    def act(page: Page) -> None:
        page.get_by_role("button", name=name, exact=True).first.click()
        page.wait_for_timeout(200)

    return act


def ban(page: Page) -> None:
    menu("More about Seagull")(page)
    page.get_by_role("menuitem", name="Ban…").click()


def edit(page: Page) -> None:
    click("Edit show")(page)
    page.get_by_label("Title").fill("Morning coffee, with cake")


def overtaken(page: Page) -> None:
    edit(page)
    click("Save")(page)


def on_stage(page: Page) -> None:
    click("Start speaking")(page)
    page.wait_for_timeout(500)


MY_LIVE, MY_SCHEDULED, MY_ENDED = ({**item, **MINE} for item in (LIVE, SCHEDULED, ENDED))
MY_PRIVATE = {**MY_LIVE, "visibility": "private", "invite": "6ygr3b2mzq4jtwx5n7ohlkd3sceauv2i"}
BANS = [
    {
        "userId": user,
        "displayName": name,
        "reason": reason,
        "until": until,
        "createdAt": at(minutes=-3),
        "createdBy": "u-ana",
    }
    for user, name, reason, until in (
        ("u-7", "Loudmouth", "Advertising, again and again, in every break", at(hours=1)),
        ("g-7", None, None, None),
    )
]
HERE = {**HOST, "speaking": True}
BURST = ("reaction", {"counts": {"👏": 4, "❤️": 3, "🔥": 1}, "mediaTime": 1.0})

PAGES: dict[str, tuple[str, World, Callable[[Page], None] | None]] = {
    "home": ("/", World(), None),
    "home-empty": ("/", World(shows=[]), None),
    "home-error": (
        "/",
        World(answers={"/api/broadcasts": (503, {"code": "unavailable", "detail": "The server is restarting."})}),
        None,
    ),
    "player": ("/b/b-morning", World(broadcast=LIVE, join=joined(LIVE, GUEST)), None),
    "player-playing": (
        "/b/b-morning",
        World(broadcast=LIVE, join=joined(LIVE, GUEST, hands=HANDS), events=[BURST, BURST]),
        click("Listen"),
    ),
    "player-away": (
        "/b/b-morning",
        World(broadcast=LIVE, join=joined(LIVE, GUEST, hostAway=True, hostAwayUntil=at(minutes=1))),
        click("Listen"),
    ),
    "player-details": (
        "/b/b-morning",
        World(broadcast=LIVE, join=joined(LIVE, GUEST, recentMessages=[])),
        lambda page: (click("Listen")(page), open_details("Connection details")(page)) and None,
    ),
    "player-name": ("/b/b-morning", World(broadcast=LIVE, join=joined(LIVE, GUEST)), write_as_guest),
    "player-scheduled": ("/b/b-later", World(broadcast=SCHEDULED, join=joined(SCHEDULED, GUEST)), None),
    "player-ended": ("/b/b-past", World(broadcast=ENDED, join=joined(ENDED, GUEST)), None),
    "player-not-found": ("/b/nothing", World(), None),
    "player-removed": (
        "/b/b-morning",
        World(
            broadcast=LIVE,
            join=joined(LIVE, GUEST),
            events=[("removed", {"reason": "Advertising"})],
            close=(4403, None),
        ),
        None,
    ),
    "player-banned": (
        "/b/b-morning",
        World(
            broadcast=LIVE,
            join=joined(LIVE, GUEST),
            events=[("removed", {"reason": "Advertising", "banned": True, "until": at(hours=1)})],
            close=(4403, None),
        ),
        None,
    ),
    "player-locked": ("/b/b-morning", World(broadcast=LIVE, refuse="room_locked", close=(1008, None)), None),
    "player-invite-invalid": (
        "/b/b-morning#invite=old",
        World(
            answers={
                "POST /api/broadcasts/b-morning/invite/accept": (
                    404,
                    {"code": "invite_invalid", "detail": "This invite link is not valid (any more)."},
                )
            }
        ),
        None,
    ),
    "player-private": (
        "/b/b-morning",
        World(broadcast=LIVE, answers={"/api/broadcasts/b-morning": (403, {"code": "private", "detail": "Private."})}),
        None,
    ),
    "player-invited": (
        "/b/b-morning",
        World(user=TOM_USER, broadcast=LIVE, join=joined(LIVE, TOM, hands=HANDS, invited=True)),
        None,
    ),
    "player-stage": (
        "/b/b-morning",
        World(user=TOM_USER, broadcast=LIVE, join=joined(LIVE, SPEAKER, producers=[])),
        on_stage,
    ),
    "player-stage-taken": ("/b/b-morning", World(user=TOM_USER, broadcast=LIVE, join=joined(LIVE, SPEAKER)), None),
    "player-slow": (
        "/b/b-morning",
        World(user=TOM_USER, broadcast=LIVE, join=joined(LIVE, TOM, slowModeS=30, locked=True, hands=HANDS)),
        write_as_guest,
    ),
    "player-closed": ("/b/b-morning", World(broadcast=LIVE, join=joined(LIVE, GUEST, chatMode="closed")), None),
    "player-followers": ("/b/b-morning", World(broadcast=LIVE, join=joined(LIVE, GUEST, chatMode="followers")), None),
    "player-moderator": (
        "/b/b-morning",
        World(user=MIRO_USER, broadcast=LIVE, join=joined(LIVE, MIRO, hands=HANDS, slowModeS=10)),
        menu("More about Tom"),
    ),
    "player-message-menu": (
        "/b/b-morning",
        World(user=MIRO_USER, broadcast=LIVE, join=joined(LIVE, MIRO)),
        menu("About the message of Tom"),
    ),
    "player-ban": ("/b/b-morning", World(user=MIRO_USER, broadcast=LIVE, join=joined(LIVE, MIRO)), ban),
    "my-shows": ("/host", World(user=ANA), None),
    "my-shows-new": ("/host?new", World(user=ANA, shows=[]), None),
    "host": (
        "/host/b-later",
        World(user=ANA, broadcast=MY_SCHEDULED, join=joined(MY_SCHEDULED, HERE, hands=[], members=[])),
        open_details("Send from OBS or another encoder"),
    ),
    "host-live": (
        "/host/b-morning",
        World(
            user=ANA,
            broadcast=MY_LIVE,
            join=joined(MY_LIVE, HERE, hands=HANDS, producers=[]),
            events=[("stats", STATS)],
        ),
        studio,
    ),
    "host-activity": (
        "/host/b-morning",
        World(
            user=ANA,
            broadcast=MY_LIVE,
            join=joined(MY_LIVE, HERE, producers=[]),
            answers={"/api/broadcasts/b-morning/audit": (200, {"items": AUDIT, "nextCursor": None})},
        ),
        open_details("Activity"),
    ),
    "host-private": (
        "/host/b-morning",
        World(user=ANA, broadcast=MY_PRIVATE, join=joined(MY_PRIVATE, HERE, producers=[])),
        None,
    ),
    "host-invite-renew": (
        "/host/b-morning",
        World(user=ANA, broadcast=MY_PRIVATE, join=joined(MY_PRIVATE, HERE, producers=[])),
        click("New invite link"),
    ),
    "host-edit": ("/host/b-later", World(user=ANA, broadcast=MY_SCHEDULED, join=joined(MY_SCHEDULED, HERE)), edit),
    "host-edit-overtaken": (
        "/host/b-morning",
        World(
            user=ANA,
            broadcast=MY_LIVE,
            join=joined(MY_LIVE, HERE),
            answers={
                "PATCH /api/broadcasts/b-morning": (
                    412,
                    {"code": "precondition_failed", "detail": "Somebody was faster."},
                )
            },
        ),
        overtaken,
    ),
    "host-delete": (
        "/host/b-later",
        World(user=ANA, broadcast=MY_SCHEDULED, join=joined(MY_SCHEDULED, HERE)),
        click("Delete show"),
    ),
    "host-bans": (
        "/host/b-morning",
        World(
            user=ANA,
            broadcast=MY_LIVE,
            join=joined(MY_LIVE, HERE, producers=[]),
            answers={"/api/broadcasts/b-morning/bans": (200, {"items": BANS, "nextCursor": None})},
        ),
        open_details("Banned people"),
    ),
    "host-roles": (
        "/host/b-morning",
        World(user=ANA, broadcast=MY_LIVE, join=joined(MY_LIVE, HERE, hands=HANDS, producers=[])),
        menu("More about Tom"),
    ),
    "host-end": (
        "/host/b-morning",
        World(user=ANA, broadcast=MY_LIVE, join=joined(MY_LIVE, HERE, hands=HANDS)),
        click("End show"),
    ),
    "host-ended": ("/host/b-past", World(user=ANA, broadcast=MY_ENDED, join=joined(MY_ENDED, HERE)), None),
    "login": ("/login", World(), None),
    "register-errors": ("/register", World(), fill_wrong),
    "setup": ("/setup#token=abc", World(), None),
    "forgot": ("/forgot-password", World(), None),
    "forgot-sent": ("/forgot-password", World(answers={f"{RESET}/request": (202, None)}), forgot),
    "reset": ("/reset-password#token=abc", World(), None),
    "reset-short": ("/reset-password#token=abc", World(), short_password),
    "reset-done": ("/reset-password#token=abc", World(answers={f"{RESET}/confirm": (200, None)}), new_password),
    "reset-used": (
        "/reset-password#token=abc",
        World(answers={f"{RESET}/confirm": (403, {"code": "reset_token_invalid", "detail": "Used or expired."})}),
        new_password,
    ),
    "reset-incomplete": ("/reset-password", World(), None),
    "verify": ("/verify-email#token=abc", World(), None),
    "verify-done": ("/verify-email#token=abc", World(answers={VERIFY: (200, None)}), click("Confirm my address")),
    "verify-expired": (
        "/verify-email#token=abc",
        World(user=NEW_ANA, answers={VERIFY: (403, {"code": "verify_token_invalid", "detail": "Expired."})}),
        click("Confirm my address"),
    ),
    "account": ("/account", World(user=ANA), None),
    "account-new": (
        "/account",
        World(user=NEW_ANA, answers={f"{VERIFY}/request": (202, None)}),
        click("Send the link again"),
    ),
    "account-errors": (
        "/account",
        World(
            user=NEW_ANA,
            answers={
                f"{VERIFY}/request": MAIL_LIMIT,
                "/api/auth/password": WRONG_PASSWORD,
                "/api/auth/logout-all": BUSY,
                "/api/auth/me/export": BUSY,
            },
        ),
        account_errors,
    ),
    "account-delete": ("/account", World(user=ANA), click("Delete my account")),
    "account-delete-live": (
        "/account",
        World(
            user=ANA,
            answers={
                "/api/auth/me": (409, {"code": "show_is_live", "detail": "Your show “Morning” is live. End it first."})
            },
        ),
        delete_account,
    ),
    "account-deleted": ("/account", World(user=ANA, answers={"/api/auth/me": (200, None)}), delete_account),
    "nowhere": ("/nowhere", World(), None),
}


def take(browser: Browser, name: str, size: str, scheme: Any, out: Path) -> int:
    """One screenshot. Returns how many violations axe found."""
    path, world, act = PAGES[name]
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        service_workers="block",
        permissions=["microphone"],
        has_touch=size == "phone",
        locale="en-GB",
    )
    page = context.new_page()
    page.set_default_timeout(5000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(f"page error: {error}"))
    world.open(page)
    page.goto(ORIGIN + path)
    page.wait_for_function("document.fonts.ready.then(() => true)")
    page.wait_for_timeout(500)
    if act:
        try:
            act(page)
        except PlaywrightError as error:
            complaints.append(str(error))
    page.screenshot(path=out / f"{name}-{size}-{scheme}.png", full_page=True)
    results = Axe().run(page, options={"runOnly": {"type": "tag", "values": RULES}})
    for violation in results.response["violations"]:
        nodes = "; ".join(node["html"][:160] for node in violation["nodes"][:3])
        complaints.append(f"{violation['id']}: {violation['help']}: {nodes}")
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if overflow > 0:
        complaints.append(f"scrolls sideways by {overflow} px")
    for complaint in complaints:
        print(f"{name} {size} {scheme}: {complaint}")
    context.close()
    return len(complaints)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", action="append", choices=sorted(PAGES))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    complaints = 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=CHROMIUM_FLAGS
        )
        for name in arguments.only or PAGES:
            for size in SIZES:
                for scheme in SCHEMES:
                    complaints += take(browser, name, size, scheme, arguments.out)
        browser.close()
    print(f"{complaints} complaints")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
