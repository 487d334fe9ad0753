"""Low-latency HLS over HTTP: playlists, parts and segments (docs/protocol/hls.md).

What caches may do: a part or segment never changes under its name and is the same for everybody, so a CDN may keep it;
playlists are each listener's own, because they are how listeners are counted and how moderators' decisions take effect.
"""

from __future__ import annotations

import re

from quart import Blueprint, Response, request
from quart_schema import tag_blueprint
from werkzeug.exceptions import BadRequest, NotFound

from lac.broadcasts.hls import PUBLIC
from lac.identity import Identity
from lac.rooms.messages import HlsAddress
from lac_media.hls.plan import Position, multivariant_playlist
from lac_media.hls.renditions import RENDITIONS, SKIP_UNTIL_S, Rendition
from lac_media.hls.stream import Playlist
from lac_web.api.endpoint import access, endpoint
from lac_web.security import Access, identify, request_address
from lac_web.services import current_services

blueprint = Blueprint("hls", __name__)
tag_blueprint(blueprint, ["hls"])

PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
MEDIA_TYPE = "audio/mp4"
INDEX = "index.m3u8"
_RENDITIONS = {rendition.name: rendition for rendition in RENDITIONS}
_PLAYLISTS = {f"{rendition.name}.m3u8": rendition for rendition in RENDITIONS}
_NUMBER = re.compile(r"[0-9]{1,15}", re.ASCII)

#: Under its name a file stays what it is.
_IMMUTABLE = "{scope}, max-age=3600, immutable"
#: rfc8216bis appendix B.1: what was waited for is the same whenever it is asked for; what was not is old after a while.
_WAITED_FOR = f"private, max-age={SKIP_UNTIL_S}"
_NOT_WAITED_FOR = "private, max-age=1"
_FINISHED = "private, max-age=60"
#: Nothing here is a page, and parts are small: the whole policy would be as long as a part.
_NO_PAGE = "default-src 'none'"


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
    found = await current_services().on_air.hls.address(identity, broadcast_id, address=request_address())
    token = found.url.split("/")[3]
    return _playlist_response(multivariant_playlist(f"{token}/"), "no-store")


@blueprint.get("/hls/<broadcast_id>/<listen_pass>/<playlist>")
@access(Access.ANYONE, status=200, returns_text=PLAYLIST_TYPE)
async def hls_playlist(broadcast_id: str, listen_pass: str, playlist: str) -> Response:
    """A playlist. `_HLS_msn` and `_HLS_part` wait for a segment or part, `_HLS_skip=YES` asks for a delta."""
    rendition = _PLAYLISTS.get(playlist)
    if rendition is None and playlist != INDEX:
        raise NotFound
    after = _position()
    served, private = await current_services().on_air.hls.admit(broadcast_id, listen_pass)
    if rendition is None:
        served.stream.need()
        return _playlist_response(multivariant_playlist(), "no-store")
    skip = request.args.get("_HLS_skip") in ("YES", "v2")
    found = await served.stream.playlist(rendition, "" if private else f"../{PUBLIC}/", after=after, skip=skip)
    cache = _FINISHED if served.stream.plan.ended else _WAITED_FOR if after is not None else _NOT_WAITED_FOR
    return _media_playlist_response(found, cache, private=private)


@blueprint.get("/hls/<broadcast_id>/<listen_pass>/<rendition>/<file>")
@access(Access.ANYONE, status=200)
async def hls_file(broadcast_id: str, listen_pass: str, rendition: str, file: str) -> Response:
    """A header, part or segment, by its name in the playlist. The part that comes next is waited for.

    `media` stands in the place of a pass for what anybody may have.
    """
    known: Rendition | None = _RENDITIONS.get(rendition)
    if known is None:
        raise NotFound
    served = await current_services().on_air.hls.admit_file(broadcast_id, listen_pass)
    tag = f"{rendition}-{file}"
    data = b"" if request.if_none_match.contains_weak(tag) else await served.stream.file(known, file)
    if data is None:
        raise NotFound
    response = Response(data, status=200 if data else 304, content_type=MEDIA_TYPE)
    response.set_etag(tag)
    response.headers["Cache-Control"] = _IMMUTABLE.format(scope="public" if listen_pass == PUBLIC else "private")
    response.headers["Content-Security-Policy"] = _NO_PAGE
    return response


def _position() -> Position | None:
    """`_HLS_msn` and `_HLS_part` (rfc8216bis section 6.2.5.2). Raises BadRequest."""
    msn, part = request.args.get("_HLS_msn"), request.args.get("_HLS_part")
    if msn is None:
        if part is not None:
            raise BadRequest("_HLS_part needs _HLS_msn.")
        return None
    if not _NUMBER.fullmatch(msn) or (part is not None and not _NUMBER.fullmatch(part)):
        raise BadRequest("_HLS_msn and _HLS_part are whole numbers.")
    return int(msn), None if part is None else int(part)


def _playlist_response(content: bytes, cache_control: str) -> Response:
    response = Response(content, content_type=PLAYLIST_TYPE)
    response.headers["Cache-Control"] = cache_control
    response.headers["Content-Security-Policy"] = _NO_PAGE
    return response


def _media_playlist_response(playlist: Playlist, cache_control: str, *, private: bool) -> Response:
    tag = f"{playlist.entity_tag}{'-private' if private else ''}"
    unchanged = request.if_none_match.contains_weak(tag)
    response = _playlist_response(b"" if unchanged else playlist.content, cache_control)
    response.status_code = 304 if unchanged else 200
    response.set_etag(tag)
    return response
