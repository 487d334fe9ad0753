"""Whether a running process and its database still fit together. For /ready."""

from __future__ import annotations

from functools import lru_cache

import sqlalchemy as sa
from sqlalchemy import orm

from lac.db.engine import Database
from lac.db.migrate import head_revision, known_revisions
from lac.errors import UnavailableError


async def require_usable(db: Database) -> None:
    """Raises `UnavailableError`: `database_unavailable` when it does not answer, `migrations_pending` when its schema
    is older than this version needs.

    One that a newer version has migrated meanwhile is fine: migrations work with the release before them, so that
    servers can be replaced one by one.
    """
    revision = await db.read(_revision)
    if revision in _outdated_revisions():
        raise UnavailableError("The database is older than this version. Run `lac migrate`.", code="migrations_pending")


def _revision(session: orm.Session) -> str | None:
    revision: str | None = session.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return revision


@lru_cache(maxsize=1)
def _outdated_revisions() -> frozenset[str | None]:
    return frozenset({None, *known_revisions()} - {head_revision()})
