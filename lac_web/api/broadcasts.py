"""Broadcasts: plan, list, change, remove, go on air, end, read the chat."""

from __future__ import annotations

import hashlib

import msgspec
from msgspec import UNSET, UnsetType
from quart import Blueprint, request
from quart_schema import tag_blueprint

from lac.broadcasts import policy
from lac.broadcasts.model import Broadcast, Role, Visibility
from lac.broadcasts.service import Repeatable
from lac.idempotency import check_key
from lac.identity import Identity
from lac.paging import decode_cursor_untrusted
from lac.rooms import store as room_store
from lac_web.api.endpoint import endpoint
from lac_web.schemas import (
    AcceptInvite,
    BroadcastAnswer,
    BroadcastChanges,
    BroadcastPage,
    BroadcastQuery,
    Host,
    InviteAccepted,
    MessagePage,
    MessageQuery,
    NewBroadcast,
)
from lac_web.security import Access
from lac_web.services import Services, current_services

blueprint = Blueprint("broadcasts", __name__)
tag_blueprint(blueprint, ["broadcasts"])

Answered = tuple[BroadcastAnswer, dict[str, str]]


def _answer(
    services: Services,
    broadcast: Broadcast,
    role: Role | None,
    *,
    stream_key: str | UnsetType = UNSET,
    invite: str | UnsetType = UNSET,
) -> BroadcastAnswer:
    return BroadcastAnswer(
        id=broadcast.id,
        title=broadcast.title,
        description=broadcast.description,
        status=broadcast.status,
        visibility=broadcast.visibility,
        tags=list(broadcast.tags),
        scheduled_at=broadcast.scheduled_at,
        started_at=broadcast.started_at,
        ended_at=broadcast.ended_at,
        recording_enabled=broadcast.recording_enabled,
        rewind_enabled=broadcast.rewind_enabled,
        host=Host(id=broadcast.host_id, display_name=broadcast.host_name),
        listener_count=services.on_air.listener_count(broadcast.id),
        created_at=broadcast.created_at,
        updated_at=broadcast.updated_at,
        your_role=role,
        stream_key=stream_key,
        invite=invite,
    )


def entity_tag(broadcast: Broadcast) -> str:
    """Names what people can change of it, and its status: not how many listen just now, nor who asks."""
    return hashlib.sha256(f"{broadcast.id} {broadcast.updated_at.isoformat()}".encode()).hexdigest()[:24]


async def _answer_one(services: Services, identity: Identity | None, broadcast: Broadcast) -> Answered:
    """The answer and its headers."""
    role = None if identity is None else await services.broadcasts.role_of(identity, broadcast)
    stream_key: str | UnsetType = UNSET
    invite: str | UnsetType = UNSET
    if role is not None and policy.is_allowed(role, policy.Act.SEE_STREAM_KEY):
        stream_key = services.broadcasts.stream_key(broadcast)
    if role is not None and broadcast.visibility is Visibility.PRIVATE and policy.is_allowed(role, policy.Act.INVITE):
        invite = services.broadcasts.invite_token(broadcast)
    answer = _answer(services, broadcast, role, stream_key=stream_key, invite=invite)
    return answer, {"ETag": f'"{entity_tag(broadcast)}"'}


def _repeatable(data: NewBroadcast) -> Repeatable | None:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    body = hashlib.sha256(b"POST /api/broadcasts " + msgspec.json.encode(data, order="sorted"))
    return Repeatable(check_key(key), body.hexdigest())


@blueprint.post("/api/broadcasts")
@endpoint(Access.ACCOUNT, takes=NewBroadcast, returns=BroadcastAnswer, status=201)
async def create_broadcast(identity: Identity, data: NewBroadcast) -> Answered:
    """Plan a broadcast. The caller is its host.

    With an `Idempotency-Key` it can be sent again by a client that did not hear the answer: nothing is made twice.
    """
    services = current_services()
    broadcast = await services.broadcasts.create(
        identity,
        data.title,
        description=data.description,
        scheduled_at=data.scheduled_at,
        visibility=data.visibility,
        tags=tuple(data.tags),
        recording_enabled=data.recording_enabled,
        rewind_enabled=data.rewind_enabled,
        repeatable=_repeatable(data),
    )
    answer, headers = await _answer_one(services, identity, broadcast)
    return answer, {**headers, "Location": f"/api/broadcasts/{broadcast.id}"}


@blueprint.get("/api/broadcasts")
@endpoint(Access.OPTIONAL, query=BroadcastQuery, returns=BroadcastPage)
async def list_broadcasts(identity: Identity | None, query: BroadcastQuery) -> BroadcastPage:
    """Broadcasts that the caller may know of, page by page. Stream keys are not in lists."""
    services = current_services()
    page = await services.broadcasts.list(
        identity, status=query.status, host_id=query.host_id, q=query.q, limit=query.limit, cursor=query.cursor
    )
    roles = {} if identity is None else await services.broadcasts.roles_of(identity, page.items)
    items = [_answer(services, item, roles.get(item.id)) for item in page.items]
    return BroadcastPage(items=items, next_cursor=page.next_cursor)


@blueprint.get("/api/broadcasts/<broadcast_id>")
@endpoint(Access.OPTIONAL, returns=BroadcastAnswer)
async def get_broadcast(identity: Identity | None, broadcast_id: str) -> Answered:
    """One broadcast."""
    services = current_services()
    return await _answer_one(services, identity, await services.broadcasts.get(identity, broadcast_id))


@blueprint.patch("/api/broadcasts/<broadcast_id>")
@endpoint(Access.ACCOUNT, takes=BroadcastChanges, returns=BroadcastAnswer)
async def update_broadcast(identity: Identity, broadcast_id: str, data: BroadcastChanges) -> Answered:
    """Change what is given and leave the rest.

    With `If-Match` only while it is what the caller has seen: 412 if somebody else has changed it meanwhile.
    """
    services = current_services()
    changes = {name: value for name in data.__struct_fields__ if (value := getattr(data, name)) is not UNSET}
    tags = request.if_match if "If-Match" in request.headers else None
    broadcast = await services.broadcasts.update(
        identity,
        broadcast_id,
        changes,
        # `contains` compares strongly and takes "*" for anything, as If-Match does (RFC 9110 section 13.1.1).
        only_if=None if tags is None else lambda broadcast: tags.contains(entity_tag(broadcast)),
    )
    await services.on_air.rights.record_changed(identity, broadcast)
    return await _answer_one(services, identity, broadcast)


@blueprint.delete("/api/broadcasts/<broadcast_id>")
@endpoint(Access.ACCOUNT, status=204)
async def delete_broadcast(identity: Identity, broadcast_id: str) -> None:
    """Remove a broadcast. If it is live, everyone in it is let go first."""
    await current_services().on_air.remove(identity, broadcast_id)


@blueprint.post("/api/broadcasts/<broadcast_id>/start")
@endpoint(Access.ACCOUNT, returns=BroadcastAnswer)
async def start_broadcast(identity: Identity, broadcast_id: str) -> Answered:
    """Go on air. Starting what is live changes nothing."""
    services = current_services()
    return await _answer_one(services, identity, await services.on_air.start(identity, broadcast_id))


@blueprint.post("/api/broadcasts/<broadcast_id>/end")
@endpoint(Access.ACCOUNT, returns=BroadcastAnswer)
async def end_broadcast(identity: Identity, broadcast_id: str) -> Answered:
    """End the show for everyone. Ending what has ended changes nothing."""
    services = current_services()
    return await _answer_one(services, identity, await services.on_air.end(identity, broadcast_id))


@blueprint.post("/api/broadcasts/<broadcast_id>/stream-key")
@endpoint(Access.ACCOUNT, returns=BroadcastAnswer)
async def renew_stream_key(identity: Identity, broadcast_id: str) -> Answered:
    """A new stream key. The old one is worth nothing from then on, and an encoder that uses it is cut off."""
    services = current_services()
    return await _answer_one(services, identity, await services.on_air.rights.renew_stream_key(identity, broadcast_id))


@blueprint.post("/api/broadcasts/<broadcast_id>/invite")
@endpoint(Access.ACCOUNT, returns=BroadcastAnswer)
async def renew_invite(identity: Identity, broadcast_id: str) -> Answered:
    """A new invite link. Who came by the old one has no access any more, unless they were given a role since."""
    services = current_services()
    return await _answer_one(services, identity, await services.on_air.rights.renew_invite(identity, broadcast_id))


@blueprint.post("/api/broadcasts/<broadcast_id>/invite/accept")
@endpoint(Access.OPTIONAL, takes=AcceptInvite, returns=InviteAccepted)
async def accept_invite(identity: Identity | None, broadcast_id: str, data: AcceptInvite) -> InviteAccepted:
    """Take up the invite link of a private broadcast.

    An account may know of it and listen from then on. A guest gets a token: for `join`, and as Bearer elsewhere.
    """
    token = await current_services().on_air.rights.accept_invite(identity, broadcast_id, data.invite, data.name)
    return InviteAccepted(broadcast_id=broadcast_id, token=token)


@blueprint.get("/api/broadcasts/<broadcast_id>/messages")
@endpoint(Access.OPTIONAL, query=MessageQuery, returns=MessagePage)
async def list_messages(identity: Identity | None, broadcast_id: str, query: MessageQuery) -> MessagePage:
    """The chat, newest message first, for whoever may listen."""
    services = current_services()
    await services.broadcasts.get(identity, broadcast_id)
    after = None if query.cursor is None else decode_cursor_untrusted(query.cursor)
    page = await services.db.read(
        lambda session: room_store.list_messages(session, broadcast_id, limit=query.limit, after=after)
    )
    return MessagePage(items=list(page.items), next_cursor=page.next_cursor)
