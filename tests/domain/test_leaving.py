"""What of an account its owner takes along, and what stays when they leave."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
import trio
from sqlalchemy import orm

from lac.auth.service import AuthService, SignedIn
from lac.broadcasts.model import BroadcastAction, BroadcastStatus, Role
from lac.broadcasts.service import BroadcastService
from lac.db import models
from lac.db.engine import Database
from lac.errors import ConflictError, LacError, NotFoundError
from lac.identity import Identity
from lac.rooms import store as room_store
from lac.rooms.values import Chat, Person
from tests.domain.conftest import EMAIL, NEW_PASSWORD, PASSWORD, START, acts, code_of

MakeAccount = Callable[..., Coroutine[Any, Any, Identity]]


# --- one's data -------------------------------------------------------------------------------------------------------


async def fill(db: Database, broadcasts: BroadcastService, me: Identity, other: Identity) -> tuple[str, str]:
    """Give `me` something of everything. Returns their own show and the one of `other`."""
    own, foreign = await broadcasts.create(me, "My show", tags=("jazz",)), await broadcasts.create(other, "Theirs")
    await broadcasts.set_role(other, foreign.id, me.id, Role.SPEAKER)
    person = Person(id=me.id, display_name="Ada", role=Role.SPEAKER)

    def write(session: orm.Session) -> None:
        session.add(models.Follow(follower_id=me.id, followed_id=other.id, created_at=START))
        session.add(models.Follow(follower_id=other.id, followed_id=me.id, created_at=START))
        session.add(models.Reminder(broadcast_id=foreign.id, user_id=me.id, created_at=START))
        for number, broadcast_id in enumerate((own.id, foreign.id)):
            chat = Chat(id=f"message-{number}", user=person, text=f"hello {number}", media_time=1.5, at=START)
            room_store.add_message(session, broadcast_id, chat, user_id=me.id)
        room_store.open_session_row(
            session,
            session_id="session-1",
            broadcast_id=foreign.id,
            person_id=me.id,
            user_id=me.id,
            kind="whip",
            direction="send",
            at=START,
        )
        room_store.add_ban(session, foreign.id, me.id, reason="noise", until=None, by=other.id, at=START)
        session.add(
            models.Recording(
                id="recording-1",
                broadcast_id=own.id,
                status=models.RecordingStatus.READY,
                title="My show",
                started_at=START,
                created_at=START,
            )
        )

    await db.run(write)
    return own.id, foreign.id


async def test_an_export_holds_everything_about_oneself_and_no_secret(
    db: Database, auth: AuthService, broadcasts: BroadcastService, ada: SignedIn, me: Identity, account: MakeAccount
) -> None:
    other = await account("other")
    own, foreign = await fill(db, broadcasts, me, other)
    await auth.refresh(ada.refresh_token)
    await auth.account.change_password(me, PASSWORD, NEW_PASSWORD)
    text = msgspec.json.encode(await auth.account.export(me)).decode()
    export = json.loads(text)

    assert export["account"]["email"] == EMAIL
    assert [broadcast["id"] for broadcast in export["broadcasts"]] == [own]
    assert export["broadcasts"][0]["tags"] == ["jazz"]
    assert [recording["id"] for recording in export["recordings"]] == ["recording-1"]
    assert export["roles"][0] | {"grantedAt": ""} == {"broadcastId": foreign, "role": "speaker", "grantedAt": ""}
    assert export["following"][0]["userId"] == export["followers"][0]["userId"] == other.id
    assert export["reminders"][0]["broadcastId"] == foreign
    assert sorted(message["text"] for message in export["messages"]) == ["hello 0", "hello 1"]
    assert export["mediaSessions"][0]["kind"] == "whip"
    assert export["bans"][0]["reason"] == "noise"
    assert [sign_in["refreshes"] for sign_in in export["signIns"]] == [1]
    assert {act["action"] for act in export["acts"]} == {"account.password_changed", "room.role_given"}
    stored = await db.read(lambda session: repr(session.execute(sa.select(models.RefreshToken.token_hash)).all()))
    # Names only: an id is random letters, and may spell it.
    assert not re.search(r'"\w*hash\w*":', text, re.IGNORECASE)
    assert not any(token in text for token in (ada.refresh_token, ada.access_token, *stored.split("'")[1::2]))
    assert "other@example.org" not in text


async def test_an_export_is_about_oneself(
    db: Database, auth: AuthService, broadcasts: BroadcastService, me: Identity, account: MakeAccount
) -> None:
    other = await account("other")
    await fill(db, broadcasts, me, other)
    third = await auth.account.export(await account("third"))
    lists = [getattr(third, name) for name in third.__struct_fields__ if name not in ("exported_at", "account")]
    assert lists == [[]] * len(lists)


# --- leaving ----------------------------------------------------------------------------------------------------------


async def test_a_deleted_account_takes_its_shows_along_and_leaves_its_words_without_a_name(
    db: Database, auth: AuthService, broadcasts: BroadcastService, ada: SignedIn, me: Identity, account: MakeAccount
) -> None:
    other = await account("other")
    own, foreign = await fill(db, broadcasts, me, other)
    await auth.account.delete(me, PASSWORD)

    assert await code_of(auth.identify(ada.access_token)) == "token_invalid"
    assert await code_of(auth.refresh(ada.refresh_token)) == "token_invalid"
    assert await code_of(auth.login(EMAIL, PASSWORD)) == "invalid_credentials"
    with pytest.raises(NotFoundError):
        await broadcasts.get(other, own)
    (message,) = await db.read(lambda session: room_store.recent_messages(session, foreign, 10))
    assert (message.text, message.user.display_name) == ("hello 1", "Deleted account")
    for table in (models.RefreshToken, models.AccountToken, models.Follow, models.Reminder, models.BroadcastRole):
        column = table.__table__.c.get("user_id", table.__table__.c.get("follower_id"))
        left = sa.select(sa.func.count()).where(column == me.id)
        assert await db.read(lambda session, left=left: session.scalar(left)) == 0
    assert set(await acts(db, me.id)) == {"room.role_given", "account.deleted"}
    await auth.register(EMAIL, PASSWORD, "Ada again")


async def test_nobody_leaves_in_the_middle_of_their_show(
    auth: AuthService, broadcasts: BroadcastService, me: Identity
) -> None:
    show = await broadcasts.create(me, "A show")
    await broadcasts.set_status(show.id, BroadcastAction.START)
    assert await code_of(auth.account.delete(me, PASSWORD)) == "show_is_live"
    await broadcasts.set_status(show.id, BroadcastAction.END)
    await auth.account.delete(me, PASSWORD)


async def test_a_show_that_starts_while_its_host_leaves_goes_one_way_or_the_other(
    db: Database, auth: AuthService, broadcasts: BroadcastService, account: MakeAccount
) -> None:
    for number in range(5):
        host = await account(f"host{number}")
        show = await broadcasts.create(host, "A show")
        results: set[str] = set()

        async def start(show_id: str = show.id, results: set[str] = results) -> None:
            try:
                await broadcasts.set_status(show_id, BroadcastAction.START)
                results.add("started")
            except NotFoundError:
                results.add("gone")

        async def leave(host: Identity = host, results: set[str] = results) -> None:
            try:
                await auth.account.delete(host, "correct horse")
                results.add("left")
            except ConflictError as error:
                results.add(error.code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave)
            nursery.start_soon(start)
        assert results in ({"started", "show_is_live"}, {"gone", "left"})
    live = sa.select(sa.func.count()).where(models.Broadcast.status == BroadcastStatus.LIVE)
    hosts = sa.select(sa.func.count()).select_from(models.User)
    assert await db.read(lambda session: session.scalar(live) == session.scalar(hosts))


async def test_somebody_who_leaves_makes_no_show_any_more(
    auth: AuthService, broadcasts: BroadcastService, account: MakeAccount
) -> None:
    for number in range(5):
        host = await account(f"host{number}")
        results: list[str] = []

        async def create(host: Identity = host, results: list[str] = results) -> None:
            try:
                results.append((await broadcasts.create(host, "A show")).id)
            except LacError as error:
                results.append(error.code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(auth.account.delete, host, "correct horse")
            nursery.start_soon(create)
        (result,) = results
        if result != "token_invalid":
            assert await code_of(broadcasts.get(None, result)) == "not_found"


async def test_the_only_admin_stays_until_there_is_another(auth: AuthService, account: MakeAccount) -> None:
    first = await account("first", is_admin=True)
    assert await code_of(auth.account.delete(first, "correct horse")) == "last_admin"
    await account("second", is_admin=True)
    await auth.account.delete(first, "correct horse")


async def test_of_two_admins_who_leave_at_the_same_time_one_stays(auth: AuthService, account: MakeAccount) -> None:
    admins = [await account(name, is_admin=True) for name in ("first", "second")]
    results: list[str] = []

    async def leave(admin: Identity) -> None:
        try:
            await auth.account.delete(admin, "correct horse")
            results.append("left")
        except ConflictError as error:
            results.append(error.code)

    async with trio.open_nursery() as nursery:
        for admin in admins:
            nursery.start_soon(leave, admin)
    assert sorted(results) == ["last_admin", "left"]
