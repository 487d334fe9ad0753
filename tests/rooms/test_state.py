"""The room's state, without a room: sizes, queues, pages, and a machine that tries what nobody thought of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lac.broadcasts.model import Role
from lac.errors import ConflictError, ForbiddenError, InvalidInputError, LacError
from lac.rooms.events import Event, RoleChanged, RoomSize, UserJoined, UserLeft
from lac.rooms.hands import HANDS_MAX
from lac.rooms.recent_chat import RECENT_MESSAGES
from lac.rooms.state import (
    LARGE_ROOM,
    ON_STAGE_ROLES,
    PAGE_SIZE,
    SMALL_AGAIN,
    STAFF_ROLES,
    Actor,
    Group,
    Notice,
    RoomState,
)
from lac.rooms.values import Chat, Person

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def filled(people: int) -> RoomState:
    state = RoomState()
    for number in range(people):
        join(state, f"p{number}")
    return state


def join(state: RoomState, person_id: str, role: Role = Role.LISTENER) -> list[Event]:
    return events(state.join(person_id, person_id, role, anonymous=False))


def events(notices: list[Notice]) -> list[Event]:
    return [event for _, event in notices]


def test_a_person_with_several_sockets_is_one_member() -> None:
    state = RoomState()
    assert [type(event) for event in join(state, "ada")] == [UserJoined]
    assert join(state, "ada") == []
    assert state.member_count == 1
    assert state.leave("ada") == []
    assert events(state.leave("ada")) == [UserLeft(user_id="ada")]
    assert "ada" not in state


def test_a_second_socket_brings_a_role_that_was_granted_meanwhile() -> None:
    state = filled(1)
    [changed] = join(state, "p0", Role.SPEAKER)
    assert isinstance(changed, RoleChanged)
    assert changed.user.role is Role.SPEAKER


def test_a_large_room_announces_only_those_with_a_role() -> None:
    state = filled(LARGE_ROOM)
    assert state.announces_everyone
    assert join(state, "one more") == [RoomSize(announces_everyone=False, member_count=LARGE_ROOM + 1)]
    assert join(state, "listener") == []
    assert [type(event) for event in join(state, "mod", Role.MODERATOR)] == [UserJoined]
    assert [person.id for person in state.members()] == ["mod"]
    assert state.leave("listener") == []
    assert events(state.leave("mod")) == [UserLeft(user_id="mod")]


def test_a_room_is_small_again_only_well_below_the_limit() -> None:
    state = filled(LARGE_ROOM + 1)
    for number in range(LARGE_ROOM - SMALL_AGAIN):
        assert state.leave(f"p{number}") == []
        assert not state.announces_everyone
    assert events(state.leave("p99")) == [RoomSize(announces_everyone=True, member_count=SMALL_AGAIN)]
    assert len(state.members()) == SMALL_AGAIN
    assert [type(event) for event in join(state, "new")] == [UserJoined]


def test_pages_show_everyone_who_stays_exactly_once() -> None:
    state = filled(3 * PAGE_SIZE)
    seen: list[str] = []
    cursor, pages = None, 0
    while True:
        page = state.page_of_members(cursor)
        seen += [person.id for person in page.items]
        pages += 1
        if page.next_cursor is None:
            break
        cursor = page.next_cursor
        state.leave(f"p{pages * 10}")  # somebody who was shown
        join(state, f"late{pages}")
    assert len(seen) == len(set(seen))
    assert {f"p{number}" for number in range(3 * PAGE_SIZE)} <= set(seen)


@pytest.mark.parametrize("cursor", ["", "-1", "x", "²", "1.0"])
def test_a_cursor_that_we_did_not_give_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidInputError):
        filled(1).page_of_members(cursor)


def test_hands_queue_in_order_and_keep_their_place() -> None:
    state = filled(3)
    for number in range(3):
        raised, _ = state.raise_hand(f"p{number}", None, NOW)
        assert raised.position == number + 1
    again, notices = state.raise_hand("p1", "louder", NOW.replace(year=2031))
    assert (again.position, again.raised_at, len(notices)) == (2, NOW, 1)
    assert state.raise_hand("p1", "louder", NOW)[1] == []
    state.leave("p0")
    assert [hand.user_id for hand in state.hands()] == ["p1", "p2"]
    assert state.lower_hand(Actor("p1", Role.LISTENER))
    assert state.lower_hand(Actor("p1", Role.LISTENER)) == []


def test_the_queue_of_hands_has_an_end() -> None:
    state = filled(HANDS_MAX + 1)
    for number in range(HANDS_MAX):
        state.raise_hand(f"p{number}", None, NOW)
    with pytest.raises(ConflictError):
        state.raise_hand(f"p{HANDS_MAX}", None, NOW)
    state.raise_hand("p0", "still mine", NOW)


def test_only_the_last_messages_are_kept() -> None:
    person = Person(id="a", display_name="a", role=Role.LISTENER)
    state = RoomState()
    for number in range(RECENT_MESSAGES + 5):
        state.add_message(Chat(id=str(number), user=person, text="x", media_time=0, at=NOW))
    assert [chat.id for chat in state.chat.listed()] == [str(n) for n in range(5, RECENT_MESSAGES + 5)]


PEOPLE = ["ada", "bob", "cy", "dee"]
roles = st.sampled_from(Role)
people = st.sampled_from(PEOPLE)


class RoomMachine(RuleBasedStateMachine):
    """Against a model: who has how many sockets. A client is played too: it keeps its list of members from what it is
    told, and must never be wrong about those who are announced."""

    def __init__(self) -> None:
        super().__init__()
        self.state = RoomState()
        self.sockets: dict[str, int] = {}
        self.roles: dict[str, Role] = {}
        self.shown: set[str] = set()
        self.muted: set[str] = set()
        self.hands: list[str] = []

    def told(self, notices: list[Notice]) -> None:
        for audience, event in notices:
            if audience is Group.EVERYONE:
                match event:
                    case UserJoined():
                        assert event.user.id not in self.shown
                        self.shown.add(event.user.id)
                    case UserLeft():
                        self.shown.remove(event.user_id)

    def refused(self, call: Any, *args: Any) -> list[Notice] | None:
        """The notices, or None; a refusal must leave the state as it was."""
        before = (self.state.hands(), self.state.muted, self.state.members())
        try:
            notices: list[Notice] = call(*args)
        except LacError:
            assert before == (self.state.hands(), self.state.muted, self.state.members())
            return None
        self.told(notices)
        return notices

    @rule(person=people, role=roles)
    def join(self, person: str, role: Role) -> None:
        self.told(self.state.join(person, person, role, anonymous=False))
        self.sockets[person] = self.sockets.get(person, 0) + 1
        before = self.roles.get(person, role)
        if role in ON_STAGE_ROLES and before not in ON_STAGE_ROLES:
            self.hands = [hand for hand in self.hands if hand != person]
        self.roles[person] = role

    @precondition(lambda self: self.sockets)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        person = data.draw(st.sampled_from(sorted(self.sockets)))
        self.told(self.state.leave(person))
        self.sockets[person] -= 1
        if not self.sockets[person]:
            del self.sockets[person], self.roles[person]
            self.hands = [hand for hand in self.hands if hand != person]

    @rule(person=people)
    def raise_hand(self, person: str) -> None:
        if person in self.sockets:
            raised, notices = self.state.raise_hand(person, None, NOW)
            self.told(notices)
            if person not in self.hands:
                self.hands.append(person)
            assert raised.position == self.hands.index(person) + 1

    @rule(actor=people, role=roles, whom=people)
    def lower_hand(self, actor: str, role: Role, whom: str) -> None:
        notices = self.refused(self.state.lower_hand, Actor(actor, role), whom)
        assert (notices is None) == (actor != whom and role not in STAFF_ROLES)
        if notices is not None:
            assert bool(notices) == (whom in self.hands)
            self.hands = [hand for hand in self.hands if hand != whom]

    @rule(actor=people, role=roles, whom=people, whose=roles)
    def mute(self, actor: str, role: Role, whom: str, whose: Role) -> None:
        notices = self.refused(self.state.mute, Actor(actor, role), whom, whose)
        assert (notices is not None) == self.may(role, whose)
        if notices is not None:
            assert bool(notices) == (whom not in self.muted)
            self.muted.add(whom)

    @rule(actor=people, role=roles, whom=people, whose=roles)
    def unmute(self, actor: str, role: Role, whom: str, whose: Role) -> None:
        notices = self.refused(self.state.unmute, Actor(actor, role), whom, whose)
        if notices is not None:
            assert self.may(role, whose)
            self.muted.discard(whom)

    @rule(actor=people, role=roles, whom=people, whose=roles)
    def remove(self, actor: str, role: Role, whom: str, whose: Role) -> None:
        was = self.state.kept_out.has(whom, None, NOW)
        notices = self.refused(self.state.remove, Actor(actor, role), whom, whose, "because")
        assert (notices is not None) == (self.may(role, whose) and actor != whom)
        assert self.state.kept_out.has(whom, None, NOW) == (was or notices is not None)

    @staticmethod
    def may(role: Role, whose: Role) -> bool:
        return role in STAFF_ROLES and list(Role).index(role) <= list(Role).index(whose)

    @invariant()
    def agrees_with_the_model(self) -> None:
        state = self.state
        assert state.member_count == len(self.sockets)
        assert {person.id: person.role for person in state.members()} == self.roles
        assert self.shown == set(self.sockets)
        assert state.muted == self.muted
        assert [hand.user_id for hand in state.hands()] == self.hands
        assert [person.id for person in state.page_of_members(None).items] == [p.id for p in state.members()]
        assert {p.id for p in state.members() if p.muted} == self.muted & set(self.sockets)


RoomMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRoomMachine = RoomMachine.TestCase


def test_the_host_is_safe_from_everyone_but_an_admin() -> None:
    state = filled(1)
    for role in Role:
        actor = Actor("x", role)
        if role in (Role.ADMIN, Role.HOST):
            state.mute(actor, "host", Role.HOST)
            continue
        with pytest.raises(ForbiddenError):
            state.mute(actor, "host", Role.HOST)
        with pytest.raises(ForbiddenError):
            state.remove(actor, "host", Role.HOST, None)
