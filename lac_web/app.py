"""The web application, assembled. It owns no task and no socket: `lac_web.server` serves it."""

from __future__ import annotations

from functools import partial
from types import TracebackType

import structlog
from quart import has_request_context, request
from quart.wrappers.base import BaseRequestWebsocket
from quart_trio import QuartTrio
from werkzeug.exceptions import BadHost
from werkzeug.routing import MapAdapter

from lac_web import hls, listen, source, whep, whip
from lac_web.api import auth, broadcasts, exports, mediasoup, moderation, people, podcasts, recordings, system
from lac_web.direct import Answers
from lac_web.errors import register_error_handlers
from lac_web.gateway.routes import Gateway, register_gateway
from lac_web.metrics import Metrics, register_metrics
from lac_web.openapi import register_openapi
from lac_web.rate_limits import RateLimiter, register_rate_limits
from lac_web.request_ids import register_request_ids
from lac_web.security import BODY_MAX, register_id_check, register_response_headers
from lac_web.services import Services, attach_services
from lac_web.static_site import load_site, register_static_site
from lac_web.streaming import StreamingHTTPConnection

log = structlog.get_logger(__name__)

ExcInfo = tuple[type, BaseException, TracebackType | None] | tuple[None, None, None]


class WebApp(QuartTrio):
    asgi_http_class = StreamingHTTPConnection
    #: The open WebSockets.
    gateway: Gateway
    metrics: Metrics
    #: What need not come through here: for `serve_http`.
    direct: Answers
    #: Set by whoever stops the server: /ready says so from then on.
    draining = False

    def create_url_adapter(self, request: BaseRequestWebsocket | None) -> MapAdapter | None:
        """Nothing here depends on the name in `Host`, so a name that cannot be one is no reason to fail."""
        try:
            return super().create_url_adapter(request)
        except (BadHost, UnicodeError):
            if request is None:
                raise
            return self.url_map.bind("localhost", request.root_path, None, request.scheme, request.method, request.path)

    def log_exception(self, exception_info: ExcInfo) -> None:
        """Once, by route and not by address: addresses of media sessions are keys to them."""
        rule = request.url_rule if has_request_context() else None
        route = "a WebSocket" if rule is None else f"{request.method} {rule.rule}"
        log.error("a handler failed", route=route, exc_info=exception_info)


def create_app(services: Services) -> WebApp:
    app = WebApp("lac_web", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = BODY_MAX
    app.config["PROPAGATE_EXCEPTIONS"] = False
    attach_services(app, services)
    register_openapi(app)
    register_error_handlers(app)
    register_request_ids(app, services.settings)
    limiter = RateLimiter(services.settings)
    app.metrics = Metrics(services, limiter)
    register_metrics(app, app.metrics)
    register_rate_limits(app, limiter)
    register_id_check(app)
    register_response_headers(app, services.settings)
    api = (auth, broadcasts, recordings, exports, podcasts, moderation, people, mediasoup, system)
    for module in (*api, whip, whep, hls, listen, source):
        app.register_blueprint(module.blueprint)
    register_static_site(app, load_site())
    app.direct = hls.HlsAnswers(services, partial(app.metrics.count_request, "GET"))
    app.gateway = app.metrics.gateway = register_gateway(app, services, limiter=limiter)
    return app
