"""Who may not come into one broadcast: those removed from it and those banned. Pure; `at` is now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Exclusion:
    person_id: str
    #: Of a guest: keeps out whoever comes without an account from there.
    address_hash: str | None = None
    #: None: while the broadcast lasts.
    until: datetime | None = None
    #: Written down as a ban: it can be forgotten here.
    stored: bool = False

    def holds(self, at: datetime) -> bool:
        return self.until is None or at < self.until


class KeptOut:
    """Shared by the rooms that one broadcast has in turn. Grows with the acts of its moderators only."""

    def __init__(self) -> None:
        self._people: dict[str, Exclusion] = {}
        self._addresses: dict[str, dict[str, Exclusion]] = {}

    def add(self, exclusion: Exclusion) -> None:
        """In place of an earlier one of the same person."""
        self.readmit(exclusion.person_id)
        self._people[exclusion.person_id] = exclusion
        if exclusion.address_hash is not None:
            self._addresses.setdefault(exclusion.address_hash, {})[exclusion.person_id] = exclusion

    def readmit(self, person_id: str) -> None:
        exclusion = self._people.pop(person_id, None)
        if exclusion is not None and exclusion.address_hash is not None:
            there = self._addresses[exclusion.address_hash]
            del there[person_id]
            if not there:
                del self._addresses[exclusion.address_hash]

    def has(self, person_id: str | None, address_hash: str | None, at: datetime) -> bool:
        """`address_hash` is that of somebody without an account, None for everybody else."""
        exclusion = None if person_id is None else self._people.get(person_id)
        if exclusion is not None and exclusion.holds(at):
            return True
        if address_hash is None:
            return False
        return any(there.holds(at) for there in self._addresses.get(address_hash, {}).values())

    @property
    def forgettable(self) -> bool:
        """Everything in it is in the database, too."""
        return all(exclusion.stored for exclusion in self._people.values())
