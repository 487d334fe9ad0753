"""From one browser's microphone to another one's loudspeaker: two Chromium pages and a server on this machine.

    python -m benchmarks.mouth_to_ear [--seconds 40] [--listeners 0 1000]

The microphone plays a click every second. Both pages note, by the same clock, when a click passes through their audio
graph: the host's page as it comes from the microphone, the listener's as it comes out of the jitter buffer. To the
difference comes what the listener's page says of its own output. WHIP and WHEP, 20 ms frames, no loss. With
`--listeners` so many more of `lac loadtest` hear the same show meanwhile, from another process on this machine.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import wave
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, Page

from benchmarks.support import crowd_beside, measured_server, print_head, print_row
from lac.loadtest.plan import Plan
from lac.loadtest.results import Spread
from tests.e2e.chromium import running_chromium
from tests.e2e.media_page import BROWSER_FOLDER
from tests.e2e.server import LacServer
from tests.e2e.tone import RATE_HZ, tone

SCRIPTS = (BROWSER_FOLDER / "ice.js", BROWSER_FOLDER / "whip.js", Path(__file__).parent / "clicks.js")
#: Others come in, a second.
PACE = 60
#: The jitter buffer of a listener finds its size.
SETTLE_S = 5.0


def write_clicks(path: Path) -> Path:
    """A 16-bit mono WAV: 10 ms of 1 kHz, and silence for the rest of a second."""
    second = np.concatenate((tone(1000, 0.01, level=0.8), np.zeros(RATE_HZ - RATE_HZ // 100, np.float32)))
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE_HZ)
        out.writeframes(np.tile(second * 32767, 10).astype("<i2").tobytes())
    return path


def open_session(browser: Browser, server: LacServer, way: str, path: str, token: str | None = None) -> Page:
    page = browser.new_context(permissions=["microphone"], bypass_csp=True).new_page()
    for script in SCRIPTS:
        page.add_init_script(path=script)
    page.add_init_script(
        "window.hearing = { attach(track) { this.element = new Audio();"
        " this.element.srcObject = new MediaStream([track]); this.element.play();"
        " clicks.watch(track); } };"
    )
    page.goto(f"{server.url}/health")
    page.evaluate("(all) => openSession(...all)", [way, server.url + path, token, None])
    return page


def delays_ms(said: Iterable[float], heard: Iterable[float]) -> list[float]:
    """Each click that was heard, less the last one that was said before it."""
    before = sorted(said)
    found = []
    for at in heard:
        earlier = [moment for moment in before if moment <= at]
        if earlier and at - earlier[-1] < 900:
            found.append(at - earlier[-1])
    return found


def measure(server: LacServer, browser: Browser, listeners: int, seconds: float) -> None:
    """Print a row."""
    host = server.register("Hanna")
    show_id = server.start_show(host)["id"]
    speaker = open_session(browser, server, "publish", f"/whip/{show_id}", host.token)
    speaker.evaluate("clicks.watch(session.stream.getAudioTracks()[0])")
    listener = open_session(browser, server, "listen", f"/whep/{show_id}")
    with ExitStack() as stack:
        if listeners:
            plan = Plan(server.url, broadcast_id=show_id, listeners=listeners, ramp_s=listeners / PACE, duration_s=3600)
            stack.enter_context(crowd_beside(plan))
        time.sleep(SETTLE_S)
        listener.evaluate("clicks.times.length = 0")
        listener.wait_for_timeout(seconds * 1000)
        said, heard = speaker.evaluate("clicks.times"), listener.evaluate("clicks.times")
        output_ms = float(listener.evaluate("clicks.outputMs()"))
    for page in (speaker, listener):
        page.context.close()
    spread = Spread.of([delay + output_ms for delay in delays_ms(said, heard)])
    if spread is None:
        raise SystemExit("no click was heard")
    of_delays = (spread.p50, spread.p95, spread.p99, spread.max, output_ms)
    print_row(listeners, spread.count, *(f"{value:.0f}" for value in of_delays))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=40.0, help="for each row; as many clicks")
    parser.add_argument("--listeners", type=int, nargs="+", default=[0, 1000], help="beside those in the browser")
    arguments = parser.parse_args()
    print_head("other listeners", "clicks", "p50 ms", "p95 ms", "p99 ms", "at most ms", "of it output ms")
    with (
        tempfile.TemporaryDirectory() as folder,
        measured_server() as server,
        running_chromium(write_clicks(Path(folder) / "clicks.wav")) as browser,
    ):
        for listeners in arguments.listeners:
            measure(server, browser, listeners, arguments.seconds)


if __name__ == "__main__":
    main()
