"""What moderators do, on a station on air: what everyone is told, what it does to media, what is written down."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import trio
from trio.testing import MockClock

from lac.audit import list_audit
from lac.broadcasts import store as broadcast_store
from lac.broadcasts.model import ChatMode, Role
from lac.db import models
from lac.errors import (
    ConflictError,
    ForbiddenError,
    NotFoundError,
    TooManyRequestsError,
    UnavailableError,
)
from lac.people import store as people_store
from lac.rooms import store
from lac.rooms.commands import (
    AcceptInvite,
    ChatMessage,
    ClearMessages,
    Command,
    DeclineInvite,
    DeleteMessage,
    InviteToSpeak,
    LockRoom,
    LowerHand,
    MoveHand,
    MoveToAudience,
    Mute,
    MuteAll,
    RaiseHand,
    Remove,
    SetChatMode,
    SlowMode,
    Unmute,
)
from lac.rooms.events import CloseCode
from lac.rooms.recent_chat import DELETED_KEPT
from lac.rooms.values import ChatAccepted, MutedAll
from tests.fakes.air import ADMIN, COHOST, HOST, LISTENER, MODERATOR, SPEAKER, FakeSocket, Station
from tests.sweep import Cut, sweep_within


def role_in_database(station: Station, user_id: str) -> Role | None:
    return station.db.now(lambda session: broadcast_store.granted_role(session, station.show_id, user_id))


def audit(station: Station) -> list[tuple[str, str | None, str | None]]:
    """What was done, earliest first: act, actor, target."""
    page = station.db.now(lambda session: list_audit(session, station.show_id, limit=100))
    return [(entry.action.removeprefix("room."), entry.actor_id, entry.target_id) for entry in reversed(page.items)]


async def said(socket: FakeSocket, text: str = "hello") -> str:
    accepted = await socket.do(ChatMessage(text))
    assert isinstance(accepted, ChatAccepted)
    return accepted.id


# --- the stage --------------------------------------------------------------------------------------------------------


async def test_an_invitation_that_is_accepted_makes_a_speaker_for_good(
    station: Station, autojump_clock: MockClock
) -> None:
    await station.start()
    moderator, listener = await station.join(MODERATOR), await station.join(LISTENER)
    await listener.do(RaiseHand())
    await moderator.do(InviteToSpeak(LISTENER.id))
    assert listener.data("invitedToSpeak") == [{"byUserId": MODERATOR.id}]
    assert (await station.join(LISTENER)).data("joined")[0]["invited"] is True
    with pytest.raises(ForbiddenError):
        await station.publish(LISTENER)
    await listener.do(AcceptInvite())
    assert moderator.data("inviteEnded") == [{"userId": LISTENER.id, "outcome": "accepted"}]
    assert moderator.data("roleChanged")[-1]["user"]["role"] == "speaker"
    assert moderator.data("handLowered") == [{"userId": LISTENER.id}]
    assert role_in_database(station, LISTENER.id) is Role.SPEAKER
    (await station.publish(LISTENER)).speak()
    with pytest.raises(ConflictError):
        await listener.do(AcceptInvite())


async def test_an_invitation_may_be_declined_or_withdrawn(station: Station, autojump_clock: MockClock) -> None:
    moderator, listener = await station.join(MODERATOR), await station.join(LISTENER)
    await moderator.do(InviteToSpeak(LISTENER.id))
    await listener.do(DeclineInvite())
    await moderator.do(InviteToSpeak(LISTENER.id))
    await moderator.do(MoveToAudience(LISTENER.id))
    with pytest.raises(ConflictError):
        await listener.do(AcceptInvite())
    assert [ended["outcome"] for ended in listener.data("inviteEnded")] == ["declined", "withdrawn"]
    assert role_in_database(station, LISTENER.id) is None
    with pytest.raises(NotFoundError):
        await moderator.do(InviteToSpeak("nobody"))


async def test_an_invitation_stays_when_the_database_is_away(station: Station, autojump_clock: MockClock) -> None:
    moderator, listener = await station.join(MODERATOR), await station.join(LISTENER)
    await moderator.do(InviteToSpeak(LISTENER.id))
    station.db.away = True
    with pytest.raises(UnavailableError):
        await listener.do(AcceptInvite())
    assert not moderator.data("roleChanged")
    station.db.away = False
    await listener.do(AcceptInvite())
    assert role_in_database(station, LISTENER.id) is Role.SPEAKER


async def test_moving_to_the_audience_ends_the_audio_at_once_and_the_role_for_good(
    station: Station, autojump_clock: MockClock
) -> None:
    await station.start()
    moderator, _ = await station.join(MODERATOR), await station.join(SPEAKER)
    audio = (await station.publish(SPEAKER)).speak()
    hearing = (await station.listen(SPEAKER)).connect()
    station.db.delay_s = 5.0

    async with trio.open_nursery() as nursery:
        begun = trio.current_time()
        nursery.start_soon(moderator.do, MoveToAudience(SPEAKER.id))
        await trio.testing.wait_all_tasks_blocked()
        assert audio.closed == "moved_to_audience"
        assert trio.current_time() - begun < 0.2, "it does not wait for the database"
    assert hearing.closed is None
    assert moderator.data("roleChanged")[-1]["user"] == {
        "id": SPEAKER.id,
        "displayName": SPEAKER.display_name,
        "role": "listener",
        "anonymous": False,
        "muted": False,
        "speaking": False,
    }
    assert role_in_database(station, SPEAKER.id) is None
    with pytest.raises(ForbiddenError):
        await station.publish(SPEAKER)
    with pytest.raises(ConflictError):
        await moderator.do(MoveToAudience(SPEAKER.id))


async def test_everyone_who_is_weaker_is_muted_at_once(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    cohost, host = await station.join(COHOST), await station.join(HOST)
    (await station.publish(SPEAKER)).speak()
    muted = await cohost.do(MuteAll())
    assert muted == MutedAll([SPEAKER.id])
    assert station.media.muted == {SPEAKER.id}
    assert host.data("muted") == [{"userId": SPEAKER.id}]


async def test_moderators_order_the_queue_and_everyone_knows_their_place(
    station: Station, autojump_clock: MockClock
) -> None:
    moderator, first, second = await station.join(MODERATOR), await station.join(LISTENER), await station.join(SPEAKER)
    await first.do(RaiseHand("first"))
    await second.do(RaiseHand("second"))
    await moderator.do(MoveHand(SPEAKER.id, 1))
    assert first.data("handMoved") == [{"userId": SPEAKER.id, "position": 1}]
    assert first.data("handPosition") == [{"position": 2}]
    hands = (await station.join(COHOST)).data("joined")[0]["hands"]
    assert [(hand["userId"], hand["note"], hand["position"]) for hand in hands] == [
        (SPEAKER.id, "second", 1),
        (LISTENER.id, "first", 2),
    ]
    await second.do(LowerHand())
    assert first.data("handPosition")[-1] == {"position": 1}
    with pytest.raises(ForbiddenError):
        await first.do(MoveHand(LISTENER.id, 1))


async def test_the_giver_of_a_role_may_be_gone(station: Station, autojump_clock: MockClock) -> None:
    moderator, listener = await station.join(MODERATOR), await station.join(LISTENER)
    await moderator.do(InviteToSpeak(LISTENER.id))
    station.db.now(lambda session: session.delete(session.get(models.User, MODERATOR.id)))
    await listener.do(AcceptInvite())
    assert role_in_database(station, LISTENER.id) is Role.SPEAKER


# --- the chat ---------------------------------------------------------------------------------------------------------


async def test_a_deleted_message_is_gone_for_everyone_and_for_newcomers(
    station: Station, autojump_clock: MockClock
) -> None:
    moderator, listener, host = await station.join(MODERATOR), await station.join(LISTENER), await station.join(HOST)
    message, kept, hosts = await said(listener), await said(listener, "kept"), await said(host)
    await moderator.do(DeleteMessage(message))
    assert listener.data("messageDeleted") == [{"id": message}]
    recent = (await station.join(SPEAKER)).data("joined")[0]["recentMessages"]
    assert [chat["id"] for chat in recent] == [kept, hosts]
    for refused, error in ((message, NotFoundError), ("none", NotFoundError), (hosts, ForbiddenError)):
        with pytest.raises(error):
            await moderator.do(DeleteMessage(refused))
    with pytest.raises(ForbiddenError):
        await listener.do(DeleteMessage(kept))


async def test_a_persons_messages_are_cleared_together(station: Station, autojump_clock: MockClock) -> None:
    moderator, listener, other = await station.join(MODERATOR), await station.join(LISTENER), await station.join()
    for _ in range(DELETED_KEPT // 20):
        await said(listener)
    kept = await said(other)
    assert listener.member is not None
    listener.member.leave()
    await moderator.do(ClearMessages(LISTENER.id))
    assert other.data("messagesCleared") == [{"userId": LISTENER.id}]
    stored = station.db.now(lambda session: store.recent_messages(session, station.show_id, 50))
    assert [chat.id for chat in stored] == [kept]
    with pytest.raises(ForbiddenError):
        await moderator.do(ClearMessages(HOST.id))


async def test_slow_mode_makes_people_wait_and_not_moderators(station: Station, autojump_clock: MockClock) -> None:
    moderator, listener = await station.join(MODERATOR), await station.join(LISTENER)
    await moderator.do(SlowMode(30))
    assert listener.data("slowMode") == [{"seconds": 30}]
    assert (await station.join(SPEAKER)).data("joined")[0]["slowModeS"] == 30
    await said(listener)
    await trio.sleep(10)
    assert listener.member is not None
    listener.member.leave()
    again = await station.join(LISTENER)
    with pytest.raises(TooManyRequestsError) as refused:
        await said(again)
    assert refused.value.code == "slow_mode"
    assert refused.value.retry_after_s == pytest.approx(20)
    await said(moderator)
    await said(moderator)
    await trio.sleep(20)
    station.db.away = True
    with pytest.raises(UnavailableError):
        await said(again)
    station.db.away = False
    await said(again)  # what was not sent does not count
    await moderator.do(SlowMode(0))
    await said(again)


async def test_two_sockets_do_not_get_round_slow_mode(station: Station, autojump_clock: MockClock) -> None:
    moderator, one, two = await station.join(MODERATOR), await station.join(LISTENER), await station.join(LISTENER)
    await moderator.do(SlowMode(5))
    refused = 0

    async def say(socket: FakeSocket) -> None:
        nonlocal refused
        try:
            await said(socket)
        except TooManyRequestsError:
            refused += 1

    station.db.delay_s = 1.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(say, one)
        nursery.start_soon(say, two)
    assert refused == 1
    assert len(moderator.data("chatMessage")) == 1


async def test_a_chat_for_followers_and_a_closed_one(station: Station, autojump_clock: MockClock) -> None:
    moderator, listener, speaker, guest = [
        await station.join(person) for person in (MODERATOR, LISTENER, SPEAKER, None)
    ]
    await moderator.do(SetChatMode(ChatMode.FOLLOWERS))
    assert guest.data("chatMode") == [{"mode": "followers"}]
    for socket in (listener, guest):
        with pytest.raises(ForbiddenError) as refused:
            await said(socket)
        assert refused.value.code == "followers_only"
    await said(speaker)
    station.db.now(lambda session: people_store.follow(session, LISTENER.id, HOST.id, datetime.now(UTC)))
    await said(listener)
    await moderator.do(SetChatMode(ChatMode.CLOSED))
    for socket in (listener, speaker, guest):
        with pytest.raises(ForbiddenError) as refused:
            await said(socket)
        assert refused.value.code == "chat_closed"
    await said(moderator)


async def test_settings_outlive_the_process_and_nothing_of_a_failed_change_is_seen(
    new_station: Callable[[], Station], autojump_clock: MockClock
) -> None:
    station = new_station()
    async with station.open():
        moderator = await station.join(MODERATOR)
        await moderator.do(SlowMode(7))
        await moderator.do(SetChatMode(ChatMode.FOLLOWERS))
        station.db.away = True
        with pytest.raises(UnavailableError):
            await moderator.do(LockRoom(locked=True))
        assert not moderator.data("roomLocked")
        station.db.away = False
        await moderator.do(LockRoom(locked=True))
        await moderator.do(LockRoom(locked=True))
        assert moderator.data("roomLocked") == [{"locked": True}]
    async with station.open():
        joined = (await station.join(MODERATOR)).data("joined")[0]
        assert (joined["slowModeS"], joined["chatMode"], joined["locked"]) == (7, "followers", True)


async def test_an_act_that_waits_does_not_outlast_the_right_to_it(station: Station, autojump_clock: MockClock) -> None:
    moderator, listener = await station.join(MODERATOR), await station.join(LISTENER)
    message = await said(listener)
    station.db.delay_s = 1.0
    refused: list[str] = []

    async def act(command: Command) -> None:
        try:
            await moderator.do(command)
        except ForbiddenError as error:
            refused.append(error.code)

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(said, listener)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(act, DeleteMessage(message))
        nursery.start_soon(act, ClearMessages(LISTENER.id))
        await trio.testing.wait_all_tasks_blocked()
        station.on_air.rights.role_changed(station.show_id, MODERATOR.id, Role.LISTENER)
    assert refused == ["forbidden", "forbidden"]
    assert not listener.data("messageDeleted")


# --- coming back, and what is written down ----------------------------------------------------------------------------


async def test_who_comes_back_gets_what_they_missed(station: Station, autojump_clock: MockClock) -> None:
    moderator = await station.join(MODERATOR)
    first = await said(moderator, "0")
    rest = [await said(moderator, str(number)) for number in range(1, 70)]
    await moderator.do(DeleteMessage(rest[0]))

    async def back(since: str) -> dict[str, object]:
        socket = FakeSocket()
        socket.member = await station.on_air.join(LISTENER, station.show_id, None, socket, since=since)
        joined: dict[str, object] = socket.data("joined")[0]
        return joined

    for since, expected in ((rest[-3], rest[-2:]), (first, rest[1:]), (rest[0], rest[1:]), (rest[-1], [])):
        joined = await back(since)
        assert [chat["id"] for chat in joined["recentMessages"]] == expected  # type: ignore[attr-defined, index]
        assert joined["messagesMissed"] is False
        assert joined["deletedMessages"] == [rest[0]]
    assert (await back("never"))["messagesMissed"] is True


async def test_every_act_is_in_the_audit_log(new_station: Callable[[], Station], autojump_clock: MockClock) -> None:
    station = new_station()
    async with station.open():
        await station.start()
        before = len(audit(station))
        mod, listener, speaker = [await station.join(person) for person in (MODERATOR, LISTENER, SPEAKER)]
        message = await said(listener)
        await listener.do(RaiseHand())
        await mod.do(MoveHand(LISTENER.id, 1))
        await mod.do(LowerHand(LISTENER.id))
        await mod.do(Mute(LISTENER.id))
        await mod.do(Unmute(LISTENER.id))
        await mod.do(MuteAll())
        await mod.do(InviteToSpeak(LISTENER.id))
        await listener.do(DeclineInvite())
        await mod.do(InviteToSpeak(LISTENER.id))
        await mod.do(MoveToAudience(LISTENER.id))
        await mod.do(InviteToSpeak(LISTENER.id))
        await listener.do(AcceptInvite())
        await mod.do(MoveToAudience(LISTENER.id))
        await mod.do(DeleteMessage(message))
        await mod.do(ClearMessages(LISTENER.id))
        await mod.do(SlowMode(1))
        await mod.do(Remove(SPEAKER.id))
        await mod.do(Remove(LISTENER.id, ban=True))
        await station.on_air.rights.lift_ban(MODERATOR, station.show_id, LISTENER.id)
        await station.on_air.rights.set_role(HOST, station.show_id, LISTENER.id, Role.COHOST)
        await station.on_air.rights.set_role(HOST, station.show_id, LISTENER.id, None)
        await trio.sleep(2)
        assert speaker.code == CloseCode.REMOVED
        lines = audit(station)[before:]
    m, who = MODERATOR.id, LISTENER.id
    assert lines == [
        ("hand_moved", m, who),
        ("hand_lowered", m, who),
        ("muted", m, who),
        ("unmuted", m, who),
        ("all_muted", m, None),
        ("invited", m, who),
        ("invite_declined", who, who),
        ("invited", m, who),
        ("invite_withdrawn", m, who),
        ("invited", m, who),
        ("invite_accepted", who, who),
        ("moved_to_audience", m, who),
        ("message_deleted", m, who),
        ("messages_cleared", m, who),
        ("settings_changed", m, None),
        ("removed", m, SPEAKER.id),
        ("banned", m, who),
        ("ban_lifted", m, who),
        ("role_given", HOST.id, who),
        ("role_taken", HOST.id, who),
    ]


# --- cancelled at every step ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["accept", "audience", "delete", "clear", "slow", "lock", "role", "ban", "lift"])
def test_an_act_is_done_or_not_begun_and_its_line_is_there_or_not(new_station: Callable[[], Station], act: str) -> None:
    """Wherever the caller is cancelled: room, database and audit log say the same."""

    async def scenario(cut: Cut) -> None:
        station = new_station()
        async with station.open():
            await station.start()
            mod, listener, _ = [await station.join(person) for person in (MODERATOR, LISTENER, SPEAKER)]
            audio = (await station.publish(SPEAKER)).speak()
            message = await said(listener)
            await mod.do(InviteToSpeak(LISTENER.id))
            if act == "lift":
                await mod.do(Remove(LISTENER.id, ban=True))
            await trio.testing.wait_all_tasks_blocked()
            before = len(audit(station))
            with cut:
                match act:
                    case "accept":
                        await listener.do(AcceptInvite())
                    case "audience":
                        await mod.do(MoveToAudience(SPEAKER.id))
                    case "delete":
                        await mod.do(DeleteMessage(message))
                    case "clear":
                        await mod.do(ClearMessages(LISTENER.id))
                    case "slow":
                        await mod.do(SlowMode(9))
                    case "lock":
                        await mod.do(LockRoom(locked=True))
                    case "role":
                        await station.on_air.rights.set_role(HOST, station.show_id, SPEAKER.id, None)
                    case "ban":
                        await station.on_air.rights.remove_person(
                            MODERATOR, station.show_id, SPEAKER.id, None, ban=True
                        )
                    case "lift":
                        await station.on_air.rights.lift_ban(MODERATOR, station.show_id, LISTENER.id)
            await trio.testing.wait_all_tasks_blocked()
            state = station.on_air._shows[station.show_id].state
            stored = await station.broadcasts.get(ADMIN, station.show_id)
            kept = station.db.now(lambda session: store.find_message(session, station.show_id, message)) is not None
            assert (message in state.chat) == kept
            assert state.settings == stored.settings
            for person in (LISTENER, SPEAKER):
                if person.id in state:
                    role = role_in_database(station, person.id) or Role.LISTENER
                    assert state.role_of(person.id) is role
                banned = station.db.now(
                    lambda session, whom=person.id: store.is_banned(session, station.show_id, whom, datetime.now(UTC))
                )
                assert state.kept_out.has(person.id, None, datetime.now(UTC)) == banned
            may_speak = state.role_of(SPEAKER.id) is Role.SPEAKER
            assert (audio.closed is None) == may_speak
            changed = (
                not kept
                or state.settings.slow_mode_s == 9
                or state.settings.locked
                or not may_speak
                or state.role_of(LISTENER.id) is Role.SPEAKER
                or (act == "lift" and not state.kept_out.has(LISTENER.id, None, datetime.now(UTC)))
            )
            assert len(audit(station)) - before == changed

    sweep_within(scenario, lambda: None)


async def test_a_speaker_leaves_the_stage_by_themselves_and_nobody_elses_for_them(
    station: Station, autojump_clock: MockClock
) -> None:
    await station.start()
    speaker, listener = await station.join(SPEAKER), await station.join(LISTENER)
    session = (await station.publish(SPEAKER)).speak()
    for target in (SPEAKER, HOST, LISTENER):
        with pytest.raises(ForbiddenError):
            await listener.do(MoveToAudience(target.id))
    with pytest.raises(ForbiddenError):
        await speaker.do(MoveToAudience(HOST.id))
    assert session.closed is None
    await speaker.do(MoveToAudience(SPEAKER.id))
    assert session.closed is not None
    assert speaker.data("roleChanged")[-1]["user"]["role"] == "listener"
