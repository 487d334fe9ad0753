"""`lac seed`: sample people, shows and recordings, for trying things out. Not for a server that people use."""

from __future__ import annotations

import argparse
import secrets

import trio
from sqlalchemy import orm

from lac.auth.credentials import check_password
from lac.auth.passwords import PasswordHasher
from lac.cli.options import add_data_dir, settings_from
from lac.clock import utc_now
from lac.config import Settings
from lac.db.engine import open_database
from lac.errors import ConflictError
from lac.sample_data import DOMAIN, PEOPLE, Sown, has_accounts, has_samples, sow
from lac.sample_recordings import record_samples


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--password", help="of all sample accounts (default: a random one, which is printed)")
    parser.add_argument("--force", action="store_true", help="also where there are accounts already")
    add_data_dir(parser)


def run(args: argparse.Namespace) -> int:
    password = check_password(args.password or secrets.token_urlsafe(12))
    sown, recordings = trio.run(_seed, settings_from(args), password, args.force)
    print(
        f"Added {sown.people} people, {sown.shows} shows, {recordings} recordings, "
        f"{sown.messages} messages, {sown.follows} follows."
    )
    print(f"Sign in as {PEOPLE[0][0]}@{DOMAIN} (administrator) or {PEOPLE[1][0]}@{DOMAIN}, password: {password}")
    return 0


async def _seed(settings: Settings, password: str, force: bool) -> tuple[Sown, int]:
    password_hash = await PasswordHasher().hash(password)
    now = utc_now()

    def add(session: orm.Session) -> Sown:
        if has_samples(session):
            raise ConflictError("The sample people are there already.", code="seeded")
        if has_accounts(session) and not force:
            raise ConflictError(
                "This database has accounts. Sample people among them could sign in: say --force if you mean it.",
                code="not_empty",
            )
        return sow(session, password_hash=password_hash, now=now)

    async with open_database(settings) as db:
        sown = await db.run(add)
        return sown, await record_samples(db, settings, sown.recorded)
