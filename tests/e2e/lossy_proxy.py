"""A UDP proxy before the relay that loses part of the audio, to listeners or from publishers, with a seed."""

from __future__ import annotations

import random
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: RFC 7983 and RFC 5761: RTP by its first byte, RTCP among it by the second.
RTP_FIRST_BYTES = range(128, 192)
RTCP_TYPES = range(64, 96)


class LossyProxy:
    """Clients send to `port`; each gets a socket of its own towards the relay, so that the relay tells them apart."""

    def __init__(self, relay_port: int, loss: float, uplink_loss: float, seed: int) -> None:
        self.loss = loss
        self.uplink_loss = uplink_loss
        self.dropped = 0
        self._relay = ("127.0.0.1", relay_port)
        self._random = random.Random(seed)
        self._front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._front.bind(("127.0.0.1", 0))
        self._clients: dict[socket.socket, tuple[str, int]] = {}
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="lossy proxy")
        self._thread.start()

    @property
    def port(self) -> int:
        port: int = self._front.getsockname()[1]
        return port

    def close(self) -> None:
        self._stopped = True
        self._thread.join()
        for sock in (self._front, *self._clients):
            sock.close()

    def _run(self) -> None:
        while not self._stopped:
            for ready in select.select([self._front, *self._clients], [], [], 0.1)[0]:
                if ready is self._front:
                    data, client = ready.recvfrom(4096)
                    if not self._loses(data, self.uplink_loss):
                        self._towards_relay(client).send(data)
                else:
                    self._to_client(ready.recv(4096), self._clients[ready])

    def _towards_relay(self, client: tuple[str, int]) -> socket.socket:
        for sock, known in self._clients.items():
            if known == client:
                return sock
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect(self._relay)
        self._clients[sock] = client
        return sock

    def _to_client(self, data: bytes, client: tuple[str, int]) -> None:
        if not self._loses(data, self.loss):
            self._front.sendto(data, client)

    def _loses(self, data: bytes, loss: float) -> bool:
        is_rtp = data[0] in RTP_FIRST_BYTES and data[1] & 127 not in RTCP_TYPES
        lost = is_rtp and self._random.random() < loss
        self.dropped += lost
        return lost


@contextmanager
def lossy_proxy(relay_port: int, *, loss: float = 0.0, uplink_loss: float = 0.0, seed: int = 7) -> Iterator[LossyProxy]:
    proxy = LossyProxy(relay_port, loss, uplink_loss, seed)
    try:
        yield proxy
    finally:
        proxy.close()
