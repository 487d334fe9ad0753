"""The pages of the web client as people use them: found by the names that a screen reader says."""

from __future__ import annotations

import re
import time
from typing import Any, Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, ViewportSize, expect

from tests.e2e.chromium import MICROPHONE_HZ
from tests.e2e.impairing_proxy import through
from tests.e2e.media_page import BROWSER_FOLDER, PATIENCE_S, POLL_MS, concealed_ratio
from tests.e2e.server import Account

#: Two bins of the analyser.
TOLERANCE_HZ = 6

PHONE: ViewportSize = {"width": 390, "height": 844}
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
WCAG_2_2_AA = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]

#: Browsers report every refused request as an error. The first is a goodbye that came after DTLS's own, by which the
#: server had closed the transport; the second a waveform that has still to be made, which the page asks for again.
EXPECTED = re.compile(
    r"status of 404\b.* http\S+/api/mediasoup/transports/\w+$|status of 409\b.* http\S+/api/recordings/\w+/peaks$"
)

#: What the page itself plays, in Hz; 0 is silence, null is no sound at all.
HEARD_HZ = """() => {
  const track = window.lacDiagnostics?.remoteTrack;
  if (!track || track.readyState !== "live") return null;
  if (hearing.track !== track) hearing.tap(track);
  return hearing.frequency();
}"""

#: Before anything else of a page that asks for the processing of voice, which takes a steady tone for noise.
UNPROCESSED = """(() => {
  const devices = navigator.mediaDevices;
  const ask = devices.getUserMedia.bind(devices);
  devices.getUserMedia = () =>
    ask({ audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false } });
})()"""

#: How many received streams sound just now.
SOUNDING = """Promise.all(connections.peers.map(({ pc }) => pc.getStats())).then((all) =>
  all.flatMap((report) => [...report.values()])
    .filter(({ type, audioLevel }) => type === "inbound-rtp" && audioLevel > 0.01).length)"""

expect.set_options(timeout=PATIENCE_S * 1000)


class People:
    """A browser context for each person, and what their consoles complained about."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.url = url
        self.complaints: list[str] = []
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self._tolerated: dict[BrowserContext, str] = {}

    def arrive(self, url: str | None = None, viewport: ViewportSize = DESKTOP) -> Page:
        """Somebody's new page, at an address of the server."""
        context = self._browser.new_context(
            base_url=url or self.url,
            permissions=["microphone"],
            viewport=viewport,
            locale="en-GB",
            # Colours that are still changing have no contrast to measure.
            reduced_motion="reduce",
        )
        self._contexts.append(context)
        for script in ("connections.js", "hearing.js"):
            context.add_init_script(path=BROWSER_FOLDER / script)
        context.on("console", self._on_console)
        context.on("weberror", lambda error: self.complaints.append(f"uncaught: {error.error}"))
        return context.new_page()

    def tolerate(self, page: Page, pattern: str) -> None:
        """This person's console may say so: browsers report every refused request as an error."""
        self._tolerated[page.context] = pattern

    def close(self) -> None:
        for context in self._contexts:
            context.close()

    def _on_console(self, message: ConsoleMessage) -> None:
        page = message.page
        if message.type != "error" and "Content Security Policy" not in message.text:
            return
        url = str(message.location.get("url"))
        if EXPECTED.search(f"{message.text} {url}"):
            return
        pattern = self._tolerated.get(page.context) if page is not None else None
        if pattern is None or not re.search(pattern, message.text):
            self.complaints.append(f"{page.url if page else '?'}: {message.text} ({url})")


def sign_in(page: Page, account: Account) -> None:
    page.goto("/login")
    page.get_by_label("E-mail").fill(account.email)
    page.get_by_label("Password", exact=True).fill(account.password)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("link", name="Account of")).to_be_visible()


def register(page: Page, name: str, email: str, password: str) -> None:
    page.goto("/register")
    page.get_by_label("Display name").fill(name)
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_role("link", name=f"Account of {name}")).to_be_visible()


def create_show(page: Page, title: str) -> str:
    """By the person signed in there; the id."""
    page.get_by_role("link", name="My shows").click()
    page.get_by_label("Title").fill(title)
    page.get_by_role("button", name="Create show").click()
    expect(page.get_by_role("heading", name=title)).to_be_visible()
    return page.url.rsplit("/", 1)[1]


class RoomPage:
    """What the pages of hosts and of listeners have in common."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.chat = page.get_by_role("log", name="Chat messages")
        self.message = page.get_by_role("textbox", name="Message")
        # For those who moderate.
        self.people = page.get_by_role("list", name="People in this show")
        self.hands = page.get_by_role("list", name="Raised hands")

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def notice(self, text: str) -> Locator:
        """Something that the page announces."""
        return self.page.get_by_role("status").or_(self.page.get_by_role("alert")).filter(has_text=text)

    def choose(self, menu: str, item: str) -> None:
        """Open the menu behind a button with three dots, and take one of its items."""
        self.button(menu).first.click()
        self.page.get_by_role("menuitem", name=item, exact=True).click()

    def say(self, text: str) -> None:
        self.message.fill(text)
        self.button("Send").click()

    def sockets(self) -> list[dict[str, Any]]:
        sockets: list[dict[str, Any]] = self.page.evaluate("() => connections.sockets")
        return sockets

    def wait_until(self, condition: str, *, timeout_s: float = PATIENCE_S) -> Any:
        """Until the expression, or what its promise gives, is true in the page; its value. Not `wait_for_function`,
        which the pages' Content-Security-Policy forbids."""
        deadline = time.monotonic() + timeout_s
        while not (value := self.page.evaluate(f"async () => await ({condition})")):
            assert time.monotonic() < deadline, f"waited {timeout_s} s for {condition}; {self.situation()}"
            self.page.wait_for_timeout(POLL_MS)
        return value

    def wait_for_streams(self, count: int) -> None:
        """Until so many received streams sound: the program, if it is listened to, and speakers one by one."""
        self.wait_until(f"{SOUNDING}.then((sounding) => sounding === {count})")

    def situation(self) -> str:
        heard = self.page.evaluate(HEARD_HZ)
        return f"heard {heard} Hz; connections: {self.page.evaluate('() => JSON.stringify(connections)')}"


class ConsolePage(RoomPage):
    """/host/:id"""

    def open(self, show_id: str) -> None:
        self.page.goto(f"/host/{show_id}")
        expect(self.page.get_by_role("heading", name="Studio")).to_be_visible()

    def go_live(self, kind: Literal["Voice", "Music"] = "Music") -> None:
        """Music leaves the sound untouched; for a tone as voice, see `UNPROCESSED`."""
        self.page.get_by_role("radio", name=kind).check()
        self.button("Go live").click()
        self.wait_on_air()

    def resume(self) -> None:
        self.button("Resume show").click()
        self.wait_on_air()

    def wait_on_air(self) -> None:
        expect(self.notice("You are on air.")).to_be_visible()

    def remove(self, name: str, reason: str) -> None:
        self.button(f"Remove {name}").click()
        dialog = self.page.get_by_role("dialog", name=f"Remove {name}?")
        dialog.get_by_label("Reason").fill(reason)
        dialog.get_by_role("button", name="Remove", exact=True).click()

    def hand_over(self) -> None:
        """Off the stage; the show goes on for a while."""
        self.button("Leave the stage").click()
        self.page.get_by_role("dialog").get_by_role("button", name="Leave", exact=True).click()

    def end(self) -> None:
        self.button("End show").click()
        self.page.get_by_role("dialog").get_by_role("button", name="End for everyone").click()


def go_live_behind(
    page: Page, proxy_port: int, account: Account, show_id: str, kind: Literal["Voice", "Music"]
) -> ConsolePage:
    """The host goes on air from the web client's page; what is sent takes its way through a proxy of the media port."""
    if kind == "Voice":
        page.add_init_script(UNPROCESSED)
    page.route("**/transports", through(proxy_port))
    sign_in(page, account)
    console = ConsolePage(page)
    console.open(show_id)
    console.go_live(kind)
    return console


class PlayerPage(RoomPage):
    """/b/:id"""

    def open(self, show_id: str) -> None:
        self.page.goto(f"/b/{show_id}")
        expect(self.page.get_by_role("region", name="Player")).to_be_visible()

    def listen(self) -> None:
        self.button("Listen").click()

    def introduce(self, name: str) -> None:
        """Answer the question that guests get when others are about to see them."""
        dialog = self.page.get_by_role("dialog", name="What should people call you?")
        dialog.get_by_label("Your name").fill(name)
        dialog.get_by_role("button", name="Continue").click()

    def start_speaking(self) -> None:
        """From the stage, with the sound untouched."""
        self.page.get_by_role("radio", name="Music").check()
        self.button("Start speaking").click()

    def heard_hz(self) -> float | None:
        heard: float | None = self.page.evaluate(HEARD_HZ)
        return heard

    def wait_for_tone(self, frequency_hz: float = MICROPHONE_HZ) -> None:
        near = f"heard !== null && Math.abs(heard - {frequency_hz}) < {TOLERANCE_HZ}"
        self.wait_until(f"((heard) => {near})(({HEARD_HZ})())")

    def wait_for_silence(self) -> None:
        """Until silence has been *received*: no sound at all does not count."""
        self.wait_until(f"({HEARD_HZ})() === 0")

    def received(self) -> dict[str, Any]:
        """What getStats says about the sound that comes in."""
        reports: list[dict[str, Any]] = self.page.evaluate("() => lacDiagnostics.rawStats()")
        return next(report for report in reports if report["type"] == "inbound-rtp")

    def wait_for_samples_a_packet(self, at_least: int) -> None:
        """960 a packet is 20 ms. Counted from the beginning of a connection, and believed after half a second."""
        find = "reports.find((report) => report.type === 'inbound-rtp')"
        enough = (
            f"sound?.totalSamplesReceived > 24000 && sound.totalSamplesReceived / sound.packetsReceived >= {at_least}"
        )
        self.wait_until(f"lacDiagnostics.rawStats().then((reports) => {find}).then((sound) => {enough})")

    def wait_for_a_clean_second(self) -> dict[str, Any]:
        """Until a second has been played without a sample made up; the statistics then."""
        deadline = time.monotonic() + 2 * PATIENCE_S
        before = stats = self.received()
        while True:
            if stats["packetsReceived"] - before["packetsReceived"] >= 50:
                if concealed_ratio(stats, before) == 0.0:
                    return stats
                before = stats
            assert time.monotonic() < deadline, stats
            self.page.wait_for_timeout(POLL_MS)
            stats = self.received()

    def connection(self) -> dict[str, Any]:
        """What stays the same as long as nobody reconnects."""
        answer: dict[str, Any] = self.page.evaluate(
            """async () => ({
              rebuilds: (await lacDiagnostics.stats()).rebuilds,
              track: lacDiagnostics.remoteTrack.id,
              // One is only asked what the browser can do, and never connects.
              peers: connections.peers.map(({ states }) => states).filter((states) => states.length > 0),
              sockets: connections.sockets.length,
            })"""
        )
        return {**answer, "ssrc": self.received()["ssrc"]}


def accessibility_problems(page: Page) -> list[str]:
    """What axe finds against WCAG 2.2 A and AA on a phone and a desktop, in light and dark; and sideways scrolling,
    which is against it too."""
    problems = []
    schemes: list[Literal["light", "dark"]] = ["light", "dark"]
    for viewport in (PHONE, DESKTOP):
        page.set_viewport_size(viewport)
        for scheme in schemes:
            page.emulate_media(color_scheme=scheme)
            where = f"{page.url} at {viewport['width']}, {scheme}"
            found = Axe().run(page, options={"runOnly": {"type": "tag", "values": WCAG_2_2_AA}}).response
            for violation in found["violations"]:
                nodes = "; ".join(node["html"][:200] for node in violation["nodes"][:4])
                problems.append(f"{where}: {violation['id']}: {violation['help']}: {nodes}")
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if overflow > 0:
            problems.append(f"{page.url} at {viewport['width']} scrolls sideways by {overflow} px")
    return problems
