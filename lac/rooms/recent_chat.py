"""The latest messages of a room, and which were deleted lately: what is shown to those who come in, or back. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from lac.rooms.values import Chat

RECENT_MESSAGES = 50
#: Messages deleted lately, for those who come back and still show them. Beyond that their page keeps one too many.
DELETED_KEPT = 100


@dataclass(frozen=True, slots=True)
class Missed:
    """The messages after one, as the database has them, oldest first. `more`: older ones are left out."""

    after: tuple[datetime, str]
    messages: list[Chat]
    more: bool


@dataclass(frozen=True, slots=True)
class Resumed:
    """What somebody missed who comes back."""

    messages: list[Chat]
    missed: bool
    deleted: list[str]


class RecentChat:
    def __init__(self, messages: Iterable[Chat] = ()) -> None:
        # When full the oldest goes: it is still in the database.
        self._messages: deque[Chat] = deque(messages, maxlen=RECENT_MESSAGES)
        self._deleted: deque[str] = deque(maxlen=DELETED_KEPT)

    def __contains__(self, message_id: str) -> bool:
        return self.find(message_id) is not None

    def listed(self) -> list[Chat]:
        """The oldest first."""
        return list(self._messages)

    def find(self, message_id: str) -> Chat | None:
        return next((chat for chat in self._messages if chat.id == message_id), None)

    def add(self, chat: Chat) -> None:
        self._messages.append(chat)

    def forget(self, message_ids: Collection[str]) -> None:
        """They are deleted. Some may be older than what is here."""
        kept = [chat for chat in self._messages if chat.id not in message_ids]
        self._messages = deque(kept, maxlen=RECENT_MESSAGES)
        self._deleted.extend(message_ids)

    def resume(self, since: str, stored: Missed | None) -> Resumed:
        """What came after the message `since`. `stored` is what the database had after it, read before; None where
        nobody looked, because the message is in here, or where the database does not know it."""
        recent, deleted = list(self._messages), list(self._deleted)
        for index, chat in enumerate(recent):
            if chat.id == since:
                return Resumed(recent[index + 1 :], missed=False, deleted=deleted)
        if stored is None:
            return Resumed(recent, missed=True, deleted=deleted)
        # Between the reading and now messages may have come, and gone.
        messages = {chat.id: chat for chat in stored.messages if chat.id not in self._deleted}
        messages |= {chat.id: chat for chat in recent if (chat.at, chat.id) > stored.after}
        return Resumed(list(messages.values()), missed=stored.more, deleted=deleted)
