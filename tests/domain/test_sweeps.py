"""Sign-up, refresh and recovery stopped at every step: the database is consistent after each, and people can go on.

Real threads and a real database: what is cancelled is the caller, as when a client hangs up.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from lac.auth import account as account_module
from lac.auth.passwords import PasswordHasher
from lac.auth.service import AuthService, SignedIn
from lac.config import Settings
from lac.db import models
from lac.db.engine import Database
from lac.errors import ConflictError, LacError
from tests.domain.conftest import Engines, TurnableClock
from tests.fakes.mail import Mailbox
from tests.sweep import Cut, sweep_within

PASSWORD = "correct horse battery"
NEW = "a different password"


class People:
    """The services, and a new address for each run."""

    def __init__(self, writer: sa.Engine, reader: sa.Engine, settings: Settings, hasher: PasswordHasher) -> None:
        self._writer = writer
        self._number = 0
        self.mailbox = Mailbox()
        db = Database(writer, reader, threads=2)
        self.auth = AuthService(db, settings, hasher=hasher, mailer=self.mailbox, clock=TurnableClock())
        self.email = ""

    def next(self) -> str:
        self._number += 1
        self.email = f"ada{self._number}@example.org"
        return self.email

    def check(self) -> None:
        """Of everybody there has ever been: each account has whole sign-ins, each sign-in is one chain of tokens."""
        with orm.Session(self._writer) as session:
            users = {user.id: user.email for user in session.scalars(sa.select(models.User))}
            families: dict[str, list[models.RefreshToken]] = {}
            for token in session.scalars(sa.select(models.RefreshToken)):
                families.setdefault(token.family_id, []).append(token)
            for tokens in families.values():
                assert {token.user_id for token in tokens} <= set(users)
                assert len({token.user_id for token in tokens}) == 1
                assert len({token.revoked_at for token in tokens}) == 1, "a family ends as a whole"
                assert sum(token.used_at is None for token in tokens) == 1, "a chain has one end"
            signed_in = {tokens[0].user_id for tokens in families.values()}
            assert signed_in == set(users), "nobody has an account and was never signed in"
            # A link that was sent is one that works; one that was not sent is nobody's.
            links = session.scalars(sa.select(models.AccountToken.user_id)).all()
            assert set(links) <= set(users)
            assert {mail.to for mail in self.mailbox.mails} <= set(users.values())


@pytest.fixture
def people(settings: Settings, engines: Engines, hasher: PasswordHasher, monkeypatch: pytest.MonkeyPatch) -> People:
    monkeypatch.setattr(account_module, "RESET_ANSWER_S", 0.0)
    return People(*engines.of(settings), settings, hasher)


async def code_of(call: Coroutine[Any, Any, object]) -> str | None:
    """The code of the error that `call` ends with, or None."""
    try:
        await call
    except LacError as error:
        return error.code
    return None


async def sign_in_somehow(people: People, password: str) -> SignedIn:
    """What somebody does who does not know whether their registration got through."""
    try:
        return await people.auth.register(people.email, password, "Ada")
    except ConflictError:
        return await people.auth.login(people.email, password)


def test_a_sign_up_stopped_at_any_step_happened_or_did_not(people: People) -> None:
    async def scenario(cut: Cut) -> None:
        email = people.next()
        with cut:
            await people.auth.register(email, PASSWORD, "Ada")
        signed_in = await sign_in_somehow(people, PASSWORD)
        await people.auth.identify(signed_in.access_token)

    assert sweep_within(scenario, people.check, clock=lambda: None, runs_beyond=3) >= 4


def test_a_refresh_stopped_at_any_step_can_be_repeated(people: People) -> None:
    async def scenario(cut: Cut) -> None:
        before = await people.auth.register(people.next(), PASSWORD, "Ada")
        after = None
        with cut:
            after = await people.auth.refresh(before.refresh_token)
        again = await people.auth.refresh(before.refresh_token)
        assert after is None or again.refresh_token == after.refresh_token
        last = await people.auth.refresh(again.refresh_token)
        await people.auth.identify(last.access_token)

    assert sweep_within(scenario, people.check, clock=lambda: None, runs_beyond=3) >= 2


def test_a_recovery_stopped_at_any_step_leaves_one_password(people: People) -> None:
    async def scenario(cut: Cut) -> None:
        before = await people.auth.register(people.next(), PASSWORD, "Ada")
        with cut:
            await people.auth.account.request_password_reset(people.email)
            token = people.mailbox.last_token(people.email, "reset-password")
            await people.auth.account.reset_password(token, NEW)
        codes = [
            await code_of(people.auth.login(people.email, PASSWORD)),
            await code_of(people.auth.login(people.email, NEW)),
            await code_of(people.auth.identify(before.access_token)),
        ]
        assert codes in ([None, "invalid_credentials", None], ["invalid_credentials", None, "token_invalid"])

    assert sweep_within(scenario, people.check, clock=lambda: None, runs_beyond=3) >= 8


def test_leaving_stopped_at_any_step_is_all_or_nothing(people: People) -> None:
    async def scenario(cut: Cut) -> None:
        signed_in = await people.auth.register(people.next(), PASSWORD, "Ada")
        me = await people.auth.identify(signed_in.access_token)
        with cut:
            await people.auth.account.delete(me, PASSWORD)
        people.mailbox.mails.clear()
        codes = [
            await code_of(people.auth.identify(signed_in.access_token)),
            await code_of(people.auth.account.delete(me, PASSWORD)),
        ]
        assert codes in ([None, None], ["token_invalid", "wrong_password"])

    assert sweep_within(scenario, people.check, clock=lambda: None, runs_beyond=3) >= 3
