"""The audit log: who did what, to whom, in which broadcast. Entries are added and read, never changed.

Write an entry in the transaction of the act itself, so that there is neither an act without its entry nor the reverse.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import orm

from lac.db import models
from lac.db.pages import earlier_than, page_of
from lac.ids import new_id
from lac.paging import Page, Position

SECTION = "audit"


class AccountAct(StrEnum):
    """What is recorded of accounts. Rooms have their own list."""

    EMAIL_VERIFIED = "account.email_verified"
    PASSWORD_CHANGED = "account.password_changed"  # noqa: S105  an act
    PASSWORD_RESET = "account.password_reset"  # noqa: S105  an act
    SIGNED_OUT_EVERYWHERE = "account.signed_out_everywhere"
    REFRESH_REUSED = "account.refresh_reused"
    DELETED = "account.deleted"


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`actorId` is null for what the server did by itself. Ids stay when what they name is gone."""

    id: str
    at: datetime
    actor_id: str | None
    action: str
    broadcast_id: str | None
    target_id: str | None
    detail: dict[str, Any]


def add_audit(
    session: orm.Session,
    action: str,
    *,
    at: datetime,
    actor_id: str | None,
    broadcast_id: str | None = None,
    target_id: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """`detail` is JSON that explains the act: a reason, a new value. No secrets, no addresses."""
    session.execute(
        sa.insert(models.AuditEntry).values(
            id=new_id(),
            at=at,
            actor_id=actor_id,
            action=str(action),
            broadcast_id=broadcast_id,
            target_id=target_id,
            detail=dict(detail or {}),
        )
    )


def list_audit(
    session: orm.Session, broadcast_id: str, *, limit: int, after: Position | None = None
) -> Page[AuditEntry]:
    """What was done in a broadcast, the latest first. `after` comes from the cursor of the page before."""
    row = models.AuditEntry
    query = sa.select(row).where(row.broadcast_id == broadcast_id)
    if after is not None:
        query = query.where(earlier_than(after, row.at, row.id))
    found = session.scalars(query.order_by(row.at.desc(), row.id.desc()).limit(limit + 1)).all()
    return page_of(found, limit, to_entry, lambda entry: Position(SECTION, entry.at, entry.id))


def entries_about(session: orm.Session, user_id: str) -> list[AuditEntry]:
    """What an account did, and what was done to it, anywhere; the earliest first."""
    row = models.AuditEntry
    query = sa.select(row).where((row.actor_id == user_id) | (row.target_id == user_id)).order_by(row.at, row.id)
    return [to_entry(entry) for entry in session.scalars(query)]


def to_entry(row: models.AuditEntry) -> AuditEntry:
    return AuditEntry(
        id=row.id,
        at=row.at,
        actor_id=row.actor_id,
        action=row.action,
        broadcast_id=row.broadcast_id,
        target_id=row.target_id,
        detail=row.detail,
    )
