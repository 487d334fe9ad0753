"""Packets that were asked for again are waited for while there are many, and nobody waits for anything else."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lac_media.mix.arrivals import BEGIN_REPAIRS, REPAIR_TO_TICKS, REPAIR_WINDOW, Arrival, Arrivals
from lac_media.proto.opus import SILENCE_20MS_MONO
from lac_media.proto.rtp import RtpPacket
from lac_media.rooms.reorder import FALL, MAX_HELD, RISE, ReorderBuffer
from tests.mix.hearing import splatter
from tests.mix.show import RATE, Show, Speaker, sine
from tests.mix.test_changeover import GUEST_BEGINS, NO_CLICK, SETTLED, swelling

FRAME_S = 0.02
#: A tenth comes 85 ms late: lost twice on a network with a round trip of 40 ms.
TALKER = Speaker("a", sine(440), repaired=0.1, repair_s=0.085)
#: The wait has risen to all it has to be, whatever the random numbers.
SETTLE_S = 12.0


def places(show: Show, since_s: float) -> list[int]:
    """Of the packets that have gone out since then, the sequence numbers, in the order in which they went."""
    return [packet.sequence for packet in show.out if packet.sent_at >= 100.0 + since_s]


def out_of_order(numbers: list[int]) -> int:
    return sum((after - before) & 0xFFFF != 1 for before, after in pairwise(numbers))


def test_while_many_come_late_they_go_out_in_order_and_evenly() -> None:
    show = Show()
    show.start(TALKER)
    show.run(SETTLE_S)
    assert out_of_order(places(show, 1.0)) > 20, "nothing waits at first"
    show.run(20.0)
    assert out_of_order(places(show, SETTLE_S)) == 0
    gaps = [after.sent_at - before.sent_at for before, after in pairwise(show.out) if before.sent_at > 100.0 + SETTLE_S]
    assert max(gaps) < FRAME_S * 1.1
    assert show.director.timer_at() < show.now + 0.2, "there is something that waits"


def test_the_wait_comes_and_goes_so_slowly_that_listeners_can_follow() -> None:
    show = Show()
    talker = replace(TALKER)
    show.start(talker)
    show.run(SETTLE_S)
    talker.repaired = 0.0
    show.run(60.0)
    on_time = [packet.sent_at for packet in show.out if 101.0 < packet.sent_at < 100.0 + SETTLE_S]
    assert max(after - before for before, after in pairwise(on_time)) < 2.2 * FRAME_S
    held = [packet for packet in show.out if packet.sent_at > 100.0 + SETTLE_S]
    for before, after in pairwise(held):
        assert -FALL - 0.001 <= (after.sent_at - before.sent_at) / FRAME_S - 1 <= RISE + 0.001
    sent_last = show.out[-1]
    assert show.now - sent_last.sent_at < FRAME_S
    assert show.director._passing is not None
    assert show.director._passing.reorder.hold_ticks == 0.0, "given up again"
    assert show.director._passing.reorder.timer_at() == float("inf")


@pytest.mark.parametrize(
    "speaker",
    [
        replace(TALKER, repaired=0.0, jitter_s=0.015),
        replace(TALKER, repaired=0.3, repair_s=0.03),  # a copy in the next packet, a little reordering
        replace(TALKER, repaired=0.3, repair_s=0.4),  # no use in waiting for these
        replace(TALKER, repaired=0.01),  # few
        replace(TALKER, repaired=0.0, loss=0.2),  # nobody brings these back
    ],
    ids=["in order", "by little", "too late", "few", "lost for good"],
)
def test_otherwise_everything_goes_on_as_it_comes(speaker: Speaker) -> None:
    show = Show()
    show.start(speaker)
    show.run(30.0)
    assert show.director._passing is not None
    assert show.director._passing.reorder.hold_ticks == 0.0


def test_whoever_is_muted_is_not_heard_from_what_had_waited() -> None:
    show = Show()
    show.start(replace(TALKER))
    show.run(SETTLE_S)
    waiting = len(show.director._passing.reorder._held)  # type: ignore[union-attr]  # somebody passes
    assert waiting >= 3
    show.stop(TALKER)
    muted_at = show.now
    show.run(2.0)
    assert {packet.payload for packet in show.out if packet.sent_at > muted_at} == {SILENCE_20MS_MONO}


def test_going_over_to_the_mix_from_a_wait_is_not_heard_and_nothing_is_left_out() -> None:
    show = Show()
    host, guest = replace(TALKER), Speaker("b", swelling(1000), ssrc=2, delay_s=0.05)
    show.start(host)
    show.run(SETTLE_S)
    began = len(show.out)
    show.start(guest)
    show.run(GUEST_BEGINS + 3.0)
    assert show.director.is_mixing
    numbers = [packet.sequence for packet in show.out[began - 50 :]]
    assert out_of_order(numbers) == 0
    assert {after.ticks - before.ticks for before, after in pairwise(show.out[began - 50 :])} == {960}
    # Decoded from where the order is one: what comes in disorder before that would be heard in any case.
    heard = splatter(show.decoded(since=began - 100))
    assert max(heard[SETTLED:]) < NO_CLICK
    show.stop(guest)
    show.run(20.0)
    assert not show.director.is_mixing
    # Back again, what is as late as the mix was stays so: no burst, nothing out of order.
    after = show.out[began:]
    assert out_of_order([packet.sequence for packet in after]) == 0
    assert {later.ticks - before.ticks for before, later in pairwise(after)} == {960}
    assert max(later.sent_at - before.sent_at for before, later in pairwise(after)) < 3 * FRAME_S
    assert max(before.sent_at + 0.05 - later.sent_at for before, later in zip(after, after[5:], strict=False)) <= 0


def test_in_the_mix_repairs_are_waited_for_too() -> None:
    """Without it, 97 % of the packets would be enough."""
    show = Show()
    hosts = [replace(TALKER, name=name, ssrc=n, repaired=0.02) for n, name in enumerate("ab")]
    for host in hosts:
        show.start(host)
    show.run(20.0)
    channels = list(show.director._mix.channels.values())  # type: ignore[union-attr]  # two speak
    before = sum(channel.playout.concealed_ticks for channel in channels)
    show.run(30.0)
    assert sum(channel.playout.concealed_ticks for channel in channels) - before <= 0.002 * 60 * RATE


Steps = st.lists(
    st.tuples(st.floats(0.0, 0.03), st.sampled_from([0, 0, 0, 2, 5, 9, 30, -40])), min_size=20, max_size=400
)


@given(Steps)
def test_each_packet_goes_on_once_and_in_time_whatever_comes(steps: list[tuple[float, int]]) -> None:
    """By how many packets each is behind its place, at what intervals they come; leaps of the encoder too."""
    arrivals = Arrivals()
    buffer = ReorderBuffer(arrivals)
    now, came, went = 50.0, {}, {}

    def send(out: list) -> None:
        for arrival in out:
            assert id(arrival) not in went
            went[id(arrival)] = now
            assert now - came[id(arrival)][0] <= REPAIR_TO_TICKS / RATE + 0.1

    for number, (pause, behind) in enumerate(steps):
        until = now + pause
        while buffer.timer_at() <= until:
            now = max(now, buffer.timer_at())
            send(buffer.handle_timer(now=now))
            assert buffer.timer_at() > now
        now = until
        place = number - behind
        arrival = arrivals.place(
            RtpPacket(111, place & 0xFFFF, (place * 960) & 0xFFFF_FFFF, 1, payload=SILENCE_20MS_MONO), None, now=now
        )
        assert arrival is not None
        came[id(arrival)] = (now, arrival)
        send(buffer.receive(arrival, now=now))
        assert len(buffer._held) <= MAX_HELD
    for arrival in buffer.take_all():
        assert id(arrival) not in went
        went[id(arrival)] = now
    assert went.keys() == came.keys()
    assert buffer.timer_at() == float("inf")


def test_no_more_waits_than_there_is_room_for() -> None:
    arrivals = Arrivals()
    buffer = ReorderBuffer(arrivals)

    def take(number: int, at: float) -> list[Arrival]:
        arrival = arrivals.place(packet(number), None, now=at)
        assert arrival is not None
        return buffer.receive(arrival, now=at)

    for number in range(REPAIR_WINDOW):
        if number % 10:
            take(number, number * FRAME_S)
        if number % 10 == 4:
            take(number - 4, number * FRAME_S)  # 80 ms late
    waiting = len(buffer._held)
    assert buffer.hold_ticks > 0
    # A sender who has been held up: all at once, and all of it has its time still to come.
    out = [arrival for number in range(REPAIR_WINDOW, REPAIR_WINDOW + 200) for arrival in take(number, 10.0)]
    assert len(buffer._held) <= MAX_HELD
    assert len(out) + len(buffer._held) == waiting + 200


def test_waiting_begins_with_enough_late_packets_and_ends_when_they_are_forgotten() -> None:
    arrivals, wait_at = Arrivals(), []
    for number in range(3 * REPAIR_WINDOW):
        late = number % 20 == 0 and 0 < number <= 20 * BEGIN_REPAIRS
        if late:
            continue
        arrivals.place(packet(number), None, now=number * FRAME_S)
        if number % 20 == 4 and 20 < number <= 20 * BEGIN_REPAIRS + 4:  # 80 ms later
            arrivals.place(packet(number - 4), None, now=number * FRAME_S)
        wait_at.append(arrivals.repair_wait)
    assert wait_at[0] == 0.0
    assert max(wait_at) == pytest.approx((0.08 + 0.005) * RATE)
    assert wait_at[20 * (BEGIN_REPAIRS - 2)] == 0.0
    assert wait_at[-1] == 0.0


def packet(number: int) -> RtpPacket:
    return RtpPacket(111, number, number * 960, 1, payload=SILENCE_20MS_MONO)
