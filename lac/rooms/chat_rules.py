"""Who may write in the chat, and when. Pure; `now` is monotonic seconds."""

from __future__ import annotations

from lac.broadcasts.model import ChatMode, Role
from lac.broadcasts.policy import Act, is_allowed
from lac.errors import ForbiddenError, TooManyRequestsError

#: Guests from one address who may write within one interval: a family, not somebody who comes as a new guest each time.
GUESTS_PER_ADDRESS = 5


class SlowMode:
    """When each person wrote last, while there is a slow mode. It belongs to the person: who leaves and comes back
    waits on. A guest can come back as somebody else, so their address counts as well."""

    def __init__(self) -> None:
        # (when, who, from where), the earliest first; as many as write within one interval.
        self._written: list[tuple[float, str, str | None]] = []

    def take(self, person_id: str, interval_s: float, now: float, *, address_hash: str | None = None) -> None:
        """The person writes now. Raises `TooManyRequestsError` (slow_mode) with what is left to wait."""
        self._written = [line for line in self._written if line[0] > now - interval_s]
        own = [at for at, who, _ in self._written if who == person_id]
        near = [at for at, _, where in self._written if address_hash is not None and where == address_hash]
        if own or len(near) >= GUESTS_PER_ADDRESS:
            raise TooManyRequestsError(
                f"Slow mode: one message every {interval_s:g} seconds.",
                retry_after_s=(own or near)[0] + interval_s - now,
                code="slow_mode",
            )
        if interval_s > 0:
            self._written.append((now, person_id, address_hash))

    def give_back(self, person_id: str) -> None:
        """What they wrote was not sent."""
        self._written = [line for line in self._written if line[1] != person_id]


def check_chat_mode(mode: ChatMode, role: Role, *, follows: bool) -> None:
    """Raise `ForbiddenError` (chat_closed, followers_only) unless this person may write. `follows` the host."""
    if mode is ChatMode.OPEN or is_allowed(role, Act.MODERATE):
        return
    if mode is ChatMode.CLOSED:
        raise ForbiddenError("The chat is closed just now.", code="chat_closed")
    if role is Role.LISTENER and not follows:
        raise ForbiddenError("Only followers of the host can write just now.", code="followers_only")
