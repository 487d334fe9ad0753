"""Each parser alone: it takes what it is given or raises the one exception that it declares, and what it has taken
makes sense."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from lac_media.errors import LocalProtocolError, ParseError
from lac_media.parameters import Direction, Fingerprint, IceCandidate, IceParameters
from lac_media.proto.demux import PacketKind, classify
from lac_media.proto.dtls_records import is_plausible, split_records_untrusted
from lac_media.proto.framing import MAX_FRAME, FrameParser, encode_frame
from lac_media.proto.opus import duration_ticks_untrusted, is_dtx, parse_opus_untrusted
from lac_media.proto.opus_join import OpusJoiner
from lac_media.proto.red import build_red, parse_red_untrusted
from lac_media.proto.rtcp import MAX_LOST, Nack, encode_rtcp, parse_rtcp_untrusted
from lac_media.proto.rtp import (
    encode_rtp,
    parse_audio_level_untrusted,
    parse_mid_untrusted,
    parse_rtp_untrusted,
)
from lac_media.proto.sdp import (
    AnswerParameters,
    SdpError,
    build_answer,
    parse_answer_untrusted,
    parse_offer_untrusted,
)
from lac_media.proto.sdpfrag import build_sdpfrag, parse_sdpfrag_untrusted
from lac_media.proto.stun import binding_success, is_authentic, local_ufrag, parse_stun_untrusted
from tests.fuzz import samples
from tests.fuzz.budget import fast
from tests.fuzz.mutation import damaged, damaged_text


@fast
@given(damaged(samples.STUN), st.booleans())
def test_stun(data: bytes, mend: bool) -> None:
    data = samples.with_true_length(data) if mend else data
    try:
        message = parse_stun_untrusted(data)
    except ParseError:
        return
    assert local_ufrag(message) is None or isinstance(local_ufrag(message), str)
    if data not in samples.STUN:
        assert not is_authentic(message, "another" + samples.PASSWORD)
    binding_success(message, ("192.0.2.1", 1), samples.PASSWORD)


@fast
@given(damaged(samples.UNSIGNED_STUN))
def test_stun_from_somebody_who_knows_the_password(data: bytes) -> None:
    try:
        message = parse_stun_untrusted(samples.signed(data, samples.PASSWORD))
    except ParseError:
        return
    # Not always: damage may have made the integrity part of an attribute before it.
    if is_authentic(message, samples.PASSWORD):
        local_ufrag(message)
        binding_success(message, ("2001:db8::1", 1), samples.PASSWORD)


@fast
@given(damaged(samples.session().of(PacketKind.DTLS)))
def test_dtls_records(data: bytes) -> None:
    position = 0
    for record in split_records_untrusted(data):
        position += 13
        assert data[position : position + len(record.fragment)] == record.fragment
        position += len(record.fragment)
        assert is_plausible(record) in {True, False}
    assert position <= len(data)


@fast
@given(damaged([b"".join(map(encode_frame, samples.session().to_server))]), st.integers(1, 3000))
def test_frames_of_a_stream(data: bytes, piece: int) -> None:
    parser = FrameParser()
    taken = 0
    try:
        for start in range(0, len(data), piece):
            for frame in parser.feed_untrusted(data[start : start + piece]):
                taken += len(frame)
                assert 0 < len(frame) <= MAX_FRAME
    except ParseError:
        pass
    assert taken <= len(data)


@fast
@given(damaged(samples.session().to_server) | st.binary(max_size=3))
def test_demultiplexing(data: bytes) -> None:
    assert classify(data) in PacketKind


@fast
@given(damaged(samples.RTP))
def test_rtp_and_its_header_extensions(data: bytes) -> None:
    try:
        packet = parse_rtp_untrusted(data)
    except ParseError:
        return
    assert len(packet.payload) <= len(data) - 12
    assert parse_rtp_untrusted(encode_rtp(packet)) == packet
    for value in packet.extensions.values():
        with contextlib.suppress(ParseError):
            assert 0 <= parse_audio_level_untrusted(value).level <= 127
        with contextlib.suppress(ParseError):
            assert parse_mid_untrusted(value).isascii()


@fast
@given(damaged(samples.RTCP))
def test_rtcp(data: bytes) -> None:
    try:
        packets = parse_rtcp_untrusted(data)
    except ParseError:
        return
    assert 1 <= len(packets) <= len(data) // 4
    assert sum(len(packet.lost) for packet in packets if isinstance(packet, Nack)) <= MAX_LOST
    # A reason for leaving that was no UTF-8 has become longer, perhaps too long.
    with contextlib.suppress(LocalProtocolError):
        assert len(parse_rtcp_untrusted(encode_rtcp(packets))) == len(packets)


@fast
@given(damaged(samples.RED))
def test_red(data: bytes) -> None:
    try:
        blocks = parse_red_untrusted(data)
    except ParseError:
        return
    *redundant, primary = blocks
    assert sum(len(block.payload) for block in blocks) < len(data)
    if len({block.payload_type for block in blocks}) == 1:
        older = [(block.timestamp_offset, block.payload) for block in redundant]
        assert build_red(primary.payload, older, payload_type=primary.payload_type) == data


@fast
@given(damaged(samples.OPUS))
def test_opus_framing(data: bytes) -> None:
    assert is_dtx(data) in {True, False}
    try:
        packet = parse_opus_untrusted(data)
    except ParseError:
        return
    assert 0 < packet.duration_ticks <= 5760
    assert packet.duration_ticks == duration_ticks_untrusted(data)
    assert packet.is_dtx == is_dtx(data)
    assert sum(packet.frame_sizes) < len(data)


@fast
@given(st.lists(st.one_of(st.binary(max_size=1500), damaged(samples.OPUS)), max_size=12), st.integers(1, 2000))
def test_opus_joined(stream: list[bytes], max_bytes: int) -> None:
    """Whatever can be parsed can be joined, or refused, and what comes out can be parsed with the same frames."""
    joiner, frames, heard = OpusJoiner(max_bytes=max_bytes), list[int](), list[int]()

    def flush() -> None:
        heard.extend(parse_opus_untrusted(joiner.take()).frame_sizes)

    for data in stream:
        try:
            packet = parse_opus_untrusted(data)
        except ParseError:
            continue
        if not joiner.add(packet, data):
            flush()
            assert joiner.add(packet, data)
        frames.extend(packet.frame_sizes)
    if joiner.ticks:
        flush()
    assert heard == frames


@fast
@given(damaged_text(list(samples.OFFERS.values())))
def test_sdp_offers_and_our_answers(text: str) -> None:
    try:
        offer = parse_offer_untrusted(text)
    except SdpError:
        return
    assert offer.payload_type in offer.formats
    for direction in Direction:
        try:
            answer = parse_answer_untrusted(build_answer(offer, _answer_parameters(direction)))
        except SdpError as exc:
            assert "To listen" in str(exc) or "To publish" in str(exc)  # noqa: PT017 - that it is raised is optional
            continue
        assert len(answer.media) == len(offer.media)
        assert (answer.audio_index, answer.payload_type, answer.mid, answer.red_payload_type) == (
            offer.audio_index,
            offer.payload_type,
            offer.mid,
            offer.red_payload_type,
        )
        assert answer.ice == _ICE


_ANSWERS = [
    build_answer(parse_offer_untrusted(text), parameters)
    for text in samples.OFFERS.values()
    for parameters in [
        AnswerParameters(
            IceParameters("0cee114c", "95139c3ea582571f1bb4e2de"),
            (IceCandidate("1", 2130706431, "192.0.2.1", 40000), IceCandidate("2", 1, "192.0.2.1", 40000, "tcp")),
            (Fingerprint("sha-256", ":".join(["AB"] * 32)),),
            Direction.RECV if "a=recvonly" in text else Direction.SEND,
            7,
            "program",
        )
    ]
]
_ICE = IceParameters("0cee114c", "95139c3ea582571f1bb4e2de")


def _answer_parameters(direction: Direction) -> AnswerParameters:
    fingerprint = Fingerprint("sha-256", ":".join(["AB"] * 32))
    return AnswerParameters(_ICE, (IceCandidate("1", 1, "192.0.2.1", 40000),), (fingerprint,), direction, 7, "program")


@fast
@given(damaged_text(_ANSWERS))
def test_sdp_answers(text: str) -> None:
    try:
        answer = parse_answer_untrusted(text)
    except SdpError:
        return
    assert answer.payload_type in answer.formats


@fast
@given(damaged_text(samples.SDPFRAG))
def test_trickled_fragments(text: str) -> None:
    try:
        fragment = parse_sdpfrag_untrusted(text)
    except SdpError:
        return
    assert build_sdpfrag(fragment).startswith("a=ice-lite")
