"""Accounts, sign-ins, guests, and the link that makes the first admin."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import jwt
import pytest
import sqlalchemy as sa
import trio

from lac.auth import passwords, recent, store
from lac.auth.passwords import PasswordHasher
from lac.auth.service import AuthService, SignedIn
from lac.auth.tokens import AccessClaims, decode_token_untrusted, encode_access
from lac.clock import utc_now
from lac.config import Settings
from lac.db import models
from lac.db.engine import Database
from lac.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotSignedInError,
    UnavailableError,
)
from lac.identity import Identity, IdentityKind
from tests.domain.conftest import EMAIL, PASSWORD, START, TurnableClock, code_of


async def test_registering_signs_in(auth: AuthService, ada: SignedIn) -> None:
    assert (ada.user.email, ada.user.display_name, ada.user.is_admin) == (EMAIL, "Ada", False)
    assert ada.expires_in == 900
    assert await auth.identify(ada.access_token) == Identity(IdentityKind.USER, ada.user.id, "Ada")
    assert await auth.get_user(ada.user.id) == ada.user


async def test_the_address_is_one_however_it_is_typed(auth: AuthService, ada: SignedIn) -> None:
    assert (await auth.login("  ADA@Example.ORG ", PASSWORD)).user == ada.user
    assert await code_of(auth.register("Ada@example.org", PASSWORD, "Other")) == "email_taken"


@pytest.mark.parametrize(
    "email",
    [
        "",
        "ada",
        "@example.org",
        "ada@",
        "ada@example",
        "ada@@example.org",
        "a b@example.org",
        "ada@exa mple.org",
        "ada@.org",
        "ada@-a.org",
        "a" * 65 + "@example.org",
        "ada@" + "a" * 64 + ".org",
        "ada\0@example.org",
        "<ada@example.org>",
        "ada@example.org\nbcc:x@example.org",
        "ada@" + "a." * 130 + "org",
        "\ud800@example.org",
    ],
)
async def test_what_cannot_be_an_address_is_refused(auth: AuthService, email: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        await auth.register(email, PASSWORD, "Ada")
    assert [error.field for error in caught.value.errors] == ["email"]
    assert await code_of(auth.login(email, PASSWORD)) == "invalid_credentials"


@pytest.mark.parametrize("email", ["o'hara+live@mail.example.co.uk", "jürgen@bücher.example", "1@2.example"])
async def test_unusual_addresses_are_welcome(auth: AuthService, email: str) -> None:
    await auth.register(email, PASSWORD, "Somebody")
    assert (await auth.login(email, PASSWORD)).user.email == email


async def test_everything_that_is_wrong_is_named_at_once(auth: AuthService) -> None:
    with pytest.raises(InvalidInputError) as caught:
        await auth.register("nobody", "short", "   ")
    assert [error.field for error in caught.value.errors] == ["email", "password", "displayName"]


@pytest.mark.parametrize(("length", "fits"), [(9, False), (10, True), (128, True), (129, False)])
async def test_the_length_of_a_password_is_bounded(auth: AuthService, length: int, *, fits: bool) -> None:
    call = auth.register(EMAIL, "ä" * length, "Ada")
    if fits:
        await call
    else:
        assert await code_of(call) == "invalid_input"


@pytest.mark.parametrize("name", ["", " \t ", "\u200b", "a" * 65, "Ada\u202egro.live", "Ada\0", "\ud800"])
async def test_names_that_hide_something_are_refused(auth: AuthService, name: str) -> None:
    assert await code_of(auth.register(EMAIL, PASSWORD, name)) == "invalid_input"


async def test_names_are_tidied(auth: AuthService) -> None:
    signed_in = await auth.register(EMAIL, PASSWORD, "  Ada \n Lovelace ")
    assert signed_in.user.display_name == "Ada Lovelace"


async def test_a_password_does_not_depend_on_how_its_accents_were_typed(auth: AuthService) -> None:
    await auth.register(EMAIL, "caf\u00e9 au lait", "Ada")
    await auth.login(EMAIL, "cafe\u0301 au lait")


@pytest.mark.parametrize(
    ("email", "password"),
    [(EMAIL, "wrong horse battery"), ("bob@example.org", PASSWORD), (EMAIL, "x"), (EMAIL, "x" * 10_000), (EMAIL, "")],
)
async def test_a_refused_sign_in_does_not_tell_why(auth: AuthService, ada: SignedIn, email: str, password: str) -> None:
    assert await code_of(auth.login(email, password)) == "invalid_credentials"


async def test_an_unknown_address_costs_as_much_as_a_wrong_password(
    auth: AuthService, ada: SignedIn, hasher: PasswordHasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []
    original = hasher._verify

    def spy(password: str, password_hash: str) -> bool:
        checked.append(password_hash)
        return original(password, password_hash)

    monkeypatch.setattr(hasher, "_verify", spy)
    await code_of(auth.login(EMAIL, "wrong horse battery"))
    await code_of(auth.login("bob@example.org", "wrong horse battery"))
    real, pretended = checked
    assert [part.split("$")[:4] for part in (real, pretended)] == [real.split("$")[:4]] * 2
    assert len(real) == len(pretended)


async def test_registration_can_be_closed(
    db: Database, settings: Settings, hasher: PasswordHasher, clock: TurnableClock
) -> None:
    closed = AuthService(db, replace(settings, open_registration=False), hasher=hasher, clock=clock)
    assert await code_of(closed.register(EMAIL, PASSWORD, "Ada")) == "registration_closed"
    await closed.create_user(EMAIL, PASSWORD, "Ada", is_admin=False)
    await closed.login(EMAIL, PASSWORD)


async def test_of_two_registrations_with_one_address_one_succeeds(auth: AuthService) -> None:
    results: list[str] = []

    async def register() -> None:
        try:
            await auth.register(EMAIL, PASSWORD, "Ada")
            results.append("registered")
        except ConflictError as error:
            results.append(error.code)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(register)
    assert sorted(results) == ["email_taken"] * 3 + ["registered"]


async def test_signing_in_brings_an_old_hash_up_to_todays_price(
    db: Database, settings: Settings, auth: AuthService, ada: SignedIn
) -> None:
    dearer = PasswordHasher(memory_kib=16, time_cost=1)
    await AuthService(db, settings, hasher=dearer).login(EMAIL, PASSWORD)
    stored = await db.read(lambda session: session.scalars(sa.select(models.User.password_hash)).one())
    assert not dearer.needs_rehash(stored)
    await auth.login(EMAIL, PASSWORD)


async def test_too_many_at_the_door_are_turned_away(monkeypatch: pytest.MonkeyPatch, hasher: PasswordHasher) -> None:
    monkeypatch.setattr(passwords, "MAX_WAITING", 0)
    with pytest.raises(UnavailableError):
        await hasher.hash(PASSWORD)


# --- access and guest tokens ------------------------------------------------------------------------------------------


async def test_an_access_token_lasts_fifteen_minutes(auth: AuthService, ada: SignedIn, clock: TurnableClock) -> None:
    clock.advance(minutes=14, seconds=59)
    await auth.identify(ada.access_token)
    clock.advance(seconds=1)
    assert await code_of(auth.identify(ada.access_token)) == "token_expired"


async def test_a_token_of_a_deleted_account_is_worth_nothing(db: Database, auth: AuthService, ada: SignedIn) -> None:
    await db.run(lambda session: session.execute(sa.delete(models.User)))
    assert await code_of(auth.identify(ada.access_token)) == "token_invalid"


async def test_a_guest_is_known_in_one_broadcast_for_twelve_hours(auth: AuthService, clock: TurnableClock) -> None:
    token = auth.issue_guest("show", "guest-1", "Gast")
    expected = Identity(IdentityKind.GUEST, "guest-1", "Gast", broadcast_id="show")
    clock.advance(hours=11, minutes=59)
    assert await auth.identify(token) == expected
    clock.advance(minutes=1)
    assert await code_of(auth.identify(token)) == "token_expired"


def forged(payload: dict[str, object], *, key: str, algorithm: str | None = "HS256") -> str:
    return jwt.encode(payload, key, algorithm=algorithm)


KEY = "k" * 40
LATER = int(START.timestamp()) + 60
GOOD: dict[str, object] = {"typ": "access", "sub": "ada", "sid": "s1", "exp": LATER}


def test_a_well_formed_token_is_accepted() -> None:
    assert decode_token_untrusted(forged(GOOD, key=KEY), key=KEY, now=START) == AccessClaims("ada", "s1")


@pytest.mark.parametrize(
    "token",
    [
        "",
        "nonsense",
        "a.b.c",
        "ä.ö.ü",
        "\ud800",
        "x" * 10_000,
        forged(GOOD, key="another key, and a long enough one"),
        forged(GOOD, key="", algorithm="none"),
        forged(GOOD, key="k" * 64, algorithm="HS512"),
        forged({**GOOD, "typ": "refresh"}, key=KEY),
        forged({**GOOD, "sub": ""}, key=KEY)[:-1],
        forged({"sub": "ada", "exp": LATER}, key=KEY),
        forged({"typ": "access", "sub": "ada"}, key=KEY),
        forged({"typ": "access", "exp": LATER}, key=KEY),
        forged({**GOOD, "exp": "soon"}, key=KEY),
        forged({**GOOD, "exp": True}, key=KEY),
        forged({"typ": "guest", "sub": "g", "exp": LATER}, key=KEY),
    ],
)
def test_a_token_that_is_not_quite_ours_is_refused(token: str) -> None:
    with pytest.raises(NotSignedInError) as caught:
        decode_token_untrusted(token, key=KEY, now=START)
    assert caught.value.code == "token_invalid"


def test_a_token_reads_no_clock_but_the_one_it_is_given() -> None:
    token = encode_access(AccessClaims("ada", "s1"), key=KEY, now=START)
    assert decode_token_untrusted(token, key=KEY, now=START) == AccessClaims("ada", "s1")


async def test_a_token_of_the_version_before_asks_for_a_refresh(auth: AuthService, settings: Settings) -> None:
    old = forged({"typ": "access", "sub": "ada", "exp": LATER}, key=settings.jwt_secret)
    assert await code_of(auth.identify(old)) == "token_expired"


# --- the account itself -----------------------------------------------------------------------------------------------


async def test_people_rename_themselves(auth: AuthService, ada: SignedIn) -> None:
    me = await auth.identify(ada.access_token)
    assert (await auth.update_me(me, display_name=" Countess ")).display_name == "Countess"
    assert (await auth.identify(ada.access_token)).display_name == "Countess"


async def test_a_guest_has_no_account_to_change(auth: AuthService) -> None:
    guest = await auth.identify(auth.issue_guest("show", "guest-1", "Gast"))
    with pytest.raises(ForbiddenError):
        await auth.update_me(guest, display_name="Admin")


# --- the first admin --------------------------------------------------------------------------------------------------


def token_of(link: str | None) -> str:
    assert link is not None
    address, _, token = link.partition("#token=")
    assert address.endswith("/setup")
    return token


async def test_the_setup_link_makes_the_first_admin_once(auth: AuthService) -> None:
    token = token_of(await auth.issue_setup_link())
    admin = await auth.create_admin_with_setup_token(token, EMAIL, PASSWORD, "Ada")
    assert admin.user.is_admin
    assert (await auth.identify(admin.access_token)).is_admin
    second = auth.create_admin_with_setup_token(token, "eve@example.org", PASSWORD, "Eve")
    assert await code_of(second) == "setup_token_invalid"
    assert await auth.issue_setup_link() is None


async def test_only_the_latest_setup_link_works(auth: AuthService) -> None:
    first = token_of(await auth.issue_setup_link())
    latest = token_of(await auth.issue_setup_link())
    assert await code_of(auth.create_admin_with_setup_token(first, EMAIL, PASSWORD, "Ada")) == "setup_token_invalid"
    await auth.create_admin_with_setup_token(latest, EMAIL, PASSWORD, "Ada")


async def test_a_setup_link_expires(auth: AuthService, clock: TurnableClock) -> None:
    token = token_of(await auth.issue_setup_link())
    clock.advance(hours=24)
    assert await code_of(auth.create_admin_with_setup_token(token, EMAIL, PASSWORD, "Ada")) == "setup_token_invalid"


async def test_a_mistake_does_not_use_the_setup_link_up(auth: AuthService, ada: SignedIn) -> None:
    token = token_of(await auth.issue_setup_link())
    assert await code_of(auth.create_admin_with_setup_token(token, EMAIL, PASSWORD, "Ada")) == "email_taken"
    assert await code_of(auth.create_admin_with_setup_token(token, "b@example.org", "x", "B")) == "invalid_input"
    await auth.create_admin_with_setup_token(token, "b@example.org", PASSWORD, "B")


async def test_one_setup_link_used_by_two_at_once_makes_one_admin(auth: AuthService) -> None:
    token = token_of(await auth.issue_setup_link())
    results: list[str] = []

    async def create(name: str) -> None:
        try:
            await auth.create_admin_with_setup_token(token, f"{name}@example.org", PASSWORD, name)
            results.append("admin")
        except ForbiddenError as error:
            results.append(error.code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(create, "ada")
        nursery.start_soon(create, "eve")
    assert sorted(results) == ["admin", "setup_token_invalid"]


async def test_an_admin_made_at_the_command_line_voids_the_setup_link(auth: AuthService) -> None:
    token = token_of(await auth.issue_setup_link())
    await auth.create_user(EMAIL, PASSWORD, "Ada", is_admin=True)
    assert await code_of(auth.create_admin_with_setup_token(token, "b@example.org", PASSWORD, "B")) == (
        "setup_token_invalid"
    )


@pytest.mark.parametrize(
    ("changes", "base_url", "start"),
    [
        ({}, None, "http://127.0.0.1:8000/setup#"),
        ({"host": "::", "port": 80}, None, "http://localhost:80/setup#"),
        ({"host": "::1"}, None, "http://[::1]:8000/setup#"),
        ({}, "http://127.0.0.1:49152", "http://127.0.0.1:49152/setup#"),
        ({"public_url": "https://a.example"}, "http://127.0.0.1:49152", "https://a.example/setup#"),
    ],
)
async def test_the_setup_link_leads_here(
    db: Database, settings: Settings, changes: dict[str, Any], base_url: str | None, start: str
) -> None:
    link = await AuthService(db, replace(settings, **changes)).issue_setup_link(base_url)
    assert link is not None
    assert link.startswith(start)


async def test_accounts_made_by_the_fixture_sign_in(
    auth: AuthService, account: Callable[..., Coroutine[Any, Any, Identity]]
) -> None:
    ada = await account("ada", is_admin=True)
    signed_in = await auth.login("ada@example.org", "correct horse")
    assert await auth.identify(signed_in.access_token) == ada


async def test_what_another_process_ends_is_over_a_moment_later(
    auth: AuthService, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await auth.register(EMAIL, PASSWORD, "Ada")
    identity = await auth.identify(ada.access_token)
    await db.run(lambda session: store.revoke_all(session, ada.user.id, utc_now()))
    assert await auth.identify(ada.access_token) == identity, "it has just been looked up"
    await auth.check_signed_in(identity)
    monkeypatch.setattr(recent, "FRESH_S", 0.0)
    assert await code_of(auth.identify(ada.access_token)) == "token_invalid"
    assert await code_of(auth.check_signed_in(identity)) == "token_invalid"


async def test_a_new_name_is_the_name_from_then_on(auth: AuthService) -> None:
    ada = await auth.register(EMAIL, PASSWORD, "Ada")
    await auth.update_me(await auth.identify(ada.access_token), display_name="Countess")
    assert (await auth.identify(ada.access_token)).display_name == "Countess"
