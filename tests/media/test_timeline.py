"""The unbroken line that recordings carry: exact to the clock, whatever came over the network."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from lac_media.proto.opus import SILENCE_20MS_STEREO
from lac_media.rooms.timeline import HOLD_BACK_TICKS, ClockFollower, Piece, Timeline

FRAME = 960
AUDIO = b"\xfc\x01\x02"


def check_unbroken(pieces: list[Piece], start: int = 0) -> None:
    position = start
    for piece in pieces:
        assert piece.ticks == position
        position += piece.duration_ticks


def gaps(pieces: list[Piece]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for piece in pieces:
        if piece.is_gap:
            if merged and sum(merged[-1]) == piece.ticks:
                merged[-1] = (merged[-1][0], merged[-1][1] + piece.duration_ticks)
            else:
                merged.append((piece.ticks, piece.duration_ticks))
    return merged


def test_packets_in_order_pass_at_once() -> None:
    line = Timeline(0)
    for number in range(5):
        assert [piece.payload for piece in line.receive(number * FRAME, AUDIO)] == [AUDIO]


def test_a_packet_that_was_overtaken_finds_its_place() -> None:
    line = Timeline(0)
    pieces = [*line.receive(0, AUDIO), *line.receive(2 * FRAME, b"\xfc3"), *line.receive(FRAME, b"\xfc2")]
    assert [piece.payload for piece in pieces] == [AUDIO, b"\xfc2", b"\xfc3"]


def test_a_lost_packet_becomes_silence_of_its_length_once_it_is_too_late() -> None:
    line = Timeline(0)
    pieces = list(line.receive(0, AUDIO))
    for number in range(2, 40):
        pieces += line.receive(number * FRAME, AUDIO)
    check_unbroken(pieces)
    assert gaps(pieces) == [(FRAME, FRAME)]
    assert list(line.receive(FRAME, AUDIO)) == []
    assert line.late == 1


def test_absence_becomes_silence_as_the_clock_goes_on() -> None:
    line = Timeline(0)
    pieces = [*line.receive(0, AUDIO), *line.advance(10 * 48_000)]
    check_unbroken(pieces)
    assert line.position == 10 * 48_000 - HOLD_BACK_TICKS
    pieces += line.receive(10 * 48_000, AUDIO)
    pieces += line.end(11 * 48_000)
    check_unbroken(pieces)
    assert gaps(pieces) == [(FRAME, 10 * 48_000 - FRAME), (10 * 48_000 + FRAME, 48_000 - FRAME)]


def test_what_is_not_opus_is_counted_and_leaves_a_gap() -> None:
    line = Timeline(0)
    pieces = [*line.receive(0, AUDIO), *line.receive(FRAME, b"\xff\x00"), *line.end(3 * FRAME)]
    assert line.malformed == 1
    assert gaps(pieces) == [(FRAME, 2 * FRAME)]


@settings(max_examples=200)
@given(st.data())
def test_the_line_never_breaks_whatever_comes(data: st.DataObject) -> None:
    line = Timeline(0)
    pieces: list[Piece] = []
    clock = 0
    for _ in range(data.draw(st.integers(1, 60))):
        clock += data.draw(st.sampled_from([0, 100, FRAME, FRAME, FRAME, 5000, 100_000]))
        if data.draw(st.booleans()):
            ticks = max(0, clock - data.draw(st.integers(0, 30_000)))
            pieces += line.receive(
                ticks, data.draw(st.sampled_from([AUDIO, SILENCE_20MS_STEREO, b"\xe0\x00", b"\xfb\x03"]))
            )
        else:
            pieces += line.advance(clock)
    pieces += line.end(clock + 10_000)
    check_unbroken(pieces)
    assert line.position > clock + 10_000 - 120


def follow(ppm: float, *, jitter_s: float, seconds: int, quiet_every: int = 0) -> tuple[int, ClockFollower]:
    """The worst error in ticks between where packets are placed and when they were spoken."""
    rng = random.Random(1)
    follower = ClockFollower()
    worst = 0
    for number in range(seconds * 50):
        ticks = number * FRAME
        spoken_at = ticks / 48_000 / (1 + ppm / 1e6)
        quiet = quiet_every > 0 and number % quiet_every == 0
        placed = follower.place(ticks, quiet=quiet, now=1000 + spoken_at + 0.03 + rng.expovariate(1) * jitter_s)
        if number > 500:
            worst = max(worst, abs(placed - round(spoken_at * 48_000)))
    return worst, follower


def test_after_an_hour_with_a_clock_that_is_wrong_the_error_is_below_20_ms() -> None:
    for ppm in (-300, -50, 50, 300):
        worst, follower = follow(ppm, jitter_s=0.01, seconds=3600)
        assert worst < 20 * 48, f"{ppm} ppm: {worst / 48:.1f} ms"
        assert follower.shifts <= 3600 * abs(ppm) / 1e6 / 0.010 + 2


def test_pauses_are_used_to_set_the_clock() -> None:
    worst, follower = follow(200, jitter_s=0.005, seconds=1200, quiet_every=100)
    assert worst < 10 * 48
    assert follower.shifts > 0


def test_a_clock_that_is_right_is_left_alone_on_a_restless_network() -> None:
    worst, follower = follow(0, jitter_s=0.04, seconds=600)
    assert follower.shifts == 0
    assert worst == 0
