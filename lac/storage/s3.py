"""The bucket, through boto3 in threads of its own: a store that hangs starves nobody else.

boto3 takes a third of a second to import and each client some ten MB: both only where a bucket is configured.
"""

from __future__ import annotations

import base64
import builtins
import secrets
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

import trio

from lac.config_services import S3Settings
from lac.storage.errors import StoreAwayError, StoreError, StoreRefusedError, UploadGoneError
from lac.storage.objects import OpenUpload, StoredObject, StoredPart

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

T = TypeVar("T")

THREADS = 4
CONNECT_TIMEOUT_S = 5.0
#: Between two pieces of an answer, or of what we send.
READ_TIMEOUT_S = 20.0
#: One call, all in all. A part may take longer: 5 MiB in this time are 700 kbit/s.
CALL_TIMEOUT_S = 10.0
TRANSFER_TIMEOUT_S = 60.0
#: As many keys as one request may delete.
DELETE_BATCH = 1000
#: `check` writes below this key and deletes it again.
CHECK_PREFIX = "lac-check/"

#: What a wrong setting looks like, and what to do about it.
ADVICE = {
    "NoSuchBucket": "Create it, or mend S3_BUCKET_NAME and AWS_REGION.",
    "InvalidBucketName": "Mend S3_BUCKET_NAME.",
    "PermanentRedirect": "Mend AWS_REGION.",
    "AuthorizationHeaderMalformed": "Mend AWS_REGION.",
    "AccessDenied": "Give this key the right to list, read, write and delete in the bucket.",
    "InvalidAccessKeyId": "Mend AWS_ACCESS_KEY_ID.",
    "SignatureDoesNotMatch": "Mend AWS_SECRET_ACCESS_KEY.",
    "ExpiredToken": "The session that the key belongs to is over: renew it.",
    "RequestTimeTooSkewed": "Set this machine's clock.",
}
OTHER_ADVICE = "Look into the store's own log."

_PASSING = frozenset(
    {
        "SlowDown",
        "ServiceUnavailable",
        "InternalError",
        "RequestTimeout",
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "OperationAborted",
        # Damaged on its way: sending it again helps.
        "BadDigest",
        "IncompleteBody",
    }
)
_GONE = frozenset({"NoSuchUpload", "InvalidPart", "InvalidPartOrder", "EntityTooSmall"})
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})


@asynccontextmanager
async def open_s3(settings: S3Settings, *, threads: int = THREADS) -> AsyncGenerator[S3Store, None]:
    """The configured bucket. Connects to nothing yet; `check` does."""
    client = await trio.to_thread.run_sync(make_client, settings, threads)
    try:
        yield S3Store(client, settings, threads=threads)
    finally:
        client.close()


def make_client(settings: S3Settings, threads: int = THREADS) -> Any:
    """Blocks for some tenths of a second. Nothing is tried twice in here: whoever calls knows better how often."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        region_name=settings.region,
        endpoint_url=settings.endpoint_url,
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=settings.secret_access_key,
        config=Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"total_max_attempts": 1},
            max_pool_connections=threads,
            signature_version="s3v4",
            # Newer boto3 adds checksums that only Amazon understands; parts carry their MD5 instead.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "virtual" if _has_own_host(settings) else "path"},
        ),
    )


class S3Store:
    """`ObjectStore` for one bucket."""

    def __init__(self, client: Any, settings: S3Settings, *, threads: int = THREADS) -> None:
        self._client = client
        self._bucket = settings.bucket
        self._limiter = trio.CapacityLimiter(threads)
        self.where = where(settings)

    async def check(self, prefix: str = CHECK_PREFIX) -> None:
        await self._call(lambda: check_bucket(self._client, self._bucket, prefix), timeout_s=2 * CALL_TIMEOUT_S)

    async def begin(self, key: str, content_type: str) -> str:
        def create() -> str:
            answer = self._client.create_multipart_upload(Bucket=self._bucket, Key=key, ContentType=content_type)
            return str(answer["UploadId"])

        return await self._call(create, timeout_s=CONNECT_TIMEOUT_S, shield=True)

    async def put_part(self, key: str, upload_id: str, number: int, data: bytes, md5: str) -> str:
        def upload() -> str:
            answer = self._client.upload_part(
                Bucket=self._bucket,
                Key=key,
                UploadId=upload_id,
                PartNumber=number,
                Body=data,
                ContentMD5=base64.b64encode(bytes.fromhex(md5)).decode(),
            )
            return _etag(answer["ETag"])

        return await self._call(upload, timeout_s=TRANSFER_TIMEOUT_S)

    async def complete(self, key: str, upload_id: str, parts: Sequence[StoredPart]) -> None:
        named = [{"PartNumber": part.number, "ETag": f'"{part.etag}"'} for part in parts]
        await self._call(
            lambda: self._client.complete_multipart_upload(
                Bucket=self._bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": named}
            ),
            timeout_s=TRANSFER_TIMEOUT_S,  # Amazon may take that long to put many parts together
        )

    async def abort(self, key: str, upload_id: str) -> None:
        try:
            await self._call(
                lambda: self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload_id)
            )
        except UploadGoneError:
            return

    async def open_uploads(self, prefix: str) -> list[OpenUpload]:
        def collect() -> list[OpenUpload]:
            pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=prefix)
            return [
                OpenUpload(str(found["Key"]), str(found["UploadId"]), found["Initiated"])
                for page in pages
                for found in page.get("Uploads", ())
            ]

        try:
            return await self._call(collect)
        except UploadGoneError:  # how rclone says that there is none
            return []

    async def parts(self, key: str, upload_id: str) -> list[StoredPart]:
        def collect() -> list[StoredPart]:
            pages = self._client.get_paginator("list_parts").paginate(Bucket=self._bucket, Key=key, UploadId=upload_id)
            return [
                StoredPart(int(part["PartNumber"]), int(part["Size"]), _etag(part["ETag"]))
                for page in pages
                for part in page.get("Parts", ())
            ]

        return await self._call(collect)

    async def put(
        self, key: str, data: bytes, content_type: str, md5: str, *, cache_control: str | None = None
    ) -> None:
        more = {} if cache_control is None else {"CacheControl": cache_control}
        await self._call(
            lambda: self._client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=data,
                ContentType=content_type,
                ContentMD5=base64.b64encode(bytes.fromhex(md5)).decode(),
                **more,
            ),
            timeout_s=TRANSFER_TIMEOUT_S,
        )

    async def head(self, key: str) -> StoredObject | None:
        def look() -> StoredObject:
            answer = self._client.head_object(Bucket=self._bucket, Key=key)
            return StoredObject(key, int(answer["ContentLength"]), _etag(answer["ETag"]))

        try:
            return await self._call(look)
        except StoreRefusedError as error:
            if error.code in _MISSING:
                return None
            raise

    async def read(self, key: str, start: int, size: int) -> bytes:
        def fetch() -> bytes:
            answer = self._client.get_object(Bucket=self._bucket, Key=key, Range=f"bytes={start}-{start + size - 1}")
            with answer["Body"] as body:
                return bytes(body.read(size))

        return await self._call(fetch, timeout_s=TRANSFER_TIMEOUT_S)

    async def list(self, prefix: str) -> list[StoredObject]:
        def collect() -> list[StoredObject]:
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            return [
                StoredObject(str(found["Key"]), int(found["Size"]), _etag(found["ETag"]), found.get("LastModified"))
                for page in pages
                for found in page.get("Contents", ())
            ]

        return await self._call(collect)

    async def folders(self, prefix: str) -> builtins.list[str]:
        def collect() -> builtins.list[str]:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix, Delimiter="/"
            )
            return [
                str(found["Prefix"]).removeprefix(prefix).rstrip("/")
                for page in pages
                for found in page.get("CommonPrefixes", ())
            ]

        return await self._call(collect)

    async def delete(self, keys: Collection[str]) -> None:
        ordered = sorted(keys)
        for start in range(0, len(ordered), DELETE_BATCH):
            batch = ordered[start : start + DELETE_BATCH]

            def remove(batch: list[str] = batch) -> None:
                answer = self._client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True}
                )
                for failed in answer.get("Errors", ()):
                    code = str(failed.get("Code", ""))
                    raise StoreRefusedError(f"{self.where} does not delete {failed.get('Key')}: {code}.", code)

            await self._call(remove)

    def signed_url(self, key: str, *, expires_s: int, content_type: str, filename: str | None = None) -> str:
        parameters = {"Bucket": self._bucket, "Key": key, "ResponseContentType": content_type}
        if filename is not None:
            # RFC 6266 section 4.3: a name that is not ASCII goes into filename*.
            plain = filename.encode("ascii", "replace").decode().replace('"', "_").replace("\\", "_").replace("?", "_")
            named = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
            parameters["ResponseContentDisposition"] = named
        return str(self._client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=expires_s))

    async def _call(self, fn: Callable[[], T], *, timeout_s: float = CALL_TIMEOUT_S, shield: bool = False) -> T:
        """`fn` in a thread. Whoever is cancelled, or waits too long, leaves the thread behind, which ends by itself
        within boto3's timeouts; until then it counts as one of `THREADS`. `shield`: only too long a time ends it."""
        with trio.move_on_after(timeout_s, shield=shield):
            try:
                return await trio.to_thread.run_sync(fn, limiter=self._limiter, abandon_on_cancel=True)
            except StoreError:
                raise
            except Exception as error:
                raise translate(error, self.where) from error
        raise StoreAwayError(f"{self.where} has not answered within {timeout_s:.0f} s.")


def _has_own_host(settings: S3Settings) -> bool:
    """Amazon's buckets do, unless their names have dots, which its certificates do not cover; others' seldom do."""
    return settings.endpoint_url is None and "." not in settings.bucket


def origins_of(settings: S3Settings) -> tuple[str, ...]:
    """Where signed addresses may point to: for pages that say what they load, and from where."""
    if settings.endpoint_url is not None:
        url = urlsplit(settings.endpoint_url)
        return (f"{url.scheme}://{url.netloc}",)
    place = f"{settings.bucket}." if _has_own_host(settings) else ""
    hosts = [f"{place}s3.{settings.region}.amazonaws.com"]
    if settings.region == "us-east-1":
        hosts.append(f"{place}s3.amazonaws.com")
    return tuple(f"https://{host}" for host in hosts)


def check_bucket(client: Any, bucket: str, prefix: str = CHECK_PREFIX) -> None:
    """Try what is needed, with an object of a few bytes below `prefix` that goes again. Blocking; raises boto3's
    errors."""
    client.list_objects_v2(Bucket=bucket, MaxKeys=1)
    key = prefix + secrets.token_hex(8)
    client.put_object(Bucket=bucket, Key=key, Body=b"LiveAudioCast looks whether it may write here.")
    client.delete_object(Bucket=bucket, Key=key)


def where(settings: S3Settings) -> str:
    """The bucket in words."""
    place = f" at {settings.endpoint_url}" if settings.endpoint_url else f" in {settings.region}"
    return f"bucket {settings.bucket}{place}"


def translate(error: Exception, where: str) -> StoreError:
    """boto3's and the network's errors as one of ours. Everything else comes back as it is, raised."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

    if isinstance(error, ClientError):
        return _translate_answer(error, where)
    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return StoreRefusedError(
            f"{where} needs a key. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.", "NoCredentials"
        )
    if isinstance(error, (BotoCoreError, OSError)):
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        return StoreAwayError(f"{where} cannot be reached: {reason}")
    raise error


def _translate_answer(error: ClientError, where: str) -> StoreError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    # The latter: rclone has passed the part on already, and cannot put another one in its place as Amazon does.
    if code in _GONE or (code == "NotImplemented" and error.operation_name == "UploadPart"):
        return UploadGoneError(f"{where}: {code}.")
    if code in _PASSING or status >= 500 or status == 429:
        return StoreAwayError(f"{where} cannot do it just now: {code or status}.")
    if code in ("403", "Forbidden"):  # the answer to a HEAD has no body to say more
        code = "AccessDenied"
    return StoreRefusedError(f"{where} refuses us: {code or status}. {ADVICE.get(code, OTHER_ADVICE)}", code)


def _etag(raw: object) -> str:
    return str(raw).strip('"')
