"""The state of one room: who is in it, what they may see, and what each change tells to whom.

Pure: no I/O, no clock, no tasks. A method takes a fact or a command and returns the notices that follow from it; the
change is complete when it returns. A command that is refused raises a `LacError` and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from lac.broadcasts import policy
from lac.broadcasts.model import ChatMode, Role, RoomSettings
from lac.broadcasts.policy import RANK, Act
from lac.errors import ConflictError, ForbiddenError, InvalidInputError
from lac.rooms.chat_rules import SlowMode, check_chat_mode
from lac.rooms.events import (
    ChatMessageSent,
    ChatModeSet,
    Event,
    HandLowered,
    HandMoved,
    HandRaised,
    InvitedToSpeak,
    InviteEnded,
    MessageDeleted,
    MessagesCleared,
    Muted,
    Removed,
    RoleChanged,
    RoomLocked,
    RoomSize,
    SlowModeSet,
    SpeakersChanged,
    Unmuted,
    UserJoined,
    UserLeft,
)
from lac.rooms.hands import Hands, Shifts
from lac.rooms.invites import Invites
from lac.rooms.kept_out import Exclusion, KeptOut
from lac.rooms.mutes import Mutes
from lac.rooms.recent_chat import RecentChat
from lac.rooms.values import Chat, Hand, MemberPage, Person, ProducerInfo, Speaking

#: With more people than this a room is large: listeners come and go without an announcement each, because a thousand
#: joins must not make a million messages.
LARGE_ROOM = 100
#: A large room is small again at this size, not at LARGE_ROOM: one person who comes and goes must not flip it.
SMALL_AGAIN = 80
PAGE_SIZE = 100

STAFF_ROLES = policy.ALLOWED[Act.MODERATE]
ON_STAGE_ROLES = policy.ALLOWED[Act.PUBLISH]


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
    address_hash: str | None
    sockets: int = 1


class RoomState:
    """See the module. People are counted once however many sockets they have.

    Mutes, invitations and the waiting of slow mode belong to a person's id, not to their presence: they hold when the
    person goes and comes back. So do removals, which the caller shares between the rooms that one broadcast has in turn
    (`kept_out`).
    """

    def __init__(
        self, recent: Iterable[Chat] = (), kept_out: KeptOut | None = None, settings: RoomSettings | None = None
    ) -> None:
        self.settings = settings or RoomSettings()
        self.kept_out = KeptOut() if kept_out is None else kept_out
        self.chat = RecentChat(recent)
        self.invites = Invites()
        self._entries: dict[str, _Entry] = {}
        self._next_number = 1
        self._large = False
        self._hands = Hands()
        self._mutes = Mutes()
        self._slow_mode = SlowMode()
        #: Who was in when the room was locked.
        self._known: frozenset[str] = frozenset()
        #: Producer id -> owner.
        self._speaking: dict[str, str] = {}
        self._levels: tuple[tuple[str, int], ...] = ()
        #: At most one entry for each of the allowed reactions.
        self._reactions: dict[str, int] = {}

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
        return person_id in self._mutes

    def address_of(self, person_id: str) -> str | None:
        """The hash of a guest's address; None for everybody else."""
        entry = self._entries.get(person_id)
        return None if entry is None else entry.address_hash

    def check_lock(self, person_id: str | None, role: Role) -> None:
        """Raise `ForbiddenError` (room_locked) for a newcomer while the room is locked. None: somebody without a
        token."""
        if not self.settings.locked or role is not Role.LISTENER:
            return
        if person_id is None or (person_id not in self._known and person_id not in self._entries):
            raise ForbiddenError("The room is locked: nobody new comes in just now.", code="room_locked")

    @property
    def muted(self) -> frozenset[str]:
        return self._mutes.people()

    def person(self, person_id: str) -> Person:
        """How the others see this person. `KeyError` for somebody who is not in."""
        entry = self._entries[person_id]
        return Person(
            id=person_id,
            display_name=entry.display_name,
            role=entry.role,
            anonymous=entry.anonymous,
            muted=person_id in self._mutes,
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
        return self._hands.listed()

    def producers(self) -> list[ProducerInfo]:
        return [ProducerInfo(id=producer_id, user_id=owner) for producer_id, owner in self._speaking.items()]

    # facts

    def join(
        self,
        person_id: str,
        display_name: str,
        role: Role,
        *,
        anonymous: bool,
        address_hash: str | None = None,
    ) -> list[Notice]:
        """One more socket of this person. The notices are for those who were in before."""
        entry = self._entries.get(person_id)
        if entry is not None:
            entry.sockets += 1
            entry.address_hash = address_hash
            notices = self.change_role(person_id, role)
            if entry.display_name != display_name:
                entry.display_name = display_name
                if self._announces(role):
                    notices.append((Group.EVERYONE, UserJoined(user=self.person(person_id))))
            return notices
        self._entries[person_id] = _Entry(self._next_number, display_name, role, anonymous, address_hash)
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
        before, entry.role = entry.role, role
        notices: list[Notice] = [(Group.EVERYONE, RoleChanged(user=self.person(person_id)))]
        if role in ON_STAGE_ROLES and before not in ON_STAGE_ROLES:
            notices += self._drop_hand(person_id)
        if role is not Role.LISTENER:
            notices += self._end_invite(person_id, "accepted")
        if before in STAFF_ROLES and role not in STAFF_ROLES:
            # What they offered was theirs to offer only while they moderated.
            for invited in self.invites.made_by(person_id):
                notices += self._end_invite(invited, "withdrawn")
        return notices

    def change_speakers(self, speaking: Mapping[str, str]) -> list[Notice]:
        """`speaking`: producer id -> owner, of all whose audio reaches the program."""
        if self._speaking == speaking:
            return []
        self._speaking = dict(speaking)
        notices: list[Notice] = [self._speakers_changed()]
        for owner in dict.fromkeys(speaking.values()):
            notices += self._drop_hand(owner)
        return notices

    def change_levels(self, levels: Sequence[tuple[str, int]]) -> list[Notice]:
        """Who is speaking, and how loud: owner and dBov, the loudest first."""
        self._levels = tuple(levels)
        return [self._speakers_changed()]

    def _speakers_changed(self) -> Notice:
        on_stage = set(self._speaking.values())
        speaking = [Speaking(user_id=owner, level=level) for owner, level in self._levels if owner in on_stage]
        return Group.EVERYONE, SpeakersChanged(producers=self.producers(), speaking=speaking)

    def add_message(self, chat: Chat) -> list[Notice]:
        """`chat` is stored; from now on newcomers get it too."""
        self.chat.add(chat)
        event = ChatMessageSent(id=chat.id, user=chat.user, text=chat.text, media_time=chat.media_time, at=chat.at)
        return [(Group.EVERYONE, event)]

    def check_chat(self, person_id: str, *, follows: bool, now: float) -> None:
        """Count one message of this person, or raise (`chat_closed`, `followers_only`, `slow_mode`). `now` is
        monotonic."""
        role = self._entries[person_id].role
        check_chat_mode(self.settings.chat_mode, role, follows=follows)
        if role not in STAFF_ROLES:
            self._slow_mode.take(person_id, self.settings.slow_mode_s, now, address_hash=self.address_of(person_id))

    def give_back_chat(self, person_id: str) -> None:
        """The message that was counted could not be sent."""
        self._slow_mode.give_back(person_id)

    def delete_message(self, message_id: str) -> list[Notice]:
        """It is deleted: from now on newcomers do not get it."""
        self.chat.forget({message_id})
        return [(Group.EVERYONE, MessageDeleted(id=message_id))]

    def clear_messages(self, person_id: str, message_ids: Iterable[str]) -> list[Notice]:
        """These, all of this person's, are deleted."""
        self.chat.forget(set(message_ids))
        return [(Group.EVERYONE, MessagesCleared(user_id=person_id))]

    def change_settings(self, settings: RoomSettings) -> list[Notice]:
        before, self.settings = self.settings, settings
        notices: list[Notice] = []
        if settings.slow_mode_s != before.slow_mode_s:
            notices.append((Group.EVERYONE, SlowModeSet(seconds=settings.slow_mode_s)))
        if settings.chat_mode is not before.chat_mode:
            notices.append((Group.EVERYONE, ChatModeSet(mode=settings.chat_mode)))
        if settings.locked is not before.locked:
            self._known = frozenset(self._entries) if settings.locked else frozenset()
            notices.append((Group.EVERYONE, RoomLocked(locked=settings.locked)))
        return notices

    def react(self, reaction: str) -> None:
        """Count one of the known reactions; `take_reactions` says what came together."""
        self._reactions[reaction] = self._reactions.get(reaction, 0) + 1

    def take_reactions(self) -> dict[str, int]:
        taken, self._reactions = self._reactions, {}
        return taken

    # commands

    def raise_hand(self, person_id: str, note: str | None, at: datetime) -> tuple[HandRaised, list[Notice]]:
        """Queue this person's hand, or change its note: its place in the queue stays. Raises `ConflictError`."""
        if person_id in self._speaking.values():
            raise ConflictError("You are on the stage already.", code="on_stage")
        event, changed = self._hands.raise_hand(person_id, self._entries[person_id].display_name, note, at)
        return event, [(Group.EVERYONE, event)] if changed else []

    def lower_hand(self, actor: Actor, person_id: str | None = None) -> list[Notice]:
        """One's own hand, or as a moderator anybody's. A hand that is not up is no error: it is down."""
        if person_id is not None and person_id != actor.id:
            policy.may_moderate(actor.role)
        return self._drop_hand(person_id if person_id is not None else actor.id)

    def move_hand(self, actor: Actor, person_id: str, position: int) -> list[Notice]:
        policy.may_moderate(actor.role)
        moved, shifts = self._hands.move(person_id, position)
        return self._hand_notices(moved, shifts)

    def mute(self, actor: Actor, person_id: str, role: Role) -> list[Notice]:
        """`role` is the person's: they may be on the stage without being in the room."""
        policy.may_act_on(actor.role, role)
        return [(Group.EVERYONE, Muted(user_id=person_id))] if self._mutes.add(person_id, actor.role) else []

    def mute_all(self, actor: Actor, publishers: Mapping[str, Role]) -> tuple[list[str], list[Notice]]:
        """Everyone weaker than the actor who could be heard: by their role in the room, or with a media session
        (`publishers`). Who is muted now, and the notices of those who were not before."""
        policy.may_moderate(actor.role)
        roles = {person_id: entry.role for person_id, entry in self._entries.items() if entry.role in ON_STAGE_ROLES}
        muted: list[str] = []
        notices: list[Notice] = []
        for person_id, role in {**publishers, **roles}.items():
            if person_id != actor.id and RANK[role] > RANK[actor.role]:
                notices += self.mute(actor, person_id, role)
                muted.append(person_id)
        return muted, notices

    def unmute(self, actor: Actor, person_id: str, role: Role) -> list[Notice]:
        policy.may_act_on(actor.role, role)
        return [(Group.EVERYONE, Unmuted(user_id=person_id))] if self._mutes.lift(person_id, actor.role) else []

    def remove(
        self, actor: Actor, person_id: str, role: Role, reason: str | None, *, exclusion: Exclusion | None = None
    ) -> list[Notice]:
        """From now on they are kept out, by `exclusion` if it is a ban. The caller closes the person's sockets, each of
        which then leaves."""
        policy.may_act_on(actor.role, role)
        if person_id == actor.id:
            raise InvalidInputError("You cannot remove yourself. Leave instead.", code="not_yourself")
        self.kept_out.add(exclusion or Exclusion(person_id))
        self._known -= {person_id}
        event = Removed(reason, banned=exclusion is not None, until=None if exclusion is None else exclusion.until)
        return [(Only(person_id), event), *self._end_invite(person_id, "withdrawn")]

    def invite(self, actor: Actor, person_id: str) -> list[Notice]:
        """Ask a listener with an account who is in the room onto the stage. Again is no error, and tells them again.
        Raises `ConflictError` (not_a_listener, account_needed, invites_full)."""
        policy.may_moderate(actor.role)
        entry = self._entries[person_id]
        if entry.role is not Role.LISTENER:
            raise ConflictError("Only listeners can be invited to speak.", code="not_a_listener")
        if entry.anonymous:
            raise ConflictError("Guests cannot speak: they have to sign in first.", code="account_needed")
        self.invites.add(person_id, actor.id)
        return [(Only(person_id), InvitedToSpeak(by_user_id=actor.id))]

    def accepted(self, person_id: str) -> list[Notice]:
        """The invitation has been taken, and answered with a role."""
        return self._invite_notices(person_id, "accepted")

    def decline_invite(self, person_id: str) -> list[Notice]:
        self.invites.take(person_id)
        return self._invite_notices(person_id, "declined")

    def check_move_to_audience(self, actor: Actor, person_id: str, role: Role) -> None:
        """Whether the actor may take this person off the stage; whoever is on it may always leave it. Raises
        `ForbiddenError`, `ConflictError` (not_on_stage, is_host)."""
        if role in (Role.HOST, Role.ADMIN):
            policy.may_act_on(actor.role, role)
            raise ConflictError("The host stays on the stage. End the show instead.", code="is_host")
        if role is Role.LISTENER and person_id not in self.invites:
            policy.may_moderate(actor.role)
            raise ConflictError("This person is not on the stage.", code="not_on_stage")
        if role is Role.LISTENER:
            policy.may_moderate(actor.role)
        elif actor.id != person_id:
            policy.may_take_role(actor.role, role)

    def withdraw_invite(self, person_id: str) -> list[Notice]:
        return self._end_invite(person_id, "withdrawn")

    def with_settings(
        self,
        actor: Actor,
        *,
        slow_mode_s: int | None = None,
        chat_mode: ChatMode | None = None,
        locked: bool | None = None,
    ) -> RoomSettings:
        """The settings with this changed, for `change_settings` once they are stored."""
        policy.may_moderate(actor.role)
        return replace(
            self.settings,
            slow_mode_s=self.settings.slow_mode_s if slow_mode_s is None else slow_mode_s,
            chat_mode=self.settings.chat_mode if chat_mode is None else chat_mode,
            locked=self.settings.locked if locked is None else locked,
        )

    # inside

    def _announces(self, role: Role) -> bool:
        return not self._large or role is not Role.LISTENER

    def _size_notice(self) -> Notice:
        return (
            Group.EVERYONE,
            RoomSize(announces_everyone=not self._large, member_count=len(self._entries)),
        )

    def _drop_hand(self, person_id: str) -> list[Notice]:
        return self._hand_notices(*self._hands.lower(person_id))

    @staticmethod
    def _hand_notices(event: HandLowered | HandMoved | None, shifts: Shifts) -> list[Notice]:
        if event is None:
            return []
        notices: list[Notice] = [(Group.EVERYONE, event)]
        notices += [(Only(person_id), position) for person_id, position in shifts]
        return notices

    def _end_invite(self, person_id: str, outcome: str) -> list[Notice]:
        return self._invite_notices(person_id, outcome) if self.invites.end(person_id) else []

    @staticmethod
    def _invite_notices(person_id: str, outcome: str) -> list[Notice]:
        event = InviteEnded(user_id=person_id, outcome=outcome)
        return [(Group.STAFF, event), (Only(person_id), event)]
