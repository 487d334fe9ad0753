"""Media signalling in the JSON of the mediasoup-client library. A transport there is a media session here."""

from __future__ import annotations

import dataclasses

from quart import Blueprint
from quart_schema import tag_blueprint

from lac.errors import ConflictError, FieldError, InvalidInputError, NotFoundError
from lac.identity import Identity
from lac_media.errors import UnknownConsumerError, UnknownProducerError, UnsupportedMediaError
from lac_media.parameters import (
    AUDIO_LEVEL_EXTENSION_ID,
    AUDIO_LEVEL_URI,
    MID_URI,
    OPUS_CLOCK_RATE_HZ,
    OPUS_PAYLOAD_TYPE,
    ConsumerParameters,
    DtlsParameters,
    DtlsRole,
    Fingerprint,
    IceCandidate,
    IceParameters,
    ProducerParameters,
)
from lac_media.rooms.session import PROGRAM_ID, Session
from lac_web.api.endpoint import endpoint
from lac_web.schemas_media import (
    OPUS_MIME_TYPE,
    PROGRAM_CODEC,
    RED_MIME_TYPE,
    ROUTER_CAPABILITIES,
    AskedVariant,
    CodecJson,
    Connect,
    Consume,
    ConsumerAnswer,
    DtlsParametersAnswer,
    Encoding,
    ExtensionParameters,
    FingerprintAnswer,
    IceCandidateAnswer,
    IceParametersAnswer,
    NewTransport,
    Produce,
    ProducerAnswer,
    RestartedIce,
    RouterCapabilities,
    RtcpParameters,
    RtpCapabilitiesJson,
    RtpParameters,
    RtpParametersJson,
    StatsAnswer,
    TransportAnswer,
)
from lac_web.security import Access, owned_session, request_address
from lac_web.services import current_services

blueprint = Blueprint("mediasoup", __name__)
tag_blueprint(blueprint, ["media"])


# --- translation: pure ------------------------------------------------------------------------------------------------


def _is(wanted: str, mime_type: str, clock_rate: int) -> bool:
    return mime_type.lower() == wanted and clock_rate == OPUS_CLOCK_RATE_HZ


def _is_opus(mime_type: str, clock_rate: int) -> bool:
    return _is(OPUS_MIME_TYPE, mime_type, clock_rate)


def _opus_codec(rtp: RtpParametersJson) -> CodecJson:
    """The Opus codec that is sent; where the first encoding names a payload type, the codec with that one."""
    codecs = [codec for codec in rtp.codecs if _is_opus(codec.mime_type, codec.clock_rate)]
    if not codecs:
        raise UnsupportedMediaError("This server takes Opus audio: add audio/opus at 48000 Hz to rtpParameters.codecs.")
    wanted = rtp.encodings[0].codec_payload_type if rtp.encodings else None
    return next((codec for codec in codecs if codec.payload_type == wanted), codecs[0])


def _red_payload_type(rtp: RtpParametersJson) -> int | None:
    """Of RED beside Opus (RFC 2198). mediasoup-client itself cannot carry it; our web client adds it."""
    numbers = (codec.payload_type for codec in rtp.codecs if _is(RED_MIME_TYPE, codec.mime_type, codec.clock_rate))
    return next(numbers, None)


def producer_parameters(rtp: RtpParametersJson) -> ProducerParameters:
    codec = _opus_codec(rtp)
    extension_ids = {extension.uri: extension.id for extension in rtp.header_extensions}
    return ProducerParameters(
        payload_type=codec.payload_type,
        ssrc=rtp.encodings[0].ssrc if rtp.encodings else None,
        mid=rtp.mid,
        mid_extension_id=extension_ids.get(MID_URI),
        audio_level_extension_id=extension_ids.get(AUDIO_LEVEL_URI),
        channels=codec.channels or 1,
        nack=any(feedback.type == "nack" and not feedback.parameter for feedback in codec.rtcp_feedback),
        red_payload_type=_red_payload_type(rtp),
        reduced_size_rtcp=rtp.rtcp.reduced_size,
    )


def consumer_parameters(
    capabilities: RtpCapabilitiesJson, variant: AskedVariant = AskedVariant.OPUS
) -> ConsumerParameters:
    """Our own payload type and extension ids: the library maps to the router's numbers on its side."""
    if not any(_is_opus(codec.mime_type, codec.clock_rate) for codec in capabilities.codecs):
        raise UnsupportedMediaError("The program is Opus audio, which rtpCapabilities.codecs does not list.")
    takes_level = any(extension.uri == AUDIO_LEVEL_URI for extension in capabilities.header_extensions)
    return ConsumerParameters(
        payload_type=OPUS_PAYLOAD_TYPE,
        audio_level_extension_id=AUDIO_LEVEL_EXTENSION_ID if takes_level else None,
        nack=True,  # as `PROGRAM_CODEC` says
        economy=variant is AskedVariant.OPUS3,
    )


def _ice_parameters(ice: IceParameters) -> IceParametersAnswer:
    return IceParametersAnswer(username_fragment=ice.username_fragment, password=ice.password)


def _ice_candidate(candidate: IceCandidate) -> IceCandidateAnswer:
    answer = {"tcp_type": "passive"} if candidate.protocol == "tcp" else {}
    return IceCandidateAnswer(
        foundation=candidate.foundation,
        priority=candidate.priority,
        ip=candidate.ip,
        address=candidate.ip,
        protocol=candidate.protocol,
        port=candidate.port,
        type=candidate.type,
        **answer,
    )


def _rtp_parameters(parameters: ConsumerParameters, ssrc: int, cname: str) -> RtpParameters:
    level_id = parameters.audio_level_extension_id
    extensions = []
    if level_id is not None:
        extensions.append(ExtensionParameters(uri=AUDIO_LEVEL_URI, id=level_id, encrypt=False, parameters={}))
    return RtpParameters(
        codecs=[PROGRAM_CODEC],
        header_extensions=extensions,
        encodings=[Encoding(ssrc=ssrc)],
        rtcp=RtcpParameters(cname=cname, reduced_size=True, mux=True),
    )


# --- routes -----------------------------------------------------------------------------------------------------------


@blueprint.get("/api/mediasoup/<broadcast_id>/rtp-capabilities")
@endpoint(Access.OPTIONAL, returns=RouterCapabilities)
async def rtp_capabilities(identity: Identity | None, broadcast_id: str) -> RouterCapabilities:
    """What the server speaks: for `Device.load`."""
    await current_services().broadcasts.get(identity, broadcast_id)
    return ROUTER_CAPABILITIES


@blueprint.post("/api/mediasoup/<broadcast_id>/transports")
@endpoint(Access.OPTIONAL, takes=NewTransport, returns=TransportAnswer, status=201)
async def open_transport(
    identity: Identity | None, broadcast_id: str, data: NewTransport
) -> tuple[TransportAnswer, dict[str, str]]:
    """Open a transport, to publish or to listen.

    Without a token (public broadcasts, listening) the transport's id is the only key to it: keep it to yourself.
    """
    services = current_services()
    session = await services.on_air.media.open_session(
        identity, broadcast_id, data.direction, "mediasoup", address=request_address()
    )
    answer = TransportAnswer(
        id=session.id,
        ice_parameters=_ice_parameters(session.ice_parameters),
        ice_candidates=[_ice_candidate(candidate) for candidate in services.engine.candidates],
        # "auto" is the truth: whichever role the client takes, we take the other. mediasoup-client then becomes the
        # DTLS client; pymediasoup insists on being the server when it publishes, and may.
        dtls_parameters=DtlsParametersAnswer(
            role=DtlsRole.AUTO,
            fingerprints=[
                FingerprintAnswer(algorithm=item.algorithm, value=item.value) for item in services.engine.fingerprints
            ],
        ),
    )
    return answer, {"Location": f"/api/mediasoup/transports/{session.id}"}


@blueprint.post("/api/mediasoup/transports/<transport_id>/connect")
@endpoint(Access.OPTIONAL, takes=Connect, status=204)
async def connect_transport(identity: Identity | None, transport_id: str, data: Connect) -> None:
    """Tell the client's DTLS role and certificate fingerprints. Once per transport."""
    session = owned_session(current_services(), identity, transport_id)
    remote = data.dtls_parameters
    fingerprints = tuple(Fingerprint(item.algorithm.lower(), item.value.upper()) for item in remote.fingerprints)
    session.connect(DtlsParameters(role=remote.role, fingerprints=fingerprints))


@blueprint.post("/api/mediasoup/transports/<transport_id>/produce")
@endpoint(Access.OPTIONAL, takes=Produce, returns=ProducerAnswer, status=201)
async def produce(identity: Identity | None, transport_id: str, data: Produce) -> ProducerAnswer:
    """Publish audio on a `send` transport."""
    session = owned_session(current_services(), identity, transport_id)
    if data.kind != "audio":
        raise InvalidInputError(
            "Only audio can be sent here.", FieldError("kind", "Expected audio."), code="audio_only"
        )
    return ProducerAnswer(id=session.produce(producer_parameters(data.rtp_parameters)))


@blueprint.post("/api/mediasoup/transports/<transport_id>/consume")
@endpoint(Access.OPTIONAL, takes=Consume, returns=ConsumerAnswer, status=201)
async def consume(identity: Identity | None, transport_id: str, data: Consume) -> ConsumerAnswer:
    """Listen on a `recv` transport: to the program or, on stage, to one of the other speakers (`producerId`).

    One transport takes several. Those of a speaker end by themselves when the speaker leaves the stage.
    """
    services = current_services()
    session = owned_session(services, identity, transport_id)
    parameters = consumer_parameters(data.rtp_capabilities, data.variant)
    producer_id = data.producer_id or PROGRAM_ID
    if producer_id != PROGRAM_ID:
        if parameters.economy:
            raise InvalidInputError(
                "Only the program can be had as opus3; a single speaker is sent as it comes.",
                FieldError("variant", "Only the program can be had as opus3."),
                code="variant_of_program_only",
            )
        services.on_air.media.check_may_hear_speakers(session)
        _check_producer(session, producer_id)
    consumer = session.consume(parameters, producer_id)
    return ConsumerAnswer(
        id=consumer.id,
        producer_id=consumer.producer_id,
        kind="audio",
        rtp_parameters=_rtp_parameters(parameters, consumer.ssrc, consumer.cname),
    )


def _check_producer(session: Session, producer_id: str) -> None:
    try:
        speaker = session.room.speaker(producer_id)
    except UnknownProducerError:
        raise NotFoundError("This speaker has left the stage.", code="producer_not_found") from None
    if speaker.owner == session.owner:
        raise ConflictError("This is your own audio: nobody is sent that.", code="own_producer")


@blueprint.delete("/api/mediasoup/transports/<transport_id>/consumers/<consumer_id>")
@endpoint(Access.OPTIONAL, status=204)
async def close_consumer(identity: Identity | None, transport_id: str, consumer_id: str) -> None:
    """Stop receiving one of them; the transport stays."""
    session = owned_session(current_services(), identity, transport_id)
    try:
        session.close_consumer(consumer_id)
    except UnknownConsumerError:
        raise NotFoundError("This transport has no such consumer (any more).", code="consumer_not_found") from None


@blueprint.post("/api/mediasoup/transports/<transport_id>/restart-ice")
@endpoint(Access.OPTIONAL, returns=RestartedIce)
async def restart_ice(identity: Identity | None, transport_id: str) -> RestartedIce:
    """New ICE credentials, after a change of network. The old ones end."""
    session = owned_session(current_services(), identity, transport_id)
    return RestartedIce(ice_parameters=_ice_parameters(session.restart_ice()))


@blueprint.delete("/api/mediasoup/transports/<transport_id>")
@endpoint(Access.OPTIONAL, status=204)
async def close_transport(identity: Identity | None, transport_id: str) -> None:
    """Hang up."""
    owned_session(current_services(), identity, transport_id).close("left")


@blueprint.get("/api/mediasoup/transports/<transport_id>/stats")
@endpoint(Access.OPTIONAL, returns=StatsAnswer)
async def transport_stats(identity: Identity | None, transport_id: str) -> StatsAnswer:
    """How it goes."""
    session = owned_session(current_services(), identity, transport_id)
    return StatsAnswer(**dataclasses.asdict(session.stats()))
