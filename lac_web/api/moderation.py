"""A show's roles, bans, sessions and figures, and what was done in it. Roles and bans act at once on whoever is in."""

from __future__ import annotations

from quart import Blueprint
from quart_schema import tag_blueprint

from lac.audit import SECTION as AUDIT_SECTION
from lac.audit import list_audit
from lac.broadcasts import policy
from lac.broadcasts.model import Role
from lac.errors import NotFoundError
from lac.identity import Identity
from lac.paging import Position, decode_cursor_untrusted
from lac.rooms import store
from lac.text import invalid
from lac_web.api.endpoint import endpoint
from lac_web.schemas_moderation import (
    AuditPage,
    BanAnswer,
    BanPage,
    BroadcastStats,
    NewBan,
    NewRole,
    PageQuery,
    SessionAnswer,
    SessionPage,
)
from lac_web.security import Access
from lac_web.services import Services, current_services

blueprint = Blueprint("moderation", __name__)
tag_blueprint(blueprint, ["moderation"])


async def _require(identity: Identity, broadcast_id: str, act: policy.Act) -> Services:
    services = current_services()
    broadcast = await services.broadcasts.get(identity, broadcast_id)
    policy.require(await services.broadcasts.role_of(identity, broadcast), act)
    return services


def _after(query: PageQuery, section: str) -> Position | None:
    after = None if query.cursor is None else decode_cursor_untrusted(query.cursor)
    if after is not None and after.section != section:
        raise invalid("cursor", "is not one that this list gave", code="invalid_cursor")
    return after


def _ban(ban: store.Ban) -> BanAnswer:
    return BanAnswer(
        user_id=ban.person_id,
        display_name=ban.display_name,
        reason=ban.reason,
        until=ban.until,
        created_at=ban.created_at,
        created_by=ban.created_by,
    )


@blueprint.put("/api/broadcasts/<broadcast_id>/roles/<user_id>")
@endpoint(Access.ACCOUNT, takes=NewRole, status=204)
async def give_role(identity: Identity, broadcast_id: str, user_id: str, data: NewRole) -> None:
    """Give an account a role in the show, in place of an earlier one."""
    await current_services().on_air.rights.set_role(identity, broadcast_id, user_id, Role(data.role))


@blueprint.delete("/api/broadcasts/<broadcast_id>/roles/<user_id>")
@endpoint(Access.ACCOUNT, status=204)
async def take_role(identity: Identity, broadcast_id: str, user_id: str) -> None:
    """Take an account's role away. If it is on the stage, its audio ends."""
    await current_services().on_air.rights.set_role(identity, broadcast_id, user_id, None)


@blueprint.get("/api/broadcasts/<broadcast_id>/bans")
@endpoint(Access.ACCOUNT, query=PageQuery, returns=BanPage)
async def list_bans(identity: Identity, broadcast_id: str, query: PageQuery) -> BanPage:
    """Who is banned, for those who moderate."""
    services = await _require(identity, broadcast_id, policy.Act.MODERATE)
    after = _after(query, store.BANS_SECTION)
    page = await services.db.read(
        lambda session: store.list_bans(session, broadcast_id, limit=query.limit, after=after)
    )
    return BanPage(items=[_ban(ban) for ban in page.items], next_cursor=page.next_cursor)


@blueprint.post("/api/broadcasts/<broadcast_id>/bans/<user_id>")
@endpoint(Access.ACCOUNT, takes=NewBan, returns=BanAnswer, status=201)
async def ban_person(identity: Identity, broadcast_id: str, user_id: str, data: NewBan) -> BanAnswer:
    """Ban an account or a guest. Their sockets and audio end at once. A second ban replaces the first."""
    services = current_services()
    await services.on_air.rights.remove_person(identity, broadcast_id, user_id, data.reason, ban=True, until=data.until)
    ban = await services.db.read(lambda session: store.find_ban(session, broadcast_id, user_id))
    if ban is None:
        raise NotFoundError("This ban has been lifted again.")
    return _ban(ban)


@blueprint.delete("/api/broadcasts/<broadcast_id>/bans/<user_id>")
@endpoint(Access.ACCOUNT, status=204)
async def lift_ban(identity: Identity, broadcast_id: str, user_id: str) -> None:
    """Let somebody come back, also one who was only removed."""
    await current_services().on_air.rights.lift_ban(identity, broadcast_id, user_id)


@blueprint.get("/api/broadcasts/<broadcast_id>/sessions")
@endpoint(Access.ACCOUNT, query=PageQuery, returns=SessionPage)
async def list_sessions(identity: Identity, broadcast_id: str, query: PageQuery) -> SessionPage:
    """Who listened and spoke, the latest first, for hosts."""
    services = await _require(identity, broadcast_id, policy.Act.SEE_SESSIONS)
    after = _after(query, store.SESSIONS_SECTION)
    page = await services.db.read(
        lambda session: store.list_sessions(session, broadcast_id, limit=query.limit, after=after)
    )
    items = [
        SessionAnswer(
            id=row.id,
            user_id=row.person_id,
            display_name=row.display_name,
            kind=row.kind,
            direction=row.direction,
            opened_at=row.opened_at,
            closed_at=row.closed_at,
            close_reason=row.close_reason,
        )
        for row in page.items
    ]
    return SessionPage(items=items, next_cursor=page.next_cursor)


@blueprint.get("/api/broadcasts/<broadcast_id>/stats")
@endpoint(Access.ACCOUNT, returns=BroadcastStats)
async def get_stats(identity: Identity, broadcast_id: str) -> BroadcastStats:
    """How many listen, and what there has been so far, for those who moderate."""
    services = await _require(identity, broadcast_id, policy.Act.SEE_STATS)
    figures = await services.db.read(lambda session: store.figures(session, broadcast_id))
    return BroadcastStats(
        listeners=services.on_air.listener_count(broadcast_id),
        listeners_by_way=services.on_air.listeners_by_way(broadcast_id),
        sockets=services.on_air.socket_count(broadcast_id),
        sessions=figures.sessions,
        people=figures.people,
        messages=figures.messages,
        reactions=figures.reactions,
    )


@blueprint.get("/api/broadcasts/<broadcast_id>/audit")
@endpoint(Access.ACCOUNT, query=PageQuery, returns=AuditPage)
async def get_audit(identity: Identity, broadcast_id: str, query: PageQuery) -> AuditPage:
    """What moderators did, the latest first, for hosts."""
    services = await _require(identity, broadcast_id, policy.Act.SEE_AUDIT)
    after = _after(query, AUDIT_SECTION)
    page = await services.db.read(lambda session: list_audit(session, broadcast_id, limit=query.limit, after=after))
    return AuditPage(items=list(page.items), next_cursor=page.next_cursor)
