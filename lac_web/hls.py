"""Low-latency HLS over HTTP: playlists, parts and segments (docs/protocol/hls.md).

What caches may do: a part or segment never changes under its name and is the same for everybody, so a CDN may keep it;
playlists are each listener's own, because they are how listeners are counted and how moderators' decisions take effect.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import trio
from quart import Blueprint, Response, request
from quart_schema import tag_blueprint
from werkzeug.exceptions import BadRequest, HTTPException, NotFound

from lac.broadcasts.hls import PUBLIC, HlsDesk
from lac.errors import LacError
from lac.identity import Identity
from lac.rooms.values import HlsAddress
from lac_media.errors import HlsBusyError, HlsTimeoutError, MediaError
from lac_media.hls.plan import Position, multivariant_playlist
from lac_media.hls.renditions import RENDITIONS, SKIP_UNTIL_S
from lac_web import direct
from lac_web.api.endpoint import access, endpoint
from lac_web.security import Access, identify, request_address
from lac_web.services import Services, current_services

blueprint = Blueprint("hls", __name__)
tag_blueprint(blueprint, ["hls"])

PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
MEDIA_TYPE = "audio/mp4"
INDEX = "index.m3u8"
_RENDITIONS = {rendition.name: rendition for rendition in RENDITIONS}
_PLAYLISTS = {f"{rendition.name}.m3u8": rendition for rendition in RENDITIONS}
_NUMBER = re.compile(r"[0-9]{1,15}", re.ASCII)

#: Under its name a file stays what it is.
_PUBLIC_FILE = "public, max-age=3600, immutable"
_PRIVATE_FILE = "private, max-age=3600, immutable"
#: rfc8216bis appendix B.1: what was waited for is the same whenever it is asked for; what was not is old after a while.
_WAITED_FOR = f"private, max-age={SKIP_UNTIL_S}"
_NOT_WAITED_FOR = "private, max-age=1"
_FINISHED = "private, max-age=60"
#: Nothing here is a page, and parts are small: the whole policy would be as long as a part.
_NO_PAGE = "default-src 'none'"
_ANYWHERE = {
    "access-control-allow-origin": "*",
    "content-security-policy": _NO_PAGE,
    "x-content-type-options": "nosniff",
}
_PLAYLIST_ROUTE = "/hls/<broadcast_id>/<listen_pass>/<playlist>"
_FILE_ROUTE = "/hls/<broadcast_id>/<listen_pass>/<rendition>/<file>"


@blueprint.post("/api/broadcasts/<broadcast_id>/hls")
@endpoint(Access.OPTIONAL, returns=HlsAddress, status=201)
async def hls_address(identity: Identity | None, broadcast_id: str) -> HlsAddress:
    """Where to listen by HLS: an address of the caller's own.

    For players that cannot send a token. It has to come into use before it expires, and then stays good while it is
    used. While the show is on air, and for a while after it.
    """
    return await current_services().on_air.hls.address(identity, broadcast_id, address=request_address())


@blueprint.get("/hls/<broadcast_id>/index.m3u8")
@access(Access.OPTIONAL, status=200, returns_text=PLAYLIST_TYPE)
async def hls_index(broadcast_id: str) -> Response:
    """Listen by low-latency HLS: the multivariant playlist.

    The addresses in it are the caller's own. A private show needs a token here, or `POST /api/broadcasts/:id/hls`.
    """
    identity = await identify(Access.OPTIONAL)
    token = await current_services().on_air.hls.issue_pass(identity, broadcast_id, address=request_address())
    return _conditional(Found(multivariant_playlist(f"{token}/"), PLAYLIST_TYPE, "no-store"))


@blueprint.get(_PLAYLIST_ROUTE)
@access(Access.ANYONE, status=200, returns_text=PLAYLIST_TYPE)
async def hls_playlist(broadcast_id: str, listen_pass: str, playlist: str) -> Response:
    """A playlist. `_HLS_msn` and `_HLS_part` wait for a segment or part, `_HLS_skip=YES` asks for a delta."""
    desk = current_services().on_air.hls
    return _conditional(await find_playlist(desk, broadcast_id, listen_pass, playlist, request.args))


@blueprint.get(_FILE_ROUTE)
@access(Access.ANYONE, status=200)
async def hls_file(broadcast_id: str, listen_pass: str, rendition: str, file: str) -> Response:
    """A header, part or segment, by its name in the playlist. The part that comes next is waited for.

    `media` stands in the place of a pass for what anybody may have.
    """
    return _conditional(await find_file(current_services().on_air.hls, broadcast_id, listen_pass, rendition, file))


# --- what there is, however it is asked for ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """A representation and what caches may do with it. Without a tag it is no cache's business."""

    content: bytes
    content_type: str
    cache_control: str
    entity_tag: str | None = None


async def find_playlist(
    desk: HlsDesk, broadcast_id: str, listen_pass: str, playlist: str, query: Mapping[str, str]
) -> Found:
    """Raises `LacError`, `MediaError`, `BadRequest`, `NotFound`."""
    rendition = _PLAYLISTS.get(playlist)
    if rendition is None and playlist != INDEX:
        raise NotFound
    after = _position(query)
    served, private = await desk.admit(broadcast_id, listen_pass)
    if rendition is None:
        served.stream.need()
        return Found(multivariant_playlist(), PLAYLIST_TYPE, "no-store")
    skip = query.get("_HLS_skip") in ("YES", "v2")
    found = await served.stream.playlist(rendition, "" if private else f"../{PUBLIC}/", after=after, skip=skip)
    cache = _FINISHED if served.stream.plan.ended else _WAITED_FOR if after is not None else _NOT_WAITED_FOR
    return Found(found.content, PLAYLIST_TYPE, cache, f"{found.entity_tag}{'-private' if private else ''}")


async def find_file(desk: HlsDesk, broadcast_id: str, listen_pass: str, rendition: str, file: str) -> Found:
    """Raises as `find_playlist`."""
    known = _RENDITIONS.get(rendition)
    if known is None:
        raise NotFound
    served = await desk.admit_file(broadcast_id, listen_pass)
    data = await served.stream.file(known, file)
    if data is None:
        raise NotFound
    cache = _PUBLIC_FILE if listen_pass == PUBLIC else _PRIVATE_FILE
    return Found(data, MEDIA_TYPE, cache, f"{rendition}-{file}")


def _position(query: Mapping[str, str]) -> Position | None:
    """`_HLS_msn` and `_HLS_part` (rfc8216bis section 6.2.5.2). Raises BadRequest."""
    msn, part = query.get("_HLS_msn"), query.get("_HLS_part")
    if msn is None:
        if part is not None:
            raise BadRequest("_HLS_part needs _HLS_msn.")
        return None
    if not _NUMBER.fullmatch(msn) or (part is not None and not _NUMBER.fullmatch(part)):
        raise BadRequest("_HLS_msn and _HLS_part are whole numbers.")
    return int(msn), None if part is None else int(part)


def _conditional(found: Found) -> Response:
    """With If-None-Match (RFC 9110 section 13.1.2)."""
    unchanged = found.entity_tag is not None and request.if_none_match.contains_weak(found.entity_tag)
    content = b"" if unchanged else found.content
    response = Response(content, status=304 if unchanged else 200, content_type=found.content_type)
    response.headers["Cache-Control"] = found.cache_control
    # Also for who did not say where from: a cache would give that answer to pages, too.
    response.headers.update(_ANYWHERE)
    if found.entity_tag is not None:
        response.set_etag(found.entity_tag)
    return response


# --- without the framework --------------------------------------------------------------------------------------------


class HlsAnswers:
    """Playlists and files by `lac_web.direct`. `count` is told of each request: route, status, seconds."""

    prefix = b"/hls/"

    def __init__(self, services: Services, count: Callable[[str, int, float], None]) -> None:
        self._services = services
        self._count = count

    async def answer(self, path: str, query: str) -> bytes | None:
        began_at = trio.current_time()
        match path.split("/"):
            case ["", "hls", broadcast_id, listen_pass, playlist] if playlist != INDEX:
                route = _PLAYLIST_ROUTE
                asked = _query(query)
                if asked is None:
                    return None
                finding = find_playlist(self._services.on_air.hls, broadcast_id, listen_pass, playlist, asked)
            case ["", "hls", broadcast_id, listen_pass, rendition, file]:
                route = _FILE_ROUTE
                finding = find_file(self._services.on_air.hls, broadcast_id, listen_pass, rendition, file)
            case _:
                return None
        try:
            found = await finding
        except (HlsBusyError, HlsTimeoutError):  # asking the application would be to wait once more
            self._count(route, 503, trio.current_time() - began_at)
            return direct.response("503 Service Unavailable", {**_ANYWHERE, "retry-after": "1"}, b"")
        except (LacError, MediaError, HTTPException):
            return None
        self._count(route, 200, trio.current_time() - began_at)
        headers = {
            **_ANYWHERE,
            "content-type": found.content_type,
            "cache-control": found.cache_control,
            "etag": f'"{found.entity_tag}"',
        }
        return direct.response("200 OK", headers, found.content)


def _query(query: str) -> dict[str, str] | None:
    """None for one that names something twice."""
    pairs = [item.partition("=") for item in query.split("&") if item]
    found = {name: value for name, _, value in pairs}
    return found if len(found) == len(pairs) else None
