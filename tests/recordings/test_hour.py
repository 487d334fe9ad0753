"""An hour of a show in virtual time, through the whole recorder: nothing is off by 20 ms, and every gap is listed."""

from __future__ import annotations

import random
from pathlib import Path
from statistics import fmean

import pytest
import trio

from lac.recordings import deck
from lac.recordings.manifest import read_manifest
from lac.recordings.model import EndReason
from lac.recordings.take import Take
from lac.recordings.tape import Origin
from lac_media.parameters import OPUS_CLOCK_RATE_HZ
from tests.recordings.room import Inline, Room, a_recording, positions

HOUR_S = 3600
#: Packets of 60 ms: a third of the work.
FRAME, FRAME_S = 2880, 0.06
BLOCK_S = 0.25
#: What every packet takes from the speaker to us, and what some take besides.
DELAY_S, JITTER_S = 0.03, 0.02


def opus(number: int) -> bytes:
    """SILK, wide band, 60 ms, stereo."""
    return b"\x5c" + number.to_bytes(4, "big") + bytes(20)


def spoken(rng: random.Random, *, clock_error: float, absent: tuple[float, float]) -> list[tuple[float, int, int]]:
    """(when it arrives, ticks by the speaker's clock, its number) of an hour with loss, pauses and an absence."""
    packets = []
    for number in range(round(HOUR_S / FRAME_S)):
        spoken_at = number * FRAME_S / (1 + clock_error)
        pausing = (number // 160) % 10 == 9 and number % 6  # DTX: a frame every 360 ms
        if absent[0] <= spoken_at < absent[1] or pausing or rng.random() < 0.01:
            continue
        packets.append((spoken_at + DELAY_S + rng.random() * JITTER_S, number * FRAME, number))
    return sorted(packets)


async def test_after_an_hour_of_loss_pauses_absence_and_a_wrong_clock_nothing_is_off_by_20_ms(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How safe it is on the disk is not this test's business, and takes an hour's time of a real one.
    monkeypatch.setattr(deck, "SYNC_INTERVAL_S", 600.0)
    monkeypatch.setattr(deck, "MANIFEST_INTERVAL_S", 60.0)
    rng = random.Random(7)
    room = Room()
    began_at = trio.current_time()
    directory = tmp_path / "rec-1"
    origin = Origin(round(room.media_time_s() * OPUS_CLOCK_RATE_HZ), began_at)
    take = Take(a_recording(), directory, room, origin, Inline(), lambda person_id: person_id.title())
    host = room.add("host")
    take.speaker_started(host.producer_id, "host")
    packets = spoken(rng, clock_error=80e-6, absent=(1000, 1100))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take.run, lambda state: None)
        sent = 0
        while trio.current_time() < began_at + HOUR_S:
            await trio.sleep(BLOCK_S)
            now = trio.current_time()
            while sent < len(packets) and began_at + packets[sent][0] <= now:
                arrived_at, ticks, number = packets[sent]
                host.send(ticks, opus(number), now=began_at + arrived_at)
                sent += 1
            room.tick(now)
        nursery.cancel_scope.cancel()
    ended_after_s = trio.current_time() - began_at
    await take.close(EndReason.STOPPED)

    manifest = take.finished
    assert manifest is not None
    assert manifest == read_manifest(directory)
    assert abs(manifest.duration_s - ended_after_s) < 1e-6
    program, speaker = manifest.tracks
    assert (speaker.person_id, speaker.display_name) == ("host", "Host")
    arrivals = {opus(number): spoken_at for spoken_at, _, number in packets}
    for track in (program, speaker):
        found, duration_s = positions((directory / track.file).read_bytes())
        assert abs(duration_s - ended_after_s) < 0.020 + 1e-6
        assert track.closed
        assert track.unlisted_gaps == track.dropped == track.unwritten == 0
        heard = [(found[payload], arrived_at) for payload, arrived_at in arrivals.items() if payload in found]
        assert len(heard) > 0.99 * len(packets)
        # At its place to within what its own way here took more or less than others', and no worse after an hour.
        errors = [(arrived_at, position - arrived_at) for position, arrived_at in heard]
        assert max(abs(error) for _, error in errors) < 0.020 + JITTER_S
        first = fmean(error for at, error in errors if at < 300)
        last = fmean(error for at, error in errors if at >= HOUR_S - 300)
        assert abs(last - first) < 0.020
        silent_s = sum(gap.duration_s for gap in track.gaps)
        spoken_s = FRAME_S * len(heard)
        if track is speaker:
            assert abs(silent_s + spoken_s - duration_s) < 0.020
            assert max(gap.duration_s for gap in track.gaps) > 99
