"""`lac restore FILE`: put a backup in place of what is there. The server must be stopped."""

from __future__ import annotations

import argparse
from pathlib import Path

from lac.backup import recordings_missing, restore_backup
from lac.cli.options import add_data_dir, settings_from
from lac.db.engine import migrate_database
from lac.recordings.layout import recordings_dir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="an archive that `lac backup` wrote")
    parser.add_argument(
        "--force", action="store_true", help="replace the present database; it is kept under a new name"
    )
    add_data_dir(parser)


def run(args: argparse.Namespace) -> int:
    settings = settings_from(args)
    backup, aside = restore_backup(settings, args.file, overwrite=args.force)
    print(f"Restored the backup of {backup.created_at:%Y-%m-%d %H:%M} UTC (version {backup.version}).")
    revision = migrate_database(settings)
    if revision != backup.revision:
        print(f"The database was brought from revision {backup.revision} to {revision}.")
    if not backup.has_secrets:
        print("It holds no secrets: set JWT_SECRET and JWT_REFRESH_SECRET as they were, or everyone signs in again.")
    missing = recordings_missing(settings)
    if missing:
        directory = recordings_dir(settings.data_dir)
        print(f"The files of {missing} recordings are not here: copy them to {directory}, unless a store has them.")
    for path in aside:
        print(f"What was there before: {path}")
    return 0
