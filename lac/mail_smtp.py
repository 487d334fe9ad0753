"""Mails by SMTP (RFC 5321): the standard library's client, in a worker thread for each mail.

Nothing of a mail, and not whom it is for, gets into an error or a log. What a server answers may repeat both, so of
answers to a mail only the numbers are told.
"""

from __future__ import annotations

import ipaddress
import re
import smtplib
import socket
import ssl
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import make_msgid
from functools import partial

import idna
import trio

from lac.clock import Clock, utc_now
from lac.config_services import SMTPS_PORT, SmtpSettings
from lac.errors import UnavailableError
from lac.mail import ConsoleMailer, Mail, Mailer

#: How long the server may take for each answer. Longer than the delays with which servers keep spammers off.
ANSWER_S = 20.0
#: For the whole of one mail. Below the outbox's `SEND_S`, so that it is we who say what was slow.
MAIL_S = 25.0
#: Connections at a time, those included that nobody waits for any more.
CONNECTIONS = 4
#: A mail that is taken is sent, whatever the answer to the goodbye.
QUIT_S = 2.0

#: RFC 5322 section 2.1.1, without the line's end.
_LINE_MAX = 998
#: Controls, line and paragraph separators, and halves of characters.
_NOT_IN_A_LINE = frozenset({"Cc", "Zl", "Zp", "Cs"})
#: RFC 3463, at the beginning of an answer's text.
_ENHANCED_STATUS = re.compile(rb"[245]\.\d{1,3}\.\d{1,3}\b")
#: RFC 4954 section 6: authentication required.
_SIGN_IN_FIRST = 530


class UnprotectedError(smtplib.SMTPException):
    """The password would go over a line that others can read: it has not been sent."""


class AddressError(smtplib.SMTPException):
    """The server does not know addresses like this one (RFC 6531)."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Two sentences for the operator."""

    text: str
    advice: str


#: What using a mail server raises, for `explain`. Those of `smtplib` and `ssl` are `OSError`s. `UnicodeError`: a host
#: whose name cannot be one.
ERRORS = (OSError, UnicodeError)


def mailer_for(smtp: SmtpSettings | None) -> Mailer:
    """By SMTP if that is configured, else to the console."""
    return ConsoleMailer() if smtp is None else SmtpMailer(smtp)


class SmtpMailer:
    """A connection for each mail: there are few. Nothing is tried twice, whoever wants the mail asks again."""

    def __init__(self, smtp: SmtpSettings, *, answer_s: float = ANSWER_S, clock: Clock = utc_now) -> None:
        self._smtp = smtp
        self._answer_s = answer_s
        self._clock = clock
        self._limiter = trio.CapacityLimiter(CONNECTIONS)

    @property
    def connections(self) -> int:
        """Open ones, those included that nobody waits for any more."""
        return self._limiter.borrowed_tokens

    async def send(self, mail: Mail) -> None:
        try:
            message = compose(mail, self._smtp.sender, at=self._clock())
        except (ValueError, MessageError):
            # `from None`, here and below: these errors have the address in their text.
            raise UnavailableError(
                "A mail cannot be written: the address or the subject cannot be in a header. Change the address of the "
                "account."
            ) from None
        deliver = partial(_deliver, self._smtp, message, self._answer_s)
        try:
            with trio.fail_after(MAIL_S):
                # A thread in a system call cannot be cancelled: it is left behind, still counted by the limiter. It
                # ends by itself, because no answer is waited for longer than `answer_s`; if the server answers after
                # all, the mail may be sent although nobody waits for it.
                await trio.to_thread.run_sync(deliver, limiter=self._limiter, abandon_on_cancel=True)
        except trio.TooSlowError:
            trouble = _too_slow(self._smtp, MAIL_S)
            raise UnavailableError(f"{trouble.text} {trouble.advice}") from None
        except ERRORS as error:
            trouble = explain(error, self._smtp, self._answer_s)
            raise UnavailableError(f"{trouble.text} {trouble.advice}") from None


def compose(mail: Mail, sender: str, *, at: datetime) -> EmailMessage:
    """Raises `ValueError` or `MessageError` for what cannot be in a header, line breaks above all."""
    # `EmailMessage` refuses line breaks, but not one at the end.
    if any(unicodedata.category(char) in _NOT_IN_A_LINE for char in mail.subject):
        raise ValueError("not a subject")
    message = EmailMessage(policy=SMTP)
    (parsed,) = SMTP.header_factory("From", sender).addresses  # it has been checked at the start
    sender_address = _address(parsed.addr_spec, parsed.display_name)
    message["From"] = sender_address
    message["To"] = _address(mail.to)
    message["Subject"] = mail.subject
    message["Date"] = at
    message["Message-ID"] = make_msgid(domain=sender_address.domain)
    # RFC 3834 section 5.1: no out-of-office notes in answer.
    message["Auto-Submitted"] = "auto-generated"
    plain = mail.text.isascii() and all(len(line) <= _LINE_MAX for line in mail.text.splitlines())
    # As it is, where it can be: quoted-printable would break links after 76 characters, for whoever reads the source.
    message.set_content(mail.text, cte="7bit" if plain else "quoted-printable")
    return message


def _address(text: str, name: str = "") -> Address:
    """With the domain as every server knows it (RFC 5891). Not by Python's own codec, which is IDNA 2003: for that
    straße.example is strasse.example, which may be somebody else's."""
    local, _, domain = text.rpartition("@")
    if not text.isprintable():
        raise ValueError("not an address")
    if not domain.isascii():
        with suppress(idna.IDNAError):
            domain = idna.encode(domain).decode("ascii")
    return Address(name, local, domain)


def _deliver(smtp: SmtpSettings, message: EmailMessage, answer_s: float) -> None:
    """Blocks. Raises `ERRORS`."""
    with smtp_client(smtp, answer_s=answer_s) as client:
        sender, to = (message[name].addresses[0].addr_spec for name in ("From", "To"))
        if not (sender + to).isascii() and not client.has_extn("smtputf8"):
            raise AddressError
        client.send_message(message, sender, [to])


@contextmanager
def smtp_client(smtp: SmtpSettings, *, answer_s: float) -> Iterator[smtplib.SMTP]:
    """A client that has said EHLO and has signed in, if there is a password; over TLS where the server offers it.
    Blocks, at most `answer_s` for each answer. Raises `ERRORS`.

    No password goes over a line without TLS, except on this machine: `smtplib` leaves that to us, and whoever sits
    between can make a server look as if it offered none (RFC 3207 section 6).
    """
    context = ssl.create_default_context()
    if smtp.port == SMTPS_PORT:
        client: smtplib.SMTP = smtplib.SMTP_SSL(smtp.host, smtp.port, timeout=answer_s, context=context)
    else:
        client = smtplib.SMTP(smtp.host, smtp.port, timeout=answer_s)
    try:
        client.ehlo()
        if smtp.port != SMTPS_PORT and client.has_extn("starttls"):
            client.starttls(context=context)
            client.ehlo()
        if smtp.user is not None and smtp.password is not None:
            if not is_encrypted(client) and not is_on_this_machine(client):
                raise UnprotectedError
            client.login(smtp.user, smtp.password)
        yield client
        with suppress(OSError):
            if client.sock is not None:
                client.sock.settimeout(min(answer_s, QUIT_S))
            client.quit()
    finally:
        client.close()


def is_encrypted(client: smtplib.SMTP) -> bool:
    return isinstance(client.sock, ssl.SSLSocket)


def is_on_this_machine(client: smtplib.SMTP) -> bool:
    """By the address at the other end: what a name stands for, others may decide."""
    return client.sock is not None and _is_loopback(client.sock.getpeername()[0])


def _is_loopback(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback


def explain(error: Exception, smtp: SmtpSettings, answer_s: float) -> Trouble:
    """What one of `ERRORS` means, and what to do. Holds no address but the sender's."""
    where = f"{smtp.host}:{smtp.port}"
    match error:
        case UnprotectedError():
            return Trouble(
                f"{where} offers no encryption, so the password is not sent to it.",
                "Use a port with TLS: 587 or 465. A server that asks for no password needs no SMTP_USER.",
            )
        case AddressError():
            return Trouble(
                f"{where} takes no addresses with letters outside ASCII (SMTPUTF8).",
                "Use a server that does, or give the account another address.",
            )
        case smtplib.SMTPAuthenticationError():
            return Trouble(
                f"{where} does not take the password ({_status(error.smtp_code, error.smtp_error)}).",
                "Mend SMTP_USER and SMTP_PASSWORD.",
            )
        case smtplib.SMTPNotSupportedError():
            return Trouble(
                f"{where} has no way to sign in.",
                "Use its port for sending, usually 587 or 465. If it asks for no password, leave SMTP_USER and "
                "SMTP_PASSWORD out.",
            )
        case smtplib.SMTPSenderRefused():
            return _refused(
                where,
                f"mails from {smtp.sender}",
                error.smtp_code,
                error.smtp_error,
                "SMTP_FROM has to be an address that the account at the mail server may send from.",
            )
        case smtplib.SMTPRecipientsRefused():
            code, answer = next(iter(error.recipients.values()))
            return _refused(
                where,
                "mails for this address",
                code,
                answer,
                "If it refuses every address, it passes nothing on for us: it has to be a server for sending, and may "
                "want SMTP_USER and SMTP_PASSWORD. If only this one, the address is wrong.",
            )
        case smtplib.SMTPDataError():
            return _refused(
                where,
                "this mail",
                error.smtp_code,
                error.smtp_error,
                "The log of the mail server says why; often SMTP_FROM is not an address that it may send from.",
            )
        case smtplib.SMTPResponseException():  # before a mail: it cannot repeat anything of one
            answer = error.smtp_error if isinstance(error.smtp_error, bytes) else str(error.smtp_error).encode()
            words = "".join(char for char in answer.decode("utf-8", "replace")[:200] if char.isprintable())
            return Trouble(
                f"{where} does not want to talk to us ({error.smtp_code} {words}).",
                "Is it a mail server, and may this machine use it?",
            )
        case smtplib.SMTPServerDisconnected() if isinstance(error.__context__, TimeoutError):
            return _too_slow(smtp, answer_s)
        case smtplib.SMTPServerDisconnected():
            return Trouble(
                f"{where} hangs up.",
                "Is SMTP_PORT right? 465 is for TLS from the first byte, 587 for all else. Its log may say more.",
            )
        case smtplib.SMTPException():  # the few bare ones are about signing in, and have a constant text
            return Trouble(f"{where} cannot be used ({error}).", "Does it let programs sign in with a password?")
        case ssl.SSLCertVerificationError():
            return Trouble(
                f"{where} has a certificate that cannot be trusted ({error.verify_message}).",
                "It has to hold for the name in SMTP_HOST. If an authority of your own has signed it, name that "
                "authority's file in SSL_CERT_FILE.",
            )
        case ssl.SSLError():
            return Trouble(
                f"{where} does not speak TLS as we do ({error.reason or 'no reason given'}).",
                "Is SMTP_PORT right? 465 is for TLS from the first byte, 587 for all else.",
            )
        case TimeoutError():
            return _too_slow(smtp, answer_s)
        case socket.gaierror() | UnicodeError():
            return Trouble(f"{smtp.host} is not known.", "Is SMTP_HOST right, and does this machine find names?")
        case _:
            reason = error.strerror if isinstance(error, OSError) else None
            return Trouble(
                f"{where} cannot be reached ({reason or type(error).__name__}).",
                "Is it running, and are SMTP_HOST and SMTP_PORT right? Many providers block port 25; 587 and 465 are "
                "for sending.",
            )


def _refused(where: str, what: str, code: int, answer: bytes | str, advice: str) -> Trouble:
    text = f"{where} does not take {what} ({_status(code, answer)})."
    if code == _SIGN_IN_FIRST:
        return Trouble(text, "It wants a password: set SMTP_USER and SMTP_PASSWORD.")
    if 400 <= code < 500:
        return Trouble(text, "It may do so later, when somebody asks for another mail. If not, its log says why.")
    return Trouble(text, advice)


def _too_slow(smtp: SmtpSettings, seconds: float) -> Trouble:
    return Trouble(
        f"{smtp.host}:{smtp.port} has not answered within {seconds:.0f} s.",
        "Are SMTP_HOST and SMTP_PORT right, and is no firewall between? Many providers block port 25; 587 and 465 are "
        "for sending, and 465 alone is for TLS from the first byte.",
    )


def _status(code: int, answer: bytes | str) -> str:
    """The numbers of an answer, and none of its words."""
    found = _ENHANCED_STATUS.match(answer if isinstance(answer, bytes) else answer.encode())
    return f"{code} {found[0].decode()}" if found else str(code)
