"""The tables, and nothing else: no queries, no rules. `migrations/` is what creates them; a test keeps both equal."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ForeignKey, Index, orm
from sqlalchemy.orm import Mapped, mapped_column

from lac.broadcasts.model import BroadcastStatus, Role, Visibility
from lac.recordings.model import RecordingStatus


class Identifier(sa.TypeDecorator[str]):
    """An opaque id. One that no database can hold, as a stranger may ask for, is one that nothing has: PostgreSQL and
    its driver would call NUL and lone surrogates an error."""

    impl = sa.String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        if value is None or (value.isprintable() and "\0" not in value):
            return value
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


ID = Identifier(64)


class UtcDateTime(sa.TypeDecorator[datetime]):
    """An aware datetime, stored and returned in UTC on every database. SQLite keeps no time zone; we put it back."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive datetime has no place in the database")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _enum(kind: type[StrEnum], name: str) -> sa.Enum:
    """Stored as its value, in a text column that a CHECK guards."""
    return sa.Enum(
        kind,
        name=name,
        native_enum=False,
        create_constraint=True,
        length=16,
        values_callable=lambda members: [member.value for member in members],
    )


class TokenPurpose(StrEnum):
    VERIFY_EMAIL = "verify_email"
    RESET_PASSWORD = "reset_password"  # noqa: S105  a purpose


class Base(orm.DeclarativeBase):
    metadata = sa.MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012  SQLAlchemy reads it from the class
        datetime: UtcDateTime(),
        str: sa.String(),
        float: sa.Double(),
    }


class User(Base):
    __tablename__ = "users"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    #: Normalised: see lac/auth/credentials.py.
    email: Mapped[str] = mapped_column(sa.String(254), unique=True)
    password_hash: Mapped[str] = mapped_column(sa.String(255))
    display_name: Mapped[str] = mapped_column(sa.String(64))
    is_admin: Mapped[bool]
    #: None: nobody has shown yet that they read this address.
    email_verified_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class RefreshToken(Base):
    """One link of a chain of single-use tokens. All that descend from one sign-in share `family_id`."""

    __tablename__ = "refresh_tokens"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    family_id: Mapped[str] = mapped_column(ID, index=True)
    token_hash: Mapped[str] = mapped_column(sa.String(64), unique=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class AccountToken(Base):
    """A link sent by e-mail, good for one use. Used and expired ones stay for a while: they count towards the limit."""

    __tablename__ = "account_tokens"
    __table_args__ = (Index(None, "user_id", "purpose"),)

    token_hash: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    purpose: Mapped[TokenPurpose] = mapped_column(_enum(TokenPurpose, "purpose"))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class SetupToken(Base):
    """The single-use link that creates the first admin."""

    __tablename__ = "setup_tokens"

    token_hash: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class Follow(Base):
    __tablename__ = "follows"
    __table_args__ = (sa.CheckConstraint("follower_id <> followed_id", name="not_oneself"),)

    follower_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    followed_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True)
    created_at: Mapped[datetime]


class Broadcast(Base):
    __tablename__ = "broadcasts"
    __table_args__ = (Index(None, "status", "listed_at", "id"), Index(None, "host_id", "listed_at"))

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    host_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    title: Mapped[str] = mapped_column(sa.String(200))
    description: Mapped[str] = mapped_column(sa.Text)
    status: Mapped[BroadcastStatus] = mapped_column(_enum(BroadcastStatus, "status"))
    visibility: Mapped[Visibility] = mapped_column(_enum(Visibility, "visibility"))
    tags: Mapped[list[str]] = mapped_column(sa.JSON)
    recording_enabled: Mapped[bool]
    rewind_enabled: Mapped[bool] = mapped_column(server_default=sa.false())
    scheduled_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    #: Where it stands in lists: the start, the plan or the creation, the first that is known.
    listed_at: Mapped[datetime]
    stream_key_version: Mapped[int]
    slow_mode_s: Mapped[int] = mapped_column(server_default=sa.text("0"))
    followers_only: Mapped[bool] = mapped_column(server_default=sa.false())
    #: Goes before `followers_only`.
    chat_closed: Mapped[bool] = mapped_column(server_default=sa.false())
    locked: Mapped[bool] = mapped_column(server_default=sa.false())
    invite_version: Mapped[int] = mapped_column(server_default=sa.text("1"))

    host: Mapped[User] = orm.relationship(lazy="joined", innerjoin=True)


class BroadcastRole(Base):
    """What somebody other than the host may do in one broadcast."""

    __tablename__ = "broadcast_roles"

    broadcast_id: Mapped[str] = mapped_column(ForeignKey("broadcasts.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True)
    role: Mapped[Role] = mapped_column(_enum(Role, "role"))
    granted_at: Mapped[datetime]
    granted_by: Mapped[str | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))


class Ban(Base):
    """Keeps one person, with or without an account, out of one broadcast."""

    __tablename__ = "bans"
    __table_args__ = (Index(None, "broadcast_id", "address_hash"),)

    broadcast_id: Mapped[str] = mapped_column(ForeignKey("broadcasts.id", ondelete="CASCADE"), primary_key=True)
    #: A user's id or a guest's: no foreign key, guests have no row.
    person_id: Mapped[str] = mapped_column(ID, primary_key=True)
    #: Of a guest, who would come back under another id: see `lac.auth.tokens.hash_address`.
    address_hash: Mapped[str | None] = mapped_column(sa.String(64))
    reason: Mapped[str | None] = mapped_column(sa.String(300))
    #: None: for good.
    until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    created_by: Mapped[str | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))


class Recording(Base):
    __tablename__ = "recordings"
    __table_args__ = (Index(None, "started_at", "id"),)

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    broadcast_id: Mapped[str] = mapped_column(ForeignKey("broadcasts.id", ondelete="CASCADE"), index=True)
    status: Mapped[RecordingStatus] = mapped_column(_enum(RecordingStatus, "status"))
    title: Mapped[str] = mapped_column(sa.String(200))
    description: Mapped[str] = mapped_column(sa.Text, server_default=sa.text("''"))
    #: Where the program's file is, relative to the data directory or to the bucket.
    storage_key: Mapped[str | None] = mapped_column(sa.String(512))
    content_type: Mapped[str | None] = mapped_column(sa.String(64))
    size_bytes: Mapped[int | None] = mapped_column(sa.BigInteger)
    duration_s: Mapped[float | None]
    sha256: Mapped[str | None] = mapped_column(sa.String(64))
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    media_start_s: Mapped[float] = mapped_column(server_default=sa.text("0"))
    part: Mapped[int] = mapped_column(server_default=sa.text("1"))
    #: No foreign key: it stays when the account is gone.
    started_by: Mapped[str | None] = mapped_column(ID)
    #: Values of `EndReason` and `Failure`; their lists may grow, so that no CHECK guards them.
    end_reason: Mapped[str | None] = mapped_column(sa.String(16))
    failure: Mapped[str | None] = mapped_column(sa.String(32))
    lost_s: Mapped[float] = mapped_column(server_default=sa.text("0"))
    revision: Mapped[int] = mapped_column(server_default=sa.text("1"))


class RemovedRecording(Base):
    """A recording whose row is gone and whose files have yet to go. Written in the transaction that removes the row."""

    __tablename__ = "removed_recordings"

    recording_id: Mapped[str] = mapped_column(ID, primary_key=True)
    removed_at: Mapped[datetime]


class RecordingDerivative(Base):
    """Something that is made from a recording: see `lac.recordings.derivative`. The kinds and states may grow, so that
    no CHECK guards them."""

    __tablename__ = "recording_derivatives"
    __table_args__ = (Index(None, "status", "requested_at"),)

    recording_id: Mapped[str] = mapped_column(ForeignKey("recordings.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(16), primary_key=True)
    status: Mapped[str] = mapped_column(sa.String(16))
    #: Stays as long as the recording does.
    kept: Mapped[bool]
    in_bucket: Mapped[bool]
    attempts: Mapped[int]
    size_bytes: Mapped[int | None] = mapped_column(sa.BigInteger)
    sha256: Mapped[str | None] = mapped_column(sa.String(64))
    duration_s: Mapped[float | None]
    #: What was measured.
    detail: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    error: Mapped[str | None] = mapped_column(sa.String(300))
    requested_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    used_at: Mapped[datetime]


class RecordingOffload(Base):
    """A recording all of whose files are in the bucket, compared with those here."""

    __tablename__ = "recording_offloads"

    recording_id: Mapped[str] = mapped_column(ForeignKey("recordings.id", ondelete="CASCADE"), primary_key=True)
    size_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    finished_at: Mapped[datetime]
    #: When its audio was removed from our disk.
    cleared_at: Mapped[datetime | None]


class Reminder(Base):
    """Tell this person when the broadcast is about to start."""

    __tablename__ = "reminders"

    broadcast_id: Mapped[str] = mapped_column(ForeignKey("broadcasts.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True)
    created_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]


class MediaSession(Base):
    """One WebRTC session, from its opening to its close."""

    __tablename__ = "sessions"
    __table_args__ = (Index(None, "broadcast_id", "closed_at"),)

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    broadcast_id: Mapped[str] = mapped_column(ForeignKey("broadcasts.id", ondelete="CASCADE"))
    #: A user's id, a guest's, or that of a listener who never said anything.
    person_id: Mapped[str] = mapped_column(ID)
    user_id: Mapped[str | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"), index=True)
    #: The way in: "mediasoup", "whip", "whep", "icecast" (source clients), "stream" (plain HTTP) or "hls".
    kind: Mapped[str] = mapped_column(sa.String(16))
    direction: Mapped[str] = mapped_column(sa.String(8))
    opened_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    close_reason: Mapped[str | None] = mapped_column(sa.String(64))


class Reaction(Base):
    """How often one emoji was sent around one moment of the show."""

    __tablename__ = "reactions"
    __table_args__ = (Index(None, "broadcast_id", "media_time"),)

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    broadcast_id: Mapped[str] = mapped_column(ForeignKey("broadcasts.id", ondelete="CASCADE"))
    emoji: Mapped[str] = mapped_column(sa.String(64))
    count: Mapped[int]
    #: Seconds since the program began.
    media_time: Mapped[float]
    at: Mapped[datetime]


class ChatMessage(Base):
    """Who wrote it is kept as it was then: name and role do not change in the past."""

    __tablename__ = "chat_messages"
    __table_args__ = (Index(None, "broadcast_id", "at", "id"),)

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    broadcast_id: Mapped[str] = mapped_column(ForeignKey("broadcasts.id", ondelete="CASCADE"))
    person_id: Mapped[str] = mapped_column(ID)
    user_id: Mapped[str | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"), index=True)
    display_name: Mapped[str] = mapped_column(sa.String(64))
    role: Mapped[Role] = mapped_column(_enum(Role, "role"))
    anonymous: Mapped[bool]
    text: Mapped[str] = mapped_column(sa.Text)
    media_time: Mapped[float]
    at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class AuditEntry(Base):
    """Who did what to whom. Append-only: triggers refuse every change, and nothing here points at rows that may go."""

    __tablename__ = "audit_log"
    __table_args__ = (
        Index(None, "broadcast_id", "at", "id"),
        Index(None, "actor_id", "at"),
        Index(None, "target_id", "at"),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    at: Mapped[datetime]
    #: None: the server itself, or somebody unknown.
    actor_id: Mapped[str | None] = mapped_column(ID)
    action: Mapped[str] = mapped_column(sa.String(64))
    broadcast_id: Mapped[str | None] = mapped_column(ID)
    target_id: Mapped[str | None] = mapped_column(ID)
    detail: Mapped[dict[str, Any]] = mapped_column(sa.JSON)


class IdempotencyKey(Base):
    """What was answered to a request that its client may send again."""

    __tablename__ = "idempotency_keys"

    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(sa.String(255), primary_key=True)
    request_hash: Mapped[str] = mapped_column(sa.String(64))
    response_status: Mapped[int]
    response_body: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(index=True)
