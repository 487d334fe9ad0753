"""How a JSON route is declared: who may call it, what it takes, what it answers. OpenAPI is made from the same words.

    @blueprint.post("/api/things")
    @endpoint(Access.ACCOUNT, takes=NewThing, returns=Thing, status=201)
    async def create_thing(identity: Identity, data: NewThing) -> Thing: ...

The handler gets the path's variables, `identity` unless the route is open to anyone, `data` where it takes a body, and
`query` where it takes a query string. It returns the answer, or the answer and headers.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, wraps
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import msgspec
from quart import Response, request
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from lac.errors import FieldError, InvalidInputError
from lac_web.rate_limits import account_limit
from lac_web.security import ACCESS_ATTRIBUTE, JSON_BODY_MAX, Access, identify, read_body

SPEC_ATTRIBUTE = "lac_endpoint"
#: More wrong fields than this are not named.
MAX_ERRORS = 20

Handler = Callable[..., Awaitable[Any]]
Model = type[msgspec.Struct]
S = TypeVar("S", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    access: Access
    takes: Model | None = None
    query: Model | None = None
    returns: Model | None = None
    status: int = 200
    #: For routes whose bodies are not JSON: their media types.
    takes_text: str | None = None
    returns_text: str | None = None
    #: For routes that answer with a file, whole or in parts: its media type.
    returns_file: str | None = None
    #: For what is neither JSON nor text: the media types it may be, or that it takes.
    returns_binary: tuple[str, ...] = ()
    takes_binary: tuple[str, ...] = ()


def access(
    level: Access,
    *,
    status: int | None = None,
    query: Model | None = None,
    takes_text: str | None = None,
    returns_text: str | None = None,
    returns_file: str | None = None,
    returns_binary: tuple[str, ...] = (),
    takes_binary: tuple[str, ...] = (),
) -> Callable[[Handler], Handler]:
    """Declare the access level of a route that reads its own request; it calls `identify` (and `parse_query`) itself.

    It is in the OpenAPI document if it names its `status`.
    """

    def decorate(handler: Handler) -> Handler:
        setattr(handler, ACCESS_ATTRIBUTE, level)
        if status is not None:
            spec = EndpointSpec(
                level,
                query=query,
                status=status,
                takes_text=takes_text,
                returns_text=returns_text,
                returns_file=returns_file,
                returns_binary=returns_binary,
                takes_binary=takes_binary,
            )
            setattr(handler, SPEC_ATTRIBUTE, spec)
        return handler

    return decorate


def endpoint(
    level: Access,
    *,
    takes: Model | None = None,
    query: Model | None = None,
    returns: Model | None = None,
    status: int = 200,
) -> Callable[[Handler], Handler]:
    def decorate(handler: Handler) -> Handler:
        @wraps(handler)
        async def wrapper(**kwargs: Any) -> Response:
            if level is not Access.ANYONE:
                kwargs["identity"] = await identify(level)
            if query is not None:
                kwargs["query"] = parse_query(query)
            if takes is not None:
                kwargs["data"] = await parse_json(takes)
            with account_limit(kwargs.get("identity"), kwargs.get("data")):
                result = await handler(**kwargs)
            headers: Mapping[str, str] = {}
            if isinstance(result, tuple):
                result, headers = result
            return json_response(result, status, headers)

        setattr(wrapper, ACCESS_ATTRIBUTE, level)
        setattr(wrapper, SPEC_ATTRIBUTE, EndpointSpec(level, takes, query, returns, status))
        return wrapper

    return decorate


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """None becomes an empty body."""
    body = b"" if value is None else msgspec.json.encode(value)
    response = Response(body, status=status, content_type="application/json")
    if value is None:
        del response.headers["Content-Type"]
    if headers:
        response.headers.update(headers)
    return response


async def parse_json(model: Model) -> msgspec.Struct:
    """The body as `model`. 415 for another content type, 400 for what is not JSON, 422 naming the fields."""
    if request.mimetype != "application/json" and not request.mimetype.endswith("+json"):
        raise UnsupportedMediaType("Send the body as application/json.")
    body = await read_body(JSON_BODY_MAX)
    try:
        return msgspec.json.decode(body, type=model)
    except msgspec.ValidationError as error:
        invalid = error
    except msgspec.DecodeError as error:
        raise BadRequest(f"The body is not JSON: {error}.") from None
    try:
        raw = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:  # only the typed decoder stops at the first wrong value
        raise BadRequest(f"The body is not JSON: {error}.") from None
    raise _invalid(model, raw, invalid, strict=True)


def parse_query(model: type[S]) -> S:
    """The query string as `model`. 422 naming the parameters, also for one that comes twice."""
    raw = request.args.to_dict()
    twice = [FieldError(name, "is given more than once") for name in raw if len(request.args.getlist(name)) > 1]
    if twice:
        raise InvalidInputError("; ".join(f"{error.field} {error.message}" for error in twice) + ".", *twice)
    without_null = _without_null(model)
    try:
        given = msgspec.convert(raw, without_null, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(without_null, raw, error, strict=False) from None
    values = {name: getattr(given, name) for name in given.__struct_fields__}
    return model(**{name: value for name, value in values.items() if value is not msgspec.UNSET})


@lru_cache(maxsize=64)
def _without_null(model: Model) -> Model:
    """`model` as a query string can say it: a parameter is there or not, and the text "null" is a text."""
    fields: list[Any] = []
    for field in msgspec.structs.fields(model):
        kinds = tuple(kind for kind in get_args(field.type) if kind is not NoneType)
        kind = Union[kinds] if isinstance(field.type, UnionType) or get_origin(field.type) is Union else field.type  # noqa: UP007
        fields.append((field.name, kind) if field.required else (field.name, kind | msgspec.UnsetType, msgspec.UNSET))
    names = {field.name: field.encode_name for field in msgspec.structs.fields(model)}
    strict = model.__struct_config__.forbid_unknown_fields
    return msgspec.defstruct(model.__name__, fields, rename=names, forbid_unknown_fields=strict, kw_only=True)


# --- naming the fields ------------------------------------------------------------------------------------------------

_AT_PATH = re.compile(r" - at `\$(?P<path>[^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `(?P<name>[^`]*)`$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>[^`]*)`$")


def _field_error(error: msgspec.ValidationError, field: str = "") -> FieldError:
    """`error`, raised for the value at `field`, as a path and a sentence."""
    text = str(error)
    found = _AT_PATH.search(text)
    if found:
        text = text[: found.start()]
        field += found["path"]
    for pattern, sentence in ((_MISSING, "is missing"), (_UNKNOWN, "is not a field that is known here")):
        named = pattern.match(text)
        if named:
            field, text = f"{field}.{named['name']}", sentence
            return FieldError(field.lstrip("."), text)
    return FieldError(field.lstrip(".") or "body", f"is not valid: {text[:1].lower()}{text[1:]}".replace("`", ""))


def _invalid(model: Model, raw: object, error: msgspec.ValidationError, *, strict: bool) -> InvalidInputError:
    """All wrong fields at once: msgspec stops at the first, and people want to see every mistake of a form."""
    errors = []
    if isinstance(raw, dict):
        fields = {field.encode_name: field for field in msgspec.structs.fields(model)}
        for name, field in fields.items():
            if name not in raw:
                if field.required:
                    errors.append(FieldError(name, "is missing"))
                continue
            try:
                msgspec.convert(raw[name], field.type, strict=strict)
            except msgspec.ValidationError as wrong:
                errors.append(_field_error(wrong, name))
        if model.__struct_config__.forbid_unknown_fields:
            errors += [FieldError(name, "is not a field that is known here") for name in raw if name not in fields]
    if not errors:
        errors = [_field_error(error)]
    errors = errors[:MAX_ERRORS]
    return InvalidInputError("; ".join(f"{error.field} {error.message}" for error in errors) + ".", *errors)
