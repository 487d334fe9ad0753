"""One `lac serve` for a data directory: a second one would take the shows of the first for shows that were left.

A lock of the kernel on a file: it ends with the process however that ends, so nothing is ever left to be cleared away.
The file itself stays: whoever removed it could remove one that somebody has just locked. Blocking, for a moment.
PostgreSQL, which several machines may reach, has a lock of its own: `lac.db.sole_server`.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import structlog
from sqlalchemy.engine import make_url

from lac.config import Settings
from lac.data_dir import prepare_data_dir
from lac.errors import ConfigError

log = structlog.get_logger(__name__)

LOCK_FILE = "serve.lock"
#: What file systems answer that have no locks.
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})


class HeldError(Exception):
    """Somebody else has the lock. `holder` says who, for people."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


@contextmanager
def hold_data(settings: Settings) -> Iterator[None]:
    """The data directory, and an SQLite database wherever it is, are ours while the block lasts.

    Raises `ConfigError`, one line, when another process serves them, and has then changed nothing.
    """
    prepare_data_dir(settings.data_dir)
    with ExitStack() as held:
        for path, what, variable in _locks(settings):
            try:
                held.enter_context(file_lock(path))
            except HeldError as error:
                raise ConfigError(
                    f"{variable}: {error.holder} serves {what} already. Stop it first, or set {variable} to another."
                ) from None
            except OSError as error:
                raise ConfigError(
                    f"{variable}: {path} cannot be written ({error.strerror}). Give this user access to it."
                ) from None
        yield


@contextmanager
def hold_data_dir(data_dir: Path) -> Iterator[None]:
    """For what must not happen while a server runs. Raises `HeldError`, `OSError`."""
    with file_lock(data_dir / LOCK_FILE):
        yield


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold `path`, which is made if need be, and leave our process's number in it. Raises `HeldError`, `OSError`."""
    # Python's descriptors are not inherited: a process that we have started does not hold it for us.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HeldError(_holder(os.pread(descriptor, 32, 0))) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            log.warning("this file system has no locks: a second server would not be noticed", path=str(path))
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _holder(content: bytes) -> str:
    number = content.decode(errors="replace").strip()
    return f"another process ({number})" if number.isascii() and number.isdigit() else "another process"


def _locks(settings: Settings) -> Iterator[tuple[Path, str, str]]:
    """(the file to lock, what that stands for, the variable that says where it is)."""
    yield settings.data_dir / LOCK_FILE, f"the data directory {settings.data_dir}", "LAC_DATA_DIR"
    if settings.database_url is None:
        name: str | None = str(settings.sqlite_path)
    else:
        url = make_url(settings.database_url)
        name = url.database if url.get_backend_name() == "sqlite" else None
    # A name may also be an address of SQLite's own kind, with options in it: whoever writes one knows what it is for.
    if name is not None and not name.startswith("file:"):
        database = Path(name).resolve()
        # Never the database's own file: closing it would end the locks that SQLite has on it in this process.
        yield database.with_name(f"{database.name}.{LOCK_FILE}"), f"the database {database}", "DATABASE_URL"
