"""One track on a disk that fails: what can be kept is kept, and the rest is silence of the right length, and listed."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from lac.recordings.model import Failure
from lac.recordings.tape import FIRST_RETRY_S, LAST_RETRY_S, Batch, Origin, Tape
from lac_media.rooms.tap import TappedPacket
from tests.recordings.disk import no_file_beyond
from tests.recordings.room import FRAME, opus, positions

#: Of the monotonic clock, and of media time.
BEGAN_AT, BEGAN_TICKS = 100.0, 48_000


def frames(first: int, count: int, *, late_s: float = 0.01) -> list[TappedPacket]:
    """Frame n belongs at n times 20 ms."""
    return [
        TappedPacket(number, BEGAN_TICKS + number * FRAME, BEGAN_AT + number * 0.02 + late_s, opus(number), 30)
        for number in range(first, first + count)
    ]


class Recorder:
    """Writes every half second what came in it."""

    def __init__(self, directory: Path, person_id: str | None = None) -> None:
        name = "program.ogg" if person_id is None else "speakers/1-ada.ogg"
        self.path = directory / name
        self.tape = Tape(directory, name, Origin(BEGAN_TICKS, BEGAN_AT), 7, title="A show", person_id=person_id)
        self.at_s = 0.0

    def record(self, seconds: float, *, source: int = 0) -> None:
        for _ in range(round(seconds * 2)):
            batch = Batch(self.tape, source, frames(round(self.at_s * 50), 25), 0)
            self.at_s += 0.5
            self.tape.write([batch], now=BEGAN_AT + self.at_s)

    def end(self) -> None:
        self.tape.end([], now=BEGAN_AT + self.at_s)


def decoded_s(path: Path) -> float:
    with av.open(str(path)) as container:
        return sum(frame.samples for frame in container.decode(audio=0)) / 48_000


def test_what_comes_is_in_the_file_within_the_second_in_which_it_came(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.record(5)
    found, _ = positions(recorder.path.read_bytes())
    assert max(found.values()) > 5 - 0.3
    recorder.end()
    assert recorder.tape.info().closed
    assert abs(decoded_s(recorder.path) - 5) < 0.02


def test_a_full_disk_costs_what_came_while_it_was_full_and_nothing_before_or_after(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.record(4)
    with no_file_beyond(recorder.path.stat().st_size + 100):
        recorder.record(6)
        assert recorder.tape.failure is Failure.DISK_FULL
    recorder.record(LAST_RETRY_S + 5)
    assert recorder.tape.failure is None
    recorder.end()
    info = recorder.tape.info()
    assert info.closed
    assert recorder.tape.interruptions == 1
    first, second = info.segments
    assert (first.start_s, second.cause) == (0.0, Failure.DISK_FULL)
    assert second.lost_from_s is not None
    assert 3.5 < second.lost_from_s <= 4.5
    assert 10 - 0.5 < second.start_s < 10 + LAST_RETRY_S + 1
    assert recorder.tape.lost_s == second.start_s - second.lost_from_s
    assert info.unwritten > 0
    found, duration_s = positions(recorder.path.read_bytes())
    assert duration_s == pytest.approx(recorder.at_s, abs=0.02)
    numbers = {number: found[opus(number)] for number in range(round(recorder.at_s * 50)) if opus(number) in found}
    for number, position in numbers.items():
        assert position == pytest.approx(number * 0.02 + 0.01, abs=0.02)
    lost = [number for number in range(round(recorder.at_s * 50)) if number not in numbers]
    assert lost == list(range(lost[0], lost[-1] + 1))
    assert lost[0] * 0.02 == pytest.approx(second.lost_from_s, abs=0.03)
    gap = next(gap for gap in info.gaps if gap.start_s == second.lost_from_s)
    assert gap.start_s + gap.duration_s == pytest.approx(lost[-1] * 0.02 + 0.03, abs=0.03)
    assert abs(decoded_s(recorder.path) - recorder.at_s) < 0.02


def test_a_disk_that_stays_full_leaves_what_can_be_played(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.record(4)
    with no_file_beyond(recorder.path.stat().st_size + 100):
        recorder.record(3)
        recorder.end()
    info = recorder.tape.info()
    assert (info.closed, info.failure) == (False, Failure.DISK_FULL)
    assert 3.5 < decoded_s(recorder.path) < 5


def test_a_disk_that_is_full_from_the_beginning_costs_the_beginning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`capsys`: what is logged must not go to a file now."""
    recorder = Recorder(tmp_path)
    with no_file_beyond(10):
        recorder.record(2)
        assert recorder.tape.failure is Failure.DISK_FULL
    recorder.record(2 * FIRST_RETRY_S + 3)
    recorder.end()
    info = recorder.tape.info()
    assert info.closed
    assert info.segments[1].lost_from_s == 0
    assert abs(decoded_s(recorder.path) - recorder.at_s) < 0.02


def test_another_error_of_the_disk_is_called_one(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "a" / "b")
    recorder.record(1)
    assert recorder.tape.failure is Failure.DISK_ERROR
    (tmp_path / "a").mkdir()
    recorder.record(5)
    recorder.end()
    assert recorder.tape.info().closed


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    recorder = Recorder(tmp_path)
    recorder.record(1)
    with no_file_beyond(recorder.path.stat().st_size):
        recorder.record(4)
    recorder.record(4)
    recorder.end()
    recorder.end()
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_a_person_who_comes_back_in_another_session_goes_on_on_the_same_track(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "ada")
    recorder.record(2, source=1)
    recorder.at_s += 3
    late = Batch(recorder.tape, 1, frames(1000, 5), 0)
    other_clock = [
        TappedPacket(number, 77_000_000 + number * FRAME, BEGAN_AT + 5 + number * 0.02, opus(5000 + number), None)
        for number in range(50)
    ]
    recorder.at_s += 1
    recorder.tape.write([Batch(recorder.tape, 2, other_clock, 0), late], now=BEGAN_AT + recorder.at_s)
    recorder.end()
    found, duration_s = positions(recorder.path.read_bytes())
    assert duration_s == pytest.approx(6, abs=0.02)
    assert found[opus(5000)] == pytest.approx(5, abs=0.01)
    assert found[opus(5049)] == pytest.approx(5.98, abs=0.01)
    assert opus(1000) not in found, "what an ended session still had is not mixed in"
    assert [(gap.start_s, gap.duration_s) for gap in recorder.tape.info().gaps] == [
        (pytest.approx(0, abs=0.02), pytest.approx(0.01, abs=0.02)),
        (pytest.approx(2.01, abs=0.02), pytest.approx(2.99, abs=0.03)),
    ]


def test_an_encoder_whose_timestamps_leap_is_put_back_on_the_clock(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "ada")
    recorder.record(2, source=1)
    leapt = [
        TappedPacket(number, -9_000_000 + number * FRAME, BEGAN_AT + 2 + number * 0.02, opus(7000 + number), None)
        for number in range(50)
    ]
    recorder.at_s += 1
    recorder.tape.write([Batch(recorder.tape, 1, leapt, 0)], now=BEGAN_AT + recorder.at_s)
    recorder.end()
    found, duration_s = positions(recorder.path.read_bytes())
    assert duration_s == pytest.approx(3, abs=0.02)
    assert found[opus(7049)] == pytest.approx(2.98, abs=0.02)
