"""Accounts: register, sign in, stay signed in, sign out, oneself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quart import Blueprint
from quart_schema import tag_blueprint

from lac.identity import Identity
from lac_web.api.endpoint import endpoint
from lac_web.schemas import Login, OwnUser, RefreshToken, Register, SetupAdmin, SignedInAnswer, UpdateMe
from lac_web.security import Access
from lac_web.services import current_services

if TYPE_CHECKING:
    from lac.auth.service import SignedIn, User

blueprint = Blueprint("auth", __name__)
tag_blueprint(blueprint, ["accounts"])


def _own_user(user: User) -> OwnUser:
    return OwnUser(
        id=user.id,
        email=user.email,
        display_name=user.display_name,
        is_admin=user.is_admin,
        created_at=user.created_at,
    )


def _signed_in(signed_in: SignedIn) -> SignedInAnswer:
    return SignedInAnswer(
        user=_own_user(signed_in.user),
        access_token=signed_in.access_token,
        refresh_token=signed_in.refresh_token,
        expires_in=signed_in.expires_in,
    )


@blueprint.post("/api/auth/register")
@endpoint(Access.ANYONE, takes=Register, returns=SignedInAnswer, status=201)
async def register(data: Register) -> SignedInAnswer:
    """Create an account and sign in."""
    return _signed_in(await current_services().auth.register(data.email, data.password, data.display_name))


@blueprint.post("/api/auth/login")
@endpoint(Access.ANYONE, takes=Login, returns=SignedInAnswer)
async def login(data: Login) -> SignedInAnswer:
    """Sign in with e-mail and password."""
    return _signed_in(await current_services().auth.login(data.email, data.password))


@blueprint.post("/api/auth/refresh")
@endpoint(Access.ANYONE, takes=RefreshToken, returns=SignedInAnswer)
async def refresh(data: RefreshToken) -> SignedInAnswer:
    """Trade a refresh token for new tokens.

    Each is good once. Presenting a used one again signs out everything that descends from the same sign-in.
    """
    return _signed_in(await current_services().auth.refresh(data.refresh_token))


@blueprint.post("/api/auth/logout")
@endpoint(Access.ANYONE, takes=RefreshToken, status=204)
async def logout(data: RefreshToken) -> None:
    """Sign out: the refresh token and those that descend from the same sign-in end."""
    await current_services().auth.logout(data.refresh_token)


@blueprint.post("/api/auth/setup")
@endpoint(Access.ANYONE, takes=SetupAdmin, returns=SignedInAnswer, status=201)
async def setup_admin(data: SetupAdmin) -> SignedInAnswer:
    """Create the administrator with the single-use link of the first start."""
    auth = current_services().auth
    return _signed_in(
        await auth.create_admin_with_setup_token(data.token, data.email, data.password, data.display_name)
    )


@blueprint.get("/api/auth/me")
@endpoint(Access.ACCOUNT, returns=OwnUser)
async def me(identity: Identity) -> OwnUser:
    """Who am I?"""
    return _own_user(await current_services().auth.get_user(identity.id))


@blueprint.patch("/api/auth/me")
@endpoint(Access.ACCOUNT, takes=UpdateMe, returns=OwnUser)
async def update_me(identity: Identity, data: UpdateMe) -> OwnUser:
    """Change one's own display name."""
    return _own_user(await current_services().auth.update_me(identity, display_name=data.display_name))
