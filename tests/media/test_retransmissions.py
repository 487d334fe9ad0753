"""What a listener asks for again: the same packet, over a lossy network, and not without a bound."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from lac_media.proto.rtcp import Nack
from lac_media.rooms.session import REPAIRS_PER_S
from tests.fakes.impairment import Impairment
from tests.fakes.net import Net
from tests.media.clients import FRAME_S, open_studio, opus


async def test_a_nack_is_answered_with_the_same_packet_again(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        listener, other = await studio.listener(), await studio.listener()
        host = await studio.publisher("host")
        await host.talk(1, 3)
        studio.net.impairment.loss = 1.0
        host_number = 4
        # Straight into the program: the publisher's own way is lossy as well now.
        lost = []
        for number in range(host_number, host_number + 3):
            studio.room.receive_audio(host.session, host.next_packet(opus(number)), None)
            await trio.sleep(FRAME_S)
            lost.append((studio.room.program._next_sequence - 1) & 0xFFFF)
        studio.net.impairment.loss = 0.0
        heard = len(other.packets)
        core = listener.peer.core
        assert core is not None
        core.send_rtcp([Nack(core.ssrc, studio.room.program.ssrc, (*lost, *lost, 7))])
        listener.peer._flush(core)
        await trio.sleep(0.01)
        assert sorted(listener.speech[-3:]) == [opus(4), opus(5), opus(6)]
        assert listener.session.stats().retransmitted == 3, "each once, however often it was asked for"
        assert len(other.packets) - heard <= 1, "and to nobody else"


async def test_lost_packets_come_back_over_a_lossy_network(autojump_clock: MockClock) -> None:
    async with open_studio(Net(Impairment(delay_s=0.01), seed=4)) as studio:
        host = await studio.publisher("host")
        listener = await studio.listener()
        core = listener.peer.core
        assert core is not None
        studio.net.impairment.loss = 0.1
        first = len(listener.packets)

        def ask_for_missing(newest: int | None = None) -> tuple[set[int], int]:
            got = {packet.sequence for packet in listener.packets[first:]}
            newest = max(got, default=0) if newest is None else newest
            missing = set(range(min(got, default=0), newest)) - got
            if missing:
                core.send_rtcp([Nack(core.ssrc, studio.room.program.ssrc, tuple(missing)[:16])])
                listener.peer._flush(core)
            return missing, newest

        newest = 0
        for number in range(300):
            studio.room.receive_audio(host.session, host.next_packet(opus(number)), None)
            await trio.sleep(FRAME_S)
            _, newest = ask_for_missing()
        # What was lost at the very end, or whose repair was, is still within reach for a while.
        for _ in range(30):
            await trio.sleep(FRAME_S)
            missing, _ = ask_for_missing(newest)
        assert not missing
        # Not for each of some thirty lost ones: who loses so many is soon sent everything twice.
        assert listener.session.stats().retransmitted > 5


async def test_nobody_can_have_more_than_so_many_retransmissions(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        listener = await studio.listener()
        await trio.sleep(1.0)
        core = listener.peer.core
        assert core is not None
        newest = studio.room.program._next_sequence - 1
        greedy = Nack(core.ssrc, studio.room.program.ssrc, tuple((newest - n) & 0xFFFF for n in range(40)))
        for _ in range(20):
            core.send_rtcp([greedy])
        listener.peer._flush(core)
        await trio.sleep(0.01)
        assert listener.session.stats().retransmitted == REPAIRS_PER_S


async def test_nothing_from_before_a_listener_came_is_retransmitted_to_it(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        await trio.sleep(0.5)
        old = (studio.room.program._next_sequence - 5) & 0xFFFF
        listener = await studio.listener()
        core = listener.peer.core
        assert core is not None
        fanout = studio.room.fanout
        assert fanout._sent.find(old, now=trio.current_time()) is not None
        core.send_rtcp([Nack(core.ssrc, studio.room.program.ssrc, (old,))])
        listener.peer._flush(core)
        await trio.sleep(0.05)
        assert listener.session.stats().retransmitted == 0
