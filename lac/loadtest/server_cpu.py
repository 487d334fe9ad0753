"""CPU of the server under test, when it runs on this machine. Linux only; elsewhere it is not known."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

_LISTEN = "0A"


def find_server(url: str) -> int | None:
    """The process that listens on the port of `url` here; None if it cannot be told."""
    port = urlsplit(url).port or 80
    inodes = {inode for name in ("tcp", "tcp6") for inode in _listeners(name, port)}
    if not inodes:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        try:
            for descriptor in (process / "fd").iterdir():
                if str(descriptor.readlink()) in inodes:
                    return int(process.name)
        except OSError:
            continue  # another user's, or gone
    return None


def cpu_seconds(pid: int) -> float | None:
    """User and system time of the process so far; None once it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _listeners(name: str, port: int) -> set[str]:
    try:
        lines = Path(f"/proc/net/{name}").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return set()
    rows = [line.split() for line in lines]
    return {f"socket:[{row[9]}]" for row in rows if row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == port}
