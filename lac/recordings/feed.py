"""A host's podcast: RSS 2.0 with the tags of Apple's directory and of the Podcasting 2.0 namespace. Pure: text out.

Times in it are those of what it describes, never of now, so that the same content is the same bytes.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from xml.etree import ElementTree as ET

ITUNES = "http://www.itunes.com/dtds/podcast-1.0.dtd"
PODCAST = "https://podcastindex.org/namespace/1.0"
ATOM = "http://www.w3.org/2005/Atom"
#: https://podcasting2.org/podcast-namespace/tags/guid: the namespace of podcast:guid.
_GUID_NAMESPACE = uuid.UUID("ead4c236-bf58-58c6-a2c6-a6b28d128cb6")
#: Characters that XML 1.0 has no way to write.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

for _prefix, _namespace in (("itunes", ITUNES), ("podcast", PODCAST), ("atom", ATOM)):
    ET.register_namespace(_prefix, _namespace)


@dataclass(frozen=True, slots=True)
class Episode:
    """A recording whose copy can be fetched. `chapters_url` None: it has none."""

    id: str
    title: str
    description: str
    published_at: datetime
    duration_s: float
    page_url: str
    audio_url: str
    audio_type: str
    audio_bytes: int
    chapters_url: str | None = None
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LiveItem:
    """A show that is on air, or planned. `end` is a guess where nobody knows."""

    id: str
    title: str
    description: str
    is_live: bool
    start: datetime
    page_url: str
    stream_url: str
    stream_type: str


@dataclass(frozen=True, slots=True)
class Podcast:
    """`feed_url` is where it is, and for ever what it is known by. `updated_at`: the latest change of what is in it."""

    feed_url: str
    page_url: str
    title: str
    description: str
    author: str
    #: A square PNG or JPEG of 1400 to 3000 pixels a side, as Apple's directory wants it.
    image_url: str
    language: str
    #: One of Apple's categories, and maybe one below it.
    category: tuple[str, ...]
    explicit: bool
    updated_at: datetime
    episodes: Sequence[Episode]
    live: Sequence[LiveItem] = ()


def podcast_guid(feed_url: str) -> str:
    """UUIDv5 of the feed's address without its scheme and without slashes at its end."""
    return str(uuid.uuid5(_GUID_NAMESPACE, re.sub(r"^[a-z]+://", "", feed_url).rstrip("/")))


def render_feed(podcast: Podcast) -> bytes:
    """The document, UTF-8."""
    rss = ET.Element("rss", {"version": "2.0"})
    channel = ET.SubElement(rss, "channel")
    _text(channel, "title", podcast.title)
    _text(channel, "link", podcast.page_url)
    _text(channel, "description", podcast.description or podcast.title)
    _text(channel, "generator", "LiveAudioCast")
    _text(channel, "lastBuildDate", format_datetime(podcast.updated_at, usegmt=True))
    ET.SubElement(channel, f"{{{ATOM}}}link", {"href": podcast.feed_url, "rel": "self", "type": "application/rss+xml"})
    _text(channel, "language", podcast.language)
    image = ET.SubElement(channel, "image")
    for tag, text in (("url", podcast.image_url), ("title", podcast.title), ("link", podcast.page_url)):
        _text(image, tag, text)
    ET.SubElement(channel, f"{{{ITUNES}}}image", {"href": podcast.image_url})
    category = channel
    for name in podcast.category:
        category = ET.SubElement(category, f"{{{ITUNES}}}category", {"text": name})
    _text(channel, f"{{{ITUNES}}}author", podcast.author)
    _text(channel, f"{{{ITUNES}}}explicit", _boolean(podcast.explicit))
    _text(channel, f"{{{ITUNES}}}type", "episodic")
    _text(channel, f"{{{PODCAST}}}guid", podcast_guid(podcast.feed_url))
    _text(channel, f"{{{PODCAST}}}medium", "podcast")
    for item in podcast.live:
        _live_item(channel, item)
    for episode in podcast.episodes:
        _episode(channel, episode, podcast)
    ET.indent(rss)
    document: bytes = ET.tostring(rss, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def entity_tag(document: bytes) -> str:
    return hashlib.sha256(document).hexdigest()[:32]


def render_chapters(chapters: Sequence[tuple[float, str]]) -> dict[str, object]:
    """JSON chapters, version 1.2.0 (https://podcasting2.org/podcast-namespace/tags/chapters)."""
    return {
        "version": "1.2.0",
        "chapters": [{"startTime": round(start_s, 3), "title": title} for start_s, title in chapters],
    }


def _episode(channel: ET.Element, episode: Episode, podcast: Podcast) -> None:
    item = ET.SubElement(channel, "item")
    _text(item, "title", episode.title)
    _text(item, "link", episode.page_url)
    _text(item, "description", episode.description or episode.title)
    _text(item, "guid", episode.id, isPermaLink="false")
    _text(item, "pubDate", format_datetime(episode.published_at, usegmt=True))
    ET.SubElement(
        item,
        "enclosure",
        {"url": episode.audio_url, "length": str(episode.audio_bytes), "type": episode.audio_type},
    )
    _text(item, f"{{{ITUNES}}}duration", str(round(episode.duration_s)))
    _text(item, f"{{{ITUNES}}}author", podcast.author)
    _text(item, f"{{{ITUNES}}}explicit", _boolean(podcast.explicit))
    _text(item, f"{{{ITUNES}}}episodeType", "full")
    for keyword in episode.keywords:
        _text(item, "category", keyword)
    if episode.chapters_url is not None:
        ET.SubElement(
            item,
            f"{{{PODCAST}}}chapters",
            {"url": episode.chapters_url, "type": "application/json+chapters"},
        )


def _live_item(channel: ET.Element, live: LiveItem) -> None:
    """https://podcasting2.org/podcast-namespace/tags/liveItem; nobody knows when a show ends, so that nobody says."""
    item = ET.SubElement(
        channel,
        f"{{{PODCAST}}}liveItem",
        {"status": "live" if live.is_live else "pending", "start": live.start.isoformat()},
    )
    _text(item, "title", live.title)
    _text(item, "description", live.description or live.title)
    _text(item, "link", live.page_url)
    _text(item, "guid", live.id, isPermaLink="false")
    ET.SubElement(item, "enclosure", {"url": live.stream_url, "length": "0", "type": live.stream_type})
    _text(item, f"{{{PODCAST}}}contentLink", "Listen in the browser", href=live.page_url)


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = _NOT_XML.sub("\ufffd", text)
