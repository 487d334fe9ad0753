"""WHIP (RFC 9725): any encoder publishes with one HTTP request.

The bearer is the host's access token, or the broadcast's stream key, which is what one types into OBS.
"""

from __future__ import annotations

from quart import Blueprint, Response
from quart_schema import tag_blueprint

from lac.errors import NotSignedInError
from lac.identity import Identity
from lac_media.parameters import Direction
from lac_media.rooms.session import Session
from lac_web import sdp_sessions
from lac_web.api.endpoint import access
from lac_web.errors import SDP_TYPE
from lac_web.rate_limits import account_limit
from lac_web.security import Access, bearer_token, owned_session, request_address
from lac_web.services import Services, current_services

blueprint = Blueprint("whip", __name__)
tag_blueprint(blueprint, ["whip"])


async def _identify_publisher(services: Services, broadcast_id: str) -> Identity:
    token = bearer_token()
    if token is None:
        raise NotSignedInError("Publishing needs a bearer token: the broadcast's stream key, or your access token.")
    if token.count(".") == 2:  # a JWT; stream keys have no dots
        return await services.auth.identify(token)
    return await services.broadcasts.identify_stream_key(broadcast_id, token)


async def _own_session(services: Services, broadcast_id: str, session_id: str) -> Session:
    """RFC 9725 section 4.5: the bearer comes with every request to the session, too."""
    identity = await _identify_publisher(services, broadcast_id)
    return owned_session(services, identity, session_id, Direction.SEND, broadcast_id)


@blueprint.post("/whip/<broadcast_id>", provide_automatic_options=False)
@access(Access.IDENTITY, status=201, takes_text=SDP_TYPE, returns_text=SDP_TYPE)
async def whip_publish(broadcast_id: str) -> Response:
    """Publish: SDP offer in, SDP answer out.

    PATCH (trickle, ICE restart) and DELETE go to the address in Location.
    """
    services = current_services()
    identity = await _identify_publisher(services, broadcast_id)
    offer = await sdp_sessions.receive_offer()
    parameters = offer.producer_parameters()
    remote = offer.dtls_parameters()
    with account_limit(identity):
        session = await services.on_air.media.open_session(
            identity, broadcast_id, Direction.SEND, "whip", address=request_address()
        )
    with sdp_sessions.closed_on_error(session):
        session.produce(parameters)
        session.connect(remote)
        answer = sdp_sessions.answer(services, session, offer)
    return sdp_sessions.created(session, answer, f"/whip/{broadcast_id}/{session.id}")


@blueprint.patch("/whip/<broadcast_id>/<session_id>", provide_automatic_options=False)
@access(Access.IDENTITY, status=204, takes_text=sdp_sessions.TRICKLE_TYPE)
async def whip_patch(broadcast_id: str, session_id: str) -> Response:
    """Trickle ICE candidates, or restart ICE."""
    services = current_services()
    return await sdp_sessions.patch_session(services, await _own_session(services, broadcast_id, session_id))


@blueprint.delete("/whip/<broadcast_id>/<session_id>", provide_automatic_options=False)
@access(Access.IDENTITY, status=200)
async def whip_delete(broadcast_id: str, session_id: str) -> Response:
    """Stop publishing."""
    services = current_services()
    return sdp_sessions.delete_session(await _own_session(services, broadcast_id, session_id))


@blueprint.route("/whip/<broadcast_id>", methods=["OPTIONS"])
@access(Access.ANYONE)
async def whip_options(broadcast_id: str) -> Response:
    return sdp_sessions.endpoint_options()


@blueprint.route("/whip/<broadcast_id>/<session_id>", methods=["OPTIONS"])
@access(Access.ANYONE)
async def whip_session_options(broadcast_id: str, session_id: str) -> Response:
    return sdp_sessions.session_options()
