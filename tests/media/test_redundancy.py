"""Who gets redundancy: those who lose packets, not for longer, and not those whom it harms."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from lac_media.parameters import OPUS_PAYLOAD_TYPE, ConsumerParameters, ProducerParameters, Variant
from lac_media.proto.rtcp import ReceiverReport, ReportBlock
from lac_media.rooms.redundancy import BACK_OFF_S, MAX_STAY_S, RETURN_S, STAY_S, RedundancyChooser
from tests.fakes.impairment import Impairment
from tests.fakes.net import Net
from tests.media.clients import open_studio, opus

INTERVAL_S = 5.0
PACKETS = 250


class Reporter:
    """A listener's reports, one every five seconds."""

    def __init__(
        self,
        *,
        asks_again: bool = False,
        round_trip_s: float | None = None,
        highest: int = 0,
        redundant: Variant = Variant.OPUS_RED,
    ) -> None:
        self.chooser = RedundancyChooser(asks_again=asks_again, redundant=redundant)
        self.round_trip_s = round_trip_s
        self.now = 0.0
        self.highest = highest
        self.repaired = 0
        self.history: list[Variant] = []
        self.allowed = True
        self.report(0.0)  # where to begin

    def report(self, loss: float, *, repaired: float = 0.0, packets: int = PACKETS) -> Variant:
        """`loss` and `repaired` are ratios: of what never came, and of what came because it was asked for."""
        self.now += INTERVAL_S
        self.highest = (self.highest + packets) & 0xFFFF_FFFF
        self.repaired += round(repaired * packets)
        block = ReportBlock(1, min(255, int(loss * 256)), 0, self.highest, 0)
        variant = self.chooser.report(
            block, round_trip_s=self.round_trip_s, repaired=self.repaired, now=self.now, allowed=self.allowed
        )
        assert variant is self.chooser.variant
        self.history.append(variant)
        return variant

    def go_on(self, loss: float, seconds: float, *, repaired: float = 0.0) -> Variant:
        for _ in range(round(seconds / INTERVAL_S)):
            self.report(loss, repaired=repaired)
        return self.chooser.variant

    @property
    def switches(self) -> int:
        return sum(a is not b for a, b in pairwise(self.history))


def test_loss_brings_redundancy_with_the_next_report_and_its_end_takes_it_away() -> None:
    listener = Reporter()
    assert listener.go_on(0.0, 60) is Variant.OPUS
    assert listener.report(0.1) is Variant.OPUS_RED
    assert listener.go_on(0.1, 60) is Variant.OPUS_RED
    assert listener.go_on(0.0, 90) is Variant.OPUS
    assert listener.switches == 2


def test_what_repetition_hides_is_reckoned_with() -> None:
    """Of music (each packet twice) one in a hundred shows where one in ten is lost."""
    listener = Reporter(redundant=Variant.OPUS_AGAIN)
    assert listener.report(0.1) is Variant.OPUS_AGAIN
    assert listener.go_on(0.01, 600) is Variant.OPUS_AGAIN
    assert listener.go_on(0.0, 90) is Variant.OPUS
    assert listener.switches == 2


@pytest.mark.parametrize("loss", [0.08, 0.1, 0.2])
def test_what_is_hidden_so_well_that_nothing_shows_for_long_is_believed_in_for_longer_each_time(loss: float) -> None:
    """Of speech, each packet three times, one in a thousand shows where one in ten is lost."""
    chance, listener = random.Random(3), Reporter(redundant=Variant.OPUS_AGAIN, asks_again=True, round_trip_s=0.05)
    for _ in range(12 * 60):  # an hour
        times = 3 if listener.chooser.variant is Variant.OPUS_AGAIN else 1
        listener.report(sum(chance.random() < loss**times for _ in range(PACKETS)) / PACKETS)
    without = listener.history.count(Variant.OPUS) * INTERVAL_S
    assert without < 0.06 * 3600
    assert listener.switches < 60


def test_questions_asked_before_the_repetition_came_are_not_taken_for_what_it_could_not_repair() -> None:
    """Chromium asks when the next packet is there, which is a moment before the repetition."""
    listener = Reporter(redundant=Variant.OPUS_AGAIN, asks_again=True, round_trip_s=0.05)
    assert listener.go_on(0.02, 10, repaired=0.1) is Variant.OPUS_AGAIN
    assert listener.go_on(0.005, 600, repaired=0.12) is Variant.OPUS_AGAIN
    assert listener.switches == 1
    assert listener.go_on(0.0, 120) is Variant.OPUS


def test_losses_that_come_together_are_not_blamed_on_repetition() -> None:
    """One in ten in bursts of four: of three packets 20 ms apart, all are lost in one case of twenty."""
    listener = Reporter(redundant=Variant.OPUS_AGAIN)
    assert listener.report(0.1) is Variant.OPUS_AGAIN
    assert listener.go_on(0.056, 60) is Variant.OPUS_AGAIN


def test_who_comes_back_soon_stays_longer_and_who_comes_late_does_not() -> None:
    def stay(listener: Reporter) -> float:
        assert listener.report(0.1) is Variant.OPUS_RED
        since = listener.now
        while listener.report(0.0) is Variant.OPUS_RED:
            assert listener.now - since <= 2 * MAX_STAY_S
        return listener.now - since

    listener = Reporter()
    stays = [stay(listener) for _ in range(6)]
    assert stays == sorted(stays)
    assert stays[-1] == stays[-2] == MAX_STAY_S
    assert listener.go_on(0.0, RETURN_S) is Variant.OPUS
    assert stay(listener) == stays[0]


def test_what_the_server_cannot_afford_ends_and_does_not_begin() -> None:
    listener = Reporter(redundant=Variant.OPUS_AGAIN)
    listener.allowed = False
    assert listener.go_on(0.1, 30) is Variant.OPUS
    listener.allowed = True
    assert listener.report(0.1) is Variant.OPUS_AGAIN
    listener.allowed = False
    assert listener.report(0.01) is Variant.OPUS
    assert listener.go_on(0.1, 120) is Variant.OPUS


def test_nobody_is_moved_back_at_once() -> None:
    listener = Reporter()
    listener.report(0.1)
    since = listener.now
    while listener.report(0.0) is Variant.OPUS_RED:
        pass
    assert listener.now - since >= STAY_S


def test_a_report_without_news_changes_nothing() -> None:
    listener = Reporter()
    assert listener.report(0.9, packets=0) is Variant.OPUS
    assert listener.report(0.9, packets=-1000) is Variant.OPUS, "numbers that go back: another beginning"
    assert listener.report(0.1) is Variant.OPUS_RED


def test_numbers_wrap() -> None:
    listener = Reporter(highest=0xFFFF_FFFF - PACKETS - 10)
    assert listener.report(0.1) is Variant.OPUS_RED
    assert listener.go_on(0.1, 30) is Variant.OPUS_RED


@pytest.mark.parametrize(
    ("asks_again", "round_trip_s", "wanted"),
    [
        (True, 0.03, Variant.OPUS),
        (True, 0.3, Variant.OPUS_RED),
        (True, None, Variant.OPUS_RED),
        (False, 0.03, Variant.OPUS_RED),
    ],
)
def test_who_is_repaired_quickly_needs_it_later(asks_again: bool, round_trip_s: float | None, wanted: Variant) -> None:
    listener = Reporter(asks_again=asks_again, round_trip_s=round_trip_s)
    assert listener.go_on(0.035, 120) is wanted
    assert listener.go_on(0.1, 30) is Variant.OPUS_RED


def test_what_was_lost_and_sent_again_counts_as_lost() -> None:
    """Reports do not show it: it has come in the end."""
    listener = Reporter(asks_again=True, round_trip_s=0.05)
    assert listener.go_on(0.0, 30, repaired=0.1) is Variant.OPUS_RED
    assert listener.go_on(0.0, 90) is Variant.OPUS


@pytest.mark.parametrize("loss", [0.001, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.05, 0.1, 0.2, 0.5])
def test_steady_random_loss_does_not_make_it_waver(loss: float) -> None:
    chance, listener = random.Random(5), Reporter()
    for _ in range(12 * 10):  # ten minutes
        listener.report(sum(chance.random() < loss for _ in range(PACKETS)) / PACKETS)
    assert listener.switches <= 4
    if loss <= 0.005:
        assert listener.chooser.variant is Variant.OPUS
    if loss >= 0.03:
        assert (listener.chooser.variant, listener.switches) == (Variant.OPUS_RED, 1)


def test_a_network_without_room_is_left_alone_for_a_while() -> None:
    listener = Reporter()
    assert listener.report(0.05) is Variant.OPUS_RED
    assert listener.go_on(0.3, 10) is Variant.OPUS, "twice the bytes have made it much worse"
    left_at = listener.now
    while listener.report(0.04) is Variant.OPUS:
        pass
    assert listener.now - left_at >= BACK_OFF_S - INTERVAL_S


@pytest.mark.parametrize("steady_s", [0, 60])
def test_a_network_that_gets_worse_by_itself_keeps_it(steady_s: int) -> None:
    listener = Reporter()
    listener.report(0.1)
    listener.go_on(0.1, steady_s)
    assert listener.go_on(0.5 if steady_s else 0.2, 120) is Variant.OPUS_RED


def test_a_loss_that_begins_within_a_report_is_not_blamed_on_redundancy() -> None:
    listener = Reporter()
    listener.report(0.02)
    assert listener.go_on(0.12, 120) is Variant.OPUS_RED
    assert listener.switches == 1


@given(
    st.lists(
        st.tuples(st.integers(0, 255), st.integers(0, 0xFFFF_FFFF), st.integers(0, 50), st.floats(0, 10)), max_size=60
    ),
    st.booleans(),
)
def test_whatever_a_peer_reports_it_is_moved_rarely(
    reports: list[tuple[int, int, int, float]], asks_again: bool
) -> None:
    chooser = RedundancyChooser(asks_again=asks_again)
    now, repaired, entered, before = 0.0, 0, list[float](), Variant.OPUS
    for fraction, highest, again, wait_s in reports:
        now, repaired = now + wait_s, repaired + again
        variant = chooser.report(
            ReportBlock(1, fraction, 0, highest, 0), round_trip_s=wait_s, repaired=repaired, now=now
        )
        if variant is Variant.OPUS_RED and before is Variant.OPUS:
            entered.append(now)
        before = variant
    assert all(b - a >= STAY_S for a, b in pairwise(entered))


# In a room


async def test_a_listener_who_loses_packets_ends_on_redundancy_and_hears_more(autojump_clock: MockClock) -> None:
    """And those who lose nothing, cannot take it, or save, are left as they are."""
    net = Net(Impairment(delay_s=0.03), seed=3)
    async with open_studio(net) as studio:
        able = ConsumerParameters(red_payload_type=63)
        host = await studio.publisher("host")
        lossy = await studio.listener(consumer=able)
        others = [
            await studio.listener(consumer=parameters)
            for parameters in (able, ConsumerParameters(), ConsumerParameters(red_payload_type=63, economy=True))
        ]
        core = lossy.peer.core
        assert core is not None
        core.expect_stream(ProducerParameters(OPUS_PAYLOAD_TYPE, audio_level_extension_id=10, red_payload_type=63))
        lossy_way = Impairment(delay_s=0.03, loss=0.1)
        net.own_networks[lossy.peer.socket.local_address[0]] = lossy_way  # both ways, reports included
        await host.talk(1, 400)
        assert [client.session.stats().variant for client in (lossy, *others)] == ["opus+red", "opus", "opus", "opus3"]
        assert studio.room.fanout.switched == 1
        assert studio.room.totals().listeners_by_variant == {Variant.OPUS: 2, Variant.OPUS_RED: 1, Variant.OPUS3: 1}
        lossy.events.clear()
        recovered = core.repair.recovered
        await host.talk(401, 500)
        await trio.sleep(0.2)
        missing = {opus(n) for n in range(401, 901)} - set(lossy.speech)
        assert core.repair.recovered - recovered > 20
        assert len(missing) < 0.04 * 500, "one in ten was lost, of those about one in ten for good"
        assert others[0].speech[-500:] == [opus(n) for n in range(401, 901)]

        for client in others:
            client.session.close("left")
        lossy_way.loss = 0.0
        await host.talk(1001, 3200)
        await trio.sleep(0.2)
        lossy.events.clear()
        await host.talk(5001, 500)
        await trio.sleep(0.2)
        assert lossy.session.stats().variant == "opus"
        assert lossy.speech == [opus(n) for n in range(5001, 5501)]


async def test_a_listener_who_consumes_anew_begins_anew(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        listener = await studio.listener(consumer=ConsumerParameters(red_payload_type=63))
        core = listener.peer.core
        assert core is not None

        def report(fraction: int, highest: int) -> None:
            core.send_rtcp([ReceiverReport(core.ssrc, (ReportBlock(ssrc, fraction, 0, highest, 0),))])
            listener.peer._flush(core)

        ssrc = studio.room.program.ssrc
        for highest in (100, 400):
            report(60, highest)
            await trio.sleep(0.1)
        assert listener.session.stats().variant == "opus+red"
        assert listener.session._consumer is not None
        listener.session.close_consumer(listener.session._consumer.id)
        report(60, 800)
        await trio.sleep(0.1)
        assert listener.session.stats().variant is None
        listener.session.consume(ConsumerParameters(red_payload_type=63))
        assert listener.session.stats().variant == "opus"
