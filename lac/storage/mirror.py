"""One growing file and its copy in the bucket: parts go up while it is written, the end follows when it is closed.

The file on disk stays whole until the copy is proven, so nothing here can lose a recording: whatever goes wrong with
the store, the copy is tried again, from the parts that are up or from the beginning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog
import trio

from lac.storage.disk import Disk, write_whole
from lac.storage.errors import StoreAwayError, StoreError, UploadGoneError
from lac.storage.objects import MIN_PART_BYTES, ObjectStore
from lac.storage.parts import Digest, Journal, Part, PartPlan, etags_of, parse_journal_untrusted
from lac.tasks import cleanup_scope

T = TypeVar("T")
log = structlog.get_logger(__name__)

#: How often we look whether a file has grown.
POLL_S = 5.0
#: Between two attempts while the store is away, and while it refuses us: somebody has to mend something.
RETRY_FIRST_S = 1.0
RETRY_MAX_S = 60.0
#: How long a cancelled upload may take to be aborted.
ABORT_S = 2.5
#: How often the whole is sent again when what is up turns out to be something else.
ATTEMPTS = 3
#: Beside the file, while its upload is open.
JOURNAL_SUFFIX = ".upload"
_READ_BYTES = 1 << 20


class MirrorState(StrEnum):
    #: In step with the file: nothing to send just now.
    FOLLOWING = "following"
    SENDING = "sending"
    #: The store is away: the file waits on our disk.
    WAITING = "waiting"
    #: The store answers, but not to us: the same, until somebody mends the settings.
    REFUSED = "refused"
    #: The copy is there and was compared.
    DONE = "done"
    #: What is up is not what we sent, again and again. The file stays here.
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Copy:
    """What was put into the bucket and compared. `sha256` in hex."""

    key: str
    size: int
    sha256: str


class CopyDiffersError(Exception):
    """The bucket gives back something else than we sent, repeatedly."""


@dataclass(slots=True)
class Mirror:
    """One file's way into the bucket. `run` does it; the rest says how far it is."""

    store: ObjectStore
    disk: Disk
    path: Path
    key: str
    content_type: str
    smallest_part: int = MIN_PART_BYTES
    #: Set by whoever writes the file, when it will not change any more.
    closed: trio.Event = field(default_factory=trio.Event)
    state: MirrorState = MirrorState.FOLLOWING
    #: For people, while `state` is WAITING, REFUSED or FAILED.
    trouble: str | None = None
    #: Bytes that the file had when we last looked, and those of them that are in the bucket.
    size: int = 0
    sent: int = 0

    _plan: PartPlan = field(init=False)
    #: Whether what is in the journal, if anything, is ours.
    _journal: bool = False
    _upload_id: str | None = None
    #: A `begin` whose answer was lost: there may be an upload that nobody knows of.
    _strays: bool = False
    _retry_s: float = RETRY_FIRST_S

    def __post_init__(self) -> None:
        self._plan = PartPlan(smallest=self.smallest_part)

    async def run(self) -> Copy:
        """Until the file is closed and its copy proven. Raises `CopyDiffersError`, and OSError from the disk; never
        stops for the store's sake. Whichever way it ends early, the upload is aborted, or, where the store does not
        answer to that either, is in the journal for whoever comes after the next start."""
        try:
            await self._resume()
            for _ in range(ATTEMPTS):
                copy = await self._attempt()
                if copy is not None:
                    self.state = MirrorState.DONE
                    return copy
                log.error("a copy in the store differs from its file", key=self.key)
            self.state, self.trouble = MirrorState.FAILED, f"what is stored as {self.key} differs from what was sent"
            raise CopyDiffersError(self.trouble)
        finally:
            with cleanup_scope(ABORT_S, "aborting an upload", key=self.key):
                await self._abort()

    # --- steps --------------------------------------------------------------------------------------------------------

    async def _resume(self) -> None:
        """Go on with the upload that an earlier process left behind, as far as it can be believed."""
        journal = await self.disk.run(read_journal, self.path)
        if journal is None or journal.key != self.key:
            return
        self._journal = True
        self._upload_id, self._plan = journal.upload_id, PartPlan(list(journal.parts), self.smallest_part)
        try:
            stored = await self._persist(lambda: self.store.parts(self.key, journal.upload_id))
        except UploadGoneError:
            await self._begin_anew()
            return
        await self.disk.run(self._plan.keep_matching, _digest_in(self.path), stored)

    async def _attempt(self) -> Copy | None:
        """Send what is missing, put it together, compare. None: what is up is not what was sent."""
        while True:
            await self._send_growth()
            digests = await self.disk.run(_digest, self.path, [part.size for part in self._plan.sent])
            if await self._put_together(digests):
                break
        if not await self._persist(lambda: self._is_stored(digests)):
            return None
        self.sent = self.size = digests.size
        return Copy(self.key, digests.size, digests.sha256)

    async def _send_growth(self) -> None:
        """Parts, as the file grows, until it is closed and all of it is up; but a small one is left for later."""
        while True:
            closed = self.closed.is_set()
            self.size = await self.disk.run(_size_of, self.path)
            part = self._plan.next_part(self.size, closed=closed)
            if part is not None and not (self._upload_id is None and part.size < self.smallest_part):
                await self._send(part)
            elif closed:
                return
            else:
                self.state = MirrorState.FOLLOWING
                with trio.move_on_after(POLL_S):
                    await self.closed.wait()

    async def _send(self, part: Part) -> None:
        data, md5 = await self.disk.run(_read_part, self.path, part)
        if len(data) < part.size:
            return  # cut off since we looked
        self.state = MirrorState.SENDING
        try:
            etag = await self._persist(lambda: self._put_part(part, data, md5))
        except UploadGoneError:
            log.warning("an upload cannot go on in the store: it begins anew", key=self.key)
            await self._begin_anew()
            await trio.sleep(RETRY_FIRST_S)  # a store that says so every time is not asked all the time
            return
        self._plan.take(part, md5, etag)
        self.sent = self._plan.sent_bytes
        if self._upload_id is not None:
            await self._write_journal(self._upload_id)

    async def _put_part(self, part: Part, data: bytes, md5: str) -> str:
        if self._upload_id is None:
            try:
                self._upload_id = await self.store.begin(self.key, self.content_type)
            except StoreAwayError:
                self._strays = True
                raise
            await self._write_journal(self._upload_id)
        return await self.store.put_part(self.key, self._upload_id, part.number, data, md5)

    async def _put_together(self, digests: _Digests) -> bool:
        """False: the file has changed under the parts that are up, or the upload is gone: go on sending."""
        if not self._plan.sent:
            await self._persist(self._abort)  # its file was cut off before the first part's end
            if digests.size >= self.smallest_part:
                return False
            data = await self.disk.run(self.path.read_bytes)
            await self._persist(lambda: self.store.put(self.key, data, self.content_type, digests.whole_md5))
        else:
            if self._plan.keep_matching(digests.of_stretch) or self._plan.sent_bytes != digests.size:
                return False  # its writer was killed, and what it left has been mended since
            upload_id, parts = self._upload_id or "", self._plan.stored_parts()
            try:
                await self._persist(lambda: self.store.complete(self.key, upload_id, parts))
            except UploadGoneError:
                # Perhaps it was put together, and the answer did not reach us.
                stored = await self._persist(lambda: self._is_stored(digests))
                await self._begin_anew()
                return stored
        await self._forget()
        return True

    async def _is_stored(self, digests: _Digests) -> bool:
        found = await self.store.head(self.key)
        if found is None or found.size != digests.size:
            return False
        if found.etag in etags_of(digests.parts, digests.whole_md5):
            return True
        # The store's tags are no hashes of the content: read it back.
        sha256, start = hashlib.sha256(), 0
        while start < found.size:
            data = await self.store.read(self.key, start, _READ_BYTES)
            if not data:
                return False
            sha256.update(data)
            start += len(data)
        return sha256.hexdigest() == digests.sha256

    # --- keeping order ------------------------------------------------------------------------------------------------

    async def _abort(self) -> None:
        if self._upload_id is not None:
            await self.store.abort(self.key, self._upload_id)
        if self._upload_id is not None or self._journal:
            await self._forget()
        if self._strays:
            await abort_uploads(self.store, self.key)
            self._strays = False

    async def _begin_anew(self) -> None:
        """After the store has disowned the upload, or one part of it, which may leave the rest lying there."""
        await self._persist(self._abort)

    async def _forget(self) -> None:
        """Nothing of an upload is open: complete, aborted or gone."""
        self._upload_id, self._plan, self.sent = None, PartPlan(smallest=self.smallest_part), 0
        await self.disk.run(remove_journal, self.path)
        self._journal = False

    async def _write_journal(self, upload_id: str) -> None:
        journal = Journal(self.key, upload_id, tuple(self._plan.sent))
        self._journal = True
        await self.disk.run(write_whole, journal_path(self.path), msgspec.json.encode(journal))

    async def _persist(self, step: Callable[[], Awaitable[T]]) -> T:
        """`step`, again and again while the store is away or refuses us. Raises `UploadGoneError`."""
        state = self.state
        while True:
            try:
                value = await step()
            except UploadGoneError:
                raise
            except StoreError as error:
                away = isinstance(error, StoreAwayError)
                trouble = MirrorState.WAITING if away else MirrorState.REFUSED
                if self.state is not trouble:
                    log.warning("a recording waits for the store", key=self.key, state=trouble, reason=str(error))
                self.state, self.trouble = trouble, str(error)
                await trio.sleep(self._retry_s if away else RETRY_MAX_S)
                self._retry_s = min(2 * self._retry_s, RETRY_MAX_S)
            else:
                self._retry_s, self.trouble, self.state = RETRY_FIRST_S, None, state
                return value


async def abort_uploads(store: ObjectStore, key: str, *, except_id: str | None = None) -> int:
    """Abort every open upload of `key` but that one. Returns how many there were."""
    strays = [upload for upload in await store.open_uploads(key) if upload.key == key and upload.upload_id != except_id]
    for upload in strays:
        await store.abort(upload.key, upload.upload_id)
    return len(strays)


# --- the journal, and reading the file: all of it blocks --------------------------------------------------------------


def journal_path(path: Path) -> Path:
    return path.with_name(path.name + JOURNAL_SUFFIX)


def read_journal(path: Path) -> Journal | None:
    """Of the file `path`. None: there is none that can be read."""
    try:
        return parse_journal_untrusted(journal_path(path).read_bytes())
    except FileNotFoundError:
        return None


def remove_journal(path: Path) -> None:
    journal_path(path).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Digests:
    """Of a whole file, hex. `parts` are those of the parts that were asked for, as far as the file reaches."""

    size: int
    sha256: str
    whole_md5: str
    parts: tuple[str, ...]
    starts: tuple[int, ...]

    def of_stretch(self, start: int, size: int) -> str | None:
        """One of the parts, as `PartPlan.keep_matching` asks for it."""
        found = dict(zip(self.starts, self.parts, strict=True)).get(start)
        return found if start + size <= self.size else None


def _size_of(path: Path) -> int:
    return path.stat().st_size


def _read_part(path: Path, part: Part) -> tuple[bytes, str]:
    with path.open("rb") as file:
        file.seek(part.start)
        data = file.read(part.size)
    return data, hashlib.md5(data, usedforsecurity=False).hexdigest()


def _digest_in(path: Path) -> Digest:
    def digest(start: int, size: int) -> str | None:
        data, md5 = _read_part(path, Part(0, start, size))
        return md5 if len(data) == size else None

    return digest


def _digest(path: Path, sizes: Sequence[int]) -> _Digests:
    """Read the file once; `sizes` are those of its parts, from its beginning."""
    sha256, whole = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    parts: list[str] = []
    starts: list[int] = []
    read = 0
    with path.open("rb") as file:
        for size in (*sizes, None):
            part, left = hashlib.md5(usedforsecurity=False), size
            start = read
            while data := file.read(_READ_BYTES if left is None else min(left, _READ_BYTES)):
                for digest in (sha256, whole, part):
                    digest.update(data)
                read += len(data)
                left = None if left is None else left - len(data)
            if size is not None:
                parts.append(part.hexdigest())
                starts.append(start)
    return _Digests(read, sha256.hexdigest(), whole.hexdigest(), tuple(parts), tuple(starts))
