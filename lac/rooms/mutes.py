"""Who is muted, and by how strong a role. Pure. A mute belongs to a person's id: it holds when they come back."""

from __future__ import annotations

from lac.broadcasts.model import Role
from lac.broadcasts.policy import RANK
from lac.errors import ForbiddenError


class Mutes:
    def __init__(self) -> None:
        #: Person -> the strongest role that muted them: weaker ones cannot undo it.
        self._by: dict[str, Role] = {}

    def __contains__(self, person_id: str) -> bool:
        return person_id in self._by

    def people(self) -> frozenset[str]:
        return frozenset(self._by)

    def add(self, person_id: str, by: Role) -> bool:
        """False for somebody who was muted already."""
        already = self._by.get(person_id)
        if already is None or RANK[by] < RANK[already]:
            self._by[person_id] = by
        return already is None

    def lift(self, person_id: str, by: Role) -> bool:
        """False for somebody who was not muted. Raises `ForbiddenError` (stronger_role)."""
        muted_by = self._by.get(person_id)
        if muted_by is None:
            return False
        if RANK[by] > RANK[muted_by]:
            raise ForbiddenError("Somebody with a stronger role has muted this person.", code="stronger_role")
        del self._by[person_id]
        return True
