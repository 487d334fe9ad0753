"""Accounts: register, sign in, stay signed in, sign out, oneself, and what to do about a lost password."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quart import Blueprint
from quart_schema import tag_blueprint

from lac.auth.export import AccountExport
from lac.identity import Identity
from lac_web.api.endpoint import endpoint
from lac_web.schemas import Login, OwnUser, RefreshToken, Register, SetupAdmin, SignedInAnswer, UpdateMe
from lac_web.schemas_account import (
    ChangePassword,
    ConfirmPasswordReset,
    DeleteMe,
    RequestPasswordReset,
    VerifyEmail,
)
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
        email_verified=user.email_verified,
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

    Each is good once. A client that did not get the answer may ask again within ten seconds; presenting a used one at
    any other time signs out everything that descends from the same sign-in.
    """
    return _signed_in(await current_services().auth.refresh(data.refresh_token))


@blueprint.post("/api/auth/logout")
@endpoint(Access.ANYONE, takes=RefreshToken, status=204)
async def logout(data: RefreshToken) -> None:
    """Sign out: the refresh token and all tokens of the same sign-in end."""
    await current_services().auth.logout(data.refresh_token)


@blueprint.post("/api/auth/logout-all")
@endpoint(Access.ACCOUNT, status=204)
async def logout_all(identity: Identity) -> None:
    """Sign out everywhere, here too. Access tokens end at once."""
    await current_services().auth.logout_everywhere(identity)


@blueprint.post("/api/auth/password")
@endpoint(Access.ACCOUNT, takes=ChangePassword, status=204)
async def change_password(identity: Identity, data: ChangePassword) -> None:
    """Change one's password. Every other sign-in ends; this one goes on.

    A wrong current password is 403 with the code `wrong_password`.
    """
    await current_services().auth.account.change_password(identity, data.current_password, data.new_password)


@blueprint.post("/api/auth/password-reset/request")
@endpoint(Access.ANYONE, takes=RequestPasswordReset, status=202)
async def request_password_reset(data: RequestPasswordReset) -> None:
    """Ask for a link to set a new password.

    The answer is the same, and takes as long, whether or not there is such an account; the mail is sent afterwards.
    An account gets three such mails in an hour at most.
    """
    await current_services().auth.account.request_password_reset(data.email)


@blueprint.post("/api/auth/password-reset/confirm")
@endpoint(Access.ANYONE, takes=ConfirmPasswordReset, status=204)
async def confirm_password_reset(data: ConfirmPasswordReset) -> None:
    """Set a new password with the token of the link. Every sign-in ends.

    A token that is used, expired or wrong is 403 with the code `reset_token_invalid`.
    """
    await current_services().auth.account.reset_password(data.token, data.password)


@blueprint.post("/api/auth/verify-email")
@endpoint(Access.ANYONE, takes=VerifyEmail, status=204)
async def verify_email(data: VerifyEmail) -> None:
    """Confirm an e-mail address with the token of the link. Doing so twice is fine.

    A token that is expired or wrong is 403 with the code `verify_token_invalid`.
    """
    await current_services().auth.account.verify_email(data.token)


@blueprint.post("/api/auth/verify-email/request")
@endpoint(Access.ACCOUNT, status=202)
async def request_email_verification(identity: Identity) -> None:
    """Ask for another link to confirm one's e-mail address, three in an hour at most."""
    await current_services().auth.account.request_verification(identity)


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


@blueprint.delete("/api/auth/me")
@endpoint(Access.ACCOUNT, takes=DeleteMe, status=204)
async def delete_me(identity: Identity, data: DeleteMe) -> None:
    """Delete one's account with the shows that it hosts.

    Chat messages in other people's shows stay, without the name. While one's own show is live it is 409 with the code
    `show_is_live`; the only administrator gets `last_admin`.
    """
    await current_services().auth.account.delete(identity, data.password)


@blueprint.get("/api/auth/me/export")
@endpoint(Access.ACCOUNT, returns=AccountExport)
async def export_me(identity: Identity) -> tuple[AccountExport, dict[str, str]]:
    """Everything that is kept about oneself."""
    export = await current_services().auth.account.export(identity)
    return export, {"Content-Disposition": 'attachment; filename="liveaudiocast-export.json"'}
