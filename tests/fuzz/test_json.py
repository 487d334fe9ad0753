"""What media clients post, from bytes to the parameters of a session."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given

from lac_media.errors import LocalProtocolError, UnsupportedMediaError
from lac_media.parameters import DtlsParameters, Fingerprint
from lac_media.proto.rtp import RtpPacket
from lac_media.rooms.fanout import encode_for
from lac_media.rooms.program import ProgramPacket
from lac_web.api.mediasoup import consumer_parameters, producer_parameters
from lac_web.schemas_media import Connect, Consume, NewTransport, Produce
from tests.fakes.link import make_link
from tests.fuzz import samples
from tests.fuzz.budget import fast, slow
from tests.fuzz.mutation import damaged_json
from tests.web.test_api_media import CONNECT, CONSUME, PRODUCE

PACKET = ProgramPacket(1, 960, 960, False, b"\xf8\xff\xfe", 127, 0.0)


def decode(data: bytes, kind: type[Any]) -> Any:
    """As the web layer does; None for what it answers with 400 or 422."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return None


@fast
@given(damaged_json([{"direction": "send"}, {"direction": "recv"}]))
def test_new_transports(data: bytes) -> None:
    decode(data, NewTransport)


@slow
@given(damaged_json([CONNECT]))
def test_dtls_parameters(data: bytes) -> None:
    request = decode(data, Connect)
    if request is None:
        return
    remote = request.dtls_parameters
    core = make_link(connect_server=False).server
    fingerprints = tuple(Fingerprint(item.algorithm.lower(), item.value.upper()) for item in remote.fingerprints)
    try:
        core.connect(DtlsParameters(remote.role, fingerprints), now=1000.0)
    except (LocalProtocolError, UnsupportedMediaError):
        assert core.timer_at() > 1000.0


@slow
@given(damaged_json([PRODUCE]))
def test_producers(data: bytes) -> None:
    request = decode(data, Produce)
    if request is None:
        return
    try:
        parameters = producer_parameters(request.rtp_parameters)
    except UnsupportedMediaError:
        return
    link = samples.connected(make_link())
    link.server.expect_stream(parameters)
    for sequence in (1, 3):
        packet = RtpPacket(parameters.payload_type, sequence, sequence * 960, parameters.ssrc or 2, payload=b"\xf8")
        link.client.send_rtp(packet, now=link.now)
        link.run_for(0.1)


@fast
@given(damaged_json([CONSUME]))
def test_consumers(data: bytes) -> None:
    request = decode(data, Consume)
    if request is None:
        return
    try:
        parameters = consumer_parameters(request.rtp_capabilities)
    except UnsupportedMediaError:
        return
    assert len(encode_for(parameters, PACKET, 7)) >= 15
