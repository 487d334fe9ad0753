"""What goes up of a file that is still growing, and what is up there already. Pure: no file, no network, no clock."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from lac.storage.objects import MIN_PART_BYTES, StoredPart

#: So many parts of the smallest size; later ones are larger, so that S3's 10,000 parts hold 330 GB and not 50.
SMALL_PARTS = 1000
LARGER = 7


#: The MD5, in hex, of `size` bytes of a file from `start` on; None where the file is shorter.
Digest = Callable[[int, int], str | None]


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes `start` to `start + size` of the file."""

    number: int
    start: int
    size: int


class SentPart(msgspec.Struct, frozen=True):
    """`md5` (hex) is of the bytes that we sent; `etag` is the store's word for them, often the same."""

    number: int
    size: int
    md5: str
    etag: str


class Journal(msgspec.Struct, frozen=True, rename="camel"):
    """Lies beside the file while its upload is open, so that whoever finds the file after a crash can go on."""

    key: str
    upload_id: str
    parts: tuple[SentPart, ...] = ()


def parse_journal_untrusted(data: bytes) -> Journal | None:
    """None for what a crash, or somebody's editor, has left unreadable."""
    try:
        journal = msgspec.json.decode(data, type=Journal)
    except msgspec.MsgspecError:
        return None
    numbers = [part.number for part in journal.parts]
    return journal if numbers == list(range(1, len(numbers) + 1)) else None


@dataclass(slots=True)
class PartPlan:
    """Which part to send next. Parts that are up are in `sent`, in order and without a gap. `smallest` is what the
    store takes as a part that is not the last."""

    sent: list[SentPart] = field(default_factory=list)
    smallest: int = MIN_PART_BYTES

    def part_size(self, number: int) -> int:
        """Of every part but the last, which may be smaller. Numbers begin at 1."""
        return self.smallest if number <= SMALL_PARTS else self.smallest * LARGER

    @property
    def sent_bytes(self) -> int:
        return sum(part.size for part in self.sent)

    def next_part(self, size: int, *, closed: bool) -> Part | None:
        """Of a file that has `size` bytes now and, once it is `closed`, for good. None: nothing to send (yet)."""
        if self.sent and self.sent[-1].size < self.part_size(len(self.sent)) and size > self.sent_bytes:
            self.sent.pop()  # it was the end, and is not any more
        number, start = len(self.sent) + 1, self.sent_bytes
        whole = self.part_size(number)
        if size - start >= whole:
            return Part(number, start, whole)
        if closed and size > start:
            return Part(number, start, size - start)
        return None

    def take(self, part: Part, md5: str, etag: str) -> None:
        """`part`, the one that was asked for last, is up."""
        self.sent.append(SentPart(part.number, part.size, md5, etag))

    def keep_matching(
        self, digest: Callable[[int, int], str | None], stored: Iterable[StoredPart] | None = None
    ) -> int:
        """Forget everything from the first part on that is not what the file says now, or that the store (`stored`)
        has not got. Returns how many parts were forgotten."""
        there = None if stored is None else {part.number: part for part in stored}
        start = 0
        for index, part in enumerate(self.sent):
            up = None if there is None else there.get(part.number)
            lost = there is not None and (up is None or (up.size, up.etag) != (part.size, part.etag))
            if lost or digest(start, part.size) != part.md5:
                forgotten = len(self.sent) - index
                del self.sent[index:]
                return forgotten
            start += part.size
        return 0

    def stored_parts(self) -> list[StoredPart]:
        """As the store wants to hear them."""
        return [StoredPart(part.number, part.size, part.etag) for part in self.sent]


def etags_of(parts: Sequence[str], whole: str) -> frozenset[str]:
    """The entity tags that a store may give an object put together from parts with these MD5s (hex), `whole` being that
    of all: Amazon hashes the hashes, others the content. One that encrypts with its own keys gives neither."""
    joined = hashlib.md5(b"".join(bytes.fromhex(part) for part in parts), usedforsecurity=False).hexdigest()
    return frozenset({f"{joined}-{len(parts)}", whole})
