"""Listeners who come and go leave nothing behind. `python -m benchmarks.soak` does the same for longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.soak import COUNTED, Remains, complaints, growth_kib, soak
from tests.e2e.server import running_server


def test_a_hundred_listeners_come_and_go_and_leave_nothing_behind(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        show_id = server.start_show(server.register("Hanna"))["id"]
        before, *_, after = soak(server, show_id, cycles=100, parts=2)
        assert server.metric("lac_media_sessions_closed_total") == 100
        assert after.counts == before.counts
        assert set(after.counts) == set(COUNTED)
        # Ten connections at a time, none of them left; the pool of the database may have grown.
        assert after.descriptors - before.descriptors <= server.metric("lac_db_threads") * 2


def remains(resident_kib: int, *, tasks: float = 27.0, descriptors: float = 17.0) -> Remains:
    return Remains({"lac_tasks": tasks, "lac_media_sessions": 0.0}, descriptors, resident_kib, 0.0)


def test_the_benchmark_tells_growth_from_warming_up() -> None:
    warming_up = [140_000, 143_000, 143_800, 143_900]
    flat = [remains(kib) for kib in (*warming_up, 143_950, 144_000, 144_050)]
    assert growth_kib(flat, 6000) == 50.0
    assert complaints(flat, 6000) == []
    growing = [remains(kib) for kib in (*warming_up, 144_050, 144_200, 144_350)]
    assert complaints(growing, 6000) == ["memory: more than 100 KiB for a thousand listeners"]


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (remains(140_000, tasks=28.0), "lac_tasks: 27 at first, 28 at the end"),
        (remains(140_000, descriptors=37.0), "20 descriptors since the warm-up"),
    ],
)
def test_the_benchmark_says_what_has_stayed(last: Remains, said: str) -> None:
    assert complaints([*(remains(140_000) for _ in range(6)), last], 6000) == [said]
