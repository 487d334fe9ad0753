"""What the gateway needs of the rest, and no more: tests put small fakes behind it, `lac serve` the real services."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from lac.config_values import Network
from lac.identity import Identity
from lac.rooms.commands import Command
from lac.rooms.events import Event
from lac.rooms.values import Value


class Socket(Protocol):
    """An ASGI WebSocket as Quart shows it. Only the connection's own tasks touch it."""

    async def accept(self) -> None: ...

    async def receive(self) -> str | bytes | None: ...

    async def send(self, data: str) -> None: ...

    async def close(self, code: int, reason: str = "") -> None: ...


class FramePipe(Protocol):
    """The short way to the wire: whole frames, written at once or not at all (`lac_web.hypercorn_fixes`)."""

    @property
    def unsent(self) -> bool:
        """The rest of a pushed frame waits for `flush`."""

    def push_nowait(self, frame: bytes) -> bool: ...

    async def flush(self) -> None: ...


class RoomOutlet(Protocol):
    """`Outlet`, as a room sees a connection."""

    def offer(self, frame: bytes) -> None: ...

    def close(self, code: int, reason: str) -> None: ...


class RoomMember(Protocol):
    async def handle(self, command: Command) -> Event | Value | None: ...

    def leave(self) -> None: ...


class Rooms(Protocol):
    async def join(
        self,
        identity: Identity | None,
        broadcast_id: str,
        name: str | None,
        outlet: RoomOutlet,
        *,
        address: str | None = None,
        since: str | None = None,
    ) -> RoomMember: ...


class Identifier(Protocol):
    async def identify(self, bearer: str) -> Identity: ...


class CommandLimiter(Protocol):
    def charge_command(self, command: type[Command], *, address: str | None, account: str | None) -> None:
        """Raises `TooManyRequestsError`."""


class WebSettings(Protocol):
    @property
    def cors_origins(self) -> Sequence[str]: ...

    @property
    def public_url(self) -> str | None: ...

    @property
    def trusted_proxies(self) -> Sequence[Network]: ...


class GatewayServices(Protocol):
    @property
    def settings(self) -> WebSettings: ...

    @property
    def auth(self) -> Identifier: ...

    @property
    def on_air(self) -> Rooms: ...
