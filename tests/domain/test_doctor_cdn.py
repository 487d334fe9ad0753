"""`lac doctor` on the CDN of HLS, with a real bucket that anybody may read, and with servers that answer wrongly."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from lac.cli.doctor_cdn import check_cdn
from lac.cli.findings import Finding, Verdict
from lac.config import Settings
from tests.rclone import BUCKET, Rclone, rclone_server

SETTINGS = Settings(data_dir=Path("unused"), jwt_secret="a" * 32, jwt_refresh_secret="b" * 32)


def only(settings: Settings) -> Finding:
    (finding,) = check_cdn(settings)
    assert bool(finding.advice) == (finding.verdict is not Verdict.OK)
    return finding


@contextmanager
def answering(status: int, **headers: str) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name there
            """Not on the console."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rclone]:
    with rclone_server(tmp_path_factory.mktemp("s3"), public=True) as server:
        yield server


def test_no_cdn_is_nothing_to_say() -> None:
    assert list(check_cdn(SETTINGS)) == []


@pytest.mark.parametrize(
    ("status", "headers", "verdict"),
    [
        (404, {"Access_Control_Allow_Origin": "*"}, Verdict.OK),
        (404, {"Access_Control_Allow_Origin": "https://page.example.org"}, Verdict.OK),
        (404, {"Access_Control_Allow_Origin": "https://another.example"}, Verdict.FAIL),
        (404, {}, Verdict.FAIL),
        (502, {}, Verdict.WARN),
    ],
)
def test_a_cdn_that_asks_us(status: int, headers: dict[str, str], verdict: Verdict) -> None:
    with answering(status, **headers) as url:
        assert only(replace(SETTINGS, hls_cdn_url=url)).verdict is verdict
    assert only(replace(SETTINGS, hls_cdn_url=url)).verdict is Verdict.FAIL, "nobody is there any more"


def test_browsers_load_nothing_insecure_into_a_secure_page() -> None:
    settings = replace(SETTINGS, public_url="https://radio.example.org", hls_cdn_url="http://cdn.example.org")
    assert "https" in only(settings).text


def test_a_bucket_is_tried_the_whole_way(rclone: Rclone) -> None:
    pushing = replace(SETTINGS, hls_push=True, s3=rclone.settings(), hls_cdn_url=f"{rclone.url}/{BUCKET}")
    assert only(pushing).verdict is Verdict.OK
    assert rclone.objects() == []
    wrong_root = only(replace(pushing, hls_cdn_url=rclone.url))
    assert wrong_root.verdict is Verdict.FAIL
    assert "hls/" in wrong_root.text
    no_bucket = only(replace(pushing, s3=replace(rclone.settings(), bucket="elsewhere")))
    assert no_bucket.verdict is Verdict.FAIL
    assert "Create it" in no_bucket.advice
