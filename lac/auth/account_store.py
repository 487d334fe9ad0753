"""Queries on what people do with their own account: links by e-mail, leaving, taking their data along."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import orm

from lac.audit import AccountAct, add_audit
from lac.broadcasts.model import BroadcastStatus
from lac.db import models
from lac.db.models import TokenPurpose
from lac.errors import ConflictError, NotFoundError
from lac.recordings import store as recordings

#: Mails of one purpose to one account.
MAILS_MAX = 3
MAILS_PERIOD = timedelta(hours=1)
#: Under what stays of them in other people's shows.
DELETED_NAME = "Deleted account"


def add_account_token(
    session: orm.Session, user_id: str, purpose: TokenPurpose, token_hash: str, *, lifetime: timedelta, at: datetime
) -> datetime | None:
    """Keep a token for a link. None if done; else the time at which there may be another mail for this purpose."""
    row = models.AccountToken
    if session.get(models.User, user_id, with_for_update=True) is None:  # locked: what follows counts
        raise NotFoundError("There is no such user.")
    of_account = (row.user_id == user_id) & (row.purpose == purpose)
    session.execute(sa.delete(row).where(of_account, row.expires_at <= at, row.created_at <= at - MAILS_PERIOD))
    recent = session.scalars(
        sa.select(row.created_at).where(of_account, row.created_at > at - MAILS_PERIOD).order_by(row.created_at)
    ).all()
    if len(recent) >= MAILS_MAX:
        return recent[-MAILS_MAX] + MAILS_PERIOD
    session.add(row(token_hash=token_hash, user_id=user_id, purpose=purpose, created_at=at, expires_at=at + lifetime))
    return None


def owner_of_account_token(session: orm.Session, token_hash: str, purpose: TokenPurpose, at: datetime) -> str | None:
    """Whose token this is; None if it is not valid (any more)."""
    row = session.get(models.AccountToken, token_hash)
    valid = row is not None and row.purpose is purpose and row.used_at is None and at < row.expires_at
    return row.user_id if row is not None and valid else None


def use_account_token(session: orm.Session, token_hash: str, purpose: TokenPurpose, at: datetime) -> str | None:
    """Use up this token, and every other of the account for the same purpose. Returns whose it was, None if it is not
    valid. Of several at the same time one succeeds. The account's row is locked from here on."""
    row = session.get(models.AccountToken, token_hash)
    if row is None or session.get(models.User, row.user_id, with_for_update=True) is None:
        return None
    session.refresh(row)
    user_id = owner_of_account_token(session, token_hash, purpose, at)
    if user_id is None:
        return None
    void_account_tokens(session, user_id, purpose, at)
    return user_id


def void_account_tokens(session: orm.Session, user_id: str, purpose: TokenPurpose, at: datetime) -> None:
    row = models.AccountToken
    session.execute(
        sa.update(row).where(row.user_id == user_id, row.purpose == purpose, row.used_at.is_(None)).values(used_at=at)
    )


def was_verified_with(session: orm.Session, token_hash: str) -> bool:
    """Whether this is a link that has done its work: people click twice."""
    row = session.get(models.AccountToken, token_hash)
    if row is None or row.purpose is not TokenPurpose.VERIFY_EMAIL or row.used_at is None:
        return False
    user = session.get(models.User, row.user_id)
    return user is not None and user.email_verified_at is not None


def set_email_verified(session: orm.Session, user_id: str, at: datetime) -> None:
    """The first time stays."""
    row = models.User
    session.execute(
        sa.update(row).where(row.id == user_id, row.email_verified_at.is_(None)).values(email_verified_at=at)
    )


def delete_account(session: orm.Session, user_id: str, *, password_hash: str, at: datetime) -> bool:
    """Delete the account with its shows, unless the password is another by now (False).

    Raises `ConflictError`: show_is_live, last_admin.
    """
    # In the order in which everybody locks: broadcasts, then accounts.
    hosted = session.scalars(
        sa.select(models.Broadcast)
        .where(models.Broadcast.host_id == user_id)
        .order_by(models.Broadcast.id)
        .with_for_update(of=models.Broadcast)
    ).all()
    admins = session.scalars(
        sa.select(models.User.id).where(models.User.is_admin).order_by(models.User.id).with_for_update()
    ).all()
    user = session.get(models.User, user_id, with_for_update=True, populate_existing=True)
    if user is None or user.password_hash != password_hash:
        return False
    live = [broadcast.title for broadcast in hosted if broadcast.status is BroadcastStatus.LIVE]
    if live:
        raise ConflictError(f"Your show “{live[0]}” is live. End it first.", code="show_is_live")
    if list(admins) == [user_id]:
        raise ConflictError(
            "You are the only administrator of this server. Make another one first (lac user create --admin).",
            code="last_admin",
        )
    # What they said in other people's shows is part of those: it stays, without the name.
    message = models.ChatMessage
    session.execute(sa.update(message).where(message.user_id == user_id).values(display_name=DELETED_NAME))
    recordings.remove_of_broadcasts(session, [broadcast.id for broadcast in hosted], at=at)
    session.execute(sa.delete(models.User).where(models.User.id == user_id))
    add_audit(
        session, AccountAct.DELETED, at=at, actor_id=user_id, target_id=user_id, detail={"broadcasts": len(hosted)}
    )
    return True
