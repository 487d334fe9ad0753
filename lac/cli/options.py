"""Options that several subcommands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from lac.cli.environment import command_environment
from lac.config import Settings, load_settings


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="where the database and the secrets are (LAC_DATA_DIR)"
    )


def settings_from(args: argparse.Namespace) -> Settings:
    """The settings of a command that has only `--data-dir`."""
    return load_settings(command_environment(), data_dir=args.data_dir)
