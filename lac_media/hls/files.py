"""Segments on disk: what has left the memory and is still in the window, or outlives its show for a while.

Plain and synchronous: for worker threads. Every stream has a directory of its own, so that it can go as a whole.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from lac_media.hls.renditions import RENDITIONS


class SegmentFiles:
    """`directory` is made with the first segment."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, msn: int, data: Sequence[bytes]) -> None:
        """One segment, in every rendition. Raises `OSError`; then nothing of it is left."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            for rendition, content in zip(RENDITIONS, data, strict=True):
                self._path(msn, rendition.name).write_bytes(content)
        except OSError:
            self.delete((msn,))
            raise

    def read(self, msn: int, rendition: str) -> bytes | None:
        """None: it has been deleted."""
        try:
            return self._path(msn, rendition).read_bytes()
        except FileNotFoundError:
            return None

    def delete(self, msns: Iterable[int]) -> None:
        """These segments, as far as they are there."""
        for msn in msns:
            for rendition in RENDITIONS:
                with contextlib.suppress(OSError):
                    self._path(msn, rendition.name).unlink(missing_ok=True)

    def remove(self) -> None:
        """Everything."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _path(self, msn: int, rendition: str) -> Path:
        return self.directory / f"{rendition}-{msn}.m4s"
