"""Is the process up, and can it serve? For supervisors and load balancers."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import trio
from quart import Blueprint, Response, current_app, request
from quart_schema import tag_blueprint

from lac.db.readiness import require_usable
from lac.errors import UnavailableError
from lac_web.api.endpoint import access, endpoint
from lac_web.metrics import CONTENT_TYPE, check_may_read_metrics
from lac_web.schemas import Health, Ready
from lac_web.security import Access, bearer_token
from lac_web.services import current_services

if TYPE_CHECKING:
    from lac_web.app import WebApp

blueprint = Blueprint("system", __name__)
tag_blueprint(blueprint, ["server"])

READY_TIMEOUT_S = 2.0


@blueprint.get("/health")
@endpoint(Access.ANYONE, returns=Health)
async def health() -> Health:
    """The process runs and answers."""
    return Health(status="ok")


@blueprint.get("/ready")
@endpoint(Access.ANYONE, returns=Ready)
async def ready() -> Ready:
    """It can take work: the database answers and has the schema of this version, the media socket is open, and it is
    not shutting down. 503 with a code that says which of them is not so.
    """
    app, services = cast("WebApp", current_app), current_services()
    if app.draining:
        raise UnavailableError("The server is shutting down.", code="shutting_down")
    if not services.engine.is_bound:
        raise UnavailableError("The media socket is closed.", code="media_unavailable")
    with trio.move_on_after(READY_TIMEOUT_S) as scope:
        await require_usable(services.db)
    if scope.cancelled_caught:
        raise UnavailableError("The database does not answer.", code="database_unavailable")
    return Ready(status="ready", database="ok", migrations="ok", media="ok")


@blueprint.get("/metrics")
@access(Access.ANYONE, status=200, returns_text="text/plain")
async def metrics() -> Response:
    """Counters and gauges for Prometheus.

    For this machine only or, where LAC_METRICS_TOKEN is set, for whoever presents it as the bearer token.
    """
    check_may_read_metrics(request, current_services().settings.metrics_token, bearer_token())
    return Response(cast("WebApp", current_app).metrics.render(), content_type=CONTENT_TYPE)
