"""Where the files of recordings are: on our disk, below the data directory, or under the same name in the bucket."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from lac.errors import UnavailableError
from lac.recordings.layout import MANIFEST, PROGRAM, RECORDINGS, SPEAKERS, recording_dir, recordings_dir
from lac.recordings.manifest import Manifest, parse_manifest_untrusted
from lac.recordings.model import Recording
from lac.storage.disk import Disk
from lac.storage.errors import StoreError
from lac.storage.objects import ObjectStore
from lac.tasks import cleanup_scope

#: How much of an object is read at a time.
_READ_BYTES = 4 << 20
#: A download that began goes on; a player asks us again for each new one.
SIGNED_FOR_S = 6 * 3600
REMOVE_S = 2.0
#: Of a file that is being made.
PARTIAL = ".partial"


@dataclass(frozen=True, slots=True)
class Remote:
    """A file that is to be fetched from the bucket, by whoever wants it."""

    url: str


class SourceGoneError(Exception):
    """A recording's audio is neither here nor in the bucket."""


@dataclass(frozen=True, slots=True)
class Places:
    data_dir: Path
    disk: Disk
    #: None: everything is on the disk.
    bucket: ObjectStore | None = None

    def directory(self, recording_id: str) -> Path:
        return recording_dir(self.data_dir, recording_id)

    def path(self, recording_id: str, name: str) -> Path:
        return self.directory(recording_id) / name

    async def find(
        self, recording_id: str, name: str, *, in_bucket: bool, content_type: str, download_as: str | None = None
    ) -> Path | Remote | None:
        """The file here, or, if it is known to be `in_bucket`, its address there. None: it is gone."""
        path = self.path(recording_id, name)
        if await self.disk.run(path.is_file):
            return path
        if self.bucket is None or not in_bucket:
            return None
        key = key_of(recording_id, name)
        return Remote(
            self.bucket.signed_url(key, expires_s=SIGNED_FOR_S, content_type=content_type, filename=download_as)
        )

    async def read(self, recording_id: str, name: str, *, in_bucket: bool) -> bytes | None:
        """A small file, here or in the bucket. None: it is gone. Raises `UnavailableError`."""
        try:
            return await self.disk.run(self.path(recording_id, name).read_bytes)
        except FileNotFoundError:
            if self.bucket is None or not in_bucket:
                return None
        key = key_of(recording_id, name)
        try:
            found = await self.bucket.head(key)
            return None if found is None else await self.bucket.read(key, 0, found.size)
        except StoreError:
            raise UnavailableError(
                "The store of recordings cannot be reached just now.", code="storage_unavailable"
            ) from None

    async def manifest(self, recording_id: str) -> Manifest | None:
        """Of a recording, here or in the bucket. None: there is none. Raises `UnavailableError`."""
        data = await self.read(recording_id, MANIFEST, in_bucket=True)
        return None if data is None else parse_manifest_untrusted(data)

    @asynccontextmanager
    async def source(self, recording: Recording, *, borrower: str) -> AsyncGenerator[Path, None]:
        """The program as a file on our disk, for as long as the block lasts: itself, or fetched from the bucket.

        Raises `SourceGoneError`, `StoreError`, OSError. No two borrowers of one name at the same time.
        """
        path = self.path(recording.id, PROGRAM)
        if await self.disk.run(path.is_file):
            yield path
            return
        if self.bucket is None:
            raise SourceGoneError("its audio is not on the disk, and no bucket is configured")
        fetched = self.path(recording.id, f".{borrower}-source.ogg{PARTIAL}")
        try:
            await self._fetch(key_of(recording.id, PROGRAM), fetched)
            yield fetched
        finally:
            with cleanup_scope(REMOVE_S, "removing a fetched recording", recording_id=recording.id):
                await self.disk.run(_unlink, fetched)

    async def _fetch(self, key: str, path: Path) -> None:
        bucket = self.bucket
        found = None if bucket is None else await bucket.head(key)
        if bucket is None or found is None:
            raise SourceGoneError("its audio is not in the bucket")
        await self.disk.run(_make_empty, path)
        start = 0
        while start < found.size:
            data = await bucket.read(key, start, _READ_BYTES)
            if not data:
                raise SourceGoneError("its audio in the bucket is shorter than it was")
            await self.disk.run(_append, path, data)
            start += len(data)

    async def remove_from_bucket(self, recording_id: str) -> None:
        """Everything of a recording: open uploads and objects. Does nothing without a bucket. Raises `StoreError`."""
        if self.bucket is None:
            return
        prefix = key_of(recording_id, "")
        for upload in await self.bucket.open_uploads(prefix):
            await self.bucket.abort(upload.key, upload.upload_id)
        await self.bucket.delete([found.key for found in await self.bucket.list(prefix)])

    async def remove_file(self, recording_id: str, name: str, *, in_bucket: bool) -> bool:
        """One derived file, wherever it is. False: the bucket does not let us just now; the file here is gone."""
        await self.disk.run(_unlink, self.path(recording_id, name))
        if self.bucket is not None and in_bucket:
            try:
                await self.bucket.delete([key_of(recording_id, name)])
            except StoreError:
                return False
        return True


def key_of(recording_id: str, name: str) -> str:
    """In the bucket: as below the data directory."""
    return f"{RECORDINGS}/{recording_id}/{name}"


def recording_of(key: str) -> str | None:
    """Whose object or upload this is; None: not one of ours."""
    parts = key.split("/")
    return parts[1] if len(parts) >= 3 and parts[0] == RECORDINGS else None


# --- looking at the disk: all of it blocks ----------------------------------------------------------------------------


def audio_files(directory: Path) -> list[str]:
    """Of a recording, relative to its directory; they grow while it is made."""
    found = [PROGRAM] if (directory / PROGRAM).is_file() else []
    return found + sorted(f"{SPEAKERS}/{path.name}" for path in directory.glob(f"{SPEAKERS}/*.ogg"))


def small_files(directory: Path) -> list[str]:
    """What describes it, relative to its directory."""
    return sorted(path.name for path in directory.glob("*.json") if path.is_file())


def size_of(directory: Path) -> int:
    """Bytes of everything in it."""
    total = 0
    for path in directory.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def remove_audio(directory: Path) -> None:
    """What is in the bucket; what describes it stays, for whoever asks about it."""
    for name in audio_files(directory):
        (directory / name).unlink(missing_ok=True)


def remove_partial(data_dir: Path) -> int:
    """What was being made when the process ended. Returns how much there was."""
    count = 0
    for pattern in (f"*/.*{PARTIAL}", f"*/derived/*{PARTIAL}"):
        for path in recordings_dir(data_dir).glob(pattern):
            path.unlink(missing_ok=True)
            count += 1
    return count


def directories(data_dir: Path) -> Iterator[Path]:
    directory = recordings_dir(data_dir)
    return (path for path in directory.iterdir() if path.is_dir()) if directory.is_dir() else iter(())


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


def _make_empty(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)
