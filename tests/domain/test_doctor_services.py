"""`lac doctor` against real services: there, not there, and there but not for us."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lac.cli.doctor_services import check_redis, check_s3, check_smtp
from lac.cli.findings import Finding, Verdict
from lac.config import load_settings
from lac.config_services import S3Settings, SmtpSettings
from lac.errors import ConfigError
from tests.mail_server import PASSWORD, MailServer, free_port, mail_server, make_certificate
from tests.rclone import rclone_server


def only(findings: Iterator[Finding]) -> Finding:
    (finding,) = findings
    assert finding.verdict is Verdict.OK or finding.advice, "what to do is said"
    return finding


# --- Redis ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def redis_port() -> Iterator[Callable[[dict[bytes, bytes]], int]]:
    """A server that answers each command's first word, in the protocol of Redis."""
    sockets: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(answers: dict[bytes, bytes]) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        sockets.append(listener)

        def run() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rwb") as stream:
                while head := stream.readline():
                    words = [stream.read(int(stream.readline()[1:]) + 2)[:-2] for _ in range(int(head[1:]))]
                    stream.write(answers.get(words[0], b"-ERR unknown") + b"\r\n")
                    stream.flush()

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return int(listener.getsockname()[1])

    yield serve
    for thread in threads:
        thread.join(5)
    for sock in sockets:
        sock.close()


def test_a_redis_that_answers(redis_port: Callable[[dict[bytes, bytes]], int]) -> None:
    port = redis_port({b"AUTH": b"+OK", b"PING": b"+PONG"})
    assert only(check_redis(f"redis://:p%40ss@127.0.0.1:{port}/0")).verdict is Verdict.OK


def test_a_redis_that_wants_a_password(redis_port: Callable[[dict[bytes, bytes]], int]) -> None:
    finding = only(check_redis(f"redis://127.0.0.1:{redis_port({b'PING': b'-NOAUTH Authentication required.'})}/0"))
    assert finding.verdict is Verdict.FAIL
    assert "password" in finding.advice


def test_something_else_on_the_port_of_redis_and_nothing(redis_port: Callable[[dict[bytes, bytes]], int]) -> None:
    assert "not as Redis" in only(check_redis(f"redis://127.0.0.1:{redis_port({b'PING': b'HTTP/1.1 400'})}")).text
    assert "cannot be reached" in only(check_redis(f"redis://127.0.0.1:{free_port()}")).text


# --- S3 ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with rclone_server(tmp_path_factory.mktemp("s3")) as server:
        yield server.url


@pytest.mark.parametrize(
    ("bucket", "key", "secret", "verdict"),
    [
        ("shows", "key", "secret", Verdict.OK),
        ("elsewhere", "key", "secret", Verdict.FAIL),
        ("shows", "key", "wrong", Verdict.FAIL),
        ("shows", "nobody", "secret", Verdict.FAIL),
    ],
)
def test_a_store(store: str, bucket: str, key: str, secret: str, verdict: Verdict) -> None:
    finding = only(check_s3(S3Settings(bucket, "us-east-1", store, key, secret)))
    assert finding.verdict is verdict, finding.text
    assert secret not in finding.text


def test_no_store() -> None:
    finding = only(check_s3(S3Settings("shows", "us-east-1", f"http://127.0.0.1:{free_port()}", "key", "secret")))
    assert finding.verdict is Verdict.FAIL


# --- mail -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def mail() -> Iterator[MailServer]:
    """A mail server that takes one password, and offers no encryption."""
    with mail_server(auth_require_tls=False) as server:
        yield server


@pytest.mark.parametrize(
    ("password", "verdict", "says"),
    [(PASSWORD, Verdict.OK, "takes mail"), ("wrong-horse", Verdict.FAIL, "does not take the password")],
)
def test_a_mail_server(mail: MailServer, password: str, verdict: Verdict, says: str) -> None:
    finding = only(check_smtp(mail.settings(password=password)))
    assert finding.verdict is verdict, finding.text
    assert says in finding.text
    assert password not in finding.text
    assert mail.mails == []


def test_a_mail_server_without_a_password_and_none_at_all(mail: MailServer) -> None:
    assert only(check_smtp(mail.settings())).verdict is Verdict.OK
    assert only(check_smtp(SmtpSettings("127.0.0.1", free_port(), "radio@example.org"))).verdict is Verdict.FAIL


@pytest.mark.parametrize("module", ["lac.mail_smtp", "lac.cli.doctor_services"])
def test_a_mail_server_elsewhere_without_encryption(
    mail: MailServer, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets no password from us; without one it is used, and that others can read along is said."""
    monkeypatch.setattr(f"{module}.is_on_this_machine", lambda client: False)
    password = PASSWORD if module == "lac.mail_smtp" else None
    finding = only(check_smtp(mail.settings(password=password)))
    assert finding.verdict is (Verdict.WARN if password is None else Verdict.FAIL)
    assert "offers no encryption" in finding.text
    assert mail.sign_ins == []


def test_a_mail_server_with_a_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, context = make_certificate(tmp_path)
    with mail_server(tls_context=context) as server:
        finding = only(check_smtp(server.settings(password=PASSWORD)))
        assert finding.verdict is Verdict.FAIL
        assert "certificate" in finding.text
        assert server.sign_ins == []
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        assert only(check_smtp(server.settings(password=PASSWORD))).verdict is Verdict.OK
        assert server.sign_ins == [("radio", PASSWORD, True)]


# --- the settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"REDIS_HOST": "h", "REDIS_URL": "redis://h"}, "REDIS_URL"),
        ({"REDIS_URL": "http://h"}, "REDIS_URL"),
        ({"REDIS_PORT": "6379"}, "REDIS_HOST"),
        ({"REDIS_HOST": "h", "REDIS_PORT": "x"}, "REDIS_PORT"),
        ({"S3_ENDPOINT_URL": "http://h"}, "S3_BUCKET_NAME"),
        ({"S3_BUCKET_NAME": "b", "S3_ENDPOINT_URL": "h:9000"}, "S3_ENDPOINT_URL"),
        ({"S3_BUCKET_NAME": "b", "AWS_ACCESS_KEY_ID": "k"}, "AWS_SECRET_ACCESS_KEY"),
        ({"SMTP_PASSWORD": "p"}, "SMTP_HOST"),
        ({"SMTP_HOST": "h", "SMTP_USER": "u@example.org"}, "SMTP_PASSWORD"),
        ({"SMTP_HOST": "h"}, "SMTP_FROM"),
        ({"SMTP_HOST": "h", "SMTP_FROM": "a@example.org", "SMTP_PORT": "0"}, "SMTP_PORT"),
    ],
)
def test_a_half_set_service_stops_the_start_and_names_the_variable(
    env: dict[str, str], named: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(env, data_dir=tmp_path)
    assert named in caught.value.detail


def test_whole_services_are_read(tmp_path: Path) -> None:
    env = {
        "REDIS_HOST": "r",
        "REDIS_PASSWORD": "a/b",
        "S3_BUCKET_NAME": "b",
        "AWS_REGION": "eu-central-1",
        "SMTP_HOST": "m",
        "SMTP_FROM": "radio@example.org",
    }
    settings = load_settings(env, data_dir=tmp_path)
    assert settings.redis is not None
    assert settings.redis.url == "redis://:a%2Fb@r:6379/0"
    assert settings.s3 == S3Settings("b", "eu-central-1")
    assert settings.smtp == SmtpSettings("m", 587, "radio@example.org")
    assert "a/b" not in repr(settings)
