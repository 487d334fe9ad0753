"""`lac doctor` on the services beside the server: whether they are there, and take our word for who we are.

Nothing stays stored anywhere and no mail is sent.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import unquote, urlsplit

from lac.cli.findings import TIMEOUT_S, Finding, Findings, Verdict
from lac.config import Settings
from lac.config_services import REDIS_PORT, S3Settings, SmtpSettings
from lac.mail_smtp import ERRORS, explain, is_encrypted, is_on_this_machine, smtp_client
from lac.storage.errors import StoreAwayError
from lac.storage.s3 import OTHER_ADVICE, check_bucket, make_client, translate, where


def check_services(settings: Settings) -> Findings:
    """Those that are configured."""
    if settings.redis is not None:
        yield from check_redis(settings.redis.url)
    if settings.s3 is not None:
        yield from check_s3(settings.s3)
    if settings.smtp is not None:
        yield from check_smtp(settings.smtp)


def check_redis(url: str) -> Findings:
    parts = urlsplit(url)
    where = f"{parts.hostname}:{parts.port or REDIS_PORT}"
    try:
        answers = list(_ask_redis(url))
    except (OSError, ValueError) as error:
        yield Finding(
            Verdict.FAIL,
            "Redis",
            f"{where} cannot be reached ({_reason(error)}).",
            "Is it running, and are REDIS_HOST and REDIS_PORT, or REDIS_URL, right?",
        )
        return
    if any(answer.startswith(("-NOAUTH", "-WRONGPASS", "-ERR")) for answer in answers):
        yield Finding(Verdict.FAIL, "Redis", f"{where} refuses us: {answers[-1][1:]}", "Set the password in REDIS_URL.")
    elif answers[-1] != "+PONG":
        yield Finding(Verdict.FAIL, "Redis", f"{where} answers, but not as Redis does.", "Is the port right?")
    else:
        yield Finding(Verdict.OK, "Redis", f"{where} answers")


def _ask_redis(url: str) -> Iterator[str]:
    """The first lines of the answers to AUTH, if there is a password, and PING."""
    parts = urlsplit(url)
    sock: socket.socket = socket.create_connection((parts.hostname or "", parts.port or REDIS_PORT), TIMEOUT_S)
    if parts.scheme == "rediss":
        sock = ssl.create_default_context().wrap_socket(sock, server_hostname=parts.hostname)
    with closing(sock), sock.makefile("rwb") as stream:
        commands = [["PING"]]
        if parts.password is not None:
            user = [unquote(parts.username)] if parts.username else []
            commands.insert(0, ["AUTH", *user, unquote(parts.password)])
        for words in commands:
            encoded = [word.encode() for word in words]
            stream.write(b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in encoded))
            stream.flush()
            yield stream.readline(512).decode("utf-8", "replace").strip()


def check_s3(s3: S3Settings) -> Findings:
    """As `lac serve` does at its start, with an object of a few bytes that goes again."""
    try:
        client = make_client(s3)
        with closing(client):
            check_bucket(client, s3.bucket)
    except Exception as error:
        trouble = translate(error, where(s3))
        if isinstance(trouble, StoreAwayError):
            yield Finding(
                Verdict.FAIL, "S3", str(trouble), "Is it running, and are S3_ENDPOINT_URL and AWS_REGION right?"
            )
        else:
            text, _, advice = str(trouble).partition(". ")
            yield Finding(Verdict.FAIL, "S3", f"{text}.", advice or OTHER_ADVICE)
    else:
        yield Finding(Verdict.OK, "S3", f"{where(s3)} can be listed, written to and deleted from")


def check_smtp(smtp: SmtpSettings) -> Findings:
    """As `lac serve` does for each mail, up to the mail itself."""
    where = f"{smtp.host}:{smtp.port}"
    try:
        with smtp_client(smtp, answer_s=TIMEOUT_S) as client:
            private = is_encrypted(client) or is_on_this_machine(client)
    except ERRORS as error:
        trouble = explain(error, smtp, TIMEOUT_S)
        yield Finding(Verdict.FAIL, "mail", trouble.text, trouble.advice)
    else:
        if private:
            yield Finding(Verdict.OK, "mail", f"{where} takes mail from {smtp.sender}")
        else:
            yield Finding(Verdict.WARN, "mail", f"{where} offers no encryption.", "Use a port with TLS: 587 or 465.")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().partition("\n")[0] or type(error).__name__
