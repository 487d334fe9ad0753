"""Listeners who come and go leave nothing behind. `python -m benchmarks.soak` does the same for longer."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.__main__ import run_all
from benchmarks.soak import COUNTED, Remains, complaints, soak, soaked_server


def test_a_hundred_listeners_come_and_go_and_leave_nothing_behind() -> None:
    with soaked_server() as server:
        show_id = server.start_show(server.register("Hanna"))["id"]
        before, *_, after = soak(server, show_id, cycles=100, parts=2)
        assert server.metric("lac_media_sessions_closed_total") == 100
        assert after.counts == before.counts
        assert set(after.counts) == set(COUNTED)
        # Ten connections at a time, none of them left; the pool of the database may have grown.
        assert after.descriptors - before.descriptors <= server.metric("lac_db_threads") * 2
        assert after.blocks > 100_000
        assert after.heap_bytes > 1_000_000


def remains(part: float = 0.0, *, tasks: float = 27.0, descriptors: float = 17.0) -> Remains:
    """After so many parts of 2,000 listeners, of a server that keeps nothing of them."""
    counts = {"lac_tasks": tasks, "lac_media_sessions": 0.0}
    warm = 1 - 0.1**part
    return Remains(
        counts, descriptors, int(150_000 + 20_000 * warm), int(900_000 + 50_000 * warm), int(3e7 + 1e6 * warm), 0.0
    )


def found(change: Callable[[int, Remains], Remains]) -> list[Remains]:
    return [change(part, remains(part)) for part in range(7)]


def test_warming_up_and_noise_are_no_leak() -> None:
    """Resident memory as it was measured on a quiet machine, 93 KiB for a thousand; a cache that grows once, late."""
    resident = [150_000, 167_300, 168_400, 169_200, 169_400, 169_700, 169_760]
    noisy = found(lambda part, one: replace(one, resident_kib=resident[part], blocks=one.blocks + (-1) ** part * 300))
    assert complaints(noisy, 12_000) == []
    for late in (5, 6):
        step = found(
            lambda part, one, late=late: replace(
                one,
                resident_kib=one.resident_kib + 500 * (part >= late),
                heap_bytes=one.heap_bytes + 300_000 * (part >= late),
                blocks=one.blocks + 1500 * (part >= late),
            )
        )
        assert complaints(step, 12_000) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        # An object of 200 bytes for each listener is one block; the noise is the same as above.
        (lambda part, one: replace(one, blocks=one.blocks + 2000 * part + (-1) ** part * 300), "blocks of Python"),
        (lambda part, one: replace(one, heap_bytes=one.heap_bytes + 2000 * 200 * part), "200 bytes of the heap"),
        (lambda part, one: replace(one, resident_kib=one.resident_kib + 2 * 300 * part), "KiB resident"),
    ],
)
def test_what_is_kept_of_each_listener_is_a_leak(change: Callable[[int, Remains], Remains], said: str) -> None:
    (complaint,) = complaints(found(change), 12_000)
    assert said in complaint


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (remains(6, tasks=28.0), "lac_tasks: 27 at first, 28 at the end"),
        (remains(6, descriptors=37.0), "20 descriptors since the warm-up"),
    ],
)
def test_the_benchmark_says_what_has_stayed(last: Remains, said: str) -> None:
    assert complaints([*(remains(part) for part in range(6)), last], 12_000) == [said]


def test_a_benchmark_that_fails_does_not_keep_the_others_from_being_run(tmp_path: Path) -> None:
    def command(name: str, code: int) -> list[str]:
        script = f"import pathlib, sys; pathlib.Path({str(tmp_path / name)!r}).touch(); sys.exit({code})"
        return [sys.executable, "-c", script]

    failing = command("second", 3)
    assert run_all([command("first", 0), failing, command("third", 0)]) == [failing]
    assert {file.name for file in tmp_path.iterdir()} == {"first", "second", "third"}
