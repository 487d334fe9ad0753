"""The disk, in threads of its own: a slow one makes nobody wait but those who need it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar, TypeVarTuple

import trio

T = TypeVar("T")
Args = TypeVarTuple("Args")

THREADS = 2


class Disk(Protocol):
    async def run(self, fn: Callable[[*Args], T], *args: *Args) -> T:
        """Call `fn(*args)`, which blocks. Not cancelled once it runs."""
        ...


class DiskThreads:
    """`Disk`, as it is outside of tests."""

    def __init__(self, threads: int = THREADS) -> None:
        self._limiter = trio.CapacityLimiter(threads)

    async def run(self, fn: Callable[[*Args], T], *args: *Args) -> T:
        return await trio.to_thread.run_sync(fn, *args, limiter=self._limiter)


def write_whole(path: Path, data: bytes) -> None:
    """Replace the file at once: whoever reads it sees the old or the new content, also when this process is killed.
    After a loss of power it may be neither."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)
