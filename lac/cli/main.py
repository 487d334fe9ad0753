"""`lac`: finds the subcommand and turns what stops it into one line and an exit code."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator, Sequence
from typing import Protocol, cast

from lac import __version__
from lac.errors import LacError


class Command(Protocol):
    """What a module of this package provides to be a subcommand."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


#: Modules of this package. They are imported only when asked for: `serve` brings the whole server along.
COMMANDS = {
    "serve": "run the server",
    "migrate": "bring the database to the schema of this version",
    "doctor": "look at what is configured, reachable, and what to do about what is not",
    "seed": "fill an empty database with sample people and shows",
    "backup": "save the database and the secrets in one file",
    "restore": "put a backup in place of the present data",
    "loadtest": "bring many listeners to a server and say how it bears them",
    "user": "create accounts and reset passwords",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 1 for what the person at the keyboard can mend, 2 for wrong usage."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    asked = next((argument for argument in arguments if not argument.startswith("-")), None)
    command: Command | None = None
    parser = argparse.ArgumentParser(prog="lac", description="LiveAudioCast, self-hosted live audio broadcasting.")
    parser.add_argument("--version", action="version", version=f"lac {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
        if name == asked:
            command = cast("Command", importlib.import_module(f"lac.cli.{name}"))
            command.add_arguments(subparser)
    args = parser.parse_args(arguments)
    assert command is not None  # noqa: S101  the parser refuses every other name
    try:
        exit_code = command.run(args)
    except* LacError as group:
        # A nursery may have wrapped it, or several of them.
        for line in dict.fromkeys(_details(group)):
            print(f"lac: {line}", file=sys.stderr)
        exit_code = 1
    except* KeyboardInterrupt:
        exit_code = 130
    return exit_code


def _details(group: BaseExceptionGroup[LacError]) -> Iterator[str]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _details(error)
        else:
            yield error.detail


if __name__ == "__main__":
    sys.exit(main())
