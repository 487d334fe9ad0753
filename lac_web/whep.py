"""WHEP: any player listens with one HTTP request. Public broadcasts need no token."""

from __future__ import annotations

from quart import Blueprint, Response
from quart_schema import tag_blueprint

from lac_media.parameters import Direction
from lac_media.rooms.session import Session
from lac_web import sdp_sessions
from lac_web.api.endpoint import access, parse_query
from lac_web.errors import SDP_TYPE
from lac_web.rate_limits import account_limit
from lac_web.schemas_media import AskedVariant, WhepQuery
from lac_web.security import Access, identify, owned_session, request_address
from lac_web.services import Services, current_services

blueprint = Blueprint("whep", __name__)
tag_blueprint(blueprint, ["whep"])


async def _own_session(services: Services, broadcast_id: str, session_id: str) -> Session:
    identity = await identify(Access.OPTIONAL)
    return owned_session(services, identity, session_id, Direction.RECV, broadcast_id)


@blueprint.post("/whep/<broadcast_id>", provide_automatic_options=False)
@access(Access.OPTIONAL, status=201, query=WhepQuery, takes_text=SDP_TYPE, returns_text=SDP_TYPE)
async def whep_listen(broadcast_id: str) -> Response:
    """Listen: SDP offer in, SDP answer out.

    PATCH (trickle, ICE restart) and DELETE go to the address in Location. `variant=opus3` saves two packets of three,
    for 40 ms of delay; an offer with an `a=maxptime` below 60 cannot have it.
    """
    services = current_services()
    identity = await identify(Access.OPTIONAL)
    query = parse_query(WhepQuery)
    offer = await sdp_sessions.receive_offer()
    parameters = offer.consumer_parameters(economy=query.variant is AskedVariant.OPUS3)
    remote = offer.dtls_parameters()
    with account_limit(identity):
        session = await services.on_air.media.open_session(
            identity, broadcast_id, Direction.RECV, "whep", address=request_address()
        )
    with sdp_sessions.closed_on_error(session):
        consumer = session.consume(parameters)
        session.connect(remote)
        answer = sdp_sessions.answer(services, session, offer, consumer)
    return sdp_sessions.created(session, answer, f"/whep/{broadcast_id}/{session.id}")


@blueprint.patch("/whep/<broadcast_id>/<session_id>", provide_automatic_options=False)
@access(Access.OPTIONAL, status=204, takes_text=sdp_sessions.TRICKLE_TYPE)
async def whep_patch(broadcast_id: str, session_id: str) -> Response:
    """Trickle ICE candidates, or restart ICE."""
    services = current_services()
    return await sdp_sessions.patch_session(services, await _own_session(services, broadcast_id, session_id))


@blueprint.delete("/whep/<broadcast_id>/<session_id>", provide_automatic_options=False)
@access(Access.OPTIONAL, status=200)
async def whep_delete(broadcast_id: str, session_id: str) -> Response:
    """Stop listening."""
    services = current_services()
    return sdp_sessions.delete_session(await _own_session(services, broadcast_id, session_id))


@blueprint.route("/whep/<broadcast_id>", methods=["OPTIONS"])
@access(Access.ANYONE)
async def whep_options(broadcast_id: str) -> Response:
    return sdp_sessions.endpoint_options()


@blueprint.route("/whep/<broadcast_id>/<session_id>", methods=["OPTIONS"])
@access(Access.ANYONE)
async def whep_session_options(broadcast_id: str, session_id: str) -> Response:
    return sdp_sessions.session_options()
