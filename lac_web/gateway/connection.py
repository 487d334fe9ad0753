"""One WebSocket: a reader and a writer in one nursery, and a bounded outbox between the room and the socket.

The room never waits for a client. It offers frames, which are queued or, when 100 are waiting, end the connection; and
it asks for a close, which first lets out what was queued. Only the tasks in here talk to the socket.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import structlog
import trio

from lac.errors import (
    ConflictError,
    ForbiddenError,
    LacError,
    NotFoundError,
    NotSignedInError,
    TooManyRequestsError,
    UnavailableError,
)
from lac.identity import IdentityKind
from lac.rooms.commands import Command, Join, Leave
from lac.rooms.events import CloseCode, Event
from lac.rooms.values import Value
from lac_web.gateway.ports import CommandLimiter, FramePipe, GatewayServices, RoomMember, Socket
from lac_web.gateway.protocol import (
    FRAME_BURST,
    FRAMES_PER_S,
    FrameBudget,
    FrameError,
    encode_ack,
    encode_error,
    encode_text_frame,
    parse_first_frame_untrusted,
    parse_frame_untrusted,
)

log = structlog.get_logger(__name__)

#: Codes of `ForbiddenError` that mean "you were here and may not come back", not "you lack a right".
REMOVED_CODES = frozenset({"removed", "banned"})


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """What one socket may take. Times in seconds."""

    outbox_frames: int = 100
    #: From connecting to the first frame.
    join_s: float = 10.0
    #: For what is queued when a close is asked for.
    flush_s: float = 2.0
    #: For the close frame.
    close_s: float = 1.0
    frame_burst: int = FRAME_BURST
    frames_per_s: float = FRAMES_PER_S


class Connection:
    """One client's socket, and the `Outlet` through which its room reaches it."""

    def __init__(
        self,
        socket: Socket,
        services: GatewayServices,
        limits: GatewayLimits,
        pipe: FramePipe | None = None,
        address: str | None = None,
        limiter: CommandLimiter | None = None,
    ) -> None:
        """`address` is where the client comes from, as far as that is known. Without a `limiter` only the socket's own
        budget holds."""
        self._limiter = limiter
        #: Who has signed in.
        self._account: str | None = None
        self._socket = socket
        self._address = address
        self._pipe = pipe
        self._services = services
        self._limits = limits
        self._outbox: deque[bytes] = deque()
        #: The writer has taken a frame out of the outbox and is not done with it.
        self._sending = False
        self._wake = trio.Event()
        self._reading = trio.CancelScope()
        self._writing = trio.CancelScope()
        self._closing: tuple[int, str] | None = None
        self._budget = FrameBudget(limits.frame_burst, limits.frames_per_s, now=trio.current_time())

    # -- Outlet: synchronous, from any task ----------------------------------------------------------------------------

    @property
    def closing(self) -> tuple[int, str] | None:
        """The close code and reason, once either side of the server has asked for the end."""
        return self._closing

    def offer(self, frame: bytes) -> None:
        """Send one frame, or queue it behind those that wait. Never blocks; when the queue is full the client is too
        slow and the connection ends.

        A frame for a whole room is the same bytes for everyone: usually they go straight to the kernel, at about a
        tenth of what the way through the framework costs (docs/PERFORMANCE.md).
        """
        if self._closing is not None:
            return
        pipe = self._pipe if not self._outbox and not self._sending else None
        if pipe is not None and pipe.push_nowait(encode_text_frame(frame)):
            if pipe.unsent:
                self._wake.set()
            return
        if len(self._outbox) >= self._limits.outbox_frames:
            self.close(CloseCode.TOO_SLOW, "too slow to keep up")
            return
        self._outbox.append(frame)
        self._wake.set()

    def close(self, code: int, reason: str) -> None:
        """Ask for the end: nothing more is read or queued, what is queued goes out, then the close frame. The first
        caller's code counts."""
        if self._closing is not None:
            return
        self._closing = (code, reason)
        self._reading.cancel(reason)
        self._wake.set()
        if code == CloseCode.TOO_SLOW:
            self._outbox.clear()
            self._writing.cancel(reason)
        else:
            self._writing.deadline = trio.current_time() + self._limits.flush_s

    # -- the connection's own tasks ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the socket to its end. Returns when we ended it; is cancelled when the client did."""
        await self._socket.accept()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                with self._reading:
                    await self._read()
        except* Exception:
            log.exception("connection failed")
            self._closing = self._closing or (CloseCode.INTERNAL_ERROR, "internal error")
        code, reason = self._closing or (CloseCode.INTERNAL_ERROR, "internal error")
        with trio.move_on_after(self._limits.close_s):
            await self._socket.close(code, reason[:100])

    async def _write(self) -> None:
        with self._writing:
            while True:
                if self._pipe is not None and self._pipe.unsent:
                    await self._pipe.flush()
                while self._outbox:
                    self._sending = True
                    await self._socket.send(self._outbox.popleft().decode())
                    self._sending = False
                if self._closing is not None:
                    return
                self._wake = trio.Event()
                await self._wake.wait()

    async def _read(self) -> None:
        """Join, then commands until somebody closes. Whoever joined leaves, however this ends."""
        member = await self._join()
        if member is None:
            return
        try:
            while self._closing is None:
                await self._handle(member, await self._receive())
        finally:
            member.leave()

    async def _join(self) -> RoomMember | None:
        with trio.move_on_after(self._limits.join_s) as waiting:
            text = await self._receive()
        if waiting.cancelled_caught:
            self._end(CloseCode.POLICY, "join_late", f"Send join within {self._limits.join_s:g} seconds.")
        if self._closing is not None:
            return None
        try:
            join, ack = parse_first_frame_untrusted(text)
        except FrameError as error:
            self._refuse_frame(error)
            return None
        return await self._enter(join, ack)

    async def _enter(self, join: Join, ack: int | None) -> RoomMember | None:
        identity = None
        structlog.contextvars.bind_contextvars(broadcast_id=join.broadcast_id)  # this task's log, to its end
        try:
            self._charge(Join, address=self._address)
            if join.token is not None:
                identity = await self._services.auth.identify(join.token)
            if identity is not None and identity.kind is IdentityKind.USER:
                self._account = identity.id
                self._charge(Join, account=self._account)
            member = await self._services.on_air.join(
                identity, join.broadcast_id, join.name, self, address=self._address, since=join.since
            )
        except LacError as error:
            self.offer(_error_frame(error, ack))
            self.close(refusal_code(error, signed_in=identity is not None), error.code)
            return None
        if ack is not None:
            self.offer(encode_ack(ack, None))
        return member

    async def _receive(self) -> str | bytes | None:
        text = await self._socket.receive()
        if not self._budget.take(trio.current_time()):
            self._end(CloseCode.TOO_MANY_MESSAGES, "too_many_messages", "Slow down: too many messages.")
        return text

    async def _handle(self, member: RoomMember, text: str | bytes | None) -> None:
        if self._closing is not None:
            return
        ack: int | None = None
        try:
            frame = parse_frame_untrusted(text)
            ack = frame.ack
            answer = await self._obey(member, frame.command)
        except FrameError as error:
            self._refuse_frame(error)
            return
        except LacError as error:
            self.offer(_error_frame(error, ack))
            return
        if ack is not None:
            self.offer(encode_ack(ack, answer))
        if isinstance(frame.command, Leave):
            self.close(CloseCode.LEFT, "left")

    async def _obey(self, member: RoomMember, command: Command) -> Event | Value | None:
        if isinstance(command, Join):
            raise ConflictError("This socket has joined. Open another one to join again.", code="already_joined")
        if isinstance(command, Leave):
            return None
        if self._account is not None:
            self._charge(type(command), account=self._account)
        else:
            self._charge(type(command), address=self._address)
        return await member.handle(command)

    def _charge(self, command: type[Command], *, address: str | None = None, account: str | None = None) -> None:
        if self._limiter is not None:
            self._limiter.charge_command(command, address=address, account=account)

    def _refuse_frame(self, error: FrameError) -> None:
        self.offer(encode_error(error.code, error.message, ack=error.ack))
        if error.close_code is not None:
            self.close(error.close_code, error.code)

    def _end(self, close_code: int, code: str, message: str) -> None:
        self.offer(encode_error(code, message))
        self.close(close_code, code)


def refusal_code(error: LacError, *, signed_in: bool) -> int:
    """The close code for someone who may not join. Who might get in by signing in is told so."""
    if isinstance(error, NotSignedInError):
        return CloseCode.NOT_SIGNED_IN
    if isinstance(error, NotFoundError):
        return CloseCode.NO_SUCH_BROADCAST
    if error.code == "room_locked":  # nothing that this person could do would help
        return CloseCode.POLICY
    if isinstance(error, ForbiddenError):
        return CloseCode.REMOVED if signed_in or error.code in REMOVED_CODES else CloseCode.NOT_SIGNED_IN
    if isinstance(error, TooManyRequestsError):
        return CloseCode.TOO_MANY_MESSAGES
    if isinstance(error, UnavailableError):
        return CloseCode.SHUTTING_DOWN
    return CloseCode.POLICY


def _error_frame(error: LacError, ack: int | None) -> bytes:
    retry_after_s = error.retry_after_s if isinstance(error, TooManyRequestsError | UnavailableError) else None
    return encode_error(error.code, error.detail, ack=ack, retry_after_s=retry_after_s)
