"""Is the process up, and can it serve? For supervisors and load balancers."""

from __future__ import annotations

import trio
from quart import Blueprint
from quart_schema import tag_blueprint

from lac.errors import UnavailableError
from lac_web.api.endpoint import endpoint
from lac_web.schemas import Health
from lac_web.security import Access
from lac_web.services import current_services

blueprint = Blueprint("system", __name__)
tag_blueprint(blueprint, ["server"])

READY_TIMEOUT_S = 2.0


@blueprint.get("/health")
@endpoint(Access.ANYONE, returns=Health)
async def health() -> Health:
    """The process runs and answers."""
    return Health(status="ok")


@blueprint.get("/ready")
@endpoint(Access.ANYONE, returns=Health)
async def ready() -> Health:
    """It can take work: its database answers. 503 otherwise."""
    with trio.move_on_after(READY_TIMEOUT_S) as scope:
        await current_services().db.ping()
    if scope.cancelled_caught:
        raise UnavailableError("The database does not answer.", code="database_unavailable")
    return Health(status="ready")
