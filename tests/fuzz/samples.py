"""Datagrams and texts of real sessions: what a browser and our own cores say to each other."""

from __future__ import annotations

import hmac
from binascii import crc32
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lac_media.parameters import Address, IceCandidate, IceParameters, ProducerParameters
from lac_media.proto.demux import PacketKind, classify
from lac_media.proto.peer_state import PeerState
from lac_media.proto.red import build_red
from lac_media.proto.rtcp import (
    Bye,
    Nack,
    ReceiverReport,
    ReportBlock,
    SenderReport,
    UnknownRtcp,
    cname_sdes,
    encode_rtcp,
)
from lac_media.proto.rtp import RtpPacket, encode_rtp
from lac_media.proto.sdpfrag import SdpFragment, build_sdpfrag
from lac_media.proto.stun import binding_error, binding_request, binding_success, parse_stun_untrusted
from tests.fakes.link import Link, make_link

PASSWORD = "password0123456789abcdef"
OPUS_TYPE, RED_TYPE, SSRC = 111, 63, 2
STREAM = ProducerParameters(
    OPUS_TYPE,
    SSRC,
    mid="0",
    mid_extension_id=4,
    audio_level_extension_id=1,
    nack=True,
    red_payload_type=RED_TYPE,
    reduced_size_rtcp=True,
)
OFFERS = {
    path.stem: path.read_text() for path in sorted((Path(__file__).parents[1] / "proto" / "offers").glob("*.sdp"))
}

OPUS = [
    b"\x78" + bytes(range(60)),
    b"\xf8\xff\xfe",
    b"\xf8",
    b"\x79" + bytes(40),
    b"\x7a\x05" + bytes(30),
    b"\x7b\x03" + bytes(30),
    b"\x7b\x83\x0a\xfc\x01" + bytes(300),
    b"\x7b\x43\x09" + bytes(30 + 9),
    b"\x7b\x41\xff\x01" + bytes(300),
]
RED = [
    build_red(OPUS[0], [], payload_type=OPUS_TYPE),
    build_red(OPUS[0], [(960, OPUS[0])], payload_type=OPUS_TYPE),
    build_red(OPUS[0], [(2880, OPUS[3]), (1920, OPUS[1]), (960, OPUS[0])], payload_type=OPUS_TYPE),
    build_red(OPUS[1], [(0x3FFF, b""), (960, bytes(0x3FF))], payload_type=OPUS_TYPE),
]
RTP = [
    encode_rtp(packet)
    for packet in [
        RtpPacket(OPUS_TYPE, 1000, 960, SSRC, payload=OPUS[0], extensions={1: b"\x85", 4: b"0"}),
        RtpPacket(OPUS_TYPE, 1001, 1920, SSRC, True, OPUS[1]),
        RtpPacket(RED_TYPE, 1002, 2880, SSRC, payload=RED[1], extensions={1: b"\x85"}),
        RtpPacket(RED_TYPE, 1006, 4 * 2880, SSRC, payload=RED[2], csrcs=(1, 2, 3)),
        RtpPacket(OPUS_TYPE, 65_535, 2**32 - 960, SSRC, payload=OPUS[2], extensions={1: b"", 200: bytes(30)}),
    ]
] + [bytes.fromhex("b06f03ef000016800000000200000004") + b"x" * 8 + b"\x08"]
_BLOCK = ReportBlock(1, 25, -3, 70_000, 12, 0x1234_5678, 65_536)
RTCP = [
    encode_rtcp([SenderReport(SSRC, 2**63, 960, 10, 600, (_BLOCK,)), cname_sdes(SSRC, "browser")]),
    encode_rtcp([ReceiverReport(SSRC, (_BLOCK, _BLOCK)), cname_sdes(SSRC, "browser"), Nack(SSRC, 1, (5, 6, 21, 99))]),
    encode_rtcp([Nack(SSRC, 1, tuple(range(0, 2000, 3)))]),
    encode_rtcp([ReceiverReport(SSRC), cname_sdes(SSRC, "browser"), Bye((SSRC,), "enough")]),
    encode_rtcp([UnknownRtcp(205, 15, bytes(16)), UnknownRtcp(206, 1, bytes(8)), UnknownRtcp(207, 0, bytes(12))]),
]
_REQUEST = binding_request(
    bytes(12), username="serverufrag:clientufrag", password=PASSWORD, priority=1, tie_breaker=2, use_candidate=True
)
_ASKED = parse_stun_untrusted(_REQUEST)
STUN = [
    _REQUEST,
    binding_success(_ASKED, ("192.0.2.1", 40_000), PASSWORD),
    binding_success(_ASKED, ("2001:db8::1", 40_000), PASSWORD),
    binding_error(_ASKED, 487, "Role Conflict", PASSWORD),
]
#: The same without MESSAGE-INTEGRITY (24 bytes) and FINGERPRINT (8): for `signed`.
UNSIGNED_STUN = [data[:-32] for data in STUN]
SDPFRAG = [
    build_sdpfrag(SdpFragment(ice, candidates, ended, mid))
    for ice, candidates, ended, mid in [
        (None, (IceCandidate("1", 2130706431, "192.0.2.1", 40000),), False, "0"),
        (IceParameters("abcd", "q" * 24), (IceCandidate("1", 1, "2001:db8::1", 9, "tcp"),), True, None),
        (None, (), True, "audio"),
    ]
]


@dataclass(frozen=True)
class Session:
    """What went over the wire while two cores met and talked."""

    to_server: tuple[bytes, ...]
    to_client: tuple[bytes, ...]

    def of(self, kind: PacketKind) -> list[bytes]:
        return [data for data in self.to_server + self.to_client if classify(data) is kind]


@cache
def session() -> Session:
    heard: dict[bool, list[bytes]] = {True: [], False: []}

    class Recording(Link):
        def _send(self, data: bytes, *, to_server: bool, source: Address) -> None:
            heard[to_server].append(data)
            super()._send(data, to_server=to_server, source=source)

    made = make_link()
    link = connected(Recording(made.server, made.client))
    link.server.expect_stream(STREAM)
    for sequence in (1, 2, 4, 5):
        link.client.send_rtp(RtpPacket(OPUS_TYPE, sequence, sequence * 960, SSRC, payload=OPUS[0]), now=link.now)
        link.run_for(0.02)
    link.run_for(3)
    return Session(tuple(heard[True]), tuple(heard[False]))


def connected(link: Link) -> Link:
    assert link.run_until(lambda: link.server.state is link.client.state is PeerState.CONNECTED)
    return link


def with_true_length(data: bytes) -> bytes:
    """A STUN message whose length field, and FINGERPRINT if it still ends with one, agree with what it has become: the
    parser looks at those first."""
    if len(data) < 20:
        return data
    body = data[20 : 20 + (len(data) - 20) // 4 * 4]
    message = data[:2] + len(body).to_bytes(2, "big") + data[4:20] + body
    if body[-8:-4] == b"\x80\x28\x00\x04":
        message = message[:-4] + (crc32(message[:-8]) ^ 0x5354554E).to_bytes(4, "big")
    return message


def signed(data: bytes, password: str) -> bytes:
    """A STUN message made authentic: by somebody who was let in, and means no good."""
    message = with_true_length(data)
    if len(message) < 20:
        return message
    message = message[:2] + (len(message) + 4).to_bytes(2, "big") + message[4:]  # less the header, with the integrity
    return message + b"\x00\x08\x00\x14" + hmac.digest(password.encode(), message, "sha1")
