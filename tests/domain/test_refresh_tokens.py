"""Refresh tokens, which work once, and how a sign-in ends."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
import trio

from lac.audit import entries_about
from lac.auth.service import AuthService, SignedIn
from lac.auth.tokens import AccessClaims, encode_access
from lac.config import Settings
from lac.db import models
from lac.db.engine import Database
from lac.errors import NotFoundError
from tests.domain.conftest import EMAIL, PASSWORD, TurnableClock, code_of


async def test_refreshing_gives_new_tokens(auth: AuthService, ada: SignedIn, clock: TurnableClock) -> None:
    clock.advance(hours=1)
    again = await auth.refresh(ada.refresh_token)
    assert again.user == ada.user
    assert again.refresh_token != ada.refresh_token
    await auth.identify(again.access_token)


async def test_a_refresh_token_used_twice_ends_that_sign_in_and_no_other(auth: AuthService, ada: SignedIn) -> None:
    elsewhere = await auth.login(EMAIL, PASSWORD)
    newest = await auth.refresh((await auth.refresh(ada.refresh_token)).refresh_token)
    assert await code_of(auth.refresh(ada.refresh_token)) == "refresh_reused"
    assert await code_of(auth.refresh(newest.refresh_token)) == "token_invalid"
    await auth.refresh(elsewhere.refresh_token)


async def test_a_client_that_did_not_hear_the_answer_may_ask_again_for_ten_seconds(
    auth: AuthService, ada: SignedIn, clock: TurnableClock
) -> None:
    lost = await auth.refresh(ada.refresh_token)
    clock.advance(seconds=10)
    again = await auth.refresh(ada.refresh_token)
    # The one that was lost, so that a family stays a chain: two clients on two branches would never be found out.
    assert again.refresh_token == lost.refresh_token
    assert await auth.identify(again.access_token) == await auth.identify(lost.access_token)
    clock.advance(minutes=15)
    await auth.refresh(again.refresh_token)


async def test_a_token_presented_again_after_that_ends_the_sign_in_and_every_token_of_it(
    auth: AuthService, ada: SignedIn, clock: TurnableClock
) -> None:
    successor = await auth.refresh(ada.refresh_token)
    clock.advance(seconds=10, microseconds=1)
    assert await code_of(auth.refresh(ada.refresh_token)) == "refresh_reused"
    assert await code_of(auth.refresh(successor.refresh_token)) == "token_invalid"
    assert await code_of(auth.identify(successor.access_token)) == "token_invalid"
    assert await code_of(auth.refresh(ada.refresh_token)) == "token_invalid"


async def test_a_thief_who_is_quick_is_found_out_by_the_next_refresh(
    auth: AuthService, ada: SignedIn, clock: TurnableClock
) -> None:
    owner, thief = await auth.refresh(ada.refresh_token), await auth.refresh(ada.refresh_token)
    clock.advance(minutes=14)
    stolen = await auth.refresh(thief.refresh_token)
    clock.advance(minutes=1)
    assert await code_of(auth.refresh(owner.refresh_token)) == "refresh_reused"
    assert await code_of(auth.identify(stolen.access_token)) == "token_invalid"


async def test_refreshes_at_the_same_time_agree_on_one_successor(auth: AuthService, ada: SignedIn) -> None:
    results: list[str] = []

    async def refresh() -> None:
        results.append((await auth.refresh(ada.refresh_token)).refresh_token)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(refresh)
    (successor,) = set(results)
    await auth.refresh(successor)


async def test_signing_out_ends_the_second_chance_too(auth: AuthService, ada: SignedIn) -> None:
    await auth.logout((await auth.refresh(ada.refresh_token)).refresh_token)
    assert await code_of(auth.refresh(ada.refresh_token)) == "token_invalid"


async def test_a_token_used_twice_is_on_record(
    db: Database, auth: AuthService, ada: SignedIn, clock: TurnableClock
) -> None:
    await auth.refresh(ada.refresh_token)
    clock.advance(minutes=1)
    assert await code_of(auth.refresh(ada.refresh_token)) == "refresh_reused"
    (entry,) = await db.read(lambda session: entries_about(session, ada.user.id))
    assert (entry.action, entry.actor_id, entry.target_id) == ("account.refresh_reused", None, ada.user.id)


async def test_a_refresh_token_expires(auth: AuthService, ada: SignedIn, clock: TurnableClock) -> None:
    clock.advance(days=30)
    assert await code_of(auth.refresh(ada.refresh_token)) == "token_expired"


async def test_an_access_token_does_not_refresh(auth: AuthService, ada: SignedIn) -> None:
    assert await code_of(auth.refresh(ada.access_token)) == "token_invalid"
    assert await code_of(auth.identify(ada.refresh_token)) == "token_invalid"


async def test_signing_out_ends_the_sign_in(auth: AuthService, ada: SignedIn) -> None:
    again = await auth.refresh(ada.refresh_token)
    await auth.logout(again.refresh_token)
    await auth.logout("unknown")
    assert await code_of(auth.refresh(again.refresh_token)) == "token_invalid"
    for token in (ada.access_token, again.access_token):
        assert await code_of(auth.identify(token)) == "token_invalid"


async def test_signing_out_everywhere_ends_every_token_at_once(auth: AuthService, ada: SignedIn) -> None:
    elsewhere = await auth.login(EMAIL, PASSWORD)
    bob = await auth.register("bob@example.org", PASSWORD, "Bob")
    await auth.logout_everywhere(await auth.identify(ada.access_token))
    for ended in (ada, elsewhere):
        assert await code_of(auth.identify(ended.access_token)) == "token_invalid"
        assert await code_of(auth.refresh(ended.refresh_token)) == "token_invalid"
    await auth.identify(bob.access_token)
    await auth.login(EMAIL, PASSWORD)


async def test_one_persons_sign_in_opens_nobody_elses_account(
    auth: AuthService, ada: SignedIn, settings: Settings, clock: TurnableClock
) -> None:
    bob = await auth.register("bob@example.org", PASSWORD, "Bob")
    sign_in_id = (await auth.identify(bob.access_token)).sign_in_id
    assert sign_in_id is not None
    mixed = encode_access(AccessClaims(ada.user.id, sign_in_id), key=settings.jwt_secret, now=clock())
    assert await code_of(auth.identify(mixed)) == "token_invalid"


async def test_the_database_holds_no_token_that_could_be_presented(
    db: Database, auth: AuthService, ada: SignedIn
) -> None:
    link = await auth.issue_setup_link()
    assert link is not None

    def stored(session: Any) -> str:
        tables = (models.User, models.RefreshToken, models.SetupToken)
        return "".join(repr(session.execute(sa.select(table.__table__)).all()) for table in tables)

    dump = await db.read(stored)
    for secret in (ada.refresh_token, ada.access_token, link.partition("#token=")[2], PASSWORD):
        assert secret not in dump


async def test_expired_refresh_tokens_do_not_pile_up(
    db: Database, auth: AuthService, ada: SignedIn, clock: TurnableClock
) -> None:
    clock.advance(days=31)
    await auth.login(EMAIL, PASSWORD)
    count = sa.select(sa.func.count()).select_from(models.RefreshToken)
    assert await db.read(lambda session: session.scalar(count)) == 1


async def test_a_new_password_ends_every_sign_in(auth: AuthService, ada: SignedIn) -> None:
    await auth.reset_password(EMAIL, "a different password")
    assert await code_of(auth.refresh(ada.refresh_token)) == "token_invalid"
    assert await code_of(auth.login(EMAIL, PASSWORD)) == "invalid_credentials"
    await auth.login(EMAIL, "a different password")


async def test_a_password_reset_of_nobody_is_not_found(auth: AuthService) -> None:
    with pytest.raises(NotFoundError):
        await auth.reset_password("bob@example.org", PASSWORD)
