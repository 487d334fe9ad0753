"""The HTTP and WebSocket front: our sockets, hypercorn behind them, a start that says when it is ready and an exit
with a bound."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import hypercorn.trio
import structlog
import trio
from hypercorn.config import Config, Sockets
from hypercorn.utils import LifespanTimeoutError

from lac.errors import ConfigError
from lac_web import hypercorn_fixes
from lac_web.direct import Answers
from lac_web.turnstile import Turnstile

log = structlog.get_logger(__name__)

ASGIApp = Callable[[Any, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]

BACKLOG = 1024
#: Direct answers written in one pass of the loop: each costs a fifth of a millisecond.
DIRECT_PER_PASS = 4


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one client may take. All times in seconds."""

    #: A write that takes longer than this, plus its length at the rate below, resets the connection.
    write_timeout_s: float = 10.0
    slowest_bytes_per_s: float = 8 * 1024
    #: After our last byte, how long to wait for the client to close its side.
    linger_s: float = 1.0
    #: From connecting to the end of the first request's headers, and from a response to the end of the next headers.
    keep_alive_s: float = 20.0
    #: Headers of one request.
    max_head_bytes: int = 16 * 1024
    #: One WebSocket message, in characters.
    max_message_chars: int = 16 * 1024
    #: WebSocket pings. A peer that is silent for 2.5 intervals is closed.
    ping_interval_s: float = 20.0
    #: Sent data that nobody acknowledges, after which the kernel gives up.
    tcp_user_timeout_s: float = 20.0


class ServerConfig(Config):
    """hypercorn's settings, made here and nowhere else, and the connections that are open."""

    def __init__(
        self, listening: Sequence[socket.socket], limits: HttpLimits, grace_s: float, direct: Answers | None = None
    ) -> None:
        self.listening = list(listening)
        self.direct = direct
        self.connections: set[hypercorn_fixes.BoundedTCPServer] = set()
        #: The server is stopping: no connection is kept for another request.
        self.closing = False
        self.turnstile = Turnstile()
        #: Hundreds wait for the same part, and are all to go on in the same pass.
        self.direct_turnstile = Turnstile(DIRECT_PER_PASS)
        self.write_timeout_s = limits.write_timeout_s
        self.slowest_bytes_per_s = limits.slowest_bytes_per_s
        self.linger_s = limits.linger_s
        self.accesslog = None
        self.errorlog = None  # its own handler also propagates to the root: every line came twice
        self.logger_class = hypercorn_fixes.FrameworkLog
        self.backlog = BACKLOG
        self.graceful_timeout = grace_s
        self.shutdown_timeout = max(grace_s, 1.0)
        self.keep_alive_timeout = limits.keep_alive_s
        self.h11_max_incomplete_size = limits.max_head_bytes
        self.websocket_max_message_size = limits.max_message_chars
        self.websocket_ping_interval = limits.ping_interval_s
        self.include_server_header = False

    def create_sockets(self) -> Sockets:
        return Sockets([], self.listening, [])


async def serve_http(
    app: ASGIApp,
    listening: Sequence[socket.socket],
    *,
    shutdown: trio.Event,
    grace_s: float = 5.0,
    limits: HttpLimits | None = None,
    direct: Answers | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` on the sockets of `listening_on` until `shutdown` is set, then stop accepting, let what is in flight
    finish, and return at the latest about `grace_s` later. Reports the bound URLs as ready. `direct` answers some
    plain requests before `app` does.

    Cancelling it resets what is open and returns at once.
    WebSockets are not told about the shutdown here: whoever owns them closes them (`OnAir.drain`, `Gateway.close_all`).
    """
    limits = limits or HttpLimits()
    hypercorn_fixes.apply()
    config = ServerConfig(listening, limits, grace_s, direct)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_reset_stragglers, config, shutdown, grace_s)
        nursery.start_soon(config.turnstile.run)
        nursery.start_soon(config.direct_turnstile.run)
        await _serve(app, config, shutdown, task_status)
        nursery.cancel_scope.cancel("the server has ended")


async def _serve(
    app: ASGIApp, config: ServerConfig, shutdown: trio.Event, task_status: trio.TaskStatus[list[str]]
) -> None:
    serve = partial(hypercorn.trio.serve, app, config, shutdown_trigger=shutdown.wait)
    try:
        await serve(task_status=task_status)
    except* LifespanTimeoutError:
        if not shutdown.is_set():
            raise
        log.warning("the application's shutdown hooks took too long", limit_s=config.shutdown_timeout)


async def _reset_stragglers(config: ServerConfig, shutdown: trio.Event, grace_s: float) -> None:
    """Writes are shielded from cancellation, so the end of the grace period, or our own cancellation, has to take the
    connections from under them."""
    try:
        await shutdown.wait()
        config.closing = True
        for connection in tuple(config.connections):
            connection.keep_alive.give_up()
        await trio.sleep(grace_s)
    finally:
        for connection in tuple(config.connections):
            connection.abort()


@asynccontextmanager
async def listening_on(
    host: str, port: int, limits: HttpLimits | None = None
) -> AsyncGenerator[list[socket.socket], None]:
    """The sockets for `serve_http`, closed at the end of the block. Port 0 takes a free one. Whoever connects before
    they are served waits. Raises `ConfigError`."""
    limits = limits or HttpLimits()
    listening = await open_listening_sockets(host, port, tcp_user_timeout_s=limits.tcp_user_timeout_s)
    try:
        yield listening
    finally:
        for sock in listening:
            sock.close()


async def open_listening_sockets(host: str, port: int, *, tcp_user_timeout_s: float) -> list[socket.socket]:
    """Listen on every address that `host` stands for. Raises `ConfigError` with one line that says what to change."""
    host = host.removeprefix("[").removesuffix("]")
    if not 0 <= port <= 65535:
        raise ConfigError(f"LAC_PORT is {port}, which is not a port. Set it to a number from 1 to 65535.")
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"LAC_HOST is {host!r}, which is no address of this machine. Set it to 127.0.0.1 for this machine only, "
            "or to 0.0.0.0 for everyone who can reach it."
        ) from error
    listening: list[socket.socket] = []
    missing: OSError | None = None
    for family, _, _, _, address in dict.fromkeys(found):
        try:
            bound = _listen(family, host, (address[0], port, *address[2:]), tcp_user_timeout_s)
        except OSError as error:
            if error.errno in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
                missing = error  # a name such as localhost may stand for ::1 where there is no IPv6
                continue
            for sock in listening:
                sock.close()
            raise _cannot_listen(error, host, port) from error
        listening.append(bound)
        port = bound.getsockname()[1]  # port 0: the same free port on the other addresses too
    if not listening and missing is not None:
        raise _cannot_listen(missing, host, port) from missing
    return listening


def _listen(family: int, host: str, address: tuple[str | int, ...], tcp_user_timeout_s: float) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
        # Accepted sockets inherit these.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(tcp_user_timeout_s * 1000))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(BACKLOG)  # here, not later: a taken port may only show now
    except BaseException:
        sock.close()
        raise
    return sock


def _cannot_listen(error: OSError, host: str, port: int) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        return ConfigError(
            f"Port {port} on {host} is taken by another program. Stop that program, or set LAC_PORT to a free port."
        )
    if error.errno == errno.EACCES:
        return ConfigError(
            f"Port {port} needs rights that this user does not have. Set LAC_PORT to 1024 or more "
            "and put a reverse proxy in front."
        )
    if error.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
        return ConfigError(
            f"LAC_HOST is {host}, which is no address of this machine. Set it to 127.0.0.1 for this machine only, "
            "or to 0.0.0.0 for everyone who can reach it."
        )
    return ConfigError(f"Cannot listen on LAC_HOST={host}, LAC_PORT={port}: {error.strerror}.")
