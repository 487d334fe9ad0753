"""The one place where an error becomes an HTTP answer: `application/problem+json` (RFC 9457).

Everything below the web raises its own errors; handlers let them pass. `type` is always "about:blank", so `title` is
the status phrase (RFC 9457 section 4.2.1), and `code` is the stable word that programs compare.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Literal

import msgspec
from quart import Quart, Response, has_request_context, request
from werkzeug.exceptions import HTTPException, InternalServerError

from lac.errors import (
    ChangedError,
    ConfigError,
    ConflictError,
    FieldError,
    ForbiddenError,
    InvalidInputError,
    LacError,
    NotFoundError,
    NotSignedInError,
    TooManyRequestsError,
    UnavailableError,
)
from lac.rooms.values import HlsAddress
from lac_media.errors import (
    HlsBusyError,
    HlsRequestError,
    HlsTimeoutError,
    LocalProtocolError,
    MediaError,
    ParseError,
    RemoteProtocolError,
    SessionClosedError,
    TransportUsedUpError,
    UnsupportedMediaError,
)

PROBLEM_TYPE = "application/problem+json"
SDP_TYPE = "application/sdp"
#: Where Icecast source clients sign in (RFC 7617).
BASIC_PREFIXES = ("/source/", "/admin/")

#: Looked up by the error's class, then by its bases, nearest first.
LAC_STATUS: dict[type[LacError], int] = {
    InvalidInputError: 422,
    NotSignedInError: 401,
    ForbiddenError: 403,
    NotFoundError: 404,
    ConflictError: 409,
    ChangedError: 412,
    TooManyRequestsError: 429,
    UnavailableError: 503,
    ConfigError: 500,
    LacError: 500,
}

MEDIA_PROBLEMS: dict[type[MediaError], tuple[int, str]] = {
    ParseError: (400, "malformed"),
    UnsupportedMediaError: (400, "unsupported_media"),
    RemoteProtocolError: (400, "protocol_error"),
    TransportUsedUpError: (409, "transport_used_up"),
    LocalProtocolError: (409, "wrong_state"),
    SessionClosedError: (404, "session_closed"),
    HlsRequestError: (400, "bad_request"),
    HlsBusyError: (503, "hls_busy"),
    HlsTimeoutError: (503, "hls_timeout"),
    MediaError: (500, "internal_error"),
}

HTTP_CODES: dict[int, str] = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "request_timeout",
    412: "precondition_failed",
    413: "too_large",
    415: "unsupported_media_type",
    428: "precondition_required",
    431: "headers_too_large",
    500: "internal_error",
}

HTTP_DETAILS: dict[int, str] = {
    404: "There is nothing at this address.",
    405: "This address does not take this method; the Allow header lists those it takes.",
    413: "The request body is larger than this address takes.",
    500: "Something went wrong on our side. It has been logged.",
}


class WrongField(msgspec.Struct, frozen=True):
    """`field` is a path into the body (`tags[1]`, `rtpParameters.codecs`), or a query parameter."""

    field: str
    message: str


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error as RFC 9457 writes it. Compare `code`; show `detail`."""

    type: Literal["about:blank"] = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    #: Where single fields are wrong (422).
    errors: list[WrongField] | msgspec.UnsetType = msgspec.UNSET
    #: Where to listen instead (`use_hls`, `overloaded`).
    hls: HlsAddress | msgspec.UnsetType = msgspec.UNSET


def problem_response(
    status: int,
    code: str,
    detail: str,
    *,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
    hls: HlsAddress | None = None,
) -> Response:
    problem = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        errors=[WrongField(error.field, error.message) for error in errors] or msgspec.UNSET,
        hls=hls or msgspec.UNSET,
    )
    response = Response(msgspec.json.encode(problem), status=status, content_type=PROBLEM_TYPE)
    if headers:
        response.headers.update(headers)
    return response


def _lac_problem(error: LacError) -> Response:
    status = next(LAC_STATUS[base] for base in type(error).__mro__ if base in LAC_STATUS)
    if status >= 500 and not isinstance(error, UnavailableError):
        raise InternalServerError(original_exception=error)
    headers = {}
    errors: Sequence[FieldError] = ()
    if isinstance(error, InvalidInputError):
        errors = error.errors
    elif isinstance(error, NotSignedInError):
        # RFC 6750 section 3: no error word when the request carried no token at all.
        invalid = error.code.startswith("token_")
        headers["WWW-Authenticate"] = 'Bearer error="invalid_token"' if invalid else "Bearer"
        if has_request_context() and request.path.startswith(BASIC_PREFIXES):
            headers["WWW-Authenticate"] = 'Basic realm="stream key", charset="UTF-8"'
    elif isinstance(error, (TooManyRequestsError, UnavailableError)):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    hls = error.hls if isinstance(error, UnavailableError) else None
    return problem_response(status, error.code, error.detail, errors=errors, headers=headers, hls=hls)


def _media_problem(error: MediaError) -> Response:
    status, code = next(MEDIA_PROBLEMS[base] for base in type(error).__mro__ if base in MEDIA_PROBLEMS)
    headers = {}
    if status == 503:
        headers["Retry-After"] = "1"
    elif status >= 500:
        raise InternalServerError(original_exception=error)
    # An SDP offer that is well-formed but holds nothing we can take.
    if isinstance(error, UnsupportedMediaError) and has_request_context() and request.mimetype == SDP_TYPE:
        status = 406
    text = str(error)
    return problem_response(status, code, f"{text[:1].upper()}{text[1:].removesuffix('.')}.", headers=headers)


def _http_problem(error: HTTPException) -> Response:
    status = error.code or 500
    detail = HTTP_DETAILS.get(status, error.description or "")
    # A description of our own (not werkzeug's stock sentence) says more.
    if status < 500 and error.description and error.description != type(error).description:
        detail = error.description
    headers = {name: value for name, value in error.get_headers() if name in {"Allow", "Retry-After"}}
    code = HTTP_CODES.get(status) or HTTPStatus(status).phrase.lower().replace(" ", "_")
    return problem_response(status, code, detail, headers=headers)


def register_error_handlers(app: Quart) -> None:
    async def on_lac_error(error: LacError) -> Response:
        return _lac_problem(error)

    async def on_media_error(error: MediaError) -> Response:
        return _media_problem(error)

    async def on_http_error(error: HTTPException) -> Response:
        return _http_problem(error)

    app.register_error_handler(LacError, on_lac_error)
    app.register_error_handler(MediaError, on_media_error)
    app.register_error_handler(HTTPException, on_http_error)
