"""Migrations and models agree, up and down, and a database of another version is refused with the way out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import alembic.command
import pytest
import sqlalchemy as sa

from lac.config import load_settings
from lac.db import migrate
from lac.db.engine import create_engines
from lac.db.models import Base
from lac.errors import ConfigError
from tests.domain.conftest import SECRETS


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    """An empty database."""
    writer, reader = create_engines(load_settings(SECRETS, data_dir=tmp_path))
    yield writer
    writer.dispose()
    reader.dispose()


def tables(engine: sa.Engine) -> set[str]:
    return set(sa.inspect(engine).get_table_names()) - {"alembic_version"}


def test_upgrading_from_nothing_makes_what_the_models_describe(
    engine: sa.Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    migrate.upgrade(engine)
    assert tables(engine) == set(Base.metadata.tables)
    with engine.begin() as connection:
        alembic.command.check(migrate.alembic_config(connection))  # raises when they differ


def test_the_checks_have_the_names_of_the_models(engine: sa.Engine) -> None:
    migrate.upgrade(engine)
    inspector = sa.inspect(engine)
    for table in Base.metadata.sorted_tables:
        in_models = {check.name for check in table.constraints if isinstance(check, sa.CheckConstraint)}
        assert {check["name"] for check in inspector.get_check_constraints(table.name)} == in_models


def test_downgrading_leaves_nothing(engine: sa.Engine) -> None:
    migrate.upgrade(engine)
    with engine.begin() as connection:
        alembic.command.downgrade(migrate.alembic_config(connection), "base")
    assert tables(engine) == set()


def test_upgrading_twice_changes_nothing(engine: sa.Engine) -> None:
    migrate.upgrade(engine)
    migrate.upgrade(engine)
    migrate.require_current(engine)


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
    for check in (migrate.upgrade, migrate.require_current):
        with pytest.raises(ConfigError, match=r"newer version \(revision f00\)"):
            check(engine)
