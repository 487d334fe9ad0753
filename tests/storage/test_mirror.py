"""A growing file and its copy, in virtual time: outages, changed files, crashes, and a cancel at every step."""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
import trio

from lac.storage.errors import StoreAwayError, StoreRefusedError, UploadGoneError
from lac.storage.mirror import CopyDiffersError, Mirror, MirrorState, journal_path, read_journal
from lac.storage.parts import Journal, SentPart
from tests.fakes.store import SMALLEST_PART, InlineDisk, MemoryStore, md5_of
from tests.sweep import sweep

KIB = 1 << 10
KEY = "recordings/r1/program.ogg"
PART = random.Random(3).randbytes(SMALLEST_PART)
AWAY = StoreAwayError("away")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "program.ogg"
    path.touch()
    return path


def mirror_of(store: MemoryStore, path: Path) -> Mirror:
    return Mirror(store, InlineDisk(), path, KEY, "audio/ogg", SMALLEST_PART)


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def content(path: Path) -> bytes:
    return path.read_bytes()


def nothing_is_left(store: MemoryStore, path: Path) -> None:
    assert not store.uploads
    assert not journal_path(path).exists()


async def write_a_show(mirror: Mirror) -> None:
    """Eleven KiB in pieces, with pauses, then the end."""
    for piece in (PART[:1000], PART, PART[: 3 * KIB], PART[: 3 * KIB]):
        append(mirror.path, piece)
        await trio.sleep(7)
    mirror.closed.set()


async def copy(mirror: Mirror, writer: Callable[[Mirror], Awaitable[None]] = write_a_show) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer, mirror)
        done = await mirror.run()
        assert (done.key, done.size) == (KEY, mirror.path.stat().st_size)
        assert mirror.state is MirrorState.DONE
        assert mirror.sent == mirror.size == done.size


async def test_parts_go_up_during_the_show(store: MemoryStore, path: Path, autojump_clock: object) -> None:
    mirror = mirror_of(store, path)

    async def write_and_look(mirror: Mirror) -> None:
        append(path, PART + PART[:5])
        await trio.sleep(10)
        assert mirror.sent == 5 * KIB, "while the file is open"
        assert mirror.state is MirrorState.FOLLOWING
        assert read_journal(path) is not None
        append(path, PART)
        mirror.closed.set()

    await copy(mirror, write_and_look)
    assert store.objects[KEY] == content(path)
    nothing_is_left(store, path)
    assert store.calls.count("put_part") == 3


async def test_a_short_one_goes_up_in_one_piece(store: MemoryStore, path: Path, autojump_clock: object) -> None:
    async def write(mirror: Mirror) -> None:
        append(path, b"short")
        await trio.sleep(20)
        mirror.closed.set()

    await copy(mirror_of(store, path), write)
    assert store.objects == {KEY: b"short"}
    assert "begin" not in store.calls


@pytest.mark.parametrize("call", ["begin", "put_part", "complete", "head"])
@pytest.mark.parametrize("late", [False, True])
async def test_an_outage_at_any_call_is_waited_for(
    store: MemoryStore, path: Path, autojump_clock: object, call: str, late: bool
) -> None:
    """`late`: the store did it, and its answer was lost."""
    store.fail(call, AWAY, StoreRefusedError("no", "AccessDenied"), late=late)
    await copy(mirror_of(store, path))
    assert store.objects[KEY] == content(path)
    nothing_is_left(store, path)


async def test_a_long_outage_has_a_state_and_ends(store: MemoryStore, path: Path, autojump_clock: object) -> None:
    mirror = mirror_of(store, path)

    async def write(mirror: Mirror) -> None:
        store.away = True
        append(path, PART * 2)
        await trio.sleep(3600)
        assert mirror.state is MirrorState.WAITING
        assert mirror.trouble == "the bucket cannot be reached"
        assert mirror.size - mirror.sent == 10 * KIB, "spooled"
        assert len(store.calls) < 80, "patiently"
        mirror.closed.set()
        store.away, store.refuses = False, True
        await trio.sleep(200)
        assert mirror.state is MirrorState.REFUSED
        store.refuses = False

    await copy(mirror, write)
    assert mirror.trouble is None
    assert store.objects[KEY] == content(path)


async def test_an_upload_that_the_store_forgot_begins_anew(
    store: MemoryStore, path: Path, autojump_clock: object
) -> None:
    async def write(mirror: Mirror) -> None:
        append(path, PART)
        await trio.sleep(10)
        store.uploads.clear()  # as rclone does when it starts again
        append(path, PART)
        mirror.closed.set()

    await copy(mirror_of(store, path), write)
    assert store.objects[KEY] == content(path)
    nothing_is_left(store, path)


async def test_a_file_that_was_mended_at_its_end_is_sent_as_it_is_now(
    store: MemoryStore, path: Path, autojump_clock: object
) -> None:
    async def write(mirror: Mirror) -> None:
        append(path, PART * 2)
        await trio.sleep(10)
        with path.open("r+b") as file:
            file.truncate(8 * KIB)
            file.seek(8 * KIB - 30)
            file.write(b"last page")
        mirror.closed.set()

    await copy(mirror_of(store, path), write)
    assert store.objects[KEY] == content(path)
    assert store.calls.count("put_part") == 3, "the first part did not change"


async def test_a_file_that_is_cut_off_before_its_first_part(
    store: MemoryStore, path: Path, autojump_clock: object
) -> None:
    async def write(mirror: Mirror) -> None:
        append(path, PART)
        await trio.sleep(10)
        os.truncate(path, 0)
        mirror.closed.set()

    await copy(mirror_of(store, path), write)
    assert store.objects == {KEY: b""}
    nothing_is_left(store, path)


async def test_tags_that_are_no_hashes_are_compared_by_reading(
    store: MemoryStore, path: Path, autojump_clock: object
) -> None:
    store.opaque_tags = True
    await copy(mirror_of(store, path))
    assert "read" in store.calls


async def test_a_store_that_gives_back_something_else(store: MemoryStore, path: Path, autojump_clock: object) -> None:
    class Damaging(MemoryStore):
        async def complete(self, key: str, upload_id: str, parts: object) -> None:
            await super().complete(key, upload_id, parts)  # type: ignore[arg-type]  # as it came
            self.objects[key] = self.objects[key][::-1]

    store = Damaging()
    append(path, PART)
    mirror = mirror_of(store, path)
    mirror.closed.set()
    with pytest.raises(CopyDiffersError):
        await mirror.run()
    assert mirror.state is MirrorState.FAILED
    assert content(path) == PART, "the file stays"
    nothing_is_left(store, path)


@pytest.mark.parametrize("lost", ["nothing", "a part", "the upload", "the object is done"])
async def test_going_on_after_a_crash(store: MemoryStore, path: Path, autojump_clock: object, lost: str) -> None:
    """A SIGKILL leaves the upload open and the journal beside the file."""
    append(path, PART * 2 + b"end")
    upload_id = await store.begin(KEY, "audio/ogg")
    tags = [await store.put_part(KEY, upload_id, number, PART, md5_of(PART)) for number in (1, 2)]
    sent = tuple(SentPart(number, len(PART), md5_of(PART), tags[number - 1]) for number in (1, 2))
    journal_path(path).write_bytes(msgspec.json.encode(Journal(KEY, upload_id, sent)))
    if lost == "a part":
        del store.uploads[upload_id].parts[2]
    elif lost == "the upload":
        store.uploads.clear()
    elif lost == "the object is done":
        store.uploads.clear()
        store.objects[KEY] = content(path)
    store.calls.clear()
    mirror = mirror_of(store, path)
    mirror.closed.set()
    await mirror.run()
    assert store.objects[KEY] == content(path)
    sent_now = {"nothing": 1, "a part": 2}.get(lost, 3)
    assert store.calls.count("put_part") == sent_now
    nothing_is_left(store, path)


async def test_the_answer_to_the_beginning_is_lost(store: MemoryStore, path: Path, autojump_clock: object) -> None:
    store.fail("begin", AWAY, AWAY, late=True)
    await copy(mirror_of(store, path))
    nothing_is_left(store, path)


async def test_an_upload_that_cannot_be_aborted_is_in_the_journal(
    store: MemoryStore, path: Path, autojump_clock: object
) -> None:
    mirror = mirror_of(store, path)
    append(path, PART)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mirror.run)
        await trio.sleep(10)
        store.away = True
        nursery.cancel_scope.cancel("shutdown")
    journal = read_journal(path)
    assert journal is not None
    assert journal.upload_id in store.uploads
    store.away = False
    again = mirror_of(store, path)
    again.closed.set()
    await again.run()
    assert store.objects[KEY] == PART
    nothing_is_left(store, path)


@pytest.mark.parametrize("trouble", [False, True])
def test_whenever_it_is_cancelled_nothing_is_left(tmp_path: Path, trouble: bool) -> None:
    path = tmp_path / "program.ogg"
    stores: list[MemoryStore] = []

    async def scenario() -> None:
        path.write_bytes(b"")
        store = MemoryStore()
        stores.append(store)
        if trouble:
            for call in ("begin", "put_part", "complete"):
                store.fail(call, AWAY, late=True)
            store.fail("put_part", UploadGoneError("gone"))
        await copy(mirror_of(store, path))

    def check() -> None:
        nothing_is_left(stores[-1], path)

    assert sweep(scenario, check) > 20
    assert stores[-1].objects[KEY] == content(path)
