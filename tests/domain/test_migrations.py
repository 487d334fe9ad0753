"""Migrations and models agree, up and down, and a database of another version is refused with the way out."""

from __future__ import annotations

import pprint
from collections.abc import Iterator
from pathlib import Path

import alembic.command
import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from lac.config import load_settings
from lac.db import migrate
from lac.db.engine import create_engines
from lac.db.models import Base
from lac.errors import ConfigError
from tests.domain.conftest import BACKENDS, SECRETS
from tests.postgres import PostgresServer


@pytest.fixture(params=BACKENDS)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    """An empty database."""
    environ = dict(SECRETS)
    if request.param == "postgresql":
        postgres: PostgresServer = request.getfixturevalue("postgres")
        environ["DATABASE_URL"] = postgres.create("migrated")
    writer, reader = create_engines(load_settings(environ, data_dir=tmp_path))
    yield writer
    writer.dispose()
    reader.dispose()


def revisions() -> list[str]:
    """All of them, the first one first."""
    script = ScriptDirectory.from_config(migrate.alembic_config())
    return [revision.revision for revision in script.walk_revisions()][::-1]


def downgrade(engine: sa.Engine, revision: str) -> None:
    with engine.begin() as connection:
        alembic.command.downgrade(migrate.alembic_config(connection), revision)


def check(engine: sa.Engine) -> None:
    """Raises when the models and the database differ."""
    with engine.begin() as connection:
        alembic.command.check(migrate.alembic_config(connection))


def schema(engine: sa.Engine) -> str:
    """Everything that can be seen of it, to compare."""
    inspector = sa.inspect(engine)
    described = {
        table: (
            [{**column, "type": str(column["type"])} for column in inspector.get_columns(table)],
            inspector.get_pk_constraint(table),
            *(
                sorted(found(table), key=lambda item: str(item["name"]))
                for found in (
                    inspector.get_indexes,
                    inspector.get_unique_constraints,
                    inspector.get_foreign_keys,
                    inspector.get_check_constraints,
                )
            ),
        )
        for table in sorted(tables(engine))
    }
    return pprint.pformat(described)


def tables(engine: sa.Engine) -> set[str]:
    return set(sa.inspect(engine).get_table_names()) - {"alembic_version"}


def test_upgrading_from_nothing_makes_what_the_models_describe(
    engine: sa.Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    migrate.upgrade(engine)
    assert tables(engine) == set(Base.metadata.tables)
    check(engine)


def test_the_checks_have_the_names_of_the_models(engine: sa.Engine) -> None:
    migrate.upgrade(engine)
    inspector = sa.inspect(engine)
    for table in Base.metadata.sorted_tables:
        in_models = {check.name for check in table.constraints if isinstance(check, sa.CheckConstraint)}
        assert {check["name"] for check in inspector.get_check_constraints(table.name)} == in_models


def test_downgrading_leaves_nothing(engine: sa.Engine) -> None:
    migrate.upgrade(engine)
    downgrade(engine, "base")
    assert tables(engine) == set()


#: What every revision has known.
ROWS = [
    "INSERT INTO users (id, email, password_hash, display_name, is_admin, created_at, updated_at) VALUES "
    "('ada', 'ada@example.org', 'hash', 'Ada', true, '2030-01-01 00:00:00', '2030-01-01 00:00:00')",
    "INSERT INTO refresh_tokens (id, user_id, family_id, token_hash, created_at, expires_at) VALUES "
    "('t', 'ada', 'f', 'hash', '2030-01-01 00:00:00', '2030-02-01 00:00:00')",
    "INSERT INTO broadcasts (id, host_id, title, description, status, visibility, tags, recording_enabled, created_at, "
    "updated_at, listed_at, stream_key_version) VALUES ('show', 'ada', 'A show', '', 'ended', 'public', '[]', false, "
    "'2030-01-01 00:00:00', '2030-01-01 00:00:00', '2030-01-01 00:00:00', 1)",
    "INSERT INTO bans (broadcast_id, person_id, created_at) VALUES ('show', 'guest', '2030-01-01 00:00:00')",
]
KEPT = "SELECT users.display_name, title, person_id, token_hash FROM users, broadcasts, bans, refresh_tokens"


@pytest.mark.parametrize("revision", revisions())
def test_each_earlier_revision_is_brought_up_to_date_with_what_is_in_it(
    engine: sa.Engine, revision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    migrate.upgrade(engine, revision)
    with engine.begin() as connection:
        for statement in ROWS:
            connection.execute(sa.text(statement))
    migrate.upgrade(engine)
    check(engine)
    with engine.begin() as connection:
        assert connection.execute(sa.text(KEPT)).all() == [("Ada", "A show", "guest", "hash")]


def test_the_last_revision_can_be_undone_and_done_again(engine: sa.Engine, capsys: pytest.CaptureFixture[str]) -> None:
    *_, before, _last = ["base", *revisions()]
    if before != "base":
        migrate.upgrade(engine, before)
    schema_before = schema(engine)
    migrate.upgrade(engine)
    with engine.begin() as connection:
        for statement in ROWS:
            connection.execute(sa.text(statement))
    downgrade(engine, before)
    assert schema(engine) == schema_before
    migrate.upgrade(engine)
    check(engine)
    with engine.begin() as connection:
        assert connection.execute(sa.text(KEPT)).all() == [("Ada", "A show", "guest", "hash")]


def test_upgrading_twice_changes_nothing(engine: sa.Engine) -> None:
    migrate.upgrade(engine)
    migrate.upgrade(engine)
    migrate.require_current(engine)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_foreign_keys_are_enforced_after_migrating_on_the_same_connection(engine: sa.Engine) -> None:
    migrate.upgrade(engine)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_a_migration_that_fails_leaves_the_database_as_it_was(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("in the middle")

    monkeypatch.setattr("alembic.op.create_index", fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        migrate.upgrade(engine)
    assert sa.inspect(engine).get_table_names() == []


def test_an_empty_database_that_is_not_ours_to_migrate_names_the_command(engine: sa.Engine) -> None:
    with pytest.raises(ConfigError, match=r"has no tables yet. Run `lac migrate`"):
        migrate.require_current(engine)


def test_a_database_of_a_newer_version_is_left_alone(engine: sa.Engine) -> None:
    migrate.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'f00'"))
    for start in (migrate.upgrade, migrate.require_current):
        with pytest.raises(ConfigError, match=r"newer version \(revision f00\)"):
            start(engine)
