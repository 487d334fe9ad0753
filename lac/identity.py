"""Who is asking. Made by `lac.auth.service` from a token; everything else takes it as given."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class IdentityKind(StrEnum):
    USER = "user"
    #: Someone without an account, in one broadcast: made when they join its room.
    GUEST = "guest"
    #: An encoder that presented the broadcast's stream key: acts as the host, for publishing only.
    STREAM_KEY = "stream_key"


@dataclass(frozen=True, slots=True)
class Identity:
    """`id` is the user's id, or the guest's. Guests and stream keys are bound to one `broadcast_id`."""

    kind: IdentityKind
    id: str
    display_name: str
    is_admin: bool = False
    broadcast_id: str | None = None
    #: Of a guest who came by an invite link: which one it was. See `Broadcast.invite_version`.
    invite_version: int | None = None
    #: Which of the account's sign-ins this is. The same person, whichever it is.
    sign_in_id: str | None = field(default=None, compare=False, repr=False)

    @property
    def is_guest(self) -> bool:
        return self.kind is IdentityKind.GUEST
