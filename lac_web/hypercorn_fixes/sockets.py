"""WebSockets on a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import trio
from hypercorn.protocol.events import Body, Data, Request, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.ws_stream import ASGIWebsocketState, FrameTooLargeError, Handshake, WSStream
from hypercorn.trio.task_group import TaskGroup
from wsproto.connection import Connection as WsprotoConnection
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import CloseConnection, Message, Ping
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hypercorn.typing import ASGISendEvent

from lac_web.hypercorn_fixes.connection import BoundedTCPServer
from lac_web.hypercorn_fixes.http import STREAM_KEY, nobody, tcp_under

#: How long an application may leave "the client has gone" unread before its task is cancelled.
DISCONNECT_NOTICE_S = 5.0

#: A peer that sent nothing (not even the pong that browsers send by themselves) for this many ping intervals is gone.
SILENT_PING_INTERVALS = 2.5


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
        return tcp_under(self)

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
            self.app_put = nobody
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
