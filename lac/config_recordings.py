"""Settings of what becomes of recordings: how long they are kept, where they wait, what is made from them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class RecordingSettings:
    #: None: for good.
    retention: timedelta | None = None
    #: Bytes that may wait on our disk for the bucket.
    spool_bytes: int = 20_480 * MIB
    #: Bytes of copies in other formats that are kept for whoever asks again.
    export_cache_bytes: int = 10_240 * MIB
    #: Copies that are made at a time.
    export_jobs: int = 1
    #: Make a copy of every recording of a public show, for its host's feed.
    podcasts: bool = True
    #: What all of them are, for directories: a language tag, a category and one below it, "contains strong language".
    podcast_language: str = "en"
    podcast_category: tuple[str, ...] = ("Society & Culture",)
    podcast_explicit: bool = False
    #: The picture's address. None: ours.
    podcast_image_url: str | None = None
