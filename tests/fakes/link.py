"""Two sans-IO peers on an in-memory network with a seed: every impairment there is, in virtual time."""

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
from tests.fakes.impairment import Impairment, Path

SERVER: Address = ("192.0.2.1", 40000)
CLIENT: Address = ("198.51.100.7", 5000)
#: Each way, unless the test says otherwise.
DELAY_S = 0.01


@dataclass
class Link:
    """Drives a server core and a client core against each other. `now` is virtual monotonic time. `impairment` is of
    both ways alike, each with its own luck."""

    server: PeerCore
    client: PeerCore
    impairment: Impairment = field(default_factory=Impairment)
    seed: int = 1
    now: float = 1000.0
    #: Where the client's datagrams seem to come from; change it and the client has moved.
    client_address: Address = CLIENT
    server_events: list[PeerEvent] = field(default_factory=list)
    client_events: list[PeerEvent] = field(default_factory=list)
    datagrams: int = 0
    #: From the server to where the client no longer is.
    misdirected: int = 0

    def __post_init__(self) -> None:
        self._up = Path(self.impairment, f"{self.seed} up")
        self._down = Path(self.impairment, f"{self.seed} down")
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
        path = self._up if to_server else self._down
        path.impairment = self.impairment
        for at in path.arrivals(len(data), now=self.now):
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
    return Link(server, client, impairment or Impairment(delay_s=DELAY_S), seed, now)
