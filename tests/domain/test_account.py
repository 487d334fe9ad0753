"""One's own account: the link that confirms an address, passwords changed and recovered, data taken along, leaving."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
import structlog.testing
import trio
from sqlalchemy import orm

from lac.audit import entries_about
from lac.auth import account as account_module
from lac.auth.passwords import PasswordHasher
from lac.auth.service import AuthService, SignedIn
from lac.auth.tokens import hash_address
from lac.broadcasts.model import BroadcastAction, BroadcastStatus, Role
from lac.broadcasts.service import BroadcastService
from lac.config import Settings
from lac.db import models
from lac.db.engine import Database
from lac.errors import ConflictError, InvalidInputError, LacError, NotFoundError, TooManyRequestsError
from lac.identity import Identity, IdentityKind
from lac.mail import ConsoleMailer, Mail
from lac.rooms import store as room_store
from lac.rooms.values import Chat, Person
from tests.domain.conftest import START, TurnableClock
from tests.fakes.mail import Mailbox

MakeAccount = Callable[..., Coroutine[Any, Any, Identity]]
EMAIL = "ada@example.org"
PASSWORD = "correct horse battery"
NEW = "a different password"
GUEST = Identity(IdentityKind.GUEST, "guest-1", "Gast", broadcast_id="elsewhere")


async def code_of(call: Coroutine[Any, Any, object]) -> str:
    """The code of the error that `call` ends with."""
    with pytest.raises(LacError) as caught:
        await call
    return caught.value.code


@pytest.fixture(autouse=True)
def _answer_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_module, "RESET_ANSWER_S", 0.0)


@pytest.fixture
async def ada(auth: AuthService) -> SignedIn:
    return await auth.register(EMAIL, PASSWORD, "Ada")


@pytest.fixture
async def me(auth: AuthService, ada: SignedIn) -> Identity:
    return await auth.identify(ada.access_token)


async def acts(db: Database, user_id: str) -> list[str]:
    return [entry.action for entry in await db.read(lambda session: entries_about(session, user_id))]


# --- the link that confirms an address --------------------------------------------------------------------------------


async def test_a_new_account_is_sent_a_link_that_confirms_its_address(
    db: Database, auth: AuthService, ada: SignedIn, mailbox: Mailbox
) -> None:
    assert not ada.user.email_verified
    await auth.account.verify_email(mailbox.last_token(EMAIL, "verify-email"))
    assert (await auth.get_user(ada.user.id)).email_verified
    assert await acts(db, ada.user.id) == ["account.email_verified"]


async def test_clicking_the_link_twice_is_fine_and_counts_once(
    db: Database, auth: AuthService, ada: SignedIn, mailbox: Mailbox
) -> None:
    for _ in range(2):
        await auth.account.verify_email(mailbox.last_token(EMAIL, "verify-email"))
    assert await acts(db, ada.user.id) == ["account.email_verified"]


async def test_a_confirmation_link_expires_and_another_one_can_be_had(
    auth: AuthService, me: Identity, mailbox: Mailbox, clock: TurnableClock
) -> None:
    first = mailbox.last_token(EMAIL, "verify-email")
    clock.advance(days=3)
    assert await code_of(auth.account.verify_email(first)) == "verify_token_invalid"
    await auth.account.request_verification(me)
    await auth.account.verify_email(mailbox.last_token(EMAIL, "verify-email"))
    sent = len(mailbox.mails)
    await auth.account.request_verification(me)  # confirmed: nothing to send
    assert len(mailbox.mails) == sent


async def test_one_account_is_sent_three_links_in_an_hour(
    auth: AuthService, me: Identity, mailbox: Mailbox, clock: TurnableClock
) -> None:
    clock.advance(minutes=20)
    await auth.account.request_verification(me)
    await auth.account.request_verification(me)
    with pytest.raises(TooManyRequestsError) as caught:
        await auth.account.request_verification(me)
    assert (caught.value.code, caught.value.retry_after_s) == ("mail_limit", 40 * 60)
    clock.advance(minutes=40)
    await auth.account.request_verification(me)
    assert len(mailbox.mails) == 4


async def test_registering_does_not_fail_for_a_mail_that_cannot_be_sent(auth: AuthService, mailbox: Mailbox) -> None:
    mailbox.away = True
    with structlog.testing.capture_logs() as logs:
        ada = await auth.register(EMAIL, PASSWORD, "Ada")
    assert logs[0]["what"] == "welcome mail"
    await auth.identify(ada.access_token)


async def test_nothing_in_a_mail_to_a_stranger_was_written_by_another_stranger(
    auth: AuthService, mailbox: Mailbox
) -> None:
    await auth.register(EMAIL, PASSWORD, "You won! spam.example")
    (mail,) = mailbox.mails
    assert "spam" not in mail.text + mail.subject


async def test_links_lead_to_the_public_address(
    db: Database, settings: Settings, hasher: PasswordHasher, mailbox: Mailbox
) -> None:
    public = replace(settings, public_url="https://audio.example.org")
    await AuthService(db, public, hasher=hasher, mailer=mailbox).register(EMAIL, PASSWORD, "Ada")
    assert "https://audio.example.org/verify-email#token=" in mailbox.mails[0].text


# --- a new password for the old one -----------------------------------------------------------------------------------


async def test_a_changed_password_ends_every_other_sign_in(
    db: Database, auth: AuthService, ada: SignedIn, me: Identity
) -> None:
    elsewhere = await auth.login(EMAIL, PASSWORD)
    await auth.account.change_password(me, PASSWORD, NEW)
    await auth.identify(ada.access_token)
    await auth.refresh(ada.refresh_token)
    assert await code_of(auth.identify(elsewhere.access_token)) == "token_invalid"
    assert await code_of(auth.refresh(elsewhere.refresh_token)) == "token_invalid"
    assert await code_of(auth.login(EMAIL, PASSWORD)) == "invalid_credentials"
    await auth.login(EMAIL, NEW)
    assert await acts(db, ada.user.id) == ["account.password_changed"]


@pytest.mark.parametrize("current", ["wrong horse battery", "", "short", "x" * 10_000, "\ud800" * 12])
async def test_who_does_not_know_the_password_does_not_change_it(auth: AuthService, me: Identity, current: str) -> None:
    assert await code_of(auth.account.change_password(me, current, NEW)) == "wrong_password"
    assert await code_of(auth.account.delete(me, current)) == "wrong_password"
    await auth.login(EMAIL, PASSWORD)


async def test_a_new_password_has_to_be_one(auth: AuthService, me: Identity) -> None:
    with pytest.raises(InvalidInputError) as caught:
        await auth.account.change_password(me, PASSWORD, "short")
    assert [error.field for error in caught.value.errors] == ["newPassword"]


async def test_of_two_changes_at_the_same_time_one_counts(auth: AuthService, me: Identity) -> None:
    results: list[str] = []

    async def change(new: str) -> None:
        try:
            await auth.account.change_password(me, PASSWORD, new)
            results.append(new)
        except LacError as error:
            results.append(error.code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(change, "the first new one")
        nursery.start_soon(change, "the second new one")
    (new,) = set(results) - {"wrong_password"}
    assert len(results) == 2
    await auth.login(EMAIL, new)


async def test_a_guest_has_no_password_no_data_and_nothing_to_delete(auth: AuthService) -> None:
    for call in (
        auth.account.change_password(GUEST, PASSWORD, NEW),
        auth.account.delete(GUEST, PASSWORD),
        auth.account.export(GUEST),
        auth.account.request_verification(GUEST),
        auth.logout_everywhere(GUEST),
    ):
        assert await code_of(call) == "account_needed"


# --- a lost password --------------------------------------------------------------------------------------------------


async def test_a_lost_password_is_replaced_by_way_of_the_mailbox(
    db: Database, auth: AuthService, ada: SignedIn, mailbox: Mailbox
) -> None:
    await auth.account.request_password_reset(" ADA@example.org ")
    await auth.account.reset_password(mailbox.last_token(EMAIL, "reset-password"), NEW)
    assert await code_of(auth.identify(ada.access_token)) == "token_invalid"
    assert await code_of(auth.refresh(ada.refresh_token)) == "token_invalid"
    assert await code_of(auth.login(EMAIL, PASSWORD)) == "invalid_credentials"
    # Whoever got the mail has shown that the address is theirs.
    assert (await auth.login(EMAIL, NEW)).user.email_verified
    assert await acts(db, ada.user.id) == ["account.password_reset"]


@pytest.mark.parametrize("email", ["bob@example.org", "nonsense", "", "\0", "\ud800@example.org", "x" * 10_000])
async def test_asking_for_nobodys_password_is_answered_alike(
    auth: AuthService, ada: SignedIn, mailbox: Mailbox, email: str
) -> None:
    sent = len(mailbox.mails)
    await auth.account.request_password_reset(email)
    assert len(mailbox.mails) == sent


async def test_the_answer_takes_as_long_for_nobody_as_for_somebody(
    auth: AuthService, ada: SignedIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_module, "RESET_ANSWER_S", 0.2)
    for email in (EMAIL, "bob@example.org", "nonsense"):
        started = time.monotonic()
        await auth.account.request_password_reset(email)
        assert time.monotonic() - started >= 0.19


async def test_a_mail_that_cannot_be_sent_tells_nobody_that_there_is_an_account(
    auth: AuthService, ada: SignedIn, mailbox: Mailbox
) -> None:
    mailbox.away = True
    with structlog.testing.capture_logs():
        await auth.account.request_password_reset(EMAIL)


async def test_a_reset_link_works_once_and_takes_the_others_with_it(
    auth: AuthService, ada: SignedIn, mailbox: Mailbox
) -> None:
    for _ in range(2):
        await auth.account.request_password_reset(EMAIL)
    first, second = mailbox.tokens(EMAIL, "reset-password")
    await auth.account.reset_password(first, NEW)
    for token in (first, second, "", "nonsense", "\ud800"):
        assert await code_of(auth.account.reset_password(token, "a third password")) == "reset_token_invalid"
    await auth.login(EMAIL, NEW)


async def test_a_reset_link_expires_after_an_hour(
    auth: AuthService, ada: SignedIn, mailbox: Mailbox, clock: TurnableClock
) -> None:
    await auth.account.request_password_reset(EMAIL)
    clock.advance(hours=1)
    token = mailbox.last_token(EMAIL, "reset-password")
    assert await code_of(auth.account.reset_password(token, NEW)) == "reset_token_invalid"


async def test_a_weak_password_does_not_use_the_link_up(auth: AuthService, ada: SignedIn, mailbox: Mailbox) -> None:
    await auth.account.request_password_reset(EMAIL)
    token = mailbox.last_token(EMAIL, "reset-password")
    assert await code_of(auth.account.reset_password(token, "short")) == "invalid_input"
    await auth.account.reset_password(token, NEW)


async def test_a_link_is_good_for_its_purpose_only(auth: AuthService, ada: SignedIn, mailbox: Mailbox) -> None:
    await auth.account.request_password_reset(EMAIL)
    verify, reset = mailbox.last_token(EMAIL, "verify-email"), mailbox.last_token(EMAIL, "reset-password")
    assert await code_of(auth.account.reset_password(verify, NEW)) == "reset_token_invalid"
    assert await code_of(auth.account.verify_email(reset)) == "verify_token_invalid"
    assert await code_of(auth.refresh(reset)) == "token_invalid"


async def test_a_changed_password_voids_a_reset_link(
    auth: AuthService, ada: SignedIn, me: Identity, mailbox: Mailbox
) -> None:
    await auth.account.request_password_reset(EMAIL)
    await auth.account.change_password(me, PASSWORD, NEW)
    token = mailbox.last_token(EMAIL, "reset-password")
    assert await code_of(auth.account.reset_password(token, "a third password")) == "reset_token_invalid"


async def test_nobodys_mailbox_is_flooded_also_not_by_many_at_once(
    auth: AuthService, ada: SignedIn, mailbox: Mailbox, clock: TurnableClock
) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(auth.account.request_password_reset, EMAIL)
    assert len(mailbox.tokens(EMAIL, "reset-password")) == 3
    clock.advance(hours=1)
    await auth.account.request_password_reset(EMAIL)
    assert len(mailbox.tokens(EMAIL, "reset-password")) == 4


async def test_one_reset_link_used_by_two_at_once_sets_one_password(
    auth: AuthService, ada: SignedIn, mailbox: Mailbox
) -> None:
    await auth.account.request_password_reset(EMAIL)
    token = mailbox.last_token(EMAIL, "reset-password")
    results: list[str] = []

    async def reset(password: str) -> None:
        try:
            await auth.account.reset_password(token, password)
            results.append(password)
        except LacError as error:
            results.append(error.code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reset, "the first new one")
        nursery.start_soon(reset, "the second new one")
    (password,) = set(results) - {"reset_token_invalid"}
    assert len(results) == 2
    await auth.login(EMAIL, password)


async def test_the_database_holds_no_link_that_could_be_used(
    db: Database, auth: AuthService, ada: SignedIn, mailbox: Mailbox
) -> None:
    await auth.account.request_password_reset(EMAIL)
    dump = await db.read(lambda session: repr(session.execute(sa.select(models.AccountToken.__table__)).all()))
    for page in ("verify-email", "reset-password"):
        assert mailbox.last_token(EMAIL, page) not in dump


async def test_used_and_expired_links_do_not_pile_up(
    db: Database, auth: AuthService, ada: SignedIn, clock: TurnableClock
) -> None:
    for _ in range(5):
        clock.advance(hours=2)
        await auth.account.request_password_reset(EMAIL)
    count = sa.select(sa.func.count()).where(models.AccountToken.purpose == models.TokenPurpose.RESET_PASSWORD)
    assert await db.read(lambda session: session.scalar(count)) == 1


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
    await auth.account.change_password(me, PASSWORD, NEW)
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


# --- mails on the console, addresses ----------------------------------------------------------------------------------


async def test_without_a_mail_server_the_operator_reads_the_link_on_the_console() -> None:
    stream = io.StringIO()
    with structlog.testing.capture_logs() as logs:
        await ConsoleMailer(stream).send(Mail(EMAIL, "Hello", "A link:\nhttps://x/#token=secret"))
    assert stream.getvalue() == (f"--- e-mail to {EMAIL}: Hello\n  A link:\n  https://x/#token=secret\n---\n")
    assert "secret" not in repr(logs)
    assert "secret" not in repr(Mail(EMAIL, "Hello", "secret"))


async def test_the_console_is_not_flooded() -> None:
    stream, now = io.StringIO(), 0.0
    mailer = ConsoleMailer(stream, clock=lambda: now)
    mail = Mail(EMAIL, "Hello", "text")
    with structlog.testing.capture_logs():
        for _ in range(100):
            await mailer.send(mail)
        assert (stream.getvalue().count("Hello"), mailer.dropped) == (20, 80)
        now += 7
        for _ in range(100):
            await mailer.send(mail)
    assert stream.getvalue().count("Hello") == 22


def test_the_hash_of_an_address_is_that_of_its_network() -> None:
    def hashed(address: str, key: str = "k" * 40) -> str:
        return hash_address(address, key=key)

    assert hashed("192.0.2.1") == hashed("::ffff:192.0.2.1")
    assert hashed("192.0.2.1") != hashed("192.0.2.2")
    assert hashed("192.0.2.1") != hashed("192.0.2.1", "another key")
    assert hashed("2001:db8:0:1::1") == hashed("2001:db8:0:1:ffff::2") == hashed("2001:DB8:0:1:0::")
    assert hashed("2001:db8:0:1::1") != hashed("2001:db8:0:2::1")
    assert hashed("unix") != hashed("")
    assert len(hashed("192.0.2.1")) == 64
