"""Requests that may be sent twice: the first answer is kept for a day, in the transaction of what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import orm

from lac.db import models
from lac.errors import ConflictError
from lac.text import invalid

LIFETIME = timedelta(days=1)
KEY_MAX = 255


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    status: int
    body: str


def check_key(key: str) -> str:
    """Raises `InvalidInputError` for what cannot be a key: empty, too long, or not printable ASCII."""
    if not key or len(key) > KEY_MAX or not key.isascii() or not key.isprintable():
        raise invalid("Idempotency-Key", f"is not 1 to {KEY_MAX} printable ASCII characters")
    return key


def find_answer(session: orm.Session, user_id: str, key: str, request_hash: str, *, at: datetime) -> KeptAnswer | None:
    """What this person was answered when they sent the same request with the same key. Raises `InvalidInputError`
    (idempotency_key_reused) when it was another request."""
    row = session.get(models.IdempotencyKey, (user_id, key))
    if row is None or row.created_at + LIFETIME <= at:
        return None
    if row.request_hash != request_hash:
        raise invalid("Idempotency-Key", "was used for another request", code="idempotency_key_reused")
    return KeptAnswer(row.response_status, row.response_body)


def keep_answer(
    session: orm.Session, user_id: str, key: str, request_hash: str, answer: KeptAnswer, *, at: datetime
) -> None:
    """Keep it; forgets those that are too old. Of two at the same time one gets `ConflictError` (request_repeated):
    nothing of it happens, and asking again finds the other's answer."""
    session.execute(sa.delete(models.IdempotencyKey).where(models.IdempotencyKey.created_at <= at - LIFETIME))
    session.add(
        models.IdempotencyKey(
            user_id=user_id,
            key=key,
            request_hash=request_hash,
            response_status=answer.status,
            response_body=answer.body,
            created_at=at,
        )
    )
    try:
        session.flush()
    except sa.exc.IntegrityError:
        raise ConflictError(
            "This request is being answered already. Send it again for the answer.", code="request_repeated"
        ) from None
