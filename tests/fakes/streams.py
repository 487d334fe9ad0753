"""In-memory TCP in the time of the running trio clock: connections that deliver in pieces and have room for so much."""

from __future__ import annotations

import itertools
import random
from collections import deque
from dataclasses import dataclass, field

import trio

from lac_media.errors import ParseError
from lac_media.parameters import Address, UdpAddress
from lac_media.proto.framing import FrameParser, encode_frame

#: What the two kernels hold of one direction, unless a test says otherwise.
ROOM_BYTES = 64 * 1024


class StreamEnd:
    """One end of a connection: a `lac_media.net.stream_socket.StreamSocket`."""

    def __init__(self, remote_address: UdpAddress, rng: random.Random) -> None:
        self.remote_address = remote_address
        self.peer: StreamEnd | None = None
        self.room = ROOM_BYTES
        self.closed = False
        #: While set nothing reaches the other end any more, and neither of the two knows.
        self.cut_off = False
        self._inbox = bytearray()
        self._ended = False
        self._random = rng
        self._changed = trio.Event()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _other(self) -> StreamEnd:
        if self.closed or self.peer is None:
            raise OSError(9, "Bad file descriptor")
        return self.peer

    def receive_nowait(self, max_bytes: int) -> bytes:
        """A piece of what is there, seldom all of it."""
        other = self._other()
        if not self._inbox:
            if self._ended:
                return b""
            raise BlockingIOError
        size = self._random.randint(1, min(max_bytes, len(self._inbox)))
        data = bytes(self._inbox[:size])
        del self._inbox[:size]
        other._notify()
        return data

    async def wait_readable(self) -> None:
        self._other()
        await trio.lowlevel.checkpoint()
        while not self._inbox and not self._ended:
            await self._changed.wait()
            self._other()

    def send_nowait(self, data: bytes | bytearray) -> int:
        other = self._other()
        if other.closed:
            raise BrokenPipeError
        if self.cut_off:
            return len(data)
        taken = min(len(data), self.room - len(other._inbox))
        if taken <= 0:
            raise BlockingIOError
        other._inbox += data[:taken]
        other._notify()
        return taken

    async def wait_writable(self) -> None:
        other = self._other()
        await trio.lowlevel.checkpoint()
        while not other.closed and len(other._inbox) >= self.room:
            await self._changed.wait()
            other = self._other()

    def close(self) -> None:
        if self.closed:
            return
        other = self._other()
        self.closed = True
        if not self.cut_off:
            other._ended = True
        other._notify()
        self._notify()


@dataclass
class StreamNet:
    """Listeners by address, and everybody's connections."""

    seed: int = 1
    listeners: dict[UdpAddress, Listener] = field(default_factory=dict)
    ends: list[StreamEnd] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._ports = itertools.count(60_000)

    def open_listener(self, ip: str, port: int) -> Listener:
        listener = self.listeners[ip, port] = Listener(self, (ip, port))
        return listener

    def connect(self, source_ip: str, destination: UdpAddress) -> StreamEnd:
        """The client's end. Raises `ConnectionRefusedError`."""
        if destination not in self.listeners:
            raise ConnectionRefusedError
        client = StreamEnd(destination, self._random)
        server = StreamEnd((source_ip, next(self._ports)), self._random)
        client.peer, server.peer = server, client
        self.ends += [client, server]
        self.listeners[destination].offer(server)
        return client

    @property
    def open_ends(self) -> int:
        return sum(not end.closed for end in self.ends)


class Listener:
    """A `lac_media.net.stream_socket.StreamListener`."""

    def __init__(self, net: StreamNet, address: UdpAddress) -> None:
        self._net = net
        self._address = address
        self._backlog: deque[StreamEnd] = deque()
        self._arrived = trio.Event()

    def offer(self, end: StreamEnd) -> None:
        self._backlog.append(end)
        self._arrived.set()

    async def accept(self) -> StreamEnd:
        await trio.lowlevel.checkpoint()
        while not self._backlog:
            self._arrived = trio.Event()
            await self._arrived.wait()
        return self._backlog.popleft()

    def close(self) -> None:
        self._net.listeners.pop(self._address, None)
        while self._backlog:
            self._backlog.popleft().close()


class FramedSocket:
    """The client's end of a connection as a `lac_media.net.udp.DatagramSocket`: each frame is a datagram."""

    def __init__(self, end: StreamEnd) -> None:
        self.end = end
        self.local_address: UdpAddress = ("198.51.100.1", 9)
        self.waited_s = 0.0
        self.frames: deque[bytes] = deque()
        self.broken = False
        self._parser = FrameParser()
        self._unsent = bytearray()

    def receive_nowait(self) -> tuple[bytes, UdpAddress]:
        while not self.frames:
            data = self.end.receive_nowait(4096)
            if not data:
                raise BlockingIOError
            try:
                self.frames.extend(self._parser.feed_untrusted(data))
            except ParseError:
                self.broken = True
                raise
        return self.frames.popleft(), self.end.remote_address

    async def wait_readable(self) -> None:
        if self.frames:
            await trio.lowlevel.checkpoint()
        elif self.end._ended and not self.end._inbox:
            await trio.sleep_forever()  # the server has hung up; its owner waits for timers only
        else:
            await self.end.wait_readable()

    def send_nowait(self, data: bytes, address: Address) -> bool:
        self._unsent += encode_frame(data)
        try:
            while self._unsent:
                del self._unsent[: self.end.send_nowait(self._unsent)]
        except (BlockingIOError, OSError):
            return False
        return True

    def overruns(self) -> int:
        return 0

    def close(self) -> None:
        self.end.close()
