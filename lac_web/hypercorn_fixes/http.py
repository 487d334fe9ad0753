"""Requests and responses on a connection."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import h11
import trio
from h11._readers import Http10Reader
from hypercorn.events import Event, RawData, Updated
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import Request, Response
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream
from hypercorn.protocol.ws_stream import WSStream

from lac_web.direct import plain_get

if TYPE_CHECKING:
    from hypercorn.typing import ASGISendEvent, H11SendableEvent

    from lac_web.server import ServerConfig
from lac_web.hypercorn_fixes.connection import BoundedTCPServer

#: How long an application that has given its response may take to end, for the next request to be answered past it.
RECYCLE_S = 1.0

#: Paths below which a response, or a request's body, has no length and ends with the connection.
ENDLESS_RESPONSES, ENDLESS_BODIES = b"/listen/", b"/source/"

#: What a status line says after the number. To HTTP it means nothing, and h11 leaves it away; to libshout, which most
#: source clients are made with, a status line without it is no response.
REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}

#: Where a handler finds its `GuardedWSStream`: a key of the ASGI scope's `state`.
STREAM_KEY = "lac.stream"


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


async def nobody(event: object) -> None:
    """Takes what is meant for an application that has finished."""


def tcp_under(stream: HTTPStream | WSStream) -> BoundedTCPServer | None:
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
        tcp = tcp_under(self)
        return tcp is not None and tcp.push_nowait(data)

    async def app_send(self, message: ASGISendEvent | None) -> None:
        if message is None:
            self.app_put = nobody
        await super().app_send(message)
