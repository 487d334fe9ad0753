"""What one room has written down: at once by `Records`, or by the broadcast's ledger when that can."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from lac.broadcasts.ledger import Audited, Banned, RoleTaken
from lac.broadcasts.model import Role, RoomSettings
from lac.errors import UnavailableError
from lac.rooms.kept_out import Exclusion
from lac.rooms.values import Chat

if TYPE_CHECKING:
    from lac.broadcasts.ledger import Ledger
    from lac.rooms.records import Records


class RoomRecords:
    """What is awaited raises `UnavailableError` where the database is away, unless it says otherwise. `own` runs
    something in a task that does not end with the caller."""

    def __init__(
        self,
        broadcast_id: str,
        records: Records,
        ledger: Ledger,
        own: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]],
    ) -> None:
        self._broadcast_id = broadcast_id
        self._records = records
        self._ledger = ledger
        self._own = own

    # never blocks: the ledger's

    def audit(self, line: Audited) -> None:
        self._ledger.audited(line)

    def record_reactions(self, counts: dict[str, int], media_time: float, at: datetime) -> None:
        self._ledger.reacted(counts, media_time, at)

    # holds already

    async def store_ban(self, ban: Exclusion, reason: str | None, line: Audited) -> None:
        """It holds already. When the database is away, it is written later."""
        try:
            await self._own(partial(self._records.add_ban, self._broadcast_id, ban, reason, line))
        except UnavailableError:
            self._ledger.decided(Banned(ban, reason, line))

    async def take_role(self, person_id: str, line: Audited) -> None:
        """It holds already. When the database is away, it is written later."""
        try:
            await self._records.take_role(self._broadcast_id, person_id, line)
        except UnavailableError:
            self._ledger.decided(RoleTaken(person_id, line))

    async def withdraw_decisions(self, person_id: str) -> None:
        """Before something else is decided about this person: what waits to be written must not come after it."""
        await self._ledger.withdraw(person_id)

    # holds once it is written

    async def store_message(self, chat: Chat) -> Chat | None:
        """What is kept now: an earlier message, if the same was sent before; None if that has been deleted."""
        return await self._records.add_message(self._broadcast_id, chat)

    async def delete_message(self, message_id: str, actor_role: Role, line: Audited) -> None:
        """Raises `NotFoundError` (no_such_message), `ForbiddenError` for one of a stronger role."""
        await self._records.delete_message(self._broadcast_id, message_id, actor_role, line)

    async def clear_messages(self, person_id: str, line: Audited) -> list[str]:
        """The ids of what is hidden now."""
        return await self._records.clear_messages(self._broadcast_id, person_id, line)

    async def store_settings(self, settings: RoomSettings, line: Audited) -> None:
        await self._records.store_settings(self._broadcast_id, settings, line)

    async def grant_speaker(self, person_id: str, by: str, line: Audited) -> Role:
        """The role that the account now has. Raises `ForbiddenError` for somebody who was banned meanwhile."""
        return await self._records.grant_speaker(self._broadcast_id, person_id, by, line)
