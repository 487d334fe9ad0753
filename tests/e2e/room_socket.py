"""A small WebSocket client for `/ws` that blocks, for tests which do one thing after another."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Ping, RejectConnection, Request, TextMessage
from wsproto.utilities import LocalProtocolError

from tests.e2e.hearing import PATIENCE_S


class RoomSocket:
    """Events are kept in the order in which they came; each `wait_for` looks at those since the last one it returned
    of that name."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self.close_code: int | None = None
        self.closed_at: float | None = None
        self._events: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._acks = 0
        self._partial = ""
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._socket = socket.create_connection((parts.hostname, parts.port or 80), timeout=PATIENCE_S)
        self._socket.sendall(self._ws.send(Request(host=parts.netloc, target="/ws")))
        self._socket.settimeout(None)
        self._reader = threading.Thread(target=self._read, name="room socket")
        self._reader.start()

    def join(self, show_id: str, *, token: str | None = None, name: str | None = None) -> dict[str, Any]:
        """The `joined` event."""
        fields = {"broadcastId": show_id, "token": token, "name": name}
        self.command("join", **{key: value for key, value in fields.items() if value is not None})
        return self.wait_for("joined")

    def command(self, event: str, **data: Any) -> dict[str, Any]:
        """Send one command and return what its ack carries."""
        answer = self.answer_to(self.send(event, **data))
        assert answer["event"] == "ack", answer
        result: dict[str, Any] = answer["data"]
        return result

    def send(self, event: str, **data: Any) -> int:
        """Send one command; the number is for `answer_to`."""
        self._acks += 1
        number = self._acks
        frame = json.dumps({"event": event, "data": data, "ack": number})
        with self._changed:
            assert self._changed.wait_for(lambda: self._ws.state.name == "OPEN" or self._closed, PATIENCE_S)
            self._socket.sendall(self._ws.send(TextMessage(frame)))
        return number

    def answer_to(self, number: int) -> dict[str, Any]:
        """The whole frame that answers the command: an ack, or an error."""
        return self._take(lambda frame: frame.get("ack") == number, f"the answer to command {number}")

    def wait_for(self, event: str, **fields: Any) -> dict[str, Any]:
        """The data of the next event of that name with these fields; earlier ones of other names stay."""
        answer = self._take(
            lambda frame: frame["event"] == event and fields.items() <= frame["data"].items(), f"{event} {fields}"
        )
        result: dict[str, Any] = answer["data"]
        return result

    def wait_closed(self, timeout_s: float = PATIENCE_S) -> int:
        """The close code."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._closed, timeout_s), "the socket is still open"
        assert self.close_code is not None, "the connection broke without a close frame"
        return self.close_code

    def close(self) -> None:
        # The errors: it has been closed from the other side.
        with self._changed, contextlib.suppress(OSError, LocalProtocolError):
            self._socket.sendall(self._ws.send(CloseConnection(1000)))
        self._reader.join(PATIENCE_S)
        self._socket.close()

    @property
    def _closed(self) -> bool:
        return self.closed_at is not None

    def _take(self, wanted: Any, name: str) -> dict[str, Any]:
        def found() -> int | None:
            return next((index for index, frame in enumerate(self._events) if wanted(frame)), None)

        with self._changed:
            self._changed.wait_for(lambda: found() is not None or self._closed, PATIENCE_S)
            index = found()
            seen = [frame["event"] for frame in self._events]
            assert index is not None, f"no {name}; close code {self.close_code}; waiting unread: {seen}"
            return self._events.pop(index)

    def _read(self) -> None:
        while True:
            try:
                data = self._socket.recv(65536)
            except OSError:
                data = b""
            with self._changed:
                self._ws.receive_data(data or None)
                for event in self._ws.events():
                    self._on_event(event)
                if not data or self.close_code is not None:
                    self.closed_at = time.monotonic()
                self._changed.notify_all()
                if self._closed:
                    return

    def _on_event(self, event: Any) -> None:
        match event:
            case TextMessage():
                self._partial += event.data
                if event.message_finished:
                    self._events.append(json.loads(self._partial))
                    self._partial = ""
            case Ping():
                self._socket.sendall(self._ws.send(event.response()))
            case CloseConnection():
                self.close_code = event.code
                with contextlib.suppress(OSError, LocalProtocolError):  # both sides have said goodbye
                    self._socket.sendall(self._ws.send(event.response()))
            case RejectConnection():
                self.close_code = event.status_code
            case AcceptConnection():
                pass


@contextmanager
def room_socket(url: str) -> Iterator[RoomSocket]:
    connection = RoomSocket(url)
    try:
        yield connection
    finally:
        connection.close()
