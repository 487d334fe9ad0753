"""People in the room: sockets that read everything, and say something now and then."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import trio
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, wrap_client_stream

from lac.loadtest.signalling import RefusedError
from lac.loadtest.streams import CONNECT_TIMEOUT_S, Stream, open_stream

#: Begins every message of ours; what follows is the Unix time at which it was sent.
MARK = "load test "


class Chatter:
    """One socket. `on_message(delay_s)` is told of every message of a load test that it receives."""

    def __init__(self, url: str, show_id: str, on_message: Callable[[float], None]) -> None:
        self._url = urlsplit(url)
        self._show_id = show_id
        self._on_message = on_message
        self.sent = 0
        #: Whether the room has let us in.
        self.joined = False

    async def run(
        self, say_every_s: float | None, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Join, then read until cancelled. Raises `RefusedError` for what the server does not want, and when it hangs
        up."""
        try:
            # The library leaves the stream open when it is cancelled.
            async with await open_stream(self._url) as stream, trio.open_nursery() as nursery:
                socket = await self._connect(nursery, stream)
                await self._join(socket)
                self.joined = True
                task_status.started()
                if say_every_s is not None:
                    nursery.start_soon(self._say, socket, say_every_s)
                await self._read(socket)
        except* ConnectionClosed as group:
            reason = next(closed.reason for closed in group.exceptions if isinstance(closed, ConnectionClosed))
            code = "gone" if reason is None else f"closed {reason.code}"
            raise RefusedError(0, code, "the server closed the socket") from group

    async def _connect(self, nursery: trio.Nursery, stream: Stream) -> WebSocketConnection:
        try:
            with trio.fail_after(CONNECT_TIMEOUT_S):
                return await wrap_client_stream(nursery, stream, self._url.netloc, "/ws")
        except (HandshakeError, OSError, trio.TooSlowError) as error:
            raise RefusedError(0, "no_socket", str(error) or type(error).__name__) from error

    async def _join(self, socket: WebSocketConnection) -> None:
        await socket.send_message(json.dumps({"event": "join", "data": {"broadcastId": self._show_id}}))
        frame = json.loads(await socket.get_message())
        if frame["event"] == "error":
            raise RefusedError(0, str(frame["data"]["code"]), str(frame["data"]["message"]))

    async def _say(self, socket: WebSocketConnection, every_s: float) -> None:
        await trio.sleep(random.uniform(0, every_s))  # noqa: S311  not all at once
        while True:
            text = f"{MARK}{time.time():.6f}"
            await socket.send_message(json.dumps({"event": "chatMessage", "data": {"text": text}}))
            self.sent += 1
            await trio.sleep(every_s)

    async def _read(self, socket: WebSocketConnection) -> None:
        while True:
            text = await socket.get_message()
            if isinstance(text, str) and MARK in text:
                frame = json.loads(text)
                said = frame["data"].get("text", "")
                if frame["event"] == "chatMessage" and said.startswith(MARK):
                    self._on_message(time.time() - float(said.removeprefix(MARK)))
