"""ICE for one peer, both ends: the lite side (server) and the controlling side (client). RFC 8445, RFC 7675.

Sans-IO: authenticated STUN messages and `now` in; STUN datagrams, the peer's address and a deadline out.
How we choose between several addresses of a peer, and where that departs from the RFC, is in docs/protocol/ice.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from aioice import stun

from lac_media.parameters import Address, IceCandidate, IceParameters
from lac_media.proto.stun import binding_error, binding_request, binding_success, is_authentic, local_ufrag

#: A peer that has not been heard of in an authenticated check for this long is gone.
CONSENT_TIMEOUT_S = 30.0
#: With a nominating peer: how long its nominated address must be silent before a plain check may move it.
NOMINATED_SILENCE_S = 6.0
FIRST_CHECK_RTO_S = 0.1
MAX_CHECK_RTO_S = 1.6
CONSENT_INTERVAL_S = 4.0
#: peer-reflexive priority of our checks (RFC 8445 section 5.1.2: type 110, local preference 65535, component 1).
CHECK_PRIORITY = (110 << 24) + (65535 << 8) + 255
ROLE_CONFLICT = 487

MakeBytes = Callable[[int], bytes]


class IceLite:
    """The server's side: answers checks and follows the peer. Never sends a check of its own (RFC 8445 section 2.5).

    `remote_address` is where the peer is reached, None until its first authenticated check.
    """

    def __init__(self, local: IceParameters, *, now: float) -> None:
        self.local = local
        self._previous: IceParameters | None = None
        self._local_is_used = False
        self.remote_address: Address | None = None
        self._nominations_here = 0
        self._heard_here_at = now
        self._heard_at = now
        self._out: list[tuple[bytes, Address]] = []

    def receive_check(self, message: stun.Message, address: Address, *, now: float) -> bool:
        """Feed one STUN message. True if it was an authentic check, which by then has its answer in the outbox."""
        if message.message_class != stun.Class.REQUEST or message.message_method != stun.Method.BINDING:
            return False
        credentials = self._credentials(local_ufrag(message))
        if credentials is None or not is_authentic(message, credentials.password):
            return False
        if "ICE-CONTROLLED" in message.attributes:
            # A lite agent is always controlled (RFC 8445 section 7.3.1.1).
            self._out.append((binding_error(message, ROLE_CONFLICT, "Role Conflict", credentials.password), address))
            return False
        self._local_is_used |= credentials is self.local
        self._out.append((binding_success(message, address, credentials.password), address))
        self._heard_at = now
        self._follow(address, nominated="USE-CANDIDATE" in message.attributes, now=now)
        return True

    def _credentials(self, fragment: str | None) -> IceParameters | None:
        if fragment == self.local.username_fragment:
            return self.local
        if self._previous is not None and fragment == self._previous.username_fragment:
            return self._previous
        return None

    def _follow(self, address: Address, *, nominated: bool, now: float) -> None:
        if address == self.remote_address:
            self._heard_here_at = now
            self._nominations_here += nominated
            return
        # Chromium nominates in every check of the pair that it uses and also probes spare pairs without nominating
        # them. Peers that nominate once and then move (a NAT rebinding) only ever send plain checks.
        nominates_always = self._nominations_here >= 2
        if not nominated and nominates_always and now - self._heard_here_at < NOMINATED_SILENCE_S:
            return
        self.remote_address = address
        self._nominations_here = int(nominated)
        self._heard_here_at = now

    def path_lost(self) -> None:
        """The connection to the present address has gone (TCP): any authentic check leads on from here."""
        self._nominations_here = 0

    @property
    def ufrags(self) -> tuple[str, ...]:
        """Under which names checks for this peer may come now."""
        previous = self._previous
        ours = self.local.username_fragment
        return (ours,) if previous is None else (ours, previous.username_fragment)

    def restart(self, local: IceParameters) -> None:
        """New credentials (RFC 8445 section 9). Those that the peer used last stay good until the next restart:
        Chromium has been seen to go on with them on the pair it likes best, after it had used the new ones too."""
        if self._local_is_used or self._previous is None:
            self._previous = self.local
        self.local = local
        self._local_is_used = False
        self._nominations_here = 0

    def handle_timer(self, *, now: float) -> None:
        """Nothing of the lite side is driven by time but consent, which its owner reads from `consent_lost()`."""

    def timer_at(self) -> float:
        return self._heard_at + CONSENT_TIMEOUT_S

    def consent_lost(self, *, now: float) -> bool:
        return now >= self._heard_at + CONSENT_TIMEOUT_S  # the very sum of timer_at(): rounding must not part them

    def datagrams_to_send(self) -> Iterator[tuple[bytes, Address]]:
        out, self._out = self._out, []
        return iter(out)


class IceControlling:
    """The client's side against an ICE-lite server: one candidate pair, nominated in every check.

    `make_bytes(n)` is the source of randomness for transaction ids and the tie-breaker.
    """

    def __init__(
        self,
        local: IceParameters,
        remote: IceParameters,
        candidate: IceCandidate,
        *,
        make_bytes: MakeBytes,
        now: float,
    ) -> None:
        self.local = local
        self._remote = remote
        self._candidate_address: Address = (candidate.ip, candidate.port)
        self._make_bytes = make_bytes
        self._tie_breaker = int.from_bytes(make_bytes(8), "big")
        self.remote_address: Address | None = None
        self._pending: set[bytes] = set()
        self._rto_s = FIRST_CHECK_RTO_S
        self._check_at = now
        self._heard_at = now
        self._out: list[tuple[bytes, Address]] = []

    def receive_check(self, message: stun.Message, address: Address, *, now: float) -> bool:
        """Feed one STUN message: an answer to a check of ours. True if it is authentic and expected."""
        if message.message_class != stun.Class.RESPONSE or message.transaction_id not in self._pending:
            return False
        if not is_authentic(message, self._remote.password):
            return False
        self._pending.clear()
        self.remote_address = address
        self._heard_at = now
        self._rto_s = FIRST_CHECK_RTO_S
        self._check_at = now + CONSENT_INTERVAL_S
        return True

    def path_lost(self) -> None:
        """There is only one pair: its checks go on."""

    def check_now(self, *, now: float) -> None:
        """Send a check at once: the network below us has changed."""
        self._check_at = now

    def handle_timer(self, *, now: float) -> None:
        if now < self._check_at:
            return
        transaction_id = self._make_bytes(12)
        if len(self._pending) >= 32:
            self._pending.clear()
        self._pending.add(transaction_id)
        request = binding_request(
            transaction_id,
            username=f"{self._remote.username_fragment}:{self.local.username_fragment}",
            password=self._remote.password,
            priority=CHECK_PRIORITY,
            tie_breaker=self._tie_breaker,
            use_candidate=True,
        )
        self._out.append((request, self._candidate_address))
        self._check_at = now + self._rto_s
        self._rto_s = min(self._rto_s * 2, MAX_CHECK_RTO_S)

    def timer_at(self) -> float:
        return min(self._check_at, self._heard_at + CONSENT_TIMEOUT_S)

    def consent_lost(self, *, now: float) -> bool:
        return now >= self._heard_at + CONSENT_TIMEOUT_S  # the very sum of timer_at(): rounding must not part them

    def datagrams_to_send(self) -> Iterator[tuple[bytes, Address]]:
        out, self._out = self._out, []
        return iter(out)
