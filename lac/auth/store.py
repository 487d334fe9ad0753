"""Queries on accounts and their sign-ins: a session in, plain values out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

import sqlalchemy as sa
from sqlalchemy import orm

from lac.audit import AccountAct, add_audit
from lac.auth.model import User
from lac.auth.tokens import REFRESH_LIFETIME, REFRESH_RETRY_WINDOW
from lac.db import models
from lac.errors import ConflictError
from lac.ids import new_id


class RefreshOutcome(Enum):
    ROTATED = auto()
    UNKNOWN = auto()
    EXPIRED = auto()
    REUSED = auto()


@dataclass(frozen=True, slots=True)
class Rotation:
    """What became of a refresh token. `user` and `sign_in_id` are there when it was ROTATED or REUSED."""

    outcome: RefreshOutcome
    user: User | None = None
    sign_in_id: str | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    user: User
    password_hash: str


def add_user(
    session: orm.Session, *, email: str, password_hash: str, display_name: str, is_admin: bool, at: datetime
) -> User:
    """Raises `ConflictError` with code `email_taken`."""
    row = models.User(
        id=new_id(),
        email=email,
        password_hash=password_hash,
        display_name=display_name,
        is_admin=is_admin,
        created_at=at,
        updated_at=at,
    )
    session.add(row)
    try:
        session.flush()
    except sa.exc.IntegrityError:
        raise ConflictError("There is an account with this e-mail address already.", code="email_taken") from None
    return to_user(row)


def find_user(session: orm.Session, user_id: str) -> User | None:
    row = session.get(models.User, user_id)
    return None if row is None else to_user(row)


def find_signed_in(session: orm.Session, user_id: str, sign_in_id: str) -> User | None:
    """The account, while that sign-in of it has not ended."""
    token = models.RefreshToken
    still_open = sa.exists().where(
        token.family_id == sign_in_id, token.user_id == models.User.id, token.revoked_at.is_(None)
    )
    row = session.scalar(sa.select(models.User).where(models.User.id == user_id, still_open))
    return None if row is None else to_user(row)


def find_credentials(session: orm.Session, email: str) -> Credentials | None:
    return _credentials(session.scalar(sa.select(models.User).where(models.User.email == email)))


def find_credentials_of(session: orm.Session, user_id: str) -> Credentials | None:
    return _credentials(session.get(models.User, user_id))


def _credentials(row: models.User | None) -> Credentials | None:
    return None if row is None else Credentials(to_user(row), row.password_hash)


def replace_password_hash(session: orm.Session, user_id: str, *, old: str | None, new: str) -> bool:
    """Set the hash, if it still is `old` (None: whatever it is). False when it is not."""
    statement = sa.update(models.User).where(models.User.id == user_id).values(password_hash=new)
    if old is not None:
        statement = statement.where(models.User.password_hash == old)
    return _changed(session, statement) == 1


def set_display_name(session: orm.Session, user_id: str, display_name: str, at: datetime) -> User | None:
    row = session.get(models.User, user_id, with_for_update=True)
    if row is None:
        return None
    row.display_name = display_name
    row.updated_at = at
    return to_user(row)


def has_admin(session: orm.Session) -> bool:
    return bool(session.scalar(sa.select(sa.exists().where(models.User.is_admin))))


def add_refresh_token(
    session: orm.Session, user_id: str, token_hash: str, *, sign_in_id: str | None, at: datetime
) -> str:
    """Without `sign_in_id` a new family begins; returns its id. Forgets the person's tokens that have expired."""
    stale = sa.delete(models.RefreshToken).where(
        models.RefreshToken.user_id == user_id, models.RefreshToken.expires_at <= at
    )
    session.execute(stale)
    sign_in_id = sign_in_id or new_id()
    session.add(
        models.RefreshToken(
            id=new_id(),
            user_id=user_id,
            family_id=sign_in_id,
            token_hash=token_hash,
            created_at=at,
            expires_at=at + REFRESH_LIFETIME,
        )
    )
    return sign_in_id


def rotate_refresh_token(session: orm.Session, old_hash: str, new_hash: str, *, at: datetime) -> Rotation:
    """Use up one refresh token and add its successor. Presented again within the window, while nobody has used the
    successor, it is a client that did not hear the answer. Any other second use revokes the whole family: two parties
    hold the same token.

    Returns what happened instead of raising: the revocation has to be committed.
    """
    by_hash = sa.select(models.RefreshToken).where(models.RefreshToken.token_hash == old_hash)
    token = session.scalar(by_hash)
    if token is None:
        return Rotation(RefreshOutcome.UNKNOWN)
    # One refresh per person at a time, so that no successor appears while its family is being revoked.
    user = session.get(models.User, token.user_id, with_for_update=True)
    token = session.scalar(by_hash.execution_options(populate_existing=True))
    if user is None or token is None or token.revoked_at is not None:
        return Rotation(RefreshOutcome.UNKNOWN)
    rotated = Rotation(RefreshOutcome.ROTATED, to_user(user), token.family_id)
    if token.used_at is not None:
        if at - token.used_at <= REFRESH_RETRY_WINDOW and _is_unused(session, new_hash):
            return rotated
        revoke_sign_in(session, token.family_id, at)
        add_audit(session, AccountAct.REFRESH_REUSED, at=at, actor_id=None, target_id=user.id)
        return Rotation(RefreshOutcome.REUSED, to_user(user), token.family_id)
    if token.expires_at <= at:
        return Rotation(RefreshOutcome.EXPIRED)
    token.used_at = at
    add_refresh_token(session, user.id, new_hash, sign_in_id=token.family_id, at=at)
    return rotated


def _is_unused(session: orm.Session, token_hash: str) -> bool:
    token = models.RefreshToken
    query = sa.exists().where(token.token_hash == token_hash, token.used_at.is_(None), token.revoked_at.is_(None))
    return bool(session.scalar(sa.select(query)))


def find_sign_in(session: orm.Session, token_hash: str) -> tuple[str, str] | None:
    """The account and the sign-in that a refresh token belongs to."""
    token = models.RefreshToken
    row = session.execute(sa.select(token.user_id, token.family_id).where(token.token_hash == token_hash)).first()
    return None if row is None else (row.user_id, row.family_id)


def revoke_sign_in(session: orm.Session, sign_in_id: str, at: datetime) -> None:
    _revoke(session, models.RefreshToken.family_id == sign_in_id, at)


def revoke_all(session: orm.Session, user_id: str, at: datetime, *, but: str | None = None) -> None:
    """End every sign-in of the account, `but` this one."""
    condition = models.RefreshToken.user_id == user_id
    _revoke(session, condition if but is None else condition & (models.RefreshToken.family_id != but), at)


def replace_setup_token(session: orm.Session, token_hash: str, *, at: datetime, expires_at: datetime) -> None:
    """Make this the only setup token there is."""
    delete_setup_tokens(session)
    session.add(models.SetupToken(token_hash=token_hash, created_at=at, expires_at=expires_at))


def delete_setup_tokens(session: orm.Session) -> None:
    session.execute(sa.delete(models.SetupToken))


def setup_token_is_valid(session: orm.Session, token_hash: str, at: datetime) -> bool:
    expires_at = session.scalar(
        sa.select(models.SetupToken.expires_at).where(models.SetupToken.token_hash == token_hash)
    )
    return expires_at is not None and at < expires_at


def use_setup_token(session: orm.Session, token_hash: str, at: datetime) -> bool:
    """Use the token up. Of several at the same time one gets True."""
    statement = sa.delete(models.SetupToken).where(
        models.SetupToken.token_hash == token_hash, models.SetupToken.expires_at > at
    )
    return _changed(session, statement) == 1


def to_user(row: models.User) -> User:
    return User(
        id=row.id,
        email=row.email,
        display_name=row.display_name,
        is_admin=row.is_admin,
        created_at=row.created_at,
        email_verified=row.email_verified_at is not None,
    )


def _revoke(session: orm.Session, condition: sa.ColumnElement[bool], at: datetime) -> None:
    session.execute(
        sa.update(models.RefreshToken).where(condition, models.RefreshToken.revoked_at.is_(None)).values(revoked_at=at)
    )


def _changed(session: orm.Session, statement: sa.Update | sa.Delete) -> int:
    result = session.execute(statement)
    assert isinstance(result, sa.CursorResult)  # noqa: S101  for the type checker
    return result.rowcount
