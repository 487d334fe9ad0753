"""A client that did not hear the answer sends its message again: it is stored and sent to the room once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from trio.testing import MockClock

from lac.errors import LacError, UnavailableError
from lac.rooms.commands import ChatMessage, DeleteMessage
from lac.rooms.values import ChatAccepted
from tests.fakes.air import HOST, LISTENER, SPEAKER, Station

MESSAGE = ChatMessage("hello", client_id="1")


async def test_a_message_sent_twice_is_answered_the_same_and_sent_once(
    station: Station, autojump_clock: MockClock
) -> None:
    await station.start()
    socket, other = await station.join(LISTENER), await station.join(SPEAKER)
    first, second = await socket.do(MESSAGE), await socket.do(MESSAGE)
    assert isinstance(first, ChatAccepted)
    assert first == second
    assert [chat["id"] for chat in other.data("chatMessage")] == [first.id]


async def test_the_same_number_of_somebody_else_or_a_new_one_is_another_message(
    station: Station, autojump_clock: MockClock
) -> None:
    await station.start()
    socket, other = await station.join(LISTENER), await station.join(SPEAKER)
    await socket.do(MESSAGE)
    await other.do(MESSAGE)
    await socket.do(ChatMessage("hello", client_id="2"))
    await socket.do(ChatMessage("hello"))
    await socket.do(ChatMessage("hello"))
    assert len(other.data("chatMessage")) == 5


async def test_what_was_refused_although_it_was_stored_is_sent_when_it_is_repeated(
    station: Station, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database's answer came too late: the message is in it, and the client was told that it is not."""
    await station.start()
    socket, other = await station.join(LISTENER), await station.join(SPEAKER)
    run = station.db.run

    async def run_and_lose_the_answer(fn: Callable[[Any], Any]) -> Any:
        await run(fn)
        raise UnavailableError("too late", code="database_timeout")

    monkeypatch.setattr(station.db, "run", run_and_lose_the_answer)
    with pytest.raises(LacError):
        await socket.do(MESSAGE)
    monkeypatch.undo()
    assert other.data("chatMessage") == []
    accepted = await socket.do(MESSAGE)
    assert isinstance(accepted, ChatAccepted)
    assert [chat["id"] for chat in other.data("chatMessage")] == [accepted.id]


async def test_what_a_moderator_deleted_does_not_come_back(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    socket, host = await station.join(LISTENER), await station.join(HOST)
    accepted = await socket.do(MESSAGE)
    assert isinstance(accepted, ChatAccepted)
    await host.do(DeleteMessage(message_id=accepted.id))
    await socket.do(MESSAGE)
    assert len(host.data("chatMessage")) == 1
