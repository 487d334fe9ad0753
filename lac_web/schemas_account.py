"""JSON of what people do with their own account. What an export holds is `lac.auth.export.AccountExport`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from lac_web.schemas import Password, Request, Token

#: Anything at all: an address that cannot be one is answered like one that nobody has.
AnyEmail = Annotated[str, Meta(max_length=254)]


class ChangePassword(Request, frozen=True):
    current_password: Password
    new_password: Password


class RequestPasswordReset(Request, frozen=True):
    email: AnyEmail


class ConfirmPasswordReset(Request, frozen=True):
    """`token` is what follows `#token=` in the link that was sent."""

    token: Token
    password: Password


class VerifyEmail(Request, frozen=True):
    """`token` is what follows `#token=` in the link that was sent."""

    token: Token


class DeleteMe(Request, frozen=True):
    """The password once more: an access token alone may be a stolen one."""

    password: Password
