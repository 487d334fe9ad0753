"""An in-memory datagram network in the time of the running trio clock, with a seed for what goes wrong in it."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field

import trio

from lac_media.errors import EngineStartError
from lac_media.parameters import Address
from tests.fakes.impairment import Impairment, Path

#: What one socket holds for its reader; more is dropped, as a kernel would.
RECEIVE_BUFFER = 1000


@dataclass
class Net:
    """`impairment` is that of every way from one address to another, each with its own luck; but who stands in
    `own_networks`, by IP address, has a network of their own."""

    impairment: Impairment = field(default_factory=Impairment)
    own_networks: dict[str, Impairment] = field(default_factory=dict)
    seed: int = 1
    sockets: dict[Address, NetSocket] = field(default_factory=dict)
    #: Every datagram that was sent: source, destination, data. Off, because it grows.
    log: list[tuple[Address, Address, bytes]] | None = None

    def __post_init__(self) -> None:
        self._paths: dict[tuple[Address, Address], Path] = {}
        self._ports = itertools.count(50_000)

    def open_socket(self, ip: str, port: int = 0) -> NetSocket:
        """As `lac_media.net.udp.open_udp_socket`, `EngineStartError` included."""
        address = (ip, port or next(self._ports))
        if address in self.sockets:
            raise EngineStartError(f"the media port {port} (UDP) on {ip} is in use by another program")
        self.sockets[address] = NetSocket(self, address)
        return self.sockets[address]

    def carry(self, data: bytes, source: Address, destination: Address) -> None:
        """One datagram, perhaps from nobody's socket."""
        if self.log is not None:
            self.log.append((source, destination, data))
        receiver = self.sockets.get(destination)
        if receiver is None:
            return
        path = self._paths.get((source, destination))
        if path is None:
            seed = f"{self.seed} {source} {destination}"
            path = self._paths[source, destination] = Path(self.impairment, seed)
        path.impairment = self.own_networks.get(source[0]) or self.own_networks.get(destination[0]) or self.impairment
        for at in path.arrivals(len(data), now=trio.current_time()):
            receiver.deliver(data, source, at)


class NetSocket:
    """A `lac_media.net.udp.DatagramSocket`."""

    def __init__(self, net: Net, address: Address) -> None:
        self._net = net
        self.local_address = address
        self.waited_s = 0.0
        self.sent = 0
        #: While set, nothing can be sent: the kernel's buffer is full.
        self.full = False
        #: While set, nothing arrives and nothing leaves, and the owner does not know.
        self.cut_off = False
        self._overruns = 0
        self._inbox: list[tuple[float, int, bytes, Address]] = []
        self._order = itertools.count()
        self._arrived = trio.Event()

    def deliver(self, data: bytes, source: Address, at: float) -> None:
        if self.cut_off:
            return
        if len(self._inbox) >= RECEIVE_BUFFER:
            self._overruns += 1
            return
        heapq.heappush(self._inbox, (at, next(self._order), data, source))
        self._arrived.set()

    def receive_nowait(self) -> tuple[bytes, Address]:
        self._check_open()
        if not self._inbox or self._inbox[0][0] > trio.current_time():
            raise BlockingIOError
        _, _, data, source = heapq.heappop(self._inbox)
        return data, source

    async def wait_readable(self) -> None:
        self._check_open()
        await trio.lowlevel.checkpoint()
        while not self._inbox or self._inbox[0][0] > trio.current_time():
            self._arrived = trio.Event()
            with trio.move_on_at(self._inbox[0][0] if self._inbox else float("inf")):
                await self._arrived.wait()

    def send_nowait(self, data: bytes, address: Address) -> bool:
        if self.full or self._net.sockets.get(self.local_address) is not self:
            return False
        self.sent += 1
        if not self.cut_off:
            self._net.carry(data, self.local_address, address)
        return True

    def overruns(self) -> int:
        return self._overruns

    def close(self) -> None:
        if self._net.sockets.get(self.local_address) is self:
            del self._net.sockets[self.local_address]

    def _check_open(self) -> None:
        if self._net.sockets.get(self.local_address) is not self:
            raise OSError(9, "Bad file descriptor")
