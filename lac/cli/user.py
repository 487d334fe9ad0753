"""`lac user`: accounts, for whoever can reach the database."""

from __future__ import annotations

import argparse
import getpass
import sys
from functools import partial

import trio

from lac.auth.service import AuthService, User
from lac.cli.options import add_data_dir, settings_from
from lac.config import Settings
from lac.db.engine import open_database
from lac.errors import InvalidInputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="create an account, also where registration is closed")
    create.add_argument("--name", help="the name that others see (default: the address up to the @)")
    create.add_argument("--admin", action="store_true", help="may do everything in every broadcast")
    reset = actions.add_parser("reset-password", help="set a new password and end every sign-in of the account")
    for action in (create, reset):
        action.add_argument("--email", required=True)
        action.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
        add_data_dir(action)


def run(args: argparse.Namespace) -> int:
    settings = settings_from(args)
    password = _read_password(from_stdin=args.password_stdin)
    user = trio.run(partial(_act, settings, args, password))
    if args.action == "create":
        print(f"Created {'the admin ' if user.is_admin else ''}{user.email} (id {user.id}).")
    else:
        print(f"The password of {user.email} is changed. All of their sign-ins have ended.")
    return 0


async def _act(settings: Settings, args: argparse.Namespace, password: str) -> User:
    async with open_database(settings) as db:
        auth = AuthService(db, settings)
        if args.action == "create":
            name = args.name or args.email.strip().partition("@")[0][:64]
            return await auth.create_user(args.email, password, name, is_admin=args.admin)
        return await auth.reset_password(args.email, password)


def _read_password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise InvalidInputError("There is no terminal to ask for the password on. Use --password-stdin.")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != password:
        raise InvalidInputError("The two passwords are not the same.")
    return password
