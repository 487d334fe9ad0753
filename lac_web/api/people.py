"""People: profiles, follows, reminders."""

from __future__ import annotations

import dataclasses

from quart import Blueprint
from quart_schema import tag_blueprint

from lac.identity import Identity
from lac.people.service import PeopleService
from lac.people.store import FOLLOWERS, FOLLOWING
from lac_web.api.endpoint import endpoint
from lac_web.schemas_moderation import FollowAnswer, FollowPage, PageQuery, ProfileAnswer
from lac_web.security import Access
from lac_web.services import current_services

blueprint = Blueprint("people", __name__)
tag_blueprint(blueprint, ["people"])


def _people() -> PeopleService:
    services = current_services()
    return PeopleService(services.db, services.broadcasts)


async def _page(user_id: str, which: str, query: PageQuery) -> FollowPage:
    page = await _people().follows(user_id, which, query.limit, query.cursor)
    items = [FollowAnswer(**dataclasses.asdict(item)) for item in page.items]
    return FollowPage(items=items, next_cursor=page.next_cursor)


@blueprint.get("/api/users/<user_id>")
@endpoint(Access.OPTIONAL, returns=ProfileAnswer)
async def get_user(identity: Identity | None, user_id: str) -> ProfileAnswer:
    """What everybody may know of somebody."""
    return ProfileAnswer(**dataclasses.asdict(await _people().profile(identity, user_id)))


@blueprint.put("/api/users/<user_id>/follow")
@endpoint(Access.ACCOUNT, status=204)
async def follow_user(identity: Identity, user_id: str) -> None:
    """Follow somebody. Doing so twice changes nothing."""
    await _people().follow(identity, user_id)


@blueprint.delete("/api/users/<user_id>/follow")
@endpoint(Access.ACCOUNT, status=204)
async def unfollow_user(identity: Identity, user_id: str) -> None:
    """Follow somebody no more."""
    await _people().unfollow(identity, user_id)


@blueprint.get("/api/users/<user_id>/followers")
@endpoint(Access.ANYONE, query=PageQuery, returns=FollowPage)
async def list_followers(user_id: str, query: PageQuery) -> FollowPage:
    """Who follows this person, the latest first."""
    return await _page(user_id, FOLLOWERS, query)


@blueprint.get("/api/users/<user_id>/following")
@endpoint(Access.ANYONE, query=PageQuery, returns=FollowPage)
async def list_following(user_id: str, query: PageQuery) -> FollowPage:
    """Whom this person follows, the latest first."""
    return await _page(user_id, FOLLOWING, query)


@blueprint.post("/api/broadcasts/<broadcast_id>/reminder")
@endpoint(Access.ACCOUNT, status=204)
async def remind_me(identity: Identity, broadcast_id: str) -> None:
    """Be reminded of a show before it starts."""
    await _people().remind(identity, broadcast_id)


@blueprint.delete("/api/broadcasts/<broadcast_id>/reminder")
@endpoint(Access.ACCOUNT, status=204)
async def forget_reminder(identity: Identity, broadcast_id: str) -> None:
    """Do not be reminded."""
    await _people().forget_reminder(identity, broadcast_id)
