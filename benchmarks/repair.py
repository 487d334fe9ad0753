"""What bad networks leave of the audio, without repair and with it.

    python -m benchmarks.repair [--minutes 2]
    python -m benchmarks.repair --chromium listener [--seconds 30] [--only "10 %"]
    python -m benchmarks.repair --chromium publisher
    python -m benchmarks.repair --chromium host

In virtual time: a publisher and a listener of ours meet through a real engine, one of them on the network of the row. A
frame counts as lost if it is delayed by 200 ms more than most of the hundred before it: a player follows a delay that
all packets have, as they do where the program waits for what is missing ("later ms"). With `--chromium` a browser
publishes a tone and others listen, one side through the impairing proxy of the tests; counted are the samples that a
listening browser had to make up, of those that it played. A `publisher` is a page over WHIP, a `host` is at the web
client's own page.

Loss is of every datagram, both ways: questions get lost, and answers. The round trip is 40 to 50 ms.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import trio
from playwright.sync_api import Browser, Page
from trio.testing import MockClock

from benchmarks.support import measured_server
from tests.e2e.chromium import MICROPHONE_HZ, running_chromium
from tests.e2e.impairing_proxy import impairing_proxy, through
from tests.e2e.media_page import BROWSER_FOLDER, MediaPage
from tests.e2e.pages import People, go_live_behind
from tests.e2e.server import LacServer
from tests.e2e.tone import write_tone
from tests.fakes.impairment import Burst, Impairment
from tests.fakes.net import Net
from tests.media.bad_network import add_ear, add_talker
from tests.media.clients import open_studio

WAY_S, JITTER_S = 0.02, 0.005
#: How long a listener has to get used to the network, and the server to notice and to give it redundancy, before
#: counting begins. Browsers report every five seconds, and some of these reports get lost, too.
SETTLE_S = 30.0
NETWORKS: dict[str, dict[str, Any]] = {
    "0 %": {},
    "5 %": {"loss": 0.05},
    "10 %": {"loss": 0.1},
    "20 %": {"loss": 0.2},
    "10 % in bursts of 4": {"burst": Burst(0.1, 4.0)},
}
#: What a listener can do; `plain` ones meet a server that gives nobody redundancy.
LISTENERS: dict[str, dict[str, bool]] = {
    "without repair": {"red": False, "plain": True},
    "NACK": {"nack": True, "red": False, "plain": True},
    "RED": {"red": True},
    "NACK and RED": {"nack": True, "red": True},
    "NACK and repetition": {"nack": True, "red": False},
}
PUBLISHERS: dict[str, dict[str, bool]] = {
    "without repair": {},
    "NACK": {"nack": True},
    "RED": {"red": True},
    "NACK and RED": {"nack": True, "red": True},
}
HOSTS: tuple[Literal["Voice", "Music"], ...] = ("Voice", "Music")
SCRIPTS = [BROWSER_FOLDER / name for name in ("hearing.js", "ice.js", "whip.js")]


def usual() -> Impairment:
    return Impairment(delay_s=WAY_S, jitter_s=JITTER_S)


def spoil(way: Impairment, network: dict[str, Any]) -> None:
    way.loss, way.burst = network.get("loss", 0.0), network.get("burst")


# In virtual time


async def measure_virtually(network: dict[str, Any], who: str, kind: dict[str, bool], minutes: float) -> str:
    bad, red, nack = usual(), kind.get("red", False), kind.get("nack", False)
    async with open_studio(Net(usual())) as studio:
        if who == "publisher":
            talker = await add_talker(studio, bad, nack=nack, red=red)
            ear = await add_ear(studio, nack=False, red=False)
        else:
            talker = await add_talker(studio, nack=False, red=False)
            ear = await add_ear(studio, bad, nack=nack, red=red, redundancy=not kind.get("plain", False))
        await talker.talk(2)
        spoil(bad, network)
        await talker.talk(SETTLE_S)
        first = talker.count
        await talker.talk(minutes * 60)
        last = talker.count
        spoil(bad, {})
        await talker.talk(2)  # what was lost last gets its chance, too
        missed = ear.misses(first, last)
        cell = f"{missed.share:.2%} | {missed.never / missed.frames:.2%}"
        return cell if who == "listener" else f"{cell} | {missed.usual_s * 1000:.0f}"


def print_virtually(minutes: float, only: str | None) -> None:
    for who, kinds in (("listener", LISTENERS), ("publisher", PUBLISHERS)):
        print_head(f"network of the {who}", kinds, "never", *(["later ms"] if who == "publisher" else []))
        for name, network in NETWORKS.items():
            if only not in (None, name):
                continue
            cells = [
                trio.run(measure_virtually, network, who, kind, minutes, clock=MockClock(autojump_threshold=0))
                for kind in kinds.values()
            ]
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
        print()


# In Chromium


class Browsers:
    """A server, and a proxy that either the publishers or the listeners are behind."""

    def __init__(self, stack: ExitStack, browser: Browser, *, plain: bool) -> None:
        # Nobody is refused: on a machine of few cores, eight pages that come at once make the server late.
        program = "benchmarks.plain_server" if plain else "lac.cli.main"
        self.server: LacServer = stack.enter_context(measured_server(program=program))
        self._browser = browser
        self.proxy = stack.enter_context(impairing_proxy(self.server.media_port, up=usual(), down=usual()))

    def spoil(self, network: dict[str, Any]) -> None:
        for way in (self.proxy.up, self.proxy.down):
            spoil(way, network)

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

    def hosted(self, kind: Literal["Voice", "Music"]) -> tuple[str, Page]:
        """A show that is on the air, and the page of its host, who is on the bad network."""
        host = self.server.register("Hanna")
        show_id: str = self.server.create_show(host)["id"]
        page = People(self._browser, self.server.url).arrive()
        go_live_behind(page, self.proxy.port, host, show_id, kind)
        return show_id, page

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


def print_head(title: str, names: Collection[str], *others: str) -> None:
    print(f"| {title} | " + " | ".join(" | ".join((name, *others)) for name in names) + " |")
    print("| --- |" + " ---: |" * (1 + len(others)) * len(names))


def measure_chromium(seconds: float, only: str | None, who: str) -> None:
    """All publishers, or all listeners, on the bad network at the same time, everybody else on a clean one."""
    networks = {name: network for name, network in NETWORKS.items() if only in (None, name)}
    kinds: Collection[str] = {"listener": LISTENERS, "publisher": PUBLISHERS, "host": HOSTS}[who]
    print_head(f"network of the {who}", kinds, "buffer ms")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        browser = stack.enter_context(running_chromium(write_tone(folder / "tone.wav", MICROPHONE_HZ)))
        usual_server = Browsers(stack, browser, plain=False)
        plain_server = Browsers(stack, browser, plain=True) if who == "listener" else usual_server
        servers = {True: plain_server, False: usual_server}
        for name, network in networks.items():
            for server in servers.values():
                server.spoil({})
            if who == "listener":
                shows = {server: server.show({}, bad=False) for server in set(servers.values())}
                where = [servers[kind.get("plain", False)] for kind in LISTENERS.values()]
                listeners = [
                    server.listener(shows[server][0], kind, bad=True)
                    for server, kind in zip(where, LISTENERS.values(), strict=True)
                ]
                others = [page.page for _, page in shows.values()]
            else:
                if who == "publisher":
                    whip = [usual_server.show(kind, bad=True) for kind in PUBLISHERS.values()]
                    on_air = [(show_id, page.page) for show_id, page in whip]
                else:
                    on_air = [usual_server.hosted(kind) for kind in HOSTS]
                listeners = [usual_server.listener(show_id, {}, bad=False) for show_id, _ in on_air]
                others = [page for _, page in on_air]
            for server in servers.values():
                server.spoil(network)
            cells = measure_pages(listeners, seconds)
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
            for page in (*(listener.page for listener in listeners), *others):
                page.context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0, help="of virtual time, for each cell")
    parser.add_argument("--chromium", choices=("listener", "publisher", "host"))
    parser.add_argument("--seconds", type=float, default=20.0, help="for each row")
    parser.add_argument("--only", choices=NETWORKS)
    args = parser.parse_args()
    if args.chromium:
        measure_chromium(args.seconds, args.only, args.chromium)
    else:
        print_virtually(args.minutes, args.only)


if __name__ == "__main__":
    main()
