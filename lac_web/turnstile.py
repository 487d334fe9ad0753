"""Lets a crowd in a few at a time, so that the audio need not wait until all of it has been served.

Trio runs every task that can run before it looks at the network again. When six hundred requests arrive together, that
is one pass of half a second, in which no audio is taken in or sent on.
"""

from __future__ import annotations

import trio

#: In one pass of the loop. Each costs a millisecond or two.
PER_PASS = 2


class Turnstile:
    """`wait` before work that many may bring at once; `run` is its task, to be started by whoever serves."""

    def __init__(self, per_pass: int = PER_PASS) -> None:
        self._per_pass = per_pass
        self._passed = 0
        self._waiting = trio.lowlevel.ParkingLot()
        self._used = trio.Event()

    async def wait(self) -> None:
        """Go on at once if few have in this pass, else in one of the next, in the order of arrival."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._used.set()
        if self._waiting or self._passed >= self._per_pass:
            await self._waiting.park()
        else:
            self._passed += 1

    async def run(self) -> None:
        """Let those who wait through, some in each pass, until cancelled."""
        while True:
            await self._used.wait()  # returns in the next pass at the earliest
            self._passed = len(self._waiting.unpark(count=self._per_pass))
            if not self._waiting and not self._passed:
                self._used = trio.Event()
