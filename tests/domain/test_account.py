"""One's own account: the link that confirms an address, passwords changed and recovered."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
import structlog.testing
import trio

from lac.auth import account as account_module
from lac.auth.passwords import PasswordHasher
from lac.auth.service import AuthService, SignedIn
from lac.auth.tokens import hash_address
from lac.config import Settings
from lac.db import models
from lac.db.engine import Database
from lac.errors import InvalidInputError, LacError, TooManyRequestsError
from lac.identity import Identity, IdentityKind
from lac.mail import ConsoleMailer, Mail
from tests.domain.conftest import EMAIL, NEW_PASSWORD, PASSWORD, TurnableClock, acts, code_of
from tests.fakes.mail import Mailbox

MakeAccount = Callable[..., Coroutine[Any, Any, Identity]]
GUEST = Identity(IdentityKind.GUEST, "guest-1", "Gast", broadcast_id="elsewhere")


@pytest.fixture(autouse=True)
def _answer_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_module, "RESET_ANSWER_S", 0.0)


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
    await auth.account.change_password(me, PASSWORD, NEW_PASSWORD)
    await auth.identify(ada.access_token)
    await auth.refresh(ada.refresh_token)
    assert await code_of(auth.identify(elsewhere.access_token)) == "token_invalid"
    assert await code_of(auth.refresh(elsewhere.refresh_token)) == "token_invalid"
    assert await code_of(auth.login(EMAIL, PASSWORD)) == "invalid_credentials"
    await auth.login(EMAIL, NEW_PASSWORD)
    assert await acts(db, ada.user.id) == ["account.password_changed"]


@pytest.mark.parametrize("current", ["wrong horse battery", "", "short", "x" * 10_000, "\ud800" * 12])
async def test_who_does_not_know_the_password_does_not_change_it(auth: AuthService, me: Identity, current: str) -> None:
    assert await code_of(auth.account.change_password(me, current, NEW_PASSWORD)) == "wrong_password"
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
        auth.account.change_password(GUEST, PASSWORD, NEW_PASSWORD),
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
    await auth.account.reset_password(mailbox.last_token(EMAIL, "reset-password"), NEW_PASSWORD)
    assert await code_of(auth.identify(ada.access_token)) == "token_invalid"
    assert await code_of(auth.refresh(ada.refresh_token)) == "token_invalid"
    assert await code_of(auth.login(EMAIL, PASSWORD)) == "invalid_credentials"
    # Whoever got the mail has shown that the address is theirs.
    assert (await auth.login(EMAIL, NEW_PASSWORD)).user.email_verified
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
    await auth.account.reset_password(first, NEW_PASSWORD)
    for token in (first, second, "", "nonsense", "\ud800"):
        assert await code_of(auth.account.reset_password(token, "a third password")) == "reset_token_invalid"
    await auth.login(EMAIL, NEW_PASSWORD)


async def test_a_reset_link_expires_after_an_hour(
    auth: AuthService, ada: SignedIn, mailbox: Mailbox, clock: TurnableClock
) -> None:
    await auth.account.request_password_reset(EMAIL)
    clock.advance(hours=1)
    token = mailbox.last_token(EMAIL, "reset-password")
    assert await code_of(auth.account.reset_password(token, NEW_PASSWORD)) == "reset_token_invalid"


async def test_a_weak_password_does_not_use_the_link_up(auth: AuthService, ada: SignedIn, mailbox: Mailbox) -> None:
    await auth.account.request_password_reset(EMAIL)
    token = mailbox.last_token(EMAIL, "reset-password")
    assert await code_of(auth.account.reset_password(token, "short")) == "invalid_input"
    await auth.account.reset_password(token, NEW_PASSWORD)


async def test_a_link_is_good_for_its_purpose_only(auth: AuthService, ada: SignedIn, mailbox: Mailbox) -> None:
    await auth.account.request_password_reset(EMAIL)
    verify, reset = mailbox.last_token(EMAIL, "verify-email"), mailbox.last_token(EMAIL, "reset-password")
    assert await code_of(auth.account.reset_password(verify, NEW_PASSWORD)) == "reset_token_invalid"
    assert await code_of(auth.account.verify_email(reset)) == "verify_token_invalid"
    assert await code_of(auth.refresh(reset)) == "token_invalid"


async def test_a_changed_password_voids_a_reset_link(
    auth: AuthService, ada: SignedIn, me: Identity, mailbox: Mailbox
) -> None:
    await auth.account.request_password_reset(EMAIL)
    await auth.account.change_password(me, PASSWORD, NEW_PASSWORD)
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
