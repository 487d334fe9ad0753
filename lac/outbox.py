"""Mails for which nobody waits: a bounded queue, and the tasks that send what is in it.

Whoever asks for a mail is answered before it is sent, so that neither a slow mail server nor the work of finding out
what to send shows in how long the answer takes. What is not sent has a line in the log, whatever the reason.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import structlog
import trio

from lac.tasks import boundary

log = structlog.get_logger(__name__)

#: Mails that may wait. A form may ask for 20 at once and one in 30 s for each address, `lac/limits.py`.
WAITING_MAX = 200
#: How many are on their way at a time: one that hangs does not stop the rest.
SENDERS = 4
#: For one mail, finding out what is in it included.
SEND_S = 30.0
#: For all that wait, when the server stops.
CLOSE_S = 2.0


class Outbox(Protocol):
    async def post(self, what: str, send: Callable[[], Awaitable[object]], *, user_id: str) -> bool:
        """Call `send` for the mail `what` to this user. Its errors are logged and go no further. False if there is no
        room for it, which is logged, too."""


class AtOnce:
    """For commands: the caller waits until it is sent."""

    async def post(self, what: str, send: Callable[[], Awaitable[object]], *, user_id: str) -> bool:
        with boundary(what, user_id=user_id):
            await send()
        return True


@dataclass(frozen=True, slots=True)
class _Job:
    what: str
    send: Callable[[], Awaitable[object]]
    user_id: str


class QueuedOutbox:
    """Made by `open_outbox`. When `WAITING_MAX` mails wait, the next is refused: the others were asked for before."""

    def __init__(self) -> None:
        self._entry, self._exit = trio.open_memory_channel[_Job](WAITING_MAX)
        self.sent = 0
        #: Refused, failed, too slow, or left over at the end.
        self.lost = 0

    @property
    def waiting(self) -> int:
        return self._exit.statistics().current_buffer_used

    async def post(self, what: str, send: Callable[[], Awaitable[object]], *, user_id: str) -> bool:
        """Never waits for a mail, nor for room."""
        try:
            self._entry.send_nowait(_Job(what, send, user_id))
        except trio.WouldBlock:
            self._lose(what, user_id, "too many wait")
            return False
        except trio.ClosedResourceError:
            self._lose(what, user_id, "the server stops")
            return False
        return True

    async def run(self) -> None:
        """One sender: until `close`, and nothing waits any more."""
        async for job in self._exit:
            await self._send(job)

    async def _send(self, job: _Job) -> None:
        sent = returned = False
        try:
            with trio.move_on_after(SEND_S) as limit, boundary(job.what, user_id=job.user_id):
                await job.send()
                sent = True
            returned = True
        finally:
            if sent:
                self.sent += 1
            elif not returned:
                self._lose(job.what, job.user_id, "the server stops")
        if not sent and limit.cancelled_caught:
            self._lose(job.what, job.user_id, f"not sent in {SEND_S:.0f} s")
        elif not sent:
            self.lost += 1  # `boundary` has said why

    def close(self) -> None:
        """Take no more."""
        self._entry.close()

    def give_up(self) -> None:
        """Say what is lost with us."""
        while True:
            try:
                job = self._exit.receive_nowait()
            except (trio.WouldBlock, trio.EndOfChannel):
                return
            self._lose(job.what, job.user_id, "the server stops")

    def _lose(self, what: str, user_id: str, why: str) -> None:
        self.lost += 1
        log.error("a mail is lost", what=what, user_id=user_id, why=why, lost=self.lost)


@asynccontextmanager
async def open_outbox() -> AsyncGenerator[QueuedOutbox, None]:
    """An outbox and its senders. On leaving, what waits has `CLOSE_S` to go; when cancelled, none."""
    outbox = QueuedOutbox()
    try:
        async with trio.open_nursery() as nursery:
            for _ in range(SENDERS):
                nursery.start_soon(outbox.run)
            try:
                yield outbox
            finally:
                outbox.close()
                nursery.cancel_scope.deadline = trio.current_time() + CLOSE_S
    finally:
        outbox.give_up()
