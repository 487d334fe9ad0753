"""What rooms leave in the database: chat, reactions, media sessions and bans."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from lac.broadcasts.model import Role
from lac.broadcasts.service import BroadcastService
from lac.db import models
from lac.db.engine import Database
from lac.identity import Identity
from lac.paging import decode_cursor_untrusted
from lac.rooms import store
from lac.rooms.values import Chat, Person
from tests.domain.conftest import START

MakeAccount = Callable[..., Coroutine[Any, Any, Identity]]


@pytest.fixture
async def host(account: MakeAccount) -> Identity:
    return await account("host")


@pytest.fixture
async def show(broadcasts: BroadcastService, host: Identity) -> str:
    return (await broadcasts.create(host, "A show")).id


@pytest.fixture
async def other_show(broadcasts: BroadcastService, host: Identity) -> str:
    return (await broadcasts.create(host, "Another")).id


def chat(number: int, user: Person | None = None) -> Chat:
    person = user or Person(id="guest-1", display_name="Gast", role=Role.LISTENER, anonymous=True)
    at = START + timedelta(seconds=number // 2)  # two in each second
    return Chat(id=f"message-{number}", user=person, text=f"text {number}", media_time=number / 3, at=at)


async def test_messages_come_back_as_they_were_sent(db: Database, show: str, host: Identity) -> None:
    from_host = chat(1, Person(id=host.id, display_name="Host", role=Role.HOST))

    def write(session: orm.Session) -> None:
        store.add_message(session, show, chat(0), user_id=None)
        store.add_message(session, show, from_host, user_id=host.id)

    await db.run(write)
    assert await db.read(lambda session: store.recent_messages(session, show, 10)) == [chat(0), from_host]


async def test_recent_messages_are_the_last_ones_oldest_first(db: Database, show: str, other_show: str) -> None:
    def write(session: orm.Session) -> None:
        for number in range(9):
            store.add_message(session, show, chat(number), user_id=None)

    await db.run(write)
    recent = await db.read(lambda session: store.recent_messages(session, show, 4))
    assert [message.text for message in recent] == ["text 5", "text 6", "text 7", "text 8"]
    assert await db.read(lambda session: store.recent_messages(session, other_show, 4)) == []


async def test_the_history_is_paged_from_the_newest_back(db: Database, show: str) -> None:
    def write(session: orm.Session) -> None:
        for number in range(5):
            store.add_message(session, show, chat(number), user_id=None)

    await db.run(write)
    found: list[str] = []
    cursor: str | None = None
    while True:
        after = None if cursor is None else decode_cursor_untrusted(cursor)
        page = await db.read(lambda session, after=after: store.list_messages(session, show, limit=2, after=after))
        found += [message.id for message in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == [f"message-{number}" for number in (4, 3, 2, 1, 0)]


async def test_a_deleted_message_is_not_shown_and_is_deleted_once(db: Database, show: str, other_show: str) -> None:
    await db.run(lambda session: store.add_message(session, show, chat(0), user_id=None))
    for broadcast_id, expected in ((other_show, False), (show, True), (show, False)):
        deleted = await db.run(
            lambda session, where=broadcast_id: store.delete_message(session, where, "message-0", at=START)
        )
        assert deleted is expected
    assert await db.read(lambda session: store.recent_messages(session, show, 10)) == []


async def test_a_message_outlives_the_account_that_wrote_it(db: Database, show: str, account: MakeAccount) -> None:
    writer = await account("writer")
    message = chat(0, Person(id=writer.id, display_name="Writer", role=Role.LISTENER))
    await db.run(lambda session: store.add_message(session, show, message, user_id=writer.id))
    await db.run(lambda session: session.execute(sa.delete(models.User).where(models.User.id == writer.id)))
    assert await db.read(lambda session: store.recent_messages(session, show, 10)) == [message]


async def test_what_an_account_did_is_kept_even_if_it_was_deleted_before_the_writing(db: Database, show: str) -> None:
    def write(session: orm.Session) -> None:
        store.add_message(session, show, chat(0), user_id="gone")
        open_row(session, "s", show, user_id="gone")
        store.add_ban(session, show, "guest-1", reason=None, until=None, by="gone", at=START)

    await db.run(write)
    assert len(await db.read(lambda session: store.recent_messages(session, show, 10))) == 1


async def test_reactions_are_kept_with_their_moment(db: Database, show: str) -> None:
    await db.run(lambda session: store.add_reactions(session, show, {"👏": 3, "🔥": 1, "😮": 0}, 12.25, START))
    rows = sa.select(models.Reaction.emoji, models.Reaction.count, models.Reaction.media_time, models.Reaction.at)
    stored = await db.read(lambda session: [tuple(row) for row in session.execute(rows)])
    assert sorted(stored) == sorted([("👏", 3, 12.25, START), ("🔥", 1, 12.25, START)])


def open_row(session: orm.Session, session_id: str, broadcast_id: str, user_id: str | None = None) -> None:
    store.open_session_row(
        session,
        session_id=session_id,
        broadcast_id=broadcast_id,
        person_id="anon-1",
        user_id=user_id,
        kind="whep",
        direction="recv",
        at=START,
    )


def closed(session: orm.Session) -> dict[str, str | None]:
    return {row.id: row.close_reason for row in session.scalars(sa.select(models.MediaSession))}


async def test_the_first_reason_for_a_close_stays(db: Database, show: str) -> None:
    def write(session: orm.Session) -> None:
        open_row(session, "a", show)
        store.close_session_row(session, "a", "left", START)
        store.close_session_row(session, "a", "ended", START)
        store.close_session_row(session, "never opened", "left", START)

    await db.run(write)
    assert await db.read(closed) == {"a": "left"}


async def test_open_rows_are_closed_by_broadcast_or_all_together(db: Database, show: str, other_show: str) -> None:
    def write(session: orm.Session) -> None:
        open_row(session, "a", show)
        open_row(session, "b", show)
        open_row(session, "c", other_show)
        store.close_session_row(session, "a", "left", START)

    await db.run(write)
    assert await db.run(lambda session: store.close_open_sessions(session, show, "ended", START)) == 1
    assert await db.read(closed) == {"a": "left", "b": "ended", "c": None}
    assert await db.run(lambda session: store.close_open_sessions(session, None, "restarted", START)) == 1
    assert await db.read(closed) == {"a": "left", "b": "ended", "c": "restarted"}


async def test_a_ban_holds_in_its_broadcast_until_it_is_over(
    db: Database, show: str, other_show: str, host: Identity
) -> None:
    def ban(session: orm.Session) -> None:
        until = START + timedelta(hours=1)
        store.add_ban(session, show, "guest-1", reason="noise", until=until, by=host.id, at=START)

    async def is_banned(broadcast_id: str, *, hours: float) -> bool:
        at = START + timedelta(hours=hours)
        return await db.read(lambda session: store.is_banned(session, broadcast_id, "guest-1", at))

    assert not await is_banned(show, hours=0)
    await db.run(ban)
    assert await is_banned(show, hours=0.99)
    assert not await is_banned(show, hours=1)
    assert not await is_banned(other_show, hours=0)


async def test_a_later_ban_replaces_an_earlier_one_and_can_be_lifted(db: Database, show: str) -> None:
    def ban_twice(session: orm.Session) -> None:
        store.add_ban(session, show, "guest-1", reason=None, until=START, by=None, at=START)
        store.add_ban(session, show, "guest-1", reason=None, until=None, by=None, at=START)

    forever = START + timedelta(days=10_000)
    await db.run(ban_twice)
    assert await db.read(lambda session: store.is_banned(session, show, "guest-1", forever))
    await db.run(lambda session: store.remove_ban(session, show, "guest-1"))
    assert not await db.read(lambda session: store.is_banned(session, show, "guest-1", forever))


async def test_a_banned_guest_is_known_by_where_they_come_from(db: Database, show: str, other_show: str) -> None:
    until = START + timedelta(hours=1)

    def ban(session: orm.Session) -> None:
        store.add_ban(session, show, "guest-1", reason=None, until=until, by=None, at=START, address_hash="here")
        store.add_ban(session, show, "guest-2", reason=None, until=None, by=None, at=START)

    async def is_banned(broadcast_id: str, person_id: str, address_hash: str | None, *, hours: float = 0) -> bool:
        at = START + timedelta(hours=hours)
        return await db.read(
            lambda session: store.is_banned(session, broadcast_id, person_id, at, address_hash=address_hash)
        )

    await db.run(ban)
    assert await is_banned(show, "guest-1", None)
    assert await is_banned(show, "guest-9", "here")
    assert not await is_banned(show, "guest-9", "there")
    assert not await is_banned(show, "guest-9", None)
    assert not await is_banned(show, "guest-9", "here", hours=1)
    assert not await is_banned(other_show, "guest-9", "here")
    assert await is_banned(show, "guest-2", "there", hours=10_000)


async def test_all_of_it_goes_with_the_broadcast(
    db: Database, broadcasts: BroadcastService, show: str, host: Identity
) -> None:
    def write(session: orm.Session) -> None:
        store.add_message(session, show, chat(0), user_id=None)
        store.add_reactions(session, show, {"👏": 1}, 0.0, START)
        open_row(session, "a", show)
        store.add_ban(session, show, "guest-1", reason=None, until=None, by=host.id, at=START)

    await db.run(write)
    await broadcasts.delete(host, show)
    for table in (models.ChatMessage, models.Reaction, models.MediaSession, models.Ban):
        count = sa.select(sa.func.count()).select_from(table)
        assert await db.read(lambda session, count=count: session.scalar(count)) == 0
