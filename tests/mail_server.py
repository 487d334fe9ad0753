"""A real mail server in a thread, `aiosmtpd`, and certificates for it."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_string, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lac.config_services import SmtpSettings

SENDER, USER, PASSWORD = "radio@example.org", "radio", "right-horse"
#: For what is under way on a machine that has much else to do.
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Arrived:
    sender: str
    recipients: list[str]
    options: list[str]
    raw: bytes

    @property
    def message(self) -> EmailMessage:
        return parse_message(self.raw)


def parse_message(raw: bytes) -> EmailMessage:
    """Headers may be UTF-8 (RFC 6532), of which the parser for bytes makes surrogates."""
    message = message_from_string(raw.decode(), policy=policy.SMTPUTF8)
    assert isinstance(message, EmailMessage)
    return message


@dataclass
class MailServer:
    """Keeps what arrives, and every attempt to sign in."""

    port: int = 0
    mails: list[Arrived] = field(default_factory=list)
    #: (user, password, over TLS by STARTTLS)
    sign_ins: list[tuple[str, str, bool]] = field(default_factory=list)
    #: What to answer instead: by MAIL, RCPT, DATA.
    answers: dict[str, str] = field(default_factory=dict)
    #: It never answers to QUIT.
    stays: bool = False
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def settings(self, *, password: str | None = None, host: str = "127.0.0.1", sender: str = SENDER) -> SmtpSettings:
        return SmtpSettings(host, self.port, sender, None if password is None else USER, password)

    def wait_for(self, wanted: Callable[[EmailMessage], bool]) -> EmailMessage:
        """The first mail that is wanted, as soon as it is there."""
        found: list[EmailMessage] = []

        def look() -> bool:
            found[:] = [arrived.message for arrived in self.mails if wanted(arrived.message)]
            return bool(found)

        with self._changed:
            assert self._changed.wait_for(look, PATIENCE_S), f"it has not come, {len(self.mails)} others have"
        return found[0]

    # What aiosmtpd calls, by these names and in its thread.

    async def _on_mail(self, _server: Any, _session: Any, envelope: Any, address: str, options: Any) -> str:
        if "MAIL" not in self.answers:
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return self.answers.get("MAIL", "250 OK")

    async def _on_rcpt(self, _server: Any, _session: Any, envelope: Envelope, address: str, _options: Any) -> str:
        if "RCPT" not in self.answers:
            envelope.rcpt_tos.append(address)
        return self.answers.get("RCPT", "250 OK")

    async def _on_data(self, _server: Any, _session: Any, envelope: Envelope) -> str:
        if "DATA" not in self.answers:
            assert isinstance(envelope.original_content, bytes)
            arrived = Arrived(
                envelope.mail_from or "", envelope.rcpt_tos, envelope.mail_options, envelope.original_content
            )
            with self._changed:
                self.mails.append(arrived)
                self._changed.notify_all()
        return self.answers.get("DATA", "250 OK")

    async def _on_quit(self, _server: Any, _session: Any, _envelope: Envelope) -> str:
        if self.stays:
            await asyncio.Event().wait()
        return "221 Bye"

    handle_MAIL, handle_RCPT, handle_DATA, handle_QUIT = _on_mail, _on_rcpt, _on_data, _on_quit  # noqa: N815  its names

    def authenticate(self, _server: Any, session: Any, _envelope: Any, _how: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.sign_ins.append((data.login.decode(), data.password.decode(), session.ssl is not None))
        right = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=right, handled=right)  # what is not handled, the library refuses


@contextmanager
def mail_server(**options: Any) -> Iterator[MailServer]:
    """Options are of aiosmtpd: `tls_context` for STARTTLS, `ssl_context` for TLS from the first byte,
    `auth_require_tls`, `enable_SMTPUTF8`. Passwords are taken over TLS alone unless they say otherwise."""
    server = MailServer(free_port())
    controller = Controller(
        server,
        hostname="127.0.0.1",
        port=server.port,
        ready_timeout=PATIENCE_S,
        **{"authenticator": server.authenticate, **options},
    )
    controller.start()
    try:
        yield server
    finally:
        controller.stop()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def make_certificate(directory: Path, *, for_address: str = "127.0.0.1") -> tuple[Path, ssl.SSLContext]:
    """(a file of the authority to trust, a server's context): a certificate that has signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a mail server for tests")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(for_address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    authority, private = directory / "authority.pem", directory / "key.pem"
    authority.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, private)
    return authority, context
