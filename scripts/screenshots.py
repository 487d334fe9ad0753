"""Take the pictures of docs/images: a show on air, on the real pages and a real server.

Needs what `make test` needs, and Debian's fonts-noto-color-emoji, or else reactions are empty boxes.

    python -m scripts.screenshots
"""

from __future__ import annotations

import base64
import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import sqlalchemy as sa
from playwright.sync_api import Browser, Page, ViewportSize, expect
from sqlalchemy import orm

from lac.db import models
from tests.e2e.chromium import running_chromium
from tests.e2e.pages import DESKTOP, PHONE, ConsolePage, PlayerPage, sign_in
from tests.e2e.raw_listener import recording_packets
from tests.e2e.room_socket import RoomSocket, room_socket
from tests.e2e.server import ROOT, Account, LacServer, running_server
from tests.e2e.tone import write_tone

IMAGES = ROOT / "docs" / "images"
SIZE_MAX = 300_000

TITLE = "Harbour Radio: the morning show"
DESCRIPTION = "News from the quay, an hour of talk, and your questions. Raise your hand to ask one on air."
ON_AIR_FOR = timedelta(minutes=24, seconds=18)
#: The hour of the day in the pictures.
HOUR = 9
HOST = "Ana Lindqvist"
GUESTS = ("Seagull", "Tom", "Ingeborg", "Wharf cat")
MEMBERS = ("Yuki Tanaka", "Milan Horvat")
#: Besides the pages: they receive the sound and do not play it.
OTHER_LISTENERS = 15
#: Who said what, how many minutes ago.
CHAT = (
    ("Seagull", 21, "Good morning from the ferry!"),
    (HOST, 20, "Good morning! Wave when you pass the pier."),
    ("Tom", 14, "Loud and clear in the kitchen 👍"),
    ("Yuki Tanaka", 9, "I missed the beginning. What happened to the old lighthouse?"),
    ("Seagull", 8, "It has been sold. To the bakery!"),
    ("Ingeborg", 5, "Cinnamon buns with a view, I am all for it 😄"),
    (HOST, 3, "We will call the new keeper in ten minutes, stay on."),
    ("Yuki Tanaka", 1, "Can you ask her about opening hours?"),
)
HANDS = (("Ingeborg", "About the opening hours"), ("Milan Horvat", None))
APPLAUSE = ("👏", "❤️", "👏", "🔥", "🎉", "👏")
PASSWORD = "a long enough password"  # noqa: S105 - of accounts that live as long as this script
MICROPHONE = "USB microphone (stereo)"
#: Down to the people.
CONSOLE: ViewportSize = {"width": 1280, "height": 1150}

SHEET = """<!doctype html><style>
  body {{ margin: 0; padding: 40px; display: flex; gap: 36px; width: max-content; background: #d9ded9 }}
  img {{ display: block; border-radius: 14px; box-shadow: 0 2px 6px #0003, 0 16px 40px #0004 }}
  img + img {{ border-radius: 30px }}
</style><img src="{desktop}" height="760"><img src="{phone}" height="760">"""


def main() -> int:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        show_id = begin_show(data_dir)
        date_back(data_dir)
        microphone = write_tone(Path(folder) / "tone.wav", 220, level=0.06)
        with running_server(data_dir) as server, running_chromium(microphone) as browser:
            take_pictures(server, browser, show_id)
    sizes = {path: path.stat().st_size for path in sorted(IMAGES.glob("*.png"))}
    for path, size in sizes.items():
        print(f"{path.relative_to(ROOT)}: {size / 1000:.0f} kB{', too large' if size > SIZE_MAX else ''}")
    return 1 if max(sizes.values()) > SIZE_MAX else 0


def begin_show(data_dir: Path) -> str:
    """A show with its chat. Stopping the server does not end it: the next start takes it up again."""
    with running_server(data_dir) as server, ExitStack() as stack:
        host = account(server, HOST)
        show_id: str = server.start_show(host, TITLE, description=DESCRIPTION)["id"]
        sockets = gather(server, stack, show_id, (HOST, *GUESTS, *MEMBERS))
        for name, _, text in CHAT:
            sockets[name].command("chatMessage", text=text)
        return show_id


def date_back(data_dir: Path) -> None:
    """Let the show have begun a while ago, and its chat have taken its time."""
    now = datetime.now(UTC)
    engine = sa.create_engine(f"sqlite:///{data_dir / 'liveaudiocast.db'}")
    with orm.Session(engine) as session, session.begin():
        session.execute(sa.update(models.Broadcast).values(started_at=now - ON_AIR_FOR))
        for _, minutes, text in CHAT:
            line = sa.update(models.ChatMessage).where(models.ChatMessage.text == text)
            session.execute(line.values(at=now - timedelta(minutes=minutes)))
    engine.dispose()


def take_pictures(server: LacServer, browser: Browser, show_id: str) -> None:
    with ExitStack() as stack:
        host = ConsolePage(arrive(server, browser, CONSOLE))
        sign_in(host.page, account(server, HOST))
        host.open(show_id)
        host.page.get_by_role("radio", name="Music").check()
        host.resume()
        for _ in range(OTHER_LISTENERS):
            stack.enter_context(recording_packets(server, show_id))
        sockets = gather(server, stack, show_id, (*GUESTS, *MEMBERS))
        for name, note in HANDS:
            sockets[name].command("raiseHand", **({"note": note} if note else {}))

        desktop = PlayerPage(arrive(server, browser, DESKTOP))
        phone = PlayerPage(arrive(server, browser, PHONE, "dark"))
        for player in (desktop, phone):
            player.open(show_id)
            player.listen()
        for page in (desktop, phone, host):
            expect(page.page.get_by_text(f"{OTHER_LISTENERS + 2} listeners").first).to_be_visible()
        pictures = [photograph(player.page, sockets) for player in (desktop, phone)]
        (IMAGES / "player.png").write_bytes(side_by_side(browser, *pictures))

        host.page.get_by_role("option").first.evaluate("(option, name) => { option.textContent = name }", MICROPHONE)
        expect(host.page.get_by_text("good ·")).to_be_visible()
        (IMAGES / "host.png").write_bytes(photograph(host.page, sockets))


def arrive(
    server: LacServer, browser: Browser, viewport: ViewportSize, scheme: Literal["light", "dark"] = "light"
) -> Page:
    """In a time zone where it is morning now. The signs in names of zones are turned round: Etc/GMT-2 is east."""
    east = (HOUR - datetime.now(UTC).hour + 12) % 24 - 12
    context = browser.new_context(
        base_url=server.url,
        permissions=["microphone"],
        viewport=viewport,
        color_scheme=scheme,
        locale="en-GB",
        timezone_id=f"Etc/GMT{-east:+d}" if east else "UTC",
    )
    return context.new_page()


def gather(server: LacServer, stack: ExitStack, show_id: str, names: tuple[str, ...]) -> dict[str, RoomSocket]:
    """People in the room of whom no page is seen."""
    sockets = {}
    for name in names:
        sockets[name] = stack.enter_context(room_socket(server.url))
        if name in GUESTS:
            sockets[name].join(show_id, name=name)
        else:
            sockets[name].join(show_id, token=account(server, name).token)
    return sockets


def account(server: LacServer, name: str) -> Account:
    """Signed in; made at the first call."""
    email = f"{name.split()[0].lower()}@example.org"
    credentials = {"email": email, "password": PASSWORD}
    response = server.http.post(f"{server.url}/api/auth/login", json=credentials)
    if not response.is_success:
        response = server.http.post(f"{server.url}/api/auth/register", json={**credentials, "displayName": name})
    body = response.raise_for_status().json()
    return Account(body["user"]["id"], body["accessToken"], email, PASSWORD)


def photograph(page: Page, sockets: dict[str, RoomSocket]) -> bytes:
    """With reactions on their way up."""
    page.mouse.move(0, 0)
    page.evaluate("() => { document.activeElement?.blur(); scrollTo(0, 0); return document.fonts.ready }")
    for emoji in APPLAUSE:
        sockets[GUESTS[0]].command("reaction", emoji=emoji)
        page.wait_for_timeout(280)
    return page.screenshot()


def side_by_side(browser: Browser, desktop: bytes, phone: bytes) -> bytes:
    page = browser.new_page(viewport={"width": 1750, "height": 860})
    page.set_content(SHEET.format(desktop=as_url(desktop), phone=as_url(phone)))
    return page.locator("body").screenshot()


def as_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


if __name__ == "__main__":
    sys.exit(main())
