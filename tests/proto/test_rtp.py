from __future__ import annotations

from dataclasses import replace

import pytest
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters, RTCRtpParameters
from aiortc.rtp import HeaderExtensionsMap
from aiortc.rtp import RtpPacket as AiortcPacket
from hypothesis import given
from hypothesis import strategies as st

from lac_media.errors import LocalProtocolError, ParseError
from lac_media.parameters import AUDIO_LEVEL_URI, MID_URI
from lac_media.proto.rtp import (
    AudioLevel,
    RtpPacket,
    encode_audio_level,
    encode_extensions,
    encode_mid,
    encode_rtp,
    parse_audio_level_untrusted,
    parse_mid_untrusted,
    parse_rtp_untrusted,
)

# V=2 X CC=1, marker, PT 111, seq 65535, ts 0xDEADBEEF, ssrc 1, csrc 0x01020304,
# one-byte extensions: 1 = level 42 with voice, 4 = mid "0", padding; payload f8 ff fe.
GOLDEN = bytes.fromhex("91efffffdeadbeef0000000101020304bede000110aa4030f8fffe")
GOLDEN_PACKET = RtpPacket(
    payload_type=111,
    sequence=65535,
    timestamp=0xDEADBEEF,
    ssrc=1,
    marker=True,
    payload=b"\xf8\xff\xfe",
    extensions={1: b"\xaa", 4: b"0"},
    csrcs=(0x01020304,),
)
HEADER = bytes.fromhex("806f000100000002 00000003")

u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
extensions = st.one_of(
    st.dictionaries(st.integers(1, 14), st.binary(min_size=1, max_size=16), max_size=4),
    st.dictionaries(st.integers(1, 255), st.binary(max_size=255), max_size=3),
)
packets = st.builds(
    RtpPacket,
    payload_type=st.integers(0, 127),
    sequence=u16,
    timestamp=u32,
    ssrc=u32,
    marker=st.booleans(),
    payload=st.binary(max_size=200),
    extensions=extensions,
    csrcs=st.lists(u32, max_size=15).map(tuple),
)


def test_golden_packet_both_ways() -> None:
    assert parse_rtp_untrusted(GOLDEN) == GOLDEN_PACKET
    assert encode_rtp(GOLDEN_PACKET) == GOLDEN


@given(packets)
def test_parse_undoes_encode(packet: RtpPacket) -> None:
    assert parse_rtp_untrusted(encode_rtp(packet)) == packet


@pytest.mark.parametrize("size", range(24))
def test_each_truncation_of_the_header_says_where_it_ends(size: int) -> None:
    message = "fixed header" if size < 12 else "contributing" if size < 16 else "extensions"
    with pytest.raises(ParseError, match=message):
        parse_rtp_untrusted(GOLDEN[:size])


@pytest.mark.parametrize("version", [0, 1, 3])
def test_other_versions_are_refused(version: int) -> None:
    with pytest.raises(ParseError, match=f"version is {version}"):
        parse_rtp_untrusted(bytes((version << 6,)) + HEADER[1:])


def padded(payload: bytes) -> bytes:
    return bytes((HEADER[0] | 0x20,)) + HEADER[1:] + payload


def test_padding_is_taken_off() -> None:
    assert parse_rtp_untrusted(padded(b"abc\x00\x00\x03")).payload == b"abc"


def test_a_padding_only_packet_has_an_empty_payload() -> None:
    # Chromium probes the path with such packets.
    assert parse_rtp_untrusted(padded(bytes(254) + b"\xff")).payload == b""


@pytest.mark.parametrize("payload", [b"", b"\x00", b"abc\x05", b"abc\x00"])
def test_padding_that_does_not_fit_is_refused(payload: bytes) -> None:
    with pytest.raises(ParseError, match="padding"):
        parse_rtp_untrusted(padded(payload))


def with_extensions(profile: str, block: str, payload: bytes = b"xy") -> bytes:
    body = bytes.fromhex(block)
    assert len(body) % 4 == 0
    head = bytes((HEADER[0] | 0x10,)) + HEADER[1:]
    return head + bytes.fromhex(profile) + (len(body) // 4).to_bytes(2, "big") + body + payload


@pytest.mark.parametrize(
    ("profile", "block", "expected"),
    [
        ("bede", "10aa0000", {1: b"\xaa"}),
        ("bede", "0010aa00", {1: b"\xaa"}),  # padding in front
        ("bede", "10aaf0bb 20cc0000", {1: b"\xaa"}),  # id 15 stops the reading
        ("bede", "10aa01bb 20cc0000", {1: b"\xaa"}),  # id 0 with a length does, too
        ("bede", "", {}),
        ("1000", "01020a0b 10000000", {1: b"\x0a\x0b", 16: b""}),
        ("100f", "0101aa00", {1: b"\xaa"}),  # appbits mean nothing
        ("1000", "000101aa", {1: b"\xaa"}),
        ("abcd", "ffffffff", {}),  # somebody else's extension is stepped over
    ],
)
def test_extension_forms(profile: str, block: str, expected: dict[int, bytes]) -> None:
    packet = parse_rtp_untrusted(with_extensions(profile, block))
    assert packet.extensions == expected
    assert packet.payload == b"xy"


@pytest.mark.parametrize(
    ("profile", "block"),
    [("bede", "12aabb00 13aabbcc"), ("1000", "0105aabb"), ("1000", "00000001")],
)
def test_an_element_beyond_the_block_is_refused(profile: str, block: str) -> None:
    with pytest.raises(ParseError, match="header extension"):
        parse_rtp_untrusted(with_extensions(profile, block))


def test_one_byte_form_is_used_where_it_fits() -> None:
    assert encode_extensions({}) == b""
    assert encode_extensions({14: bytes(16)})[:2] == b"\xbe\xde"
    for needs_two in ({15: b"a"}, {1: b""}, {1: bytes(17)}):
        assert encode_extensions(needs_two)[:2] == b"\x10\x00"


@pytest.mark.parametrize(
    "change",
    [
        {"payload_type": 128},
        {"sequence": 65536},
        {"timestamp": -1},
        {"ssrc": 2**32},
        {"extensions": {0: b"a"}},
        {"extensions": {256: b"a"}},
        {"extensions": {1: bytes(256)}},
        {"csrcs": (0,) * 16},
        {"csrcs": (2**32,)},
    ],
)
def test_encoding_a_field_out_of_range_is_our_error(change: dict[str, object]) -> None:
    with pytest.raises(LocalProtocolError):
        encode_rtp(replace(GOLDEN_PACKET, **change))


@given(st.integers(0, 127), st.booleans())
def test_audio_level_both_ways(level: int, voice: bool) -> None:
    assert parse_audio_level_untrusted(encode_audio_level(level, voice)) == AudioLevel(level, voice)


def test_small_extensions_refuse_what_they_cannot_be() -> None:
    assert parse_mid_untrusted(encode_mid("audio0")) == "audio0"
    for bad in (b"", b"\xc3\xa4"):
        with pytest.raises(ParseError):
            parse_mid_untrusted(bad)
    for bad in (b"", b"ab"):
        with pytest.raises(ParseError):
            parse_audio_level_untrusted(bad)
    with pytest.raises(LocalProtocolError):
        encode_audio_level(128, voice=False)
    with pytest.raises(LocalProtocolError):
        encode_mid("")


def aiortc_map() -> HeaderExtensionsMap:
    table = HeaderExtensionsMap()
    table.configure(
        RTCRtpParameters(
            headerExtensions=[
                RTCRtpHeaderExtensionParameters(id=1, uri=AUDIO_LEVEL_URI),
                RTCRtpHeaderExtensionParameters(id=4, uri=MID_URI),
            ]
        )
    )
    return table


@given(packets, st.integers(0, 127), st.booleans())
def test_aiortc_reads_what_we_write_and_we_read_what_it_writes(packet: RtpPacket, level: int, voice: bool) -> None:
    packet.extensions = {4: b"audio", 1: encode_audio_level(level, voice)}
    theirs = AiortcPacket.parse(encode_rtp(packet), aiortc_map())
    assert (theirs.payload_type, theirs.marker, theirs.ssrc) == (packet.payload_type, packet.marker, packet.ssrc)
    assert (theirs.sequence_number, theirs.timestamp) == (packet.sequence, packet.timestamp)
    assert (theirs.payload, tuple(theirs.csrc)) == (packet.payload, packet.csrcs)
    assert (theirs.extensions.mid, theirs.extensions.audio_level) == ("audio", (voice, level))
    theirs.padding_size = level
    assert parse_rtp_untrusted(theirs.serialize(aiortc_map())) == packet
