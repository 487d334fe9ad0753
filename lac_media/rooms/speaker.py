"""What a room needs of a speaker, whichever way the audio comes in."""

from __future__ import annotations

from typing import Protocol


class Speaker(Protocol):
    """A `Session` that publishes, or a `LocalSource`. Compared by identity."""

    @property
    def id(self) -> str: ...
    @property
    def owner(self) -> str: ...
    @property
    def producer_id(self) -> str | None: ...
    @property
    def closed(self) -> bool: ...

    #: When its audio last came, monotonic seconds; None while it is not heard. The room keeps it.
    heard_at: float | None

    def close(self, reason: str) -> None:
        """End it now; the room is told. Idempotent."""
