"""Who may come in at all: bearer tokens, body limits, response headers, cross-origin rules, ownership of sessions.

What a known person may do is decided in `lac.broadcasts.policy`, not here.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import trio
from quart import Quart, Response, request
from werkzeug.exceptions import RequestEntityTooLarge, RequestTimeout

from lac.errors import ForbiddenError, NotFoundError, NotSignedInError
from lac.identity import Identity, IdentityKind
from lac.storage.s3 import origins_of
from lac_media.parameters import Direction
from lac_web.client_address import address_of, is_tls
from lac_web.services import Services, current_services

if TYPE_CHECKING:
    from lac.config import Settings
    from lac_media.rooms.session import Session

JSON_BODY_MAX = 256 * 1024
SDP_BODY_MAX = 64 * 1024
#: Nothing larger is ever buffered, whatever the handler does.
BODY_MAX = 1024 * 1024
BODY_TIMEOUT_S = 20.0
BEARER_MAX = 4096
#: Owners of media sessions that were opened without a token. `lac.broadcasts.admission` makes them.
ANONYMOUS_OWNER_PREFIX = "anon-"

ACCESS_ATTRIBUTE = "lac_access"


class Access(StrEnum):
    """What a route asks of the caller before its handler runs. Every route declares one."""

    #: No token is looked at.
    ANYONE = "anyone"
    #: A token counts if there is one; a bad one is refused.
    OPTIONAL = "optional"
    #: Some identity: an account, or a guest of one broadcast.
    IDENTITY = "identity"
    #: A signed-in account.
    ACCOUNT = "account"


def bearer_token() -> str | None:
    """The token of `Authorization: Bearer`, or None. Other schemes (a proxy's Basic) are not ours and are ignored."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    token = token.strip()
    if not token or len(token) > BEARER_MAX:
        raise NotSignedInError("The bearer token cannot be read. Sign in again.", code="token_invalid")
    return token


async def identify(access: Access) -> Identity | None:
    """Who is asking, as far as `access` wants to know. Raises NotSignedInError or ForbiddenError."""
    if access is Access.ANYONE:
        return None
    token = bearer_token()
    if token is None:
        if access is Access.OPTIONAL:
            return None
        raise NotSignedInError("Sign in first: this needs an access token.")
    identity = await current_services().auth.identify(token)
    if access is Access.ACCOUNT and identity.kind is not IdentityKind.USER:
        raise ForbiddenError("Sign in with an account to do this.", code="account_needed")
    return identity


def request_address() -> str:
    """Where the present request comes from; see `lac_web.client_address`."""
    return address_of(request, current_services().settings.trusted_proxies)


def owned_session(
    services: Services,
    identity: Identity | None,
    session_id: str,
    direction: Direction | None = None,
    broadcast_id: str | None = None,
) -> Session:
    """The media session `session_id`, if it is the caller's and of that kind. Raises NotFoundError.

    An account's or a guest's session answers to that identity alone. One opened without a token answers to whoever
    knows its id, which cannot be guessed.
    """
    session = services.engine.session(session_id)
    if (
        session is not None
        and (direction is None or session.direction is direction)
        and (broadcast_id is None or session.room.id == broadcast_id)
        and (session.owner.startswith(ANONYMOUS_OWNER_PREFIX) or (identity and identity.id == session.owner))
    ):
        return session
    raise NotFoundError("There is no such media session; it may have ended. Open a new one.", code="session_not_found")


async def read_body(limit: int) -> bytes:
    """The request's body, never more than `limit` bytes of it. Raises RequestEntityTooLarge or RequestTimeout.

    Counts the bytes as they come, so that a body without Content-Length is bounded as well.
    """
    too_large = RequestEntityTooLarge(f"The request body may have at most {limit} bytes.")
    if request.content_length is not None and request.content_length > limit:
        raise too_large
    body = bytearray()
    with trio.move_on_after(BODY_TIMEOUT_S) as scope:
        async for chunk in request.body:
            body += chunk
            if len(body) > limit:
                raise too_large
    if scope.cancelled_caught:
        raise RequestTimeout("The request body did not arrive in time.")
    return bytes(body)


#: Ids are ours: letters, digits and a hyphen or two, and as long as their columns. What cannot be one is nobody's.
_ID = re.compile(r"[\x21-\x7e]{1,64}")


def register_id_check(app: Quart) -> None:
    """An address with an id in it that cannot be one leads nowhere, before anything looks for it: databases differ in
    what they take for text, and in how long it may be."""

    async def check_ids() -> None:
        for name, value in (request.view_args or {}).items():
            if name.endswith("_id") and not _ID.fullmatch(value):
                raise NotFoundError("There is nothing with this id.")

    app.before_request(check_ids)


# --- response headers -------------------------------------------------------------------------------------------------

_HOST = re.compile(r"[A-Za-z0-9.\-\[\]:]{1,255}")

#: Worklets and workers may come from blobs. Styles: the dialog and select components of the web client insert <style>
#: elements, which cannot carry a nonce in a page that is a static file; scripts stay strict.
_CSP = (
    "default-src 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'; form-action 'self'; "
    "script-src 'self'; worker-src 'self' blob:; style-src 'self' 'unsafe-inline'; font-src 'self'; "
    "img-src 'self' data: blob:; media-src 'self' blob:{media}; connect-src 'self'{media}{sockets}"
)


def content_security_policy(*hosts: str, media: Collection[str] = ()) -> str:
    """`connect-src 'self'` does not cover WebSockets in every browser: our own hosts are named for them. `media`:
    origins to which recordings are redirected, which counts as loading them from there, and the CDN of HLS."""
    named = [host for host in dict.fromkeys(hosts) if _HOST.fullmatch(host)]
    sockets = "".join(f" ws://{host} wss://{host}" for host in named)
    return _CSP.format(sockets=sockets, media="".join(f" {origin}" for origin in media))


_FIXED_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=(), payment=(), usb=()",
    "X-Frame-Options": "DENY",
}

#: A year; not for other names below this one, which are somebody else's business.
_HSTS = "max-age=31536000"

# --- cross-origin rules -----------------------------------------------------------------------------------------------

_ALLOW_METHODS = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
_ALLOW_HEADERS = "Authorization, Content-Type, If-Match, If-None-Match, Idempotency-Key, Icy-MetaData, Range, If-Range"
_EXPOSE_HEADERS = (
    "Location, ETag, Link, WWW-Authenticate, Retry-After, Accept-Patch, X-Request-Id, Icy-Br, Icy-Metaint, Icy-Name, "
    "Content-Range, Accept-Ranges, Content-Disposition"
)
_PREFLIGHT_MAX_AGE_S = 600

#: WHIP, WHEP, HLS, plain and podcast players live on anybody's pages. No cookies exist, so any origin is safe.
_ANY_ORIGIN_PREFIXES = ("/whip/", "/whep/", "/hls/", "/listen/", "/podcasts/")


def _allowed_origin(origin: str, path: str, cors_origins: tuple[str, ...]) -> str | None:
    if path.startswith(_ANY_ORIGIN_PREFIXES):
        return "*"
    if path.startswith("/api/"):
        if "*" in cors_origins:
            return "*"
        if origin in cors_origins:
            return origin
    return None


def _add_cors(response: Response, cors_origins: tuple[str, ...]) -> None:
    path = request.path
    if not path.startswith(("/api/", *_ANY_ORIGIN_PREFIXES)):
        return
    origin = request.headers.get("Origin")
    if cors_origins and "*" not in cors_origins:
        response.vary.add("Origin")
    if origin is None:
        return
    allowed = _allowed_origin(origin, path, cors_origins)
    if allowed is None:
        return
    response.headers["Access-Control-Allow-Origin"] = allowed
    response.headers["Access-Control-Expose-Headers"] = _EXPOSE_HEADERS
    if request.method == "OPTIONS":
        response.headers["Access-Control-Allow-Methods"] = _ALLOW_METHODS
        response.headers["Access-Control-Allow-Headers"] = _ALLOW_HEADERS
        response.headers["Access-Control-Max-Age"] = str(_PREFLIGHT_MAX_AGE_S)


def register_response_headers(app: Quart, settings: Settings) -> None:
    """Security headers on every answer, errors included; cross-origin headers where they belong."""
    # Behind a proxy that rewrites Host, browsers know us by this name.
    public_host = urlsplit(settings.public_url or "").netloc
    media = () if settings.s3 is None else origins_of(settings.s3)
    if settings.hls_cdn_url is not None:
        cdn = urlsplit(settings.hls_cdn_url)
        media = (*media, f"{cdn.scheme}://{cdn.netloc}")

    async def add_headers(response: Response) -> Response:
        response.headers.setdefault(
            "Content-Security-Policy", content_security_policy(request.host, public_host, media=media)
        )
        for name, value in _FIXED_HEADERS.items():
            response.headers.setdefault(name, value)
        if request.path.startswith(("/api/", *_ANY_ORIGIN_PREFIXES)):
            # Tokens, session descriptions and stream keys are in no cache.
            response.headers.setdefault("Cache-Control", "no-store")
        if response.status_code in (204, 304):
            response.headers.pop("Content-Length", None)  # RFC 9110 section 8.6 forbids it, or wants the full length
        # RFC 6797 section 7.2: only on answers that go over TLS.
        if is_tls(request, settings.trusted_proxies):
            response.headers["Strict-Transport-Security"] = _HSTS
        _add_cors(response, settings.cors_origins)
        return response

    app.after_request(add_headers)
