"""A bucket in memory that behaves as S3 does, and fails when told to; and a disk without threads."""

from __future__ import annotations

import builtins
import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar, TypeVarTuple

import trio

from lac.storage.errors import StoreAwayError, StoreError, StoreRefusedError, UploadGoneError
from lac.storage.objects import OpenUpload, StoredObject, StoredPart

T = TypeVar("T")
Args = TypeVarTuple("Args")


#: As Amazon's 5 MiB, but quick to hash.
SMALLEST_PART = 5 << 10


class InlineDisk:
    """`lac.storage.disk.DiskThreads` in the caller's thread: a call may be cancelled before it begins and not after."""

    async def run(self, fn: Callable[[*Args], T], *args: *Args) -> T:
        await trio.lowlevel.checkpoint()
        value = fn(*args)
        await trio.lowlevel.cancel_shielded_checkpoint()
        return value


def md5_of(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@dataclass
class _Upload:
    key: str
    parts: dict[int, bytes] = field(default_factory=dict)


class MemoryStore:
    """Every call takes a step before and a step after what it does, so that a cancel can lose either the request or
    the answer. `failing` says which error the next calls meet: before they do anything, or, `late`, after."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        #: Content-Type and Cache-Control.
        self.headers: dict[str, tuple[str, str | None]] = {}
        #: When everything was last written.
        self.modified_at = datetime.now(UTC)
        self.uploads: dict[str, _Upload] = {}
        self.calls: list[str] = []
        self.away = False
        self.refuses = False
        #: By the call's name: the errors that its next calls meet, and whether after the deed.
        self.failures: dict[str, list[tuple[StoreError, bool]]] = {}
        #: Entity tags that are no hashes, as a store that encrypts gives them.
        self.opaque_tags = False
        self.calls_take_s = 0.01
        self.smallest_part = SMALLEST_PART
        self._begun = 0

    def fail(self, call: str, *errors: StoreError, late: bool = False) -> None:
        self.failures.setdefault(call, []).extend((error, late) for error in errors)

    async def check(self, prefix: str = "") -> None:
        await self._do("check", lambda: None)

    async def begin(self, key: str, content_type: str) -> str:
        def deed() -> str:
            self._begun += 1
            self.uploads[f"upload-{self._begun}"] = _Upload(key)
            return f"upload-{self._begun}"

        with trio.CancelScope(shield=True):
            return await self._do("begin", deed)

    async def put_part(self, key: str, upload_id: str, number: int, data: bytes, md5: str) -> str:
        def deed() -> str:
            assert md5 == md5_of(data)
            self._upload(key, upload_id).parts[number] = data
            return self._tag(data)

        return await self._do("put_part", deed)

    async def complete(self, key: str, upload_id: str, parts: Sequence[StoredPart]) -> None:
        def deed() -> None:
            upload = self._upload(key, upload_id)
            assert parts, "S3 refuses to put nothing together"
            for index, part in enumerate(parts):
                data = upload.parts.get(part.number)
                if data is None or self._tag(data) != part.etag:
                    raise UploadGoneError("InvalidPart")
                if index < len(parts) - 1 and len(data) < self.smallest_part:
                    raise UploadGoneError("EntityTooSmall")
            self.objects[key] = b"".join(upload.parts[part.number] for part in parts)
            del self.uploads[upload_id]

        await self._do("complete", deed)

    async def abort(self, key: str, upload_id: str) -> None:
        await self._do("abort", lambda: self.uploads.pop(upload_id, None))

    async def open_uploads(self, prefix: str) -> list[OpenUpload]:
        return await self._do(
            "open_uploads",
            lambda: [
                OpenUpload(upload.key, upload_id, datetime.now(UTC))
                for upload_id, upload in self.uploads.items()
                if upload.key.startswith(prefix)
            ],
        )

    async def parts(self, key: str, upload_id: str) -> list[StoredPart]:
        def deed() -> list[StoredPart]:
            parts = sorted(self._upload(key, upload_id).parts.items())
            return [StoredPart(number, len(data), self._tag(data)) for number, data in parts]

        return await self._do("parts", deed)

    async def put(
        self, key: str, data: bytes, content_type: str, md5: str, *, cache_control: str | None = None
    ) -> None:
        def deed() -> None:
            self.objects[key] = data
            self.headers[key] = content_type, cache_control
            self.on_put(key)

        assert md5 == md5_of(data)
        await self._do("put", deed)

    def on_put(self, key: str) -> None:
        """For tests that look at each moment."""

    async def head(self, key: str) -> StoredObject | None:
        def deed() -> StoredObject | None:
            data = self.objects.get(key)
            return None if data is None else StoredObject(key, len(data), self._tag(data))

        return await self._do("head", deed)

    async def read(self, key: str, start: int, size: int) -> bytes:
        def deed() -> bytes:
            if key not in self.objects:
                raise StoreRefusedError("there is no such object", "NoSuchKey")
            return self.objects[key][start : start + size]

        return await self._do("read", deed)

    async def list(self, prefix: str) -> list[StoredObject]:
        return await self._do(
            "list",
            lambda: [
                StoredObject(key, len(data), self._tag(data), self.modified_at)
                for key, data in self.objects.items()
                if key.startswith(prefix)
            ],
        )

    async def folders(self, prefix: str) -> builtins.list[str]:
        def deed() -> builtins.list[str]:
            rest = {key.removeprefix(prefix) for key in self.objects if key.startswith(prefix)}
            return sorted({name.partition("/")[0] for name in rest if "/" in name})

        return await self._do("folders", deed)

    async def delete(self, keys: Collection[str]) -> None:
        def deed() -> None:
            for key in keys:
                self.objects.pop(key, None)

        await self._do("delete", deed)

    def signed_url(self, key: str, *, expires_s: int, content_type: str, filename: str | None = None) -> str:
        return f"https://bucket.example.org/{key}?expires={expires_s}"

    def _upload(self, key: str, upload_id: str) -> _Upload:
        upload = self.uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise UploadGoneError("NoSuchUpload")
        return upload

    def _tag(self, data: bytes) -> str:
        return f"opaque-{len(data)}-{md5_of(data + b'salt')}" if self.opaque_tags else md5_of(data)

    async def _do(self, name: str, deed: Callable[[], T]) -> T:
        self.calls.append(name)
        await trio.sleep(self.calls_take_s)
        if self.away:
            raise StoreAwayError("the bucket cannot be reached")
        if self.refuses:
            raise StoreRefusedError("the bucket refuses us", "SignatureDoesNotMatch")
        planned = self.failures.get(name)
        error, late = planned.pop(0) if planned else (None, False)
        if error is not None and not late:
            raise error
        value = deed()
        await trio.sleep(self.calls_take_s)
        if error is not None:
            raise error
        return value
