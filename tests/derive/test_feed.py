"""The feed, read back by two parsers that are not ours."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree as ET

import feedparser
from hypothesis import given, settings
from hypothesis import strategies as st

from lac.recordings.feed import (
    ATOM,
    ITUNES,
    PODCAST,
    Episode,
    LiveItem,
    Podcast,
    entity_tag,
    podcast_guid,
    render_chapters,
    render_feed,
)

AT = datetime(2030, 1, 31, 20, 30, tzinfo=UTC)
FEED = "https://audio.example.org/podcasts/ada/feed.xml"
EPISODE = Episode(
    id="r1",
    title="Late Harbour & <friends>",
    description='Vinyl, no playlist,\n"one" candle.',
    published_at=AT,
    duration_s=3725.4,
    page_url="https://audio.example.org/r/r1",
    audio_url="https://audio.example.org/podcasts/ada/r1.m4a",
    audio_type="audio/mp4",
    audio_bytes=59_606_400,
    chapters_url="https://audio.example.org/podcasts/ada/r1/chapters.json",
    keywords=("jazz", "vinyl"),
)
LIVE = LiveItem(
    id="b2",
    title="Tonight",
    description="",
    is_live=True,
    start=AT,
    page_url="https://audio.example.org/b/b2",
    stream_url="https://audio.example.org/listen/b2.mp3",
    stream_type="audio/mpeg",
)
SHOW = Podcast(
    feed_url=FEED,
    page_url="https://audio.example.org/u/ada",
    title="Ada",
    description="Shows by Ada",
    author="Ada",
    image_url="https://audio.example.org/podcasts/cover-1.png",
    language="en",
    category=("Music", "Music History"),
    explicit=False,
    updated_at=AT,
    episodes=[EPISODE],
    live=[LIVE, replace(LIVE, id="b3", title="Tomorrow", is_live=False)],
)


def parse(document: bytes) -> Any:
    parsed = feedparser.parse(document)
    assert not parsed.bozo, parsed.get("bozo_exception")
    return parsed


def test_a_podcast_player_finds_everything() -> None:
    parsed = parse(render_feed(SHOW))
    assert parsed.version == "rss20"
    assert set(parsed.namespaces.values()) >= {ITUNES, PODCAST, ATOM}
    assert parsed.feed.title == "Ada"
    assert parsed.feed.author == "Ada"
    assert [link.href for link in parsed.feed.links if link.rel == "self"] == [FEED]
    assert parsed.feed.podcast_guid == podcast_guid(FEED)
    (entry,) = [entry for entry in parsed.entries if entry.id == "r1"]
    assert entry.title == EPISODE.title
    assert entry.summary == EPISODE.description
    assert not entry.guidislink
    assert entry.published_parsed[:5] == (2030, 1, 31, 20, 30)
    (enclosure,) = entry.enclosures
    assert (enclosure.href, enclosure.type, enclosure.length) == (EPISODE.audio_url, "audio/mp4", "59606400")
    assert entry.itunes_duration == "3725"
    assert {tag.term for tag in entry.tags} == {"jazz", "vinyl"}
    assert entry.podcast_chapters["url"] == EPISODE.chapters_url
    assert entry.podcast_chapters["type"] == "application/json+chapters"


def test_what_directories_ask_for() -> None:
    """Apple's requirements (podcasters.apple.com/support/823): what a channel and an episode must have."""
    parsed = parse(render_feed(SHOW))
    assert parsed.feed.image.href == SHOW.image_url
    assert parsed.feed.language == "en"
    channel = ET.fromstring(render_feed(SHOW)).find("channel")  # noqa: S314  our own document
    assert channel is not None
    for tag in ("title", "description", "language", "link", f"{{{ITUNES}}}author", f"{{{ITUNES}}}explicit"):
        assert channel.findtext(tag), tag
    image = channel.find(f"{{{ITUNES}}}image")
    assert image is not None
    assert image.attrib == {"href": SHOW.image_url}
    assert channel.findtext("image/url") == SHOW.image_url
    assert channel.findtext(f"{{{ITUNES}}}explicit") == "false"
    (category,) = channel.findall(f"{{{ITUNES}}}category")
    assert [category.attrib["text"], *(below.attrib["text"] for below in category)] == ["Music", "Music History"]
    (item,) = channel.findall("item")
    for tag in ("title", "guid", "pubDate", f"{{{ITUNES}}}duration", f"{{{ITUNES}}}explicit"):
        assert item.findtext(tag), tag
    strong = ET.fromstring(render_feed(replace(SHOW, explicit=True, category=("News",))))  # noqa: S314  our own document
    assert {one.text for one in strong.iter(f"{{{ITUNES}}}explicit")} == {"true"}
    assert [one.attrib["text"] for one in strong.iter(f"{{{ITUNES}}}category")] == ["News"]


def test_what_is_on_air_and_what_is_planned() -> None:
    root = ET.fromstring(render_feed(SHOW))  # noqa: S314  our own document
    live, pending = root.findall(f"channel/{{{PODCAST}}}liveItem")
    assert (live.attrib["status"], pending.attrib["status"]) == ("live", "pending")
    assert datetime.fromisoformat(live.attrib["start"]) == AT
    enclosure = live.find("enclosure")
    assert enclosure is not None
    assert enclosure.attrib["url"].endswith("/listen/b2.mp3")
    link = live.find(f"{{{PODCAST}}}contentLink")
    assert link is not None
    assert link.attrib["href"] == LIVE.page_url
    assert live.findtext("guid") == "b2"


def test_the_guid_of_the_specification() -> None:
    """Its own examples: the scheme and the slash at the end do not count."""
    assert podcast_guid("https://mp3s.nashownotes.com/pc20rss.xml") == "917393e3-1b1e-5cef-ace4-edaa54e1f810"
    assert podcast_guid("https://podnews.net/rss/") == podcast_guid("http://podnews.net/rss")
    assert podcast_guid("podnews.net/rss") == "9b024349-ccf0-5f69-a609-6b82873eab3c"


def test_the_same_content_is_the_same_bytes() -> None:
    assert render_feed(SHOW) == render_feed(replace(SHOW))
    assert entity_tag(render_feed(SHOW)) != entity_tag(render_feed(replace(SHOW, title="Bo")))


@settings(deadline=None)
@given(st.text(), st.text())
def test_whatever_people_write_is_well_formed(title: str, description: str) -> None:
    episode = replace(EPISODE, title=title, description=description, keywords=(title,))
    root = ET.fromstring(render_feed(replace(SHOW, episodes=[episode], title=title)))  # noqa: S314  our own document
    assert len(root.findall("channel/item")) == 1


def test_chapters() -> None:
    assert render_chapters([(0.0, "Hello"), (20.0004, "Side B")]) == {
        "version": "1.2.0",
        "chapters": [{"startTime": 0.0, "title": "Hello"}, {"startTime": 20.0, "title": "Side B"}],
    }
