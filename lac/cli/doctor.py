"""`lac doctor`: what is configured, what of it works, and what to do about what does not.

Changes nothing (but makes the data directory with its secrets, as the first start would) and asks nobody but this
machine, the configured database and the server's own public address.
"""

from __future__ import annotations

import argparse
import errno
import http.client
import ipaddress
import json
import os
import shutil
import socket
import ssl
import stat
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import sqlalchemy as sa

from lac import __version__
from lac.cli.doctor_cdn import check_cdn
from lac.cli.doctor_services import check_services
from lac.cli.environment import command_environment
from lac.cli.findings import TIMEOUT_S, Finding, Findings, Verdict
from lac.cli.options import add_data_dir
from lac.config import Settings, load_settings
from lac.data_dir import SECRETS_FILE
from lac.db.engine import create_engines, describe
from lac.db.migrate import head_revision, require_current
from lac.errors import ConfigError
from lac.recordings.layout import recordings_dir

DISK_LOW_BYTES = 1024**3
#: The program and two speakers, each at 64 kbit/s.
RECORDED_BYTES_PER_HOUR = 3 * 64_000 // 8 * 3600
RECORDED_HOURS_LOW = 12
CLOCK_OFF_S = 60.0
CERTIFICATE_LOW_DAYS = 14
FILES_LOW = 4096
#: What the media socket asks for; the kernel gives at most `net.core.wmem_max` and `rmem_max`.
SOCKET_BUFFER_BYTES = 4 * 1024 * 1024
#: No clock that is right can be before this release.
RELEASED = datetime(2026, 1, 1, tzinfo=UTC)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_data_dir(parser)


def run(args: argparse.Namespace) -> int:
    print(f"LiveAudioCast {__version__}")
    worst = Verdict.OK
    for finding in diagnose(args.data_dir):
        print(f"{finding.verdict:<5} {finding.subject:<15} {finding.text}")
        if finding.advice:
            print(f"{'':<5} {'':<15} -> {finding.advice}")
        if finding.verdict is Verdict.FAIL or worst is Verdict.OK:
            worst = finding.verdict
    if worst is Verdict.FAIL:
        print("Something will not work. See the lines with FAIL.")
    elif worst is Verdict.WARN:
        print("It runs. See the lines with warn for what may surprise you.")
    else:
        print("All is well.")
    return 1 if worst is Verdict.FAIL else 0


def diagnose(data_dir: Path | None) -> Findings:
    """Every finding, as soon as it is known."""
    try:
        settings = load_settings(command_environment(), data_dir=data_dir)
    except ConfigError as error:
        yield Finding(Verdict.FAIL, "configuration", error.detail, "Mend it; the rest cannot be looked at before.")
        return
    yield Finding(Verdict.OK, "configuration", f"read; data directory {settings.data_dir}")
    for name in settings.without_effect:
        yield Finding(Verdict.WARN, "configuration", f"{name} is set, but this version does not use it.")
    for check in CHECKS:
        yield from check(settings)


def check_data_dir(settings: Settings) -> Findings:
    directory = settings.data_dir
    try:
        if directory.exists():
            with tempfile.TemporaryFile(dir=directory):
                pass
        existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
        free = shutil.disk_usage(existing).free
    except OSError as error:
        yield Finding(
            Verdict.FAIL,
            "data directory",
            f"{directory} cannot be written to ({error.strerror}).",
            "Give the user that runs the server access to it, or choose another directory with LAC_DATA_DIR.",
        )
        return
    if free < DISK_LOW_BYTES:
        yield Finding(
            Verdict.WARN,
            "data directory",
            f"only {free // 1024**2} MiB are free on its disk.",
            "Make room: a full disk stops chat and recordings.",
        )
    else:
        yield Finding(Verdict.OK, "data directory", f"can be written to; {free / 1024**3:.1f} GiB free")
    secrets = directory / SECRETS_FILE
    if os.name == "posix" and secrets.exists() and stat.S_IMODE(secrets.stat().st_mode) & 0o077:
        yield Finding(Verdict.FAIL, "secrets", f"{secrets} can be read by other users.", f"Run: chmod 600 {secrets}")


def check_recordings(settings: Settings) -> Findings:
    """Room for them, and what is there. Says nothing while nobody has recorded anything."""
    home = recordings_dir(settings.data_dir)
    try:
        directories = [path for path in home.iterdir() if path.is_dir()]
        size = sum(file.stat().st_size for path in directories for file in path.rglob("*") if file.is_file())
        free = shutil.disk_usage(home).free
    except FileNotFoundError:
        return
    except OSError as error:
        yield Finding(
            Verdict.FAIL,
            "recordings",
            f"{home} cannot be read ({error.strerror}).",
            "Give the user that runs the server access to it: nothing can be recorded.",
        )
        return
    hours = free / RECORDED_BYTES_PER_HOUR
    text = f"{len(directories)} in {size / 1024**3:.1f} GiB; room for about {hours:.0f} hours with two speakers"
    if hours < RECORDED_HOURS_LOW:
        yield Finding(Verdict.WARN, "recordings", text, "Make room, or remove old recordings.")
    else:
        yield Finding(Verdict.OK, "recordings", text)


def check_database(settings: Settings) -> Findings:
    if settings.database_url is None and not settings.sqlite_path.exists():
        yield Finding(Verdict.OK, "database", f"{settings.sqlite_path} does not exist yet; the first start makes it")
        return
    writer, reader = create_engines(settings)
    try:
        require_current(reader)
    except ConfigError as error:
        if reader.dialect.name == "sqlite" and "Run `lac migrate`" in error.detail:
            yield Finding(Verdict.OK, "database", "older than this version; the next start brings it up to date")
        else:
            yield Finding(Verdict.FAIL, "database", error.detail, "Back it up, then do as it says.")
    except (sa.exc.SQLAlchemyError, OSError) as error:
        cause = getattr(error, "orig", None) or error
        yield Finding(
            Verdict.FAIL,
            "database",
            f"{describe(reader.url)} cannot be used: {str(cause).strip().partition(chr(10))[0]}",
            "Is it running, and are the address, the name and the password right?"
            if reader.dialect.name == "postgresql"
            else "Restore a backup: lac restore FILE",
        )
    else:
        yield Finding(Verdict.OK, "database", f"{reader.dialect.name}, revision {head_revision()}")
        yield from _check_clock_against_database(reader)
    finally:
        writer.dispose()
        reader.dispose()


def _check_clock_against_database(engine: sa.Engine) -> Findings:
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            theirs = connection.execute(sa.select(sa.func.now())).scalar_one()
            yield from _clock_finding(theirs, "the database")
            return
        newest = connection.execute(sa.text("SELECT max(updated_at) FROM broadcasts")).scalar_one()
    if newest is not None:
        at = datetime.fromisoformat(str(newest))
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        ahead_s = (at - datetime.now(UTC)).total_seconds()
        if ahead_s > CLOCK_OFF_S:
            yield _wrong_clock(f"a broadcast was changed {ahead_s / 60:.0f} minutes from now")


def check_clock(_settings: Settings) -> Findings:
    now = datetime.now(UTC)
    if now < RELEASED:
        yield _wrong_clock(f"it is {now:%Y-%m-%d}, before this version was made")
    else:
        yield Finding(Verdict.OK, "clock", f"{now:%Y-%m-%d %H:%M:%S} UTC")


def _clock_finding(theirs: datetime, whose: str) -> Findings:
    off_s = (datetime.now(UTC) - theirs).total_seconds()
    if abs(off_s) > CLOCK_OFF_S:
        yield _wrong_clock(f"{abs(off_s):.0f} s {'ahead of' if off_s > 0 else 'behind'} {whose}")


def _wrong_clock(text: str) -> Finding:
    return Finding(
        Verdict.FAIL,
        "clock",
        f"{text}.",
        "Sign-ins and schedules depend on it. Switch time synchronisation on: timedatectl set-ntp true",
    )


def check_ports(settings: Settings) -> Findings:
    host = settings.host.strip("[]")
    ours = _answers_as_us("http", _reachable(host), settings.port)
    if ours:
        yield Finding(Verdict.OK, "HTTP port", f"{settings.port} on {host} is in use by this server")
    elif (reason := _cannot_bind(host, settings.port, socket.SOCK_STREAM)) is None:
        yield Finding(Verdict.OK, "HTTP port", f"{settings.port} on {host} is free")
    else:
        yield Finding(
            Verdict.FAIL,
            "HTTP port",
            f"{settings.port} on {host} {reason}.",
            "Stop the other program, or set LAC_PORT (1024 or more) and LAC_HOST.",
        )
    yield _media_port(settings, "UDP", socket.SOCK_DGRAM, ours=ours)
    if settings.ice_tcp:
        yield _media_port(settings, "TCP", socket.SOCK_STREAM, ours=ours)
    else:
        yield Finding(
            Verdict.WARN,
            "media port",
            "no TCP (LAC_ICE_TCP=false): people whose network blocks UDP hear nothing.",
            "Unset LAC_ICE_TCP, and open the port for TCP in the firewall, too.",
        )


def _media_port(settings: Settings, protocol: str, kind: socket.SocketKind, *, ours: bool) -> Finding:
    reason = _cannot_bind(settings.media_listen_ip, settings.media_port, kind)
    if reason is None:
        text = f"{protocol} {settings.media_port} on {settings.media_listen_ip} is free"
        return Finding(Verdict.OK, "media port", text)
    if ours:
        text = f"{protocol} {settings.media_port} is in use, by this server as it seems"
        return Finding(Verdict.OK, "media port", text)
    return Finding(
        Verdict.FAIL,
        "media port",
        f"{protocol} {settings.media_port} on {settings.media_listen_ip} {reason}.",
        "Stop the other program, or set MEDIASOUP_MIN_PORT and MEDIASOUP_LISTEN_IP.",
    )


def check_announced(settings: Settings) -> Findings:
    """What other machines are told to send media to, against where the pages are."""
    elsewhere = _is_for_others(settings)
    public_host = urlsplit(settings.public_url or "").hostname or ""
    protocols = "UDP and TCP" if settings.ice_tcp else "UDP"
    for ip in settings.media_announced_ips:
        address = ipaddress.ip_address(ip)
        if elsewhere and (address.is_loopback or address.is_link_local):
            yield Finding(
                Verdict.FAIL,
                "announced",
                f"media is announced at {ip}, which only this machine can reach.",
                "Set MEDIASOUP_ANNOUNCED_IP to the address at which listeners reach this machine.",
            )
        elif elsewhere and address.is_private and "." in public_host and not _is_private_name(public_host):
            yield Finding(
                Verdict.WARN,
                "announced",
                f"media is announced at the private address {ip}, but the pages are at {public_host}.",
                "If listeners come from the internet, set MEDIASOUP_ANNOUNCED_IP to the public address.",
            )
        else:
            yield Finding(Verdict.OK, "announced", f"media at {ip}, {protocols} {settings.media_port}")


def check_public_url(settings: Settings) -> Findings:
    if settings.public_url is None:
        if _is_for_others(settings):
            yield Finding(
                Verdict.WARN,
                "HTTPS",
                "LAC_PUBLIC_URL is not set.",
                "Browsers give a page the microphone only on HTTPS: put a proxy in front (docs/DEPLOYMENT.md).",
            )
        else:
            yield Finding(Verdict.OK, "HTTPS", "not needed: this server is for this machine only")
        return
    url = urlsplit(settings.public_url)
    host = url.hostname or ""
    if url.scheme != "https" and not _is_this_machine(host):
        yield Finding(
            Verdict.FAIL,
            "HTTPS",
            f"{settings.public_url} is plain HTTP: no browser gives it a microphone, and passwords can be read.",
            "Put a proxy with a certificate in front (docs/DEPLOYMENT.md) and set LAC_PUBLIC_URL=https://…",
        )
    try:
        answer = _ask(url.scheme, host, url.port, f"{url.path}/health")
    except ssl.SSLCertVerificationError as error:
        yield Finding(
            Verdict.FAIL, "public URL", f"{host}: {error.verify_message}.", "Renew or replace its certificate."
        )
    except (OSError, http.client.HTTPException, ValueError) as error:
        yield Finding(
            Verdict.WARN,
            "public URL",
            f"{settings.public_url} cannot be reached from here ({error}).",
            "Is the name's DNS entry right, the proxy running, the server started?",
        )
    else:
        yield from _judge_answer(settings.public_url, answer)


@dataclass(frozen=True, slots=True)
class _Answer:
    ours: bool
    status: int
    date: datetime | None
    certificate_ends: datetime | None


def _judge_answer(public_url: str, answer: _Answer) -> Findings:
    if not answer.ours:
        yield Finding(
            Verdict.FAIL,
            "public URL",
            f"{public_url}/health answers {answer.status}, but not as LiveAudioCast does.",
            "Does the proxy pass everything on to LAC_HOST and LAC_PORT, and is the server started?",
        )
    else:
        yield Finding(Verdict.OK, "public URL", f"{public_url} leads here")
    if answer.date is not None:
        yield from _clock_finding(answer.date, public_url)
    if answer.certificate_ends is not None:
        days = (answer.certificate_ends - datetime.now(UTC)).days
        if days < CERTIFICATE_LOW_DAYS:
            yield Finding(Verdict.WARN, "HTTPS", f"the certificate ends in {days} days.", "Renew it.")


def check_machine(_settings: Settings) -> Findings:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FILES_LOW:
        yield Finding(
            Verdict.WARN,
            "open files",
            f"at most {soft}: each visitor needs one.",
            "Raise it for large audiences: LimitNOFILE=65536 in the systemd unit, or ulimit -n 65536.",
        )
    try:
        allowed = min(
            int(Path(f"/proc/sys/net/core/{name}").read_text(encoding="ascii")) for name in ("wmem_max", "rmem_max")
        )
    except (OSError, ValueError):
        return
    if allowed < SOCKET_BUFFER_BYTES:
        yield Finding(
            Verdict.WARN,
            "UDP buffer",
            f"the kernel gives a socket at most {allowed // 1024} KiB; large audiences may lose packets.",
            f"Run: sysctl -w net.core.wmem_max={SOCKET_BUFFER_BYTES} net.core.rmem_max={SOCKET_BUFFER_BYTES}",
        )


CHECKS: tuple[Callable[[Settings], Findings], ...] = (
    check_data_dir,
    check_recordings,
    check_database,
    check_clock,
    check_ports,
    check_announced,
    check_public_url,
    check_services,
    check_cdn,
    check_machine,
)


# --- asking ---------------------------------------------------------------------------------------------------------


def _answers_as_us(scheme: str, host: str, port: int) -> bool:
    if port == 0:
        return False
    try:
        return _ask(scheme, host, port, "/health").ours
    except (OSError, http.client.HTTPException, ValueError):
        return False


def _ask(scheme: str, host: str, port: int | None, path: str) -> _Answer:
    """GET, without following anything anywhere. Raises OSError, HTTPException or ValueError."""
    connection: http.client.HTTPConnection
    if scheme == "https":
        connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=ssl.create_default_context())
    else:
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    with closing(connection):
        connection.request("GET", path)
        ends = None
        if isinstance(connection.sock, ssl.SSLSocket):
            certificate = connection.sock.getpeercert() or {}
            if isinstance(not_after := certificate.get("notAfter"), str):
                ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(not_after), UTC)
        response = connection.getresponse()
        body = response.read(4096)
        date = response.getheader("Date")
        try:
            ours = response.status == http.HTTPStatus.OK and json.loads(body) == {"status": "ok"}
        except ValueError:
            ours = False
        return _Answer(ours, response.status, parsedate_to_datetime(date) if date else None, ends)


def _cannot_bind(host: str, port: int, kind: socket.SocketKind) -> str | None:
    """Why not, as the end of a sentence; None if it can be."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind) as sock:
            if kind is socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return "is taken by another program"
        if error.errno == errno.EACCES:
            return "needs rights that this user does not have"
        return f"cannot be used ({error.strerror})"
    return None


def _reachable(host: str) -> str:
    """Where to find what listens on a wildcard."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  nothing is bound here


def _is_for_others(settings: Settings) -> bool:
    public = urlsplit(settings.public_url or "").hostname
    return not _is_this_machine(settings.host) or (public is not None and not _is_this_machine(public))


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_private_name(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host.endswith((".local", ".lan", ".internal", ".home.arpa"))
