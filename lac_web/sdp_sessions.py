"""What WHIP (RFC 9725) and WHEP have in common: one SDP offer over HTTP, one answer, one session resource.

We are the ICE-lite side on a fixed address. Trickled candidates tell us nothing that we would use: they are checked
and acknowledged. The entity tag names the ICE session (RFC 9725 section 4.3.1): it is our present ufrag.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from quart import Response, request
from werkzeug.exceptions import BadRequest, PreconditionFailed, PreconditionRequired, UnsupportedMediaType

from lac_media.errors import ParseError
from lac_media.proto.sdp import AnswerParameters, Offer, build_answer, parse_offer_untrusted
from lac_media.proto.sdpfrag import SdpFragment, build_sdpfrag, parse_sdpfrag_untrusted
from lac_media.rooms.session import ConsumerInfo, Session
from lac_web.errors import SDP_TYPE
from lac_web.security import SDP_BODY_MAX, read_body
from lac_web.services import Services

TRICKLE_TYPE = "application/trickle-ice-sdpfrag"
CREATED = 201


def entity_tag(session: Session) -> str:
    """Opaque part of the tag. ICE characters need no escaping in it (RFC 8839 section 5.4, RFC 9110 section 8.8.3)."""
    return session.ice_parameters.username_fragment


async def _read_text(content_type: str) -> str:
    if request.mimetype != content_type:
        raise UnsupportedMediaType(f"Send the body as {content_type}.")
    try:
        return (await read_body(SDP_BODY_MAX)).decode()
    except UnicodeDecodeError as error:
        raise ParseError(f"byte {error.start} is not UTF-8") from None


async def receive_offer() -> Offer:
    """The request's offer. Raises ParseError with the parser's reason, or 413 or 415."""
    return parse_offer_untrusted(await _read_text(SDP_TYPE))


def answer(services: Services, session: Session, offer: Offer, consumer: ConsumerInfo | None = None) -> str:
    """The answer to `offer`; `consumer` where we send."""
    return build_answer(
        offer,
        AnswerParameters(
            ice=session.ice_parameters,
            candidates=services.engine.candidates,
            fingerprints=services.engine.fingerprints,
            direction=session.direction,
            ssrc=None if consumer is None else consumer.ssrc,
            cname=None if consumer is None else consumer.cname,
            economy=consumer is not None and consumer.parameters.economy,
            session_id=secrets.randbits(62),
        ),
    )


@contextmanager
def closed_on_error(session: Session) -> Iterator[None]:
    """A session whose set-up fails half way must not wait for its time-out."""
    try:
        yield
    except BaseException:
        session.close("failed")
        raise


def created(session: Session, answer: str, location: str) -> Response:
    """RFC 9725 section 4.2: the answer, where its session is, which ICE session that is, what PATCH takes."""
    response = Response(answer, status=CREATED, content_type=SDP_TYPE)
    response.headers["Location"] = location
    response.headers["Accept-Patch"] = TRICKLE_TYPE
    response.set_etag(entity_tag(session))
    return response


async def patch_session(services: Services, session: Session) -> Response:
    """Trickle ICE, or an ICE restart.

    RFC 9725 section 4.3: a trickle request carries the present entity tag in If-Match (428 without, 412 with another),
    a restart carries "*" and is answered with our new credentials and their tag.
    """
    text = await _read_text(TRICKLE_TYPE)
    if "If-Match" not in request.headers:
        raise PreconditionRequired('Send If-Match: the session\'s ETag to trickle, or "*" to restart ICE.')
    fragment = parse_sdpfrag_untrusted(text)
    if request.if_match.star_tag:
        if fragment.ice is None:
            raise BadRequest("An ICE restart carries a=ice-ufrag and a=ice-pwd.")
        ours = SdpFragment(
            ice=session.restart_ice(),
            candidates=services.engine.candidates,
            end_of_candidates=True,
            mid=fragment.mid,
        )
        response = Response(build_sdpfrag(ours), content_type=TRICKLE_TYPE)
        response.set_etag(entity_tag(session))
        return response
    # `contains` compares strongly, as If-Match must (RFC 9110 section 13.1.1).
    if not request.if_match.contains(entity_tag(session)):
        raise PreconditionFailed("The ICE session has changed since: this entity tag is not its present one.")
    return _empty(204)


def delete_session(session: Session) -> Response:
    session.close("left")
    return _empty(200)


def options(allow: str, **headers: str) -> Response:
    response = _empty(204)
    response.headers["Allow"] = allow
    for name, value in headers.items():
        response.headers[name.replace("_", "-")] = value
    return response


def endpoint_options() -> Response:
    return options("POST, OPTIONS", Accept_Post=SDP_TYPE)


def session_options() -> Response:
    return options("PATCH, DELETE, OPTIONS", Accept_Patch=TRICKLE_TYPE)


def _empty(status: int) -> Response:
    response = Response(b"", status=status)
    del response.headers["Content-Type"]
    return response
