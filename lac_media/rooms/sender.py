"""The program on its way from the director to the fan-out: what waits, and what is just being sent.

A packet is sent as it comes in, by whoever brings it (`send_next`). What is left when a turn is over, and what nobody
brings (silence, the mix), is sent by the room's task (`send_pending`). One at a time: a packet whose delivery has given
way goes to everyone before the next one begins.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import trio

from lac_media.load import LoadMeter
from lac_media.rooms.fanout import Fanout
from lac_media.rooms.line import ProgramPacket

#: Packets waiting for their turn: one second. When full the oldest is dropped and counted.
PENDING_PACKETS = 50


class ProgramSender:
    """Owns no task."""

    def __init__(self, fanout: Fanout, load: LoadMeter) -> None:
        self.dropped = 0
        self._fanout = fanout
        self._load = load
        #: Each with how long it had waited already before it could be queued, seconds.
        self._pending: deque[tuple[ProgramPacket, float]] = deque()
        #: What is being sent; it has given way.
        self._delivery: Iterator[None] | None = None

    @property
    def is_idle(self) -> bool:
        return self._delivery is None and not self._pending

    def queue(self, packet: ProgramPacket, waited_s: float = 0.0) -> None:
        if len(self._pending) >= PENDING_PACKETS:
            self._pending.popleft()
            self.dropped += 1
        self._pending.append((packet, waited_s))

    def send_next(self) -> None:
        """Go on with what is being sent, else begin with the next packet: one packet and one turn at most."""
        if self._delivery is None:
            if not self._pending:
                return
            self._delivery = self._deliver(*self._pending.popleft())
        try:
            next(self._delivery)
        except StopIteration:
            self._delivery = None

    async def send_pending(self, *, now: float) -> None:
        """Send what waits now, and joined packets that are due. What comes meanwhile waits for the next time."""
        for _ in range(len(self._pending) + 1):
            await self._send_whole()
        if self._delivery is None and self._fanout.timer_at() <= now:
            self._delivery = self._fanout.handle_timer(now=trio.current_time())
            await self._send_whole()

    async def _send_whole(self) -> None:
        """What is being sent, or the next packet, to its end."""
        self.send_next()
        await trio.lowlevel.checkpoint()
        while self._delivery is not None:
            self.send_next()
            await trio.lowlevel.checkpoint()

    def _deliver(self, packet: ProgramPacket, waited_s: float) -> Iterator[None]:
        yield from self._fanout.deliver(packet)
        sent_at = trio.current_time()
        self._load.forwarding.add(waited_s + sent_at - packet.sent_at, now=sent_at)
