"""What hypercorn 0.18 needs before it can face the internet under Trio: everything we replace in it, in one place.

hypercorn is a good HTTP/1.1 and WebSocket state machine round h11 and wsproto, but some of its ends are loose when an
application is cancelled, a client stalls, or a client is hostile. Each class below names the ends it ties.
`tests/web/test_server_*.py` has a test for each that fails without it, and one that notices when a replaced name is
no longer there. `apply()` puts them in place for the whole process; calling it again changes nothing.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import struct
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import h11
import hypercorn.protocol
import hypercorn.protocol.h11
import hypercorn.protocol.ws_stream
import hypercorn.trio.run
import structlog
import trio
from h11._readers import Http10Reader
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Body, Data, Request, Response, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream
from hypercorn.protocol.ws_stream import ASGIWebsocketState, FrameTooLargeError, Handshake, WSStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer
from wsproto.connection import Connection as WsprotoConnection
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import CloseConnection, Message, Ping
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError

from lac_web.direct import plain_get

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hypercorn.typing import ASGISendEvent, H11SendableEvent

    from lac_web.server import ServerConfig

log = structlog.get_logger(__name__)

#: How long an application may leave "the client has gone" unread before its task is cancelled.
DISCONNECT_NOTICE_S = 5.0
#: A peer that sent nothing (not even the pong that browsers send by themselves) for this many ping intervals is gone.
SILENT_PING_INTERVALS = 2.5
#: How long an application that has given its response may take to end, for the next request to be answered past it.
RECYCLE_S = 1.0

#: Paths below which a response, or a request's body, has no length and ends with the connection.
ENDLESS_RESPONSES, ENDLESS_BODIES = b"/listen/", b"/source/"

#: What a status line says after the number. To HTTP it means nothing, and h11 leaves it away; to libshout, which most
#: source clients are made with, a status line without it is no response.
REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}

#: Where a handler finds its `GuardedWSStream`: a key of the ASGI scope's `state`.
STREAM_KEY = "lac.stream"

#: (module, name, our replacement). hypercorn looks each name up when it makes the object, so setting it is enough.
REPLACED: list[tuple[Any, str, type]] = []


def apply() -> None:
    """Put our classes in hypercorn's place, process-wide. Idempotent; raises `AttributeError` if a name is gone."""
    for module, name, replacement in REPLACED:
        original = getattr(module, name)
        if original is not replacement and not issubclass(replacement, original):
            raise AttributeError(f"{module.__name__}.{name} is not what lac_web/hypercorn_fixes.py was written for")
        setattr(module, name, replacement)


class KeepAlive:
    """When an idle connection is given up. In the place of hypercorn's `TrioSingleTask`, which starts a task for this
    after each request: here it is the deadline of the read that waits for the next one."""

    def __init__(self, scope: trio.CancelScope, config: ServerConfig) -> None:
        self._scope = scope
        self._config = config
        self._over = False

    async def restart(self, _task_group: TaskGroup, _action: object) -> None:
        """The connection is idle from now on."""
        if not self._over:
            wait_s = 0.0 if self._config.closing else self._config.keep_alive_timeout
            self._scope.deadline = trio.current_time() + wait_s

    async def stop(self) -> None:
        """It is not."""
        if not self._over:
            self._scope.deadline = math.inf

    def give_up(self) -> None:
        """End it at once if it is idle."""
        if self._scope.deadline != math.inf:
            self._scope.cancel("the server closes")

    def linger(self, seconds: float) -> None:
        """The connection has ended; read a little longer."""
        self._over = True
        self._scope.deadline = trio.current_time() + seconds


class BoundedTCPServer(TCPServer):
    """One client's TCP connection.

    - A write is shielded from its writer's cancellation (half a frame would garble the rest), but not for ever: past
      its deadline the connection is reset. Before, a client that stopped reading could hold a task, and the exit.
    - The bookkeeping at the end of a response is not cut short by the cancellation that quart-trio brings on just
      then. Before, `Connection: close` and the keep-alive timeout did nothing and every idle client kept a descriptor.
    - Closing says so (FIN), then reads and drops what still comes in for a moment. Closing with unread input makes the
      kernel send RST, which can destroy the last response or the close frame before the client reads it.
    - Whatever goes wrong in here ends this connection only. Before, it ended the server.
    - What comes in goes through the turnstile: a crowd must not stop the audio.
    """

    config: ServerConfig

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._read_scope = trio.CancelScope()
        self.keep_alive = KeepAlive(self._read_scope, self.config)
        self.idle_task = cast("Any", self.keep_alive)
        self._saying_goodbye = False
        self._unsent = b""

    async def run(self) -> None:
        self.config.connections.add(self)
        try:
            await super().run()
        except* Exception as errors:
            await self.config.log.exception("connection failed", exc_info=errors)
        finally:
            self.config.connections.discard(self)

    def abort(self) -> None:
        """Reset the connection now: whoever waits for it in a read or a write gets an error. Idempotent."""
        sock = self.stream.socket
        with contextlib.suppress(OSError):  # already closed
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    def push_nowait(self, data: bytes) -> bool:
        """Write whole frames past hypercorn, if nothing else is being written. Never blocks, never raises.

        What the kernel does not take now goes out before anything else: with the next write, or by `flush`. False, and
        nothing is written, while an earlier write is under way or unfinished, or the connection is ending.
        """
        if self._unsent or self._saying_goodbye or self.send_lock.locked():
            return False
        sock = getattr(self.stream, "socket", None)
        if not isinstance(sock, trio.socket.SocketType) or sock.fileno() < 0:
            return False
        try:
            # Trio's socket has no synchronous send; the descriptor underneath is non-blocking already.
            sent = os.write(sock.fileno(), data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return False  # the reader will find out, and say so to everyone
        self._unsent = data[sent:]
        return True

    @property
    def unsent(self) -> bool:
        """A pushed frame is half written: somebody has to `flush`."""
        return bool(self._unsent)

    async def flush(self) -> None:
        """Write the rest of a pushed frame, with the deadline of every write."""
        if not await self._write(b""):
            await self.protocol.handle(Closed())

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData):
            if not await self._write(event.data):
                await self.protocol.handle(Closed())
            return
        if isinstance(event, Updated):
            await super().protocol_send(event)
            return
        with trio.move_on_after(self.config.write_timeout_s, shield=True):
            await self._say_goodbye()
            await self.protocol.handle(Closed())

    async def _write(self, data: bytes) -> bool:
        async with self.send_lock:
            data, self._unsent = self._unsent + data, b""  # frames never interleave
            allowed_s = self.config.write_timeout_s + len(data) / self.config.slowest_bytes_per_s
            with trio.move_on_after(allowed_s, shield=True) as deadline:
                try:
                    await self.stream.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return False
            if deadline.cancelled_caught:
                self.abort()
                return False
        return True

    async def _say_goodbye(self) -> None:
        if self._saying_goodbye:
            return
        self._saying_goodbye = True
        async with self.send_lock:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self.stream.send_eof()
        self.keep_alive.linger(self.config.linger_s)

    async def _read_data(self) -> None:
        with self._read_scope:
            while True:
                try:
                    data = await self.stream.receive_some(MAX_RECV)
                except (trio.ClosedResourceError, trio.BrokenResourceError):
                    break
                await self.config.turnstile.wait()
                if not self._saying_goodbye:
                    await self.protocol.handle(RawData(bytes(data)))
                if not data:
                    break
        await self.idle_task.stop()
        await self.protocol.handle(Closed())


class GuardedH11Protocol(H11Protocol):
    """HTTP/1.1 only: without TLS no browser asks for HTTP/2, and a second protocol is a second thing to attack.

    Between requests, plain ones for what `ServerConfig.direct` answers do not come to h11 at all (`lac_web.direct`).

    Radio speaks an older HTTP than h11 does, so on its paths, and only there:

    - A response below `/listen/` is not chunked, whatever the client's version: its end is the end of the connection.
    - A source client's request below `/source/` that has neither a length nor chunks has a body all the same, until the
      client closes: what `SOURCE … HTTP/1.0` means, and how ffmpeg sends a PUT. For h11 it would have none.
    - A source client that waits for "100 Continue" gets it once it is accepted. Before, it was told to go on, and its
      refusal came when it did not listen any more.
    - A source client that speaks HTTP/1.0 is answered with that version: DarkIce takes no other for a yes.

    And status lines have a reason phrase, on all paths: see `REASONS`.
    """

    #: Whether the present request is a source client's, and whether it is HTTP/1.0.
    _in_source = False
    _speaks_1_0 = False
    #: The head of a response of known length, until its first byte is there.
    _head = b""

    config: ServerConfig

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        #: Set when a response and the application that gave it have ended, and replaced.
        self._recycled = trio.Event()

    async def handle(self, event: Event) -> None:
        answers = self.config.direct
        if answers is not None and isinstance(event, RawData):
            found = plain_get(event.data, answers.prefix)
            if found is not None and await self._comes_between_requests():
                await self.send(Updated(idle=False))
                answer = await answers.answer(*found)
                if answer is not None:
                    await self.config.direct_turnstile.wait()
                    await self.send(RawData(answer))
                    await self.send(Updated(idle=True))
                    return
        await super().handle(event)

    async def _maybe_recycle(self) -> None:
        await super()._maybe_recycle()
        self._recycled.set()
        self._recycled = trio.Event()

    async def _comes_between_requests(self) -> bool:
        """A client that has got a whole response may be faster with its next request than the application that gave it
        is with its end."""
        connection = self.connection
        if self.stream is not None and connection.our_state is h11.DONE and connection.their_state is h11.DONE:
            with trio.move_on_after(RECYCLE_S):
                await self._recycled.wait()
        return self._is_between_requests()

    def _is_between_requests(self) -> bool:
        connection = self.connection
        return (
            self.stream is None
            and isinstance(connection, h11.Connection)
            and connection.our_state is h11.IDLE
            and connection.their_state is h11.IDLE
            and not connection.trailing_data[0]
            and not self.context.terminated.is_set()
        )

    async def _check_protocol(self, event: h11.Request) -> None:
        connection = self.connection
        self._in_source = event.target.startswith(ENDLESS_BODIES) and event.method in (b"PUT", b"SOURCE")
        self._speaks_1_0 = event.http_version == b"1.0"
        if not isinstance(connection, h11.Connection):
            return
        if event.target.startswith(ENDLESS_RESPONSES):
            connection.their_http_version = b"1.0"
        elif self._in_source and not {name for name, _ in event.headers} & {b"content-length", b"transfer-encoding"}:
            connection._reader = Http10Reader()

    async def stream_send(self, event: StreamEvent) -> None:
        connection = self.connection
        if (
            isinstance(event, Response)
            and event.status_code == 200
            and isinstance(connection, h11.Connection)
            and connection.they_are_waiting_for_100_continue
        ):
            await super()._send_h11_event(h11.InformationalResponse(status_code=100, headers=[]))
        await super().stream_send(event)

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        """The head of a response of known length goes out with the beginning of its body: each write is a system call
        for us and a wake-up for the client."""
        if isinstance(event, h11.Response | h11.InformationalResponse) and not event.reason:
            # The event is frozen; making another one would validate all of its headers once more.
            object.__setattr__(event, "reason", REASONS.get(event.status_code, b"Unknown"))
        if self._in_source and isinstance(event, h11.InformationalResponse) and event.status_code == 100:
            return
        try:
            data = self.connection.send(event) or b""
        except h11.LocalProtocolError:
            if self.connection.their_state is not h11.ERROR:
                raise
            return
        if isinstance(event, h11.Response):
            if self._in_source and self._speaks_1_0:
                data = b"HTTP/1.0" + data.removeprefix(b"HTTP/1.1")
            if any(name == b"content-length" for name, _ in event.headers):
                self._head = data
                return
        data, self._head = self._head + data, b""
        if data:
            await self.send(RawData(data))


async def _nobody(event: object) -> None:
    """Takes what is meant for an application that has finished."""


def _tcp_under(stream: HTTPStream | WSStream) -> BoundedTCPServer | None:
    """The connection underneath, as our own class has it; None behind another transport."""
    protocol = getattr(stream.send, "__self__", None)
    server = getattr(getattr(protocol, "send", None), "__self__", None)
    return server if isinstance(server, BoundedTCPServer) else None


class GuardedHTTPStream(HTTPStream):
    """A finished application is not told anything: its queue may be full, and then the teller waited for ever."""

    async def handle(self, event: StreamEvent) -> None:
        if isinstance(event, Request):
            # As with a WebSocket: handlers reach their stream through the ASGI scope.
            event.state[STREAM_KEY] = self
        await super().handle(event)

    def push_nowait(self, data: bytes) -> bool:
        """Write a piece of an endless response directly (`BoundedTCPServer.push_nowait`): only below `/listen/`, where
        the body goes out as it is, and only between the response's beginning and its end."""
        if (
            self.closed
            or self.state is not ASGIHTTPState.RESPONSE
            or not self.scope["raw_path"].startswith(ENDLESS_RESPONSES)
        ):
            return False
        tcp = _tcp_under(self)
        return tcp is not None and tcp.push_nowait(data)

    async def app_send(self, message: ASGISendEvent | None) -> None:
        if message is None:
            self.app_put = _nobody
        await super().app_send(message)


class PlainHandshake(Handshake):
    """Never permessage-deflate: inflating is unbounded, so 200 kB from a stranger cost 140 MB. And a frame for a whole
    room is the same bytes for everyone only when nobody's is compressed."""

    def __init__(self, headers: list[tuple[bytes, bytes]], http_version: str) -> None:
        super().__init__(headers, http_version)
        self.extensions = None

    def accept(
        self, subprotocol: str | None, additional_headers: Iterable[tuple[bytes, bytes]]
    ) -> tuple[int, list[tuple[bytes, bytes]], WsprotoConnection]:
        status, headers, _ = super().accept(subprotocol, additional_headers)
        return status, headers, WsprotoConnection(ConnectionType.SERVER, [])


class GuardedWSStream(WSStream):
    """One WebSocket.

    - Refusing a handshake also closes the connection (it stayed open as long as the client liked).
    - A protocol violation is answered with its close code: 1009 too large, 1007 not UTF-8, 1002 the rest. After 1009
      the rest of the message was still collected, without bound; now nothing is kept.
    - Pings that nobody answers end the connection, and the pinging task ends with it rather than an interval later.
    - A finished application is not told anything (see `GuardedHTTPStream`), and one that reads nothing, so that it
      cannot be told that its client has gone, is cancelled.
    - Sending to a client that has gone is a checkpoint. It was not one, and a handler that only sends took the whole
      event loop with it before it could be cancelled.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._heard_at = trio.current_time()
        self._pinging = trio.CancelScope()

    @property
    def tcp(self) -> BoundedTCPServer | None:
        """The connection underneath; None behind another transport."""
        return _tcp_under(self)

    @property
    def unsent(self) -> bool:
        tcp = self.tcp
        return tcp is not None and tcp.unsent

    async def flush(self) -> None:
        tcp = self.tcp
        if tcp is not None:
            await tcp.flush()

    def push_nowait(self, frame: bytes) -> bool:
        """Write a whole server frame directly (`BoundedTCPServer.push_nowait`). False unless the WebSocket is open."""
        tcp = self.tcp
        if tcp is None or self.closed or self.state is not ASGIWebsocketState.CONNECTED:
            return False
        return self.connection.state is ConnectionState.OPEN and tcp.push_nowait(frame)

    async def handle(self, event: StreamEvent) -> None:
        if self.closed:
            return
        if isinstance(event, Request):
            # Handlers reach their stream through the ASGI scope, which carries the request's state along.
            event.state[STREAM_KEY] = self
            await super().handle(event)
            if self._is_closed():  # refused: not a valid handshake
                await self.send(StreamClosed(stream_id=self.stream_id))
        elif isinstance(event, (Body, Data)):
            self._heard_at = trio.current_time()
            if self.handshake.accepted:
                await self._receive(event.data)
            else:
                await self._refuse_early_data()
        elif isinstance(event, StreamClosed):
            self._pinging.cancel()
            with trio.move_on_after(DISCONNECT_NOTICE_S, shield=True) as notice:
                await super().handle(event)
            nursery = cast(TaskGroup, self.task_group)._nursery
            if notice.cancelled_caught and nursery is not None:  # that application reads nothing: it would never know
                nursery.cancel_scope.cancel("the client has gone")

    async def app_send(self, message: ASGISendEvent | None) -> None:
        if message is None:
            self.app_put = _nobody
        elif self.closed:
            await trio.lowlevel.checkpoint()  # what a client that has gone costs: a turn, not the whole loop
        await super().app_send(message)

    def _is_closed(self) -> bool:
        return self.closed

    async def _refuse_early_data(self) -> None:
        """RFC 6455 section 4.1: nothing may be sent before the server's handshake has arrived."""
        self.closed = True
        await self._send_error_response(400)
        if self.app_put is not None:
            await self.app_put({"type": "websocket.disconnect", "code": CloseReason.ABNORMAL_CLOSURE, "reason": None})
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def _receive(self, data: bytes) -> None:
        try:
            self.connection.receive_data(data)
        except LocalProtocolError:
            return  # behind the close frame: nobody is interested
        await self._handle_events()

    async def _handle_events(self) -> None:
        for event in self.connection.events():
            if isinstance(event, Message):
                if self.connection.state is not ConnectionState.OPEN:
                    continue  # we have said close: read on for the peer's answer only
                try:
                    self.buffer.extend(event)
                except FrameTooLargeError:
                    self.buffer.clear()
                    await self._fail(CloseReason.MESSAGE_TOO_BIG, "message too large")
                    return
                if event.message_finished:
                    message = self.buffer.to_message()
                    self.buffer.clear()
                    if self.app_put is not None:
                        await self.app_put(message)
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            elif isinstance(event, CloseConnection):
                if self.connection.state is ConnectionState.REMOTE_CLOSING:
                    await self._send_wsproto_event(event.response())
                    await self.send(StreamClosed(stream_id=self.stream_id))
                else:  # wsproto's way to report a violation, or the answer to our own close (then nothing is sent)
                    await self._fail(event.code, event.reason or "")
                return

    async def _fail(self, code: int, reason: str) -> None:
        await self._send_wsproto_event(CloseConnection(code=code, reason=reason[:100]))
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def _send_pings(self) -> None:
        interval_s = self.config.websocket_ping_interval
        if interval_s is None:
            return
        with self._pinging:
            while True:
                await trio.sleep(interval_s)
                if self.closed:
                    return
                if trio.current_time() - self._heard_at >= SILENT_PING_INTERVALS * interval_s:
                    await self.send(StreamClosed(stream_id=self.stream_id))
                    return
                await self._send_wsproto_event(Ping())


class FrameworkLog(hypercorn.logging.Logger):
    """hypercorn's errors through our logging, a few a minute: strangers can provoke them as fast as they can send."""

    PER_MINUTE = 6

    def __init__(self, config: hypercorn.config.Config) -> None:
        super().__init__(config)
        self._minute = 0
        self._written = 0
        self._dropped = 0

    async def info(self, message: str, *args: Any, **kwargs: Any) -> None:
        pass

    async def debug(self, message: str, *args: Any, **kwargs: Any) -> None:
        pass

    async def critical(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._write(message, args, exc_info=kwargs.get("exc_info"))

    async def error(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._write(message, args, exc_info=kwargs.get("exc_info"))

    async def warning(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._write(message, args, exc_info=kwargs.get("exc_info"))

    async def exception(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._write(message, args, exc_info=kwargs.get("exc_info", True))

    async def log(self, level: int, message: str, *args: Any, **kwargs: Any) -> None:
        self._write(message, args, exc_info=kwargs.get("exc_info"))

    def _write(self, message: str, args: tuple[Any, ...], exc_info: Any) -> None:
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            if self._dropped:
                log.error("http server errors not shown", count=self._dropped)
            self._minute, self._written, self._dropped = minute, 0, 0
        if self._written >= self.PER_MINUTE:
            self._dropped += 1
            return
        self._written += 1
        log.error("http server: " + (message % args if args else message), exc_info=exc_info)


REPLACED += [
    (hypercorn.trio.run, "TCPServer", BoundedTCPServer),
    (hypercorn.protocol, "H11Protocol", GuardedH11Protocol),
    (hypercorn.protocol.h11, "HTTPStream", GuardedHTTPStream),
    (hypercorn.protocol.h11, "WSStream", GuardedWSStream),
    (hypercorn.protocol.ws_stream, "Handshake", PlainHandshake),
]
