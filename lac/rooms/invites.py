"""The invitations to speak that wait for an answer. Pure. They belong to a person's id: they outlive a reconnect."""

from __future__ import annotations

from lac.errors import ConflictError

#: People who never answer add up.
INVITES_MAX = 50


class Invites:
    def __init__(self) -> None:
        #: Person -> who invited them, earliest first.
        self._by: dict[str, str] = {}

    def __contains__(self, person_id: str) -> bool:
        return person_id in self._by

    def add(self, person_id: str, by: str) -> None:
        """Again is no error: it is then the later one's. Raises `ConflictError` (invites_full)."""
        if person_id not in self._by and len(self._by) >= INVITES_MAX:
            raise ConflictError("Too many invitations wait for an answer already.", code="invites_full")
        self._by[person_id] = by

    def made_by(self, person_id: str) -> list[str]:
        """Whom this person invited."""
        return [invited for invited, by in self._by.items() if by == person_id]

    def take(self, person_id: str) -> str:
        """They answer: who invited them. Raises `ConflictError` (not_invited)."""
        by = self._by.pop(person_id, None)
        if by is None:
            raise ConflictError("There is no invitation for you any more.", code="not_invited")
        return by

    def put_back(self, person_id: str, by: str) -> None:
        """What was taken could not be answered. A new one, made meanwhile, stays as it is."""
        self._by.setdefault(person_id, by)

    def end(self, person_id: str) -> bool:
        """False when there was none."""
        return self._by.pop(person_id, None) is not None
