"""A recorder whose disk hangs, on the real relay: whoever listens notices nothing."""

from __future__ import annotations

from pathlib import Path

import trio
import trio.testing

from lac.recordings.model import EndReason, RecorderState
from lac.recordings.take import Take
from lac.recordings.tape import Origin
from lac_media.rooms.tap import TAP_PACKETS
from tests.media.clients import open_studio, opus
from tests.recordings.room import Inline, a_recording, positions


async def test_a_disk_that_hangs_for_15_seconds_costs_no_listener_anything(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    disk = Inline()
    states: list[RecorderState] = []
    async with open_studio() as studio:
        host = await studio.publisher("host")
        listener = await studio.listener()
        origin = Origin(round(studio.room.media_time_s() * 48_000), trio.current_time())
        take = Take(a_recording(), tmp_path / "rec-1", studio.room, origin, disk, lambda person_id: None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take.run, states.append)
            await host.talk(0, 10)
            take.speaker_started(host.session.producer_id or "", "host")
            await host.talk(10, 40)
            disk.gate = trio.Event()
            await host.talk(50, 750)
            disk.gate.set()
            disk.gate = None
            await host.talk(800, 50)
            nursery.cancel_scope.cancel()
        ended_after_s = trio.current_time() - origin.at
        await take.close(EndReason.STOPPED)
        heard = [packet.payload for packet in listener.packets]
    sent = [opus(number) for number in range(850)]
    assert [payload for payload in heard if payload in set(sent)] == sent, "each packet once, in order"

    assert states == [RecorderState.INTERRUPTED, RecorderState.RECORDING]

    manifest = take.finished
    assert manifest is not None
    for track in manifest.tracks:
        # Ten seconds wait; what came before them is lost, counted, and silence.
        assert 750 - TAP_PACKETS - 30 < track.dropped < 750 - TAP_PACKETS + 30
        found, duration_s = positions((tmp_path / "rec-1" / track.file).read_bytes())
        assert abs(duration_s - ended_after_s) < 0.021
        first = min(position for payload, position in found.items() if payload in sent[10:50])
        for number in (*range(10, 45), *range(330, 845)):
            assert abs(found[opus(number)] - first - (number - 10) * 0.02) < 0.021
        assert sum(gap.duration_s for gap in track.gaps) > 0.02 * (track.dropped - 2)
        (_, segment) = track.segments
        assert segment.cause == "disk_too_slow"
        assert segment.lost_from_s is not None
        assert abs(segment.start_s - segment.lost_from_s - 0.02 * track.dropped) < 0.05


async def test_a_room_that_closes_ends_the_taps_and_nothing_is_lost(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    async with open_studio() as studio:
        host = await studio.publisher("host")
        await host.talk(0, 5)
        origin = Origin(round(studio.room.media_time_s() * 48_000), trio.current_time())
        take = Take(a_recording(), tmp_path / "rec-1", studio.room, origin, Inline(), lambda person_id: None)
        await host.talk(5, 20)
    await take.close(EndReason.ENDED)
    assert take.finished is not None
    program, speaker = take.finished.tracks
    for track in (program, speaker):
        found, _ = positions((tmp_path / "rec-1" / track.file).read_bytes())
        assert set(found).issuperset(opus(number) for number in range(6, 25))
