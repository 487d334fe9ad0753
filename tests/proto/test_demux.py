from __future__ import annotations

import pytest

from lac_media.proto.demux import PacketKind, classify


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        ("0001", PacketKind.STUN),
        ("0101", PacketKind.STUN),
        ("0300", PacketKind.STUN),
        ("0400", PacketKind.OTHER),
        ("1300", PacketKind.OTHER),
        ("14fe", PacketKind.DTLS),
        ("16fe", PacketKind.DTLS),
        ("3fff", PacketKind.DTLS),
        ("4000", PacketKind.OTHER),  # TURN channel data
        ("7fff", PacketKind.OTHER),
        ("8000", PacketKind.RTP),
        ("806f", PacketKind.RTP),  # payload type 111
        ("90ef", PacketKind.RTP),  # 111 with the marker: not RTCP
        ("803f", PacketKind.RTP),
        ("8060", PacketKind.RTP),
        ("80c8", PacketKind.RTCP),
        ("81c9", PacketKind.RTCP),
        ("81cd", PacketKind.RTCP),
        ("bfdf", PacketKind.RTCP),
        ("bfe0", PacketKind.RTP),
        ("c000", PacketKind.OTHER),
    ],
)
def test_ranges_of_rfc_7983_and_rfc_5761(head: str, kind: PacketKind) -> None:
    assert classify(bytes.fromhex(head)) is kind


def test_a_datagram_too_short_to_tell_is_other() -> None:
    assert classify(b"") is PacketKind.OTHER
    assert classify(b"\x80") is PacketKind.OTHER
