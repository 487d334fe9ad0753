"""A UDP proxy before the relay that is as bad a network as is wanted, both ways, with a seed, between real programs.

What happens to a datagram is decided in `tests.fakes.impairment`, as in virtual time. Here are only the sockets.
"""

from __future__ import annotations

import heapq
import itertools
import re
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from playwright.sync_api import Route

from tests.fakes.impairment import Impairment, Path

IDLE_S = 0.05


class _Client:
    """One source address, with a socket of its own towards the relay and its own luck."""

    def __init__(self, address: tuple[str, int], up: Path, down: Path) -> None:
        self.address = address
        self.up = up
        self.down = down
        self.sock: socket.socket | None = None

    def move(self, relay: tuple[str, int], ip: str) -> None:
        """Go on from another port, and from this IP address: whatever is still on its way to the old ones is lost."""
        old, self.sock = self.sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((ip, 0))
        self.sock.connect(relay)
        if old is not None:
            old.close()


class ImpairingProxy:
    """Clients send to `port`. `up` is towards the relay, `down` towards the clients; change them at any time."""

    def __init__(self, relay_port: int, up: Impairment, down: Impairment, seed: int) -> None:
        self.up = up
        self.down = down
        self._seed = seed
        self._relay = ("127.0.0.1", relay_port)
        self._front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._front.bind(("127.0.0.1", 0))
        self._clients: dict[tuple[str, int], _Client] = {}
        #: (when, order, to the relay?, client, data)
        self._flying: list[tuple[float, int, bool, _Client, bytes]] = []
        self._order = itertools.count()
        self._move = False
        self._moves = 0
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="impairing proxy")
        self._thread.start()

    @property
    def port(self) -> int:
        port: int = self._front.getsockname()[1]
        return port

    @property
    def ip(self) -> str:
        """Where clients come from. Linux has all of 127.0.0.0/8 on its loopback; others have 127.0.0.1 alone, and there
        it is only the port that changes."""
        return f"127.0.0.{1 + self._moves}" if sys.platform == "linux" else "127.0.0.1"

    @property
    def lost_up(self) -> int:
        return sum(client.up.lost for client in tuple(self._clients.values()))

    @property
    def lost_down(self) -> int:
        return sum(client.down.lost for client in tuple(self._clients.values()))

    def black_out(self, seconds: float) -> None:
        """Nothing gets through from now on, for so long."""
        self.up.dark_until = self.down.dark_until = time.monotonic() + seconds

    def move_clients(self) -> None:
        """From the next datagram on everyone comes from another address, as after a change of networks."""
        self._move = True

    def close(self) -> None:
        self._stopped = True
        self._thread.join()
        self._front.close()
        for client in self._clients.values():
            if client.sock is not None:
                client.sock.close()

    def _run(self) -> None:
        while not self._stopped:
            if self._move:
                self._move = False
                self._moves += 1
                for client in self._clients.values():
                    client.move(self._relay, self.ip)
            by_socket = {client.sock: client for client in self._clients.values()}
            wait_s = IDLE_S if not self._flying else min(IDLE_S, max(0.0, self._flying[0][0] - time.monotonic()))
            for ready in select.select([self._front, *by_socket], [], [], wait_s)[0]:
                with suppress(ConnectionError):  # nobody there (any more): ICMP says so at the next call
                    self._receive(ready, by_socket.get(ready))
            self._deliver()

    def _receive(self, ready: socket.socket, client: _Client | None) -> None:
        if client is not None:
            self._send(client, ready.recv(4096), to_relay=False)
            return
        data, address = ready.recvfrom(4096)
        known = self._clients.get(address)
        if known is None:
            name = f"{self._seed} {len(self._clients)}"
            known = _Client(address, Path(self.up, f"{name} up"), Path(self.down, f"{name} down"))
            known.move(self._relay, self.ip)
            self._clients[address] = known
        self._send(known, data, to_relay=True)

    def _send(self, client: _Client, data: bytes, *, to_relay: bool) -> None:
        path = client.up if to_relay else client.down
        for at in path.arrivals(len(data), now=time.monotonic()):
            heapq.heappush(self._flying, (at, next(self._order), to_relay, client, data))

    def _deliver(self) -> None:
        while self._flying and self._flying[0][0] <= time.monotonic():
            _, _, to_relay, client, data = heapq.heappop(self._flying)
            with suppress(ConnectionError):
                if not to_relay:
                    self._front.sendto(data, client.address)
                elif client.sock is not None:
                    client.sock.send(data)


@contextmanager
def impairing_proxy(
    relay_port: int, *, up: Impairment | None = None, down: Impairment | None = None, seed: int = 7
) -> Iterator[ImpairingProxy]:
    proxy = ImpairingProxy(relay_port, up or Impairment(), down or Impairment(), seed)
    try:
        yield proxy
    finally:
        proxy.close()


def through(port: int) -> Callable[[Route], None]:
    """Gives a browser the server's answer with another media port in its candidates: SDP, or the library's JSON."""

    def divert(route: Route) -> None:
        answer = route.fetch()
        body = re.sub(r"(a=candidate:(?:\S+ ){5})\d+", rf"\g<1>{port}", answer.text())
        if body.startswith("{"):
            body = re.sub(r'("port":\s*)\d+', rf"\g<1>{port}", body)
        route.fulfill(response=answer, body=body)

    return divert
