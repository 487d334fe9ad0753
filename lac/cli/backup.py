"""`lac backup FILE`: the database and the secrets in one archive, also while the server runs. Recordings are files, and
are copied as such: it says which."""

from __future__ import annotations

import argparse
from pathlib import Path

from lac.backup import create_backup, recordings_beside
from lac.cli.options import add_data_dir, settings_from
from lac.recordings.layout import recordings_dir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="where to write the archive (.tar.gz)")
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")
    add_data_dir(parser)


def run(args: argparse.Namespace) -> int:
    settings = settings_from(args)
    backup = create_backup(settings, args.file, overwrite=args.force)
    print(f"Wrote {args.file}: version {backup.version}, revision {backup.revision}.")
    if backup.has_secrets:
        print("It holds the secrets of this server and everybody's data: keep it where only you can read it.")
    else:
        print("JWT_SECRET and JWT_REFRESH_SECRET come from the environment and are not in it: keep them too.")
    count, size = recordings_beside(settings)
    if count:
        directory = recordings_dir(settings.data_dir)
        print(
            f"{count} recordings ({size / 1024**2:.0f} MiB) are not in it. Copy {directory} too, with rsync -a or so."
        )
    return 0
