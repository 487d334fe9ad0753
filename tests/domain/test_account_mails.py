"""Who waits for a mail, and for how long: nobody learns from that who has an account. In virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import pytest
import sqlalchemy as sa
import trio
from sqlalchemy import orm
from structlog.testing import capture_logs
from trio.testing import MockClock

from lac.auth.account import RESET_ANSWER_S
from lac.auth.model import User
from lac.auth.service import AuthService
from lac.db import models
from lac.errors import UnavailableError
from lac.identity import Identity, IdentityKind
from lac.mail import Mail
from lac.outbox import SENDERS, WAITING_MAX, open_outbox
from tests.domain.conftest import START, TurnableClock
from tests.fakes.air import SETTINGS
from tests.fakes.database import InlineDatabase
from tests.fakes.mail import Mailbox
from tests.sweep import Cut, sweep_within

T = TypeVar("T")

EMAIL = "ada@example.org"
NOBODY = ("bob@example.org", "nonsense", "")
WRITE_S = 4.0
MAIL_S = 20.0


class BusyDatabase(InlineDatabase):
    """Whoever writes waits for somebody else's transaction; reading waits for none."""

    write_s = WRITE_S

    async def run(self, fn: Callable[[orm.Session], T]) -> T:
        await trio.sleep(self.write_s)
        return await super().run(fn)


class SlowMailbox(Mailbox):
    async def send(self, mail: Mail) -> None:
        await trio.sleep(MAIL_S)
        await super().send(mail)


@dataclass
class Home:
    """Of one account."""

    db: BusyDatabase = field(default_factory=BusyDatabase)
    mailbox: SlowMailbox = field(default_factory=SlowMailbox)

    def __post_init__(self) -> None:
        self.db.add_user("ada", "Ada")

    def links(self) -> int:
        return len(self.db.now(lambda session: session.scalars(sa.select(models.AccountToken.token_hash)).all()))


@pytest.fixture
def home() -> Iterator[Home]:
    home = Home()
    yield home
    home.db.dispose()


def service(home: Home, outbox: object) -> AuthService:
    return AuthService(home.db, SETTINGS, mailer=home.mailbox, outbox=outbox, clock=TurnableClock())  # type: ignore[arg-type]  # an inline database


async def test_the_answer_takes_as_long_for_somebody_as_for_nobody_however_slow_everything_is(
    home: Home, autojump_clock: MockClock
) -> None:
    async with open_outbox() as outbox:
        account = service(home, outbox).account
        for email in (EMAIL, *NOBODY, EMAIL, *NOBODY):
            asked_at = trio.current_time()
            await account.request_password_reset(email)
            assert trio.current_time() - asked_at == pytest.approx(RESET_ANSWER_S)
        assert home.mailbox.mails == []
        await trio.sleep(WRITE_S + MAIL_S)
        assert [mail.to for mail in home.mailbox.mails] == [EMAIL, EMAIL]
    assert home.links() == 2


async def test_a_mail_server_that_is_slow_keeps_nobody_from_signing_up(home: Home, autojump_clock: MockClock) -> None:
    async with open_outbox() as outbox:
        account = service(home, outbox).account
        asked_at = trio.current_time()
        await account.welcome(User("ada", EMAIL, "Ada", is_admin=False, created_at=START))
        assert trio.current_time() == asked_at
        await account.request_verification(Identity(IdentityKind.USER, "ada", "Ada"))
        assert trio.current_time() == asked_at + WRITE_S  # that there may be one more link is part of the answer
        await trio.sleep(MAIL_S + 1)
        assert len(home.mailbox.tokens(EMAIL, "verify-email")) == 2


async def test_without_room_in_the_queue_a_reset_is_answered_alike_and_the_other_is_told(
    home: Home, autojump_clock: MockClock
) -> None:
    async with open_outbox() as outbox:
        account = service(home, outbox).account
        for number in range(SENDERS + WAITING_MAX):
            await outbox.post("mail", trio.sleep_forever, user_id=str(number))
            if number == SENDERS:
                await trio.testing.wait_all_tasks_blocked()
        while await outbox.post("mail", trio.sleep_forever, user_id="more"):
            pass
        with capture_logs() as logs:
            for email in (EMAIL, *NOBODY):
                asked_at = trio.current_time()
                await account.request_password_reset(email)
                assert trio.current_time() - asked_at == pytest.approx(RESET_ANSWER_S)
            with pytest.raises(UnavailableError) as caught:
                await account.request_verification(Identity(IdentityKind.USER, "ada", "Ada"))
        assert caught.value.code == "mail_busy"
        assert [entry["why"] for entry in logs] == ["too many wait"] * 2


def test_who_hangs_up_at_any_step_gets_a_link_that_works_or_none() -> None:
    homes: list[Home] = []

    async def scenario(cut: Cut) -> None:
        home = Home()
        homes.append(home)
        async with open_outbox() as outbox:
            with cut:
                await service(home, outbox).account.request_password_reset(EMAIL)
            await trio.sleep(WRITE_S + MAIL_S + 1)
            assert outbox.lost == 0

    def check() -> None:
        home = homes.pop()
        assert home.links() == len(home.mailbox.tokens(EMAIL, "reset-password")) <= 1
        home.db.dispose()

    assert sweep_within(scenario, check) >= 3
