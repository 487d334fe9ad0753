"""How the values of variables are written: one function for each kind, from the text to the value.

Each raises a `ValueError` that says what is wrong with the text; whoever calls it knows the variable and names it.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from email.errors import MessageError
from email.policy import SMTP
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from lac.config_recordings import MIB

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MIN_SECRET_BYTES = 32
MIN_METRICS_TOKEN = 16
MIN_HLS_WINDOW_S = 30


def boolean(raw: str) -> bool:
    if raw.lower() in ("true", "1", "yes", "on"):
        return True
    if raw.lower() in ("false", "0", "no", "off"):
        return False
    raise ValueError(f"{raw!r} is neither true nor false")


def positive(raw: str) -> int:
    if not raw.isascii() or not raw.isdigit() or int(raw) < 1:
        raise ValueError(f"{raw!r} is not a whole number above zero")
    return int(raw)


def factor(raw: str) -> float:
    try:
        value = float(raw)
    except ValueError:
        value = 0.0
    if not 0.01 <= value <= 10_000:
        raise ValueError(f"{raw!r} is not a number from 0.01 to 10000")
    return value


def seconds(raw: str) -> float:
    try:
        value = float(raw)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86_400:
        raise ValueError(f"{raw!r} is not a number of seconds (0 to 86400)")
    return value


def milliseconds(raw: str) -> float:
    """In seconds."""
    try:
        value = float(raw)
    except ValueError:
        value = -1.0
    if not 0 < value <= 60_000:
        raise ValueError(f"{raw!r} is not a number of milliseconds (above 0, to 60000)")
    return value / 1000


def days(raw: str) -> timedelta:
    count = positive(raw)
    if count > 36_500:
        raise ValueError(f"{raw!r} is not a number of days (1 to 36500)")
    return timedelta(days=count)


def megabytes(raw: str) -> int:
    """In bytes."""
    return positive(raw) * MIB


def port(raw: str) -> int:
    if not raw.isascii() or not raw.isdigit() or int(raw) > 65_535:
        raise ValueError(f"{raw!r} is not a port number (0 to 65535)")
    return int(raw)


def ip(raw: str) -> str:
    try:
        return str(ipaddress.ip_address(raw))
    except ValueError:
        raise ValueError(f"{raw!r} is not an IP address") from None


def ip_list(raw: str) -> tuple[str, ...]:
    addresses = tuple(ip(part) for part in _split(raw))
    for address in addresses:
        if ipaddress.ip_address(address).is_unspecified:
            raise ValueError(f"{address} is not an address that clients can reach")
    return addresses


def proxies(raw: str) -> tuple[Network, ...]:
    return () if raw.lower() == "none" else _networks(raw)


def _networks(raw: str) -> tuple[Network, ...]:
    found: list[Network] = []
    for part in _split(raw):
        try:
            found.append(ipaddress.ip_network(part, strict=False))
        except ValueError:
            raise ValueError(f"{part!r} is not an address or a network such as 10.0.0.0/8") from None
    return tuple(found)


def public_url(raw: str) -> str:
    url = urlsplit(raw)
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
        raise ValueError(f"{raw!r} is not an address such as https://audio.example.org")
    return raw.rstrip("/")


def origins(raw: str) -> tuple[str, ...]:
    found = []
    for part in _split(raw):
        url = urlsplit(part.rstrip("/"))
        if part != "*" and (url.scheme not in ("http", "https") or not url.netloc or url.path or url.query):
            raise ValueError(f"{part!r} is not an origin such as https://example.org (or *)")
        found.append(part.rstrip("/").lower())
    return tuple(found)


def database_url(raw: str) -> str:
    try:
        url = make_url(raw)
    except (ArgumentError, ValueError):
        raise ValueError("not a database URL. Example: postgresql://user:password@host:5432/name") from None
    if url.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        if not url.database:
            raise ValueError("the database's name is missing after the last slash")
        return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    if url.drivername in ("sqlite", "sqlite+pysqlite"):
        if url.database in (None, "", ":memory:"):
            raise ValueError("SQLite needs a file: sqlite:///path/to/file.db")
        return url.render_as_string(hide_password=False)
    raise ValueError(f"{url.drivername} is not supported. Use postgresql://… or sqlite:///path")


def secret(raw: str) -> str:
    if len(raw.encode()) < MIN_SECRET_BYTES:
        raise ValueError(
            f"shorter than {MIN_SECRET_BYTES} bytes. Make one with: "
            'python -c "import secrets; print(secrets.token_urlsafe(48))"'
        )
    return raw


def metrics_token(raw: str) -> str:
    if len(raw) < MIN_METRICS_TOKEN or not raw.isascii():
        raise ValueError(f"shorter than {MIN_METRICS_TOKEN} characters, or not ASCII")
    return raw


def hls_window(raw: str) -> float:
    value = seconds(raw)
    if value < MIN_HLS_WINDOW_S:
        raise ValueError(f"{raw!r} is less than {MIN_HLS_WINDOW_S} seconds, which players need")
    return value


def hls_push(raw: str) -> bool:
    if raw.lower() != "s3":
        raise ValueError(f"{raw!r} is not s3, which is all there is")
    return True


def mail_sender(raw: str) -> str:
    """An address, or a name and an address in angle brackets."""
    try:
        header = SMTP.header_factory("From", raw)
        (parsed,) = header.addresses
        whole = not header.defects and bool(parsed.username and parsed.domain) and raw.isprintable()
    except (ValueError, MessageError, IndexError):
        whole = False
    if not whole:
        raise ValueError(f"{raw!r} is not an address. Example: radio@example.org")
    return raw


def language(raw: str) -> str:
    """A language tag as RFC 5646 has most of them."""
    if not re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}", raw):
        raise ValueError(f"{raw!r} is not a language tag. Examples: en, de, pt-BR")
    return raw


def picture(raw: str) -> str:
    if not re.fullmatch(r"https?://[^\s]+\.(png|jpe?g)", raw, re.IGNORECASE):
        raise ValueError(f"{raw!r} is not the address of a PNG or JPEG. Example: https://example.org/cover.png")
    return raw


def _split(raw: str) -> list[str]:
    return [part.strip() for part in raw.split(",") if part.strip()]
