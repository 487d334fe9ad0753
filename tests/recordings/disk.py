"""A disk that a test can fill: the kernel's own limit on the size of a file, which needs no rights and no file system.
A write that reaches it takes a part, and the next one nothing, as on a full disk."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """Of this process, while the block lasts. Python ignores the signal, so that the error is all there is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
