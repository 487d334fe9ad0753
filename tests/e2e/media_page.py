"""A page with one media session (`window.session`), and what can be asked of any of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from tests.e2e.chromium import MICROPHONE_HZ

BROWSER_FOLDER = Path(__file__).parent / "browser"
PATIENCE_S = 15.0
POLL_MS = 30
#: Packets on their way to the path that the browser has just left are lost: half a second, where the machine is busy.
LOST_IN_RESTART_MAX = 25
#: In how many stretches one is looked for that is as it should be. Concealment is the browser's answer to audio that
#: comes late, too: a loaded machine has bad seconds, but wrong timestamps or sequence numbers leave no good one.
TRIES = 15


class MediaPage:
    def __init__(self, page: Page) -> None:
        self.page = page

    def open(self, way: str, endpoint: str, token: str | None = None, options: object = None) -> None:
        """`way` is "publish" or "listen"."""
        self.page.evaluate("(all) => openSession(...all)", [way, endpoint, token, options])

    def ask(self, expression: str) -> Any:
        return self.page.evaluate(f"async () => await session.{expression}")

    def wait_until(self, condition: str, patience_s: float = PATIENCE_S) -> Any:
        """Until the expression, or what its promise gives, is true in the page; its value.

        Not `wait_for_function`, which takes a promise itself for true.
        """
        deadline = time.monotonic() + patience_s
        while not (value := self.page.evaluate(f"async () => await ({condition})")):
            assert time.monotonic() < deadline, f"waited {patience_s} s for {condition}; {self._situation()}"
            self.page.wait_for_timeout(POLL_MS)
        return value

    def wait_for_tone(self, frequency_hz: float = MICROPHONE_HZ) -> None:
        self.wait_until(f"Math.abs(hearing.frequency() - {frequency_hz}) < 6")

    def wait_for_silence(self) -> None:
        """Until silence has been *received*: no audio at all does not count."""
        self.wait_until("hearing.frequency() === 0")

    def wait_for_packets(self, count: int) -> dict[str, Any]:
        """Until `count` more packets have been received; the inbound statistics then."""
        already = self.ask("stats('inbound-rtp')")  # there is no such thing before the first packet
        wanted = (already["packetsReceived"] if already else 0) + count
        self.wait_until(f"session.stats('inbound-rtp').then((stats) => stats?.packetsReceived >= {wanted})")
        stats: dict[str, Any] = self.ask("stats('inbound-rtp')")
        return stats

    def wait_for_a_clean_second(self, packets: int = 50) -> dict[str, Any]:
        """Until a second, which is so many packets, has been played without a sample made up; the inbound statistics
        then."""
        stats, _ = self.wait_for_concealed(0.0, packets)
        return stats

    def wait_for_concealed(self, at_most: float, packets: int) -> tuple[dict[str, Any], float]:
        """Until so many packets have been played with no more than this ratio of samples made up; the inbound
        statistics then, and the ratio."""
        stats, ratios = self.wait_for_packets(1), []
        for _ in range(TRIES):
            before, stats = stats, self.wait_for_packets(packets)
            ratios.append(concealed_ratio(stats, before))
            if ratios[-1] <= at_most:
                return stats, ratios[-1]
        raise AssertionError(f"made up again and again: {ratios}; {stats}")

    def restart_ice(self) -> None:
        """Returns once media takes a path that the new ICE session has found."""
        before = self.ask("localUfrag()")
        self.ask("restartIce()")
        self.wait_until(f"session.localUfrag().then((ufrag) => ufrag !== null && ufrag !== '{before}')")

    def first_sound_ms(self) -> float:
        """From the page's first step to the first sound in its ears."""
        return float(self.wait_until("hearing.firstSoundAt - session.startedAt"))

    def _situation(self) -> str:
        inbound = self.page.evaluate("window.session ? session.stats('inbound-rtp') : null") or {}
        packets = inbound.get("packetsReceived", "no")
        return f"hears {self.page.evaluate('hearing.frequency()')} Hz, has received {packets} packets"


def concealed_ratio(stats: dict[str, Any], since: dict[str, Any] | None = None) -> float:
    """Of the samples played, those that were made up for missing audio."""

    def total(name: str) -> int:
        return int(stats[name] - (since or {}).get(name, 0))

    return (total("concealedSamples") - total("silentConcealedSamples")) / max(1, total("totalSamplesReceived"))
