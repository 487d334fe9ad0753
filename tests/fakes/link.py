"""Two sans-IO peers on an in-memory network with a seed: loss, delay, reordering, duplication, and virtual time."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from lac_media.certificate import DtlsIdentity, make_dtls_identity
from lac_media.parameters import Address, DtlsParameters, DtlsRole, IceCandidate, IceParameters
from lac_media.proto.ice import IceControlling, IceLite
from lac_media.proto.peer import PeerCore, PeerEvent

SERVER: Address = ("192.0.2.1", 40000)
CLIENT: Address = ("198.51.100.7", 5000)


@dataclass
class Impairment:
    """What the link does to datagrams, each way alike. Times in seconds."""

    loss: float = 0.0
    duplicate: float = 0.0
    delay_s: float = 0.01
    jitter_s: float = 0.0


@dataclass
class Link:
    """Drives a server core and a client core against each other. `now` is virtual monotonic time."""

    server: PeerCore
    client: PeerCore
    impairment: Impairment = field(default_factory=Impairment)
    seed: int = 1
    now: float = 1000.0
    #: Where the client's datagrams seem to come from; change it and the client has moved.
    client_address: Address = CLIENT
    #: Nothing at all gets through while this is set.
    down: bool = False
    server_events: list[PeerEvent] = field(default_factory=list)
    client_events: list[PeerEvent] = field(default_factory=list)
    datagrams: int = 0
    #: From the server to where the client no longer is.
    misdirected: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._order = itertools.count()
        self._flying: list[tuple[float, int, bool, bytes, Address]] = []

    def flush(self) -> None:
        """Put what both ends have to send on the wire and collect their events."""
        for data, address in self.server.datagrams_to_send():
            if address == self.client_address:
                self._send(data, to_server=False, source=SERVER)
            else:
                self.misdirected += 1
        for data, _ in self.client.datagrams_to_send():
            self._send(data, to_server=True, source=self.client_address)
        self.server_events.extend(self.server.events())
        self.client_events.extend(self.client.events())

    def inject(self, data: bytes, source: Address) -> None:
        """A datagram of somebody else's reaches the server."""
        self.server.receive_datagram(data, source, now=self.now)
        self.flush()

    def _send(self, data: bytes, *, to_server: bool, source: Address) -> None:
        self.datagrams += 1
        for _ in range(2 if self._random.random() < self.impairment.duplicate else 1):
            if self.down or self._random.random() < self.impairment.loss:
                continue
            at = self.now + self.impairment.delay_s + self._random.random() * self.impairment.jitter_s
            heapq.heappush(self._flying, (at, next(self._order), to_server, data, source))

    def run_until(self, done: Callable[[], bool], *, timeout_s: float = 60.0) -> bool:
        """Advance virtual time until `done()`; False if `timeout_s` of it passed first."""
        end = self.now + timeout_s
        self.flush()
        while not done():
            due = min(
                self._flying[0][0] if self._flying else float("inf"), self.server.timer_at(), self.client.timer_at()
            )
            if due > end:
                self.now = end
                return done()
            self.now = max(self.now, due)
            while self._flying and self._flying[0][0] <= self.now:
                _, _, to_server, data, source = heapq.heappop(self._flying)
                receiver = self.server if to_server else self.client
                receiver.receive_datagram(data, source, now=self.now)
                self.flush()
            for core in (self.server, self.client):
                if core.timer_at() <= self.now:
                    core.handle_timer(now=self.now)
                    assert core.timer_at() > self.now, "a timer that is due again at once would spin"
                    self.flush()
        return True

    def run_for(self, seconds: float) -> None:
        self.run_until(lambda: False, timeout_s=seconds)


def ice_parameters(name: str) -> IceParameters:
    return IceParameters(f"{name}ufrag", f"{name}password0123456789abcdef")


_identities: list[DtlsIdentity] = []


def identity(number: int) -> DtlsIdentity:
    """Certificates are made once for the whole run."""
    while len(_identities) <= number:
        _identities.append(make_dtls_identity())
    return _identities[number]


def make_link(
    *,
    impairment: Impairment | None = None,
    seed: int = 1,
    client_dtls_role: DtlsRole = DtlsRole.CLIENT,
    connect_server: bool = True,
) -> Link:
    """A server core (ICE-lite) and a client core that know each other's parameters but have not met."""
    now = 1000.0
    rng = random.Random(seed)
    server_ice, client_ice = ice_parameters("server"), ice_parameters("client")
    server = PeerCore(
        IceLite(server_ice, now=now), identity(0).context, ssrc=1, cname="server", unix_offset_s=1e9, now=now
    )
    client = PeerCore(
        IceControlling(
            client_ice,
            server_ice,
            IceCandidate("1", 1, *SERVER),
            make_bytes=rng.randbytes,
            now=now,
        ),
        identity(1).context,
        ssrc=2,
        cname="client",
        unix_offset_s=1e9,
        now=now,
    )
    if connect_server:
        server.connect(DtlsParameters(client_dtls_role, (identity(1).fingerprint,)), now=now)
    server_role = DtlsRole.SERVER if client_dtls_role is DtlsRole.CLIENT else DtlsRole.CLIENT
    client.connect(DtlsParameters(server_role, (identity(0).fingerprint,)), now=now)
    return Link(server, client, impairment or Impairment(), seed, now)
