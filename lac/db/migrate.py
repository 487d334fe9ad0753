"""Bring a database to the schema of this version, or say why it is not there. Blocking: call it from a thread."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import alembic.command
import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

import migrations
from lac.db.limits import lift_time_limit
from lac.errors import ConfigError

#: Any fixed number: two processes that migrate one PostgreSQL database take turns on it.
_ADVISORY_LOCK = 7_239_145


def alembic_config(connection: sa.Connection | None = None) -> Config:
    """Alembic's configuration for the migrations package, wherever it is installed. There is no alembic.ini."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def head_revision() -> str:
    """The revision that this version of the program needs."""
    return _history()[0]


@cache
def _history() -> tuple[str, frozenset[str]]:
    """The head, and every revision that this version knows. They are source files: read once."""
    script = ScriptDirectory.from_config(alembic_config())
    head = script.get_current_head()
    if head is None:
        raise RuntimeError("the migrations package is empty")
    return head, frozenset(revision.revision for revision in script.walk_revisions())


def known_revisions() -> frozenset[str]:
    """Every revision up to this version's."""
    scripts = ScriptDirectory.from_config(alembic_config())
    return frozenset(script.revision for script in scripts.walk_revisions())


def upgrade(engine: sa.Engine, revision: str = "head") -> None:
    """Apply what is missing, all of it or nothing. Safe to call from several processes at once."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            # Changing a table on SQLite means to copy it and drop the old one, which must not cascade.
            # It has no effect inside a transaction, hence the driver's own connection.
            connection.connection.driver_connection.execute("PRAGMA foreign_keys=OFF")  # type: ignore[union-attr]  # it is open
        try:
            with connection.begin():
                lift_time_limit(connection)
                if engine.dialect.name == "postgresql":
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
                current = _current_revision(connection)
                _refuse_newer(connection, current)
                if revision != "head" or current != head_revision():
                    alembic.command.upgrade(alembic_config(connection), revision)
        finally:
            if engine.dialect.name == "sqlite":
                connection.connection.driver_connection.execute("PRAGMA foreign_keys=ON")  # type: ignore[union-attr]  # it is open


def require_current(engine: sa.Engine) -> None:
    """Raise `ConfigError`, with the command to run, unless the schema is that of this version."""
    with engine.connect() as connection:
        current = _current_revision(connection)
        _refuse_newer(connection, current)
    if current != head_revision():
        state = "has no tables yet" if current is None else f"is at revision {current}, not {head_revision()}"
        raise ConfigError(f"The database {engine.url.database} {state}. Run `lac migrate`, then start again.")


def _current_revision(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _refuse_newer(connection: sa.Connection, current: str | None) -> None:
    if current is not None and current not in known_revisions():
        raise ConfigError(
            f"The database {connection.engine.url.database} was made by a newer version (revision {current}). "
            "Install that version, or restore a backup from before it."
        )
