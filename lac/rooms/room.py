"""The shell round `RoomState`: sockets in, frames out. Chat, reactions, hands and moderation of one broadcast.

Runs inside the broadcast's task (`run_reactions`) and in the tasks of the sockets (`Member.handle`). Between a change
of the state and its notices there is no `await`, so everybody sees the changes in the order in which they happened.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Protocol

import structlog
import trio

from lac.broadcasts import policy
from lac.broadcasts.model import Role
from lac.clock import utc_now
from lac.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError
from lac.ids import new_id
from lac.rooms.messages import (
    Chat,
    ChatAccepted,
    ChatMessage,
    CloseCode,
    Command,
    Event,
    Leave,
    ListMembers,
    LowerHand,
    Mute,
    Person,
    RaiseHand,
    Reaction,
    Reactions,
    Reconnect,
    Remove,
    Unmute,
    Value,
    encode_event,
)
from lac.rooms.state import STAFF_ROLES, Actor, Audience, Group, Notice, RoomState
from lac.rooms.text import clean_chat_text, known_reaction, one_line

log = structlog.get_logger(__name__)

REACTION_INTERVAL_S = 0.25
#: Chat lines that may wait for the database; the next one is refused (503) instead of waiting.
CHAT_WAITING_MAX = 100
#: How long a line may wait for those before it. Each of them may take the database's own limits, one after the other.
CHAT_WAIT_S = 5.0
#: When the server goes away, clients come back to its successor one after the other, not all at once.
RECONNECT_FIRST_MS = 500
RECONNECT_STEP_MS = 10
RECONNECT_LAST_MS = 10_000


class Outlet(Protocol):
    """What the room needs of a socket."""

    def offer(self, frame: bytes) -> None:
        """Queue one text frame. Never blocks; bounded: when full the outlet closes itself with 1013."""

    def close(self, code: int, reason: str) -> None:
        """Ask the socket to close once what it was offered is out. Idempotent."""


class RoomOwner(Protocol):
    """What the room needs of the broadcast that it belongs to."""

    def media_time_s(self) -> float: ...

    def media_role(self, person_id: str) -> Role | None:
        """The role of somebody who has media sessions open, in the room or not."""

    async def absent_role(self, person_id: str) -> Role:
        """The role of an account that is not here now."""

    def person_muted(self, person_id: str) -> None: ...

    def person_unmuted(self, person_id: str) -> None: ...

    def person_removed(self, person_id: str) -> None: ...

    async def store_message(self, chat: Chat) -> None: ...

    async def store_ban(self, person_id: str, banned_by: str, reason: str | None) -> None: ...

    def record_reactions(self, counts: dict[str, int], media_time: float, at: datetime) -> None:
        """Never blocks."""

    def room_emptied(self) -> None:
        """The last socket has left."""


class Room:
    """The sockets of one broadcast and the state they share."""

    def __init__(self, broadcast_id: str, owner: RoomOwner, state: RoomState) -> None:
        self.state = state
        self._broadcast_id = broadcast_id
        self._owner = owner
        self._members: dict[str, Member] = {}
        self._reacted = trio.Event()
        # Stored first, then sent, one line after the other. Bounded by CHAT_WAITING_MAX; each waiting line is a socket
        # whose reader waits with it.
        self._chat_order = trio.Lock()
        self._closed = False

    def __len__(self) -> int:
        """Sockets, not people."""
        return len(self._members)

    def admit(self, outlet: Outlet, person_id: str, display_name: str, role: Role, *, anonymous: bool) -> Member:
        """Take in one socket. The others are told; what this one is told first is the caller's to offer."""
        notices = self.state.join(person_id, display_name, role, anonymous=anonymous)
        member = Member(self, new_id(), person_id, outlet)
        # In before the others are told: one of them may be full, leave, and must not leave an empty room.
        self._members[member.id] = member
        self.tell(notices, but=member)
        return member

    def tell(self, notices: Iterable[Notice], *, but: Member | None = None) -> None:
        for audience, event in notices:
            self.send(audience, event, but=but)

    def send(self, audience: Audience, event: Event, *, but: Member | None = None) -> None:
        """Build the frame once and offer it to every socket of the audience."""
        members = [member for member in self._audience(audience) if member is not but]
        if members:
            frame = encode_event(event)
            for member in members:
                member.outlet.offer(frame)

    def has_staff(self) -> bool:
        return any(self.state.role_of(member.person_id) in STAFF_ROLES for member in self._members.values())

    def close(self, code: int, reason: str) -> None:
        """Close every socket after what it was offered so far. Nobody comes in any more."""
        self._closed = True
        members, self._members = list(self._members.values()), {}
        for member in members:
            member.detach()
            self.state.leave(member.person_id)
            member.outlet.close(code, reason)

    def send_away(self) -> None:
        """Tell everyone to come back in a moment, each at another one, and close with 1001."""
        for index, member in enumerate(list(self._members.values())):
            after_ms = min(RECONNECT_FIRST_MS + index * RECONNECT_STEP_MS, RECONNECT_LAST_MS)
            member.outlet.offer(encode_event(Reconnect(after_ms=after_ms)))
        self.close(CloseCode.SHUTTING_DOWN, "the server is shutting down")

    async def run_reactions(self) -> None:
        """Send what was reacted, merged: at most one event every REACTION_INTERVAL_S, none when nobody reacts."""
        while True:
            await self._reacted.wait()
            await trio.sleep(REACTION_INTERVAL_S)
            self._reacted = trio.Event()
            counts = self.state.take_reactions()
            media_time = self._owner.media_time_s()
            self.send(Group.EVERYONE, Reactions(counts=counts, media_time=media_time))
            self._owner.record_reactions(counts, media_time, utc_now())

    # commands

    async def handle(self, member: Member, command: Command) -> Event | Value | None:
        actor = Actor(member.person_id, self.state.person(member.person_id).role)
        match command:
            case ChatMessage(text=text):
                return await self._chat(member.person_id, text)
            case Reaction(emoji=emoji):
                self.state.react(known_reaction(emoji))
                self._reacted.set()
            case RaiseHand(note=note):
                raised, notices = self.state.raise_hand(actor.id, one_line(note or "") or None, utc_now())
                self.tell(notices)
                return raised
            case LowerHand(user_id=person_id):
                self.tell(self.state.lower_hand(actor, person_id))
            case Mute(user_id=person_id):
                role = await self._role_of(actor, person_id)
                self.tell(self.state.mute(actor, person_id, role))
                self._owner.person_muted(person_id)
            case Unmute(user_id=person_id):
                role = await self._role_of(actor, person_id)
                self.tell(self.state.unmute(actor, person_id, role))
                self._owner.person_unmuted(person_id)
            case Remove(user_id=person_id, reason=reason, ban=ban):
                await self.remove(actor, person_id, reason, ban=ban)
            case ListMembers(cursor=cursor):
                return self.state.page_of_members(cursor)
            case Leave():
                member.leave()
                member.outlet.close(CloseCode.LEFT, "left")
            case _:
                raise InvalidInputError("You are in the room already.", code="already_joined")
        return None

    async def remove(self, actor: Actor, person_id: str, reason: str | None, *, ban: bool) -> None:
        """Close the person's sockets and media now and keep them out; with `ban` also after a restart."""
        reason = one_line(reason or "") or None
        role = await self._role_of(actor, person_id, may_be_absent=ban)
        self.tell(self.state.remove(actor, person_id, role, reason))
        for member in [member for member in self._members.values() if member.person_id == person_id]:
            member.outlet.close(CloseCode.REMOVED, reason or "removed")
            member.leave()
        self._owner.person_removed(person_id)
        log.info("person removed", broadcast_id=self._broadcast_id, person_id=person_id, actor_id=actor.id, ban=ban)
        if ban:
            await self._owner.store_ban(person_id, actor.id, reason)

    async def _chat(self, person_id: str, text: str) -> ChatAccepted:
        text = clean_chat_text(text)
        if self._chat_order.statistics().tasks_waiting >= CHAT_WAITING_MAX:
            raise UnavailableError("The chat is busy. Send the message again in a moment.", code="chat_busy")
        author = self.state.person(person_id)
        async with self._chat_turn():
            chat = Chat(
                id=new_id(),
                user=author,
                text=text,
                media_time=self._owner.media_time_s(),
                at=utc_now(),
            )
            await self._owner.store_message(chat)
            # The author may have left meanwhile, or been removed: what is stored is part of the show and is sent.
            self.tell(self.state.add_message(chat))
        return ChatAccepted(id=chat.id, at=chat.at, media_time=chat.media_time)

    # inside

    @asynccontextmanager
    async def _chat_turn(self) -> AsyncGenerator[None, None]:
        with trio.move_on_after(CHAT_WAIT_S) as waiting:
            await self._chat_order.acquire()
        if waiting.cancelled_caught:
            raise UnavailableError("The chat is busy. Send the message again in a moment.", code="chat_busy")
        try:
            yield
        finally:
            self._chat_order.release()

    def _audience(self, audience: Audience) -> list[Member]:
        """A copy: an outlet that is full closes itself while it is offered a frame."""
        members = self._members.values()
        match audience:
            case Group.EVERYONE:
                return list(members)
            case Group.STAFF:
                return [member for member in members if self.state.role_of(member.person_id) in STAFF_ROLES]
            case only:
                return [member for member in members if member.person_id == only.person_id]

    async def _role_of(self, actor: Actor, person_id: str, *, may_be_absent: bool = False) -> Role:
        """The role of whoever is commanded about: in the room, on the stage, or (muted, or to be banned) away."""
        policy.may_moderate(actor.role)
        role = self.state.role_of(person_id) or self._owner.media_role(person_id)
        if role is not None:
            return role
        if not may_be_absent and not self.state.is_muted(person_id):
            raise NotFoundError("Nobody with this id is in the show.", code="no_such_person")
        return await self._owner.absent_role(person_id)

    def _left(self, member: Member) -> None:
        """`member` has detached itself."""
        del self._members[member.id]
        self.tell(self.state.leave(member.person_id))
        if not self._members and not self._closed:
            self._owner.room_emptied()


class Member:
    """One socket's place in a room."""

    def __init__(self, room: Room, member_id: str, person_id: str, outlet: Outlet) -> None:
        self.id = member_id
        self.person_id = person_id
        self.outlet = outlet
        self._room: Room | None = room
        self._last_person = room.state.person(person_id)

    @property
    def person(self) -> Person:
        """As the others see them; after leaving, as they were when they came."""
        return self._room.state.person(self.person_id) if self._room is not None else self._last_person

    async def handle(self, command: Command) -> Event | Value | None:
        """Do what the socket asks. Returns the data of the acknowledgement; raises `LacError`."""
        if self._room is None:
            raise ConflictError("You have left this show.", code="left")
        return await self._room.handle(self, command)

    def leave(self) -> None:
        """Take the socket out of the room. Idempotent, also after the room itself has closed."""
        if self._room is not None:
            room = self._room
            self.detach()
            room._left(self)

    def detach(self) -> None:
        """For the room alone, which forgets this member at the same time."""
        self._room = None
