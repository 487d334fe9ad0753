"""A small station: `OnAir` over the fakes, with people who have sockets."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import trio

from lac.broadcasts.live import OnAir, open_on_air
from lac.broadcasts.model import Broadcast, BroadcastStatus, Role, Visibility
from lac.broadcasts.service import BroadcastService
from lac.config import Settings
from lac.errors import NotSignedInError
from lac.identity import Identity, IdentityKind
from lac.rooms.commands import Command
from lac.rooms.events import Event
from lac.rooms.room import Member
from lac.rooms.values import Value
from lac_media.parameters import Direction
from tests.fakes.database import InlineDatabase
from tests.fakes.media import FakeEngine, FakeMediaRoom, FakeSession

GRACE_S = 60.0
SETTINGS = Settings(
    data_dir=Path("unused"), jwt_secret="access" * 8, jwt_refresh_secret="refresh" * 8, host_grace_s=GRACE_S
)

HOST = Identity(IdentityKind.USER, "host", "Hanna")
COHOST = Identity(IdentityKind.USER, "cohost", "Carla")
MODERATOR = Identity(IdentityKind.USER, "moderator", "Mo")
SPEAKER = Identity(IdentityKind.USER, "speaker", "Sam")
LISTENER = Identity(IdentityKind.USER, "listener", "Lea")
ADMIN = Identity(IdentityKind.USER, "admin", "Ada", is_admin=True)
ROLES = {COHOST: Role.COHOST, MODERATOR: Role.MODERATOR, SPEAKER: Role.SPEAKER}


class FakeAuth:
    def __init__(self) -> None:
        self.sign_ins = SimpleNamespace(on_ended=None)
        #: Of sign-ins that have ended.
        self.ended: set[str | None] = set()

    async def check_signed_in(self, identity: Identity) -> None:
        await trio.lowlevel.checkpoint()
        if identity.sign_in_id in self.ended:
            raise NotSignedInError("This sign-in has ended.", code="token_invalid")

    def issue_guest(
        self, broadcast_id: str, guest_id: str, display_name: str, *, invite_version: int | None = None
    ) -> str:
        return f"token of {guest_id}" if invite_version is None else f"token of {guest_id} by link {invite_version}"


class FakeSocket:
    """What the gateway is to the room: frames queue up, and after a close nothing more goes out."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None
        self._closing = trio.Event()
        self.member: Member | None = None

    def offer(self, frame: bytes) -> None:
        if self.closed is None:
            self.frames.append(json.loads(frame))

    def close(self, code: int, reason: str) -> None:
        if self.closed is None:
            self.closed = (code, reason)
            self._closing.set()

    @property
    def code(self) -> int | None:
        return self.closed[0] if self.closed is not None else None

    @property
    def events(self) -> list[str]:
        return [frame["event"] for frame in self.frames]

    def data(self, event: str) -> list[dict[str, Any]]:
        return [frame["data"] for frame in self.frames if frame["event"] == event]

    def clear(self) -> None:
        self.frames.clear()

    async def do(self, command: Command) -> Event | Value | None:
        assert self.member is not None
        return await self.member.handle(command)

    async def serve(
        self,
        on_air: OnAir,
        identity: Identity | None,
        broadcast_id: str,
        *,
        task_status: trio.TaskStatus[Member] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Join and stay until somebody closes the socket, as the gateway does."""
        self.member = await on_air.join(identity, broadcast_id, None, self)
        try:
            task_status.started(self.member)
            await self._closing.wait()
        finally:
            self.member.leave()


class Station:
    """Everything a test needs at hand: accounts, one scheduled broadcast of HOST's, and what happens with it."""

    def __init__(self, db: InlineDatabase) -> None:
        self.db = db
        self.engine = FakeEngine()
        self.broadcasts = BroadcastService(cast("Any", db), SETTINGS)
        self.show_id = ""
        self.sockets: list[FakeSocket] = []
        self.auth = FakeAuth()
        self._on_air: OnAir | None = None

    async def populate(self) -> None:
        for person in (HOST, COHOST, MODERATOR, SPEAKER, LISTENER, ADMIN):
            self.db.add_user(person.id, person.display_name, is_admin=person.is_admin)
        self.show_id = (await self.schedule()).id

    @property
    def on_air(self) -> OnAir:
        assert self._on_air is not None
        return self._on_air

    @property
    def media(self) -> FakeMediaRoom:
        return self.engine.rooms[self.show_id]

    @property
    def shows(self) -> int:
        return len(self.on_air._shows)

    async def schedule(self, visibility: Visibility = Visibility.PUBLIC) -> Broadcast:
        broadcast = await self.broadcasts.create(HOST, "The show", visibility=visibility)
        for person, role in ROLES.items():
            await self.broadcasts.set_role(HOST, broadcast.id, person.id, role)
        return broadcast

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[OnAir, None]:
        async with open_on_air(
            cast("Any", self.db), cast("Any", self.engine), self.broadcasts, cast("Any", self.auth), SETTINGS
        ) as self._on_air:
            yield self._on_air

    async def start(self) -> Broadcast:
        return await self.on_air.start(HOST, self.show_id)

    async def join(self, identity: Identity | None = None, name: str | None = None) -> FakeSocket:
        """A socket whose frames the test reads; nobody takes it out of the room but the test."""
        socket = FakeSocket()
        self.sockets.append(socket)
        socket.member = await self.on_air.join(identity, self.show_id, name, socket)
        return socket

    async def listen(self, identity: Identity | None = None, kind: str = "mediasoup") -> FakeSession:
        return await self._media(self.on_air.media.open_session(identity, self.show_id, Direction.RECV, kind))

    async def publish(self, identity: Identity | None = HOST, kind: str = "mediasoup") -> FakeSession:
        return await self._media(self.on_air.media.open_session(identity, self.show_id, Direction.SEND, kind))

    async def status(self) -> BroadcastStatus:
        return (await self.broadcasts.get(ADMIN, self.show_id)).status

    async def _media(self, opening: Awaitable[Any]) -> FakeSession:
        session = await opening
        assert isinstance(session, FakeSession)
        return session
