"""`/listen/<id>.ogg`, `.mp3`, `.aac`: the program for everything that plays a radio station's address.

The response ends with the show. It has no length and is not chunked: hardware radios do not understand that, and
players take the end of the connection for the end, as with every station (RFC 9112 section 6.3, case 8).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType

import trio
from quart import Blueprint, Response, request
from quart.wrappers.response import ResponseBody
from quart_schema import tag_blueprint

from lac.broadcasts.model import Broadcast, Visibility
from lac.errors import NotSignedInError
from lac.identity import Identity
from lac_media.streams.formats import BITRATES_KBPS, CONTENT_TYPES, StreamFormat
from lac_media.streams.hub import StreamHub
from lac_media.streams.listener import StreamListener
from lac_web.api.endpoint import access, endpoint
from lac_web.client_address import address_group
from lac_web.hypercorn_fixes import STREAM_KEY, GuardedHTTPStream
from lac_web.icy import METAINT, IcyInterleaver, header_text
from lac_web.rate_limits import account_limit
from lac_web.schemas_media import ListenAddresses
from lac_web.security import BEARER_MAX, Access, identify, request_address
from lac_web.services import Services, current_services
from lac_web.streaming import at_request_end

blueprint = Blueprint("listen", __name__)
tag_blueprint(blueprint, ["listen"])

_FORMATS = ", ".join(StreamFormat)


async def _identify_listener(services: Services, broadcast_id: str) -> Identity | None:
    """By bearer token or, because players have nothing but an address, by `?token=`."""
    token = request.args.get("token")
    if token is None:
        return await identify(Access.OPTIONAL)
    if len(token) > BEARER_MAX:
        raise NotSignedInError("The token cannot be read. Ask for a new link.", code="token_invalid")
    return await services.auth.identify_listener(token, broadcast_id)


class StreamBody(ResponseBody):
    """What one client reads, with titles in it if the client wants them."""

    def __init__(self, listener: StreamListener, hub: StreamHub, stream: object, *, with_titles: bool) -> None:
        self._listener = listener
        self._hub = hub
        self._stream = stream if isinstance(stream, GuardedHTTPStream) else None
        self._titles = IcyInterleaver() if with_titles else None

    async def __aenter__(self) -> AsyncIterator[bytes]:
        await trio.lowlevel.checkpoint()
        return self

    async def __aexit__(self, exc_type: type, exc_value: BaseException, tb: TracebackType) -> None:
        self._listener.close("hung_up")

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """What has to go the long way, through the framework: the little that the kernel did not take at once."""
        while True:
            try:
                audio = await self._listener.receive()
            except trio.EndOfChannel:
                raise StopAsyncIteration from None
            self._hub.octets_out += len(audio)
            data = audio if self._titles is None else self._titles.feed(audio, self._listener.title.text)
            if self._stream is None or not self._stream.push_nowait(data):
                return data


@blueprint.post("/api/broadcasts/<broadcast_id>/listen")
@endpoint(Access.OPTIONAL, returns=ListenAddresses, status=201)
async def listen_addresses(identity: Identity | None, broadcast_id: str) -> ListenAddresses:
    """Addresses for radios and players.

    Those of a private show are the caller's own: they have a token in them, which is good for listening to it and for
    nothing else, as long as this sign-in and at most a week. They also tell when a show that is to come is on air.
    """
    services = current_services()
    broadcast = await services.broadcasts.get(identity, broadcast_id)
    query = ""
    if broadcast.visibility is Visibility.PRIVATE and identity is not None:
        query = f"?token={services.auth.issue_listen(identity, broadcast_id)}"
    paths = {str(kind): f"/listen/{broadcast.id}.{kind}{query}" for kind in StreamFormat}
    return ListenAddresses(**paths)


@blueprint.get(f"/listen/<broadcast_id>.<any({_FORMATS}):stream_format>")
@access(Access.OPTIONAL, status=200, returns_binary=tuple(CONTENT_TYPES.values()))
async def listen(broadcast_id: str, stream_format: str) -> Response:
    """The program as an endless stream, for radios, cars and players.

    `.ogg` is Opus as the host sends it, `.mp3` and `.aac` are for everything that does not play Opus. With the header
    `Icy-MetaData: 1` titles come in between the audio. A private show needs a token: as Bearer, or in the address that
    `POST /api/broadcasts/:id/listen` gives.
    """
    services = current_services()
    kind = StreamFormat(stream_format)
    identity = await _identify_listener(services, broadcast_id)
    address = request_address()
    # Ogg has its own way to say what is on; a block in between would break its pages.
    with_titles = kind is not StreamFormat.OGG and request.headers.get("Icy-MetaData", "").strip() == "1"
    if request.method == "HEAD":
        broadcast = await services.on_air.media.check_stream(identity, broadcast_id, address=address)
        return _with_headers(Response(b""), kind, broadcast, with_titles=with_titles)
    with account_limit(identity):
        listener = await services.on_air.media.open_stream(
            identity, broadcast_id, kind, address=address, limited_by=address_group(address)
        )
    at_request_end(lambda: listener.close("hung_up"))
    broadcast = await services.on_air.media.check_stream(identity, broadcast_id, address=address)
    response = Response(
        StreamBody(listener, services.engine.streams, request.scope["state"].get(STREAM_KEY), with_titles=with_titles)
    )
    response.timeout = None
    return _with_headers(response, kind, broadcast, with_titles=with_titles)


def _with_headers(response: Response, kind: StreamFormat, broadcast: Broadcast, *, with_titles: bool) -> Response:
    headers = response.headers
    headers.pop("Content-Length", None)
    headers["Content-Type"] = CONTENT_TYPES[kind]
    headers["Cache-Control"] = "no-cache, no-store"
    headers["Accept-Ranges"] = "none"
    headers["Connection"] = "close"
    headers["X-Accel-Buffering"] = "no"  # nginx would collect a few seconds before it passes anything on
    headers["icy-name"] = header_text(broadcast.title)
    headers["icy-description"] = header_text(broadcast.description)[:500] or header_text(broadcast.host_name)
    headers["icy-br"] = str(BITRATES_KBPS[kind])
    headers["icy-pub"] = "0"
    if with_titles:
        headers["icy-metaint"] = str(METAINT)
    return response
