from __future__ import annotations

import pytest
from aiortc import rtp as aiortc_rtp
from hypothesis import given
from hypothesis import strategies as st

from lac_media.errors import LocalProtocolError, ParseError
from lac_media.proto.rtcp import (
    MAX_LOST,
    Bye,
    Nack,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SdesChunk,
    SenderReport,
    SourceDescription,
    UnknownRtcp,
    cname_sdes,
    encode_rtcp,
    ntp_from_unix,
    ntp_short,
    parse_rtcp_untrusted,
    round_trip_s,
    unix_from_ntp,
)

u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
blocks = st.builds(
    ReportBlock,
    ssrc=u32,
    fraction_lost=st.integers(0, 255),
    cumulative_lost=st.integers(-(2**23), 2**23 - 1),
    highest_sequence=u32,
    jitter=u32,
    lsr=u32,
    dlsr=u32,
)
reports = st.lists(blocks, max_size=3).map(tuple)


def nack_of(first: int, steps: list[int]) -> tuple[int, ...]:
    lost = [first]
    for step in steps:
        lost.append((lost[-1] + step) & 0xFFFF)
    return tuple(lost)


known: list[st.SearchStrategy[RtcpPacket]] = [
    st.builds(
        SenderReport,
        ssrc=u32,
        ntp_timestamp=st.integers(0, 2**64 - 1),
        rtp_timestamp=u32,
        packet_count=u32,
        octet_count=u32,
        reports=reports,
    ),
    st.builds(ReceiverReport, ssrc=u32, reports=reports),
    st.builds(
        SourceDescription,
        st.lists(
            st.builds(
                SdesChunk,
                u32,
                st.lists(st.tuples(st.integers(1, 255), st.binary(max_size=30)), max_size=3).map(tuple),
            ),
            max_size=3,
        ).map(tuple),
    ),
    st.builds(Bye, st.lists(u32, max_size=4).map(tuple), st.text(max_size=20)),
    st.builds(Nack, u32, u32, st.builds(nack_of, u16, st.lists(st.integers(1, 40), max_size=20))),
]
unknown = st.builds(
    UnknownRtcp, st.sampled_from([204, 206, 207]), st.integers(0, 31), st.binary(max_size=20).map(lambda b: b * 4)
)
compounds = st.lists(st.one_of(*known, unknown), min_size=1, max_size=5)

GOLDEN_SR = bytes.fromhex(
    "81c8000c 11223344 83aa7e80 80000000 00000960 00000005 00000140"
    "55667788 40ffffff 0001ffff 00000007 aabbccdd 00010000"
)
GOLDEN_SDES = bytes.fromhex("81ca0003 11223344 0104636e 616d0000")
GOLDEN_BYE = bytes.fromhex("81cb0002 11223344 03627965")
GOLDEN_NACK = bytes.fromhex("81cd0003 11223344 55667788 ffff8001")


def test_golden_compound_both_ways() -> None:
    block = ReportBlock(0x55667788, 64, -1, 0x1FFFF, 7, 0xAABBCCDD, 65536)
    packets: list[RtcpPacket] = [
        SenderReport(0x11223344, 0x83AA7E80_80000000, 2400, 5, 320, (block,)),
        SourceDescription((SdesChunk(0x11223344, ((1, b"cnam"),)),)),
        Bye((0x11223344,), "bye"),
        Nack(0x11223344, 0x55667788, (65535, 0, 15)),
    ]
    golden = GOLDEN_SR + GOLDEN_SDES + GOLDEN_BYE + GOLDEN_NACK
    assert parse_rtcp_untrusted(golden) == packets
    assert encode_rtcp(packets) == golden


@given(compounds)
def test_parse_undoes_encode(packets: list[RtcpPacket]) -> None:
    assert parse_rtcp_untrusted(encode_rtcp(packets)) == packets


@pytest.mark.parametrize("golden", [GOLDEN_SR, GOLDEN_SDES, GOLDEN_BYE, GOLDEN_NACK])
def test_each_truncation_is_refused(golden: bytes) -> None:
    for size in range(len(golden)):
        with pytest.raises(ParseError, match="4 bytes of a packet header" if size < 4 else "claims"):
            parse_rtcp_untrusted(golden[:size])


@pytest.mark.parametrize(
    ("golden", "message"),
    [
        (GOLDEN_SR, "24 bytes of its sender information|announces 1 blocks"),
        (GOLDEN_SDES, "announces 1 chunks|not terminated|ends beyond"),
        (GOLDEN_BYE, "announces 1 sources"),
        (GOLDEN_NACK, "no lost packet"),
    ],
)
def test_each_truncation_under_a_true_length_says_what_is_missing(golden: bytes, message: str) -> None:
    for words in range(len(golden) // 4 - 1):
        if golden is GOLDEN_BYE and words == 1:
            continue  # that is a whole BYE without a reason
        with pytest.raises(ParseError, match=message):
            parse_rtcp_untrusted(golden[:2] + words.to_bytes(2, "big") + golden[4 : 4 + 4 * words])


def test_cumulative_loss_is_signed_and_clamped() -> None:
    def through(lost: int) -> int:
        (report,) = parse_rtcp_untrusted(encode_rtcp([ReceiverReport(1, (ReportBlock(2, 0, lost, 0, 0),))]))
        assert isinstance(report, ReceiverReport)
        return report.reports[0].cumulative_lost

    assert through(-1) == -1
    assert through(2**23) == 2**23 - 1
    assert through(-(2**23) - 1) == -(2**23)


def test_padding_belongs_to_the_last_packet_only() -> None:
    body = bytes.fromhex("a1cb0002 11223344 00000004")
    assert parse_rtcp_untrusted(GOLDEN_SDES + body)[1] == Bye((0x11223344,))
    for bad in (body + GOLDEN_SDES, body[:-1] + b"\x00", body[:-1] + b"\x03", body[:-1] + b"\x10"):
        with pytest.raises(ParseError, match="padding"):
            parse_rtcp_untrusted(bad)


def test_a_profiles_extension_behind_the_report_is_skipped() -> None:
    assert parse_rtcp_untrusted(bytes.fromhex("80c90002 00000001 deadbeef")) == [ReceiverReport(1)]


def test_other_feedback_is_kept_unread() -> None:
    transport_cc = bytes.fromhex("8fcd0002 00000001 00000002")
    (packet,) = parse_rtcp_untrusted(transport_cc)
    assert packet == UnknownRtcp(205, 15, bytes.fromhex("0000000100000002"))


def test_cname_is_found() -> None:
    assert cname_sdes(5, "relay").chunks[0].cname == "relay"
    assert SdesChunk(5).cname is None


def test_a_datagram_of_nacks_is_read_up_to_a_limit() -> None:
    greedy = bytes.fromhex("81cd0005 11223344 55667788") + bytes.fromhex("0000ffff 0011ffff 0022ffff")
    packets = parse_rtcp_untrusted(greedy * 58 + GOLDEN_BYE)
    *nacks, bye = packets
    assert isinstance(bye, Bye)
    named = [len(packet.lost) for packet in nacks if isinstance(packet, Nack)]
    assert named == [51] * 10 + [2]
    assert sum(named) == MAX_LOST


@pytest.mark.parametrize(
    "packet",
    [
        ReceiverReport(2**32),
        ReceiverReport(1, (ReportBlock(1, 256, 0, 0, 0),)),
        ReceiverReport(1, (ReportBlock(1, 0, 0, 0, 0),) * 32),
        Nack(1, 2, ()),
        Nack(1, 2, (65536,)),
        SourceDescription((SdesChunk(1, ((0, b""),)),)),
        SourceDescription((SdesChunk(1, ((1, bytes(256)),)),)),
        Bye((1,), "x" * 256),
        UnknownRtcp(206, 1, b"abc"),
        UnknownRtcp(300, 1, b""),
    ],
)
def test_encoding_a_field_out_of_range_is_our_error(packet: RtcpPacket) -> None:
    with pytest.raises(LocalProtocolError):
        encode_rtcp([packet])


def test_ntp_times() -> None:
    assert ntp_from_unix(0.5) == 0x83AA7E80_80000000
    assert unix_from_ntp(ntp_from_unix(1_800_000_000.25)) == 1_800_000_000.25
    assert unix_from_ntp(ntp_from_unix(2_200_000_000.0)) == 2_200_000_000.0  # past 2036, the next era
    assert ntp_short(0x11112222_33334444) == 0x22223333


def test_round_trip() -> None:
    now = ntp_from_unix(1_800_000_000.0)
    sent = ntp_short(ntp_from_unix(1_800_000_000.0 - 0.75))
    assert round_trip_s(now, sent, 65536 // 2) == pytest.approx(0.25, abs=1e-4)
    assert round_trip_s(now, 0, 0) is None  # the peer has had no SR
    assert round_trip_s(now, sent, 65536) is None  # held it longer than it has existed
    assert round_trip_s(now, ntp_short(now), 10) == 0.0  # both ends round
    assert round_trip_s(now, ntp_short(now - (61 << 32)), 0) is None
    # The short form wraps every 18 hours.
    assert round_trip_s(0x00010000_00000000, 0xFFFF8000, 0) == 0.5


@given(st.lists(st.one_of(*known[:2], known[4]), min_size=1, max_size=3))
def test_aiortc_agrees(packets: list[RtcpPacket]) -> None:
    data = encode_rtcp(packets)
    theirs = aiortc_rtp.RtcpPacket.parse(data)
    assert len(theirs) == len(packets)
    for ours, other in zip(packets, theirs, strict=True):
        if isinstance(ours, Nack):
            assert isinstance(other, aiortc_rtp.RtcpRtpfbPacket)
            assert (other.ssrc, other.media_ssrc) == (ours.sender_ssrc, ours.media_ssrc)
            assert tuple(n & 0xFFFF for n in other.lost) == ours.lost
            continue
        assert isinstance(ours, SenderReport | ReceiverReport)
        assert isinstance(other, aiortc_rtp.RtcpSrPacket | aiortc_rtp.RtcpRrPacket)
        assert [(r.ssrc, r.fraction_lost, r.packets_lost, r.dlsr) for r in other.reports] == [
            (r.ssrc, r.fraction_lost, r.cumulative_lost, r.dlsr) for r in ours.reports
        ]
        assert parse_rtcp_untrusted(bytes(other)) == [ours]
