"""`lac serve` whose limits are short, for tests that wait for them: `python -m tests.e2e.hurried_server serve`.

Nothing else of it differs, but for a disk that a test can fill: while DISK_FULL lies in the data directory, SQLite may
not take one page more, and says of itself that the disk is full. Unlike a small file system it needs no rights.
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from types import ModuleType

import sqlalchemy as sa

import lac.recordings.offload
import lac_media.proto.peer
import lac_web.gateway.routes
import lac_web.server
from lac.cli.main import main
from lac.db import engine
from lac.storage.mirror import Mirror
from lac_web.gateway.connection import GatewayLimits
from lac_web.server import HttpLimits

STATEMENT_TIMEOUT_S = 2.0
ANSWER_GRACE_S = 0.5
CONNECT_TIMEOUT_S = 2  # libpq takes no less
BUSY_TIMEOUT_S = 2.0
#: For media sessions that never connect, and sockets that never join.
CONNECT_WITHIN_S = 5.0
WRITE_TIMEOUT_S = 3.0
#: Of a multipart upload. Amazon takes none below 5 MiB but the last, rclone does.
SMALLEST_PART = 64 << 10

DISK_FULL = "disk-is-full"
#: SQLite's own limit.
_PAGES_MAX = 4_294_967_294


def shorten_limits() -> None:
    for name in ("STATEMENT_TIMEOUT_S", "ANSWER_GRACE_S", "CONNECT_TIMEOUT_S", "BUSY_TIMEOUT_S"):
        _replace(engine, name, globals()[name])
    _replace(lac_media.proto.peer, "CONNECT_TIMEOUT_S", CONNECT_WITHIN_S)
    # Where they are made without arguments.
    _replace(lac_web.gateway.routes, "GatewayLimits", functools.partial(GatewayLimits, join_s=CONNECT_WITHIN_S))
    _replace(lac.recordings.offload, "Mirror", functools.partial(Mirror, smallest_part=SMALLEST_PART))
    _replace(lac_web.server, "HttpLimits", functools.partial(HttpLimits, write_timeout_s=WRITE_TIMEOUT_S))


def _replace(module: ModuleType, name: str, value: object) -> None:
    getattr(module, name)  # it must not have gone elsewhere
    setattr(module, name, value)


def let_tests_fill_the_disk(data_dir: Path) -> None:
    full = data_dir / DISK_FULL

    @sa.event.listens_for(sa.Engine, "begin")
    def limit_pages(connection: sa.Connection) -> None:
        if connection.dialect.name == "sqlite":
            # Below what the file has, SQLite takes what it has.
            connection.exec_driver_sql(f"PRAGMA max_page_count={1 if full.exists() else _PAGES_MAX}")


if __name__ == "__main__":
    shorten_limits()
    let_tests_fill_the_disk(Path(os.environ["LAC_DATA_DIR"]))
    sys.exit(main())
