"""One id for each request and socket: in every line that is logged for it, and in the answer.

People can name it when something went wrong, and the operator finds the lines. With it goes the broadcast, where the
address names one; ids of media sessions, which are keys to them, do not.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence

import structlog
from quart import Quart, Request, Response, Websocket, g, request, websocket

from lac.config import Settings
from lac_web.client_address import HasScope, Network, is_from_proxy

HEADER = "X-Request-Id"
_ID = re.compile(r"[A-Za-z0-9_.:-]{8,64}")


def request_id_of(connection: HasScope, presented: str | None, trusted: Sequence[Network]) -> str:
    """A trusted proxy's own id, so that its log and ours say the same; otherwise a new one."""
    if presented is not None and is_from_proxy(connection, trusted) and _ID.fullmatch(presented):
        return presented
    return secrets.token_hex(8)


def register_request_ids(app: Quart, settings: Settings) -> None:
    """Before anything else that looks at requests, so that whatever it logs has the id."""

    def bind(connection: Request | Websocket) -> str:
        request_id = request_id_of(connection, connection.headers.get(HEADER), settings.trusted_proxies)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        broadcast_id = (connection.view_args or {}).get("broadcast_id")
        if broadcast_id is not None:
            structlog.contextvars.bind_contextvars(broadcast_id=broadcast_id)
        return request_id

    async def begin_request() -> None:
        g.lac_request_id = bind(request._get_current_object())  # type: ignore[attr-defined]  # the proxy's own

    async def begin_websocket() -> None:
        bind(websocket._get_current_object())  # type: ignore[attr-defined]  # the proxy's own

    async def name(response: Response) -> Response:
        request_id = g.get("lac_request_id")
        if request_id is not None:
            response.headers[HEADER] = request_id
        return response

    app.before_request(begin_request)
    app.before_websocket(begin_websocket)
    app.after_request(name)
