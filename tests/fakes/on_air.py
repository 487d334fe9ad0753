"""Stand-ins for what is on air and for the media engine: no socket, no task, the same signatures and errors.

The accounts and broadcasts behind them are real.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lac.broadcasts import policy
from lac.broadcasts.model import Broadcast, BroadcastAction, BroadcastStatus
from lac.errors import ConflictError, UnavailableError
from lac.identity import Identity
from lac.ids import new_id
from lac_media.errors import LocalProtocolError, UnsupportedMediaError
from lac_media.parameters import (
    ConsumerParameters,
    Direction,
    DtlsParameters,
    Fingerprint,
    IceCandidate,
    IceParameters,
    ProducerParameters,
)


@dataclass
class FakeRoom:
    id: str


@dataclass(frozen=True)
class FakeConsumer:
    id: str
    producer_id: str
    ssrc: int
    cname: str


@dataclass
class FakeSession:
    id: str
    room: FakeRoom
    direction: Direction
    owner: str
    forget: Callable[[str], None]
    restarts: int = 0
    remote: DtlsParameters | None = None
    produced: ProducerParameters | None = None
    consumed: ConsumerParameters | None = None
    closed: str | None = None

    @property
    def ice_parameters(self) -> IceParameters:
        return IceParameters(f"ufrag{self.id[:4]}{self.restarts}", "p" * 24)

    def connect(self, remote: DtlsParameters) -> None:
        if self.remote is not None:
            raise LocalProtocolError("This session is connected already.")
        if any(item.algorithm == "md5" for item in remote.fingerprints):
            raise UnsupportedMediaError("No usable fingerprint: send sha-256.")
        self.remote = remote

    def produce(self, parameters: ProducerParameters) -> str:
        if self.direction is not Direction.SEND:
            raise LocalProtocolError("A recv session cannot publish.")
        if self.produced is not None:
            raise LocalProtocolError("This session publishes already.")
        self.produced = parameters
        return "producer1"

    def consume(self, parameters: ConsumerParameters) -> FakeConsumer:
        if self.direction is not Direction.RECV:
            raise LocalProtocolError("A send session cannot listen.")
        self.consumed = parameters
        return FakeConsumer("consumer1", "program", 1234567, "program@test")

    def restart_ice(self) -> IceParameters:
        self.restarts += 1
        return self.ice_parameters

    def close(self, reason: str) -> None:
        if self.closed is None:
            self.closed = reason
            self.forget(self.id)


@dataclass
class FakeEngine:
    port: int = 40000
    candidates: tuple[IceCandidate, ...] = (IceCandidate("udpcandidate", 1076302079, "127.0.0.1", 40000),)
    fingerprints: tuple[Fingerprint, ...] = (Fingerprint("sha-256", ":".join(["AB"] * 32)),)
    open_sessions: dict[str, FakeSession] = field(default_factory=dict)

    def session(self, session_id: str) -> FakeSession | None:
        return self.open_sessions.get(session_id)

    def open(self, room_id: str, direction: Direction, owner: str) -> FakeSession:
        session = FakeSession(new_id(), FakeRoom(room_id), direction, owner, self._forget)
        self.open_sessions[session.id] = session
        return session

    def _forget(self, session_id: str) -> None:
        self.open_sessions.pop(session_id, None)


class FakeOnAir:
    """Asks the real policy; keeps no rooms."""

    def __init__(self, broadcasts: object, engine: FakeEngine) -> None:
        self.broadcasts = broadcasts
        self.engine = engine
        self.draining = False
        self.listeners: dict[str, int] = {}
        self.updates: list[Broadcast] = []

    def listener_count(self, broadcast_id: str) -> int:
        return self.listeners.get(broadcast_id, 0)

    async def start(self, identity: Identity, broadcast_id: str) -> Broadcast:
        if self.draining:
            raise UnavailableError("The server is shutting down.", retry_after_s=2.5)
        await self._editable(identity, broadcast_id)
        return await self.broadcasts.set_status(broadcast_id, BroadcastAction.START)

    async def end(self, identity: Identity, broadcast_id: str) -> Broadcast:
        await self._editable(identity, broadcast_id)
        return await self.broadcasts.set_status(broadcast_id, BroadcastAction.END)

    def updated(self, broadcast: Broadcast) -> None:
        self.updates.append(broadcast)

    async def remove(self, identity: Identity, broadcast_id: str) -> None:
        await self.broadcasts.delete(identity, broadcast_id)

    async def open_media_session(
        self, identity: Identity | None, broadcast_id: str, direction: Direction, kind: str
    ) -> FakeSession:
        broadcast = await self.broadcasts.get(identity, broadcast_id)
        role = await self.broadcasts.role_of(identity, broadcast)
        if direction is Direction.SEND:
            policy.may_publish(role, broadcast)
        else:
            policy.may_listen(identity, role, broadcast)
        if broadcast.status is not BroadcastStatus.LIVE:
            raise ConflictError("This show is not live.", code="not_live")
        owner = identity.id if identity is not None else f"anon-{new_id()}"
        return self.engine.open(broadcast_id, direction, owner)

    async def _editable(self, identity: Identity, broadcast_id: str) -> Broadcast:
        broadcast = await self.broadcasts.get(identity, broadcast_id)
        policy.may_edit(await self.broadcasts.role_of(identity, broadcast))
        return broadcast
