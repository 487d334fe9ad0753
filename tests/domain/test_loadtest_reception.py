"""What a listener of a load test counts, reports and asks for."""

from __future__ import annotations

import argparse
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lac.cli.loadtest import add_arguments
from lac.loadtest.plan import Plan
from lac.loadtest.reception import MAX_AGE_S, MAX_MISSING, MAX_TIMES, REORDER_WAIT_S, REPEAT_S, Copies, Reception, Tally
from lac.loadtest.results import Results
from lac_media.proto.reception import ReceptionStats
from lac_media.proto.red import build_red
from lac_media.proto.rtcp import SenderReport, ntp_from_unix, round_trip_s
from lac_media.proto.rtp import RtpPacket, encode_rtp

FRAME = 960


def after(first: int, numbers: list[int], *, asks: bool = False) -> Reception:
    reception = Reception(7, first & 0xFFFF, asks=asks)
    for number in numbers:
        reception.receive(number & 0xFFFF, now=0.0)
    return reception


@given(
    first=st.sampled_from([0, 100, 65_500, 65_535]),
    steps=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 40), st.booleans()), max_size=120),
)
def test_reports_say_what_the_servers_own_count_of_a_stream_would(
    first: int, steps: list[tuple[int, int, bool]]
) -> None:
    """Lost, late and double packets, and reports in between; SRTP keeps doubles away from that count."""
    ours, theirs = Reception(7, first), ReceptionStats(7)
    theirs.receive(first, 0, now=0.0)
    highest, seen = first, {first}
    for ahead, behind, reports in steps:
        highest += ahead
        for number in (highest, max(first, highest - behind)):
            counted = ours.receive(number & 0xFFFF, now=0.0)
            assert counted == (None if number in seen else number)
            if number not in seen:
                theirs.receive(number & 0xFFFF, 0, now=0.0)
                seen.add(number)
        if reports:
            said, expected = ours.report_block(unix_s=0.0), theirs.report_block(now=0.0)
            assert expected is not None
            assert (said.ssrc, said.fraction_lost, said.cumulative_lost, said.highest_sequence) == (
                expected.ssrc, expected.fraction_lost, expected.cumulative_lost, expected.highest_sequence
            )  # fmt: skip


def test_what_is_older_than_can_be_told_counts_as_lost() -> None:
    reception = after(0, [1000, 871])
    assert reception.since_mark() == Tally(expected=1001, received=2)


def test_a_measurement_counts_from_its_mark_on() -> None:
    reception = after(0, [1, 2, 5])
    reception.mark()
    assert reception.since_mark() == Tally()
    for number in (6, 9, 9, 8):
        reception.receive(number, now=0.0)
    assert reception.since_mark() == Tally(expected=4, received=3)


def test_the_round_trip_can_be_reckoned_from_reports() -> None:
    reception = after(0, [1])
    assert reception.report_block(unix_s=1000.0).lsr == 0
    reception.receive_sender_report(SenderReport(8, ntp_from_unix(999.0), 0, 1, 1), arrived_at=999.5)
    assert reception.report_block(unix_s=1000.0).lsr == 0, "of another stream"
    reception.receive_sender_report(SenderReport(7, ntp_from_unix(1000.0), 0, 1, 1), arrived_at=1000.03)
    block = reception.report_block(unix_s=1002.0)
    assert round_trip_s(ntp_from_unix(1002.02), block.lsr, block.dlsr) == pytest.approx(0.05, abs=0.001)


def test_jitter_is_as_the_server_measures_it() -> None:
    ours, theirs = Reception(7, 0), ReceptionStats(7)
    chance = random.Random(3)
    for number in range(100):
        at = 5.0 + number * 0.02 + chance.random() * 0.01
        ours.measure_jitter(number * FRAME, arrived_at=at)
        theirs.receive(number, number * FRAME, now=at)
    expected = theirs.report_block(now=8.0)
    assert expected is not None
    assert ours.report_block(unix_s=8.0).jitter == expected.jitter > 50


def test_what_is_missing_is_asked_for_until_it_comes() -> None:
    reception = after(65_530, [65_531, 65_534, 65_537], asks=True)
    assert reception.questions(now=REORDER_WAIT_S / 2) == [], "it may only be late"
    assert reception.receive(65_533, now=0.01) == 65_533
    assert reception.questions(now=REORDER_WAIT_S) == [65_532, 65_535, 0]
    assert reception.questions(now=REORDER_WAIT_S + 0.01) == []
    reception.receive(0, now=0.05)
    assert reception.questions(now=REORDER_WAIT_S + REPEAT_S) == [65_532, 65_535]
    reception.receive(65_532, now=0.13)
    reception.receive(65_535, now=0.13)
    assert not reception.is_missing_any
    assert reception.since_mark() == Tally(expected=8, received=8, asked=5, repaired=3)


def test_who_does_not_ask_has_no_questions() -> None:
    assert not after(0, [5, 9]).is_missing_any


def test_questions_come_to_an_end() -> None:
    reception = after(0, [2], asks=True)
    asked = [bool(reception.questions(now=step * 0.01)) for step in range(200)]
    assert 1 < sum(asked) <= MAX_TIMES
    assert not any(asked[int((MAX_AGE_S + REPEAT_S) * 100) :])
    assert not reception.is_missing_any


def test_of_an_outage_the_end_is_asked_for() -> None:
    reception = after(0, [5000], asks=True)
    assert reception.questions(now=1.0) == list(range(5000 - MAX_MISSING, 5000))


def red_packet(number: int, copies: int) -> bytes:
    redundant = [(FRAME * back, b"\x48" + bytes([number - back])) for back in range(copies, 0, -1)]
    payload = build_red(b"\x48" + bytes([number]), redundant, payload_type=111)
    return encode_rtp(RtpPacket(63, number, number * FRAME, 7, payload=payload))


def listen(arriving: list[int], copies: int = 2) -> tuple[Reception, list[int]]:
    """Who takes RED, and which packets it looked into."""
    reception, looked = Reception(7, arriving[0], asks=True), []
    red = Copies(reception, payload_type=111, red_payload_type=63)
    for number in arriving:
        counted = number if number == arriving[0] else reception.receive(number, now=0.0)
        if counted is not None and red.wants(counted):
            looked.append(number)
            red.look(counted, red_packet(number, copies))
    return reception, looked


def test_copies_make_up_for_what_is_missing_and_nothing_else_is_decrypted() -> None:
    reception, looked = listen([1, 2, 5, 6, 7, 9])
    assert looked == [5, 9]
    assert not reception.is_missing_any
    assert reception.since_mark() == Tally(expected=9, received=6, recovered=3)


def test_a_packet_that_comes_after_its_copy_counts_once() -> None:
    reception, _ = listen([1, 3, 2, 4])
    assert reception.since_mark() == Tally(expected=4, received=4)


def test_what_no_copy_covers_is_still_asked_for() -> None:
    reception, _ = listen([1, 6], copies=2)
    assert reception.questions(now=1.0) == [2, 3]


def test_beyond_a_pause_there_is_no_telling_which_packet_a_copy_is_of() -> None:
    reception = after(1, [4], asks=True)
    red = Copies(reception, payload_type=111, red_payload_type=63)
    frame = b"\x48\x01"
    payload = build_red(frame, [(FRAME * 6, frame), (FRAME, frame)], payload_type=111)
    red.look(4, encode_rtp(RtpPacket(63, 4, 9 * FRAME, 7, payload=payload)))
    assert reception.since_mark().recovered == 1
    assert reception.questions(now=1.0) == [2]


def test_malformed_copies_are_worth_nothing() -> None:
    reception = after(1, [3], asks=True)
    red = Copies(reception, payload_type=111, red_payload_type=63)
    red.look(3, encode_rtp(RtpPacket(63, 3, 3 * FRAME, 7, payload=b"\xef")))
    red.look(3, b"")
    red.look(3, b"\x90" + bytes(13) + b"\xff\xff")
    assert reception.is_missing_any


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_losses_are_spread_evenly(share: float) -> None:
    plan = Plan("http://127.0.0.1", listeners=400, lose=0.1, lossy=share)
    lossy = [plan.is_lossy(number) for number in range(400)]
    assert sum(lossy) == 400 * share
    assert sum(lossy[:100]) == 100 * share
    assert not any(Plan("http://127.0.0.1", lossy=share).is_lossy(number) for number in range(400))


def test_a_summary_says_why_listeners_were_refused_and_what_to_set() -> None:
    results = Results(mode="webrtc", url="http://127.0.0.1", wanted=1000, connected=100)
    results.failed.update({"use_hls": 900, "not_found": 1})
    text = "\n".join(results.sentences())
    assert "900 not connected: use_hls" in text
    assert "LAC_HLS_OFFLOAD_LISTENERS=100000" in text
    results.failed.clear()
    assert "LAC_HLS_OFFLOAD_LISTENERS" not in "\n".join(results.sentences())


def test_a_summary_tells_what_repair_was_worth() -> None:
    results = Results(mode="webrtc", url="http://127.0.0.1", wanted=1, connected=1, measured_s=1.0)
    results.packets_expected, results.packets_received, results.packets_recovered = 1000, 950, 40
    results.packets_asked_for, results.packets_repaired = 70, 30
    assert results.loss == pytest.approx(0.01)
    assert results.as_json()["loss"] == pytest.approx(0.01)
    text = "\n".join(results.sentences())
    assert "950 of 1000 packets arrived" in text
    assert "30 came after they had been asked for (70 questions), 40 more as copies in others" in text


def test_options_say_how_listeners_fare_and_what_they_do_about_it() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args(["--repair", "--lose", "12.5%", "--lossy", "25", "--settle", "10"])
    assert (args.repair, args.lose, args.lossy, args.settle) == ("red", 0.125, 0.25, 10.0)
    args = parser.parse_args(["--repair", "nack"])
    assert (args.repair, args.lose, args.lossy, args.settle) == ("nack", 0.0, 1.0, 0.0)
    assert parser.parse_args([]).repair is None
    for wrong in (["--repair", "fec"], ["--lose", "101"], ["--lossy", "-1"], ["--lose", "much"], ["--lose", "nan"]):
        with pytest.raises(SystemExit):
            parser.parse_args(wrong)
