"""`/api/openapi.json` and `/api/docs`, made from the declarations that validate: see `lac_web.api.endpoint`.

quart-schema collects the routes and writes the frame. The operations are our own work, because its msgspec support
leaves references to nested types dangling. Its documentation pages load scripts from elsewhere and stay off.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from inspect import cleandoc
from typing import Any

import msgspec
from quart import Blueprint, Quart, Response, current_app
from quart_schema import Info, QuartSchema, Tag
from quart_schema.openapi import QUART_SCHEMA_TAG_ATTRIBUTE, OpenAPIProvider
from werkzeug.routing.rules import Rule

from lac import __version__
from lac_web.api.endpoint import SPEC_ATTRIBUTE, EndpointSpec, Model, access
from lac_web.api_docs import render_docs
from lac_web.errors import Problem
from lac_web.openapi_errors import errors_of
from lac_web.openapi_examples import EXAMPLES, TEXT_EXAMPLES
from lac_web.sdp_sessions import TRICKLE_TYPE
from lac_web.security import Access

_REF = "#/components/schemas/{name}"
_PATH_VARIABLE = re.compile("<(?:[^:>]*:)?([^>]+)>")
_BEARER, _STREAM_KEY, _METRICS_TOKEN, _SOURCE = "bearer", "streamKey", "metricsToken", "source"
_DOCUMENT = "lac_openapi"

DESCRIPTION = """\
Everything that the web client does goes through this API and the WebSocket at `/ws`.

Errors are `application/problem+json` (RFC 9457): compare `code`, show `detail`. Times are RFC 3339 UTC, ids are opaque.
Lists are pages: pass `nextCursor` as `cursor` to go on. Where an answer has an `ETag`, send it as `If-Match` to change
only what you have seen. Every answer has an `X-Request-Id`, which is also in the server's log.
"""

SECURITY_SCHEMES: dict[str, dict[str, str]] = {
    _BEARER: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The `accessToken` of a sign-in, good for 15 minutes, or the token that a guest got from `/ws`.",
    },
    _STREAM_KEY: {
        "type": "http",
        "scheme": "bearer",
        "description": "The `streamKey` of a broadcast: publishes as its host, and nothing else.",
    },
    _SOURCE: {
        "type": "http",
        "scheme": "basic",
        "description": "Any user name; the `streamKey` of a broadcast as the password.",
    },
    _METRICS_TOKEN: {"type": "http", "scheme": "bearer", "description": "LAC_METRICS_TOKEN of the server."},
}

#: Where it is not what the access level says.
SECURITY: dict[str, list[dict[str, list[str]]]] = {
    "metrics": [{}, {_METRICS_TOKEN: []}],
    **{name: [{_SOURCE: []}] for name in ("publish_source", "update_metadata")},
    **{name: [{_STREAM_KEY: []}, {_BEARER: []}] for name in ("whip_publish", "whip_patch", "whip_delete")},
}

_PATH_DESCRIPTIONS = {
    "consumer_id": "A consumer's id, as `consume` answered it.",
    "broadcast_id": "`id` of a broadcast.",
    "recording_id": "`id` of a recording.",
    "export": "`m4a` or `mp3`.",
    "number": "The track's place in the manifest, from 1 on.",
    "user_id": "`id` of an account (for bans, also of a guest).",
    "transport_id": "`id` of a transport that was opened.",
    "session_id": "The last part of `Location`.",
    "listen_pass": "The listener's own part of the address, from `index.m3u8`.",
    "playlist": "`index.m3u8`, `high.m3u8` or `low.m3u8`.",
    "rendition": "`high` or `low`.",
    "file": "A name from the playlist.",
    "stream_format": "`ogg`, `mp3` or `aac`.",
}

_ETAG = {"ETag": {"description": "Names this state of it: for If-Match.", "schema": {"type": "string"}}}
_LOCATION = {"Location": {"description": "Where it is now.", "schema": {"type": "string"}}}
_ACCEPT_RANGES = {"Accept-Ranges": {"description": "bytes", "schema": {"type": "string"}}}
_DISPOSITION = {"Content-Disposition": {"description": "A name for the file.", "schema": {"type": "string"}}}
_FILE = {**_ETAG, **_ACCEPT_RANGES, **_DISPOSITION}
_CONTENT_RANGE = {"Content-Range": {"description": "Which bytes, of how many.", "schema": {"type": "string"}}}
_SESSION = {**_LOCATION, "ETag": {"description": "Names the ICE session.", "schema": {"type": "string"}}}
#: Operations that answer a file, or, where files are in a bucket, a redirect.
_FILES = ("download_recording", "download_track", "download_export", "get_episode")
#: Of successful answers, by operation.
HEADERS: dict[str, dict[str, Any]] = {
    "create_broadcast": {**_LOCATION, **_ETAG},
    **dict.fromkeys(("get_broadcast", "update_broadcast", "start_broadcast", "end_broadcast"), _ETAG),
    **dict.fromkeys(("start_recording", "stop_recording", "get_recording", "update_recording"), _ETAG),
    **dict.fromkeys(_FILES, _FILE),
    "open_transport": _LOCATION,
    "whip_publish": _SESSION,
    "whep_listen": _SESSION,
    "listen": {
        "icy-name": {"description": "The show's title.", "schema": {"type": "string"}},
        "icy-br": {"description": "kbit/s.", "schema": {"type": "string"}},
    },
}


def _header_parameter(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string", **schema},
    }


_RANGE_PARAMETERS = [
    _header_parameter("Range", 'One range of bytes, "bytes=0-1023": the answer is 206. Several are answered with all.'),
    _header_parameter("If-Range", "The ETag of the file that the range is of: of another one you get all of it."),
    _header_parameter("If-None-Match", "The ETag of what you have: 304 if it is the same."),
]
_IF_MATCH_SESSION = _header_parameter("If-Match", 'The session\'s ETag to trickle, or "*" to restart ICE. 428 without.')
#: Request headers, by operation.
HEADER_PARAMETERS: dict[str, list[dict[str, Any]]] = {
    "create_broadcast": [
        _header_parameter(
            "Idempotency-Key",
            "Any text of your own. The same request with the same key within a day gets the same answer and does "
            "nothing more: for clients that did not hear the first one.",
            pattern="^[ -~]{1,255}$",
        )
    ],
    **dict.fromkeys(_FILES, _RANGE_PARAMETERS),
    "update_recording": [
        _header_parameter("If-Match", "The ETag that you have seen: 412 if somebody has changed it since.")
    ],
    "update_broadcast": [
        _header_parameter("If-Match", "The ETag that you have seen: 412 if somebody has changed it since.")
    ],
    "update_metadata": [
        {**_header_parameter("mount", "`/source/<id>`."), "in": "query", "required": True},
        {**_header_parameter("mode", "`updinfo`."), "in": "query", "required": True},
        {**_header_parameter("song", "What is playing. Or `artist` and `title`."), "in": "query"},
    ],
    "listen": [
        _header_parameter("Icy-MetaData", "`1`: titles in between the audio, every `icy-metaint` bytes."),
        {**_header_parameter("token", "For a private show: from `POST /api/broadcasts/:id/listen`."), "in": "query"},
    ],
    "whip_patch": [_IF_MATCH_SESSION],
    "whep_patch": [_IF_MATCH_SESSION],
}


def _components(model: Model) -> tuple[dict[str, Any], dict[str, Any]]:
    """A reference to `model`, and the component schemas that it needs."""
    (reference,), components = msgspec.json.schema_components([model], ref_template=_REF)
    for name, schema in components.items():
        if "description" in schema:
            schema["description"] = cleandoc(schema["description"])
        if name in EXAMPLES:
            schema["examples"] = [EXAMPLES[name]]
    return reference, components


def _text(media_type: str) -> dict[str, Any]:
    return {media_type: {"schema": {"type": "string"}, "example": TEXT_EXAMPLES[media_type]}}


def _binary(media_types: tuple[str, ...]) -> dict[str, Any]:
    return {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in media_types}


class Provider(OpenAPIProvider):
    def build_paths(self, rule: Rule) -> tuple[dict[str, Any], dict[str, Any]]:
        view = self._app.view_functions[rule.endpoint]
        spec: EndpointSpec | None = getattr(view, SPEC_ATTRIBUTE, None)
        if spec is None:
            return {}, {}
        name = view.__name__
        blueprint = self._app.blueprints.get(rule.endpoint.rpartition(".")[0])
        summary, _, description = cleandoc(view.__doc__ or rule.endpoint).partition("\n")
        _, components = _components(Problem)
        success: dict[str, Any] = {"description": HTTPStatus(spec.status).phrase}
        operation: dict[str, Any] = {
            "operationId": name,
            "summary": summary.rstrip("."),
            "tags": sorted(getattr(blueprint, QUART_SCHEMA_TAG_ATTRIBUTE, ())),
            "parameters": [self._path_parameter(name) for name in rule._converters],
            "responses": {str(spec.status): success, **errors_of(rule, name, spec)},
        }
        operation["parameters"] += HEADER_PARAMETERS.get(name, ())
        if description.strip():
            operation["description"] = description.strip()
        if name in SECURITY:
            operation["security"] = SECURITY[name]
        elif spec.access is Access.OPTIONAL:
            operation["security"] = [{}, {_BEARER: []}]
        elif spec.access is not Access.ANYONE:
            operation["security"] = [{_BEARER: []}]
        if spec.query is not None:
            operation["parameters"] += self._query_parameters(spec.query, components)
        if spec.takes is not None:
            reference, needed = _components(spec.takes)
            components |= needed
            operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": reference}}}
        elif spec.takes_text is not None:
            operation["requestBody"] = {"required": True, "content": _text(spec.takes_text)}
        elif spec.takes_binary:
            operation["requestBody"] = {"required": True, "content": _binary(spec.takes_binary)}
        if spec.returns is not None:
            reference, needed = _components(spec.returns)
            components |= needed
            success["content"] = {"application/json": {"schema": reference}}
        elif spec.returns_text is not None:
            success["content"] = _text(spec.returns_text)
        elif spec.returns_file is not None:
            success["content"] = _binary((spec.returns_file,))
            headers = {**HEADERS[name], **_CONTENT_RANGE}
            operation["responses"]["206"] = {
                "description": "The part that was asked for.",
                "content": _binary((spec.returns_file,)),
                "headers": headers,
            }
            if name in _FILES:
                operation["responses"]["302"] = {
                    "description": "It is in a bucket: a signed address, good for some hours.",
                    "headers": dict(_LOCATION),
                }
            operation["responses"]["304"] = {"description": "It is what you have.", "headers": dict(_ETAG)}
        elif spec.returns_binary:
            success["content"] = _binary(spec.returns_binary)
        if name in HEADERS:
            success["headers"] = HEADERS[name]
        if name in ("whip_patch", "whep_patch"):
            operation["responses"]["200"] = {
                "description": "ICE was restarted: the new credentials.",
                "content": _text(TRICKLE_TYPE),
                "headers": {"ETag": _SESSION["ETag"]},
            }
        path = _PATH_VARIABLE.sub(r"{\1}", rule.rule)
        return {path: {method.lower(): operation for method in self.generate_methods(rule)}}, components

    @staticmethod
    def _path_parameter(name: str) -> dict[str, Any]:
        return {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATH_DESCRIPTIONS[name],
            "schema": {"type": "string", "minLength": 1},
        }

    @staticmethod
    def _query_parameters(model: Model, components: dict[str, Any]) -> list[dict[str, Any]]:
        _, needed = _components(model)
        schema = needed.pop(model.__name__)
        components |= needed
        return [
            {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": _in_query(kind)}
            for name, kind in schema["properties"].items()
        ]


def _in_query(schema: dict[str, Any]) -> dict[str, Any]:
    """A query string has no null: what may be null may be left out."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    return kinds[0] if len(kinds) == 1 else schema


def openapi_document(app: Quart) -> dict[str, Any]:
    """The whole document. Made once: routes do not change after the start."""
    document: dict[str, Any] | None = app.extensions.get(_DOCUMENT)
    if document is None:
        extension: QuartSchema = app.extensions["QUART_SCHEMA"]
        document = extension.openapi_provider.schema()
        document["components"]["securitySchemes"] = SECURITY_SCHEMES
        document["components"]["schemas"] = dict(sorted(document["components"]["schemas"].items()))
        app.extensions[_DOCUMENT] = document
    return document


blueprint = Blueprint("openapi", __name__)


@blueprint.get("/api/openapi.json")
@access(Access.ANYONE)
async def openapi_json() -> Response:
    return Response(msgspec.json.encode(openapi_document(current_app)), content_type="application/json")


@blueprint.get("/api/docs")
@access(Access.ANYONE)
async def docs() -> Response:
    """The document, to read."""
    return Response(render_docs(openapi_document(current_app)), content_type="text/html; charset=utf-8")


def register_openapi(app: Quart) -> None:
    QuartSchema(
        app,
        openapi_path=None,
        swagger_ui_path=None,
        redoc_ui_path=None,
        scalar_ui_path=None,
        info=Info(
            title="LiveAudioCast", version=__version__, summary="Self-hosted live audio.", description=DESCRIPTION
        ),
        tags=[
            Tag("accounts", "Register, sign in, stay signed in."),
            Tag("broadcasts", "Plan, find and run shows."),
            Tag("recordings", "What remains of a show."),
            Tag("podcasts", "The public recordings of a host, for podcast players."),
            Tag("moderation", "Roles, bans, and what was done in a show."),
            Tag("people", "Profiles and who follows whom."),
            Tag("media", "WebRTC signalling in the JSON of mediasoup-client."),
            Tag("whip", "Publish from any WHIP encoder (RFC 9725)."),
            Tag("whep", "Listen with any WHEP player."),
            Tag("hls", "Listen by low-latency HLS."),
            Tag("source", "Publish from Icecast source clients."),
            Tag("listen", "Listen with any radio or player."),
            Tag("server", "Is it up?"),
        ],
        conversion_preference="msgspec",
        openapi_provider_class=Provider,
    )
    app.register_blueprint(blueprint)
