"""What bad networks leave of a show, end to end in virtual time; and that nothing is left of the repair."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from lac_media.parameters import Variant
from lac_media.proto.ice import CONSENT_INTERVAL_S
from lac_media.rooms.room import REPEATED_AT_LEAST
from tests.fakes.impairment import Burst, Impairment
from tests.fakes.net import Net
from tests.media.bad_network import Ear, Misses, Talker, add_ear, add_talker
from tests.media.clients import Client, Studio, open_studio
from tests.media.test_sweeps import Remains, remember
from tests.sweep import sweep

#: Half a round trip, and what it varies by.
WAY_S, JITTER_S = 0.02, 0.005
#: The bar: of the audio, at a random loss of one in ten, both ways.
LOST_MAX = 0.005
#: In what time listeners may report, be given redundancy, and learn the round trip.
SETTLE_S = 8.0
#: Whoever comes from another address is known there after its next check.
FOLLOWED_S = CONSENT_INTERVAL_S + 0.5


def usual() -> Impairment:
    return Impairment(delay_s=WAY_S, jitter_s=JITTER_S)


def lose_a_tenth(network: Impairment) -> None:
    network.loss = 0.1


def lose_bursts(network: Impairment) -> None:
    network.burst = Burst(0.1, 4.0)


async def misses(
    talker: Talker, ears: list[Ear], networks: list[Impairment], spoil: Callable[[Impairment], None], seconds: float
) -> list[Misses]:
    """A stretch on spoiled networks, after they have become used to it."""
    await talker.talk(1)
    for network in networks:
        spoil(network)
    await talker.talk(SETTLE_S)
    first = talker.count
    await talker.talk(seconds)
    last = talker.count
    for network in networks:
        network.loss, network.burst = 0.0, None
    await talker.talk(1)
    return [ear.misses(first, last) for ear in ears]


async def test_at_ten_percent_loss_both_ways_half_a_percent_is_missing_at_most(autojump_clock: MockClock) -> None:
    """Of what can be played: a frame that comes more than 0.2 s late is lost, too."""
    async with open_studio(Net(usual())) as studio:
        bad = usual()
        talker = await add_talker(studio, nack=True, red=False)
        plain = await add_ear(studio, bad, nack=False, red=False, redundancy=False)
        asking = await add_ear(studio, bad, nack=True, red=False, redundancy=False)
        with_red = await add_ear(studio, bad, nack=True, red=True)
        again = await add_ear(studio, bad, nack=True, red=False)
        ears = [plain, asking, with_red, again]
        without, nack_alone, *with_both = await misses(talker, ears, [bad], lose_a_tenth, 60)
        assert 0.07 < without.share < 0.13
        assert nack_alone.never == 0
        assert nack_alone.share <= LOST_MAX
        for missed in with_both:
            assert missed.never == 0
            assert missed.share <= LOST_MAX / 2
        variants = [ear.client.session.stats().variant for ear in ears[2:]]
        assert variants == [Variant.OPUS_RED, Variant.OPUS_AGAIN]
        for ear in ears[2:]:
            # Asked for once, when it is overdue; the copy mostly keeps it from being asked for again.
            assert ear.client.session.retransmitted < asking.client.session.retransmitted * 0.75


async def test_a_server_that_is_late_or_a_whole_audience_that_loses_is_spared_repetition(
    autojump_clock: MockClock,
) -> None:
    async with open_studio(Net(usual())) as studio:
        bad = usual()
        talker = await add_talker(studio, nack=True, red=False)
        ears = [await add_ear(studio, bad, nack=True, red=False) for _ in range(REPEATED_AT_LEAST + 5)]
        bad.loss = 0.15
        await talker.talk(SETTLE_S)
        by_variant = studio.room.fanout.listeners_by_variant
        assert (by_variant[Variant.OPUS_AGAIN], by_variant[Variant.OPUS]) == (REPEATED_AT_LEAST, 5)
        studio.engine.load.overloaded = True
        await talker.talk(5)
        assert by_variant[Variant.OPUS_AGAIN] == 0
        assert not any(ear.client.session.closed for ear in ears)


@pytest.mark.parametrize("red", [False, True], ids=["nack", "both"])
async def test_what_a_publisher_loses_is_missing_for_nobody(autojump_clock: MockClock, red: bool) -> None:
    async with open_studio(Net(usual())) as studio:
        bad = usual()
        talker = await add_talker(studio, bad, nack=True, red=red)
        ear = await add_ear(studio, nack=False, red=False)
        (missed,) = await misses(talker, [ear], [bad], lose_a_tenth, 30)
        assert missed.never == 0
        assert missed.share <= LOST_MAX


async def test_a_publisher_without_copies_is_held_back_and_heard_in_order(autojump_clock: MockClock) -> None:
    """What is lost and asked for again, twice if need be, is there when its turn comes."""
    async with open_studio(Net(usual())) as studio:
        bad = usual()
        talker = await add_talker(studio, bad, nack=True, red=False)
        ear = await add_ear(studio, nack=False, red=False)
        await misses(talker, [ear], [bad], lose_a_tenth, 60)
        in_disorder = ear.out_of_order(50, 450), ear.out_of_order(1000, 3000)
        assert in_disorder[0] > 20, "the wait has to begin"
        assert in_disorder[1] <= LOST_MAX * 2000


async def test_with_bad_networks_at_both_ends_almost_all_is_there_in_the_end(autojump_clock: MockClock) -> None:
    async with open_studio(Net(usual())) as studio:
        networks = [usual(), usual()]
        talker = await add_talker(studio, networks[0], nack=True, red=True)
        ear = await add_ear(studio, networks[1], nack=True, red=True)
        (missed,) = await misses(talker, [ear], networks, lose_a_tenth, 30)
        assert missed.never == 0
        assert missed.share <= 2 * LOST_MAX


async def test_bursts_are_repaired_later_but_repaired(autojump_clock: MockClock) -> None:
    async with open_studio(Net(usual())) as studio:
        bad = usual()
        talker = await add_talker(studio, nack=True, red=False)
        ears = [await add_ear(studio, bad, nack=nack, red=False, redundancy=False) for nack in (False, True)]
        without, with_nack = await misses(talker, ears, [bad], lose_bursts, 30)
        assert without.share > 0.06
        assert with_nack.never <= 2
        assert with_nack.share < without.share / 3


async def test_reordering_and_duplicates_cost_nothing(autojump_clock: MockClock) -> None:
    async with open_studio(Net(usual())) as studio:
        networks = [usual(), usual()]
        talker = await add_talker(studio, networks[0], nack=True, red=False)
        ear = await add_ear(studio, networks[1], nack=True, red=False)

        def shuffle(network: Impairment) -> None:
            network.reorder, network.reorder_s, network.duplicate = 0.3, 0.06, 0.2

        (missed,) = await misses(talker, [ear], networks, shuffle, 20)
        assert missed.share == 0.0


async def test_a_narrow_network_delays_and_loses_and_the_rest_goes_on(autojump_clock: MockClock) -> None:
    """Less than a listener needs: what does not fit is lost, and nobody else notices."""
    async with open_studio(Net(usual())) as studio:
        narrow = usual()
        talker = await add_talker(studio, nack=True, red=False)
        ears = [await add_ear(studio, network, nack=True, red=True) for network in (narrow, None)]

        def narrow_it(network: Impairment) -> None:
            network.rate_bps, network.queue_bytes = 15_000, 2_000

        starved, other = await misses(talker, ears, [narrow], narrow_it, 20)
        assert other.share == 0.0
        assert starved.share > 0.1
        narrow.rate_bps = None
        await talker.talk(SETTLE_S)
        first = talker.count
        await talker.talk(5)
        assert ears[0].misses(first, talker.count - 5).share == 0.0
        assert not ears[0].client.session.closed


async def test_asking_does_not_make_a_full_network_fuller(autojump_clock: MockClock) -> None:
    """The publisher's network carries five of six packets; a question that is answered takes somebody else's room."""
    never = []
    for nack in (False, True):
        async with open_studio(Net(usual())) as studio:
            narrow = usual()
            talker = await add_talker(studio, narrow, nack=nack, red=False)
            ear = await add_ear(studio, nack=False, red=False)
            narrow.rate_bps, narrow.queue_bytes = 20_000, 2_000
            await talker.talk(5)
            first = talker.count
            await talker.talk(20)
            missed = ear.misses(first, talker.count - 100)
            never.append(missed.never / missed.frames)
    without, with_nack = never
    assert without > 0.05
    assert with_nack < without + 0.05


# Networks that go and come


def move(studio: Studio, client: Client) -> None:
    """The client goes on from another address, without a word of signalling and without noticing."""
    old = client.peer.socket
    client.peer.socket = studio.net.open_socket("203.0.113.77")
    old.close()


@pytest.mark.parametrize("who", ["publisher", "listener"])
async def test_whoever_changes_networks_is_heard_and_hears_again(autojump_clock: MockClock, who: str) -> None:
    async with open_studio(Net(usual())) as studio:
        talker = await add_talker(studio, nack=True, red=False)
        ear = await add_ear(studio, nack=True, red=False)
        await talker.talk(2)
        client = talker.client if who == "publisher" else ear.client
        before = client.session._core.remote_address
        move(studio, client)
        await talker.talk(FOLLOWED_S)
        first = talker.count
        await talker.talk(3)
        assert client.session._core.remote_address != before
        assert ear.misses(first, talker.count - 5).share == 0.0
        assert not client.session.closed
        assert studio.room.fanout.listeners == 1


@pytest.mark.parametrize("seconds", [5.0, 25.0])
async def test_after_a_blackout_it_goes_on_at_once(autojump_clock: MockClock, seconds: float) -> None:
    async with open_studio(Net(usual())) as studio:
        networks = [usual(), usual()]
        talker = await add_talker(studio, networks[0], nack=True, red=False)
        ear = await add_ear(studio, networks[1], nack=True, red=False)
        await talker.talk(2)
        dark_until = trio.current_time() + seconds
        for network in networks:
            network.dark_until = dark_until
        await talker.talk(seconds)
        first = talker.count
        await talker.talk(3)
        back_at = min(at for at in ear.arrivals.values() if at > dark_until)
        assert back_at - dark_until < 0.2
        # Not the first one, which may have gone out with the last moment of the dark.
        assert ear.misses(first + 1, talker.count - 5).share == 0.0
        assert studio.engine.counters.peer_failures == 0


# Ends


def test_cancelled_anywhere_nothing_is_left_of_repair_restart_and_moves() -> None:
    """Loss, NACK both ways, redundancy, an ICE restart, a new address, a blackout: all at once, and cut short."""
    remains = Remains()

    async def scenario() -> None:
        remains.begin()
        remains.net = Net(Impairment(delay_s=0.005))
        async with open_studio(remains.net) as studio:
            remember(remains, studio)
            bad = Impairment(delay_s=0.005)
            talker = await add_talker(studio, bad, nack=True, red=True)
            ear = await add_ear(studio, bad, nack=True, red=True)
            bad.loss = 0.3
            await talker.talk(0.1)
            for client in (talker.client, ear.client):
                client.session.restart_ice()
            bad.dark_until = trio.current_time() + 0.04
            await talker.talk(0.06)
            move(studio, ear.client)
            core = ear.client.peer.core
            assert core is not None
            core.ice.check_now(now=trio.current_time())  # type: ignore[union-attr]  # the controlling side
            await talker.talk(0.06)
            ear.client.peer.close()
            await talker.talk(0.02)

    assert sweep(scenario, remains.check) > 100
