"""JSON of `/api/mediasoup`: the shapes that the mediasoup-client library posts and expects.

Requests tolerate unknown fields here, unlike elsewhere: the library's own types grow from release to release, and we
read only what we need. What we do read is bounded.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from lac_media.parameters import (
    AUDIO_LEVEL_EXTENSION_ID,
    AUDIO_LEVEL_URI,
    MID_EXTENSION_ID,
    MID_URI,
    OPUS_CLOCK_RATE_HZ,
    OPUS_PAYLOAD_TYPE,
    Direction,
    DtlsRole,
    Variant,
)

OPUS_MIME_TYPE = "audio/opus"
RED_MIME_TYPE = "audio/red"


class MediaRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of what media clients send; unknown fields are skipped."""


class MediaAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of what media clients get."""


Word = Annotated[str, Meta(max_length=128)]
PayloadType = Annotated[int, Meta(ge=0, le=127)]
Ssrc = Annotated[int, Meta(ge=0, le=0xFFFF_FFFF)]
ExtensionId = Annotated[int, Meta(ge=1, le=255)]


# --- requests ---------------------------------------------------------------------------------------------------------


class NewTransport(MediaRequest, frozen=True):
    """`send` publishes, `recv` listens."""

    direction: Direction


class FingerprintJson(MediaRequest, frozen=True):
    algorithm: Annotated[str, Meta(min_length=1, max_length=16)]
    value: Annotated[str, Meta(min_length=2, max_length=256)]


class DtlsParametersJson(MediaRequest, frozen=True):
    fingerprints: Annotated[list[FingerprintJson], Meta(min_length=1, max_length=16)]
    role: DtlsRole = DtlsRole.AUTO


class Connect(MediaRequest, frozen=True):
    dtls_parameters: DtlsParametersJson


class RtcpFeedbackJson(MediaRequest, frozen=True):
    type: Word
    parameter: Word | None = ""


class CodecJson(MediaRequest, frozen=True):
    mime_type: Word
    payload_type: PayloadType
    clock_rate: int
    channels: int | None = None
    rtcp_feedback: Annotated[list[RtcpFeedbackJson], Meta(max_length=32)] = msgspec.field(default_factory=list)


class HeaderExtensionJson(MediaRequest, frozen=True):
    uri: Word
    id: ExtensionId


class EncodingJson(MediaRequest, frozen=True):
    ssrc: Ssrc | None = None
    codec_payload_type: PayloadType | None = None


class RtcpParametersJson(MediaRequest, frozen=True):
    reduced_size: bool = False


class RtpParametersJson(MediaRequest, frozen=True):
    codecs: Annotated[list[CodecJson], Meta(min_length=1, max_length=64)]
    mid: Annotated[str, Meta(max_length=16)] | None = None
    header_extensions: Annotated[list[HeaderExtensionJson], Meta(max_length=32)] = msgspec.field(default_factory=list)
    encodings: Annotated[list[EncodingJson], Meta(max_length=8)] = msgspec.field(default_factory=list)
    rtcp: RtcpParametersJson = RtcpParametersJson()


class Produce(MediaRequest, frozen=True):
    kind: Annotated[str, Meta(max_length=16)]
    rtp_parameters: RtpParametersJson


class CodecCapabilityJson(MediaRequest, frozen=True):
    mime_type: Word
    clock_rate: int


class ExtensionCapabilityJson(MediaRequest, frozen=True):
    uri: Word


class RtpCapabilitiesJson(MediaRequest, frozen=True):
    codecs: Annotated[list[CodecCapabilityJson], Meta(max_length=128)]
    header_extensions: Annotated[list[ExtensionCapabilityJson], Meta(max_length=128)] = msgspec.field(
        default_factory=list
    )


class AskedVariant(StrEnum):
    """What listeners may ask for; the server adds redundancy (`opus+red`, `opus+again`) to `opus` by itself where
    that helps."""

    OPUS = Variant.OPUS
    OPUS3 = Variant.OPUS3


class Consume(MediaRequest, frozen=True):
    """Without `producerId`: the program, which is what listeners want. With it: one speaker, for those on stage.

    `variant`, for the program: `opus` is the least delay; `opus3` puts 60 ms into each packet, which saves two packets
    of three (about 2 kB/s) for 40 ms of delay. The sound is the same, bit for bit.
    """

    rtp_capabilities: RtpCapabilitiesJson
    producer_id: Annotated[str, Meta(max_length=64)] | None = None
    variant: AskedVariant = AskedVariant.OPUS


class WhepQuery(MediaRequest, frozen=True):
    """`variant`: as in `Consume`. Players may have parameters of their own."""

    variant: AskedVariant = AskedVariant.OPUS


# --- answers ----------------------------------------------------------------------------------------------------------


class RtcpFeedback(MediaAnswer, frozen=True):
    type: str
    parameter: str = ""


class CodecCapability(MediaAnswer, frozen=True):
    kind: Literal["audio"]
    mime_type: str
    clock_rate: int
    channels: int
    preferred_payload_type: int
    parameters: dict[str, int]
    rtcp_feedback: list[RtcpFeedback]


class ExtensionCapability(MediaAnswer, frozen=True):
    kind: Literal["audio"]
    uri: str
    preferred_id: int
    preferred_encrypt: bool
    direction: Literal["sendrecv"]


class RtpCapabilities(MediaAnswer, frozen=True):
    codecs: list[CodecCapability]
    header_extensions: list[ExtensionCapability]


class RouterCapabilities(MediaAnswer, frozen=True):
    """What `Device.load({routerRtpCapabilities})` takes."""

    rtp_capabilities: RtpCapabilities


class IceParametersAnswer(MediaAnswer, frozen=True):
    username_fragment: str
    password: str
    ice_lite: bool = True


class IceCandidateAnswer(MediaAnswer, frozen=True):
    """`ip` is what older clients read, `address` what newer ones do."""

    foundation: str
    priority: int
    ip: str
    address: str
    protocol: str
    port: int
    type: str
    tcp_type: str | msgspec.UnsetType = msgspec.UNSET


class FingerprintAnswer(MediaAnswer, frozen=True):
    algorithm: str
    value: str


class DtlsParametersAnswer(MediaAnswer, frozen=True):
    role: DtlsRole
    fingerprints: list[FingerprintAnswer]


class TransportAnswer(MediaAnswer, frozen=True):
    """What `device.createSendTransport` and `createRecvTransport` take, whole."""

    id: str
    ice_parameters: IceParametersAnswer
    ice_candidates: list[IceCandidateAnswer]
    dtls_parameters: DtlsParametersAnswer


class RestartedIce(MediaAnswer, frozen=True):
    ice_parameters: IceParametersAnswer


class ProducerAnswer(MediaAnswer, frozen=True):
    id: str


class CodecParameters(MediaAnswer, frozen=True):
    mime_type: str
    payload_type: int
    clock_rate: int
    channels: int
    parameters: dict[str, int]
    rtcp_feedback: list[RtcpFeedback]


class ExtensionParameters(MediaAnswer, frozen=True):
    uri: str
    id: int
    encrypt: bool
    parameters: dict[str, int]


class Encoding(MediaAnswer, frozen=True):
    ssrc: int


class RtcpParameters(MediaAnswer, frozen=True):
    cname: str
    reduced_size: bool
    mux: bool


class RtpParameters(MediaAnswer, frozen=True):
    codecs: list[CodecParameters]
    header_extensions: list[ExtensionParameters]
    encodings: list[Encoding]
    rtcp: RtcpParameters


class ConsumerAnswer(MediaAnswer, frozen=True):
    """What `transport.consume` takes."""

    id: str
    producer_id: str
    kind: Literal["audio"]
    rtp_parameters: RtpParameters


class StatsAnswer(MediaAnswer, frozen=True):
    """Seen from the server. `loss` is a ratio of the last interval; times in seconds; null where the client has not
    reported. `packetsRepairedIn` came after all: again when we had asked, or as redundant copies (RED). `variant` is
    how the program is sent: `opus`, `opus+red`, `opus+again` or `opus3`; null while it is not."""

    state: str
    srtp_profile: str | None
    packets_in: int
    packets_lost_in: int
    packets_repaired_in: int
    jitter_in_s: float
    loss: float | None
    packets_lost_out: int | None
    jitter_out_s: float | None
    round_trip_s: float | None
    retransmitted: int
    bad_packets: int
    variant: Variant | None


# --- what we are ------------------------------------------------------------------------------------------------------

_OPUS_PARAMETERS = {"useinbandfec": 1, "usedtx": 0, "minptime": 10}
#: Generic NACK (RFC 4585 section 6.2.1). No transport-cc: with it browsers probe an audio-only connection needlessly.
_OPUS_FEEDBACK = [RtcpFeedback(type="nack")]


class ListenAddresses(MediaAnswer, frozen=True):
    """Paths on this server, for radios and players."""

    ogg: str
    mp3: str
    aac: str


ROUTER_CAPABILITIES = RouterCapabilities(
    rtp_capabilities=RtpCapabilities(
        codecs=[
            CodecCapability(
                kind="audio",
                mime_type=OPUS_MIME_TYPE,
                clock_rate=OPUS_CLOCK_RATE_HZ,
                channels=2,
                preferred_payload_type=OPUS_PAYLOAD_TYPE,
                parameters=_OPUS_PARAMETERS,
                rtcp_feedback=_OPUS_FEEDBACK,
            )
        ],
        header_extensions=[
            ExtensionCapability(
                kind="audio", uri=uri, preferred_id=preferred_id, preferred_encrypt=False, direction="sendrecv"
            )
            for uri, preferred_id in ((MID_URI, MID_EXTENSION_ID), (AUDIO_LEVEL_URI, AUDIO_LEVEL_EXTENSION_ID))
        ],
    )
)

#: Of the program and of single speakers. It may be stereo at any time; who is not told so decodes it to one channel
#: (RFC 7587 section 6.1), as mediasoup-client has browsers do.
PROGRAM_CODEC = CodecParameters(
    mime_type=OPUS_MIME_TYPE,
    payload_type=OPUS_PAYLOAD_TYPE,
    clock_rate=OPUS_CLOCK_RATE_HZ,
    channels=2,
    parameters={**_OPUS_PARAMETERS, "sprop-stereo": 1},
    rtcp_feedback=_OPUS_FEEDBACK,
)
