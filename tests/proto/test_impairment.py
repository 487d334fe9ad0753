"""The network that tests are run on is as bad as it says, and the same for the same seed."""

from __future__ import annotations

from itertools import groupby, pairwise

import pytest

from tests.fakes.impairment import Burst, Impairment, Path

FRAME_S = 0.02
SIZE = 100


def run(impairment: Impairment, count: int = 20_000, *, seed: int = 1) -> list[list[float]]:
    path = Path(impairment, seed)
    return [path.arrivals(SIZE, now=number * FRAME_S) for number in range(count)]


def test_the_same_seed_is_the_same_network() -> None:
    bad = Impairment(
        loss=0.1, burst=Burst(0.1), duplicate=0.1, delay_s=0.03, jitter_s=0.02, reorder=0.1, rate_bps=100_000
    )
    assert run(bad, 500) == run(bad, 500)
    assert run(bad, 500) != run(bad, 500, seed=2)


def test_random_loss_has_its_share_and_no_memory() -> None:
    lost = [not arrivals for arrivals in run(Impairment(loss=0.1))]
    assert sum(lost) / len(lost) == pytest.approx(0.1, abs=0.01)
    after_a_loss = [later for earlier, later in pairwise(lost) if earlier]
    assert sum(after_a_loss) / len(after_a_loss) == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize(("share", "length"), [(0.05, 3.0), (0.1, 5.0), (0.2, 8.0)])
def test_burst_loss_has_its_share_and_its_length(share: float, length: float) -> None:
    lost = [not arrivals for arrivals in run(Impairment(burst=Burst(share, length)), 60_000)]
    assert sum(lost) / len(lost) == pytest.approx(share, rel=0.15)
    runs = [len(list(group)) for value, group in groupby(lost) if value]
    assert sum(runs) / len(runs) == pytest.approx(length, rel=0.1)


def test_duplicates_come_twice() -> None:
    counts = [len(arrivals) for arrivals in run(Impairment(duplicate=0.2, delay_s=0.01))]
    assert set(counts) == {1, 2}
    assert counts.count(2) / len(counts) == pytest.approx(0.2, abs=0.02)


def test_jitter_delays_and_keeps_the_order() -> None:
    times = [at for arrivals in run(Impairment(delay_s=0.05, jitter_s=0.1)) for at in arrivals]
    assert times == sorted(times)
    delays = [at - number * FRAME_S for number, at in enumerate(times)]
    assert min(delays) >= 0.05
    assert max(delays) > 0.14


def test_reordering_lets_others_overtake() -> None:
    times = [at for arrivals in run(Impairment(delay_s=0.05, reorder=0.1, reorder_s=0.1)) for at in arrivals]
    overtaken = sum(earlier > later for earlier, later in pairwise(times))
    assert overtaken / len(times) == pytest.approx(0.08, abs=0.02)
    assert max(at - number * FRAME_S for number, at in enumerate(times)) < 0.15 + 1e-6


def test_a_bottleneck_queues_what_it_can_and_loses_the_rest() -> None:
    """40,000 bit/s offered, 20,000 taken, half a second of it waiting."""
    arrivals = run(Impairment(rate_bps=20_000, queue_bytes=1_250), 2_000)
    times = [at for copies in arrivals for at in copies]
    assert len(times) == pytest.approx(1_000, abs=20)
    assert all(later - earlier == pytest.approx(0.04) for earlier, later in pairwise(times))
    waits = [copies[0] - number * FRAME_S for number, copies in enumerate(arrivals) if copies]
    assert max(waits) == pytest.approx(0.5, abs=0.05)


def test_nothing_gets_through_a_blackout_and_everything_after_it() -> None:
    impairment = Impairment(delay_s=0.01, dark_until=5.0)
    arrived = [bool(arrivals) for arrivals in run(impairment, 500)]
    assert arrived == [False] * 250 + [True] * 250


def test_a_change_counts_from_the_next_datagram() -> None:
    impairment = Impairment(loss=1.0)
    path = Path(impairment, 1)
    assert path.arrivals(SIZE, now=0.0) == []
    impairment.loss = 0.0
    assert path.arrivals(SIZE, now=0.0) == [0.0]
    assert (path.passed, path.lost) == (1, 1)
