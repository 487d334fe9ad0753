"""boto3 against a server that really speaks S3, and against Amazon's error codes as moto knows them."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import httpx
import pytest
import trio
from botocore.exceptions import ClientError
from moto import mock_aws

from lac.config_services import S3Settings
from lac.storage import s3 as s3_module
from lac.storage.disk import DiskThreads
from lac.storage.errors import StoreAwayError, StoreRefusedError, UploadGoneError
from lac.storage.mirror import Mirror, MirrorState, journal_path
from lac.storage.objects import StoredPart
from lac.storage.s3 import S3Store, open_s3, origins_of, translate
from tests.rclone import Rclone, rclone_server
from tests.storage.proxy import failing_proxy

KEY = "recordings/r1/program.ogg"
PART = random.Random(3).randbytes(1 << 16) * 80  # 5 MiB


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rclone]:
    with rclone_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
async def store(rclone: Rclone) -> AsyncIterator[S3Store]:
    async with open_s3(rclone.settings()) as store:
        yield store


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


# --- a real server ----------------------------------------------------------------------------------------------------


async def test_objects_come_and_go(store: S3Store, rclone: Rclone) -> None:
    await store.check()
    assert not [key for key in rclone.objects() if key.startswith("lac-check")]
    await store.put("a/b/small.json", b"{}", "application/json", md5(b"{}"))
    found = await store.head("a/b/small.json")
    assert found is not None
    assert (found.size, found.etag) == (2, md5(b"{}"))
    assert await store.read("a/b/small.json", 1, 10) == b"}"
    assert [item.key for item in await store.list("a/")] == ["a/b/small.json"]
    await store.delete(["a/b/small.json", "a/b/never-was"])
    assert await store.head("a/b/small.json") is None
    assert await store.list("a/") == []
    with pytest.raises(StoreAwayError, match="BadDigest"):
        await store.put("a/damaged", b"as it came", "text/plain", md5(b"as it was"))


async def test_parts_and_their_end(store: S3Store, rclone: Rclone) -> None:
    assert await store.open_uploads("") == []
    upload_id = await store.begin("m/x", "audio/ogg")
    assert [(one.key, one.upload_id) for one in await store.open_uploads("m/")] == [("m/x", upload_id)]
    parts = []
    for number, data in enumerate((PART, b"end"), 1):
        etag = await store.put_part("m/x", upload_id, number, data, md5(data))
        parts.append(StoredPart(number, len(data), etag))
    assert await store.parts("m/x", upload_id) == parts
    await store.complete("m/x", upload_id, parts)
    assert rclone.content("m/x") == PART + b"end"
    with pytest.raises(UploadGoneError):
        await store.complete("m/x", upload_id, parts)
    await store.abort("m/x", upload_id)
    other = await store.begin("m/y", "audio/ogg")
    await store.abort("m/y", other)
    assert await store.open_uploads("") == []
    await store.delete(["m/x"])


async def test_a_signed_url_is_good_for_anybody_for_a_while(store: S3Store) -> None:
    await store.put("signed", b"0123456789", "audio/ogg", md5(b"0123456789"))
    url = store.signed_url("signed", expires_s=60, content_type="audio/ogg", filename='Späte "Schau".ogg')
    async with httpx.AsyncClient() as client:
        answer = await client.get(url)
        assert answer.content == b"0123456789"
        assert answer.headers["content-type"] == "audio/ogg"
        named = answer.headers["content-disposition"]
        assert named == "attachment; filename=\"Sp_te _Schau_.ogg\"; filename*=UTF-8''Sp%C3%A4te%20%22Schau%22.ogg"
        part = await client.get(url, headers={"Range": "bytes=2-4"})
        assert part.content == b"234"
        assert (await client.get(url.replace("signed?", "other?"))).status_code == 403
    await store.delete(["signed"])


async def test_a_wrong_secret_and_a_bucket_that_is_not_there(rclone: Rclone) -> None:
    async with open_s3(rclone.settings(secret="wrong")) as store:
        with pytest.raises(StoreRefusedError, match="AWS_SECRET_ACCESS_KEY") as caught:
            await store.check()
        assert "wrong" not in str(caught.value)
    right = rclone.settings()
    elsewhere = S3Settings("elsewhere", right.region, right.endpoint_url, right.access_key_id, right.secret_access_key)
    async with open_s3(elsewhere) as store:
        with pytest.raises(StoreRefusedError, match="S3_BUCKET_NAME"):
            await store.check()


# --- outages ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real time here: do not wait for as long as one waits for a store."""
    monkeypatch.setattr("lac.storage.mirror.POLL_S", 0.05)
    monkeypatch.setattr("lac.storage.mirror.RETRY_FIRST_S", 0.05)
    monkeypatch.setattr("lac.storage.mirror.RETRY_MAX_S", 0.2)


@asynccontextmanager
async def mirroring(mirror: Mirror) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mirror.run)
        yield
        with trio.fail_after(60):
            while mirror.state is not MirrorState.DONE:  # noqa: ASYNC110  as a page would look
                await trio.sleep(0.02)


async def until(condition: object, mirror: Mirror) -> None:
    assert callable(condition)
    with trio.fail_after(60):
        while not condition(mirror):  # noqa: ASYNC110  as a page would look
            await trio.sleep(0.02)


@pytest.mark.usefixtures("impatient")
async def test_the_store_is_killed_in_the_middle_of_a_show(rclone: Rclone, store: S3Store, tmp_path: Path) -> None:
    """It also forgets the upload that was open, as this one does when it starts again."""
    path = tmp_path / "program.ogg"
    path.write_bytes(PART + b"more")
    mirror = Mirror(store, DiskThreads(), path, KEY, "audio/ogg")
    async with mirroring(mirror):
        await until(lambda m: m.sent == len(PART), mirror)
        rclone.kill()
        with path.open("ab") as file:
            file.write(PART)
        await until(lambda m: m.state is MirrorState.WAITING, mirror)
        assert mirror.trouble is not None
        assert mirror.trouble.startswith("bucket shows")
        rclone.start()
        mirror.closed.set()
    assert rclone.content(KEY) == PART + b"more" + PART
    assert not journal_path(path).exists()
    assert await store.open_uploads("") == []
    await store.delete([KEY])


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("where", ["in a part", "at the second part", "at completion", "after completion"])
async def test_the_line_breaks(rclone: Rclone, tmp_path: Path, where: str) -> None:
    path = tmp_path / "program.ogg"
    path.write_bytes(PART + b"end" * 300)
    async with (
        failing_proxy(rclone.port) as proxy,
        open_s3(rclone.settings(port=proxy.port)) as store,
    ):
        proxy.budget = 2_000_000 if where == "in a part" else None
        proxy.word = {"at the second part": b"partNumber=2", "in a part": None}.get(where, b"<CompleteMultipartUpload")
        proxy.late = where == "after completion"
        mirror = Mirror(store, DiskThreads(), path, KEY, "audio/ogg")
        mirror.closed.set()
        async with mirroring(mirror):
            pass
        assert proxy.broken == 1
        assert rclone.content(KEY) == PART + b"end" * 300
        assert await store.open_uploads("") == []
        await store.delete([KEY])


async def test_a_store_that_hangs_holds_nobody_up(
    rclone: Rclone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_module, "CONNECT_TIMEOUT_S", 0.3)
    monkeypatch.setattr(s3_module, "READ_TIMEOUT_S", 0.3)
    monkeypatch.setattr("lac.storage.mirror.ABORT_S", 0.2)
    path = tmp_path / "program.ogg"
    path.write_bytes(PART)
    async with failing_proxy(rclone.port) as proxy:
        proxy.hangs = True
        async with open_s3(rclone.settings(port=proxy.port)) as store:
            with pytest.raises(StoreAwayError):
                await store.check()
            mirror = Mirror(store, DiskThreads(), path, KEY, "audio/ogg")
            with trio.move_on_after(0.5):
                await mirror.run()
            assert mirror.sent == 0


# --- Amazon's own codes -----------------------------------------------------------------------------------------------


@pytest.fixture
def amazon(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Settings]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with mock_aws():
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="shows")
        yield S3Settings("shows", "us-east-1")


async def test_what_amazon_says_is_understood(amazon: S3Settings, tmp_path: Path) -> None:
    async with open_s3(amazon) as store:
        await store.check()
        assert await store.open_uploads("recordings/") == []
        assert await store.head("nothing") is None
        with pytest.raises(StoreRefusedError):
            await store.read("nothing", 0, 10)
        upload_id = await store.begin(KEY, "audio/ogg")
        parts = [StoredPart(n, 1, await store.put_part(KEY, upload_id, n, b"x", md5(b"x"))) for n in (1, 2)]
        with pytest.raises(UploadGoneError, match="EntityTooSmall"):
            await store.complete(KEY, upload_id, parts)
        with pytest.raises(UploadGoneError, match="InvalidPart"):
            await store.complete(KEY, upload_id, [StoredPart(1, 1, "0" * 32)])
        await store.abort(KEY, upload_id)
        await store.abort(KEY, upload_id)
        path = tmp_path / "program.ogg"
        path.write_bytes(PART + b"end")
        mirror = Mirror(store, DiskThreads(), path, KEY, "audio/ogg")
        mirror.closed.set()
        copy = await mirror.run()
        assert copy.sha256 == hashlib.sha256(PART + b"end").hexdigest()
        found = await store.head(KEY)
        assert found is not None
        assert found.etag.endswith("-2"), "Amazon's hash of hashes"
        assert await store.open_uploads("") == []
    async with open_s3(S3Settings("nowhere", "us-east-1")) as store:
        with pytest.raises(StoreRefusedError, match="NoSuchBucket"):
            await store.check()


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("SlowDown", 503, StoreAwayError),
        ("InternalError", 500, StoreAwayError),
        ("", 502, StoreAwayError),
        ("RequestTimeout", 400, StoreAwayError),
        ("NoSuchUpload", 404, UploadGoneError),
        ("AccessDenied", 403, StoreRefusedError),
        ("403", 403, StoreRefusedError),
        ("ExpiredToken", 400, StoreRefusedError),
        ("SomethingNew", 400, StoreRefusedError),
    ],
)
def test_each_answer_is_passing_or_for_somebody_to_mend(code: str, status: int, kind: type[Exception]) -> None:
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    assert type(translate(ClientError(answer, "PutObject"), "bucket shows")) is kind  # type: ignore[arg-type]  # as it comes


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
@pytest.mark.parametrize("bucket", ["shows", "shows.example.org"])
@pytest.mark.parametrize("endpoint_url", [None, "https://s3.example.org:9000/base"])
async def test_pages_know_where_signed_addresses_point_to(bucket: str, region: str, endpoint_url: str | None) -> None:
    settings = S3Settings(bucket, region, endpoint_url, "key", "secret")
    async with open_s3(settings) as store:
        url = urlsplit(store.signed_url("a/b", expires_s=60, content_type="audio/ogg"))
        assert f"{url.scheme}://{url.netloc}" in origins_of(settings)


@pytest.mark.parametrize(("operation", "kind"), [("UploadPart", UploadGoneError), ("PutObject", StoreAwayError)])
def test_a_store_that_cannot_replace_a_part_wants_a_new_upload(operation: str, kind: type[Exception]) -> None:
    """rclone, once it has passed the part on: what a killed server sent of a file's end differs from what it is now."""
    answer = {"Error": {"Code": "NotImplemented"}, "ResponseMetadata": {"HTTPStatusCode": 501}}
    assert type(translate(ClientError(answer, operation), "bucket shows")) is kind  # type: ignore[arg-type]  # as it comes


def test_a_mistake_of_ours_is_no_outage() -> None:
    with pytest.raises(ZeroDivisionError):
        translate(ZeroDivisionError(), "bucket shows")


def test_boto3_is_not_loaded_without_a_bucket() -> None:
    code = "import sys, lac.storage.s3, lac.storage.mirror; print('boto3' in sys.modules, 'botocore' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False False"
