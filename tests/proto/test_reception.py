from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lac_media.proto.reception import ReceptionStats
from lac_media.proto.rtcp import SenderReport, ntp_from_unix


def feed(stats: ReceptionStats, sequences: list[int], now: float = 0.0) -> list[int | None]:
    return [stats.receive(s & 0xFFFF, (s * 960) & 0xFFFFFFFF, now=now + s * 0.02) for s in sequences]


def test_a_stream_without_loss_over_the_wrap() -> None:
    stats = ReceptionStats(ssrc=9)
    assert stats.report_block(now=0.0) is None
    assert feed(stats, list(range(65530, 65550))) == list(range(65530, 65550))
    block = stats.report_block(now=1.0)
    assert block is not None
    assert (block.ssrc, block.fraction_lost, block.cumulative_lost) == (9, 0, 0)
    assert block.highest_sequence == 65549  # one cycle and 13
    assert block.jitter == 0
    assert (block.lsr, block.dlsr) == (0, 0)


def test_loss_is_counted_in_total_and_since_the_last_report() -> None:
    stats = ReceptionStats(ssrc=9)
    feed(stats, [n for n in range(100) if n % 4 != 1])
    block = stats.report_block(now=1.0)
    assert block is not None
    assert block.cumulative_lost == 25
    assert block.fraction_lost == 64
    feed(stats, list(range(100, 200)))
    block = stats.report_block(now=1.0)
    assert block is not None
    assert (block.cumulative_lost, block.fraction_lost) == (25, 0)
    block = stats.report_block(now=1.0)  # an interval without packets
    assert block is not None
    assert block.fraction_lost == 0


def test_late_packets_repair_the_count_and_duplicates_make_it_negative() -> None:
    stats = ReceptionStats(ssrc=9)
    assert feed(stats, [65534, 65536, 65535, 65536]) == [65534, 65536, 65535, 65536]
    assert stats.late == 1
    assert stats.cumulative_lost == -1
    assert stats.packets_received == 4


def test_a_stray_number_is_refused_and_two_in_a_row_restart() -> None:
    stats = ReceptionStats(ssrc=9)
    feed(stats, [10, 11, 12])
    assert stats.receive(30_000, 0, now=1.0) is None
    assert stats.receive(13, 0, now=1.0) == 13
    assert stats.receive(30_000, 0, now=1.0) is None
    extended = stats.receive(30_001, 0, now=1.0)
    assert extended == 65536 + 30_001  # above everything before
    assert stats.restarts == 1
    assert stats.cumulative_lost == 0
    assert stats.packets_received == 5
    assert stats.receive(30_002, 0, now=1.0) == 65536 + 30_002


def test_jitter_follows_rfc_3550_a_8() -> None:
    stats = ReceptionStats(ssrc=9)
    stats.receive(1, 0, now=0.0)
    stats.receive(2, 960, now=0.03)  # 10 ms late: 480 ticks
    assert stats.jitter_s == pytest.approx(480 / 16 / 48_000)
    stats.receive(3, 1920, now=0.04)  # caught up: 480 again
    assert stats.jitter_s == pytest.approx((30 + (480 - 30) / 16) / 48_000)
    stats.receive(4, 1920 + 48_000 * 60, now=0.06)  # a new timeline
    assert stats.jitter_s < 0.002


def test_jitter_survives_the_timestamp_wrap() -> None:
    stats = ReceptionStats(ssrc=9)
    stats.receive(1, 2**32 - 480, now=0.0)
    stats.receive(2, 480, now=0.02)
    assert stats.jitter_s == 0.0


def test_the_block_lets_the_sender_compute_the_round_trip() -> None:
    stats = ReceptionStats(ssrc=9)
    stats.receive(1, 0, now=10.0)
    ntp = ntp_from_unix(1_800_000_000.0)
    stats.receive_sender_report(SenderReport(9, ntp, 0, 1, 1), now=10.0)
    block = stats.report_block(now=10.5)
    assert block is not None
    assert block.lsr == (ntp >> 16) & 0xFFFFFFFF
    assert block.dlsr == 32768


@given(st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=200), st.lists(st.booleans(), max_size=50))
def test_any_sequence_gives_a_block_that_fits_its_fields(sequences: list[int], asks: list[bool]) -> None:
    stats = ReceptionStats(ssrc=1)
    for at, sequence in enumerate(sequences):
        stats.receive(sequence, sequence * 77, now=float(at))
        if at < len(asks) and asks[at]:
            block = stats.report_block(now=float(at))
            assert block is not None
            assert 0 <= block.fraction_lost <= 255
            assert -(2**23) <= block.cumulative_lost < 2**23
            assert 0 <= block.highest_sequence < 2**32
            assert 0 <= block.jitter < 2**32
