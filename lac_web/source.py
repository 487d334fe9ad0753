"""`/source/<id>`: Icecast source clients as hosts (BUTT, Mixxx, liquidsoap, ffmpeg, anything that speaks libshout).

PUT, or the older SOURCE, with HTTP basic authentication: any user name, the show's stream key as the password. The
answer begins at once and ends with the stream. `/admin/metadata` is where such clients say what is playing.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator
from types import TracebackType
from urllib.parse import parse_qs

import trio
from quart import Blueprint, Response, request
from quart.wrappers.response import ResponseBody
from quart_schema import tag_blueprint
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from lac.errors import NotSignedInError
from lac.rooms.text import one_line
from lac_media.rooms.source import LocalSource
from lac_media.sources.ingest import MEDIA_TYPES, Ingest, SourceType
from lac_media.sources.serve import serve_source
from lac_media.streams.hub import StreamHub
from lac_web.api.endpoint import access
from lac_web.rate_limits import account_limit
from lac_web.security import BEARER_MAX, Access, request_address
from lac_web.services import current_services
from lac_web.streaming import METADATA_PATH, SOURCE_PREFIX, at_request_end

blueprint = Blueprint("source", __name__)
tag_blueprint(blueprint, ["source"])

_METADATA_ANSWER = """<?xml version="1.0"?>
<iceresponse><message>Metadata update successful</message><return>1</return></iceresponse>
"""


def _presented_key() -> str:
    """The stream key, as the password of basic authentication (RFC 7617) or as a bearer token."""
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    key = ""
    if scheme.lower() == "bearer":
        key = credentials.strip()
    elif scheme.lower() == "basic":
        try:
            key = base64.b64decode(credentials.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            raise NotSignedInError("The password cannot be read.", code="token_invalid") from None
    if not key:
        raise NotSignedInError("Sending audio needs the show's stream key as the password; the user name is any.")
    if len(key) > BEARER_MAX:
        raise NotSignedInError("This is not the broadcast's stream key.", code="token_invalid")
    return key


class SourceBody(ResponseBody):
    """The answer to a source client: empty, and not over before its stream is."""

    def __init__(self, source: LocalSource, ingest: Ingest, audio: AsyncIterator[bytes], hub: StreamHub) -> None:
        self._source = source
        self._ingest = ingest
        self._audio = audio
        self._hub = hub

    async def __aenter__(self) -> AsyncIterator[bytes]:
        await trio.lowlevel.checkpoint()
        return self

    async def __aexit__(self, exc_type: type, exc_value: BaseException, tb: TracebackType) -> None:
        self._source.close("hung_up")

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await serve_source(self._source, self._ingest, self._audio, self._hub)
        raise StopAsyncIteration


async def _publish(broadcast_id: str) -> Response:
    services = current_services()
    identity = await services.broadcasts.identify_stream_key(broadcast_id, _presented_key())
    media_type = request.mimetype
    if media_type and media_type not in MEDIA_TYPES:
        raise UnsupportedMediaType("Send Ogg Opus, Ogg Vorbis, MP3 or AAC (ADTS), with its Content-Type.")
    with account_limit(identity):
        source = await services.on_air.media.open_source(identity, broadcast_id, address=request_address())
    at_request_end(lambda: source.close("hung_up"))
    ingest = Ingest(MEDIA_TYPES.get(media_type, SourceType.MP3))
    response = Response(SourceBody(source, ingest, request.body, services.engine.streams))
    response.timeout = None
    response.headers.pop("Content-Type", None)
    response.headers["Connection"] = "close"
    return response


@blueprint.put("/source/<broadcast_id>")
@access(Access.IDENTITY, status=200, takes_binary=tuple(MEDIA_TYPES))
async def publish_source(broadcast_id: str) -> Response:
    """Publish from an Icecast source client: an endless body of Ogg Opus, Ogg Vorbis, MP3 or AAC.

    Basic authentication: any user name, the stream key as the password. A scheduled show begins with it. Older clients
    use the method SOURCE in place of PUT.
    """
    return await _publish(broadcast_id)


@blueprint.route("/source/<broadcast_id>", methods=["SOURCE"])
@access(Access.IDENTITY)
async def publish_source_as_before(broadcast_id: str) -> Response:
    """The same with the method of older clients."""
    return await _publish(broadcast_id)


def _fields(encoding: str) -> dict[str, list[str]]:
    query = request.query_string.decode(encoding)
    return parse_qs(query, encoding=encoding, errors="strict", max_num_fields=20)


def _song_untrusted() -> str:
    """`song`, or `artist` and `title`. In UTF-8, or, as Icecast once had it for MP3, in Latin-1: what is no UTF-8 is
    taken for that, whatever `charset` says."""
    try:
        try:
            found = _fields("utf-8")
        except UnicodeDecodeError:
            found = _fields("latin-1")
    except ValueError:
        raise BadRequest("That is more than a title.") from None
    named = [found.get(name, [""])[0] for name in ("song", "artist", "title")]
    return one_line(named[0]) or one_line(" - ".join(part for part in named[1:] if part))


@blueprint.get(METADATA_PATH)
@access(Access.IDENTITY, status=200, returns_text="text/xml")
async def update_metadata() -> Response:
    """What a source client is playing: `mount=/source/<id>&mode=updinfo&song=…`, as Icecast has it."""
    services, key = current_services(), _presented_key()
    mount = request.args.get("mount", "")
    broadcast_id = mount.removeprefix(SOURCE_PREFIX).removeprefix(SOURCE_PREFIX[1:])
    if request.args.get("mode") != "updinfo" or not broadcast_id or "/" in broadcast_id:
        raise BadRequest("Ask with mode=updinfo, mount=/source/<id> and song=….")
    identity = await services.broadcasts.identify_stream_key(broadcast_id, key)
    await services.on_air.media.set_song(identity, broadcast_id, _song_untrusted() or None)
    return Response(_METADATA_ANSWER, content_type="text/xml; charset=utf-8")
