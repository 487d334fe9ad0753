"""mediasoup-client's parameters to ours. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from lac_media.parameters import ConsumerParameters, ProducerParameters
from lac_web.api.mediasoup import consumer_parameters, producer_parameters
from lac_web.schemas_media import RtpCapabilitiesJson, RtpParametersJson
from tests.web.test_api_media import CONSUME, PRODUCE


def producer(**changes: Any) -> ProducerParameters:
    return producer_parameters(msgspec.convert({**PRODUCE["rtpParameters"], **changes}, RtpParametersJson))


def test_everything_that_a_browser_says_is_taken() -> None:
    assert producer() == ProducerParameters(
        payload_type=111,
        ssrc=3222388435,
        mid="0",
        mid_extension_id=4,
        audio_level_extension_id=1,
        channels=2,
        nack=True,
        reduced_size_rtcp=True,
    )


def test_what_is_left_out_is_unknown() -> None:
    codec = {"mimeType": "audio/OPUS", "payloadType": 96, "clockRate": 48000}
    bare = producer(codecs=[codec], headerExtensions=[], encodings=[{}], mid=None, rtcp={})
    assert bare == ProducerParameters(payload_type=96, channels=1)
    assert producer(codecs=[codec], encodings=[]).ssrc is None


def test_nack_for_pictures_is_not_nack() -> None:
    codec = {**PRODUCE["rtpParameters"]["codecs"][0], "rtcpFeedback": [{"type": "nack", "parameter": "pli"}]}
    assert producer(codecs=[codec]).nack is False


def test_red_beside_opus_is_taken() -> None:
    codecs = [
        {"mimeType": "audio/red", "payloadType": 63, "clockRate": 48000},
        {"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000},
    ]
    taken = producer(codecs=codecs, encodings=[{"codecPayloadType": 63}])
    assert (taken.payload_type, taken.red_payload_type) == (111, 63)
    assert producer(codecs=codecs[1:]).red_payload_type is None


def test_the_encoding_chooses_among_several_opus_codecs() -> None:
    codecs = [
        {"mimeType": "audio/telephone-event", "payloadType": 110, "clockRate": 48000},
        {"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000},
        {"mimeType": "audio/opus", "payloadType": 112, "clockRate": 48000},
    ]
    assert producer(codecs=codecs, encodings=[{"codecPayloadType": 112}]).payload_type == 112
    assert producer(codecs=codecs, encodings=[{}]).payload_type == 111
    assert producer(codecs=codecs, encodings=[{"codecPayloadType": 110}]).payload_type == 111


def test_listeners_get_the_level_extension_if_they_know_it() -> None:
    capabilities = msgspec.convert(CONSUME["rtpCapabilities"], RtpCapabilitiesJson)
    assert consumer_parameters(capabilities) == ConsumerParameters(payload_type=100, audio_level_extension_id=10)
    bare = msgspec.structs.replace(capabilities, header_extensions=[])
    assert consumer_parameters(bare).audio_level_extension_id is None
