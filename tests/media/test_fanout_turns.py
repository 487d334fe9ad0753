"""The fan-out gives way to everything else now and then, but not while the audio is late."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from lac_media.parameters import Address, ConsumerParameters
from lac_media.proto.opus import SILENCE_20MS_MONO
from lac_media.proto.srtp import SrtpSession
from lac_media.rooms.fanout import LATE_S, TURN_S, Fanout
from lac_media.rooms.line import ProgramPacket
from tests.media.test_batch import session

GROUPS = 5


class SlowBatch:
    """Takes a whole turn for each slice."""

    def __init__(self, clock: MockClock) -> None:
        self._clock = clock

    def set_slot(self, index: int, srtp: SrtpSession, address: Address) -> None:
        pass

    def move_slot(self, source: int, target: int) -> None:
        pass

    def clear_slot(self, index: int) -> None:
        pass

    def send_rtp(self, packet: bytes, count: int) -> int:
        self._clock.jump(TURN_S)
        return 0

    def send_rtcp(self, packets: Sequence[bytes]) -> int:
        return 0


@pytest.mark.parametrize(("late_s", "passes"), [(0.0, GROUPS), (LATE_S, 1)])
async def test_others_get_their_turn_between_slices_unless_the_packet_is_late(
    mock_clock: MockClock, late_s: float, passes: int
) -> None:
    fanout = Fanout(1, lambda slots: SlowBatch(mock_clock))
    for number in range(GROUPS):
        fanout.add(ConsumerParameters(100 + number, None), session(number + 1), ("192.0.2.1", 1000 + number))
    seen = 0

    async def count_passes() -> None:
        nonlocal seen
        while True:
            await trio.lowlevel.checkpoint()
            seen += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_passes)
        await trio.lowlevel.checkpoint()
        seen = 0
        sent_at = trio.current_time() - late_s
        await fanout.send(ProgramPacket(1, 0, 0, False, SILENCE_20MS_MONO, None, sent_at))
        nursery.cancel_scope.cancel()
    assert abs(seen - passes) <= 1
