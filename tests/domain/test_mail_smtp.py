"""Mails by SMTP against a server that is not ours: what arrives, what is refused and said, and what is never sent."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from lac import mail_smtp
from lac.auth.credentials import normalise_email
from lac.config import load_settings
from lac.config_services import SmtpSettings
from lac.errors import ConfigError, InvalidInputError, UnavailableError
from lac.mail import ConsoleMailer, Mail
from lac.mail_smtp import CONNECTIONS, MAIL_S, SmtpMailer, compose, explain, mailer_for
from lac.outbox import SEND_S, AtOnce
from tests.mail_server import PASSWORD, PATIENCE_S, SENDER, free_port, mail_server, make_certificate, parse_message
from tests.sweep import Cut, sweep_within

TO = "bob@example.org"
LINK = "https://radio.example.org/reset-password#token=" + "s3cret" * 40
MAIL = Mail(TO, "A new password", f"Hello,\n\nthis link works for one hour:\n\n{LINK}\n\n.\nA line that was a dot.\n")
AT = datetime.fromisoformat("2030-01-01T12:00:00+00:00")


async def refusal(smtp: SmtpSettings, mail: Mail = MAIL, *, answer_s: float = PATIENCE_S) -> str:
    """The one line about a mail that was not sent, as the outbox logs it. It tells no secret."""
    with capture_logs() as logs:
        await AtOnce().post("mail", partial(SmtpMailer(smtp, answer_s=answer_s).send, mail), user_id="7")
    (entry,) = logs
    assert entry["log_level"] == "warning"
    for secret in (mail.to, mail.to.partition("@")[0], "s3cret", "this link", smtp.password or "s3cret"):
        assert secret not in repr(entry)
    assert entry["why"].count(f"{smtp.host}:{smtp.port}") == 1
    assert len(entry["why"].splitlines()) == 1
    return str(entry["why"])


@asynccontextmanager
async def silent_server() -> AsyncIterator[tuple[int, trio.MemoryReceiveChannel[trio.SocketStream]]]:
    """It accepts, and says nothing at all: (its port, who has come)."""
    entry, came = trio.open_memory_channel[trio.SocketStream](100)

    async def keep(stream: trio.SocketStream) -> None:
        await entry.send(stream)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, keep, 0, host="127.0.0.1"))
        yield listener.socket.getsockname()[1], came
        nursery.cancel_scope.cancel()


async def all_closed(mailer: SmtpMailer) -> None:
    """Threads that nobody waits for end by themselves."""
    with trio.fail_after(PATIENCE_S):
        while mailer.connections:  # noqa: ASYNC110  nobody knows of these threads
            await trio.sleep(0.01)


# --- what arrives -----------------------------------------------------------------------------------------------------


async def test_a_mail_arrives_whole() -> None:
    with mail_server() as server:
        await SmtpMailer(server.settings(), clock=lambda: AT).send(MAIL)
    (arrived,) = server.mails
    assert (arrived.sender, arrived.recipients) == (SENDER, [TO])
    assert f"\r\n{LINK}\r\n".encode() in arrived.raw, "the link is on one line, also in the source"
    message = arrived.message
    assert message.get_content().replace("\r\n", "\n") == MAIL.text
    assert message.get_content_type() == "text/plain"
    assert message["From"] == SENDER
    assert message["To"] == TO
    assert message["Subject"] == MAIL.subject
    assert message["Date"].datetime == AT
    assert message["Message-ID"].endswith("@example.org>")
    assert message["Auto-Submitted"] == "auto-generated"


@pytest.mark.parametrize("smtputf8", [True, False])
async def test_letters_of_every_kind_arrive(smtputf8: bool) -> None:
    mail = Mail(TO, "Grüße — 新しいパスワード " * 6, f"Grüße, čšž, 日本語, 🎙\n\n{LINK}\n" + "ö" * 2000 + "\n")
    with mail_server(enable_SMTPUTF8=smtputf8) as server:
        await SmtpMailer(server.settings(sender="Rädio Ö <radio@example.org>")).send(mail)
    (arrived,) = server.mails
    assert arrived.raw.isascii(), "every server can pass it on"
    assert max(map(len, arrived.raw.splitlines())) <= 998
    assert arrived.message["Subject"] == mail.subject
    assert arrived.message["From"].addresses[0].display_name == "Rädio Ö"
    assert arrived.sender == SENDER
    assert arrived.message.get_content().replace("\r\n", "\n") == mail.text


async def test_an_address_outside_ascii_needs_a_server_that_knows_them() -> None:
    mail = replace(MAIL, to="jürgen@example.org")
    with mail_server(enable_SMTPUTF8=True) as server:
        await SmtpMailer(server.settings()).send(mail)
    (arrived,) = server.mails
    assert arrived.recipients == ["jürgen@example.org"]
    assert "SMTPUTF8" in arrived.options
    assert arrived.message["To"].addresses[0].addr_spec == "jürgen@example.org"
    with mail_server(enable_SMTPUTF8=False) as server:
        assert "SMTPUTF8" in await refusal(server.settings(), mail)
    assert server.mails == []


async def test_a_domain_outside_ascii_is_written_as_every_server_knows_it() -> None:
    with mail_server(enable_SMTPUTF8=False) as server:
        await SmtpMailer(server.settings()).send(replace(MAIL, to="bob@straße.example"))
    # Not strasse.example, which may be somebody else's.
    assert server.mails[0].recipients == ["bob@xn--strae-oqa.example"]
    assert server.mails[0].message["To"] == "bob@xn--strae-oqa.example"


async def test_what_is_taken_is_sent_whatever_comes_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail_smtp, "QUIT_S", 0.1)
    with mail_server() as server:
        server.stays = True
        await SmtpMailer(server.settings()).send(MAIL)
    assert len(server.mails) == 1


async def test_so_many_at_a_time_and_no_more() -> None:
    """The rest waits for its turn."""
    async with silent_server() as (port, came):
        mailer = SmtpMailer(SmtpSettings("127.0.0.1", port, SENDER), answer_s=PATIENCE_S)
        async with trio.open_nursery() as nursery:
            for _ in range(2 * CONNECTIONS):
                nursery.start_soon(mailer.send, MAIL)
            streams = [await came.receive() for _ in range(CONNECTIONS)]
            assert mailer.connections == CONNECTIONS
            await trio.testing.wait_all_tasks_blocked(0.1)
            with pytest.raises(trio.WouldBlock):
                came.receive_nowait()
            nursery.cancel_scope.cancel()
        for stream in streams:
            await stream.aclose()
        await all_closed(mailer)


# --- a header holds what it is meant to hold --------------------------------------------------------------------------


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r", "\x0b", "\x85", "\u2028"])
@pytest.mark.parametrize("where", ["subject", "to"])
async def test_no_header_can_be_smuggled_in(where: str, line_end: str) -> None:
    honest = getattr(MAIL, where)
    mail = replace(MAIL, **{where: f"{honest}{line_end}Bcc: eve@example.org"})
    with mail_server() as server, pytest.raises(UnavailableError, match="cannot be in a header") as caught:
        await SmtpMailer(server.settings()).send(mail)
    assert server.mails == []
    assert "eve" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\x00", "\udc0a"])
async def test_a_subject_does_not_end_in_what_ends_headers(end: str) -> None:
    """Found by the test below: everything after it was text."""
    with mail_server() as server, pytest.raises(UnavailableError, match="cannot be in a header"):
        await SmtpMailer(server.settings()).send(replace(MAIL, subject=MAIL.subject + end))
    assert server.mails == []


@given(subject=st.text(max_size=200), local=st.text(max_size=20), domain=st.text(max_size=20), text=st.text())
def test_whatever_is_in_a_mail_it_has_these_headers_and_one_recipient(
    subject: str, local: str, domain: str, text: str
) -> None:
    try:
        to = normalise_email(f"{local}@{domain}.example")
    except InvalidInputError:
        to = TO
    try:
        message = compose(Mail(to, subject, text), SENDER, at=AT)
    except ValueError:
        return
    parsed = parse_message(message.as_bytes(policy=message.policy.clone(utf8=True)))
    assert sorted(parsed.keys()) == sorted(message.keys())
    assert set(parsed.keys()) == {
        *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"),
        *("Content-Type", "Content-Transfer-Encoding", "MIME-Version"),
    }
    assert len(parsed["To"].addresses) == 1
    assert parsed["To"].addresses[0].username == to.rpartition("@")[0]


# --- signing in, and TLS ----------------------------------------------------------------------------------------------


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Of a server on 127.0.0.1 whose authority this machine trusts."""
    authority, context = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    return context


async def test_the_password_goes_over_starttls(trusted: ssl.SSLContext) -> None:
    with mail_server(tls_context=trusted, require_starttls=True) as server:
        await SmtpMailer(server.settings(password=PASSWORD)).send(MAIL)
    assert server.sign_ins == [("radio", PASSWORD, True)]
    assert len(server.mails) == 1


async def test_starttls_is_used_without_a_password_too(trusted: ssl.SSLContext) -> None:
    with mail_server(tls_context=trusted, require_starttls=True) as server:
        await SmtpMailer(server.settings()).send(MAIL)
    assert len(server.mails) == 1


async def test_tls_from_the_first_byte(trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    # aiosmtpd does not count this TLS as one.
    with mail_server(ssl_context=trusted, auth_require_tls=False) as server:
        monkeypatch.setattr(mail_smtp, "SMTPS_PORT", server.port)
        monkeypatch.setattr(mail_smtp, "is_on_this_machine", lambda client: False)
        await SmtpMailer(server.settings(password=PASSWORD)).send(MAIL)
    assert server.sign_ins == [("radio", PASSWORD, False)]
    assert len(server.mails) == 1


@pytest.mark.parametrize("from_the_first_byte", [False, True])
@pytest.mark.parametrize("why", ["unknown authority", "another name"])
async def test_a_certificate_that_cannot_be_trusted_gets_nothing(
    why: str, from_the_first_byte: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, context = make_certificate(tmp_path, for_address="127.0.0.1" if "unknown" in why else "127.0.0.2")
    if why == "another name":
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    options = {"ssl_context" if from_the_first_byte else "tls_context": context}
    with mail_server(**options, auth_require_tls=False) as server:
        if from_the_first_byte:
            monkeypatch.setattr(mail_smtp, "SMTPS_PORT", server.port)
        line = await refusal(server.settings(password=PASSWORD))
    assert "certificate that cannot be trusted" in line
    assert "SMTP_HOST" in line
    assert (server.sign_ins, server.mails) == ([], [])


@pytest.mark.parametrize("here", [True, False])
async def test_no_password_without_tls_except_to_this_machine(here: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail_smtp, "is_on_this_machine", lambda client: here)
    with mail_server(auth_require_tls=False) as server:  # it would take one
        if here:
            await SmtpMailer(server.settings(password=PASSWORD)).send(MAIL)
        else:
            line = await refusal(server.settings(password=PASSWORD))
            assert "offers no encryption, so the password is not sent" in line
            assert "587 or 465" in line
    assert server.sign_ins == ([("radio", PASSWORD, False)] if here else [])
    assert len(server.mails) == here


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False),
        ("192.168.1.1", False),
        ("169.254.1.1", False),
        ("fe80::1%eth0", False),
        ("::ffff:10.0.0.1", False),
    ],
)
def test_this_machine_is_known_by_the_address_at_the_other_end(address: str, here: bool) -> None:
    class Sock:
        def getpeername(self) -> tuple[str, int]:
            return (address, 587)

    client = smtplib.SMTP()
    client.sock = Sock()  # type: ignore[assignment]
    assert mail_smtp.is_on_this_machine(client) is here


# --- what is refused, and what the operator reads ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "answer", "says", "advice"),
    [
        ("MAIL", "550 5.7.1 not yours", f"does not take mails from {SENDER} (550 5.7.1)", "SMTP_FROM"),
        ("MAIL", f"530 5.7.0 Authentication required for {TO}", "(530 5.7.0)", "set SMTP_USER and SMTP_PASSWORD"),
        (
            "RCPT",
            f"550 5.1.1 <{TO}> is unknown",
            "does not take mails for this address (550 5.1.1)",
            "address is wrong",
        ),
        ("RCPT", f"554 {TO}: relay denied", "does not take mails for this address (554)", "SMTP_USER"),
        ("RCPT", f"450 4.2.0 <{TO}> greylisted", "(450 4.2.0)", "later"),
        ("RCPT", f"421 4.3.2 {TO} closing", "(421 4.3.2)", "later"),
        ("DATA", f"554 5.7.1 spam: {LINK} for {TO}", "does not take this mail (554 5.7.1)", "log of the mail server"),
    ],
)
async def test_a_mail_that_is_refused(command: str, answer: str, says: str, advice: str) -> None:
    with mail_server() as server:
        server.answers[command] = answer
        line = await refusal(server.settings())
        assert says in line
        assert advice in line
        assert server.mails == []
        del server.answers[command]  # one refusal stops nothing
        await SmtpMailer(server.settings()).send(MAIL)
    assert len(server.mails) == 1


async def test_a_wrong_password_and_a_server_that_asks_for_none(trusted: ssl.SSLContext) -> None:
    with mail_server(tls_context=trusted) as server:
        line = await refusal(server.settings(password="wrong-horse"))
        assert "does not take the password (535 5.7.8). Mend SMTP_USER and SMTP_PASSWORD." in line
    with mail_server(auth_require_tls=True) as server:  # no TLS, so that it never offers AUTH
        assert "has no way to sign in" in await refusal(server.settings(password=PASSWORD))
    assert server.sign_ins == []


async def test_a_server_that_is_not_there() -> None:
    line = await refusal(SmtpSettings("127.0.0.1", free_port(), SENDER))
    assert "cannot be reached (Connection refused)" in line
    assert "SMTP_HOST and SMTP_PORT" in line


async def test_tls_where_there_is_none_and_none_where_there_is(
    trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mail_server() as server:
        monkeypatch.setattr(mail_smtp, "SMTPS_PORT", server.port)
        assert "does not speak TLS" in await refusal(server.settings())
    with mail_server(ssl_context=trusted) as server:
        line = await refusal(server.settings(), answer_s=0.2)  # both wait for the other to begin
        assert "has not answered" in line
        assert "465" in line


@pytest.mark.parametrize(
    ("greeting", "says"),
    [
        (b"", "hangs up"),
        (b"554 5.7.1 no service for 192.0.2.1\x1b[31m\r\n", "(554 5.7.1 no service for 192.0.2.1[31m)"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not want to talk to us"),
        (b"220 hello\r\n", "hangs up"),
    ],
)
async def test_something_that_does_not_want_our_mail(greeting: bytes, says: str) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(greeting)
            await stream.send_eof()
            with trio.move_on_after(PATIENCE_S):  # until the other end has read it
                async for _ in stream:
                    pass

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        assert says in await refusal(SmtpSettings("127.0.0.1", listener.socket.getsockname()[1], SENDER))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (socket.gaierror(-2, "Name or service not known"), "mail.example.org is not known."),
        (UnicodeError("label empty or too long"), "mail.example.org is not known."),
        (TimeoutError("timed out"), "has not answered within 20 s."),
        (smtplib.SMTPException("No suitable authentication method found."), "No suitable authentication method"),
    ],
)
def test_errors_that_no_test_can_wait_for(error: Exception, says: str) -> None:
    trouble = explain(error, SmtpSettings("mail.example.org", 587, SENDER), 20.0)
    assert says in trouble.text
    assert trouble.advice


# --- time, and being cancelled ----------------------------------------------------------------------------------------


def test_we_say_what_was_slow_before_the_outbox_gives_up() -> None:
    assert mail_smtp.ANSWER_S < MAIL_S < SEND_S


async def test_a_server_that_hangs_is_given_up() -> None:
    async with silent_server() as (port, _):
        line = await refusal(SmtpSettings("127.0.0.1", port, SENDER), answer_s=0.1)
        assert "has not answered within" in line
        assert "firewall" in line


async def test_a_server_that_answers_too_slowly_too_often_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """No single answer takes too long, all together do."""
    monkeypatch.setattr(mail_smtp, "MAIL_S", 0.1)
    async with silent_server() as (port, came):
        mailer = SmtpMailer(SmtpSettings("127.0.0.1", port, SENDER), answer_s=PATIENCE_S)
        with pytest.raises(UnavailableError, match="has not answered within"):
            await mailer.send(MAIL)
        await (await came.receive()).aclose()
        await all_closed(mailer)


async def test_who_is_cancelled_leaves_at_once() -> None:
    async with silent_server() as (port, came):
        mailer = SmtpMailer(SmtpSettings("127.0.0.1", port, SENDER), answer_s=PATIENCE_S)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mailer.send, MAIL)
            stream = await came.receive()
            nursery.cancel_scope.cancel()
        assert mailer.connections == 1, "nobody has waited for the server"
        await stream.aclose()
        await all_closed(mailer)


async def test_what_is_left_behind_ends_by_itself() -> None:
    async with silent_server() as (port, came):
        mailer = SmtpMailer(SmtpSettings("127.0.0.1", port, SENDER), answer_s=0.5)
        with capture_logs():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(AtOnce().post, "mail", partial(mailer.send, MAIL), user_id="7"))
                stream = await came.receive()
                nursery.cancel_scope.cancel()
        with trio.fail_after(PATIENCE_S):
            assert await stream.receive_some() == b"", "the line is closed, though the server has said nothing"
        await all_closed(mailer)


def test_cancelled_at_any_step_nothing_is_left_and_the_mail_arrives_once_or_not() -> None:
    with mail_server() as server:

        async def scenario(cut: Cut) -> None:
            server.mails.clear()
            mailer = SmtpMailer(server.settings(), answer_s=PATIENCE_S)
            sent = False
            with cut:
                await mailer.send(MAIL)
                sent = True
            await all_closed(mailer)
            assert len(server.mails) == 1 if sent else len(server.mails) <= 1

        assert sweep_within(scenario, lambda: None, clock=lambda: None, runs_beyond=3) >= 2


# --- where mails go ---------------------------------------------------------------------------------------------------


def test_the_settings_say_where_mails_go(tmp_path: Path) -> None:
    assert isinstance(mailer_for(load_settings({}, data_dir=tmp_path).smtp), ConsoleMailer)
    env = {"SMTP_HOST": "mail.example.org", "SMTP_FROM": "Radio <radio@example.org>"}
    settings = load_settings(env, data_dir=tmp_path)
    assert isinstance(mailer_for(settings.smtp), SmtpMailer)
    assert settings.without_effect == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SMTP_FROM", "radio@"),
        ("SMTP_FROM", "@example.org"),
        ("SMTP_FROM", "radio"),
        ("SMTP_FROM", "a@example.org, b@example.org"),
        ("SMTP_FROM", "radio@example.org\nBcc: eve@example.org"),
        ("SMTP_FROM", "Radio\r <radio@example.org>"),
        ("SMTP_FROM", "Radio <radio@example.org"),
        ("SMTP_PASSWORD", "pässword"),
    ],
)
def test_what_cannot_work_stops_the_start(name: str, value: str, tmp_path: Path) -> None:
    env = {"SMTP_HOST": "m", "SMTP_FROM": SENDER, "SMTP_USER": "radio", "SMTP_PASSWORD": "p", name: value}
    with pytest.raises(ConfigError) as caught:
        load_settings(env, data_dir=tmp_path)
    assert caught.value.detail.startswith(name)
