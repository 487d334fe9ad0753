"""The queue of raised hands. Pure. Whoever sees all its events has the same queue: see `HandLowered`, `HandMoved`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lac.errors import ConflictError, NotFoundError
from lac.rooms.events import HandLowered, HandMoved, HandPosition, HandRaised
from lac.rooms.values import Hand

#: Longest queue; it is sent whole to everyone who joins.
HANDS_MAX = 200


@dataclass(frozen=True, slots=True)
class _Raised:
    display_name: str
    note: str | None
    at: datetime


#: Whose hand has another place now, and which.
Shifts = list[tuple[str, HandPosition]]


class Hands:
    def __init__(self) -> None:
        # In the queue's order.
        self._raised: dict[str, _Raised] = {}

    def listed(self) -> list[Hand]:
        """The next one first."""
        return [
            Hand(person_id, hand.display_name, hand.note, hand.at, position)
            for position, (person_id, hand) in enumerate(self._raised.items(), 1)
        ]

    def raise_hand(self, person_id: str, display_name: str, note: str | None, at: datetime) -> tuple[HandRaised, bool]:
        """Put a hand at the end, or change its note: its place stays. Also whether anything changed. Raises
        `ConflictError` (hands_full)."""
        before = self._raised.get(person_id)
        if before is None and len(self._raised) >= HANDS_MAX:
            raise ConflictError("Too many hands are up already. Try again in a while.", code="hands_full")
        hand = self._raised[person_id] = _Raised(display_name, note, at if before is None else before.at)
        event = HandRaised(person_id, display_name, note, hand.at, self._place(person_id))
        return event, hand != before

    def lower(self, person_id: str) -> tuple[HandLowered | None, Shifts]:
        """None for a hand that is not up."""
        if person_id not in self._raised:
            return None, []
        before = list(self._raised)
        del self._raised[person_id]
        return HandLowered(person_id), self._shifts(before)

    def move(self, person_id: str, position: int) -> tuple[HandMoved | None, Shifts]:
        """None when the hand is there already. A place past the end is the end. Raises `NotFoundError` (no_hand)."""
        if person_id not in self._raised:
            raise NotFoundError("This person's hand is not up.", code="no_hand")
        before = list(self._raised)
        after = [other for other in before if other != person_id]
        after.insert(position - 1, person_id)
        self._raised = {other: self._raised[other] for other in after}
        shifts = self._shifts(before)
        return (HandMoved(person_id, self._place(person_id)) if shifts else None), shifts

    def _place(self, person_id: str) -> int:
        return list(self._raised).index(person_id) + 1

    def _shifts(self, before: list[str]) -> Shifts:
        places = {person_id: place for place, person_id in enumerate(before, 1)}
        return [
            (person_id, HandPosition(place))
            for place, person_id in enumerate(self._raised, 1)
            if places.get(person_id) != place
        ]
