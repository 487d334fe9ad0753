"""Who has been looked up a moment ago is not looked up again, and nobody stays longer than that."""

from __future__ import annotations

from lac.auth.model import User
from lac.auth.recent import CAPACITY, FRESH_S, RecentSignIns
from lac.clock import utc_now


def user(user_id: str) -> User:
    return User(id=user_id, email=f"{user_id}@example.org", display_name="Ada", is_admin=False, created_at=utc_now())


def test_a_sign_in_is_known_for_a_moment() -> None:
    recent, ada = RecentSignIns(), user("ada")
    assert recent.find("ada", "phone", now=10.0) is None
    recent.remember(ada, "phone", version=recent.version, now=10.0)
    assert recent.find("ada", "phone", now=10.0 + 0.9 * FRESH_S) is ada
    assert recent.find("ada", "desk", now=10.0) is None
    assert recent.find("bob", "phone", now=10.0) is None
    assert recent.find("ada", "phone", now=10.0 + FRESH_S) is None


def test_what_is_forgotten_while_it_is_looked_up_is_not_remembered() -> None:
    recent = RecentSignIns()
    version = recent.version
    recent.forget("ada")
    recent.remember(user("ada"), "phone", version=version, now=10.0)
    assert recent.find("ada", "phone", now=10.0) is None


def test_all_sign_ins_of_an_account_are_forgotten_and_nobody_elses() -> None:
    recent = RecentSignIns()
    for user_id, sign_in_id in (("ada", "phone"), ("ada", "desk"), ("bob", "phone")):
        recent.remember(user(user_id), sign_in_id, version=0, now=10.0)
    recent.forget("ada")
    found = [recent.find(*key, now=10.0) for key in (("ada", "phone"), ("ada", "desk"), ("bob", "phone"))]
    assert [who is not None for who in found] == [False, False, True]


def test_memory_is_bounded() -> None:
    recent = RecentSignIns()
    for number in range(CAPACITY + 10):
        recent.remember(user(str(number)), "phone", version=0, now=10.0)
    for number in range(50):
        recent.remember(user(str(CAPACITY)), str(number), version=0, now=10.0 + number * FRESH_S)
    assert recent.find("9", "phone", now=10.0) is None
    assert recent.find("10", "phone", now=10.0) is not None
    assert len(recent._found) == CAPACITY
    assert len(recent._found[str(CAPACITY)]) == 1
