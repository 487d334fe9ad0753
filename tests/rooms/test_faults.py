"""A database that fails under a live show, in virtual time: as long as it takes, and with the limits of production."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import sqlalchemy as sa
import trio
from trio.testing import MockClock

from lac.broadcasts.model import BroadcastStatus
from lac.db import models
from lac.db.engine import ANSWER_GRACE_S, CONNECT_TIMEOUT_S, STATEMENT_TIMEOUT_S
from lac.errors import UnavailableError
from lac.rooms.commands import ChatMessage, LowerHand, MoveToAudience, Mute, RaiseHand, Reaction, Remove, Unmute
from lac.rooms.events import CloseCode
from tests.fakes.air import GRACE_S, LISTENER, MODERATOR, SPEAKER, FakeSocket, Station

#: How long a call takes that finds its connection dead and gets no new one.
FROZEN_CALL_S = STATEMENT_TIMEOUT_S + ANSWER_GRACE_S + CONNECT_TIMEOUT_S
STOPPED_S = 20.0


def stored_chat(station: Station) -> list[str]:
    query = sa.select(models.ChatMessage.text).order_by(models.ChatMessage.at)
    return station.db.now(lambda db: list(db.scalars(query)))


class Chat:
    """What was said, and what came of it."""

    def __init__(self) -> None:
        self.accepted: list[str] = []
        #: Text -> (code, seconds).
        self.refused: dict[str, tuple[str, float]] = {}

    async def say(self, socket: FakeSocket, text: str) -> None:
        asked_at = trio.current_time()
        try:
            assert await socket.do(ChatMessage(text)) is not None
        except UnavailableError as error:
            self.refused[text] = error.code, trio.current_time() - asked_at
        else:
            self.accepted.append(text)


async def test_twenty_seconds_without_a_database(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    host = (await station.publish()).speak()
    hearing = (await station.listen()).connect()
    sockets = [await station.join(MODERATOR), await station.join(LISTENER), await station.join()]
    moderator, listener, guest = sockets
    chat = Chat()
    await chat.say(listener, "before")

    station.db.away = True
    ends_at = trio.current_time() + STOPPED_S
    away_ids = []
    for second in range(round(STOPPED_S)):
        await chat.say(sockets[second % 3], f"{second}")
        await guest.do(Reaction("🔥"))
        await listener.do(RaiseHand())
        await moderator.do(LowerHand(LISTENER.id))
        await moderator.do(Mute(LISTENER.id))
        await moderator.do(Unmute(LISTENER.id))
        session = (await station.listen()).connect()  # nobody's: it needs no query
        away_ids.append(session.id)
        session.close("hung_up")
        await trio.sleep_until(ends_at - STOPPED_S + second + 1)
    station.db.away = False

    assert {code for code, _ in chat.refused.values()} == {"database_unavailable"}
    assert max(seconds for _, seconds in chat.refused.values()) == 0
    assert (len(chat.accepted), len(chat.refused)) == (1, STOPPED_S)
    await trio.sleep(3)
    await chat.say(guest, "after")

    # Nobody was let go, and nobody was told that anything is wrong with the show.
    assert [socket.closed for socket in sockets] == [None] * 3
    assert host.closed is None
    assert hearing.closed is None
    assert await station.status() is BroadcastStatus.LIVE
    told = {event for socket in sockets for event in socket.events}
    assert not told & {"hostAway", "broadcastEnded", "error"}
    # Each line that was accepted is stored and sent once, and none that was refused.
    assert stored_chat(station) == chat.accepted == ["before", "after"]
    assert [[message["text"] for message in socket.data("chatMessage")] for socket in sockets] == [chat.accepted] * 3
    # What happened meanwhile was written down afterwards, once.
    reasons = station.db.close_reasons()
    assert [reasons[session_id] for session_id in away_ids] == ["hung_up"] * len(away_ids)
    assert len(reasons) == 2 + len(away_ids)
    reactions = station.db.now(lambda db: db.scalar(sa.select(sa.func.sum(models.Reaction.count))))
    assert reactions == STOPPED_S


async def test_whoever_writes_to_a_frozen_database_is_told_in_time(station: Station, autojump_clock: MockClock) -> None:
    """One line is stored after the other; a line must not wait until each one before it has been given up."""
    await station.start()
    (await station.publish()).speak()
    sockets = [await station.join() for _ in range(30)]
    moderator = await station.join(MODERATOR)
    chat = Chat()
    station.db.away, station.db.delay_s = True, FROZEN_CALL_S
    async with trio.open_nursery() as nursery:
        for number, socket in enumerate(sockets):
            nursery.start_soon(chat.say, socket, f"{number}")
        with trio.fail_after(1):
            await moderator.do(Reaction("🔥"))
            await moderator.do(RaiseHand())
    assert len(chat.refused) == len(sockets)
    assert Counter(code for code, _ in chat.refused.values()) == {"database_unavailable": 1, "chat_busy": 29}
    assert max(seconds for _, seconds in chat.refused.values()) <= FROZEN_CALL_S

    station.db.away, station.db.delay_s = False, 0.0
    for number, socket in enumerate(sockets[:3]):
        await chat.say(socket, f"{number} again")
    assert stored_chat(station) == chat.accepted == ["0 again", "1 again", "2 again"]
    await trio.sleep(GRACE_S)
    assert await station.status() is BroadcastStatus.LIVE


async def test_a_line_that_was_given_up_while_it_waited_is_never_stored(
    station: Station, autojump_clock: MockClock
) -> None:
    """The first one hangs and is stored in the end; those behind it were told that they are not, and are not."""
    await station.start()
    one, two = await station.join(LISTENER), await station.join(SPEAKER)
    chat = Chat()
    station.db.delay_s = STATEMENT_TIMEOUT_S
    async with trio.open_nursery() as nursery:
        nursery.start_soon(chat.say, one, "slow")
        await trio.sleep(0.1)
        nursery.start_soon(chat.say, two, "behind")
    station.db.delay_s = 0.0
    assert list(chat.refused) == ["behind"]
    assert stored_chat(station) == chat.accepted == ["slow"]


async def test_what_a_killed_process_left_is_closed_as_lost(
    new_station: Callable[[], Station], autojump_clock: MockClock
) -> None:
    """The process dies with two sessions open: the next one finds the tables as they were then."""
    station = new_station()
    async with station.open():
        await station.start()
        (await station.publish()).speak()
        (await station.listen()).connect()
        await trio.sleep(1)
        killed_with = station.db.snapshot()
    station.db.restore(killed_with)
    assert len(station.db.session_rows(only_open=True)) == 2
    station.engine = type(station.engine)()
    async with station.open():
        assert sorted(map(str, station.db.close_reasons().values())) == ["lost", "lost"]
        assert await station.status() is BroadcastStatus.LIVE
        listener = await station.join(LISTENER)
        assert listener.data("joined")[0]["hostAway"] is True
        (await station.publish()).speak()
        assert listener.events[-1] == "hostBack"
        await trio.sleep(2 * GRACE_S)
        assert await station.status() is BroadcastStatus.LIVE


def banned(station: Station) -> list[str]:
    return station.db.now(lambda db: list(db.scalars(sa.select(models.Ban.person_id))))


async def test_a_ban_while_the_database_is_away_holds_at_once_and_is_written_later(
    station: Station, autojump_clock: MockClock
) -> None:
    await station.start()
    moderator, target = await station.join(MODERATOR), await station.join(LISTENER)
    station.db.away = True
    await moderator.do(Remove(user_id=LISTENER.id, reason="spam", ban=True))
    assert target.code == CloseCode.REMOVED
    station.db.away = False
    await trio.sleep(5)
    assert banned(station) == [LISTENER.id]
    lines = station.db.now(lambda db: list(db.scalars(sa.select(models.AuditEntry.action))))
    assert lines.count("room.banned") == 1


async def test_a_ban_that_was_lifted_before_it_was_written_is_not_written_after(
    station: Station, autojump_clock: MockClock
) -> None:
    await station.start()
    moderator, _ = await station.join(MODERATOR), await station.join(LISTENER)
    station.db.away = True
    await moderator.do(Remove(user_id=LISTENER.id, ban=True))
    station.db.away = False
    await station.on_air.rights.lift_ban(MODERATOR, station.show_id, LISTENER.id)
    await trio.sleep(5)
    assert banned(station) == []
    await station.join(LISTENER)


async def test_a_speaker_moved_to_the_audience_while_the_database_is_away_stays_there(
    station: Station, autojump_clock: MockClock
) -> None:
    await station.start()
    moderator, speaker = await station.join(MODERATOR), await station.join(SPEAKER)
    station.db.away = True
    await moderator.do(MoveToAudience(user_id=SPEAKER.id))
    assert speaker.data("roleChanged")[-1]["user"]["role"] == "listener"
    station.db.away = False
    await trio.sleep(5)
    role = station.db.now(lambda db: db.get(models.BroadcastRole, (station.show_id, SPEAKER.id)))
    assert role is None
