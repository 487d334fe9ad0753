"""A recording cancelled at every step: afterwards it is whole and verified, or has failed and says why, with what can
be played kept; no file is open, none half written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from lac.errors import LacError
from lac.recordings import tape
from lac.recordings.manifest import read_manifest
from lac.recordings.model import RecordingStatus
from tests.fakes.air import HOST
from tests.recordings.disk import no_file_beyond
from tests.recordings.room import positions
from tests.recordings.station import RecordedStation
from tests.recordings.test_tape import decoded_s
from tests.sweep import Cut, sweep, sweep_within

NewStation = Callable[[], RecordedStation]


def descriptors() -> set[str]:
    """What is open below the data directory."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.add(str(entry.readlink()))
        except OSError:  # the one that reads the list
            continue
    return {name for name in found if "/data/recordings" in name}  # wherever the output of the tests goes


def check_finished(station: RecordedStation) -> None:
    """Every recording, after the next start has looked after it."""

    async def look_after() -> None:
        async with station.open() as on_air:
            await trio.sleep(1)
            for row in station.rows():  # that of the show that was taken up again
                if row.status is RecordingStatus.RECORDING:
                    await on_air.stop_recording(HOST, station.show_id)
            await station.finished(len(station.rows()))

    trio.run(look_after, clock=trio.testing.MockClock(autojump_threshold=0))
    known = {row.id for row in station.rows()}
    assert {path.name for path in station.directories} <= known
    for row in station.rows():
        directory = station.archive.directory(row.id)
        assert row.status in (RecordingStatus.READY, RecordingStatus.FAILED)
        if row.status is RecordingStatus.FAILED:
            lengths = [positions(path.read_bytes())[1] for path in directory.rglob("*.ogg")]
            assert row.failure in ("nothing_recorded", "disk_full")
            assert row.failure == "disk_full" or not any(lengths)
            continue
        manifest = read_manifest(directory)
        assert manifest is not None
        assert {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()} == {
            "manifest.json",
            *(track.file for track in manifest.tracks if track.size_bytes is not None),
        }
        for track in manifest.tracks:
            if track.verified:
                assert abs(decoded_s(directory / track.file) - manifest.duration_s) < 0.03


def check_nothing_open(station: RecordedStation) -> None:
    assert descriptors() == set()
    assert station.archive.totals().active == 0
    check_finished(station)
    assert descriptors() == set()


def test_a_process_that_stops_at_any_step_leaves_recordings_that_are_whole(new_station: NewStation) -> None:
    station = new_station()

    async def scenario() -> None:
        nonlocal station
        station = new_station()
        async with station.open() as on_air:
            await station.start()
            host = (await station.publish()).speak()
            await on_air.start_recording(HOST, station.show_id)
            for _ in range(20):
                station.say(host)
            await trio.sleep(0.4)
            await on_air.stop_recording(HOST, station.show_id)
            await station.finished(1)
            await on_air.start_recording(HOST, station.show_id)
            await trio.sleep(0.3)
            await on_air.end(HOST, station.show_id)

    steps = sweep(scenario, lambda: check_nothing_open(station), refusals=(LacError,))
    assert steps > 50


def test_a_host_who_goes_away_at_any_step_stops_neither_the_recording_nor_the_show(new_station: NewStation) -> None:
    station = new_station()

    async def scenario(cut: Cut) -> None:
        nonlocal station
        station = new_station()
        async with station.open() as on_air:
            await station.start()
            host = (await station.publish()).speak()
            with cut:
                await on_air.start_recording(HOST, station.show_id)
                station.say(host)
                await trio.sleep(0.3)
                await on_air.mark_chapter(HOST, station.show_id, "Here")
                await on_air.stop_recording(HOST, station.show_id)
            await trio.sleep(1)
            recorder = on_air._shows[station.show_id].recorder
            assert recorder is not None
            active = [row for row in station.rows() if row.status is RecordingStatus.RECORDING]
            assert [recorder.recording] == [*active, None][:1] or (recorder.recording is not None and len(active) == 1)
            again = await on_air.start_recording(HOST, station.show_id)
            assert again.status is RecordingStatus.RECORDING
            await on_air.end(HOST, station.show_id)

    sweep_within(scenario, lambda: check_nothing_open(station), refusals=(LacError,))


def test_a_disk_that_fills_up_and_a_process_that_stops_at_any_step_leave_what_can_be_played(
    new_station: NewStation, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recorder goes on in a new segment, or not any more. `capsys`: what is logged must not go to a file now."""
    monkeypatch.setattr(tape, "FIRST_RETRY_S", 0.2)
    station = new_station()

    async def scenario() -> None:
        nonlocal station
        station = new_station()
        async with station.open() as on_air:
            await station.start()
            host = (await station.publish()).speak()
            recording = await on_air.start_recording(HOST, station.show_id)
            station.say(host)
            await trio.sleep(0.3)
            path = station.archive.directory(recording.id) / "program.ogg"
            with no_file_beyond(path.stat().st_size + 50 if path.exists() else 50):
                await station.talk(host, 0.2)
                await trio.sleep(0.3)
            await trio.sleep(0.5)
            station.say(host)
            await on_air.stop_recording(HOST, station.show_id)
            manifest = read_manifest(station.archive.directory(recording.id))
            assert manifest is not None
            assert [segment.cause for segment in manifest.tracks[0].segments] == [None, "disk_full"]

    steps = sweep(scenario, lambda: check_nothing_open(station), refusals=(LacError,))
    assert steps > 30
