"""The fan-out as a room drives it."""

from __future__ import annotations

import trio

from lac_media.rooms.fanout import Fanout
from lac_media.rooms.line import ProgramPacket


async def deliver(fanout: Fanout, packet: ProgramPacket) -> None:
    """One packet to everyone, giving way after each turn and in the end."""
    for _ in fanout.deliver(packet):
        await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()
