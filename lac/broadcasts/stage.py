"""Which media sessions one broadcast has, and what follows from their coming, speaking and going.

Pure: no I/O, no clock, no tasks. The stage holds a dozen people; each has one voice: a person's new session replaces
their old one once it is heard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from lac.auth.sign_ins import SignInsEnded
from lac.broadcasts.model import Role
from lac.errors import ConflictError, TooManyRequestsError
from lac_media.parameters import Direction

#: Sessions that one person may have open in one broadcast: tabs, devices, reconnects that overlap.
SESSIONS_PER_OWNER = 10
#: People who may be on stage at once. The host always gets in.
STAGE_MAX = 12
#: Who keeps a show going by being heard. A guest speaker does not.
KEEPER_ROLES = frozenset({Role.ADMIN, Role.HOST, Role.COHOST})


class Closable(Protocol):
    """What the stage needs of a media session."""

    @property
    def id(self) -> str: ...

    @property
    def closed(self) -> bool: ...

    def close(self, reason: str) -> None: ...


@dataclass(slots=True, eq=False)
class MediaSession:
    """One session, from its opening to its close."""

    session: Closable
    owner: str
    role: Role
    number: int
    #: Of somebody without an account: the hash of where they come from.
    address_hash: str | None = None
    by_stream_key: bool = False
    sign_in_id: str | None = None
    connected: bool = False
    #: The program reaches it. Somebody on the stage may be sent single speakers instead.
    hears_program: bool = False
    #: The producer that is heard now.
    producer_id: str | None = None


class Stage:
    """See the module. Sessions are entered when they are open and leave with `closed`."""

    def __init__(self) -> None:
        self._sessions: dict[str, MediaSession] = {}
        #: Those of them that send: few beside thousands that listen, and looked at whenever anybody comes or goes.
        self._publishers: dict[str, MediaSession] = {}
        self._per_owner: Counter[str] = Counter()
        self._next_number = 1
        self._listeners = 0

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def listeners(self) -> int:
        """Sessions that the program reaches."""
        return self._listeners

    def role_of(self, owner: str) -> Role | None:
        if owner not in self._per_owner:
            return None
        return next((session.role for session in self._sessions.values() if session.owner == owner), None)

    def address_of(self, owner: str) -> str | None:
        return next((session.address_hash for session in self._sessions.values() if session.owner == owner), None)

    def publishers(self) -> dict[str, Role]:
        """Everyone with a session that sends."""
        return {session.owner: session.role for session in self._publishers.values()}

    def publishing_of(self, owner: str) -> list[Closable]:
        return [entry.session for entry in self._publishers.values() if entry.owner == owner]

    def opened_by_key(self) -> list[Closable]:
        """Sessions of encoders that presented the stream key."""
        return [entry.session for entry in self._sessions.values() if entry.by_stream_key]

    def opened_by(self, sign_ins: SignInsEnded) -> list[Closable]:
        """Sessions that were opened by one of these sign-ins."""
        return [
            entry.session
            for entry in self._sessions.values()
            if entry.owner == sign_ins.user_id and not entry.by_stream_key and sign_ins.has(entry.sign_in_id)
        ]

    def people(self) -> set[str]:
        """Everyone with a session."""
        return {entry.owner for entry in self._sessions.values()}

    def from_address(self, address_hash: str) -> list[Closable]:
        return [entry.session for entry in self._sessions.values() if entry.address_hash == address_hash]

    def speaking(self) -> dict[str, str]:
        """Producer id -> owner of what is heard now."""
        return {
            session.producer_id: session.owner
            for session in self._publishers.values()
            if session.producer_id is not None
        }

    def is_kept(self, is_muted: Callable[[str], bool]) -> bool:
        """True while a host or co-host is heard, or would be if nobody had muted them."""
        return any(
            session.role in KEEPER_ROLES
            and (session.producer_id is not None or (session.connected and is_muted(session.owner)))
            for session in self._publishers.values()
        )

    def check_publish(self, owner: str, role: Role) -> None:
        """`ConflictError` (`stage_full`) for one more than the stage holds."""
        others = self.publishers().keys() - {owner}
        if role is not Role.HOST and len(others) >= STAGE_MAX:
            raise ConflictError(
                f"The stage is full: {STAGE_MAX} people are on it. Try again when somebody has left.", code="stage_full"
            )

    @contextmanager
    def opening(self, owner: str) -> Iterator[None]:
        """Holds a place for a session that is being opened, so that the limit holds between the check and the entry."""
        if self._per_owner[owner] >= SESSIONS_PER_OWNER:
            raise TooManyRequestsError(
                "You have too many connections open in this show. Close one and try again.",
                retry_after_s=10,
                code="too_many_sessions",
            )
        self._per_owner[owner] += 1
        try:
            yield
        finally:
            self._release(owner)

    def opened(
        self,
        session: Closable,
        owner: str,
        role: Role,
        direction: Direction,
        *,
        address_hash: str | None = None,
        by_stream_key: bool = False,
        sign_in_id: str | None = None,
    ) -> MediaSession:
        entry = MediaSession(session, owner, role, self._next_number, address_hash, by_stream_key, sign_in_id)
        self._next_number += 1
        self._sessions[session.id] = entry
        if direction is Direction.SEND:
            self._publishers[session.id] = entry
        self._per_owner[owner] += 1
        return entry

    def connected(self, session_id: str) -> None:
        entry = self._sessions.get(session_id)
        if entry is not None and not entry.connected:
            entry.connected = True

    def hears_program(self, session_id: str, hears: bool) -> None:
        """The program reaches this session from now on, or no more."""
        entry = self._sessions.get(session_id)
        if entry is not None:
            self._listeners += hears - entry.hears_program
            entry.hears_program = hears

    def started(self, session_id: str, producer_id: str) -> list[tuple[Closable, str]]:
        """The session is heard. Returns whom to close for it, and why."""
        entry = self._sessions.get(session_id)
        if entry is None:
            return []
        entry.producer_id = producer_id
        return [
            (other.session, "replaced")
            for other in self._publishers.values()
            if other.owner == entry.owner and other.number < entry.number
        ]

    def stopped(self, session_id: str) -> None:
        entry = self._sessions.get(session_id)
        if entry is not None:
            entry.producer_id = None

    def closed(self, session_id: str) -> bool:
        """The session is gone. False if it was not known (any more)."""
        entry = self._sessions.pop(session_id, None)
        if entry is None:
            return False
        self._publishers.pop(session_id, None)
        self._listeners -= entry.hears_program
        self._release(entry.owner)
        return True

    def change_role(self, owner: str, role: Role) -> None:
        for session in self._sessions.values():
            if session.owner == owner:
                session.role = role

    def _release(self, owner: str) -> None:
        self._per_owner[owner] -= 1
        if not self._per_owner[owner]:
            del self._per_owner[owner]
