"""A backup in one file: a consistent copy of the SQLite database and the secrets that its tokens are made with.

The archive is a gzipped tar of three members: `manifest.json`, `liveaudiocast.db`, `secrets.json`. Blocking.

The files of recordings are not in it: they are many times as large, are never rewritten once they are complete, and go
elsewhere best with a tool that copies what is new. The database says which there are; `recordings_beside` counts them.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sqlite3
import tarfile
import tempfile
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lac import __version__
from lac.config import Settings
from lac.data_dir import SECRETS_FILE, prepare_data_dir
from lac.db.migrate import known_revisions
from lac.errors import LacError
from lac.recordings.layout import recordings_dir
from lac.sole_server import HeldError, hold_data_dir

FORMAT = 1
MANIFEST = "manifest.json"
DATABASE = "liveaudiocast.db"
_SMALL_MAX = 64 * 1024


class BackupError(LacError):
    """The backup cannot be made or restored. Nothing has changed."""

    code = "backup"


@dataclass(frozen=True, slots=True)
class Backup:
    """What an archive says of itself."""

    version: str
    revision: str
    created_at: datetime
    database_bytes: int
    has_secrets: bool


def create_backup(settings: Settings, target: Path, *, overwrite: bool = False) -> Backup:
    """Write the archive, readable by its owner only. The server may run meanwhile. Raises `BackupError`."""
    source = _sqlite_file(settings)
    if not source.is_file():
        raise BackupError(f"There is no database at {source}. Is LAC_DATA_DIR right?")
    if target.exists() and not overwrite:
        raise BackupError(f"{target} exists. Choose another name, or say --force to replace it.")
    try:
        with tempfile.TemporaryDirectory(dir=target.absolute().parent, prefix=".lac-backup-") as scratch:
            copy = Path(scratch) / DATABASE
            _copy_online(source, copy)
            secrets = _read_secrets(settings)
            backup = Backup(
                version=__version__,
                revision=_checked_revision(copy),
                created_at=datetime.now(UTC).replace(microsecond=0),
                database_bytes=copy.stat().st_size,
                has_secrets=secrets is not None,
            )
            archive = Path(scratch) / "archive"
            _write_archive(archive, backup, copy, secrets)
            archive.replace(target)
    except (OSError, sqlite3.Error) as error:
        raise BackupError(f"The backup could not be written: {error}.") from None
    return backup


def restore_backup(settings: Settings, source: Path, *, overwrite: bool = False) -> tuple[Backup, list[Path]]:
    """Put the archive's database and secrets in place of the present ones; the server must not run.

    Returns what was restored, and where what was there before is now. Raises `BackupError`.
    """
    database = _sqlite_file(settings)
    if database.exists() and not overwrite:
        raise BackupError(
            f"There is a database at {database}. To put the backup in its place (the present one is kept beside it), "
            "say --force."
        )
    prepare_data_dir(settings.data_dir)
    try:
        with (
            hold_data_dir(settings.data_dir),
            tempfile.TemporaryDirectory(dir=settings.data_dir, prefix=".lac-restore-") as scratch,
        ):
            fresh = Path(scratch) / DATABASE
            backup, secrets = _read_archive(source, fresh)
            aside: list[Path] = []
            if database.exists():
                _require_unused(database)
                aside.append(_set_aside(database))
            fresh.replace(database)
            if secrets is not None:
                file = settings.data_dir / SECRETS_FILE
                if file.exists() and aside and file.read_bytes() != secrets:
                    aside.append(_set_aside(file))
                _write_private(Path(scratch) / SECRETS_FILE, secrets).replace(file)
    except HeldError as error:
        raise BackupError(f"{settings.data_dir} is in use by {error.holder}. Stop the server, then restore.") from None
    except (OSError, sqlite3.Error) as error:
        raise BackupError(f"The backup could not be restored: {error}.") from None
    return backup, aside


def recordings_beside(settings: Settings) -> tuple[int, int]:
    """How many recordings have files below the data directory, and how many bytes those are."""
    count = size = 0
    for directory in sorted(recordings_dir(settings.data_dir).glob("*/")):
        files = [file for file in directory.rglob("*") if file.is_file()]
        count += bool(files)
        size += sum(file.stat().st_size for file in files)
    return count, size


def recordings_missing(settings: Settings) -> int:
    """How many recordings the database knows whose program is not below the data directory. Today's schema is there."""
    with closing(sqlite3.connect(f"{_sqlite_file(settings).absolute().as_uri()}?mode=ro", uri=True)) as connection:
        keys = connection.execute("SELECT storage_key FROM recordings WHERE storage_key IS NOT NULL").fetchall()
    return sum(not (settings.data_dir / key).is_file() for (key,) in keys)


def _sqlite_file(settings: Settings) -> Path:
    if settings.database_url is not None:
        raise BackupError(
            "The database is PostgreSQL or has an address of its own: use its tools. For PostgreSQL: "
            "pg_dump --format=custom --file=FILE DATABASE to save, pg_restore --clean --dbname=DATABASE FILE to "
            f"restore. Keep {settings.data_dir / SECRETS_FILE} with it, or everyone has to sign in again, and "
            f"{recordings_dir(settings.data_dir)}, where the recordings are."
        )
    return settings.sqlite_path


def _copy_online(source: Path, target: Path) -> None:
    """SQLite's own way: consistent, also while others write."""
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as reader,
        closing(sqlite3.connect(target)) as writer,
    ):
        reader.backup(writer)
        writer.execute("PRAGMA journal_mode=DELETE")  # one file, complete in itself


def _checked_revision(database: Path) -> str:
    """The schema's revision. Raises `BackupError` for a file that is damaged or not ours."""
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            problem = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error as error:
        raise BackupError(f"This is not a database of LiveAudioCast: {error}.") from None
    if problem != "ok":
        raise BackupError(f"The database is damaged: {problem}.")
    if row is None:
        raise BackupError("The database has no schema. Run `lac migrate` first.")
    return str(row[0])


def _read_secrets(settings: Settings) -> bytes | None:
    try:
        return (settings.data_dir / SECRETS_FILE).read_bytes()
    except FileNotFoundError:
        return None  # they come from the environment


def _write_archive(path: Path, backup: Backup, database: Path, secrets: bytes | None) -> None:
    manifest = {
        "format": FORMAT,
        "version": backup.version,
        "revision": backup.revision,
        "createdAt": backup.created_at.isoformat(),
        "database": {"name": DATABASE, "bytes": backup.database_bytes, "sha256": _digest(database)},
        "secrets": secrets is not None,
    }
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        with tarfile.open(fileobj=file, mode="w:gz", compresslevel=6) as archive:
            _add(archive, MANIFEST, json.dumps(manifest, indent=2).encode(), backup)
            if secrets is not None:
                _add(archive, SECRETS_FILE, secrets, backup)
            member = tarfile.TarInfo(DATABASE)
            member.size, member.mode = backup.database_bytes, 0o600
            member.mtime = int(backup.created_at.timestamp())
            with database.open("rb") as content:
                archive.addfile(member, content)
        file.flush()
        os.fsync(file.fileno())


def _add(archive: tarfile.TarFile, name: str, content: bytes, backup: Backup) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(content), 0o600, int(backup.created_at.timestamp())
    archive.addfile(member, io.BytesIO(content))


def _read_archive(source: Path, database: Path) -> tuple[Backup, bytes | None]:
    """Checks everything before anything is replaced; writes the database to `database`. Nothing is unpacked by the
    names in the archive: only the three that we know are read."""
    try:
        with tarfile.open(source, mode="r:gz") as archive:
            manifest = _manifest(_read_small(archive, MANIFEST))
            secrets = _read_small(archive, SECRETS_FILE) if manifest["secrets"] else None
            with _member(archive, DATABASE) as content, database.open("xb") as file:
                left = int(manifest["database"]["bytes"])
                while left > 0 and (chunk := content.read(min(left, 1 << 20))):
                    file.write(chunk)
                    left -= len(chunk)
                file.flush()
                os.fsync(file.fileno())
        backup = Backup(
            version=str(manifest["version"]),
            revision=str(manifest["revision"]),
            created_at=datetime.fromisoformat(manifest["createdAt"]),
            database_bytes=int(manifest["database"]["bytes"]),
            has_secrets=secrets is not None,
        )
        digest = manifest["database"]["sha256"]
    except FileNotFoundError:
        raise BackupError(f"There is no file {source}.") from None
    except (tarfile.TarError, EOFError, ValueError, KeyError, TypeError, OSError) as error:
        raise BackupError(f"{source} is not a backup of LiveAudioCast, or is damaged: {error}.") from None
    if _digest(database) != digest:
        raise BackupError(f"{source} is damaged: its database is not the one that was saved.")
    if _checked_revision(database) not in known_revisions():
        raise BackupError(
            f"{source} was made by a newer version ({backup.version}). Install that version to restore it."
        )
    return backup, secrets


def _manifest(raw: bytes) -> dict[str, Any]:
    manifest = json.loads(raw)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise ValueError("it has no manifest")  # noqa: TRY004  a damaged file, not a wrong call
    if manifest["format"] > FORMAT:
        raise BackupError("The backup was made by a newer version. Install that version to restore it.")
    return manifest


def _read_small(archive: tarfile.TarFile, name: str) -> bytes:
    with _member(archive, name) as content:
        data: bytes = content.read(_SMALL_MAX + 1)
    if len(data) > _SMALL_MAX:
        raise ValueError(f"{name} is too large")
    return data


def _member(archive: tarfile.TarFile, name: str) -> Any:
    content = archive.extractfile(name)
    if content is None:
        raise ValueError(f"{name} is not a file")
    return content


def _require_unused(database: Path) -> None:
    """Leaving WAL needs the database to oneself: SQLite refuses while a server has it open."""
    try:
        with closing(sqlite3.connect(database, timeout=1)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            return  # damaged: a good reason to restore
        raise BackupError(f"{database} is in use. Stop the server, then restore.") from None
    except sqlite3.DatabaseError:
        return


def _set_aside(path: Path) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    return path.rename(path.with_name(f"{path.name}.before-restore-{stamp}"))


def _write_private(path: Path, content: bytes) -> Path:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
