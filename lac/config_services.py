"""Settings of the services beside the server: PostgreSQL, Redis, an S3 bucket, a mail server. None of them is needed.

Each is a whole or nothing: a half that is missing stops the start and is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from sqlalchemy import URL

from lac import config_values as parse
from lac.errors import ConfigError

REDIS_PORT = 6379
SMTP_PORT = 587
#: Where TLS begins with the first byte (RFC 8314 section 3.3).
SMTPS_PORT = 465


@dataclass(frozen=True, slots=True)
class RedisSettings:
    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class S3Settings:
    """`endpoint_url` None: Amazon's own. Keys None: from the environment in which the server runs (a role)."""

    bucket: str
    region: str
    endpoint_url: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    host: str
    port: int
    sender: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)


def database_url_from_parts(env: Mapping[str, str]) -> str | None:
    """The URL for DB_HOST, DB_PORT, DB_NAME, DB_USER, DB_PASSWORD, or None when there are none of them."""
    parts = [name for name in ("DB_HOST", "DB_PORT", "DB_NAME", "DB_USER", "DB_PASSWORD") if name in env]
    if not parts:
        return None
    if "DATABASE_URL" in env:
        raise ConfigError(f"{parts[0]} and DATABASE_URL are both set. Keep one of them.")
    for required in ("DB_HOST", "DB_NAME", "DB_USER"):
        if required not in env:
            raise ConfigError(
                f"{required} is not set, but {parts[0]} is. PostgreSQL needs DB_HOST, DB_NAME and DB_USER."
            )
    try:
        port = parse.port(env.get("DB_PORT", "5432"))
    except ValueError as error:
        raise ConfigError(f"DB_PORT: {error}") from None
    url = URL.create(
        "postgresql+psycopg",
        username=env["DB_USER"],
        password=env.get("DB_PASSWORD"),
        host=env["DB_HOST"],
        port=port,
        database=env["DB_NAME"],
    )
    return url.render_as_string(hide_password=False)


def redis_settings(env: Mapping[str, str]) -> RedisSettings | None:
    if "REDIS_URL" in env:
        if "REDIS_HOST" in env:
            raise ConfigError("REDIS_HOST and REDIS_URL are both set. Keep one of them.")
        url = urlsplit(env["REDIS_URL"])
        if url.scheme not in ("redis", "rediss") or not url.hostname:
            raise ConfigError("REDIS_URL: not a Redis URL. Example: redis://:password@host:6379/0")
        return RedisSettings(env["REDIS_URL"])
    if "REDIS_HOST" not in env:
        for name in ("REDIS_PORT", "REDIS_PASSWORD"):
            if name in env:
                raise ConfigError(f"{name} is set, but REDIS_HOST is not. Set both, or neither.")
        return None
    port = _port(env, "REDIS_PORT", REDIS_PORT)
    password = f":{quote(env['REDIS_PASSWORD'], safe='')}@" if "REDIS_PASSWORD" in env else ""
    return RedisSettings(f"redis://{password}{env['REDIS_HOST']}:{port}/0")


def s3_settings(env: Mapping[str, str]) -> S3Settings | None:
    if "S3_BUCKET_NAME" not in env:
        if "S3_ENDPOINT_URL" in env:
            raise ConfigError("S3_ENDPOINT_URL is set, but S3_BUCKET_NAME is not. Set both, or neither.")
        return None
    endpoint_url = env.get("S3_ENDPOINT_URL")
    if endpoint_url is not None and urlsplit(endpoint_url).scheme not in ("http", "https"):
        raise ConfigError("S3_ENDPOINT_URL: not a URL. Example: https://s3.example.org")
    keys = env.get("AWS_ACCESS_KEY_ID"), env.get("AWS_SECRET_ACCESS_KEY")
    if (keys[0] is None) != (keys[1] is None):
        raise ConfigError("Only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set. Set both, or neither.")
    return S3Settings(env["S3_BUCKET_NAME"], env.get("AWS_REGION", "us-east-1"), endpoint_url, *keys)


def smtp_settings(env: Mapping[str, str]) -> SmtpSettings | None:
    if "SMTP_HOST" not in env:
        for name in ("SMTP_PORT", "SMTP_USER", "SMTP_PASSWORD", "SMTP_FROM"):
            if name in env:
                raise ConfigError(f"{name} is set, but SMTP_HOST is not. Set both, or neither.")
        return None
    if ("SMTP_USER" in env) != ("SMTP_PASSWORD" in env):
        raise ConfigError("Only one of SMTP_USER and SMTP_PASSWORD is set. Set both, or neither.")
    sender = env.get("SMTP_FROM") or env.get("SMTP_USER", "")
    if "SMTP_FROM" not in env and "@" not in sender:
        raise ConfigError("SMTP_FROM is not set: the address that mails come from. Example: radio@example.org")
    try:
        parse.mail_sender(sender)
    except ValueError as error:
        raise ConfigError(f"SMTP_FROM: {error}") from None
    for name in ("SMTP_USER", "SMTP_PASSWORD"):
        if not env.get(name, "").isascii():
            raise ConfigError(f"{name}: only letters of ASCII can be sent to a mail server.")
    return SmtpSettings(
        env["SMTP_HOST"],
        _port(env, "SMTP_PORT", SMTP_PORT),
        sender,
        env.get("SMTP_USER"),
        env.get("SMTP_PASSWORD"),
    )


def _port(env: Mapping[str, str], name: str, default: int) -> int:
    raw = env.get(name)
    if raw is None:
        return default
    if not raw.isascii() or not raw.isdigit() or not 0 < int(raw) <= 65535:
        raise ConfigError(f"{name}: {raw!r} is not a port. Give a number from 1 to 65535.")
    return int(raw)
