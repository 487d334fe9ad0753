"""Who works on a recording's files: one process, one owner at a time. Blocking."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class DirectoryLock:
    """Held from its making to `release`, or to the end of the process, however that ends. Raises `BlockingIOError` when
    somebody else holds it, `FileNotFoundError` when there is no such directory."""

    def __init__(self, directory: Path) -> None:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor: int | None = descriptor

    def sync(self) -> None:
        """Make the names of the files in it durable."""
        if self._descriptor is not None:
            os.fsync(self._descriptor)

    def release(self) -> None:
        """Idempotent."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
