"""Who may do what in a broadcast. This is the one place: every way in (REST, WebSocket, WHIP, mediasoup) asks here."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

from lac.broadcasts.model import Broadcast, BroadcastStatus, Role, Visibility
from lac.errors import ConflictError, ForbiddenError
from lac.identity import Identity


class Act(StrEnum):
    LISTEN_PRIVATE = "listen to this private show"
    PUBLISH = "speak in this show"
    MODERATE = "moderate this show"
    RUN = "start or end this show"
    EDIT_TITLE = "change this show's title"
    EDIT = "change this show"
    DELETE = "delete this show"
    GRANT = "give out roles in this show"
    SEE_STREAM_KEY = "see this show's stream key"


_EVERY_ROLE = (Role.ADMIN, Role.HOST, Role.COHOST, Role.MODERATOR, Role.SPEAKER, Role.LISTENER)

# fmt: off
_TABLE = {
    #                     admin  host   cohost moder. speak. listener
    Act.LISTEN_PRIVATE: ( True,  True,  True,  True,  True,  False),
    Act.PUBLISH:        ( True,  True,  True,  False, True,  False),
    Act.MODERATE:       ( True,  True,  True,  True,  False, False),
    Act.RUN:            ( True,  True,  True,  False, False, False),
    Act.EDIT_TITLE:     ( True,  True,  True,  False, False, False),
    Act.EDIT:           ( True,  True,  False, False, False, False),
    Act.DELETE:         ( True,  True,  False, False, False, False),
    Act.GRANT:          ( True,  True,  False, False, False, False),
    Act.SEE_STREAM_KEY: ( True,  True,  True,  False, False, False),
}
# fmt: on

ALLOWED: dict[Act, frozenset[Role]] = {
    act: frozenset(role for role, allowed in zip(_EVERY_ROLE, row, strict=True) if allowed)
    for act, row in _TABLE.items()
}
#: The roles that can be given to somebody. Hosting comes with the broadcast, being an admin with the account.
GRANTABLE = frozenset({Role.COHOST, Role.MODERATOR, Role.SPEAKER})


def is_allowed(role: Role, act: Act) -> bool:
    return role in ALLOWED[act]


def require(role: Role, act: Act) -> None:
    """Raise `ForbiddenError` unless `role` may do `act`."""
    if not is_allowed(role, act):
        raise ForbiddenError(f"As {role} you may not {act}.")


def may_publish(role: Role, broadcast: Broadcast) -> None:
    """Send audio. An encoder with the stream key has the host's role. Raises `ConflictError` after the end."""
    require(role, Act.PUBLISH)
    if broadcast.status is BroadcastStatus.ENDED:
        raise ConflictError("This show has ended.", code="already_ended")


def may_listen(identity: Identity | None, role: Role, broadcast: Broadcast) -> None:
    """Know of the broadcast, hear it, be in its room. Nobody at all may, where it is not private.

    A guest's token is for one broadcast; in another it is worth no more than no token.
    """
    if broadcast.visibility is not Visibility.PRIVATE:
        return
    if identity is None:
        raise ForbiddenError("This show is private. Sign in with an account that was invited.", code="private")
    if not is_allowed(role, Act.LISTEN_PRIVATE):
        raise ForbiddenError("This show is private, and you have no role in it.", code="private")


def may_moderate(role: Role) -> None:
    require(role, Act.MODERATE)


def may_run(role: Role) -> None:
    """Start it, or end it for everyone."""
    require(role, Act.RUN)


def may_edit(role: Role, fields: Collection[str] | None = None) -> None:
    """Change these fields of the broadcast (None: any of them)."""
    only_title = fields is not None and set(fields) <= {"title"}
    require(role, Act.EDIT_TITLE if only_title else Act.EDIT)


def may_delete(role: Role) -> None:
    require(role, Act.DELETE)
