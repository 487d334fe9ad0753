"""`lac backup FILE`: the database and the secrets in one archive, also while the server runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from lac.backup import create_backup
from lac.cli.options import add_data_dir, settings_from


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="where to write the archive (.tar.gz)")
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")
    add_data_dir(parser)


def run(args: argparse.Namespace) -> int:
    backup = create_backup(settings_from(args), args.file, overwrite=args.force)
    print(f"Wrote {args.file}: version {backup.version}, revision {backup.revision}.")
    if backup.has_secrets:
        print("It holds the secrets of this server and everybody's data: keep it where only you can read it.")
    else:
        print("JWT_SECRET and JWT_REFRESH_SECRET come from the environment and are not in it: keep them too.")
    return 0
