"""A stream without audio, for runs by the thousand: a pack of cards that deals segments."""

from __future__ import annotations

import trio

from lac_media.hls.plan import Plan
from lac_media.hls.renditions import PART_TICKS, SEGMENT_S, Rendition
from tests.hls.radio import BEGAN_AT


class Cards:
    def __init__(self, *, window_s: float = 60.0) -> None:
        self.plan = Plan(run="r1", began_at=BEGAN_AT, first_msn=1, window_s=window_s)
        self.plan.begin()
        self._news = trio.Event()

    def deal(self, segments: int = 1) -> None:
        for _ in range(segments):
            last = self.plan.segments[-1] if self.plan.segments else None
            ticks = 0 if last is None else last.ticks + last.duration_ticks
            complete = False
            while not complete:
                self.plan.add_part((b"h", b"l"), ticks=ticks, duration_ticks=PART_TICKS)
                ticks += PART_TICKS
                complete = self.plan.segments[-1].complete
        self.plan.trim(memory=1_000)
        self._notify()

    async def play(self, seconds: float) -> None:
        """One after the other, as time goes by."""
        for _ in range(round(seconds / SEGMENT_S)):
            self.deal()
            await trio.sleep(SEGMENT_S)

    def end(self) -> None:
        self.plan.end()
        self._notify()

    async def file(self, rendition: Rendition, name: str) -> bytes | None:
        await trio.lowlevel.checkpoint()
        msn = name.partition("-")[0]
        return None if msn.isdigit() and self.plan.find(int(msn)) is None else name.encode()

    async def changed(self) -> None:
        await self._news.wait()

    def _notify(self) -> None:
        self._news.set()
        self._news = trio.Event()
