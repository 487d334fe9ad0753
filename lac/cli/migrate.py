"""`lac migrate`: the command that a start on a stale PostgreSQL asks for."""

from __future__ import annotations

import argparse

from lac.cli.options import add_data_dir, settings_from
from lac.db.engine import migrate_database


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_data_dir(parser)


def run(args: argparse.Namespace) -> int:
    revision = migrate_database(settings_from(args))
    print(f"The database is at revision {revision}.")
    return 0
