"""The pure rules of a room: the queue of hands, slow mode, chat modes, who is kept out, muted or invited, what somebody
missed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lac.broadcasts.model import ChatMode, Role, RoomSettings
from lac.broadcasts.policy import RANK
from lac.errors import ConflictError, ForbiddenError, NotFoundError, TooManyRequestsError
from lac.rooms.chat_rules import GUESTS_PER_ADDRESS, SlowMode, check_chat_mode
from lac.rooms.events import HandPosition, HandRaised, InvitedToSpeak, InviteEnded, Muted, SpeakersChanged
from lac.rooms.hands import Hands
from lac.rooms.invites import INVITES_MAX, Invites
from lac.rooms.kept_out import Exclusion, KeptOut
from lac.rooms.mutes import Mutes
from lac.rooms.recent_chat import DELETED_KEPT, RECENT_MESSAGES, Missed, RecentChat
from lac.rooms.state import STAFF_ROLES, Actor, Group, Only, RoomState
from lac.rooms.values import Chat, Person, ProducerInfo

NOW = datetime(2030, 1, 1, tzinfo=UTC)
MOD = Actor("mod", Role.MODERATOR)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 7))))
def test_everybody_knows_their_place_in_the_queue(acts: list[tuple[str, int]]) -> None:
    """0 lowers a hand, 1 to 6 move it (or raise it): a list that is moved by the events alone stays right."""
    hands, told, shown = Hands(), {}, []
    for person, act in acts:
        if act == 0:
            lowered, shifts = hands.lower(person)
            assert (lowered is None) == (person not in shown)
            shown = [other for other in shown if other != person]
        elif person not in shown:
            raised, changed = hands.raise_hand(person, person, None, NOW)
            assert isinstance(raised, HandRaised)
            assert changed
            shown.append(person)
            told[person] = raised.position
            shifts = []
        else:
            moved, shifts = hands.move(person, act)
            if moved is not None:
                shown.remove(person)
                shown.insert(moved.position - 1, person)
        told |= {person: event.position for person, event in shifts}
        assert [hand.user_id for hand in hands.listed()] == shown
        assert [hand.position for hand in hands.listed()] == [told[person] for person in shown]
        assert [told[person] for person in shown] == list(range(1, len(shown) + 1))


def test_a_hand_that_is_not_up_cannot_be_moved() -> None:
    with pytest.raises(NotFoundError):
        Hands().move("a", 1)


def test_slow_mode_says_how_long_is_left_and_lets_go_at_the_very_moment() -> None:
    slow = SlowMode()
    slow.take("a", 10, 100.0)
    slow.take("b", 10, 101.0)
    for now, left in ((100.0, 10.0), (104.5, 5.5), (109.999, 0.001)):
        with pytest.raises(TooManyRequestsError) as refused:
            slow.take("a", 10, now)
        assert refused.value.code == "slow_mode"
        assert refused.value.retry_after_s == pytest.approx(left)
    slow.take("a", 10, 110.0)
    with pytest.raises(TooManyRequestsError):
        slow.take("b", 10, 110.5)
    slow.give_back("b")
    slow.take("b", 10, 110.6)
    slow.take("c", 0, 200.0)
    slow.take("c", 0, 200.0)
    assert slow._written == [], "nothing is remembered longer than it counts"


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("follows", [True, False])
@pytest.mark.parametrize("mode", list(ChatMode))
def test_who_may_write_in_which_mode(mode: ChatMode, role: Role, follows: bool) -> None:
    staff = role in STAFF_ROLES
    may = {
        ChatMode.OPEN: True,
        ChatMode.FOLLOWERS: staff or role is Role.SPEAKER or follows,
        ChatMode.CLOSED: staff,
    }
    if may[mode]:
        check_chat_mode(mode, role, follows=follows)
        return
    with pytest.raises(ForbiddenError) as refused:
        check_chat_mode(mode, role, follows=follows)
    assert refused.value.code == {ChatMode.FOLLOWERS: "followers_only", ChatMode.CLOSED: "chat_closed"}[mode]


def test_bans_hold_by_person_and_by_address_until_they_end() -> None:
    kept_out, end = KeptOut(), NOW + timedelta(hours=1)
    kept_out.add(Exclusion("guest-1", "there", end))
    kept_out.add(Exclusion("guest-2", "there"))
    assert kept_out.has("guest-1", None, NOW)
    assert kept_out.has("guest-3", "there", NOW)
    assert kept_out.has(None, "there", NOW)
    assert not kept_out.has("account", None, NOW), "an account is not known by its address"
    assert not kept_out.has("guest-1", None, end)
    assert kept_out.has("guest-1", "there", end), "the second ban still holds"
    kept_out.readmit("guest-2")
    assert not kept_out.has("guest-3", "there", end)
    assert kept_out.has("guest-3", "there", NOW)
    kept_out.readmit("guest-1")
    assert not kept_out.has("guest-3", "there", NOW)
    assert (kept_out.forgettable, kept_out._addresses) == (True, {})


def room(*people: tuple[str, Role]) -> RoomState:
    state = RoomState()
    for person, role in people:
        state.join(person, person, role, anonymous=person.startswith("guest"))
    return state


def test_a_hand_comes_down_by_itself_on_the_stage() -> None:
    state = room(("a", Role.LISTENER), ("b", Role.LISTENER), ("s", Role.SPEAKER))
    for person in ("s", "a", "b"):
        state.raise_hand(person, None, NOW)
    notices = state.change_speakers({"p": "s"})
    assert notices[0] == (Group.EVERYONE, SpeakersChanged(producers=[ProducerInfo("p", "s")], speaking=[]))
    assert (Only("b"), HandPosition(2)) in notices
    state.change_role("a", Role.SPEAKER)
    assert [hand.user_id for hand in state.hands()] == ["b"]
    with pytest.raises(ConflictError):
        state.raise_hand("s", None, NOW)


def test_invitations_are_for_listeners_with_an_account_and_are_answered_once() -> None:
    state = room(("a", Role.LISTENER), ("guest-1", Role.LISTENER), ("s", Role.SPEAKER), ("mod", Role.MODERATOR))
    for person in ("guest-1", "s"):
        with pytest.raises(ConflictError):
            state.invite(MOD, person)
    with pytest.raises(ForbiddenError):
        state.invite(Actor("s", Role.SPEAKER), "a")
    assert state.invite(MOD, "a") == [(Only("a"), InvitedToSpeak("mod"))]
    state.leave("a")
    state.join("a", "a", Role.LISTENER, anonymous=False)
    assert "a" in state.invites, "an invitation outlives a reconnect"
    assert (Group.STAFF, InviteEnded("a", "declined")) in state.decline_invite("a")
    with pytest.raises(ConflictError) as refused:
        state.invites.take("a")
    assert refused.value.code == "not_invited"


def test_invitations_end_with_the_role_of_whoever_made_them_and_with_removal() -> None:
    state = room(("a", Role.LISTENER), ("b", Role.LISTENER), ("mod", Role.MODERATOR))
    state.invite(MOD, "a")
    state.invite(MOD, "b")
    state.remove(Actor("h", Role.HOST), "b", Role.LISTENER, None)
    assert "b" not in state.invites
    notices = state.change_role("mod", Role.LISTENER)
    assert (Only("a"), InviteEnded("a", "withdrawn")) in notices
    assert "a" not in state.invites


def test_invitations_that_nobody_answers_have_a_bound() -> None:
    state = room(*((f"p{number}", Role.LISTENER) for number in range(INVITES_MAX + 1)))
    for number in range(INVITES_MAX):
        state.invite(MOD, f"p{number}")
    state.invite(MOD, "p0")
    with pytest.raises(ConflictError) as refused:
        state.invite(MOD, f"p{INVITES_MAX}")
    assert refused.value.code == "invites_full"


def test_an_invitation_that_could_not_be_answered_waits_again_unless_there_is_a_newer_one() -> None:
    invites = Invites()
    invites.add("a", "mod")
    invites.add("a", "host")
    assert (invites.made_by("mod"), invites.made_by("host")) == ([], ["a"])
    invites.put_back("a", "mod")
    assert invites.take("a") == "host"
    assert "a" not in invites
    invites.put_back("a", "host")
    assert (invites.end("a"), invites.end("a")) == (True, False)


@pytest.mark.parametrize("lifting", list(Role))
@pytest.mark.parametrize("first", list(Role))
def test_a_mute_is_as_strong_as_the_strongest_who_gave_it(first: Role, lifting: Role) -> None:
    mutes = Mutes()
    assert mutes.add("a", first)
    assert not mutes.add("a", Role.MODERATOR)
    strongest = min(first, Role.MODERATOR, key=RANK.__getitem__)
    if RANK[lifting] > RANK[strongest]:
        with pytest.raises(ForbiddenError) as refused:
            mutes.lift("a", lifting)
        assert refused.value.code == "stronger_role"
        assert (mutes.people(), "a" in mutes) == ({"a"}, True)
    else:
        assert (mutes.lift("a", lifting), mutes.lift("a", lifting)) == (True, False)
        assert (mutes.people(), "a" in mutes) == (set(), False)


def test_mute_all_spares_oneself_ones_equals_and_those_who_cannot_speak() -> None:
    state = room(("h", Role.HOST), ("c", Role.COHOST), ("c2", Role.COHOST), ("s", Role.SPEAKER), ("l", Role.LISTENER))
    muted, notices = state.mute_all(Actor("c", Role.COHOST), {"encoder": Role.HOST, "away": Role.SPEAKER})
    assert sorted(muted) == ["away", "s"]
    assert sorted(event.user_id for _, event in notices if isinstance(event, Muted)) == ["away", "s"]
    assert state.mute_all(Actor("c", Role.COHOST), {})[1] == []


@pytest.mark.parametrize("target", list(Role))
@pytest.mark.parametrize("actor", list(Role))
def test_who_may_take_whom_off_the_stage(actor: Role, target: Role) -> None:
    state = room(("a", target))
    gives_roles = actor in (Role.ADMIN, Role.HOST)
    may = (target is Role.SPEAKER and actor in STAFF_ROLES) or (target in (Role.COHOST, Role.MODERATOR) and gives_roles)
    if may:
        state.check_move_to_audience(Actor("x", actor), "a", target)
        return
    with pytest.raises((ForbiddenError, ConflictError)):
        state.check_move_to_audience(Actor("x", actor), "a", target)


def test_a_locked_room_knows_who_was_in() -> None:
    state = room(("a", Role.LISTENER), ("b", Role.LISTENER))
    state.change_settings(RoomSettings(locked=True))
    state.leave("a")
    state.check_lock("a", Role.LISTENER)
    state.check_lock("new", Role.SPEAKER)
    for newcomer in ("new", None):
        with pytest.raises(ForbiddenError):
            state.check_lock(newcomer, Role.LISTENER)
    state.remove(MOD, "a", Role.LISTENER, None)
    with pytest.raises(ForbiddenError):
        state.check_lock("a", Role.LISTENER)
    state.change_settings(RoomSettings())
    state.check_lock("new", Role.LISTENER)


def chat(number: int) -> Chat:
    person = Person(id="a", display_name="a", role=Role.LISTENER)
    return Chat(id=f"m{number}", user=person, text="x", media_time=0, at=NOW + timedelta(seconds=number))


def ids(chats: list[Chat]) -> list[str]:
    return [message.id for message in chats]


def test_who_comes_back_gets_what_came_since_and_what_was_deleted() -> None:
    recent = RecentChat([chat(number) for number in range(10, 15)])
    recent.forget({"m13"})
    resumed = recent.resume("m11", None)
    assert (ids(resumed.messages), resumed.missed, resumed.deleted) == (["m12", "m14"], False, ["m13"])
    # Longer ago: the database was asked, and since then m15 came and m9 was deleted.
    recent.add(chat(15))
    recent.forget({"m9"})
    stored = Missed(
        (NOW + timedelta(seconds=7), "m7"), [chat(number) for number in range(8, 15) if number != 13], False
    )
    assert ids(recent.resume("m7", stored).messages) == ["m8", "m10", "m11", "m12", "m14", "m15"]
    nothing_new = Missed((NOW + timedelta(seconds=13), "m13"), [chat(14)], False)
    assert ids(recent.resume("m13", nothing_new).messages) == ["m14", "m15"]
    assert recent.resume("m7", Missed(stored.after, [], more=True)).missed
    unknown = recent.resume("never", None)
    assert (ids(unknown.messages), unknown.missed) == (["m10", "m11", "m12", "m14", "m15"], True)


def test_cleared_messages_are_gone_for_newcomers() -> None:
    state = RoomState([chat(1), chat(2)])
    state.clear_messages("a", ["m1", "m2", "older"])
    assert state.chat.listed() == []


def test_a_room_remembers_only_its_latest_messages_and_its_latest_deletions() -> None:
    recent = RecentChat([chat(number) for number in range(RECENT_MESSAGES + 1)])
    assert ("m0" in recent, "m1" in recent) == (False, True)
    assert (recent.find("m0"), recent.find("m1")) == (None, chat(1))
    for number in range(DELETED_KEPT + 1):
        recent.forget({f"m{number}"})
    recent.add(chat(1000))
    assert ids(recent.listed()) == ["m1000"]
    assert recent.resume("m1000", None).deleted == [f"m{number}" for number in range(1, DELETED_KEPT + 1)]


def test_a_guest_who_comes_back_as_somebody_else_waits_for_slow_mode_as_well() -> None:
    slow = SlowMode()
    for number in range(GUESTS_PER_ADDRESS):
        slow.take(f"guest-{number}", 30, 100.0 + number, address_hash="home")
    with pytest.raises(TooManyRequestsError) as caught:
        slow.take("guest-new", 30, 110.0, address_hash="home")
    assert caught.value.retry_after_s == pytest.approx(20.0)
    slow.take("guest-elsewhere", 30, 110.0, address_hash="office")
    slow.take("account", 30, 110.0)
    slow.take("guest-new", 30, 130.5, address_hash="home")
