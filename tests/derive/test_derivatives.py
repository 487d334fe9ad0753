"""The queue of what is made from recordings: order, bounds, outages, restarts, and a cancel at every step."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from lac.broadcasts.model import Visibility
from lac.config_recordings import RecordingSettings
from lac.errors import ConflictError, NotFoundError, UnavailableError
from lac.recordings import derivative_store
from lac.recordings import derivatives as module
from lac.recordings.derivative import MAX_ATTEMPTS, DerivativeStatus, Kind
from lac.recordings.derivatives import Derivatives, open_derivatives
from lac.recordings.layout import PROGRAM
from lac.recordings.model import Failure, RecordingStatus
from lac.recordings.places import PARTIAL
from lac.recordings.worker_process import WorkerError
from lac_media.derive.worker import AnalyseJob, EncodeJob, Job, Made
from tests.derive.shelf import Shelf
from tests.fakes.store import MemoryStore
from tests.sweep import sweep

SETTINGS = RecordingSettings(podcasts=False)


class FakeWorkers:
    """Each job takes ten seconds of virtual time."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.active = 0
        self.most = 0
        self.errors: list[WorkerError] = []
        self.size = 1000

    async def __call__(self, job: Job, progress: Callable[[float], None]) -> Made:
        self.jobs.append(job)
        self.active += 1
        self.most = max(self.most, self.active)
        try:
            assert Path(job.source).exists()  # noqa: ASYNC240  in memory, almost
            Path(job.target).write_bytes(b"half")  # noqa: ASYNC240  in memory, almost
            progress(30.0)
            await trio.sleep(10)
            if self.errors:
                raise self.errors.pop(0)
            Path(job.target).write_bytes(bytes(self.size))  # noqa: ASYNC240  in memory, almost
            return Made(60.0, self.size, "f" * 64, -16.5, 3.0, -1.0)
        finally:
            self.active -= 1

    @property
    def encoded(self) -> list[str]:
        return [str(job.format) for job in self.jobs if isinstance(job, EncodeJob)]


@pytest.fixture
def workers() -> FakeWorkers:
    return FakeWorkers()


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@asynccontextmanager
async def working(
    shelf: Shelf, workers: FakeWorkers, settings: RecordingSettings = SETTINGS
) -> AsyncGenerator[Derivatives, None]:
    async with open_derivatives(
        cast("Any", shelf.db), shelf.places, settings, run=workers, clock=shelf.clock
    ) as derivatives:
        yield derivatives


async def status_of(derivatives: Derivatives, kind: Kind, recording_id: str = "r1") -> DerivativeStatus | None:
    found = await derivatives.find(recording_id, kind)
    return None if found is None else found.status


async def test_every_complete_recording_is_analysed(shelf: Shelf, workers: FakeWorkers, autojump_clock: object) -> None:
    shelf.add()
    shelf.add("r2", status=RecordingStatus.RECORDING)
    async with working(shelf, workers) as derivatives:
        await trio.sleep(60)
        found = await derivatives.find("r1", Kind.ANALYSIS)
        assert found is not None
        assert found.status is DerivativeStatus.READY
        assert found.detail == {"integrated_lufs": -16.5, "range_lu": 3.0, "true_peak_dbtp": -1.0}
        assert await derivatives.find("r2", Kind.ANALYSIS) is None
        shelf.set_status("r2", RecordingStatus.PROCESSING, RecordingStatus.READY)
        derivatives.wake()
        await trio.sleep(11)
        assert await status_of(derivatives, Kind.ANALYSIS, "r2") is DerivativeStatus.READY
    assert "derived/peaks.json" in shelf.files()
    assert all(isinstance(job, AnalyseJob) for job in workers.jobs)


async def test_public_ones_get_the_copy_of_the_podcast(
    shelf: Shelf, workers: FakeWorkers, autojump_clock: object
) -> None:
    shelf.add()
    shelf.add("r2", visibility=Visibility.UNLISTED)
    async with working(shelf, workers, RecordingSettings()) as derivatives:
        await trio.sleep(120)
        found = await derivatives.find("r1", Kind.M4A)
        assert found is not None
        assert found.kept
        assert await derivatives.find("r2", Kind.M4A) is None
    (job,) = [job for job in workers.jobs if isinstance(job, EncodeJob)]
    assert job.tags == {"title": "Late Harbour, r1", "artist": "Hanna", "date": "2030-01-31"}
    assert job.chapters == [(0.0, "Hello"), (20.0, "Side B")], "what hosts marked, not every change of speaker"


async def test_a_copy_on_request(shelf: Shelf, workers: FakeWorkers, autojump_clock: object) -> None:
    recording = shelf.add()
    async with working(shelf, workers) as derivatives:
        await trio.sleep(30)
        assert (await derivatives.request(recording, Kind.MP3)).status is DerivativeStatus.QUEUED
        await trio.sleep(5)
        assert await status_of(derivatives, Kind.MP3) is DerivativeStatus.RUNNING
        assert derivatives.progress("r1", Kind.MP3) == 30.0
        await derivatives.request(recording, Kind.MP3)
        await trio.sleep(10)
        assert await status_of(derivatives, Kind.MP3) is DerivativeStatus.READY
        assert derivatives.progress("r1", Kind.MP3) == 0.0
        assert (await derivatives.request(recording, Kind.MP3)).status is DerivativeStatus.READY
        await trio.sleep(30)
    assert workers.encoded == ["mp3"], "once"
    assert workers.most == 1
    assert "derived/audio.mp3" in shelf.files()


async def test_what_was_kept_of_one_that_failed_is_analysed_and_copied_on_request(
    shelf: Shelf, workers: FakeWorkers, autojump_clock: object
) -> None:
    """The podcast has whole ones only."""
    kept = shelf.add(status=RecordingStatus.FAILED, failure=Failure.DISK_FULL)
    nothing = [
        shelf.add("r2", status=RecordingStatus.FAILED, failure=Failure.NOTHING_RECORDED),
        shelf.add("r3", status=RecordingStatus.FAILED, failure=Failure.DISK_FULL, audio=b""),
        shelf.add("r4", status=RecordingStatus.FAILED, failure=Failure.DISK_FULL, duration_s=0.0),
    ]
    assert [one.is_playable for one in (kept, *nothing)] == [True, False, False, False]
    async with working(shelf, workers, RecordingSettings()) as derivatives:
        await trio.sleep(60)
        assert await status_of(derivatives, Kind.ANALYSIS) is DerivativeStatus.READY
        assert await status_of(derivatives, Kind.M4A) is None
        await derivatives.request(kept, Kind.M4A)
        await trio.sleep(30)
        assert await status_of(derivatives, Kind.M4A) is DerivativeStatus.READY
        for recording in nothing:
            assert not await derivatives.of(recording.id)
            with pytest.raises(NotFoundError) as caught:
                await derivatives.request(recording, Kind.MP3)
            assert caught.value.code == "nothing_recorded"


async def test_what_is_not_complete_has_no_copies(shelf: Shelf, workers: FakeWorkers, autojump_clock: object) -> None:
    recording = shelf.add(status=RecordingStatus.PROCESSING)
    async with working(shelf, workers) as derivatives:
        with pytest.raises(ConflictError) as caught:
            await derivatives.request(recording, Kind.MP3)
    assert caught.value.code == "recording_not_ready"


async def test_too_many_at_once(
    shelf: Shelf, workers: FakeWorkers, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PENDING", 2)
    recordings = [shelf.add(f"r{number}") for number in range(4)]
    async with working(shelf, workers, replace(SETTINGS, export_jobs=2)) as derivatives:
        await derivatives.request(recordings[0], Kind.MP3)
        await derivatives.request(recordings[1], Kind.MP3)
        with pytest.raises(UnavailableError) as caught:
            await derivatives.request(recordings[2], Kind.MP3)
        assert caught.value.code == "exports_busy"
        await derivatives.request(recordings[0], Kind.MP3)  # is pending already
        await trio.sleep(200)
        await derivatives.request(recordings[2], Kind.MP3)
    assert workers.most == 2


async def test_those_unused_for_longest_make_room(shelf: Shelf, workers: FakeWorkers, autojump_clock: object) -> None:
    recordings = [shelf.add(f"r{number}", duration_s=1.0) for number in range(3)]
    workers.size = 150_000
    settings = replace(SETTINGS, export_cache_bytes=400_000)
    async with working(shelf, workers, settings) as derivatives:
        await trio.sleep(60)
        for recording in recordings:
            await derivatives.request(recording, Kind.MP3)
            shelf.now += timedelta(minutes=1)
            if recording.id == "r1":
                await trio.sleep(30)
                shelf.now += timedelta(hours=1)
                old = await derivatives.find("r0", Kind.MP3)
                assert old is not None
                await derivatives.used(old)
                shelf.now += timedelta(minutes=1)
            await trio.sleep(30)
        assert await status_of(derivatives, Kind.MP3, "r0") is DerivativeStatus.READY
        assert await status_of(derivatives, Kind.MP3, "r1") is None, "nobody had fetched it"
        assert await status_of(derivatives, Kind.MP3, "r2") is DerivativeStatus.READY
    assert "derived/audio.mp3" not in shelf.files("r1")
    assert "derived/peaks.json" in shelf.files("r1")


async def test_a_full_disk_is_waited_for(
    shelf: Shelf, workers: FakeWorkers, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.add()
    usage = shutil.disk_usage(shelf.data_dir)
    monkeypatch.setattr(module, "_disk_usage", lambda data_dir: usage._replace(free=100))
    async with working(shelf, workers) as derivatives:
        await trio.sleep(30)
        found = await derivatives.find("r1", Kind.ANALYSIS)
        assert found is not None
        assert (found.status, found.error) == (DerivativeStatus.QUEUED, "there is not enough room on the disk")
        monkeypatch.setattr(module, "_disk_usage", lambda data_dir: usage._replace(free=1 << 40))
        shelf.now += timedelta(minutes=5)
        await trio.sleep(30)
        assert await status_of(derivatives, Kind.ANALYSIS) is DerivativeStatus.READY


@pytest.mark.parametrize("passing", [True, False])
async def test_a_job_that_fails(shelf: Shelf, workers: FakeWorkers, autojump_clock: object, passing: bool) -> None:
    recording = shelf.add()
    workers.errors = [WorkerError("no audio in it", may_help=passing) for _ in range(MAX_ATTEMPTS)]
    async with working(shelf, workers) as derivatives:
        for _ in range(5):
            await trio.sleep(30)
            shelf.now += timedelta(minutes=5)
        found = await derivatives.find("r1", Kind.ANALYSIS)
        assert found is not None
        assert (found.status, found.error) == (DerivativeStatus.FAILED, "no audio in it")
        assert len(workers.jobs) == (MAX_ATTEMPTS if passing else 1)
        workers.errors.clear()
        await derivatives.request(recording, Kind.ANALYSIS)
        await trio.sleep(30)
        assert await status_of(derivatives, Kind.ANALYSIS) is DerivativeStatus.READY, "asked for again"
    assert not [name for name in shelf.files() if name.endswith(PARTIAL)]


@pytest.mark.parametrize("removed", ["the copy", "the recording"])
async def test_a_job_ends_with_what_it_is_for(
    shelf: Shelf, workers: FakeWorkers, autojump_clock: object, removed: str
) -> None:
    recording = shelf.add()
    async with working(shelf, workers) as derivatives:
        await trio.sleep(30)
        await derivatives.request(recording, Kind.M4A)
        await trio.sleep(1)
        if removed == "the copy":
            await derivatives.remove("r1", Kind.M4A)
        else:
            shelf.remove("r1")
        await trio.sleep(6)
        assert workers.active == 0
        assert derivatives.running == 0
        assert await derivatives.find("r1", Kind.M4A) is None
    assert not [name for name in shelf.files() if "audio" in name]


async def test_what_was_being_made_at_a_crash_is_made(
    shelf: Shelf, workers: FakeWorkers, autojump_clock: object
) -> None:
    recording = shelf.add()
    async with working(shelf, workers) as derivatives:
        await derivatives.request(recording, Kind.M4A)
    from lac.db import models

    def kill(session: Any) -> None:
        session.get(models.RecordingDerivative, ("r1", "m4a")).status = DerivativeStatus.RUNNING

    shelf.db.now(kill)
    derived = shelf.places.path("r1", "derived")
    derived.mkdir(exist_ok=True)
    (derived / f"audio.m4a{PARTIAL}").write_bytes(b"half")
    async with working(shelf, workers) as derivatives:
        await trio.sleep(60)
        assert await status_of(derivatives, Kind.M4A) is DerivativeStatus.READY
    assert shelf.files() == [
        "derived/audio.m4a",
        "derived/peaks.json",
        "manifest.json",
        "program.ogg",
        "speakers/1-host.ogg",
    ]


async def test_the_database_is_away(shelf: Shelf, workers: FakeWorkers, autojump_clock: object) -> None:
    shelf.add()
    async with working(shelf, workers) as derivatives:
        await trio.sleep(5)  # in the middle of a job
        shelf.db.away = True
        await trio.sleep(60)
        shelf.db.away = False
        shelf.now += timedelta(minutes=10)
        await trio.sleep(60)
    async with working(shelf, workers) as derivatives:
        await trio.sleep(60)
        assert await status_of(derivatives, Kind.ANALYSIS) is DerivativeStatus.READY


async def test_with_a_bucket_copies_are_there_and_not_here(
    tmp_path: Path, workers: FakeWorkers, autojump_clock: object
) -> None:
    bucket = MemoryStore()
    shelf = Shelf(tmp_path, bucket)
    recording = shelf.add(audio=b"the only copy")
    bucket.objects["recordings/r1/program.ogg"] = b"the only copy"
    shelf.places.path("r1", PROGRAM).unlink()
    async with working(shelf, workers) as derivatives:
        await derivatives.request(recording, Kind.MP3)
        await trio.sleep(60)
        found = await derivatives.find("r1", Kind.MP3)
        assert found is not None
        assert found.in_bucket
        assert bucket.objects["recordings/r1/derived/audio.mp3"] == bytes(1000)
        assert shelf.files() == ["derived/peaks.json", "manifest.json", "speakers/1-host.ogg"]
        bucket.away = True
        with pytest.raises(UnavailableError):
            await derivatives.remove("r1", Kind.MP3)
        bucket.away = False
        await derivatives.remove("r1", Kind.MP3)
    assert set(bucket.objects) == {"recordings/r1/program.ogg", "recordings/r1/derived/peaks.json"}


@pytest.mark.parametrize("with_bucket", [False, True])
def test_whenever_the_server_stops_nothing_half_made_is_left(tmp_path: Path, with_bucket: bool) -> None:
    bucket = MemoryStore()
    shelf = Shelf(tmp_path, bucket if with_bucket else None)
    shelf.add()
    snapshot = shelf.db.snapshot()

    async def scenario() -> None:
        shelf.db.restore(snapshot)
        bucket.objects.clear()
        bucket.uploads.clear()
        shutil.rmtree(shelf.places.path("r1", "derived"), ignore_errors=True)
        async with working(shelf, FakeWorkers()) as derivatives:
            await trio.sleep(12)
            assert await status_of(derivatives, Kind.ANALYSIS) is DerivativeStatus.READY

    def check() -> None:
        assert not bucket.uploads
        assert not [name for name in shelf.files() if name.endswith((PARTIAL, ".upload"))]

        def look(session: Any) -> None:
            from lac.db import models

            for row in session.query(models.RecordingDerivative):
                assert row.status in (DerivativeStatus.QUEUED, DerivativeStatus.READY)
                assert row.attempts <= 1

        shelf.db.now(look)

    assert sweep(scenario, check) > 20


async def test_a_server_that_is_stopped_does_not_count_as_an_attempt(
    shelf: Shelf, workers: FakeWorkers, autojump_clock: object
) -> None:
    shelf.add()
    async with working(shelf, workers):
        await trio.sleep(5)
        assert workers.active == 1
    found = shelf.db.now(lambda session: derivative_store.find(session, "r1", Kind.ANALYSIS))
    assert found is not None
    assert (found.status, found.attempts) == (DerivativeStatus.QUEUED, 0)
    async with working(shelf, workers) as derivatives:
        await trio.sleep(11)
        assert await status_of(derivatives, Kind.ANALYSIS) is DerivativeStatus.READY, "at once"
