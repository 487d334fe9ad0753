"""What moderation, people and reminders leave in the database, on both kinds of it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import orm

from lac.audit import list_audit
from lac.broadcasts import store as broadcast_store
from lac.broadcasts.model import ChatMode, Role, RoomSettings
from lac.broadcasts.service import BroadcastService
from lac.db.engine import Database
from lac.errors import NotFoundError
from lac.identity import Identity
from lac.people.service import PeopleService
from lac.people.store import FOLLOWERS, FOLLOWING
from lac.rooms import store
from lac.rooms.acts import RoomAct, audited
from lac.rooms.kept_out import Exclusion
from lac.rooms.records import Records
from lac.rooms.values import Chat, Person
from tests.domain.conftest import START

MakeAccount = Callable[..., Coroutine[Any, Any, Identity]]


@pytest.fixture
async def host(account: MakeAccount) -> Identity:
    return await account("host")


@pytest.fixture
async def show(broadcasts: BroadcastService, host: Identity) -> str:
    return (await broadcasts.create(host, "A show")).id


def chat(number: int, person_id: str = "guest-1") -> Chat:
    user = Person(id=person_id, display_name="Gast", role=Role.LISTENER, anonymous=True)
    return Chat(id=f"m{number}", user=user, text="x", media_time=0.0, at=START + timedelta(seconds=number // 2))


async def test_messages_are_missed_deleted_and_cleared(db: Database, show: str, host: Identity) -> None:
    def write(session: orm.Session) -> None:
        for number in range(8):
            store.add_message(session, show, chat(number, f"guest-{number % 2}"), user_id=None)

    await db.run(write)
    records = Records(db)
    await records.delete_message(show, "m2", Role.HOST, audited(RoomAct.MESSAGE_DELETED, host.id))
    missed = await records.missed_messages(show, "m2", 10)
    assert missed is not None
    assert ([message.id for message in missed.messages], missed.more) == (["m3", "m4", "m5", "m6", "m7"], False)
    missed = await records.missed_messages(show, "m0", 2)
    assert missed is not None
    assert ([message.id for message in missed.messages], missed.more) == (["m6", "m7"], True)
    assert await records.missed_messages("elsewhere", "m0", 2) is None
    cleared = await records.clear_messages(show, "guest-1", audited(RoomAct.MESSAGES_CLEARED, host.id, "guest-1"))
    assert sorted(cleared) == ["m1", "m3", "m5", "m7"]
    with pytest.raises(NotFoundError):
        await records.delete_message(show, "m1", Role.HOST, audited(RoomAct.MESSAGE_DELETED, host.id))
    lines = (await db.read(lambda session: list_audit(session, show, limit=9))).items
    assert [(line.action, line.target_id) for line in lines] == [
        (RoomAct.MESSAGES_CLEARED, "guest-1"),
        (RoomAct.MESSAGE_DELETED, "guest-0"),
    ]
    figures = await db.read(lambda session: store.figures(session, show))
    assert (figures.messages, figures.sessions, figures.people, figures.reactions) == (3, 0, 0, {})


@pytest.mark.parametrize("mode", list(ChatMode))
async def test_settings_come_back_as_they_were_stored(
    db: Database, broadcasts: BroadcastService, show: str, host: Identity, mode: ChatMode
) -> None:
    settings = RoomSettings(slow_mode_s=5, chat_mode=mode, locked=True)
    await Records(db).store_settings(show, settings, audited(RoomAct.SETTINGS_CHANGED, host.id))
    assert (await broadcasts.get(host, show)).settings == settings


async def test_bans_are_listed_and_known_when_a_room_opens(db: Database, show: str, account: MakeAccount) -> None:
    ann, records = await account("ann"), Records(db)
    for ban in (
        Exclusion(ann.id),
        Exclusion("guest-1", "hash"),
        Exclusion("over", until=START - timedelta(days=10_000)),
    ):
        await records.add_ban(show, ban, "noise", audited(RoomAct.BANNED, "gone", ban.person_id))
    bans = (await records.memory(show)).bans
    assert {(ban.person_id, ban.address_hash) for ban in bans} == {(ann.id, None), ("guest-1", "hash")}
    first = await db.read(lambda session: store.list_bans(session, show, limit=2))
    assert len(first.items) == 2
    assert first.next_cursor is not None
    found = await db.read(lambda session: store.find_ban(session, show, ann.id))
    assert found is not None
    assert (found.display_name, found.created_by) == ("Ann", None)
    assert await records.lift_ban(show, ann.id, audited(RoomAct.BAN_LIFTED, "x", ann.id), removed=False)
    assert not await records.lift_ban(show, ann.id, audited(RoomAct.BAN_LIFTED, "x", ann.id), removed=False)


async def test_a_granted_role_does_not_replace_a_stronger_one(
    db: Database, broadcasts: BroadcastService, show: str, host: Identity, account: MakeAccount
) -> None:
    ann, bob = await account("ann"), await account("bob")
    await broadcasts.set_role(host, show, ann.id, Role.COHOST)
    for person, role in ((ann, Role.COHOST), (bob, Role.SPEAKER)):
        line = audited(RoomAct.INVITE_ACCEPTED, person.id, person.id)
        assert await Records(db).grant_speaker(show, person.id, "gone", line) is role
        granted = await db.read(lambda session, whom=person.id: broadcast_store.granted_role(session, show, whom))
        assert granted is role


async def test_follows_and_reminders(
    db: Database, broadcasts: BroadcastService, show: str, host: Identity, account: MakeAccount
) -> None:
    people, ann = PeopleService(db, broadcasts), await account("ann")
    for _ in range(2):
        await people.follow(ann, host.id)
        await people.remind(ann, show)
    assert await Records(db).follows(ann.id, host.id)
    assert [who.id for who in (await people.follows(host.id, FOLLOWERS, 10, None)).items] == [ann.id]
    assert [who.id for who in (await people.follows(ann.id, FOLLOWING, 10, None)).items] == [host.id]
    assert (await people.profile(ann, host.id)).followed
    await people.unfollow(ann, host.id)
    await people.forget_reminder(ann, show)
    assert (await people.profile(ann, host.id)).followers == 0
