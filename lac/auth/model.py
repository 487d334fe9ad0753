"""Accounts as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class User:
    id: str
    email: str
    display_name: str
    is_admin: bool
    created_at: datetime
    email_verified: bool = False


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What a successful sign-in gives. `expires_in` is the life of the access token in seconds."""

    user: User
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int
