"""`/api/openapi.json`, made from the declarations that validate: see `lac_web.api.endpoint`.

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
from quart_schema import HttpSecurityScheme, Info, QuartSchema, Tag
from quart_schema.openapi import QUART_SCHEMA_TAG_ATTRIBUTE, OpenAPIProvider
from werkzeug.routing.rules import Rule

from lac import __version__
from lac_web.api.endpoint import SPEC_ATTRIBUTE, EndpointSpec, Model, access
from lac_web.errors import PROBLEM_TYPE, Problem
from lac_web.security import Access

_REF = "#/components/schemas/{name}"
_PATH_VARIABLE = re.compile("<(?:[^:>]*:)?([^>]+)>")
_BEARER = "bearer"
_DOCUMENT = "lac_openapi_json"


def _components(model: Model) -> tuple[dict[str, Any], dict[str, Any]]:
    """A reference to `model`, and the component schemas that it needs."""
    (reference,), components = msgspec.json.schema_components([model], ref_template=_REF)
    return reference, components


class Provider(OpenAPIProvider):
    def build_paths(self, rule: Rule) -> tuple[dict[str, Any], dict[str, Any]]:
        view = self._app.view_functions[rule.endpoint]
        spec: EndpointSpec | None = getattr(view, SPEC_ATTRIBUTE, None)
        if spec is None:
            return {}, {}
        blueprint = self._app.blueprints.get(rule.endpoint.rpartition(".")[0])
        summary, _, description = cleandoc(view.__doc__ or rule.endpoint).partition("\n")
        problem, components = _components(Problem)
        operation: dict[str, Any] = {
            "operationId": view.__name__,
            "summary": summary.rstrip("."),
            "tags": sorted(getattr(blueprint, QUART_SCHEMA_TAG_ATTRIBUTE, ())),
            "parameters": [self.build_path_parameter(name, item) for name, item in rule._converters.items()],
            "responses": {
                str(spec.status): {"description": HTTPStatus(spec.status).phrase},
                "default": {"description": "An error", "content": {PROBLEM_TYPE: {"schema": problem}}},
            },
        }
        if description.strip():
            operation["description"] = description.strip()
        if spec.access is Access.OPTIONAL:
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
            text = {spec.takes_text: {"schema": {"type": "string"}}}
            operation["requestBody"] = {"required": True, "content": text}
        if spec.returns is not None:
            reference, needed = _components(spec.returns)
            components |= needed
            operation["responses"][str(spec.status)]["content"] = {"application/json": {"schema": reference}}
        elif spec.returns_text is not None:
            text = {spec.returns_text: {"schema": {"type": "string"}}}
            operation["responses"][str(spec.status)]["content"] = text
        path = _PATH_VARIABLE.sub(r"{\1}", rule.rule)
        return {path: {method.lower(): operation for method in self.generate_methods(rule)}}, components

    @staticmethod
    def _query_parameters(model: Model, components: dict[str, Any]) -> list[dict[str, Any]]:
        _, needed = _components(model)
        schema = needed.pop(model.__name__)
        components |= needed
        return [
            {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": kind}
            for name, kind in schema["properties"].items()
        ]


blueprint = Blueprint("openapi", __name__)


@blueprint.get("/api/openapi.json")
@access(Access.ANYONE)
async def openapi_json() -> Response:
    document = current_app.extensions.get(_DOCUMENT)
    if document is None:  # routes do not change after the start
        extension: QuartSchema = current_app.extensions["QUART_SCHEMA"]
        document = current_app.extensions[_DOCUMENT] = msgspec.json.encode(extension.openapi_provider.schema())
    return Response(document, content_type="application/json")


def register_openapi(app: Quart) -> None:
    QuartSchema(
        app,
        openapi_path=None,
        swagger_ui_path=None,
        redoc_ui_path=None,
        scalar_ui_path=None,
        info=Info(title="LiveAudioCast", version=__version__, summary="Self-hosted live audio."),
        tags=[
            Tag("accounts", "Register, sign in, stay signed in."),
            Tag("broadcasts", "Plan, find and run shows."),
            Tag("moderation", "Roles, bans, and what was done in a show."),
            Tag("people", "Profiles and who follows whom."),
            Tag("media", "WebRTC signalling in the JSON of mediasoup-client."),
            Tag("whip", "Publish from any WHIP encoder (RFC 9725)."),
            Tag("whep", "Listen with any WHEP player."),
            Tag("server", "Is it up?"),
        ],
        security_schemes={_BEARER: HttpSecurityScheme(scheme="bearer", bearer_format="JWT")},
        conversion_preference="msgspec",
        openapi_provider_class=Provider,
    )
    app.register_blueprint(blueprint)
