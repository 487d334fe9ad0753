"""Who may write in the chat, and when. Pure; `now` is monotonic seconds."""

from __future__ import annotations

from lac.broadcasts.model import ChatMode, Role
from lac.broadcasts.policy import Act, is_allowed
from lac.errors import ForbiddenError, TooManyRequestsError


class SlowMode:
    """When each person wrote last, while there is a slow mode. It belongs to the person: who leaves and comes back
    waits on."""

    def __init__(self) -> None:
        # The earliest first; as many as write within one interval.
        self._last: dict[str, float] = {}

    def take(self, person_id: str, interval_s: float, now: float) -> None:
        """The person writes now. Raises `TooManyRequestsError` (slow_mode) with what is left to wait."""
        self._forget(now - interval_s)
        last = self._last.get(person_id)
        if last is not None:
            raise TooManyRequestsError(
                f"Slow mode: one message every {interval_s:g} seconds.",
                retry_after_s=last + interval_s - now,
                code="slow_mode",
            )
        if interval_s > 0:
            self._last[person_id] = now

    def give_back(self, person_id: str) -> None:
        """What they wrote was not sent."""
        self._last.pop(person_id, None)

    def _forget(self, until: float) -> None:
        while self._last:
            person_id, at = next(iter(self._last.items()))
            if at > until:
                return
            del self._last[person_id]


def check_chat_mode(mode: ChatMode, role: Role, *, follows: bool) -> None:
    """Raise `ForbiddenError` (chat_closed, followers_only) unless this person may write. `follows` the host."""
    if mode is ChatMode.OPEN or is_allowed(role, Act.MODERATE):
        return
    if mode is ChatMode.CLOSED:
        raise ForbiddenError("The chat is closed just now.", code="chat_closed")
    if role is Role.LISTENER and not follows:
        raise ForbiddenError("Only followers of the host can write just now.", code="followers_only")
