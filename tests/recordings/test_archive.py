"""What the last run left, files that have to go, and verdicts: `ready`, or `failed` with the reason."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa
import trio
import trio.testing

from lac.auth import account_store
from lac.clock import utc_now
from lac.db import models
from lac.errors import ConflictError
from lac.recordings import archive as archive_module
from lac.recordings import store
from lac.recordings.archive import open_archive
from lac.recordings.finalize import Examined, Mended, VerifierError, decide, examine_files, mend
from lac.recordings.lock import DirectoryLock
from lac.recordings.manifest import Gap, Manifest, Segment, TrackInfo, read_manifest, write_manifest
from lac.recordings.model import EndReason, Failure, RecordingStatus
from lac_media.container.ogg_opus import OggOpusWriter, scan_ogg_opus
from tests.fakes.air import HOST
from tests.recordings.room import STARTED_AT, Inline, a_recording, opus
from tests.recordings.station import RecordedStation, examine_inline

NewStation = Callable[[], RecordedStation]


def ogg(seconds: float, *, ended: bool = True) -> bytes:
    writer = OggOpusWriter(3)
    data = writer.begin() + b"".join(writer.add(opus(number)) for number in range(round(seconds * 50)))
    return data + (writer.end() if ended else writer.flush())


def manifest(*tracks: TrackInfo, duration_s: float, reason: EndReason | None = EndReason.ENDED) -> Manifest:
    return Manifest(
        id="rec-1",
        broadcast_id="show-1",
        title="A show",
        part=1,
        status=RecordingStatus.RECORDING,
        started_at=STARTED_AT,
        media_start_s=0.0,
        duration_s=duration_s,
        end_reason=reason,
        ended_at=None if reason is None else STARTED_AT + timedelta(seconds=duration_s),
        tracks=list(tracks),
    )


def judged(track: TrackInfo, *, duration_s: float | None, clock_s: float, found: Examined | None) -> Manifest:
    durations = {} if duration_s is None else {track.file: duration_s}
    examined = {} if found is None else {track.file: found}
    return decide(Mended(manifest(track, duration_s=clock_s), durations), examined)


CLOSED = TrackInfo(file="program.ogg", closed=True)
SOUND = Examined(size=1000, sha256="ab" * 32, packets=500, undecodable=0, decoded_s=10.0)


@pytest.mark.parametrize(
    ("track", "duration_s", "found", "failure"),
    [
        (CLOSED, 10.0, SOUND, None),
        (CLOSED, 9.97, SOUND, None),
        (CLOSED, 9.5, SOUND, Failure.DURATION),
        (CLOSED, 10.5, SOUND, Failure.DURATION),
        (CLOSED, 10.0, Examined(1000, "ab", 500, 400, 2.0), Failure.UNDECODABLE),
        (CLOSED, 10.0, Examined(1000, "ab", 500, 50, 9.0), None),
        (CLOSED, 10.0, Examined(1000, "ab", 500, 0, 10.0, "broken"), Failure.UNDECODABLE),
        (CLOSED, 0.0, Examined(90, "ab", 0, 0, 0.0, "broken"), Failure.NOTHING_RECORDED),
        (CLOSED, None, None, Failure.NOTHING_RECORDED),
        (TrackInfo(file="program.ogg", failure=Failure.DISK_FULL), 4.0, SOUND, Failure.DISK_FULL),
    ],
)
def test_the_verdict(
    track: TrackInfo, duration_s: float | None, found: Examined | None, failure: Failure | None
) -> None:
    decided = judged(track, duration_s=duration_s, clock_s=10.0, found=found)
    assert decided.failure is failure
    assert decided.status is (RecordingStatus.READY if failure is None else RecordingStatus.FAILED)
    assert decided.duration_s == (10.0 if failure is None else duration_s or 0.0)


def test_a_speaker_whose_track_is_broken_does_not_take_the_program_along() -> None:
    speaker = TrackInfo(file="speakers/1-ada.ogg", person_id="ada", closed=True)
    both = Mended(manifest(CLOSED, speaker, duration_s=10.0), {CLOSED.file: 10.0, speaker.file: 3.0})
    decided = decide(both, {CLOSED.file: SOUND, speaker.file: SOUND})
    assert decided.status is RecordingStatus.READY
    assert decided.tracks[1].failure is Failure.DURATION


async def test_the_verifier_is_a_process_that_ends_with_its_caller(tmp_path: Path) -> None:
    (tmp_path / "program.ogg").write_bytes(ogg(3))
    mended = Mended(manifest(CLOSED, duration_s=3.0), {"program.ogg": 3.0})
    with trio.fail_after(60):
        found = (await examine_files(tmp_path, mended))["program.ogg"]
    assert (found.packets, found.undecodable, found.error) == (150, 0, None)
    assert found.decoded_s == pytest.approx(3.0, abs=0.01)
    assert found.size == (tmp_path / "program.ogg").stat().st_size
    with trio.fail_after(20):
        with trio.move_on_after(0.01) as scope:
            await examine_files(tmp_path, mended)
        assert scope.cancelled_caught
    with pytest.raises(VerifierError):
        await examine_files(tmp_path, Mended(manifest(CLOSED, duration_s=3.0), {"missing.ogg": 3.0}))


def test_what_a_killed_process_left_is_closed_and_half_written_things_go(tmp_path: Path) -> None:
    directory = tmp_path / "rec-1"
    (directory / "speakers").mkdir(parents=True)
    torn = ogg(5, ended=False)
    (directory / "program.ogg").write_bytes(torn + torn[-700:-100])
    (directory / "speakers" / "1-ada.ogg").write_bytes(torn[:-30])
    (directory / "manifest.json.tmp").write_bytes(b"{")
    speaker = TrackInfo(file="speakers/1-ada.ogg", person_id="ada", gaps=[Gap(0.0, 1.0)])
    write_manifest(directory, manifest(TrackInfo(file="program.ogg"), speaker, duration_s=4.8, reason=None))
    mended = mend(directory, a_recording())
    assert mended.durations["program.ogg"] == pytest.approx(5, abs=0.01)
    assert 3.9 < mended.durations["speakers/1-ada.ogg"] < 5
    for name in mended.durations:
        assert scan_ogg_opus(io.BytesIO((directory / name).read_bytes())).last.last
    assert not (directory / "manifest.json.tmp").exists()
    assert mended.manifest.tracks[1].gaps == [Gap(0.0, 1.0)]
    again = mend(directory, a_recording())
    assert again.durations == mended.durations


@pytest.mark.parametrize("damage", [b"", b"{", b'{"version": 9}', b"\xff" * 50])
def test_without_its_manifest_a_recording_is_made_out_from_its_files(tmp_path: Path, damage: bytes) -> None:
    directory = tmp_path / "rec-1"
    (directory / "speakers").mkdir(parents=True)
    (directory / "program.ogg").write_bytes(ogg(2))
    (directory / "speakers" / "1-ada.ogg").write_bytes(ogg(2))
    (directory / "speakers" / "..ogg").write_bytes(b"not one of ours")
    if damage:
        (directory / "manifest.json").write_bytes(damage)
    mended = mend(directory, a_recording())
    assert [(track.file, track.person_id) for track in mended.manifest.tracks] == [
        ("program.ogg", None),
        ("speakers/1-ada.ogg", "ada"),
    ]


def test_a_speaker_who_began_after_the_manifest_was_last_written_has_a_track(tmp_path: Path) -> None:
    directory = tmp_path / "rec-1"
    (directory / "speakers").mkdir(parents=True)
    for file in ("program.ogg", "speakers/1-ada.ogg", "speakers/2-bob.ogg"):
        (directory / file).write_bytes(ogg(2, ended=False))
    ada = TrackInfo(file="speakers/1-ada.ogg", person_id="ada", display_name="Ada")
    write_manifest(directory, manifest(TrackInfo(file="program.ogg"), ada, duration_s=1.0, reason=None))
    mended = mend(directory, a_recording())
    assert [(track.file, track.display_name) for track in mended.manifest.tracks] == [
        ("program.ogg", None),
        ("speakers/1-ada.ogg", "Ada"),
        ("speakers/2-bob.ogg", None),
    ]
    assert mended.durations["speakers/2-bob.ogg"] == pytest.approx(2, abs=0.05)


def test_a_manifest_that_names_other_files_is_no_manifest(tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest(TrackInfo(file="../../secrets.json"), duration_s=1.0))
    assert read_manifest(tmp_path) is None


async def test_lost_time_is_in_the_row(new_station: NewStation, autojump_clock: trio.testing.MockClock) -> None:
    station = new_station()
    recording = await put(station, "rec-1", status=RecordingStatus.PROCESSING)
    directory = directory_of(station, "rec-1")
    (directory / "program.ogg").write_bytes(ogg(10))
    track = TrackInfo(
        file="program.ogg",
        closed=True,
        segments=[Segment(start_s=0.0), Segment(start_s=7.0, lost_from_s=4.5, cause="disk_full")],
    )
    write_manifest(directory, manifest(track, duration_s=10.0))
    async with station.open():
        (row,) = await station.finished(1)
    assert (row.status, row.lost_s, row.size_bytes) == ("ready", 2.5, len(ogg(10)))
    assert recording == "rec-1"


def directory_of(station: RecordedStation, recording_id: str) -> Path:
    return station.settings.data_dir / "recordings" / recording_id


async def put(
    station: RecordedStation, recording_id: str, *, status: RecordingStatus = RecordingStatus.RECORDING
) -> str:
    """A row as the last run left it, with an empty directory."""
    import dataclasses

    recording = dataclasses.replace(a_recording(recording_id), broadcast_id=station.show_id, status=status)
    station.db.now(lambda session: store.add(session, recording))
    directory_of(station, recording_id).mkdir(parents=True)
    await trio.lowlevel.checkpoint()
    return recording_id


async def test_a_recording_that_somebody_still_writes_is_left_alone(
    new_station: NewStation, autojump_clock: trio.testing.MockClock
) -> None:
    station = new_station()
    await put(station, "rec-1")
    (directory_of(station, "rec-1") / "program.ogg").write_bytes(ogg(2, ended=False))
    lock = DirectoryLock(directory_of(station, "rec-1"))
    async with station.open():
        await trio.sleep(100)
        assert [row.status for row in station.rows()] == ["recording"]
        lock.release()
        await trio.sleep(100)
    (row,) = station.rows()
    assert (row.status, row.end_reason, row.failure) == ("ready", "lost", None)
    assert row.ended_at == row.started_at + timedelta(seconds=row.duration_s or 0)


async def test_nothing_left_is_said_so(new_station: NewStation, autojump_clock: trio.testing.MockClock) -> None:
    station = new_station()
    await put(station, "rec-1")
    directory_of(station, "rec-1").rmdir()
    await put(station, "rec-2")
    async with station.open():
        rows = await station.finished(2)
    assert [(row.status, row.failure) for row in rows] == [("failed", "nothing_recorded")] * 2


async def test_a_verifier_that_breaks_is_tried_again_and_then_says_nothing_good(
    new_station: NewStation, autojump_clock: trio.testing.MockClock
) -> None:
    station = new_station()
    await put(station, "rec-1", status=RecordingStatus.PROCESSING)
    (directory_of(station, "rec-1") / "program.ogg").write_bytes(ogg(2))
    tries = []

    async def broken(directory: Path, mended: Mended) -> Mapping[str, Examined]:
        tries.append(directory)
        raise VerifierError("out of memory")

    async with open_archive(cast("Any", station.db), station.settings, blocking=Inline(), examine=broken):
        await trio.sleep(1)
        assert [row.status for row in station.rows()] == ["processing"]
        await trio.sleep(200)
    assert len(tries) == archive_module.VERIFY_ATTEMPTS
    assert [row.status for row in station.rows()] == ["failed"]
    assert (directory_of(station, "rec-1") / "program.ogg").exists()


async def test_one_that_cannot_be_finished_does_not_hold_up_the_next(
    new_station: NewStation, autojump_clock: trio.testing.MockClock
) -> None:
    station = new_station()
    await put(station, "rec-1")
    await put(station, "rec-2")
    (directory_of(station, "rec-1") / "program.ogg").mkdir()
    (directory_of(station, "rec-2") / "program.ogg").write_bytes(ogg(2))
    async with open_archive(cast("Any", station.db), station.settings, blocking=Inline(), examine=examine_inline):
        await trio.sleep(5)
    assert {row.id: str(row.status) for row in station.rows()} == {"rec-1": "recording", "rec-2": "ready"}


async def test_a_removed_recording_takes_its_files_along_also_after_a_restart(
    new_station: NewStation, autojump_clock: trio.testing.MockClock
) -> None:
    station = new_station()
    for name in ("rec-1", "rec-2"):
        await put(station, name, status=RecordingStatus.PROCESSING)
        (directory_of(station, name) / "program.ogg").write_bytes(ogg(1))
    async with station.open():
        await station.finished(2)
        await station.recordings.delete(HOST, "rec-1")
        await trio.sleep(1)
        assert [path.name for path in station.directories] == ["rec-2"]
    # With its broadcast, while no archive is open.
    await station.broadcasts.delete(HOST, station.show_id)
    assert [path.name for path in station.directories] == ["rec-2"]
    async with station.open():
        await trio.sleep(1)
        assert station.directories == []
        assert station.db.now(store.removed_ids) == []


async def test_an_account_takes_its_recordings_along(
    new_station: NewStation, autojump_clock: trio.testing.MockClock
) -> None:
    station = new_station()
    await put(station, "rec-1", status=RecordingStatus.PROCESSING)
    station.db.now(lambda session: account_store.delete_account(session, HOST.id, password_hash="", at=utc_now()))
    assert station.rows() == []
    async with station.open():
        await trio.sleep(1)
    assert station.directories == []


async def test_what_is_being_made_is_not_removed(
    new_station: NewStation, autojump_clock: trio.testing.MockClock
) -> None:
    station = new_station()
    async with station.open() as on_air:
        await station.start()
        recording = await on_air.start_recording(HOST, station.show_id)
        with pytest.raises(ConflictError) as active:
            await station.recordings.delete(HOST, recording.id)
        assert active.value.code == "recording_active"
        # A show that is removed ends first; then everything goes.
        await on_air.remove(HOST, station.show_id)
        await trio.sleep(40)
        assert station.directories == []
        assert station.db.now(lambda session: session.scalars(sa.select(models.RemovedRecording)).all()) == []
