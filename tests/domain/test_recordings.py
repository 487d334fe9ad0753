"""Recordings in both databases: states, lists, who sees what, and what is remembered of those that are removed."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from lac.auth.service import AuthService
from lac.broadcasts.model import Role, Visibility
from lac.broadcasts.service import BroadcastService
from lac.db.engine import Database
from lac.errors import ChangedError, ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from lac.identity import Identity
from lac.recordings import store
from lac.recordings.model import Failure, Recording, RecordingStatus
from lac.recordings.service import RecordingService
from lac.rooms import store as room_store
from lac.rooms.values import Chat, Person
from tests.domain.conftest import START, TurnableClock
from tests.recordings.room import a_recording

Account = Callable[..., Awaitable[Identity]]
READY, FAILED, RECORDING, PROCESSING = (
    RecordingStatus.READY,
    RecordingStatus.FAILED,
    RecordingStatus.RECORDING,
    RecordingStatus.PROCESSING,
)


class NoArchive:
    """`RecordingService` needs it for files only."""

    def wake(self) -> None: ...

    def directory(self, recording_id: str) -> Path:
        return Path(recording_id)


@pytest.fixture
def recordings(db: Database, broadcasts: BroadcastService, clock: TurnableClock) -> RecordingService:
    return RecordingService(db, broadcasts, cast("Any", NoArchive()), clock=clock)


async def put(db: Database, broadcast_id: str, recording_id: str, *, minutes: float = 0, **fields: Any) -> Recording:
    recording = dataclasses.replace(
        a_recording(recording_id),
        broadcast_id=broadcast_id,
        started_at=START + timedelta(minutes=minutes),
        **{"status": READY, **fields},
    )
    await db.run(lambda session: store.add(session, recording))
    return recording


async def test_every_field_comes_back(db: Database, broadcasts: BroadcastService, account: Account) -> None:
    show = await broadcasts.create(await account("ada"), "A show")
    recording = await put(db, show.id, "rec-1", failure=Failure.DISK_FULL, lost_s=2.5, size_bytes=2**40, part=3)
    assert await db.read(lambda session: store.find(session, "rec-1")) == recording
    assert await db.read(lambda session: store.latest(session, show.id)) == recording
    assert await db.read(lambda session: store.next_part(session, show.id)) == 4


@pytest.mark.parametrize("before", RecordingStatus)
@pytest.mark.parametrize("after", RecordingStatus)
async def test_states_move_forward_only(
    db: Database, broadcasts: BroadcastService, account: Account, before: RecordingStatus, after: RecordingStatus
) -> None:
    show = await broadcasts.create(await account("ada"), "A show")
    await put(db, show.id, "rec-1", status=before)
    allowed = before is after or (before, after) in {(RECORDING, PROCESSING), (PROCESSING, READY), (PROCESSING, FAILED)}
    if allowed:
        moved = await db.run(lambda session: store.move(session, "rec-1", after, {"duration_s": 1.5}))
        assert moved is not None
        assert (moved.status, moved.duration_s) == (after, 1.5)
    else:
        with pytest.raises(ConflictError):
            await db.run(lambda session: store.move(session, "rec-1", after))
    assert await db.run(lambda session: store.move(session, "none", PROCESSING)) is None


async def test_lists_come_in_pages_without_a_hole_and_the_latest_first(
    db: Database, broadcasts: BroadcastService, recordings: RecordingService, account: Account
) -> None:
    show = await broadcasts.create(await account("ada"), "A show")
    for number in range(7):
        await put(db, show.id, f"rec-{number}", minutes=number // 2)
    seen: list[str] = []
    cursor = None
    while True:
        page = await recordings.list(None, show.id, limit=2, cursor=cursor)
        seen += [item.id for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [f"rec-{number}" for number in (6, 5, 4, 3, 2, 1, 0)]
    with pytest.raises(InvalidInputError):
        await recordings.list(None, cursor="nonsense")
    shows = await broadcasts.list(None, limit=1)
    assert shows.next_cursor is None


async def test_who_sees_which_recordings(
    db: Database, broadcasts: BroadcastService, recordings: RecordingService, account: Account
) -> None:
    host, cohost, guest, other = [await account(name) for name in ("ada", "bo", "cy", "di")]
    admin = await account("eve", is_admin=True)
    public = await broadcasts.create(host, "Public")
    unlisted = await broadcasts.create(host, "Unlisted", visibility=Visibility.UNLISTED)
    private = await broadcasts.create(host, "Private", visibility=Visibility.PRIVATE)
    for show in (public, unlisted, private):
        await broadcasts.set_role(host, show.id, cohost.id, Role.COHOST)
        await broadcasts.set_role(host, show.id, guest.id, Role.SPEAKER)
        for status in RecordingStatus:
            await put(db, show.id, f"{show.title} {status}", status=status)

    async def listed(identity: Identity | None, **which: str) -> set[str]:
        return {item.id for item in (await recordings.list(identity, limit=100, **which)).items}

    everything = {f"{show} {status}" for show in ("Public", "Unlisted", "Private") for status in RecordingStatus}
    ready = {"Public ready", "Unlisted ready", "Private ready"}
    for identity, expected in (
        (None, {"Public ready"}),
        (other, {"Public ready"}),
        (guest, ready),
        (cohost, ready),
        (host, everything),
        (admin, everything),
    ):
        assert await listed(identity) == expected
        assert await listed(identity, host_id=host.id) == expected
        assert await listed(identity, host_id=other.id) == set()
    assert await listed(None, broadcast_id=unlisted.id) == {"Unlisted ready"}
    assert await listed(cohost, broadcast_id=private.id) == {f"Private {status}" for status in RecordingStatus}
    with pytest.raises(NotFoundError):
        await recordings.list(other, private.id)

    for recording_id in everything:
        for identity, may in ((cohost, True), (host, True), (admin, True), (guest, recording_id in ready)):
            if may:
                assert (await recordings.get(identity, recording_id)).recording.id == recording_id
            else:
                with pytest.raises(NotFoundError):
                    await recordings.get(identity, recording_id)
    for identity in (None, other):
        assert (await recordings.get(identity, "Unlisted ready")).recording.title
        for hidden in ("Private ready", "Public failed", "none", "nul\0"):
            with pytest.raises(NotFoundError):
                await recordings.get(identity, hidden)


async def test_changing_one(
    db: Database, broadcasts: BroadcastService, recordings: RecordingService, account: Account
) -> None:
    host, cohost = await account("ada"), await account("bo")
    show = await broadcasts.create(host, "A show")
    await broadcasts.set_role(host, show.id, cohost.id, Role.COHOST)
    await put(db, show.id, "rec-1")
    changed = (await recordings.update(host, "rec-1", {"title": "  Another\n one "})).recording
    assert (changed.title, changed.revision) == ("Another one", 2)
    with pytest.raises(ForbiddenError):
        await recordings.update(cohost, "rec-1", {"title": "x"})
    with pytest.raises(InvalidInputError):
        await recordings.update(host, "rec-1", {"title": "x" * 201})
    with pytest.raises(ChangedError):
        await recordings.update(host, "rec-1", {"title": "x"}, only_if=lambda current: current.revision == 1)


async def test_what_is_removed_is_remembered_until_its_files_are_gone(
    db: Database, broadcasts: BroadcastService, recordings: RecordingService, account: Account, auth: AuthService
) -> None:
    host, cohost = await account("ada"), await account("bo")
    show, second = await broadcasts.create(host, "A show"), await broadcasts.create(host, "Another")
    await broadcasts.set_role(host, show.id, cohost.id, Role.COHOST)
    for name, of in (("rec-1", show), ("rec-2", show), ("rec-3", second)):
        await put(db, of.id, name)
    await put(db, show.id, "rec-4", status=RECORDING)
    with pytest.raises(ForbiddenError):
        await recordings.delete(cohost, "rec-1")
    with pytest.raises(ConflictError):
        await recordings.delete(host, "rec-4")
    await recordings.delete(host, "rec-1")
    with pytest.raises(NotFoundError):
        await recordings.delete(host, "rec-1")
    assert await db.read(store.removed_ids) == ["rec-1"]
    await broadcasts.delete(host, show.id)
    assert set(await db.read(store.removed_ids)) == {"rec-1", "rec-2", "rec-4"}
    await auth.account.delete(host, "correct horse")
    assert set(await db.read(store.removed_ids)) == {"rec-1", "rec-2", "rec-3", "rec-4"}
    for name in ("rec-1", "rec-1"):
        await db.run(lambda session, name=name: store.forget_removed(session, name))
    assert set(await db.read(store.removed_ids)) == {"rec-2", "rec-3", "rec-4"}


async def test_the_chat_is_on_the_recordings_time_and_forgets_what_was_deleted(
    db: Database, broadcasts: BroadcastService, recordings: RecordingService, account: Account
) -> None:
    show = await broadcasts.create(await account("ada"), "A show")
    await put(db, show.id, "rec-1", media_start_s=100.0, duration_s=60.0, ended_at=START + timedelta(minutes=1))
    user = Person(id="guest-1", display_name="Guest", role=Role.LISTENER, anonymous=True)

    async def say(number: int, media_time: float, at_s: float) -> None:
        chat = Chat(
            id=f"m{number}", user=user, text=f"line {number}", media_time=media_time, at=START + timedelta(seconds=at_s)
        )
        await db.run(lambda session: room_store.add_message(session, show.id, chat, user_id=None))

    await say(0, 99.0, -1)  # before
    for number in range(1, 6):
        await say(number, 100.0 + 10 * number, 10 * number)
    await say(6, 161.0, 61)  # after
    await say(7, 110.0, 3600)  # of the next run of the process
    await db.run(lambda session: room_store.delete_message(session, show.id, "m3", at=START))
    found = await recordings.get(None, "rec-1")
    page = await recordings.chat(found, 3)
    assert [(said.id, said.start_s) for said in page.items] == [("m1", 10.0), ("m2", 20.0), ("m4", 40.0)]
    rest = await recordings.chat(found, 3, page.next_cursor)
    assert [(said.id, said.text) for said in rest.items] == [("m5", "line 5")]
    assert rest.next_cursor is None
    with pytest.raises(InvalidInputError):
        await recordings.chat(found, 3, (await recordings.list(None, show.id, limit=1)).next_cursor or "x")
