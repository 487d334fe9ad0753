"""`lac serve` with a mail server beside it: a forgotten password, from the form to the new one."""

from __future__ import annotations

import re
import time
from email.message import EmailMessage
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.server import Account, LacServer, running_server
from tests.mail_server import PASSWORD, PATIENCE_S, SENDER, MailServer, mail_server, make_certificate

pytestmark = pytest.mark.e2e

NEW_PASSWORD = "another long enough password"


def is_for(account: Account, subject: str, message: EmailMessage) -> bool:
    return message["To"] == account.email and message["Subject"] == subject


def token_of(message: EmailMessage, page: str) -> str:
    (token,) = re.findall(rf"^http://\S+/{page}#token=(\S+)$", message.get_content().replace("\r\n", "\n"), re.M)
    return str(token)


def forget_password(server: LacServer, account: Account) -> None:
    server.call("POST", "/api/auth/password-reset/request", json={"email": account.email})


def sign_in(server: LacServer, account: Account, password: str) -> int:
    body = {"email": account.email, "password": password}
    return server.http.post(f"{server.url}/api/auth/login", json=body).status_code


def wait_for_line(server: LacServer, words: str) -> str:
    until = time.monotonic() + PATIENCE_S
    while not (found := [line for line in server.output if words in line]):
        assert time.monotonic() < until, server.log()
        time.sleep(0.05)
    return found[0]


def smtp_environment(mails: MailServer, authority: Path) -> dict[str, str]:
    smtp = mails.settings(password=PASSWORD)
    assert smtp.user is not None
    return {
        "SMTP_HOST": smtp.host,
        "SMTP_PORT": str(smtp.port),
        "SMTP_USER": smtp.user,
        "SMTP_PASSWORD": PASSWORD,
        "SMTP_FROM": f"A radio <{SENDER}>",
        "SSL_CERT_FILE": str(authority),
    }


def test_a_forgotten_password_from_the_form_to_the_new_one(tmp_path: Path) -> None:
    authority, context = make_certificate(tmp_path)
    with (
        mail_server(tls_context=context, require_starttls=True) as mails,
        running_server(tmp_path / "data", **smtp_environment(mails, authority)) as server,
    ):
        wait_for_line(server, "mails go to the mail server")
        wait_for_line(server, "set LAC_PUBLIC_URL")
        account = server.register("Ada")
        welcome = mails.wait_for(partial(is_for, account, "Confirm your e-mail address"))
        server.call("POST", "/api/auth/verify-email", json={"token": token_of(welcome, "verify-email")})

        forget_password(server, account)
        mail = mails.wait_for(partial(is_for, account, "A new password"))
        assert mail["From"] == f"A radio <{SENDER}>"
        token = token_of(mail, "reset-password")
        confirm = {"token": token, "password": NEW_PASSWORD}
        server.call("POST", "/api/auth/password-reset/confirm", json=confirm)
        assert sign_in(server, account, NEW_PASSWORD) == 200
        assert sign_in(server, account, account.password) == 401
        assert server.http.post(f"{server.url}/api/auth/password-reset/confirm", json=confirm).status_code == 403
        assert {sign_in[2] for sign_in in mails.sign_ins} == {True}, "over TLS"

        # One that is refused is told to the operator, and not whose it is.
        mails.answers["RCPT"] = f"550 5.1.1 <{account.email}> is unknown"
        forget_password(server, account)
        line = wait_for_line(server, "does not take mails for this address (550 5.1.1)")
        assert "password reset mail" in line
        assert server.metric("lac_mails_sent_total") == 2
        assert server.metric("lac_mails_lost_total") == 1
        log = "\n".join(server.output)
        for secret in (token, account.email, PASSWORD):
            assert secret not in log


def test_without_a_mail_server_the_start_says_where_mails_go(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        wait_for_line(server, "mails go to the console")
        account = server.register("Ada")
        wait_for_line(server, f"e-mail to {account.email}: Confirm your e-mail address")
