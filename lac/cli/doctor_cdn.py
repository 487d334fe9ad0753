"""`lac doctor` on the CDN of HLS: whether what we put into the bucket comes out of it, and whether pages may read it.

Where the CDN takes it from a bucket, an object of a few bytes goes the whole way and is deleted again.
"""

from __future__ import annotations

import http.client
import secrets
import ssl
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from lac.cdn.origin import CHECK_PREFIX
from lac.cli.findings import TIMEOUT_S, Finding, Findings, Verdict
from lac.config import Settings
from lac.config_services import S3Settings
from lac.storage.s3 import OTHER_ADVICE, make_client, translate, where

SUBJECT = "HLS CDN"
#: In case the server has no name yet: any page of another origin.
SOME_ORIGIN = "https://page.example.org"
_CONTENT = b"LiveAudioCast looks whether this can be read.\n"


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    allowed_origin: str | None
    body: bytes


def check_cdn(settings: Settings) -> Findings:
    """Nothing where there is none."""
    cdn = settings.hls_cdn_url
    if cdn is None:
        return
    if (settings.public_url or "").startswith("https:") and cdn.startswith("http:"):
        yield Finding(
            Verdict.FAIL,
            SUBJECT,
            "LAC_HLS_CDN_URL is http, and LAC_PUBLIC_URL https: browsers load nothing from there.",
            "Use the CDN's https address.",
        )
        return
    page = urlsplit(settings.public_url or SOME_ORIGIN)
    origin = f"{page.scheme}://{page.netloc}"
    if settings.hls_push and settings.s3 is not None:
        yield from _check_bucket(settings.s3, cdn, origin)
    else:
        yield from _check(cdn, f"{CHECK_PREFIX}index.m3u8", origin, None)


def _check_bucket(s3: S3Settings, cdn: str, origin: str) -> Findings:
    key = f"{CHECK_PREFIX}{secrets.token_hex(8)}.m3u8"
    client: Any = None
    try:
        client = make_client(s3)
        client.put_object(Bucket=s3.bucket, Key=key, Body=_CONTENT, ContentType="text/plain")
    except Exception as error:
        text, _, advice = str(translate(error, f"hls/ in {where(s3)}")).partition(". ")
        yield Finding(Verdict.FAIL, SUBJECT, f"{text}.", advice or OTHER_ADVICE)
        if client is not None:
            client.close()
        return
    with closing(client):
        yield from _check(cdn, key, origin, _CONTENT)
        with suppress(Exception):  # it may be written and not deleted: `check_s3` says so
            client.delete_object(Bucket=s3.bucket, Key=key)


def _check(cdn: str, path: str, origin: str, expected: bytes | None) -> Findings:
    """`expected` None: the server need not run; if it does it says that there is no such show, in its own words."""
    try:
        answer = _ask(f"{cdn}/{path}", origin)
    except (OSError, http.client.HTTPException, ValueError) as error:
        yield Finding(Verdict.FAIL, SUBJECT, f"{cdn} does not answer ({error}).", "Mend LAC_HLS_CDN_URL.")
        return
    if expected is not None and (answer.status != http.HTTPStatus.OK or answer.body != expected):
        yield Finding(
            Verdict.FAIL,
            SUBJECT,
            f"{cdn}/{path} is not what we have just put into the bucket (HTTP {answer.status}).",
            "Make the bucket's root the CDN's origin, and what is below hls/ readable for it; nothing else.",
        )
    elif expected is None and answer.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        yield Finding(
            Verdict.WARN, SUBJECT, f"{cdn} gets no answer from us (HTTP {answer.status}).", "Is the server running?"
        )
    elif answer.allowed_origin not in ("*", origin):
        yield Finding(
            Verdict.FAIL,
            SUBJECT,
            f"{cdn} answers without Access-Control-Allow-Origin: browsers on {origin} play nothing from there.",
            "Have the bucket, or the CDN, send Access-Control-Allow-Origin: * for GET below /hls/.",
        )
    else:
        yield Finding(Verdict.OK, SUBJECT, f"{cdn} answers, and pages may read it")


def _ask(url: str, origin: str) -> _Answer:
    """Raises OSError, HTTPException or ValueError."""
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    with closing(connection):
        connection.request("GET", parts.path, headers={"Origin": origin})
        response = connection.getresponse()
        return _Answer(response.status, response.getheader("Access-Control-Allow-Origin"), response.read(4096))
