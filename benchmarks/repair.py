"""What bad networks leave of the audio, without repair and with it.

    python -m benchmarks.repair [--minutes 5]
    python -m benchmarks.repair --chromium [--seconds 20] [--only "10 %"]

By default in virtual time: a publisher and a listener of ours meet through a real engine, each on the network of the row.
A packet counts as lost when it is not there 400 ms after its neighbours without loss would have been. With `--chromium` a
clean Chromium publishes a tone, and others listen through the impairing proxy of the tests: samples that the browser had to
make up, of those that it played. Loss is of every datagram, both ways: questions get lost, and answers. Round trip 40 ms.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.e2e.chromium import MICROPHONE_HZ, running_chromium
from tests.e2e.impairing_proxy import ImpairingProxy, impairing_proxy, through
from tests.e2e.media_page import BROWSER_FOLDER, MediaPage
from tests.e2e.server import LacServer, running_server
from tests.e2e.tone import write_tone
from tests.fakes.impairment import Burst, Impairment

WAY_S, JITTER_S = 0.02, 0.005
#: How long a browser has to get used to the network before counting begins.
SETTLE_S = 5.0
NETWORKS: dict[str, dict[str, Any]] = {
    "0 %": {},
    "5 %": {"loss": 0.05},
    "10 %": {"loss": 0.1},
    "20 %": {"loss": 0.2},
    "10 % in bursts of 4": {"burst": Burst(0.1, 4.0)},
}
LISTENERS: dict[str, dict[str, bool]] = {"without repair": {}, "NACK": {"nack": True}}
PUBLISHERS: dict[str, dict[str, bool]] = {
    "without repair": {},
    "NACK": {"nack": True},
    "RED": {"red": True},
    "both": {"nack": True, "red": True},
}
SCRIPTS = [BROWSER_FOLDER / name for name in ("hearing.js", "ice.js", "whip.js")]


def set_network(proxy: ImpairingProxy, **what: Any) -> None:
    for way in (proxy.up, proxy.down):
        way.loss, way.burst = what.get("loss", 0.0), what.get("burst")


class Browsers:
    """A server, a browser, and a proxy that either the publishers or the listeners are behind."""

    def __init__(self, stack: ExitStack) -> None:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.server: LacServer = stack.enter_context(running_server(folder / "data"))
        tone = write_tone(folder / "tone.wav", MICROPHONE_HZ)
        self._browser = stack.enter_context(running_chromium(tone))
        usual = {"delay_s": WAY_S, "jitter_s": JITTER_S}
        self.proxy = stack.enter_context(
            impairing_proxy(self.server.media_port, up=Impairment(**usual), down=Impairment(**usual))
        )

    def _open(self, way: str, endpoint: str, token: str | None, options: dict[str, bool], *, bad: bool) -> MediaPage:
        context = self._browser.new_context(permissions=["microphone"])
        for script in SCRIPTS:
            context.add_init_script(path=script)
        page = MediaPage(context.new_page())
        page.page.goto(f"{self.server.url}/health")
        if bad:
            page.page.route(f"**/{endpoint}", through(self.proxy.port))
        page.open(way, f"{self.server.url}/{endpoint}", token, options)
        return page

    def show(self, options: dict[str, bool], *, bad: bool) -> tuple[str, MediaPage]:
        """A show that is on the air, and the publisher's page."""
        host = self.server.register("Hanna")
        show_id: str = self.server.start_show(host)["id"]
        return show_id, self._open("publish", f"whip/{show_id}", host.token, options, bad=bad)

    def listener(self, show_id: str, options: dict[str, bool], *, bad: bool) -> MediaPage:
        page = self._open("listen", f"whep/{show_id}", None, options, bad=bad)
        page.wait_for_tone()
        return page


def made_up(after: dict[str, Any], before: dict[str, Any]) -> float:
    """Samples concealed, silent ones too, of those played."""
    concealed = after["concealedSamples"] - before["concealedSamples"]
    return float(concealed / max(1, after["totalSamplesReceived"] - before["totalSamplesReceived"]))


def buffer_ms(after: dict[str, Any], before: dict[str, Any]) -> float:
    """How long a sample waited in the browser's jitter buffer, on average."""
    emitted = after["jitterBufferEmittedCount"] - before["jitterBufferEmittedCount"]
    return float(1000 * (after["jitterBufferDelay"] - before["jitterBufferDelay"]) / max(1, emitted))


def measure_pages(pages: list[MediaPage], seconds: float) -> list[str]:
    """A cell for each: what it made up, and its buffer."""
    pages[0].page.wait_for_timeout(SETTLE_S * 1000)
    before = [page.ask("stats('inbound-rtp')") for page in pages]
    pages[0].page.wait_for_timeout(seconds * 1000)
    after = [page.ask("stats('inbound-rtp')") for page in pages]
    return [f"{made_up(now, then):.2%} | {buffer_ms(now, then):.0f}" for now, then in zip(after, before, strict=True)]


def print_head(title: str, names: Iterable[str]) -> None:
    print(f"| {title} | " + " | ".join(f"{name} | buffer ms" for name in names) + " |")
    print("| --- |" + " ---: | ---: |" * len(tuple(names)))


def measure_chromium(seconds: float, only: str | None, who: str) -> None:
    """One at a time of the publishers or all listeners at once on the bad network, everybody else on a clean one."""
    networks = {name: network for name, network in NETWORKS.items() if only in (None, name)}
    kinds = LISTENERS if who == "listener" else PUBLISHERS
    print_head(f"network of the {who}", kinds)
    with ExitStack() as stack:
        browsers = Browsers(stack)
        for name, network in networks.items():
            cells: list[str] = []
            set_network(browsers.proxy)
            if who == "listener":
                show_id, publisher = browsers.show({}, bad=False)
                pages = [publisher, *(browsers.listener(show_id, kind, bad=True) for kind in kinds.values())]
                set_network(browsers.proxy, **network)
                cells = measure_pages(pages[1:], seconds)
            else:
                shows = [browsers.show(kind, bad=True) for kind in kinds.values()]
                listeners = [browsers.listener(show_id, {}, bad=False) for show_id, _ in shows]
                pages = [*listeners, *(page for _, page in shows)]
                set_network(browsers.proxy, **network)
                cells = measure_pages(listeners, seconds)
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
            for page in pages:
                page.page.context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chromium", choices=("listener", "publisher"))
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--only", choices=NETWORKS)
    args = parser.parse_args()
    if args.chromium:
        measure_chromium(args.seconds, args.only, args.chromium)


if __name__ == "__main__":
    main()
