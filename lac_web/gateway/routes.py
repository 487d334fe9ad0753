"""`/ws` on the application: who may open a socket at all, and the set of those that are open."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from urllib.parse import urlsplit

from quart import Response, websocket
from quart_trio import QuartTrio

from lac.rooms.events import CloseCode
from lac_web.client_address import address_of
from lac_web.gateway.connection import Connection, GatewayLimits
from lac_web.gateway.ports import CommandLimiter, FramePipe, GatewayServices, Socket
from lac_web.hypercorn_fixes import STREAM_KEY


class Gateway:
    """All sockets of this process."""

    def __init__(self, services: GatewayServices, limits: GatewayLimits, limiter: CommandLimiter | None = None) -> None:
        self._services = services
        self._limiter = limiter
        self._limits = limits
        self.connections: set[Connection] = set()
        #: How many sockets we closed, by code. 1013 is a full outbox.
        self.closed: Counter[int] = Counter()
        self.draining = False

    async def serve(self, socket: Socket, pipe: FramePipe | None = None, address: str | None = None) -> None:
        connection = Connection(socket, self._services, self._limits, pipe, address, self._limiter)
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)
            if connection.closing is not None:
                self.closed[connection.closing[0]] += 1

    def close_all(self, code: int = CloseCode.SHUTTING_DOWN, reason: str = "shutting down") -> None:
        """Refuse new sockets and close those that are open, also those that have not joined yet. Does not wait: the
        server's `grace_s` has to leave room for `flush_s` and `close_s`."""
        self.draining = True
        for connection in tuple(self.connections):
            connection.close(code, reason)


def register_gateway(
    app: QuartTrio,
    services: GatewayServices,
    limits: GatewayLimits | None = None,
    limiter: CommandLimiter | None = None,
) -> Gateway:
    """Add `/ws` to `app`."""
    gateway = Gateway(services, limits or GatewayLimits(), limiter)

    @app.websocket("/ws")
    async def serve_socket() -> Response | None:
        settings = services.settings
        if gateway.draining:
            return _problem(503, "unavailable", "The server is shutting down. Connect again in a moment.")
        origin, host = websocket.headers.get("Origin"), websocket.headers.get("Host")
        if not origin_allowed(origin, host=host, public_url=settings.public_url, allowed=settings.cors_origins):
            return _problem(
                403, "foreign_origin", "Pages of this origin may not connect. Add the origin to LAC_CORS_ORIGINS."
            )
        address = address_of(websocket, settings.trusted_proxies)
        await gateway.serve(websocket, websocket.scope.get("state", {}).get(STREAM_KEY), address)
        return None

    return gateway


def origin_allowed(origin: str | None, *, host: str | None, public_url: str | None, allowed: Iterable[str]) -> bool:
    """Whether a page of `origin` may open a socket: our own pages, those listed, and programs, which send none.

    Browsers let any page open a WebSocket anywhere, so the check is ours (RFC 6455 section 10.2)."""
    if origin is None:
        return True
    if any(entry == "*" or _same_origin(origin, entry) for entry in allowed):
        return True
    if public_url is not None and _same_origin(origin, public_url):
        return True
    return host is not None and _netloc(origin) == host.lower()


def _same_origin(a: str, b: str) -> bool:
    return urlsplit(a).scheme == urlsplit(b).scheme and _netloc(a) == _netloc(b) != ""


def _netloc(url: str) -> str:
    """Host and port as a browser writes them in `Host`: lower case, without the scheme's own port."""
    parts = urlsplit(url)
    default = {"http": ":80", "https": ":443"}.get(parts.scheme, ":")
    return parts.netloc.lower().removesuffix(default)


def _problem(status: int, code: str, detail: str) -> Response:
    body = {"type": "about:blank", "title": detail.split(".")[0], "status": status, "detail": detail, "code": code}
    return Response(json.dumps(body), status, content_type="application/problem+json")
