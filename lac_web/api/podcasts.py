"""Podcasts: a host's feed, and what it points to, under addresses that stay. Only public shows are in it."""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from quart import Blueprint, Response, request
from quart_schema import tag_blueprint

from lac.recordings.derivative import DerivativeStatus, Kind
from lac.recordings.feed import entity_tag, render_chapters, render_feed
from lac.recordings.podcasts import COVER_PATH
from lac_web.api.endpoint import access, json_response
from lac_web.api.exports import AUDIO, copy_response, export_pending
from lac_web.security import Access
from lac_web.services import current_services

blueprint = Blueprint("podcasts", __name__)
tag_blueprint(blueprint, ["podcasts"])

FEED_TYPE = "application/rss+xml"
CHAPTERS_TYPE = "application/json+chapters"
#: A feed is asked for by many players again and again.
_CACHE = "public, max-age=300"
_FEEDS_REMEMBERED = 1000


class _Seen:
    """When each feed last turned out to be different, for Last-Modified: not all that changes has a time of its own."""

    def __init__(self) -> None:
        self._feeds: OrderedDict[str, tuple[str, datetime]] = OrderedDict()

    def changed_at(self, host_id: str, tag: str) -> datetime:
        known = self._feeds.get(host_id)
        if known is None or known[0] != tag:
            known = self._feeds[host_id] = (tag, datetime.now(UTC).replace(microsecond=0))
        self._feeds.move_to_end(host_id)
        if len(self._feeds) > _FEEDS_REMEMBERED:
            self._feeds.popitem(last=False)
        return known[1]


_seen = _Seen()


@blueprint.get(COVER_PATH)
@access(Access.ANYONE, status=200, returns_binary=("image/png",))
async def get_cover() -> Response:
    """The picture of all podcasts, unless the operator has chosen another one: a square of 1500 pixels a side."""
    response = Response(_cover(), content_type="image/png")
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    return response


@cache
def _cover() -> bytes:
    """Made by scripts/podcast_cover.py."""
    return (Path(__file__).parents[1] / "podcast_cover.png").read_bytes()


@blueprint.get("/podcasts/<user_id>/feed.xml")
@access(Access.ANYONE, status=200, returns_text=FEED_TYPE)
async def get_feed(user_id: str) -> Response:
    """A host's podcast (RSS 2.0, iTunes and Podcasting 2.0 tags), with what is on air or planned as `podcast:liveItem`.

    Answers If-None-Match and If-Modified-Since with 304.
    """
    document = render_feed(await current_services().afterwards.podcasts.podcast(user_id))
    tag = entity_tag(document)
    changed_at = _seen.changed_at(user_id, tag)
    if _is_known(tag, changed_at):
        response = Response(b"", status=304)
    else:
        response = Response(document, content_type=f"{FEED_TYPE}; charset=utf-8")
    response.set_etag(tag)
    response.last_modified = changed_at
    response.headers["Cache-Control"] = _CACHE
    return response


def _is_known(tag: str, changed_at: datetime) -> bool:
    """RFC 9110 section 13.2.2: the tag goes before the date."""
    if "If-None-Match" in request.headers:
        return request.if_none_match.contains_weak(tag)
    return request.if_modified_since is not None and request.if_modified_since >= changed_at


@blueprint.get("/podcasts/<user_id>/<recording_id>.m4a")
@access(Access.ANYONE, status=200, returns_file=AUDIO)
async def get_episode(user_id: str, recording_id: str) -> Response:
    """An episode's audio, with ranges, or a redirect to where it is for some hours. This address stays.

    503 `export_pending` while it is being prepared.
    """
    services = current_services()
    episode = await services.afterwards.podcasts.episode(user_id, recording_id)
    if episode.audio is None or episode.audio.status is not DerivativeStatus.READY:
        if episode.audio is None:
            await services.afterwards.derivatives.request(episode.recording, Kind.M4A)
        raise export_pending()
    return await copy_response(episode.audio, name=episode.recording.title)


@blueprint.get("/podcasts/<user_id>/<recording_id>/chapters.json")
@access(Access.ANYONE, status=200, returns_text=CHAPTERS_TYPE)
async def get_episode_chapters(user_id: str, recording_id: str) -> Response:
    """What the host marked in an episode, as JSON chapters."""
    chapters = await current_services().afterwards.podcasts.chapters(user_id, recording_id)
    response = json_response(render_chapters(chapters))
    response.content_type = CHAPTERS_TYPE
    response.headers["Cache-Control"] = _CACHE
    return response
