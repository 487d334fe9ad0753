"""The audit log, which nobody can change, and answers kept for requests that come twice."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
import trio
from sqlalchemy import orm

from lac import idempotency
from lac.audit import add_audit, list_audit
from lac.broadcasts.service import BroadcastService
from lac.db import models
from lac.db.engine import Database
from lac.errors import ConflictError, InvalidInputError
from lac.idempotency import KeptAnswer
from lac.identity import Identity
from lac.paging import decode_cursor_untrusted
from tests.domain.conftest import START

MakeAccount = Callable[..., Coroutine[Any, Any, Identity]]


def write(session: orm.Session, number: int, broadcast_id: str = "show") -> None:
    add_audit(
        session,
        f"act-{number}",
        at=START + timedelta(seconds=number // 2),  # two in each second
        actor_id="mod",
        broadcast_id=broadcast_id,
        target_id="guest",
        detail={"number": number},
    )


async def test_what_was_done_is_listed_page_by_page_the_latest_first(db: Database) -> None:
    def write_all(session: orm.Session) -> None:
        for number in range(7):
            write(session, number)
        write(session, 99, "another show")

    await db.run(write_all)
    seen: list[int] = []
    after = None
    for _ in range(4):
        page = await db.read(lambda session, after=after: list_audit(session, "show", limit=2, after=after))
        seen += [entry.detail["number"] for entry in page.items]
        if page.next_cursor is None:
            break
        after = decode_cursor_untrusted(page.next_cursor)
    assert sorted(seen) == list(range(7))
    assert [number // 2 for number in seen] == [3, 2, 2, 1, 1, 0, 0]


async def test_an_entry_says_who_did_what_to_whom_when(db: Database) -> None:
    await db.run(lambda session: write(session, 2))
    (entry,) = (await db.read(lambda session: list_audit(session, "show", limit=1))).items
    assert (entry.actor_id, entry.action, entry.broadcast_id, entry.target_id) == ("mod", "act-2", "show", "guest")
    assert entry.at == START + timedelta(seconds=1)


@pytest.mark.parametrize(
    "tampering",
    [
        sa.delete(models.AuditEntry),
        sa.update(models.AuditEntry).values(action="nothing"),
        sa.update(models.AuditEntry).where(models.AuditEntry.id == "x").values(detail={}),
    ],
)
async def test_no_entry_can_be_changed_or_taken_back(db: Database, tampering: sa.Delete | sa.Update) -> None:
    await db.run(lambda session: write(session, 1))
    if "id" not in str(tampering.whereclause):  # on SQLite the refusal is per row
        with pytest.raises(sa.exc.IntegrityError, match="append-only"):
            await db.run(lambda session: session.execute(tampering))
    assert len((await db.read(lambda session: list_audit(session, "show", limit=9))).items) == 1


@pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
async def test_the_log_is_not_emptied_as_a_whole_either(db: Database) -> None:
    await db.run(lambda session: write(session, 1))
    with pytest.raises(sa.exc.IntegrityError, match="append-only"):
        await db.run(lambda session: session.execute(sa.text("TRUNCATE audit_log")))


async def test_the_log_outlives_the_broadcast_and_the_people(
    db: Database, broadcasts: BroadcastService, account: MakeAccount
) -> None:
    host = await account("host")
    show = await broadcasts.create(host, "A show")
    await db.run(lambda session: write(session, 1, show.id))
    await broadcasts.delete(host, show.id)
    assert len((await db.read(lambda session: list_audit(session, show.id, limit=9))).items) == 1


async def test_an_act_that_fails_leaves_no_entry(db: Database) -> None:
    def fail(session: orm.Session) -> None:
        write(session, 1)
        raise RuntimeError("after all not")

    with pytest.raises(RuntimeError, match="after all not"):
        await db.run(fail)
    assert (await db.read(lambda session: list_audit(session, "show", limit=9))).items == ()


# --- idempotency keys -------------------------------------------------------------------------------------------------

ANSWER = KeptAnswer(201, '{"id": "x"}')


async def test_a_repeated_request_finds_its_answer(db: Database, account: MakeAccount) -> None:
    ada, bob = await account("ada"), await account("bob")

    async def find(user: Identity, key: str, request_hash: str = "hash", *, hours: float = 0) -> KeptAnswer | None:
        at = START + timedelta(hours=hours)
        return await db.read(lambda session: idempotency.find_answer(session, user.id, key, request_hash, at=at))

    assert await find(ada, "key") is None
    await db.run(lambda session: idempotency.keep_answer(session, ada.id, "key", "hash", ANSWER, at=START))
    assert await find(ada, "key") == ANSWER
    assert await find(ada, "key", hours=23.9) == ANSWER
    assert await find(ada, "key", hours=24) is None
    assert await find(ada, "another") is None
    assert await find(bob, "key") is None
    with pytest.raises(InvalidInputError) as caught:
        await find(ada, "key", "hash of another request")
    assert caught.value.code == "idempotency_key_reused"


async def test_a_key_can_be_used_again_when_its_day_is_over(db: Database, account: MakeAccount) -> None:
    ada = await account("ada")
    for day in range(3):
        at = START + timedelta(days=day)
        await db.run(lambda session, at=at: idempotency.keep_answer(session, ada.id, "key", "hash", ANSWER, at=at))
    count = sa.select(sa.func.count()).select_from(models.IdempotencyKey)
    assert await db.read(lambda session: session.scalar(count)) == 1


async def test_of_two_requests_with_one_key_at_the_same_time_one_happens(db: Database, account: MakeAccount) -> None:
    ada = await account("ada")
    results: list[str] = []

    def act(session: orm.Session) -> None:
        write(session, 1)
        idempotency.keep_answer(session, ada.id, "key", "hash", ANSWER, at=START)

    async def request() -> None:
        try:
            await db.run(act)
            results.append("done")
        except ConflictError as error:
            results.append(error.code)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(request)
    assert sorted(results) == ["done"] + ["request_repeated"] * 3
    assert len((await db.read(lambda session: list_audit(session, "show", limit=9))).items) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "ä", "a\0b", "a\nb", "\ud800"])
def test_what_cannot_be_a_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidInputError):
        idempotency.check_key(key)


def test_what_can_be_a_key_is_taken() -> None:
    assert idempotency.check_key("x" * 255)
    assert idempotency.check_key("2f1c7d9e-5a34-4f4e-9c8b-000000000000")
