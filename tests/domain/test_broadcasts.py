"""Broadcasts: who sees and changes which, lists page by page, states, roles and stream keys."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio

from lac.broadcasts.model import Broadcast, BroadcastAction, BroadcastStatus, Role, Visibility
from lac.broadcasts.service import BroadcastService
from lac.config import Settings
from lac.db.engine import Database
from lac.errors import ConflictError, ForbiddenError, InvalidInputError, LacError, NotFoundError, NotSignedInError
from lac.identity import Identity, IdentityKind
from tests.domain.conftest import START, TurnableClock

MakeAccount = Callable[..., Coroutine[Any, Any, Identity]]
GUEST = Identity(IdentityKind.GUEST, "guest-1", "Gast", broadcast_id="elsewhere")


@pytest.fixture
async def host(account: MakeAccount) -> Identity:
    return await account("host")


@pytest.fixture
async def other(account: MakeAccount) -> Identity:
    return await account("other")


@pytest.fixture
async def admin(account: MakeAccount) -> Identity:
    return await account("root", is_admin=True)


@pytest.fixture
async def show(broadcasts: BroadcastService, host: Identity) -> Broadcast:
    return await broadcasts.create(host, "A show")


async def titles(broadcasts: BroadcastService, identity: Identity | None, **query: Any) -> list[str]:
    return [broadcast.title for broadcast in (await broadcasts.list(identity, **query)).items]


async def test_a_new_broadcast_is_as_described(broadcasts: BroadcastService, host: Identity) -> None:
    created = await broadcasts.create(
        host,
        "  Night \n talk ",
        description="Two\r\nlines",
        scheduled_at=datetime(2030, 1, 2, 1, 0, tzinfo=UTC),
        visibility=Visibility.UNLISTED,
        tags=("Jazz", "jazz", " late  night "),
        recording_enabled=True,
    )
    assert (created.title, created.description, created.tags) == ("Night talk", "Two\nlines", ("Jazz", "late night"))
    assert (created.host_id, created.host_name) == (host.id, "Host")
    assert (created.status, created.created_at, created.started_at) == (BroadcastStatus.SCHEDULED, START, None)
    assert await broadcasts.get(host, created.id) == created


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("title", " ", "title"),
        ("title", "x" * 201, "title"),
        ("title", "nul\0", "title"),
        ("description", "x" * 10_001, "description"),
        ("tags", ("x" * 41,), "tags"),
        ("tags", tuple(str(number) for number in range(21)), "tags"),
        ("scheduled_at", datetime(2030, 1, 1), "scheduledAt"),  # noqa: DTZ001  the point of it
        ("scheduled_at", datetime.max.replace(tzinfo=UTC) - timedelta(0), None),
    ],
)
async def test_what_cannot_be_taken_is_named(
    broadcasts: BroadcastService, host: Identity, field: str, value: object, named: str | None
) -> None:
    fields: dict[str, Any] = {"title": "A show", field: value}
    if named is None:
        await broadcasts.create(host, **fields)
        return
    with pytest.raises(InvalidInputError) as caught:
        await broadcasts.create(host, **fields)
    assert [error.field for error in caught.value.errors] == [named]


async def test_only_an_account_creates(broadcasts: BroadcastService, show: Broadcast, host: Identity) -> None:
    encoder = await broadcasts.identify_stream_key(show.id, broadcasts.stream_key(show))
    for identity in (GUEST, encoder):
        with pytest.raises(ForbiddenError):
            await broadcasts.create(identity, "Another")


async def test_an_account_that_is_gone_creates_nothing(broadcasts: BroadcastService) -> None:
    with pytest.raises(NotSignedInError):
        await broadcasts.create(Identity(IdentityKind.USER, "gone", "Gone"), "A show")


# --- who sees what ----------------------------------------------------------------------------------------------------


async def test_a_private_show_exists_only_for_those_with_a_role(
    broadcasts: BroadcastService, host: Identity, other: Identity, admin: Identity
) -> None:
    private = await broadcasts.create(host, "Secret", visibility=Visibility.PRIVATE)
    encoder = await broadcasts.identify_stream_key(private.id, broadcasts.stream_key(private))
    for identity in (host, admin, encoder):
        assert (await broadcasts.get(identity, private.id)).id == private.id
    for identity in (None, GUEST, other):
        with pytest.raises(NotFoundError):
            await broadcasts.get(identity, private.id)
    with pytest.raises(NotFoundError):
        await broadcasts.update(other, private.id, {"title": "Mine"})
    await broadcasts.set_role(host, private.id, other.id, Role.SPEAKER)
    assert (await broadcasts.get(other, private.id)).id == private.id
    assert await titles(broadcasts, other) == ["Secret"]


async def test_lists_show_public_broadcasts_and_ones_own(
    broadcasts: BroadcastService, host: Identity, other: Identity, admin: Identity
) -> None:
    for visibility in Visibility:
        await broadcasts.create(host, visibility.value, visibility=visibility)
    assert await titles(broadcasts, None) == ["public"]
    assert await titles(broadcasts, GUEST) == ["public"]
    assert await titles(broadcasts, other) == ["public"]
    assert sorted(await titles(broadcasts, host)) == ["private", "public", "unlisted"]
    assert sorted(await titles(broadcasts, admin)) == ["private", "public", "unlisted"]
    assert await titles(broadcasts, other, host_id=host.id) == ["public"]


async def test_an_unlisted_show_is_found_by_its_address(broadcasts: BroadcastService, host: Identity) -> None:
    unlisted = await broadcasts.create(host, "Link only", visibility=Visibility.UNLISTED)
    assert await broadcasts.get(None, unlisted.id) == unlisted


async def test_an_unknown_broadcast_is_not_found(broadcasts: BroadcastService, admin: Identity) -> None:
    for call in (
        broadcasts.get(admin, "nothing"),
        broadcasts.update(admin, "nothing", {"title": "x"}),
        broadcasts.set_status("nothing", BroadcastAction.START),
        broadcasts.set_role(admin, "nothing", admin.id, Role.SPEAKER),
    ):
        with pytest.raises(NotFoundError):
            await call
    with pytest.raises(NotFoundError):
        await broadcasts.delete(admin, "nothing")


# --- lists ------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def programme(broadcasts: BroadcastService, host: Identity, clock: TurnableClock) -> None:
    """Two shows in each state, none of them created in the order in which they are listed."""
    for title in ("live first", "live last", "ended first", "ended last"):
        show = await broadcasts.create(host, title)
        await broadcasts.set_status(show.id, BroadcastAction.START)
        if title.startswith("ended"):
            await broadcasts.set_status(show.id, BroadcastAction.END)
        clock.advance(minutes=1)
    await broadcasts.create(host, "next week", scheduled_at=START + timedelta(days=7))
    await broadcasts.create(host, "tomorrow", scheduled_at=START + timedelta(days=1))


IN_ORDER = ["live last", "live first", "tomorrow", "next week", "ended last", "ended first"]


async def test_live_comes_before_planned_before_past(broadcasts: BroadcastService, programme: None) -> None:
    assert await titles(broadcasts, None) == IN_ORDER
    assert await titles(broadcasts, None, status=BroadcastStatus.LIVE) == IN_ORDER[:2]
    assert await titles(broadcasts, None, status=BroadcastStatus.SCHEDULED) == IN_ORDER[2:4]
    assert await titles(broadcasts, None, status=BroadcastStatus.ENDED) == IN_ORDER[4:]


@pytest.mark.parametrize("limit", range(1, 8))
async def test_pages_join_to_the_whole_list(broadcasts: BroadcastService, programme: None, limit: int) -> None:
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await broadcasts.list(None, limit=limit, cursor=cursor)
        found += [broadcast.title for broadcast in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
        assert len(page.items) == limit
    assert found == IN_ORDER


async def test_pages_hold_where_many_have_the_same_time(broadcasts: BroadcastService, host: Identity) -> None:
    created = {(await broadcasts.create(host, f"show {number}")).id for number in range(7)}
    first = await broadcasts.list(None, limit=3)
    second = await broadcasts.list(None, limit=3, cursor=first.next_cursor)
    third = await broadcasts.list(None, limit=3, cursor=second.next_cursor)
    assert [len(page.items) for page in (first, second, third)] == [3, 3, 1]
    assert {show.id for page in (first, second, third) for show in page.items} == created


async def test_a_page_does_not_move_when_something_new_comes_in(
    broadcasts: BroadcastService, host: Identity, programme: None, clock: TurnableClock
) -> None:
    first = await broadcasts.list(None, limit=1)
    newer = await broadcasts.create(host, "newest")
    await broadcasts.set_status(newer.id, BroadcastAction.START)
    assert await titles(broadcasts, None, cursor=first.next_cursor) == IN_ORDER[1:]


@pytest.mark.parametrize(
    "cursor", ["", "?", "abc", "WyJsaXZlIl0", "x" * 1000, "WyJsaXZlIiwgIm5vdyIsICJ4Il0", "\ud800", "bnVsbA"]
)
async def test_a_made_up_cursor_is_refused(broadcasts: BroadcastService, cursor: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        await broadcasts.list(None, cursor=cursor)
    assert caught.value.code == "invalid_cursor"


async def test_a_cursor_of_another_list_is_refused(broadcasts: BroadcastService, programme: None) -> None:
    cursor = (await broadcasts.list(None, limit=1)).next_cursor
    with pytest.raises(InvalidInputError):
        await broadcasts.list(None, status=BroadcastStatus.ENDED, cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1, 101])
async def test_the_limit_is_bounded(broadcasts: BroadcastService, limit: int) -> None:
    with pytest.raises(InvalidInputError):
        await broadcasts.list(None, limit=limit)


@pytest.mark.parametrize(
    ("q", "expected"),
    [
        ("100%", ["100% live"]),
        ("100", ["100 songs", "100% live"]),
        ("A_B", ["a_b"]),
        ("%", ["100% live"]),
        ("_", ["a_b"]),
        ("/", []),
        ("ÄRGER", ["Große ärger"]),
        ("große", ["Große ärger"]),
        ("  100   songs ", ["100 songs"]),
        ("\0", ["100 songs", "100% live", "Große ärger", "a_b", "axb"]),
    ],
)
async def test_search_takes_the_words_literally(
    broadcasts: BroadcastService, host: Identity, q: str, expected: list[str]
) -> None:
    for title in ("100% live", "100 songs", "a_b", "axb", "Große ärger"):
        await broadcasts.create(host, title)
    assert sorted(await titles(broadcasts, None, q=q)) == expected


# --- changes ----------------------------------------------------------------------------------------------------------


async def test_the_host_changes_what_is_given_and_nothing_else(
    broadcasts: BroadcastService, host: Identity, show: Broadcast, clock: TurnableClock
) -> None:
    clock.advance(hours=1)
    at = START + timedelta(days=2)
    changed = await broadcasts.update(
        host, show.id, {"scheduled_at": at, "tags": ("a", "b"), "recording_enabled": True}
    )
    assert changed == replace(
        show, scheduled_at=at, tags=("a", "b"), recording_enabled=True, updated_at=START + timedelta(hours=1)
    )
    assert await broadcasts.get(host, show.id) == changed
    assert (await broadcasts.update(host, show.id, {"scheduled_at": None})).scheduled_at is None


async def test_others_change_nothing_and_a_cohost_the_title(
    broadcasts: BroadcastService, host: Identity, other: Identity, admin: Identity, show: Broadcast
) -> None:
    encoder = await broadcasts.identify_stream_key(show.id, broadcasts.stream_key(show))
    for identity in (other, GUEST, encoder):
        with pytest.raises(ForbiddenError):
            await broadcasts.update(identity, show.id, {"title": "Mine"})
        with pytest.raises(ForbiddenError):
            await broadcasts.delete(identity, show.id)
        with pytest.raises(ForbiddenError):
            await broadcasts.set_role(identity, show.id, other.id, Role.COHOST)
        with pytest.raises(ForbiddenError):
            await broadcasts.reset_stream_key(identity, show.id)
    await broadcasts.set_role(host, show.id, other.id, Role.COHOST)
    assert (await broadcasts.update(other, show.id, {"title": "Ours"})).title == "Ours"
    with pytest.raises(ForbiddenError):
        await broadcasts.update(other, show.id, {"title": "Ours", "visibility": Visibility.PRIVATE})
    await broadcasts.update(admin, show.id, {"visibility": Visibility.PRIVATE})


@pytest.mark.parametrize("changes", [{"host_id": "x"}, {"status": "live"}, {"title": ""}])
async def test_fields_that_cannot_be_set_are_refused(
    broadcasts: BroadcastService, host: Identity, show: Broadcast, changes: dict[str, object]
) -> None:
    with pytest.raises(InvalidInputError):
        await broadcasts.update(host, show.id, changes)


async def test_a_show_that_has_started_is_not_planned_again(
    broadcasts: BroadcastService, host: Identity, show: Broadcast
) -> None:
    await broadcasts.set_status(show.id, BroadcastAction.START)
    with pytest.raises(ConflictError):
        await broadcasts.update(host, show.id, {"scheduled_at": START})
    await broadcasts.update(host, show.id, {"title": "Still can"})


async def test_deleting_is_for_good(broadcasts: BroadcastService, host: Identity, show: Broadcast) -> None:
    await broadcasts.delete(host, show.id)
    with pytest.raises(NotFoundError):
        await broadcasts.get(host, show.id)


# --- states -----------------------------------------------------------------------------------------------------------


async def test_times_are_stamped_once(broadcasts: BroadcastService, show: Broadcast, clock: TurnableClock) -> None:
    clock.advance(minutes=1)
    live = await broadcasts.set_status(show.id, BroadcastAction.START)
    assert (live.status, live.started_at) == (BroadcastStatus.LIVE, clock.now)
    assert await broadcasts.live_ids() == [show.id]
    clock.advance(minutes=1)
    assert await broadcasts.set_status(show.id, BroadcastAction.START) == live
    ended = await broadcasts.set_status(show.id, BroadcastAction.END)
    assert (ended.started_at, ended.ended_at) == (live.started_at, clock.now)
    assert await broadcasts.live_ids() == []
    clock.advance(minutes=1)
    assert await broadcasts.set_status(show.id, BroadcastAction.END) == ended


async def test_impossible_moves_are_conflicts(broadcasts: BroadcastService, show: Broadcast) -> None:
    with pytest.raises(ConflictError) as caught:
        await broadcasts.set_status(show.id, BroadcastAction.END)
    assert caught.value.code == "not_live"
    await broadcasts.set_status(show.id, BroadcastAction.START)
    await broadcasts.set_status(show.id, BroadcastAction.END)
    with pytest.raises(ConflictError) as caught:
        await broadcasts.set_status(show.id, BroadcastAction.START)
    assert caught.value.code == "already_ended"


async def test_starts_and_ends_at_the_same_time_leave_one_consistent_row(
    broadcasts: BroadcastService, show: Broadcast
) -> None:
    async def move(action: BroadcastAction) -> None:
        with contextlib.suppress(ConflictError):
            await broadcasts.set_status(show.id, action)

    async with trio.open_nursery() as nursery:
        for action in [BroadcastAction.START, BroadcastAction.END] * 4:
            nursery.start_soon(move, action)
    final = await broadcasts.get(None, show.id)
    assert final.started_at is not None
    assert (final.ended_at is not None) == (final.status is BroadcastStatus.ENDED)


# --- roles and stream keys --------------------------------------------------------------------------------------------


async def test_everybody_has_one_role(
    broadcasts: BroadcastService, host: Identity, other: Identity, admin: Identity, show: Broadcast
) -> None:
    encoder = await broadcasts.identify_stream_key(show.id, broadcasts.stream_key(show))
    elsewhere = await broadcasts.create(host, "Elsewhere")
    assert await broadcasts.role_of(None, show) is Role.LISTENER
    assert await broadcasts.role_of(GUEST, show) is Role.LISTENER
    assert await broadcasts.role_of(other, show) is Role.LISTENER
    assert await broadcasts.role_of(host, show) is Role.HOST
    assert await broadcasts.role_of(admin, show) is Role.ADMIN
    assert await broadcasts.role_of(encoder, show) is Role.HOST
    assert await broadcasts.role_of(encoder, elsewhere) is Role.LISTENER
    for role in (Role.COHOST, Role.MODERATOR, Role.SPEAKER):
        await broadcasts.set_role(host, show.id, other.id, role)
        assert await broadcasts.role_of(other, show) is role
        assert await broadcasts.roles_of(other, [show, elsewhere]) == {show.id: role, elsewhere.id: Role.LISTENER}
    await broadcasts.set_role(host, show.id, other.id, None)
    await broadcasts.set_role(host, show.id, other.id, None)
    assert await broadcasts.role_of(other, show) is Role.LISTENER


@pytest.mark.parametrize("role", [Role.ADMIN, Role.HOST, Role.LISTENER])
async def test_some_roles_cannot_be_given(
    broadcasts: BroadcastService, host: Identity, other: Identity, show: Broadcast, role: Role
) -> None:
    with pytest.raises(InvalidInputError):
        await broadcasts.set_role(host, show.id, other.id, role)


async def test_roles_are_for_accounts_other_than_the_host(
    broadcasts: BroadcastService, host: Identity, show: Broadcast
) -> None:
    with pytest.raises(ConflictError):
        await broadcasts.set_role(host, show.id, host.id, Role.SPEAKER)
    with pytest.raises(NotFoundError):
        await broadcasts.set_role(host, show.id, "nobody", Role.SPEAKER)


async def test_the_stream_key_stands_for_the_host(
    broadcasts: BroadcastService, host: Identity, show: Broadcast
) -> None:
    identity = await broadcasts.identify_stream_key(show.id, broadcasts.stream_key(show))
    assert identity == Identity(IdentityKind.STREAM_KEY, host.id, "Host", broadcast_id=show.id)


@pytest.mark.parametrize("key", ["", "wrong", "schlüssel", "\ud800"])
async def test_a_wrong_stream_key_is_refused(broadcasts: BroadcastService, show: Broadcast, key: str) -> None:
    for broadcast_id in (show.id, "nothing"):
        with pytest.raises(NotSignedInError) as caught:
            await broadcasts.identify_stream_key(broadcast_id, key)
        assert caught.value.code == "token_invalid"


async def test_stream_keys_differ_between_shows_servers_and_resets(
    broadcasts: BroadcastService, db: Database, settings: Settings, host: Identity, show: Broadcast
) -> None:
    old = broadcasts.stream_key(show)
    elsewhere = BroadcastService(db, replace(settings, jwt_secret="another secret " * 3))
    assert elsewhere.stream_key(show) != old
    assert broadcasts.stream_key(await broadcasts.create(host, "Another")) != old
    reset = await broadcasts.reset_stream_key(host, show.id)
    with pytest.raises(LacError):
        await broadcasts.identify_stream_key(show.id, old)
    await broadcasts.identify_stream_key(show.id, broadcasts.stream_key(reset))
