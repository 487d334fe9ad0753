"""The fan-out gives way to everything else now and then."""

from __future__ import annotations

from collections.abc import Sequence

from trio.testing import MockClock

from lac_media.parameters import Address, ConsumerParameters
from lac_media.proto.opus import SILENCE_20MS_MONO
from lac_media.proto.srtp import SrtpSession
from lac_media.rooms.fanout import TURN_S, Fanout
from lac_media.rooms.line import ProgramPacket
from tests.media.test_batch import session

GROUPS = 5


class SlowBatch:
    """Takes more than half a turn for each slice."""

    def __init__(self, clock: MockClock) -> None:
        self._clock = clock

    def set_slot(self, index: int, srtp: SrtpSession, address: Address) -> None:
        pass

    def move_slot(self, source: int, target: int) -> None:
        pass

    def clear_slot(self, index: int) -> None:
        pass

    def send_rtp(self, packet: bytes, count: int) -> int:
        self._clock.jump(0.6 * TURN_S)
        return 0

    def send_rtcp(self, packets: Sequence[bytes]) -> int:
        return 0


async def test_a_delivery_gives_way_each_time_a_turn_is_over(mock_clock: MockClock) -> None:
    fanout = Fanout(1, lambda slots: SlowBatch(mock_clock))
    for number in range(GROUPS):
        fanout.add(ConsumerParameters(100 + number, None), session(number + 1), ("192.0.2.1", 1000 + number))
    delivery = fanout.deliver(ProgramPacket(1, 0, 0, False, SILENCE_20MS_MONO, None, 0.0))
    served = [fanout.packets_out for _ in delivery]
    assert served == [2, 4]
    assert fanout.packets_out == GROUPS
