"""A really served application on a free port, clients for it, and a room that does what a test tells it to."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection
from trio_websocket._impl import wrap_client_stream

from lac.config_values import Network
from lac.errors import ForbiddenError, NotFoundError, NotSignedInError
from lac.identity import Identity, IdentityKind
from lac.rooms.commands import ChatMessage, Command
from lac.rooms.events import Event, Removed, encode_event
from lac.rooms.values import Value
from lac_web.gateway.ports import RoomOutlet
from lac_web.server import HttpLimits, listening_on, serve_http

HOST = "127.0.0.1"


@dataclass
class Served:
    port: int
    shutdown: trio.Event
    #: Set once `serve_http` has returned.
    ended: trio.Event


@asynccontextmanager
async def serving(app: Any, *, limits: HttpLimits | None = None, grace_s: float = 2.0) -> AsyncGenerator[Served, None]:
    """The application on a free port. Leaving the block cancels whatever still runs."""
    async with listening_on(HOST, 0, limits) as listening, trio.open_nursery() as nursery:
        shutdown, ended = trio.Event(), trio.Event()

        async def run(task_status: trio.TaskStatus[list[str]]) -> None:
            serve = partial(serve_http, app, listening, shutdown=shutdown, grace_s=grace_s, limits=limits)
            await serve(task_status=task_status)
            ended.set()

        urls = await nursery.start(run)
        yield Served(int(urls[0].rsplit(":", 1)[1]), shutdown, ended)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(port: int, *, receive_buffer: int | None = None) -> AsyncGenerator[trio.SocketStream, None]:
    """A bare TCP connection; a small `receive_buffer` makes it stall early."""
    sock = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await sock.connect((HOST, port))
    stream = trio.SocketStream(sock)
    try:
        yield stream
    finally:
        await trio.aclose_forcefully(stream)


UPGRADE = (
    b"GET %s HTTP/1.1\r\nHost: lac.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


def upgrade(path: bytes = b"/ws", extra: bytes = b"") -> bytes:
    return UPGRADE % path + extra + b"\r\n"


async def read_until(stream: trio.SocketStream, end: bytes) -> bytes:
    """Up to `end` (and what came with it)."""
    data = b""
    while end not in data:
        more = await stream.receive_some(4096)
        assert more, data
        data += more
    return data


async def read_head(stream: trio.SocketStream) -> bytes:
    """Up to the end of the response's headers (and what came with them)."""
    return await read_until(stream, b"\r\n\r\n")


async def read_to_end(stream: trio.SocketStream) -> bytes:
    """Everything until the server closes. A reset counts as a failure."""
    data = b""
    while more := await stream.receive_some(65536):
        data += more
    return data


def text_frame(payload: bytes, *, opcode: int = 1) -> bytes:
    """A client's frame, masked with zeros so that tests can read it."""
    length = len(payload)
    head = bytes([0x80 | opcode])
    if length < 126:
        head += bytes([0x80 | length])
    elif length < 65536:
        head += bytes([0x80 | 126]) + length.to_bytes(2, "big")
    else:
        head += bytes([0x80 | 127]) + length.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload


def close_code_in(data: bytes) -> int | None:
    """The code of the close frame that ends `data` (server frames, unmasked)."""
    while data:
        opcode, length, start = data[0] & 15, data[1] & 127, 2
        if length == 126:
            length, start = int.from_bytes(data[2:4], "big"), 4
        elif length == 127:
            length, start = int.from_bytes(data[2:10], "big"), 10
        if opcode == 8:
            return int.from_bytes(data[start : start + 2], "big")
        data = data[start + length :]
    return None


class Client:
    """A WebSocket client that speaks our frames."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self.connection = connection
        self.received: list[dict[str, Any]] = []

    async def send(self, event: str, data: dict[str, Any] | None = None, ack: int | None = None) -> None:
        frame: dict[str, Any] = {"event": event, "data": data or {}}
        if ack is not None:
            frame["ack"] = ack
        await self.connection.send_message(json.dumps(frame))

    async def next(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(await self.connection.get_message())
        self.received.append(frame)
        return frame

    async def join(self, broadcast_id: str = "b1", **data: Any) -> dict[str, Any]:
        """Join and return `joined` (or the error)."""
        await self.send("join", {"broadcastId": broadcast_id, **data}, ack=0)
        return await self.next()

    async def closed(self) -> tuple[int, str | None]:
        """Read to the end; the close code and reason."""
        with contextlib.suppress(ConnectionClosed):  # raised when the last queued frame has been read
            while True:
                await self.next()
        reason = self.connection.closed
        assert reason is not None
        return reason.code, reason.reason


@asynccontextmanager
async def websocket_client(
    port: int, path: str = "/ws", *, headers: list[tuple[bytes, bytes]] | None = None
) -> AsyncGenerator[Client, None]:
    """Unlike trio-websocket's own opener this closes the TCP connection also when the server ended it."""
    stream = await trio.open_tcp_stream(HOST, port)
    try:
        async with trio.open_nursery() as nursery:
            connection = await wrap_client_stream(nursery, stream, f"{HOST}:{port}", path, extra_headers=headers)
            yield Client(connection)
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)


class FakeAuth:
    """`good:<id>` is the token of a user; everything else has expired."""

    async def identify(self, bearer: str) -> Identity:
        await trio.lowlevel.checkpoint()
        if not bearer.startswith("good:"):
            raise NotSignedInError("Sign in again.", code="token_expired")
        return Identity(IdentityKind.USER, bearer.removeprefix("good:"), "A user")


@dataclass(frozen=True)
class FakeSettings:
    cors_origins: tuple[str, ...] = ()
    public_url: str | None = None
    trusted_proxies: tuple[Network, ...] = ()


class FakeMember:
    def __init__(self, room: FakeOnAir, outlet: RoomOutlet, identity: Identity | None) -> None:
        self.room = room
        self.outlet = outlet
        self.identity = identity
        self.left = False

    async def handle(self, command: Command) -> Event | Value | None:
        await trio.lowlevel.checkpoint()
        self.room.commands.append(command)
        if isinstance(command, ChatMessage) and self.room.on_chat is not None:
            return await self.room.on_chat(self, command.text)
        return None

    def remove(self, reason: str) -> None:
        self.outlet.offer(encode_event(Removed(reason)))
        self.outlet.close(4403, "removed")

    def leave(self) -> None:
        assert not self.left
        self.left = True
        self.room.members.remove(self)


@dataclass
class FakeOnAir:
    """One broadcast, `b1`; `private` asks for a signed-in user, `gone` is nowhere."""

    members: list[FakeMember] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    on_chat: Callable[[FakeMember, str], Awaitable[Event | Value | None]] | None = None
    removed: set[str] = field(default_factory=set)
    #: Raised by the next join.
    join_error: Exception | None = None

    async def join(
        self,
        identity: Identity | None,
        broadcast_id: str,
        name: str | None,
        outlet: RoomOutlet,
        *,
        address: str | None = None,
        since: str | None = None,
    ) -> FakeMember:
        await trio.lowlevel.checkpoint()
        if self.join_error is not None:
            raise self.join_error
        if broadcast_id == "gone":
            raise NotFoundError("There is no such broadcast.")
        if broadcast_id == "private" and (identity is None or identity.id != "invited"):
            raise ForbiddenError("This broadcast is for invited people.")
        if identity is not None and identity.id in self.removed:
            raise ForbiddenError("A moderator removed you.", code="removed")
        member = FakeMember(self, outlet, identity)
        self.members.append(member)
        outlet.offer(b'{"event":"joined","data":{}}')
        return member

    def send_all(self, frame: bytes) -> None:
        for member in tuple(self.members):
            member.outlet.offer(frame)

    async def count_is(self, count: int) -> None:
        """Wait until so many members are in."""
        with trio.fail_after(30):
            while len(self.members) != count:  # noqa: ASYNC110  # the room under test has no event for a test to wait on
                await trio.sleep(0.002)


@dataclass
class FakeServices:
    on_air: FakeOnAir = field(default_factory=FakeOnAir)
    auth: FakeAuth = field(default_factory=FakeAuth)
    settings: FakeSettings = field(default_factory=FakeSettings)
