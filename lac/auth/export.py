"""All that is kept about one person, as JSON for themselves. Other people are in it as ids only, and no secret is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import orm

from lac.audit import entries_about
from lac.db import models


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    pass


class ExportedAccount(_Part, frozen=True):
    id: str
    email: str
    email_verified_at: datetime | None
    display_name: str
    is_admin: bool
    created_at: datetime
    updated_at: datetime


class ExportedSignIn(_Part, frozen=True):
    """`refreshes` is how often it was prolonged."""

    id: str
    signed_in_at: datetime
    last_used_at: datetime
    refreshes: int
    ended_at: datetime | None


class ExportedBroadcast(_Part, frozen=True):
    id: str
    title: str
    description: str
    status: str
    visibility: str
    tags: list[str]
    recording_enabled: bool
    rewind_enabled: bool
    scheduled_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    created_at: datetime
    updated_at: datetime


class ExportedRole(_Part, frozen=True):
    broadcast_id: str
    role: str
    granted_at: datetime


class ExportedFollow(_Part, frozen=True):
    user_id: str
    since: datetime


class ExportedReminder(_Part, frozen=True):
    broadcast_id: str
    created_at: datetime
    sent_at: datetime | None


class ExportedMessage(_Part, frozen=True):
    id: str
    broadcast_id: str
    display_name: str
    text: str
    media_time: float
    at: datetime
    deleted_at: datetime | None


class ExportedMediaSession(_Part, frozen=True):
    id: str
    broadcast_id: str
    kind: str
    direction: str
    opened_at: datetime
    closed_at: datetime | None
    close_reason: str | None


class ExportedRecording(_Part, frozen=True):
    id: str
    broadcast_id: str
    title: str
    status: str
    size_bytes: int | None
    duration_s: float | None
    started_at: datetime
    ended_at: datetime | None


class ExportedBan(_Part, frozen=True):
    broadcast_id: str
    reason: str | None
    until: datetime | None
    created_at: datetime


class ExportedAct(_Part, frozen=True):
    """Something done by this person, or (`byYou` false) to them. `detail` is there for their own acts."""

    at: datetime
    action: str
    by_you: bool
    broadcast_id: str | None
    target_id: str | None
    detail: dict[str, Any] | None


class AccountExport(_Part, frozen=True):
    exported_at: datetime
    account: ExportedAccount
    sign_ins: list[ExportedSignIn]
    broadcasts: list[ExportedBroadcast]
    recordings: list[ExportedRecording]
    roles: list[ExportedRole]
    following: list[ExportedFollow]
    followers: list[ExportedFollow]
    reminders: list[ExportedReminder]
    messages: list[ExportedMessage]
    media_sessions: list[ExportedMediaSession]
    bans: list[ExportedBan]
    acts: list[ExportedAct]


def export_account(session: orm.Session, user_id: str, *, at: datetime) -> AccountExport | None:
    """None when there is no such account."""
    user = session.get(models.User, user_id)
    if user is None:
        return None
    broadcast, recording, follow = models.Broadcast, models.Recording, models.Follow
    role, reminder, message = models.BroadcastRole, models.Reminder, models.ChatMessage
    media, ban = models.MediaSession, models.Ban

    def rows(query: sa.Select[Any]) -> Sequence[Any]:
        return session.scalars(query).all()

    return AccountExport(
        exported_at=at,
        account=_copy(ExportedAccount, user),
        sign_ins=_sign_ins(session, user_id),
        broadcasts=[
            _copy(ExportedBroadcast, row)
            for row in rows(sa.select(broadcast).where(broadcast.host_id == user_id).order_by(broadcast.created_at))
        ],
        recordings=[
            _copy(ExportedRecording, row)
            for row in rows(
                sa.select(recording)
                .join(broadcast, broadcast.id == recording.broadcast_id)
                .where(broadcast.host_id == user_id)
                .order_by(recording.started_at)
            )
        ],
        roles=[_copy(ExportedRole, row) for row in rows(sa.select(role).where(role.user_id == user_id))],
        following=[
            ExportedFollow(user_id=row.followed_id, since=row.created_at)
            for row in rows(sa.select(follow).where(follow.follower_id == user_id))
        ],
        followers=[
            ExportedFollow(user_id=row.follower_id, since=row.created_at)
            for row in rows(sa.select(follow).where(follow.followed_id == user_id))
        ],
        reminders=[
            _copy(ExportedReminder, row) for row in rows(sa.select(reminder).where(reminder.user_id == user_id))
        ],
        messages=[
            _copy(ExportedMessage, row)
            for row in rows(sa.select(message).where(message.user_id == user_id).order_by(message.at, message.id))
        ],
        media_sessions=[
            _copy(ExportedMediaSession, row)
            for row in rows(sa.select(media).where(media.user_id == user_id).order_by(media.opened_at))
        ],
        bans=[_copy(ExportedBan, row) for row in rows(sa.select(ban).where(ban.person_id == user_id))],
        acts=[
            ExportedAct(
                at=entry.at,
                action=entry.action,
                by_you=entry.actor_id == user_id,
                broadcast_id=entry.broadcast_id,
                target_id=entry.target_id,
                detail=entry.detail if entry.actor_id == user_id else None,
            )
            for entry in entries_about(session, user_id)
        ],
    )


def _sign_ins(session: orm.Session, user_id: str) -> list[ExportedSignIn]:
    token = models.RefreshToken
    query = (
        sa.select(
            token.family_id,
            sa.func.min(token.created_at).label("signed_in_at"),
            sa.func.max(token.created_at).label("last_used_at"),
            (sa.func.count() - 1).label("refreshes"),
            sa.func.max(token.revoked_at).label("ended_at"),
        )
        .where(token.user_id == user_id)
        .group_by(token.family_id)
        .order_by(sa.func.min(token.created_at))
    )
    return [
        ExportedSignIn(
            id=row.family_id,
            signed_in_at=row.signed_in_at,
            last_used_at=row.last_used_at,
            refreshes=row.refreshes,
            ended_at=row.ended_at,
        )
        for row in session.execute(query)
    ]


def _copy(kind: type[Any], row: object) -> Any:
    """The fields of `kind` from the columns of the same names."""
    return kind(**{name: getattr(row, name) for name in kind.__struct_fields__})
