"""The shell round `RoomState`: sockets in, frames out. Chat, reactions, hands and moderation of one broadcast.

Runs inside the broadcast's task (`run_reactions`) and in the tasks of the sockets (`Member.handle`). Between a change
of the state and its notices there is no `await`, so everybody sees the changes in the order in which they happened.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

import structlog
import trio

from lac.auth.sign_ins import SignInsEnded
from lac.broadcasts import policy
from lac.broadcasts.model import ChatMode, Role
from lac.clock import utc_now
from lac.errors import ConflictError, FieldError, InvalidInputError, UnavailableError
from lac.ids import new_id, repeatable_id
from lac.rooms.acts import RoomAct, audited
from lac.rooms.commands import COMMAND_NAMES, ChatMessage, Command, Leave, ListMembers, RaiseHand, Reaction, Remove
from lac.rooms.events import CloseCode, Event, Reactions, Reconnect, Removed, encode_event
from lac.rooms.kept_out import Exclusion
from lac.rooms.moderation import ModeratedBroadcast, Moderation
from lac.rooms.state import STAFF_ROLES, Actor, Audience, Group, Notice, Only, RoomState
from lac.rooms.text import clean_chat_text, known_reaction, one_line
from lac.rooms.values import Chat, ChatAccepted, Person, Value

if TYPE_CHECKING:
    from lac.rooms.room_records import RoomRecords

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


class RoomOwner(ModeratedBroadcast, Protocol):
    """What the room needs of the broadcast that it belongs to."""

    def media_time_s(self) -> float: ...

    def media_address(self, person_id: str) -> str | None:
        """The hash of the address of a guest who has media sessions open."""

    def person_removed(self, person_id: str, reason: str = "removed") -> None: ...

    def address_removed(self, address_hash: str) -> None:
        """End the media of everyone without an account who comes from there."""

    async def follows_host(self, person_id: str) -> bool: ...

    def room_emptied(self) -> None:
        """The last socket has left."""


class Room:
    """The sockets of one broadcast and the state they share."""

    def __init__(self, broadcast_id: str, owner: RoomOwner, records: RoomRecords, state: RoomState) -> None:
        self.state = state
        self._broadcast_id = broadcast_id
        self._owner = owner
        self._records = records
        self._members: dict[str, Member] = {}
        self._reacted = trio.Event()
        # Stored first, then sent, one line after the other. Bounded by CHAT_WAITING_MAX; each waiting line is a socket
        # whose reader waits with it.
        self._chat_order = trio.Lock()
        self.moderation = Moderation(owner, records, state, self.tell, self._chat_order)
        self._closed = False

    def __len__(self) -> int:
        """Sockets, not people."""
        return len(self._members)

    def admit(
        self,
        outlet: Outlet,
        person_id: str,
        display_name: str,
        role: Role,
        *,
        anonymous: bool,
        address_hash: str | None = None,
        sign_in_id: str | None = None,
    ) -> Member:
        """Take in one socket. The others are told; what this one is told first is the caller's to offer.
        `address_hash` is a guest's."""
        notices = self.state.join(person_id, display_name, role, anonymous=anonymous, address_hash=address_hash)
        member = Member(self, new_id(), person_id, outlet, sign_in_id=sign_in_id)
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
            self._records.record_reactions(counts, media_time, utc_now())

    # commands

    async def handle(self, member: Member, command: Command) -> Event | Value | None:
        person = self.state.person(member.person_id)
        policy.require_event(COMMAND_NAMES[type(command)], person.role, anonymous=person.anonymous)
        actor = Actor(person.id, person.role)
        match command:
            case ChatMessage(text=text, client_id=client_id):
                return await self._chat(member.person_id, text, client_id)
            case Reaction(emoji=emoji):
                self.state.react(known_reaction(emoji))
                self._reacted.set()
            case RaiseHand(note=note):
                raised, notices = self.state.raise_hand(actor.id, one_line(note or "") or None, utc_now())
                self.tell(notices)
                return raised
            case Remove(user_id=person_id, reason=reason, ban=ban, until=until):
                await self.remove(actor, person_id, reason, ban=ban, until=until)
            case ListMembers(cursor=cursor):
                return self.state.page_of_members(cursor)
            case Leave():
                member.leave()
                member.outlet.close(CloseCode.LEFT, "left")
            case _:
                return await self.moderation.handle(actor, command)
        return None

    async def remove(
        self, actor: Actor, person_id: str, reason: str | None, *, ban: bool, until: datetime | None = None
    ) -> None:
        """Close the person's sockets and media now and keep them out; with `ban` also after a restart, for good or
        `until`, and a guest's address with them."""
        check_ban(ban=ban, until=until)
        reason = one_line(reason or "") or None
        role = await self.moderation.role_of(actor, person_id, may_be_absent=ban)
        exclusion = None
        if ban:
            address_hash = self.state.address_of(person_id) or self._owner.media_address(person_id)
            exclusion = Exclusion(person_id, address_hash, until)
        self.tell(self.state.remove(actor, person_id, role, reason, exclusion=exclusion))
        self.let_go(person_id, reason or "removed")
        if exclusion is not None and exclusion.address_hash is not None:
            self._let_go_address(exclusion, reason)
        log.info("person removed", broadcast_id=self._broadcast_id, person_id=person_id, actor_id=actor.id, ban=ban)
        if exclusion is None:
            self._records.audit(audited(RoomAct.REMOVED, actor.id, person_id, reason=reason))
        else:
            line = audited(
                RoomAct.BANNED, actor.id, person_id, reason=reason, until=None if until is None else until.isoformat()
            )
            await self._records.store_ban(exclusion, reason, line)

    def people(self) -> set[str]:
        """Everyone with a socket here."""
        return {member.person_id for member in self._members.values()}

    def let_go(self, person_id: str, reason: str, *, code: int = CloseCode.REMOVED) -> None:
        """Close the person's sockets and media now."""
        for member in [member for member in self._members.values() if member.person_id == person_id]:
            member.outlet.close(code, reason)
            member.leave()
        self._owner.person_removed(person_id)

    def sign_ins_ended(self, ended: SignInsEnded) -> None:
        """Close the sockets that came in by them, now."""
        for member in [member for member in self._members.values() if member.person_id == ended.user_id]:
            if ended.has(member.sign_in_id):
                member.outlet.close(CloseCode.NOT_SIGNED_IN, "your sign-in has ended")
                member.leave()

    def _let_go_address(self, ban: Exclusion, reason: str | None) -> None:
        """The others without an account who come from a banned address: usually the same person in another tab."""
        for person_id in [other for other in self.people() if self.state.address_of(other) == ban.address_hash]:
            self.send(Only(person_id), Removed(reason, banned=True, until=ban.until))
            self.let_go(person_id, reason or "removed")
        if ban.address_hash is not None:
            self._owner.address_removed(ban.address_hash)

    async def _chat(self, person_id: str, text: str, client_id: str | None) -> ChatAccepted:
        text = clean_chat_text(text)
        message_id = new_id() if client_id is None else repeatable_id(self._broadcast_id, person_id, client_id)
        known = self.state.chat.find(message_id)
        if known is not None:
            return ChatAccepted(id=known.id, at=known.at, media_time=known.media_time)
        if self._chat_order.statistics().tasks_waiting >= CHAT_WAITING_MAX:
            raise UnavailableError("The chat is busy. Send the message again in a moment.", code="chat_busy")
        author = self.state.person(person_id)
        follows = False
        if self.state.settings.chat_mode is ChatMode.FOLLOWERS and author.role is Role.LISTENER:
            follows = not author.anonymous and await self._owner.follows_host(person_id)
            if person_id not in self.state:
                raise ConflictError("You have left this show.", code="left")
        self.state.check_chat(person_id, follows=follows, now=trio.current_time())
        try:
            return await self._send_chat(author, text, message_id)
        except Exception:  # nothing was sent: it does not count
            self.state.give_back_chat(person_id)
            raise

    async def _send_chat(self, author: Person, text: str, message_id: str) -> ChatAccepted:
        async with self._chat_turn():
            chat = Chat(
                id=message_id,
                user=author,
                text=text,
                media_time=self._owner.media_time_s(),
                at=utc_now(),
            )
            stored = await self._records.store_message(chat)
            # The author may have left meanwhile, or been removed: what is stored is part of the show and is sent. One
            # that was stored before and is not known here was refused then: its answer came too late.
            if stored is not None and stored.id not in self.state.chat:
                chat = stored
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

    def _left(self, member: Member) -> None:
        """`member` has detached itself."""
        del self._members[member.id]
        self.tell(self.state.leave(member.person_id))
        if not self._members and not self._closed:
            self._owner.room_emptied()


class Member:
    """One socket's place in a room."""

    def __init__(
        self, room: Room, member_id: str, person_id: str, outlet: Outlet, *, sign_in_id: str | None = None
    ) -> None:
        self.id = member_id
        self.person_id = person_id
        self.sign_in_id = sign_in_id
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


def check_ban(*, ban: bool, until: datetime | None) -> None:
    """Raise `InvalidInputError` for an end time that makes no sense."""
    if until is not None and not ban:
        raise InvalidInputError("Only a ban has an end time.", FieldError("until", "is only for bans"))
    if until is not None and until <= utc_now():
        raise InvalidInputError("The ban would be over already.", FieldError("until", "is in the past"))
