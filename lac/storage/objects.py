"""What a store of objects can do, whoever it is: `lac.storage.s3` is the real one, tests have another in memory."""

from __future__ import annotations

import builtins
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

#: S3's smallest part that is not the last one.
MIN_PART_BYTES = 5 << 20


@dataclass(frozen=True, slots=True)
class StoredObject:
    """`etag` without quotes. For most stores it is an MD5: see `lac.storage.parts.etags_of`."""

    key: str
    size: int
    etag: str
    #: As far as whoever was asked says it.
    modified_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """A multipart upload that is neither complete nor aborted: its parts take up room and cost money."""

    key: str
    upload_id: str
    begun_at: datetime


@dataclass(frozen=True, slots=True)
class StoredPart:
    number: int
    size: int
    etag: str


class ObjectStore(Protocol):
    """All calls raise `StoreError`, nothing else, and are bounded in time.

    A call that is cancelled may or may not have happened, except for `begin`, which is waited for: nobody else would
    know the upload's id.
    """

    async def check(self, prefix: str = ...) -> None:
        """Return if the bucket is there for us: listed, and below `prefix` written to and deleted from. Leaves nothing
        behind."""
        ...

    async def begin(self, key: str, content_type: str) -> str:
        """Begin a multipart upload. Returns its id; somebody has to complete or abort it."""
        ...

    async def put_part(self, key: str, upload_id: str, number: int, data: bytes, md5: str) -> str:
        """Store one part, which the store checks against `md5` (hex). Returns its entity tag."""
        ...

    async def complete(self, key: str, upload_id: str, parts: Sequence[StoredPart]) -> None: ...

    async def abort(self, key: str, upload_id: str) -> None:
        """Also for one that is gone."""
        ...

    async def open_uploads(self, prefix: str) -> list[OpenUpload]: ...

    async def parts(self, key: str, upload_id: str) -> list[StoredPart]: ...

    async def put(
        self, key: str, data: bytes, content_type: str, md5: str, *, cache_control: str | None = None
    ) -> None:
        """Store a small object whole. `cache_control`: what it says to whoever reads it over HTTP."""
        ...

    async def head(self, key: str) -> StoredObject | None: ...

    async def read(self, key: str, start: int, size: int) -> bytes:
        """At most `size` bytes from `start` on; fewer only at the object's end. Without the object:
        `StoreRefusedError`."""
        ...

    async def list(self, prefix: str) -> list[StoredObject]: ...

    async def folders(self, prefix: str) -> builtins.list[str]:
        """What stands between `prefix` and the next slash, in the keys that have one."""
        ...

    async def delete(self, keys: Collection[str]) -> None:
        """Also keys that there are not."""
        ...

    def signed_url(self, key: str, *, expires_s: int, content_type: str, filename: str | None = None) -> str:
        """Where anybody can read it until then; as a download with that name, or, without one, to play. Asks nobody."""
        ...
