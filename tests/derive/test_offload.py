"""Recordings on their way into the bucket: during the show, through outages, after crashes, until nothing is left."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import trio

from lac.db import models
from lac.recordings import derivative_store as store
from lac.recordings import store as recording_store
from lac.recordings.derivative import Kind
from lac.recordings.layout import PROGRAM
from lac.recordings.model import RecordingStatus
from lac.recordings.offload import Offloader, Place, Whereabouts, open_offloader
from lac.recordings.retention import remove_expired, run_retention
from lac.storage.errors import StoreAwayError
from lac.storage.mirror import Mirror, journal_path
from lac.storage.parts import Journal
from tests.derive.shelf import AT, Shelf
from tests.fakes.store import SMALLEST_PART, MemoryStore
from tests.sweep import sweep

PART = b"0123456789abcdef" * (SMALLEST_PART // 16)
SPEAKER = "speakers/1-host.ogg"


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the fake bucket."""
    monkeypatch.setattr("lac.storage.mirror.MIN_PART_BYTES", SMALLEST_PART)
    monkeypatch.setattr("lac.storage.parts.MIN_PART_BYTES", SMALLEST_PART)
    real = Mirror.__init__

    def make(self: Mirror, *args: Any, **kwargs: Any) -> None:
        real(self, *args, **{"smallest_part": SMALLEST_PART, **kwargs})

    monkeypatch.setattr(Mirror, "__init__", make)


@pytest.fixture
def bucket() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def shelf(tmp_path: Path, bucket: MemoryStore) -> Shelf:
    return Shelf(tmp_path, bucket)


@asynccontextmanager
async def offloading(shelf: Shelf, *, spool_bytes: int = 1 << 20) -> AsyncGenerator[Offloader, None]:
    bucket = shelf.places.bucket
    assert bucket is not None
    async with open_offloader(
        cast("Any", shelf.db), shelf.places, bucket, spool_bytes=spool_bytes, clock=shelf.clock
    ) as offloader:
        yield offloader


def offloaded(shelf: Shelf, recording_id: str = "r1") -> bool:
    return shelf.db.now(lambda session: store.is_offloaded(session, recording_id))


def append(shelf: Shelf, data: bytes, name: str = PROGRAM) -> None:
    with shelf.places.path("r1", name).open("ab") as file:
        file.write(data)


async def test_a_complete_recording_moves_into_the_bucket(
    shelf: Shelf, bucket: MemoryStore, autojump_clock: object
) -> None:
    shelf.add()
    program, speaker = (shelf.places.path("r1", name).read_bytes() for name in (PROGRAM, SPEAKER))
    async with offloading(shelf) as offloader:
        await trio.sleep(30)
        assert offloader.finished == 1
        assert await offloader.whereabouts("r1") == Whereabouts(Place.BUCKET)
        assert offloader.spool.waiting_bytes == 0
    assert offloaded(shelf)
    assert bucket.objects[f"recordings/r1/{PROGRAM}"] == program
    assert bucket.objects[f"recordings/r1/{SPEAKER}"] == speaker
    assert "recordings/r1/manifest.json" in bucket.objects
    assert shelf.files() == ["manifest.json"], "what describes it stays"


async def test_it_goes_up_while_it_is_made(shelf: Shelf, bucket: MemoryStore, autojump_clock: object) -> None:
    shelf.add(status=RecordingStatus.RECORDING, audio=b"")
    async with offloading(shelf) as offloader:
        append(shelf, PART + b"more")
        await trio.sleep(20)
        assert len(bucket.uploads) == 1
        assert offloader.spool.waiting_bytes < SMALLEST_PART
        append(shelf, PART, "speakers/2-guest.ogg")  # somebody comes on stage
        await trio.sleep(20)
        assert len(bucket.uploads) == 2
        append(shelf, b"end")
        shelf.set_status("r1", RecordingStatus.PROCESSING)
        await trio.sleep(20)
        assert len(bucket.uploads) == 2, "it may still be mended"
        shelf.set_status("r1", RecordingStatus.READY)
        offloader.wake()
        await trio.sleep(20)
        assert offloaded(shelf)
    assert bucket.objects[f"recordings/r1/{PROGRAM}"] == PART + b"moreend"
    assert bucket.objects["recordings/r1/speakers/2-guest.ogg"] == PART
    assert not bucket.uploads
    assert shelf.files() == ["manifest.json"]


async def test_the_disk_keeps_what_something_is_being_made_from(
    shelf: Shelf, bucket: MemoryStore, autojump_clock: object
) -> None:
    shelf.add()
    shelf.db.now(lambda session: store.request(session, "r1", Kind.ANALYSIS, at=AT))
    async with offloading(shelf):
        await trio.sleep(30)
        assert offloaded(shelf)
        assert PROGRAM in shelf.files()
        shelf.db.now(lambda session: store.remove(session, "r1", Kind.ANALYSIS))
        await trio.sleep(30)
        assert PROGRAM not in shelf.files()


async def test_an_outage_has_a_state_and_a_bound(shelf: Shelf, bucket: MemoryStore, autojump_clock: object) -> None:
    shelf.add(status=RecordingStatus.RECORDING, audio=b"")
    async with offloading(shelf, spool_bytes=3 * SMALLEST_PART) as offloader:
        await trio.sleep(10)
        bucket.away = True
        append(shelf, PART + PART)
        await trio.sleep(60)
        assert offloader.spool.trouble == "the bucket cannot be reached"
        state = await offloader.whereabouts("r1")
        assert state == Whereabouts(Place.WAITING, 2 * SMALLEST_PART, 0, "the bucket cannot be reached")
        assert offloader.spool.recordings == 1
        assert offloader.may_record()
        append(shelf, PART)
        await trio.sleep(60)
        assert not offloader.may_record()
        bucket.away = False
        await trio.sleep(200)
        assert offloader.may_record()
        assert offloader.spool.trouble is None


async def test_everything_that_waits_counts_and_a_few_go_at_a_time(
    shelf: Shelf, bucket: MemoryStore, autojump_clock: object
) -> None:
    for number in range(10):
        shelf.add(f"r{number}", audio=bytes(1000))
    bucket.calls_take_s = 1.0
    async with offloading(shelf, spool_bytes=15_000) as offloader:
        bucket.away = True
        await trio.sleep(12)
        assert offloader.spool.recordings == 10
        assert offloader.spool.waiting_bytes > 20_000
        assert not offloader.may_record()
        bucket.away = False
        await trio.sleep(16)
        assert 0 < len(offloader._shipments) <= 4
        await trio.sleep(300)
        assert offloader.finished == 10
        assert offloader.may_record()


async def test_a_bucket_that_is_away_at_the_start(shelf: Shelf, bucket: MemoryStore, autojump_clock: object) -> None:
    shelf.add()
    bucket.away = True
    async with offloading(shelf) as offloader:
        await trio.sleep(60)
        assert offloader.spool.trouble is not None
        assert offloader.spool.waiting_bytes > 0
        assert not offloader.swept.is_set()
        bucket.away = False
        await trio.sleep(60)
    assert offloaded(shelf)


async def test_a_recording_that_is_removed_on_its_way(
    shelf: Shelf, bucket: MemoryStore, autojump_clock: object
) -> None:
    shelf.add(status=RecordingStatus.RECORDING, audio=PART)
    async with offloading(shelf):
        await trio.sleep(20)
        assert bucket.uploads
        shelf.remove("r1")
        await trio.sleep(20)
        assert not bucket.uploads
        await bucket.put("recordings/r1/manifest.json", b"", "x", "d41d8cd98f00b204e9800998ecf8427e")
        await bucket.put("recordings/r10/program.ogg", b"", "x", "d41d8cd98f00b204e9800998ecf8427e")
        await bucket.begin("recordings/r1/x", "x")
        await shelf.places.remove_from_bucket("r1")
    assert list(bucket.objects) == ["recordings/r10/program.ogg"]
    assert not bucket.uploads


async def test_what_a_killed_process_left_open(shelf: Shelf, bucket: MemoryStore, autojump_clock: object) -> None:
    """Uploads with a journal go on; others end, but for those that may be another server's."""
    shelf.add(status=RecordingStatus.RECORDING, audio=PART + PART)
    ours = await bucket.begin(f"recordings/r1/{PROGRAM}", "audio/ogg")
    path = shelf.places.path("r1", PROGRAM)
    journal_path(path).write_bytes(msgspec.json.encode(Journal(f"recordings/r1/{PROGRAM}", ours)))
    left = {await bucket.begin(f"recordings/r1/{name}", "audio/ogg") for name in (PROGRAM, SPEAKER)}
    stranger = await bucket.begin("recordings/somebody-elses/program.ogg", "audio/ogg")
    await bucket.begin("recordings/../secrets.json", "audio/ogg")
    shelf.now = AT.now(AT.tzinfo)
    async with offloading(shelf):
        await trio.sleep(2)
        assert {ours, stranger} <= set(bucket.uploads)
        assert not left & set(bucket.uploads)
        await trio.sleep(30)
        assert len(bucket.uploads[ours].parts) == 2, "it went on with what was open"
    shelf.now += timedelta(days=2)
    async with offloading(shelf):
        await trio.sleep(2)
    assert stranger not in bucket.uploads


async def test_a_disk_that_fails_is_tried_again_later(
    shelf: Shelf, bucket: MemoryStore, autojump_clock: object
) -> None:
    shelf.add()
    path = shelf.places.path("r1", SPEAKER)
    path.rename(path.with_suffix(".away"))
    path.symlink_to("nowhere/at/all.ogg")
    async with offloading(shelf):
        await trio.sleep(60)
        assert not offloaded(shelf)
        path.unlink()
        path.with_suffix(".away").rename(path)
        await trio.sleep(700)
        assert offloaded(shelf)


def test_whenever_it_is_cancelled_nothing_is_open_and_nothing_is_lost(tmp_path: Path) -> None:
    bucket = MemoryStore()
    shelf = Shelf(tmp_path, bucket)
    shelf.add(status=RecordingStatus.RECORDING, audio=PART + b"x")
    snapshot = shelf.db.snapshot()
    audio = {name: shelf.places.path("r1", name).read_bytes() for name in (PROGRAM, SPEAKER)}

    async def scenario() -> None:
        shelf.db.restore(snapshot)
        bucket.objects.clear()
        bucket.failures.clear()
        bucket.fail("complete", StoreAwayError("away"), late=True)
        for name, content in audio.items():
            shelf.places.path("r1", name).write_bytes(content)
        async with offloading(shelf) as offloader:
            await trio.sleep(1)
            shelf.set_status("r1", RecordingStatus.PROCESSING, RecordingStatus.READY)
            offloader.wake()
            await trio.sleep(3)
            assert offloaded(shelf)

    def check() -> None:
        assert not bucket.uploads
        for name, content in audio.items():
            here = shelf.places.path("r1", name)
            if not here.exists():
                assert offloaded(shelf)
                assert bucket.objects[f"recordings/r1/{name}"] == content
        assert not [name for name in shelf.files() if name.endswith((".upload", ".tmp"))]

    assert sweep(scenario, check) > 20


# --- retention --------------------------------------------------------------------------------------------------------


async def test_old_recordings_go_and_leave_a_line(shelf: Shelf, autojump_clock: object) -> None:
    shelf.add("old", ended_at=AT)
    shelf.add("new", ended_at=AT + timedelta(days=29))
    shelf.add("long", status=RecordingStatus.RECORDING, ended_at=AT)
    shelf.now = AT + timedelta(days=30, hours=1)
    assert await remove_expired(cast("Any", shelf.db), timedelta(days=30), now=shelf.clock) == 1
    assert await remove_expired(cast("Any", shelf.db), timedelta(days=30), now=shelf.clock) == 0
    left = shelf.db.now(lambda session: sorted(session.scalars(models.Recording.__table__.select())))
    assert left == ["long", "new"]
    assert shelf.db.now(recording_store.removed_ids) == ["old"], "its files go next"
    (entry,) = shelf.db.now(lambda session: session.query(models.AuditEntry).all())
    assert (entry.action, entry.target_id, entry.actor_id) == ("recording.removed", "old", None)
    assert entry.detail["reason"] == "retention"


async def test_retention_looks_again_and_again(shelf: Shelf, autojump_clock: object) -> None:
    calls: list[float] = []
    shelf.add("first", ended_at=AT)
    shelf.add("second", ended_at=AT + timedelta(days=1))
    shelf.now = AT + timedelta(days=7, minutes=1)
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await run_retention(
                cast("Any", shelf.db),
                timedelta(days=7),
                removed=lambda: calls.append(trio.current_time()),
                clock=shelf.clock,
            )

        shelf.db.away = True
        nursery.start_soon(run)
        await trio.sleep(10)
        assert not calls
        shelf.db.away = False
        await trio.sleep(100)
        assert len(calls) == 1, "as soon as the database is back"
        shelf.now += timedelta(days=1)
        await trio.sleep(3600)
        assert len(calls) == 2
        nursery.cancel_scope.cancel("enough")
