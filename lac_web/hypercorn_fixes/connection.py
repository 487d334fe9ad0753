"""One client's TCP connection."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, cast

import structlog
import trio
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer

if TYPE_CHECKING:
    from lac_web.server import ServerConfig

log = structlog.get_logger(__name__)


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
        if not self._over and self._scope.deadline != math.inf:
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
