"""The state of one room: who is in it, what they may see, and what each change tells to whom.

Pure: no I/O, no clock, no tasks. A method takes a fact or a command and returns the notices that follow from it; the
change is complete when it returns. A command that is refused raises a `LacError` and changes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from lac.broadcasts import policy
from lac.broadcasts.model import Role
from lac.errors import ConflictError, ForbiddenError, InvalidInputError
from lac.rooms.messages import (
    Chat,
    ChatMessageSent,
    Event,
    Hand,
    HandLowered,
    HandRaised,
    MemberPage,
    Muted,
    Person,
    ProducerInfo,
    Removed,
    RoleChanged,
    RoomSize,
    SpeakersChanged,
    Unmuted,
    UserJoined,
    UserLeft,
)

#: With more people than this a room is large: listeners come and go without an announcement each, because a thousand
#: joins must not make a million messages.
LARGE_ROOM = 100
#: A large room is small again at this size, not at LARGE_ROOM: one person who comes and goes must not flip it.
SMALL_AGAIN = 80
RECENT_MESSAGES = 50
#: Longest queue of raised hands; it is sent whole to everyone who joins.
HANDS_MAX = 200
PAGE_SIZE = 100

STAFF_ROLES = frozenset({Role.ADMIN, Role.HOST, Role.COHOST, Role.MODERATOR})
#: 0 is the strongest: the order in which the roles are declared.
_RANK = {role: rank for rank, role in enumerate(Role)}


class Group(Enum):
    EVERYONE = "everyone"
    #: Those who moderate: admin, host, co-hosts, moderators.
    STAFF = "staff"


@dataclass(frozen=True, slots=True)
class Only:
    """One person, on all their sockets."""

    person_id: str


Audience = Group | Only
Notice = tuple[Audience, Event]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who gives a command. Need not be in the room: moderation comes through the API too."""

    id: str
    role: Role


@dataclass(slots=True)
class _Entry:
    """One person in the room; `number` grows with every arrival and is the member list's cursor."""

    number: int
    display_name: str
    role: Role
    anonymous: bool
    sockets: int = 1


class RoomState:
    """See the module. People are counted once however many sockets they have.

    Mutes belong to a person's id, not to their presence: they hold when the person goes and comes back. So do
    removals, which the caller shares between the rooms that one broadcast has in turn (`removed`).
    """

    def __init__(self, recent: Iterable[Chat] = (), removed: set[str] | None = None) -> None:
        self._entries: dict[str, _Entry] = {}
        self._next_number = 1
        self._large = False
        self._hands: dict[str, Hand] = {}
        #: Person -> the strongest role that muted them: weaker ones cannot undo it.
        self._muted: dict[str, Role] = {}
        self._removed = set() if removed is None else removed
        #: Producer id -> owner.
        self._speaking: dict[str, str] = {}
        #: At most one entry for each of the allowed reactions.
        self._reactions: dict[str, int] = {}
        # When full the oldest goes: it is still in the database.
        self._recent: deque[Chat] = deque(recent, maxlen=RECENT_MESSAGES)

    # what it is

    def __contains__(self, person_id: str) -> bool:
        return person_id in self._entries

    @property
    def member_count(self) -> int:
        return len(self._entries)

    @property
    def announces_everyone(self) -> bool:
        return not self._large

    def sockets_of(self, person_id: str) -> int:
        entry = self._entries.get(person_id)
        return entry.sockets if entry is not None else 0

    def role_of(self, person_id: str) -> Role | None:
        entry = self._entries.get(person_id)
        return entry.role if entry is not None else None

    def is_muted(self, person_id: str) -> bool:
        return person_id in self._muted

    def is_removed(self, person_id: str) -> bool:
        return person_id in self._removed

    @property
    def muted(self) -> frozenset[str]:
        return frozenset(self._muted)

    def person(self, person_id: str) -> Person:
        """How the others see this person. `KeyError` for somebody who is not in."""
        entry = self._entries[person_id]
        return Person(
            id=person_id,
            display_name=entry.display_name,
            role=entry.role,
            anonymous=entry.anonymous,
            muted=person_id in self._muted,
            speaking=person_id in self._speaking.values(),
        )

    def members(self) -> list[Person]:
        """Whom a newcomer is shown at once: everyone in a small room; only those with a role in a large one."""
        return [
            self.person(person_id)
            for person_id, entry in self._entries.items()
            if not self._large or entry.role is not Role.LISTENER
        ]

    def page_of_members(self, cursor: str | None) -> MemberPage:
        """Everyone in order of arrival, `PAGE_SIZE` at a time. Who comes or goes while somebody is paging makes nobody
        else appear twice or not at all."""
        if cursor is not None and not (cursor.isascii() and cursor.isdigit()):
            raise InvalidInputError("Use the `nextCursor` of the page before.", code="bad_cursor")
        after = int(cursor) if cursor is not None else 0
        page: list[Person] = []
        last = after
        for person_id, entry in self._entries.items():  # in order of `number`: entries are only ever appended
            if entry.number <= after:
                continue
            if len(page) == PAGE_SIZE:
                return MemberPage(items=page, next_cursor=str(last))
            page.append(self.person(person_id))
            last = entry.number
        return MemberPage(items=page, next_cursor=None)

    def hands(self) -> list[Hand]:
        """Raised hands, the next one first."""
        return list(self._hands.values())

    def producers(self) -> list[ProducerInfo]:
        return [ProducerInfo(id=producer_id, user_id=owner) for producer_id, owner in self._speaking.items()]

    def recent_messages(self) -> list[Chat]:
        return list(self._recent)

    # facts

    def join(self, person_id: str, display_name: str, role: Role, *, anonymous: bool) -> list[Notice]:
        """One more socket of this person. The notices are for those who were in before."""
        entry = self._entries.get(person_id)
        if entry is not None:
            entry.sockets += 1
            notices = self.change_role(person_id, role)
            if entry.display_name != display_name:
                entry.display_name = display_name
                if self._announces(role):
                    notices.append((Group.EVERYONE, UserJoined(user=self.person(person_id))))
            return notices
        self._entries[person_id] = _Entry(self._next_number, display_name, role, anonymous)
        self._next_number += 1
        notices = []
        if not self._large and len(self._entries) > LARGE_ROOM:
            self._large = True
            notices.append(self._size_notice())
        if self._announces(role):
            notices.append((Group.EVERYONE, UserJoined(user=self.person(person_id))))
        return notices

    def leave(self, person_id: str) -> list[Notice]:
        """One socket fewer of this person; with the last one they have left. `KeyError` for somebody who is not in."""
        entry = self._entries[person_id]
        entry.sockets -= 1
        if entry.sockets > 0:
            return []
        notices = self._drop_hand(person_id)
        del self._entries[person_id]
        if self._announces(entry.role):
            notices.append((Group.EVERYONE, UserLeft(user_id=person_id)))
        if self._large and len(self._entries) <= SMALL_AGAIN:
            self._large = False
            notices.append(self._size_notice())
        return notices

    def change_role(self, person_id: str, role: Role) -> list[Notice]:
        """A no-op for somebody who is not in, or has that role already."""
        entry = self._entries.get(person_id)
        if entry is None or entry.role is role:
            return []
        entry.role = role
        return [(Group.EVERYONE, RoleChanged(user=self.person(person_id)))]

    def change_speakers(self, speaking: Mapping[str, str]) -> list[Notice]:
        """`speaking`: producer id -> owner, of all whose audio reaches the program."""
        if self._speaking == speaking:
            return []
        self._speaking = dict(speaking)
        return [(Group.EVERYONE, SpeakersChanged(producers=self.producers()))]

    def add_message(self, chat: Chat) -> list[Notice]:
        """`chat` is stored; from now on newcomers get it too."""
        self._recent.append(chat)
        event = ChatMessageSent(id=chat.id, user=chat.user, text=chat.text, media_time=chat.media_time, at=chat.at)
        return [(Group.EVERYONE, event)]

    def react(self, reaction: str) -> None:
        """Count one of the known reactions; `take_reactions` says what came together."""
        self._reactions[reaction] = self._reactions.get(reaction, 0) + 1

    def take_reactions(self) -> dict[str, int]:
        taken, self._reactions = self._reactions, {}
        return taken

    # commands

    def raise_hand(self, person_id: str, note: str | None, at: datetime) -> tuple[HandRaised, list[Notice]]:
        """Queue this person's hand, or change its note: its place in the queue stays. Raises `ConflictError`."""
        raised = self._hands.get(person_id)
        if raised is None and len(self._hands) >= HANDS_MAX:
            raise ConflictError("Too many hands are up already. Try again in a while.", code="hands_full")
        hand = Hand(
            user_id=person_id,
            display_name=self._entries[person_id].display_name,
            note=note,
            raised_at=raised.raised_at if raised is not None else at,
        )
        self._hands[person_id] = hand
        event = HandRaised(
            user_id=person_id,
            display_name=hand.display_name,
            note=note,
            raised_at=hand.raised_at,
            position=list(self._hands).index(person_id) + 1,
        )
        return event, [] if raised == hand else [(Group.EVERYONE, event)]

    def lower_hand(self, actor: Actor, person_id: str | None = None) -> list[Notice]:
        """One's own hand, or as a moderator anybody's. A hand that is not up is no error: it is down."""
        if person_id is not None and person_id != actor.id:
            policy.may_moderate(actor.role)
        return self._drop_hand(person_id if person_id is not None else actor.id)

    def mute(self, actor: Actor, person_id: str, role: Role) -> list[Notice]:
        """`role` is the person's: they may be on the stage without being in the room."""
        self._check_moderation(actor, role)
        already = self._muted.get(person_id)
        if already is None or _RANK[actor.role] < _RANK[already]:
            self._muted[person_id] = actor.role
        return [] if already is not None else [(Group.EVERYONE, Muted(user_id=person_id))]

    def unmute(self, actor: Actor, person_id: str, role: Role) -> list[Notice]:
        self._check_moderation(actor, role)
        muted_by = self._muted.get(person_id)
        if muted_by is None:
            return []
        if _RANK[actor.role] > _RANK[muted_by]:
            raise ForbiddenError("Somebody with a stronger role has muted this person.", code="stronger_role")
        del self._muted[person_id]
        return [(Group.EVERYONE, Unmuted(user_id=person_id))]

    def remove(self, actor: Actor, person_id: str, role: Role, reason: str | None) -> list[Notice]:
        """From now on `is_removed`. The caller closes the person's sockets, each of which then leaves."""
        self._check_moderation(actor, role)
        if person_id == actor.id:
            raise InvalidInputError("You cannot remove yourself. Leave instead.", code="not_yourself")
        self._removed.add(person_id)
        return [(Only(person_id), Removed(reason=reason))]

    def readmit(self, person_id: str) -> None:
        self._removed.discard(person_id)

    # inside

    def _announces(self, role: Role) -> bool:
        return not self._large or role is not Role.LISTENER

    def _size_notice(self) -> Notice:
        return (
            Group.EVERYONE,
            RoomSize(announces_everyone=not self._large, member_count=len(self._entries)),
        )

    def _drop_hand(self, person_id: str) -> list[Notice]:
        if self._hands.pop(person_id, None) is None:
            return []
        return [(Group.EVERYONE, HandLowered(user_id=person_id))]

    @staticmethod
    def _check_moderation(actor: Actor, role: Role) -> None:
        policy.may_moderate(actor.role)
        if _RANK[role] < _RANK[actor.role]:
            raise ForbiddenError("This person's role is stronger than yours.", code="stronger_role")
