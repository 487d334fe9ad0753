"""Every role against every act, written out once more by hand: a change of the policy has to be made twice."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from itertools import product

import pytest

from lac.broadcasts import policy
from lac.broadcasts.model import Broadcast, BroadcastStatus, Role, Visibility
from lac.broadcasts.policy import Act
from lac.errors import ConflictError, ForbiddenError
from lac.identity import Identity, IdentityKind
from lac.rooms.commands import COMMANDS
from tests.domain.conftest import START

ADMIN, HOST, COHOST, MODERATOR, SPEAKER, LISTENER = Role

MAY = {
    ADMIN: set(Act),
    HOST: set(Act),
    COHOST: {
        Act.TAKE_PART,
        Act.SPEAK_UP,
        Act.LISTEN_PRIVATE,
        Act.PUBLISH,
        Act.MODERATE,
        Act.RUN,
        Act.EDIT_TITLE,
        Act.SEE_STREAM_KEY,
        Act.INVITE,
        Act.SEE_STATS,
        Act.SEE_SESSIONS,
        Act.SEE_AUDIT,
        Act.RECORD,
        Act.SEE_TRACKS,
        Act.EXPORT,
    },
    MODERATOR: {Act.TAKE_PART, Act.SPEAK_UP, Act.LISTEN_PRIVATE, Act.MODERATE, Act.SEE_STATS, Act.EXPORT},
    SPEAKER: {Act.TAKE_PART, Act.SPEAK_UP, Act.LISTEN_PRIVATE, Act.PUBLISH, Act.EXPORT},
    LISTENER: {Act.TAKE_PART, Act.SPEAK_UP, Act.LISTEN_PRIVATE, Act.EXPORT},
}
WITHOUT_ACCOUNT = {Act.TAKE_PART, Act.LISTEN_PRIVATE}

SHOW = Broadcast(
    id="show",
    host_id="host",
    host_name="Host",
    title="A show",
    description="",
    status=BroadcastStatus.LIVE,
    visibility=Visibility.PUBLIC,
    tags=(),
    recording_enabled=False,
    scheduled_at=None,
    started_at=START,
    ended_at=None,
    created_at=START,
    updated_at=START,
)
SOMEBODY = Identity(IdentityKind.USER, "somebody", "Somebody")


def is_refused(role: Role, act: Act) -> bool:
    try:
        policy.require(role, act)
    except ForbiddenError:
        return True
    return False


@pytest.mark.parametrize(("role", "act"), list(product(Role, Act)))
def test_each_role_may_do_exactly_what_is_written_here(role: Role, act: Act) -> None:
    assert is_refused(role, act) is (act not in MAY[role])


@pytest.mark.parametrize("act", list(Act))
def test_without_an_account_one_takes_part_and_no_more(act: Act) -> None:
    assert policy.is_allowed(LISTENER, act, anonymous=True) is (act in WITHOUT_ACCOUNT)


@pytest.mark.parametrize(("role", "event"), list(product(Role, policy.EVENTS)))
def test_each_command_asks_for_what_its_act_asks_for(role: Role, event: str) -> None:
    need = policy.EVENTS[event]
    for anonymous in (False, True) if role is LISTENER else (False,):
        may = not isinstance(need, Act) or need in (WITHOUT_ACCOUNT if anonymous else MAY[role])
        if may:
            policy.require_event(event, role, anonymous=anonymous)
            continue
        with pytest.raises(ForbiddenError):
            policy.require_event(event, role, anonymous=anonymous)


def test_every_command_of_the_socket_has_a_policy() -> None:
    assert set(policy.EVENTS) == set(COMMANDS)


@pytest.mark.parametrize(("actor", "target"), list(product(Role, Role)))
def test_nobody_takes_a_role_from_whoever_is_stronger(actor: Role, target: Role) -> None:
    stronger = list(Role).index(target) < list(Role).index(actor)
    allowed = Act.MODERATE in MAY[actor] and not stronger and (target is SPEAKER or Act.GRANT in MAY[actor])
    if allowed:
        policy.may_take_role(actor, target)
        return
    with pytest.raises(ForbiddenError):
        policy.may_take_role(actor, target)


def test_the_table_has_a_row_for_every_act() -> None:
    assert set(policy.ALLOWED) == set(Act)


@pytest.mark.parametrize("role", [role for role in Role if Act.PUBLISH in MAY[role]])
def test_nobody_publishes_into_a_show_that_has_ended(role: Role) -> None:
    policy.may_publish(role, SHOW)
    with pytest.raises(ConflictError) as caught:
        policy.may_publish(role, replace(SHOW, status=BroadcastStatus.ENDED))
    assert caught.value.code == "already_ended"


@pytest.mark.parametrize("role", [MODERATOR, LISTENER])
def test_without_a_place_on_the_stage_one_is_refused_whatever_the_state(role: Role) -> None:
    for status in BroadcastStatus:
        with pytest.raises(ForbiddenError):
            policy.may_publish(role, replace(SHOW, status=status))


@pytest.mark.parametrize("visibility", [Visibility.PUBLIC, Visibility.UNLISTED])
def test_anybody_may_listen_where_it_is_not_private(visibility: Visibility) -> None:
    policy.may_listen(None, LISTENER, replace(SHOW, visibility=visibility))


@pytest.mark.parametrize("role", list(Role))
def test_a_private_show_is_for_those_with_a_role(role: Role) -> None:
    private = replace(SHOW, visibility=Visibility.PRIVATE)
    with pytest.raises(ForbiddenError):
        policy.may_listen(None, role, private)
    with pytest.raises(ForbiddenError):
        policy.may_listen(SOMEBODY, None, private)
    policy.may_listen(SOMEBODY, role, private)


def test_a_guest_of_a_private_show_needs_its_present_invite_link() -> None:
    private = replace(SHOW, visibility=Visibility.PRIVATE, invite_version=3)

    def guest(version: int | None, broadcast_id: str = SHOW.id) -> Identity:
        return Identity(IdentityKind.GUEST, "guest-1", "Guest", broadcast_id=broadcast_id, invite_version=version)

    policy.may_listen(guest(3), LISTENER, private)
    for identity in (guest(None), guest(2), guest(4), guest(3, "elsewhere")):
        with pytest.raises(ForbiddenError):
            policy.may_listen(identity, LISTENER, private)


def test_a_stream_key_of_another_show_is_no_part_in_a_private_one() -> None:
    private = replace(SHOW, visibility=Visibility.PRIVATE)
    for broadcast_id, may in ((SHOW.id, True), ("elsewhere", False)):
        encoder = Identity(IdentityKind.STREAM_KEY, "host", "Host", broadcast_id=broadcast_id)
        with contextlib.nullcontext() if may else pytest.raises(ForbiddenError):
            policy.may_listen(encoder, HOST, private)


def test_a_cohost_changes_the_title_and_nothing_else() -> None:
    policy.may_edit(COHOST, {"title"})
    for fields in ({"visibility"}, {"title", "description"}, None):
        with pytest.raises(ForbiddenError):
            policy.may_edit(COHOST, fields)
