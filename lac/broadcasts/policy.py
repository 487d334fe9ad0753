"""Who may do what. This is the one place: every way in (REST, WebSocket, WHIP, mediasoup) asks here.

`_TABLE` says which role may do what, `ROUTES` and `EVENTS` what each request and each command of the socket asks for.
Tests compare both with the running app, and try every role on every one.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

from lac.broadcasts.model import Broadcast, BroadcastStatus, Role, Visibility
from lac.errors import ConflictError, ForbiddenError
from lac.identity import Identity, IdentityKind


class Act(StrEnum):
    # in the room
    TAKE_PART = "take part in this show's room"
    SPEAK_UP = "take the stage by an invitation"
    # the show
    LISTEN_PRIVATE = "listen to this private show"
    PUBLISH = "speak in this show"
    MODERATE = "moderate this show"
    RUN = "start or end this show"
    EDIT_TITLE = "change this show's title"
    EDIT = "change this show"
    DELETE = "delete this show"
    GRANT = "give out roles in this show"
    SEE_STREAM_KEY = "see this show's stream key"
    INVITE = "invite people to this private show"
    SEE_STATS = "see this show's figures"
    SEE_SESSIONS = "see who listened to this show"
    SEE_AUDIT = "see what moderators did in this show"
    RECORD = "record this show"
    SEE_TRACKS = "see the single tracks of this show's recordings"
    EXPORT = "have copies of this show's recordings made"


_EVERY_ROLE = (Role.ADMIN, Role.HOST, Role.COHOST, Role.MODERATOR, Role.SPEAKER, Role.LISTENER)

# fmt: off
_TABLE = {
    #                     admin  host   cohost moder. speak. listen. without an account
    Act.TAKE_PART:      ( True,  True,  True,  True,  True,  True,   True),
    Act.SPEAK_UP:       ( True,  True,  True,  True,  True,  True,   False),
    Act.LISTEN_PRIVATE: ( True,  True,  True,  True,  True,  True,   True),  # those who were given a part in it
    Act.PUBLISH:        ( True,  True,  True,  False, True,  False,  False),
    Act.MODERATE:       ( True,  True,  True,  True,  False, False,  False),
    Act.RUN:            ( True,  True,  True,  False, False, False,  False),
    Act.EDIT_TITLE:     ( True,  True,  True,  False, False, False,  False),
    Act.EDIT:           ( True,  True,  False, False, False, False,  False),
    Act.DELETE:         ( True,  True,  False, False, False, False,  False),
    Act.GRANT:          ( True,  True,  False, False, False, False,  False),
    Act.SEE_STREAM_KEY: ( True,  True,  True,  False, False, False,  False),
    Act.INVITE:         ( True,  True,  True,  False, False, False,  False),
    Act.SEE_STATS:      ( True,  True,  True,  True,  False, False,  False),
    Act.SEE_SESSIONS:   ( True,  True,  True,  False, False, False,  False),
    Act.SEE_AUDIT:      ( True,  True,  True,  False, False, False,  False),
    Act.RECORD:         ( True,  True,  True,  False, False, False,  False),
    Act.SEE_TRACKS:     ( True,  True,  True,  False, False, False,  False),
    Act.EXPORT:         ( True,  True,  True,  True,  True,  True,   False),
}
# fmt: on

ALLOWED: dict[Act, frozenset[Role]] = {
    act: frozenset(role for role, allowed in zip(_EVERY_ROLE, row[:-1], strict=True) if allowed)
    for act, row in _TABLE.items()
}
#: What a listener may do who has no account.
ANONYMOUS_MAY = frozenset(act for act, row in _TABLE.items() if row[-1])
#: The roles that can be given to somebody. Hosting comes with the broadcast, being an admin with the account.
GRANTABLE = frozenset({Role.COHOST, Role.MODERATOR, Role.SPEAKER})
#: Those whom moderation protects from weaker roles, strongest first: the order in which the roles are declared.
RANK = {role: rank for rank, role in enumerate(Role)}


class Standing(StrEnum):
    """What a request asks for that no role in a broadcast gives."""

    ANYONE = "anyone"
    #: A signed-in account, about what is its own.
    ACCOUNT = "account"
    #: Whoever may know of the broadcast: anybody, unless it is private.
    AUDIENCE = "audience"
    #: The one to whom the media session belongs.
    SESSION_OWNER = "session owner"


Need = Act | Standing

#: Every request, by method and rule.
ROUTES: dict[str, Need] = {
    "GET /health": Standing.ANYONE,
    "GET /ready": Standing.ANYONE,
    "GET /metrics": Standing.ANYONE,  # only this machine, or with LAC_METRICS_TOKEN, gets an answer
    "GET /api/openapi.json": Standing.ANYONE,
    "GET /api/docs": Standing.ANYONE,
    "GET /ws": Standing.ANYONE,  # `join` identifies
    "POST /api/auth/register": Standing.ANYONE,
    "POST /api/auth/login": Standing.ANYONE,
    "POST /api/auth/refresh": Standing.ANYONE,
    "POST /api/auth/logout": Standing.ANYONE,
    "POST /api/auth/setup": Standing.ANYONE,
    "POST /api/auth/logout-all": Standing.ACCOUNT,
    "POST /api/auth/password": Standing.ACCOUNT,
    "POST /api/auth/password-reset/request": Standing.ANYONE,
    "POST /api/auth/password-reset/confirm": Standing.ANYONE,
    "POST /api/auth/verify-email": Standing.ANYONE,
    "POST /api/auth/verify-email/request": Standing.ACCOUNT,
    "GET /api/auth/me": Standing.ACCOUNT,
    "PATCH /api/auth/me": Standing.ACCOUNT,
    "DELETE /api/auth/me": Standing.ACCOUNT,
    "GET /api/auth/me/export": Standing.ACCOUNT,
    "GET /api/users/<user_id>": Standing.ANYONE,
    "GET /api/users/<user_id>/followers": Standing.ANYONE,
    "GET /api/users/<user_id>/following": Standing.ANYONE,
    "PUT /api/users/<user_id>/follow": Standing.ACCOUNT,
    "DELETE /api/users/<user_id>/follow": Standing.ACCOUNT,
    "GET /api/broadcasts": Standing.ANYONE,
    "POST /api/broadcasts": Standing.ACCOUNT,
    "GET /api/broadcasts/<broadcast_id>": Standing.AUDIENCE,
    "PATCH /api/broadcasts/<broadcast_id>": Act.EDIT_TITLE,  # more than the title: Act.EDIT
    "DELETE /api/broadcasts/<broadcast_id>": Act.DELETE,
    "POST /api/broadcasts/<broadcast_id>/start": Act.RUN,
    "POST /api/broadcasts/<broadcast_id>/end": Act.RUN,
    "POST /api/broadcasts/<broadcast_id>/stream-key": Act.EDIT,
    "POST /api/broadcasts/<broadcast_id>/invite": Act.EDIT,
    "POST /api/broadcasts/<broadcast_id>/invite/accept": Standing.ANYONE,  # who has the link
    "GET /api/broadcasts/<broadcast_id>/messages": Standing.AUDIENCE,
    "GET /api/broadcasts/<broadcast_id>/stats": Act.SEE_STATS,
    "GET /api/broadcasts/<broadcast_id>/sessions": Act.SEE_SESSIONS,
    "GET /api/broadcasts/<broadcast_id>/audit": Act.SEE_AUDIT,
    "PUT /api/broadcasts/<broadcast_id>/roles/<user_id>": Act.GRANT,
    "DELETE /api/broadcasts/<broadcast_id>/roles/<user_id>": Act.GRANT,
    "GET /api/broadcasts/<broadcast_id>/bans": Act.MODERATE,
    "POST /api/broadcasts/<broadcast_id>/bans/<user_id>": Act.MODERATE,
    "DELETE /api/broadcasts/<broadcast_id>/bans/<user_id>": Act.MODERATE,
    "POST /api/broadcasts/<broadcast_id>/hls": Standing.AUDIENCE,
    "POST /api/broadcasts/<broadcast_id>/listen": Standing.AUDIENCE,
    "POST /api/broadcasts/<broadcast_id>/reminder": Standing.ACCOUNT,
    "DELETE /api/broadcasts/<broadcast_id>/reminder": Standing.ACCOUNT,
    "POST /api/broadcasts/<broadcast_id>/record/start": Act.RECORD,
    "POST /api/broadcasts/<broadcast_id>/record/stop": Act.RECORD,
    "POST /api/broadcasts/<broadcast_id>/record/chapters": Act.RECORD,
    "GET /api/recordings": Standing.ANYONE,
    "GET /api/recordings/<recording_id>": Standing.AUDIENCE,  # until it is ready: Act.SEE_TRACKS
    "PATCH /api/recordings/<recording_id>": Act.EDIT,
    "DELETE /api/recordings/<recording_id>": Act.DELETE,
    "GET /api/recordings/<recording_id>/manifest": Act.SEE_TRACKS,
    "GET /api/recordings/<recording_id>/chapters": Standing.AUDIENCE,
    "GET /api/recordings/<recording_id>/messages": Standing.AUDIENCE,
    "GET /api/recordings/<recording_id>/download": Standing.AUDIENCE,
    "GET /api/recordings/<recording_id>/tracks/<number>": Act.SEE_TRACKS,
    "GET /api/recordings/<recording_id>/exports": Standing.AUDIENCE,
    "POST /api/recordings/<recording_id>/exports": Act.EXPORT,
    "GET /api/recordings/<recording_id>/exports/<export>": Standing.AUDIENCE,
    "DELETE /api/recordings/<recording_id>/exports/<export>": Act.EDIT,
    "GET /api/recordings/<recording_id>/exports/<export>/download": Standing.AUDIENCE,
    "GET /api/recordings/<recording_id>/whereabouts": Act.SEE_TRACKS,
    "GET /api/recordings/<recording_id>/peaks": Standing.AUDIENCE,
    "GET /api/recordings/<recording_id>/loudness": Standing.AUDIENCE,
    "GET /podcasts/cover-1.png": Standing.ANYONE,
    "GET /podcasts/<user_id>/feed.xml": Standing.ANYONE,  # public shows only
    "GET /podcasts/<user_id>/<recording_id>.m4a": Standing.ANYONE,
    "GET /podcasts/<user_id>/<recording_id>/chapters.json": Standing.ANYONE,
    "GET /api/mediasoup/<broadcast_id>/rtp-capabilities": Standing.AUDIENCE,
    "POST /api/mediasoup/<broadcast_id>/transports": Standing.AUDIENCE,  # to send: Act.PUBLISH
    "POST /api/mediasoup/transports/<transport_id>/connect": Standing.SESSION_OWNER,
    "POST /api/mediasoup/transports/<transport_id>/produce": Standing.SESSION_OWNER,
    "POST /api/mediasoup/transports/<transport_id>/consume": Standing.SESSION_OWNER,  # a single speaker: Act.PUBLISH
    "DELETE /api/mediasoup/transports/<transport_id>/consumers/<consumer_id>": Standing.SESSION_OWNER,
    "POST /api/mediasoup/transports/<transport_id>/restart-ice": Standing.SESSION_OWNER,
    "DELETE /api/mediasoup/transports/<transport_id>": Standing.SESSION_OWNER,
    "GET /api/mediasoup/transports/<transport_id>/stats": Standing.SESSION_OWNER,
    "POST /whip/<broadcast_id>": Act.PUBLISH,
    "PATCH /whip/<broadcast_id>/<session_id>": Standing.SESSION_OWNER,
    "DELETE /whip/<broadcast_id>/<session_id>": Standing.SESSION_OWNER,
    "POST /whep/<broadcast_id>": Standing.AUDIENCE,
    "PUT /source/<broadcast_id>": Act.PUBLISH,
    "SOURCE /source/<broadcast_id>": Act.PUBLISH,
    "GET /admin/metadata": Act.PUBLISH,  # in the show that `mount` names
    "GET /listen/<broadcast_id>.<any(ogg, mp3, aac):stream_format>": Standing.AUDIENCE,
    "PATCH /whep/<broadcast_id>/<session_id>": Standing.SESSION_OWNER,
    "DELETE /whep/<broadcast_id>/<session_id>": Standing.SESSION_OWNER,
    "GET /hls/<broadcast_id>/index.m3u8": Standing.AUDIENCE,
    "GET /hls/<broadcast_id>/<listen_pass>/<playlist>": Standing.AUDIENCE,  # a pass identifies
    "GET /hls/<broadcast_id>/<listen_pass>/<rendition>/<file>": Standing.AUDIENCE,  # the same, or a show open to all
}

#: Every command of the WebSocket. Where a command may also name somebody else, that asks for `Act.MODERATE`.
EVENTS: dict[str, Need] = {
    "join": Standing.AUDIENCE,
    "leave": Act.TAKE_PART,
    "chatMessage": Act.TAKE_PART,
    "reaction": Act.TAKE_PART,
    "raiseHand": Act.TAKE_PART,
    "lowerHand": Act.TAKE_PART,  # one's own
    "listMembers": Act.TAKE_PART,
    "acceptInvite": Act.SPEAK_UP,
    "declineInvite": Act.SPEAK_UP,
    "moveHand": Act.MODERATE,
    "mute": Act.MODERATE,
    "unmute": Act.MODERATE,
    "muteAll": Act.MODERATE,
    "remove": Act.MODERATE,
    "inviteToSpeak": Act.MODERATE,
    "moveToAudience": Act.TAKE_PART,  # oneself
    "deleteMessage": Act.MODERATE,
    "clearMessages": Act.MODERATE,
    "slowMode": Act.MODERATE,
    "chatMode": Act.MODERATE,
    "lockRoom": Act.MODERATE,
}


def is_allowed(role: Role, act: Act, *, anonymous: bool = False) -> bool:
    """`anonymous`: somebody without an account, who has no other role than that of a listener."""
    return act in ANONYMOUS_MAY if anonymous else role in ALLOWED[act]


def require_event(event: str, role: Role, *, anonymous: bool) -> None:
    """Raise `ForbiddenError` unless somebody in the room may send this command."""
    need = EVENTS[event]
    if isinstance(need, Act) and not is_allowed(role, need, anonymous=anonymous):
        if anonymous and is_allowed(role, need):
            raise ForbiddenError(f"Sign in with an account to {need}.", code="account_needed")
        raise ForbiddenError(f"As {role} you may not {need}.")


def may_act_on(actor_role: Role, role: Role) -> None:
    """Moderate somebody who has `role`. Equals may; nobody moderates a stronger role."""
    may_moderate(actor_role)
    if RANK[role] < RANK[actor_role]:
        raise ForbiddenError("This person's role is stronger than yours.", code="stronger_role")


def may_take_role(actor_role: Role, role: Role) -> None:
    """Take the role away from somebody: a speaker's is for moderators to take, the others for who gives them out."""
    may_act_on(actor_role, role)
    if role is not Role.SPEAKER:
        require(actor_role, Act.GRANT)


def require(role: Role, act: Act) -> None:
    """Raise `ForbiddenError` unless `role` may do `act`."""
    if not is_allowed(role, act):
        raise ForbiddenError(f"As {role} you may not {act}.")


def may_publish(role: Role, broadcast: Broadcast) -> None:
    """Send audio. An encoder with the stream key has the host's role. Raises `ConflictError` after the end."""
    require(role, Act.PUBLISH)
    if broadcast.status is BroadcastStatus.ENDED:
        raise ConflictError("This show has ended.", code="already_ended")


def may_listen(identity: Identity | None, given: Role | None, broadcast: Broadcast) -> None:
    """Know of the broadcast, hear it, be in its room. Nobody at all may, where it is not private.

    `given` is the role that an account was given there, None if it was given none; a listener's comes with the invite
    link. A guest's token is for one broadcast, and for a private one only as long as the link holds by which it came.
    """
    if broadcast.visibility is not Visibility.PRIVATE:
        return
    if identity is None:
        raise ForbiddenError("This show is private. Open the link that you were sent, or sign in.", code="private")
    if identity.is_guest:
        invited = identity.broadcast_id == broadcast.id and identity.invite_version == broadcast.invite_version
    elif identity.kind is IdentityKind.STREAM_KEY:
        invited = identity.broadcast_id == broadcast.id
    else:
        invited = given is not None and is_allowed(given, Act.LISTEN_PRIVATE)
    if not invited:
        raise ForbiddenError("This show is private, and you have no part in it.", code="private")


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
