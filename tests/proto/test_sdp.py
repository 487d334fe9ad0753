from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc import sdp as aiortc_sdp

from lac_media.parameters import (
    AUDIO_LEVEL_URI,
    MID_URI,
    ConsumerParameters,
    Direction,
    DtlsParameters,
    DtlsRole,
    Fingerprint,
    IceCandidate,
    IceParameters,
    ProducerParameters,
)
from lac_media.proto.sdp import (
    Answer,
    AnswerParameters,
    Offer,
    OfferParameters,
    SdpDirection,
    SdpError,
    Setup,
    build_answer,
    build_offer,
    parse_answer_untrusted,
    parse_offer_untrusted,
)

# Written by Chromium 156, aiortc 1.16 and FFmpeg 8.1 here; Firefox, OBS and GStreamer after the shape of theirs.
OFFERS = {path.stem: path.read_text() for path in sorted((Path(__file__).parent / "offers").glob("*.sdp"))}
CHROMIUM = OFFERS["chromium_publish"]
LISTENERS = [name for name in OFFERS if name.endswith("_listen")]
PUBLISHERS = [name for name in OFFERS if name not in LISTENERS]

FINGERPRINT = Fingerprint("sha-256", ":".join(["AB"] * 32))
ICE = IceParameters("0cee114c", "95139c3ea582571f1bb4e2de")
V4 = IceCandidate("1", 2130706431, "192.0.2.1", 40000)
V6 = IceCandidate("2", 2130706175, "2001:db8::1", 40000)
TCP = IceCandidate("3", 2105458943, "192.0.2.1", 40000, protocol="tcp")


def answer_parameters(direction: Direction, *candidates: IceCandidate) -> AnswerParameters:
    return AnswerParameters(
        ice=ICE,
        candidates=candidates or (V4,),
        fingerprints=(FINGERPRINT,),
        direction=direction,
        ssrc=1019260641 if direction is Direction.RECV else None,
        cname="program" if direction is Direction.RECV else None,
    )


def without(text: str, pattern: str) -> str:
    changed = re.sub(rf"(?m)^{pattern}.*\n?", "", text)
    assert changed != text
    return changed


def with_line(text: str, line: str) -> str:
    return text.rstrip("\n") + "\n" + line + "\n"


@pytest.mark.parametrize(
    ("name", "payload_type", "ssrc", "mid", "mid_id", "level_id", "nack", "role"),
    [
        ("chromium_publish", 111, 2311856652, "0", 4, 1, False, DtlsRole.AUTO),
        ("aiortc_audio_video", 96, 1857278572, "0", 1, 2, False, DtlsRole.AUTO),
        ("ffmpeg_publish", 111, 1399086154, "0", None, None, False, DtlsRole.SERVER),
        ("obs_publish", 111, 3104958827, "0", None, None, False, DtlsRole.AUTO),
        ("gstreamer_publish", 97, 2759103846, "audio0", None, None, True, DtlsRole.AUTO),
    ],
)
def test_real_publishers(
    name: str,
    payload_type: int,
    ssrc: int,
    mid: str,
    mid_id: int | None,
    level_id: int | None,
    nack: bool,
    role: DtlsRole,
) -> None:
    offer = parse_offer_untrusted(OFFERS[name])
    assert offer.producer_parameters() == ProducerParameters(
        payload_type=payload_type,
        ssrc=ssrc,
        mid=mid,
        mid_extension_id=mid_id,
        audio_level_extension_id=level_id,
        channels=2,
        nack=nack,
        red_payload_type=63 if name == "chromium_publish" else None,
        reduced_size_rtcp=name in {"chromium_publish", "gstreamer_publish"},
    )
    assert offer.dtls_parameters().role is role
    with pytest.raises(SdpError, match="To listen"):
        offer.consumer_parameters()


@pytest.mark.parametrize(
    ("name", "payload_type", "level_id", "red"), [("chromium_listen", 111, 1, 63), ("firefox_listen", 109, 1, None)]
)
def test_real_listeners(name: str, payload_type: int, level_id: int, red: int | None) -> None:
    offer = parse_offer_untrusted(OFFERS[name])
    assert offer.consumer_parameters() == ConsumerParameters(payload_type, level_id, red)
    with pytest.raises(SdpError, match="To publish"):
        offer.producer_parameters()


def test_everything_that_chromium_says() -> None:
    offer = parse_offer_untrusted(CHROMIUM)
    assert offer.ice == IceParameters("a8jI", "3uylKrUKDSyaMHC5SodCHUnz")
    assert offer.direction is SdpDirection.SENDONLY
    assert offer.setup is Setup.ACTPASS
    assert offer.fmtp == "minptime=10;useinbandfec=1"
    assert not offer.stereo
    assert offer.cname == "22MjbrTihTBetBNs"
    assert offer.extensions[AUDIO_LEVEL_URI] == 1
    assert offer.bundle == ("0",)
    assert (offer.trickle, offer.end_of_candidates, offer.ice_lite, offer.rtcp_rsize) == (True, False, False, True)
    assert offer.candidates[0] == IceCandidate("3436729227", 2122194687, "192.0.2.2", 42781)
    assert [c.protocol for c in offer.candidates] == ["udp", "udp", "tcp", "tcp"]
    assert offer.candidates[1].ip == "fd00::2"
    (fingerprint,) = offer.fingerprints
    assert fingerprint.value.startswith("8C:EA:55:08")


def test_several_fingerprints_are_all_kept() -> None:
    offer = parse_offer_untrusted(OFFERS["aiortc_audio_video"])
    assert [f.algorithm for f in offer.fingerprints] == ["sha-256", "sha-384", "sha-512"]
    assert [line.kind for line in offer.media] == ["audio", "video", "application"]


def test_session_level_attributes_stand_in_for_missing_ones() -> None:
    offer = parse_offer_untrusted(OFFERS["obs_publish"])
    assert offer.ice.username_fragment == "kR3d"
    assert offer.trickle  # "ice2,trickle": with a comma
    assert offer.end_of_candidates
    assert offer.stereo
    assert offer.bundle == ("0", "1")  # not the LS group


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n", " \r\n"])
@pytest.mark.parametrize("name", OFFERS)
def test_any_line_ends_will_do(name: str, end: str) -> None:
    assert parse_offer_untrusted(OFFERS[name].replace("\n", end)) == parse_offer_untrusted(OFFERS[name])


@pytest.mark.parametrize("name", OFFERS)
def test_aiortc_reads_the_same_from_every_offer(name: str) -> None:
    offer = parse_offer_untrusted(OFFERS[name])
    theirs = aiortc_sdp.SessionDescription.parse(OFFERS[name].replace("\n", "\r\n"))
    assert len(theirs.media) == len(offer.media)
    assert [(m.kind, m.port, m.profile) for m in theirs.media] == [(m.kind, m.port, m.proto) for m in offer.media]
    media = theirs.media[offer.audio_index]
    assert (media.rtp.muxId, media.direction) == (offer.mid, offer.direction)
    assert media.dtls is not None
    assert {(f.algorithm, f.value) for f in media.dtls.fingerprints} == {
        (f.algorithm, f.value) for f in offer.fingerprints
    }
    assert {e.uri: e.id for e in media.rtp.headerExtensions} == offer.extensions
    codec = next(c for c in media.rtp.codecs if c.mimeType.lower() == "audio/opus")
    assert codec.payloadType == offer.payload_type


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", 'does not begin with "v=0"'),
        ("hello", 'does not begin with "v=0"'),
        ("v=0\n" + "a=x\n" * 20000, "64 |65536 is the most"),
        ("v=0\nhello\n", "Line 2"),
        ("v=0\n", "no audio line"),
        ("v=0\nm=video 9 UDP/TLS/RTP/SAVPF 96\n", "no audio line"),
        ("v=0\nm=audio\n", "media line is not of the form"),
        ("v=0\nm=audio x UDP/TLS/RTP/SAVPF 111\n", "media line is not of the form"),
        ("v=0\nm=audio 65536 UDP/TLS/RTP/SAVPF 111\n", "media line is not of the form"),
        ("v=0\nm=audio 9 UDP/TLS/RTP/SAVPF ä\n", "formats"),
        ("v=0\n" + "m=video 9 RTP/AVP 1\n" * 65, "more than 64"),
        (CHROMIUM.replace("m=audio 42781", "m=audio 0"), "switched off"),
        (CHROMIUM.replace("opus/48000/2", "speex/48000"), "no Opus"),
        (CHROMIUM.replace("opus/48000/2", "opus/16000/2"), "no Opus"),
        (CHROMIUM.replace("SAVPF 111 ", "SAVPF "), "no Opus"),
        (without(CHROMIUM, "a=ice-ufrag"), "a=ice-ufrag and a=ice-pwd"),
        (without(CHROMIUM, "a=ice-pwd"), "a=ice-ufrag and a=ice-pwd"),
        (CHROMIUM.replace("a=ice-ufrag:a8jI", "a=ice-ufrag:abc"), "4 to 256"),
        (CHROMIUM.replace("a=ice-ufrag:a8jI", "a=ice-ufrag:ab cd"), "4 to 256"),
        (CHROMIUM.replace("a=ice-pwd:3uylKrUKDSyaMHC5SodCHUnz", "a=ice-pwd:short"), "22 to 256"),
        (without(CHROMIUM, "a=rtcp-mux"), "share one port"),
        (without(CHROMIUM, "a=setup"), "no a=setup"),
        (CHROMIUM.replace("setup:actpass", "setup:holdconn"), "not actpass, active or passive"),
        (without(CHROMIUM, "a=fingerprint"), "cannot be encrypted"),
        (CHROMIUM.replace("a=fingerprint:sha-256", "a=fingerprint:sha-1"), "only those are trusted"),
        (CHROMIUM.replace("8C:EA:", "8C:"), "32 pairs"),
        (CHROMIUM.replace("8C:EA:", "8C:GG:"), "32 pairs"),
        (CHROMIUM.replace("a=mid:0", "a=mid:a b"), "a=mid of the audio line"),
        (with_line(CHROMIUM.replace("BUNDLE 0", "BUNDLE 1"), "a=bundle-only"), "bundle-only"),
    ],
)
def test_a_refusal_is_a_sentence_about_what_to_change(text: str, sentence: str) -> None:
    with pytest.raises(SdpError, match=sentence) as caught:
        parse_offer_untrusted(text)
    assert str(caught.value).endswith(".")


def test_a_switched_off_or_foreign_audio_line_does_not_hide_a_good_one() -> None:
    section = CHROMIUM[CHROMIUM.index("m=audio") :]
    off = section.replace("m=audio 42781", "m=audio 0").replace("a=mid:0", "a=mid:off")
    foreign = section.replace("opus/", "speex/").replace("a=mid:0", "a=mid:foreign")
    offer = parse_offer_untrusted(CHROMIUM.replace("m=audio", off + foreign + "m=audio", 1))
    assert offer.audio_index == 2
    assert offer.mid == "0"
    assert [line.usable for line in offer.media] == [False, True, True]


def test_a_bundle_only_audio_takes_its_transport_from_the_first_of_its_group() -> None:
    text = "\n".join(
        [
            "v=0",
            "a=group:BUNDLE v a",
            "m=video 9 UDP/TLS/RTP/SAVPF 96",
            "a=mid:v",
            "a=ice-ufrag:abcd",
            "a=ice-pwd:" + "p" * 22,
            f"a=fingerprint:sha-256 {FINGERPRINT.value}",
            "a=setup:active",
            "a=rtcp-mux",
            "m=audio 0 UDP/TLS/RTP/SAVPF 100",
            "a=mid:a",
            "a=bundle-only",
            "a=rtpmap:100 OPUS/48000",
        ]
    )
    offer = parse_offer_untrusted(text)
    assert offer.ice.username_fragment == "abcd"
    assert offer.dtls_parameters() == DtlsParameters(DtlsRole.CLIENT, (FINGERPRINT,))
    answer = build_answer(offer, answer_parameters(Direction.SEND))
    assert "a=group:BUNDLE a\r\n" in answer
    assert "m=video 0 UDP/TLS/RTP/SAVPF 96\r\n" in answer


def test_the_direction_of_the_session_holds_for_media_without_one() -> None:
    text = without(CHROMIUM, "a=sendonly").replace("t=0 0", "t=0 0\na=recvonly")
    assert parse_offer_untrusted(text).direction is SdpDirection.RECVONLY
    assert parse_offer_untrusted(without(CHROMIUM, "a=sendonly")).direction is SdpDirection.SENDRECV


def test_the_order_of_the_media_line_decides_between_two_opus_types() -> None:
    text = with_line(CHROMIUM.replace("SAVPF 111 63", "SAVPF 112 111"), "a=rtpmap:112 opus/48000/2")
    assert parse_offer_untrusted(text).payload_type == 112


def test_nack_is_taken_for_this_payload_type_only() -> None:
    assert parse_offer_untrusted(with_line(CHROMIUM, "a=rtcp-fb:111 nack")).nack
    assert parse_offer_untrusted(with_line(CHROMIUM, "a=rtcp-fb:* nack")).nack
    assert not parse_offer_untrusted(with_line(CHROMIUM, "a=rtcp-fb:63 nack")).nack
    assert not parse_offer_untrusted(with_line(CHROMIUM, "a=rtcp-fb:111 nack pli")).nack


def test_a_listener_says_whether_it_asks_again() -> None:
    assert parse_offer_untrusted(with_line(OFFERS["chromium_listen"], "a=rtcp-fb:111 nack")).consumer_parameters().nack
    assert not parse_offer_untrusted(OFFERS["chromium_listen"]).consumer_parameters().nack


@pytest.mark.parametrize("order", ["111 63", "63 111", "63 9 111 0"])
def test_the_answer_keeps_the_offers_order_of_opus_and_red(order: str) -> None:
    """Browsers send the first format of the answer."""
    offer = parse_offer_untrusted(CHROMIUM.replace("SAVPF 111 63 9", f"SAVPF {order}"))
    answer = build_answer(offer, answer_parameters(Direction.SEND))
    formats = " ".join(part for part in order.split() if part in {"111", "63"})
    assert f"m=audio 40000 UDP/TLS/RTP/SAVPF {formats}\r\n" in answer
    assert "a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n" in answer
    parsed = parse_answer_untrusted(answer)
    assert (parsed.payload_type, parsed.red_payload_type) == (111, 63)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a=fmtp:63 111/111", "a=fmtp:63 111/9"),
        ("a=fmtp:63 111/111", "a=fmtp:63 9/9"),
        ("a=fmtp:63 111/111", "a=x-nothing"),
        ("a=rtpmap:63 red/48000/2", "a=rtpmap:63 red/8000"),
        ("SAVPF 111 63", "SAVPF 111"),
    ],
)
def test_red_of_something_else_is_passed_over(old: str, new: str) -> None:
    assert old in CHROMIUM
    offer = parse_offer_untrusted(CHROMIUM.replace(old, new))
    assert offer.red_payload_type is None
    assert "red" not in build_answer(offer, answer_parameters(Direction.SEND))


def test_one_number_for_opus_and_red_is_opus() -> None:
    text = CHROMIUM.replace("SAVPF 111 63", "SAVPF 111 0111").replace("a=rtpmap:63 red", "a=rtpmap:0111 red")
    offer = parse_offer_untrusted(text.replace("a=fmtp:63 111/111", "a=fmtp:0111 111/111"))
    assert (offer.payload_type, offer.red_payload_type, offer.formats) == (111, None, (111,))


@pytest.mark.parametrize("line", ["a=rtcp-fb:63 nack", "a=rtcp-fb:* nack"])
def test_nack_for_red_is_answered_where_it_was_offered(line: str) -> None:
    answer = build_answer(parse_offer_untrusted(with_line(CHROMIUM, line)), answer_parameters(Direction.SEND))
    assert "a=rtcp-fb:63 nack\r\n" in answer
    assert ("a=rtcp-fb:111 nack\r\n" in answer) == ("*" in line)


def test_extension_ids_that_fit_no_packet_are_skipped() -> None:
    text = CHROMIUM.replace("extmap:1 ", "extmap:15 ").replace("extmap:4 ", "extmap:4096 ")
    offer = parse_offer_untrusted(text)
    assert offer.audio_level_extension_id is None
    assert offer.mid_extension_id is None


@pytest.mark.parametrize(
    "line",
    ["a=candidate:x", "a=candidate:1 2 udp 1 192.0.2.9 9 typ host", "a=candidate:1 1 udp 0 192.0.2.9 9 typ host"],
)
def test_unreadable_candidates_are_passed_over(line: str) -> None:
    assert parse_offer_untrusted(with_line(CHROMIUM, line)) == parse_offer_untrusted(CHROMIUM)


def test_mdns_candidates_are_kept_as_names() -> None:
    name = "7c0b5a0e-33cd-4dcb-9bd3-2f5ad0a0b9d1.local"
    assert parse_offer_untrusted(CHROMIUM.replace("192.0.2.2 42781 typ", f"{name} 42781 typ")).candidates[0].ip == name


@pytest.mark.parametrize("name", OFFERS)
def test_an_answer_fits_its_offer(name: str) -> None:
    direction = Direction.RECV if name in LISTENERS else Direction.SEND
    offer = parse_offer_untrusted(OFFERS[name])
    text = build_answer(offer, answer_parameters(direction, V4, V6, TCP))
    answer = parse_answer_untrusted(text)
    assert answer.ice == ICE
    assert answer.candidates == (V4, V6, TCP)
    assert answer.fingerprints == (FINGERPRINT,)
    assert (answer.payload_type, answer.mid) == (offer.payload_type, offer.mid)
    assert set(answer.extensions.items()) <= set(offer.extensions.items())
    assert set(answer.extensions) <= {MID_URI, AUDIO_LEVEL_URI}
    assert answer.bundle == (offer.mid,)
    assert answer.ice_lite
    assert answer.end_of_candidates
    assert answer.nack == offer.nack
    assert (answer.red_payload_type, answer.formats) == (offer.red_payload_type, offer.formats)
    assert answer.setup is (Setup.ACTIVE if offer.setup is Setup.PASSIVE else Setup.PASSIVE)
    assert [line.kind for line in answer.media] == [line.kind for line in offer.media]
    assert [line.mid for line in answer.media] == [line.mid for line in offer.media]
    assert [line.usable for line in answer.media] == [i == offer.audio_index for i in range(len(offer.media))]
    if direction is Direction.RECV:
        assert answer.direction is SdpDirection.SENDONLY
        assert (answer.ssrc, answer.cname) == (1019260641, "program")
    else:
        assert answer.direction is SdpDirection.RECVONLY
        assert answer.ssrc is None
        assert "msid:" not in text


@pytest.mark.parametrize("name", OFFERS)
def test_aiortc_understands_our_answers(name: str) -> None:
    direction = Direction.RECV if name in LISTENERS else Direction.SEND
    offer = parse_offer_untrusted(OFFERS[name])
    theirs = aiortc_sdp.SessionDescription.parse(build_answer(offer, answer_parameters(direction, V4, V6)))
    media = theirs.media[offer.audio_index]
    assert media.ice is not None
    assert (media.ice.usernameFragment, media.ice.password, media.ice.iceLite) == (
        ICE.username_fragment,
        ICE.password,
        True,
    )
    assert [(c.ip, c.port, c.type) for c in media.ice_candidates] == [(c.ip, c.port, c.type) for c in (V4, V6)]
    assert media.ice_candidates_complete
    assert media.rtcp_mux
    assert [c.payloadType for c in media.rtp.codecs] == list(offer.formats)
    assert [m.port for i, m in enumerate(theirs.media) if i != offer.audio_index] == [0] * (len(theirs.media) - 1)
    if direction is Direction.RECV:
        assert [(s.ssrc, s.cname) for s in media.ssrc] == [(1019260641, "program")]


@pytest.mark.parametrize("direction", Direction)
def test_a_live_aiortc_connection_takes_our_answer(direction: Direction) -> None:
    async def exchange() -> str:
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        try:
            way = "sendonly" if direction is Direction.SEND else "recvonly"
            connection.addTransceiver("audio", direction=way)
            await connection.setLocalDescription(await connection.createOffer())
            offer = parse_offer_untrusted(connection.localDescription.sdp)
            answer = build_answer(offer, answer_parameters(direction, IceCandidate("1", 1, "127.0.0.1", 9)))
            await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
            return str(connection.signalingState)
        finally:
            await connection.close()

    assert asyncio.run(exchange()) == "stable"


def test_an_answer_line_by_line() -> None:
    offer = parse_offer_untrusted(with_line(OFFERS["chromium_listen"], "a=rtcp-fb:111 nack"))
    assert build_answer(offer, answer_parameters(Direction.RECV, V6, TCP)).split("\r\n") == [
        "v=0",
        "o=- 1 1 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=ice-lite",
        "a=group:BUNDLE 0",
        "a=msid-semantic: WMS *",
        "m=audio 40000 UDP/TLS/RTP/SAVPF 111 63",
        "c=IN IP6 2001:db8::1",
        "a=ice-ufrag:0cee114c",
        "a=ice-pwd:95139c3ea582571f1bb4e2de",
        "a=candidate:2 1 udp 2130706175 2001:db8::1 40000 typ host",
        "a=candidate:3 1 tcp 2105458943 192.0.2.1 40000 typ host tcptype passive",
        "a=end-of-candidates",
        f"a=fingerprint:sha-256 {FINGERPRINT.value}",
        "a=setup:passive",
        "a=mid:0",
        "a=sendonly",
        "a=rtcp-mux",
        "a=rtcp-rsize",
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 minptime=10;useinbandfec=1",
        "a=rtcp-fb:111 nack",
        "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        "a=rtpmap:63 red/48000/2",
        "a=fmtp:63 111/111",
        "a=msid:program audio",
        "a=ssrc:1019260641 cname:program",
        "a=ssrc:1019260641 msid:program audio",
        "",
    ]


def test_stereo_is_answered_with_stereo() -> None:
    offer = parse_offer_untrusted(OFFERS["obs_publish"])
    assert ";stereo=1;sprop-stereo=1" in build_answer(offer, answer_parameters(Direction.SEND))


@pytest.mark.parametrize("direction", Direction)
def test_answering_against_the_offers_direction_is_refused(direction: Direction) -> None:
    offer = parse_offer_untrusted(CHROMIUM.replace("a=sendonly", "a=inactive"))
    with pytest.raises(SdpError, match="a=inactive"):
        build_answer(offer, answer_parameters(direction))


@pytest.mark.parametrize("setup", Setup)
@pytest.mark.parametrize("direction", Direction)
def test_our_own_two_roles_understand_each_other(direction: Direction, setup: Setup) -> None:
    publishing = direction is Direction.SEND
    parameters = OfferParameters(
        ice=IceParameters("abcd", "q" * 22),
        candidates=(V6,),
        fingerprints=(FINGERPRINT,),
        direction=direction,
        ssrc=7 if publishing else None,
        cname="me" if publishing else None,
        setup=setup,
        red_payload_type=63,
    )
    offer = parse_offer_untrusted(build_offer(parameters))
    assert offer.ice == parameters.ice
    assert offer.candidates == (V6,)
    assert offer.setup is setup
    if publishing:
        assert offer.producer_parameters() == ProducerParameters(
            100, 7, "0", 1, 10, 2, nack=True, red_payload_type=63, reduced_size_rtcp=True
        )
    else:
        assert offer.consumer_parameters() == ConsumerParameters(red_payload_type=63)
    answer = parse_answer_untrusted(build_answer(offer, answer_parameters(direction)))
    role = DtlsRole.CLIENT if setup is Setup.PASSIVE else DtlsRole.SERVER
    assert answer.dtls_parameters() == DtlsParameters(role, (FINGERPRINT,))
    assert (answer.payload_type, answer.nack, answer.audio_level_extension_id) == (100, True, 10)
    assert answer.ssrc == (None if publishing else 1019260641)
    aiortc_sdp.SessionDescription.parse(build_offer(parameters))


def test_an_offer_without_candidates_promises_nothing() -> None:
    text = build_offer(OfferParameters(ICE, (), (FINGERPRINT,), Direction.RECV))
    assert "m=audio 9 " in text
    assert "c=IN IP4 0.0.0.0" in text
    assert "end-of-candidates" not in text


def test_answers_that_leave_us_nothing_are_refused() -> None:
    answer = build_answer(parse_offer_untrusted(CHROMIUM), answer_parameters(Direction.SEND))
    assert isinstance(parse_answer_untrusted(answer), Answer)
    with pytest.raises(SdpError, match="leaves the DTLS role open"):
        parse_answer_untrusted(answer.replace("setup:passive", "setup:actpass"))
    with pytest.raises(SdpError, match="audio line of the answer is switched off"):
        parse_answer_untrusted(answer.replace("m=audio 40000", "m=audio 0"))


@pytest.mark.parametrize("name", OFFERS)
def test_a_truncated_offer_is_refused_or_a_smaller_offer(name: str) -> None:
    lines = OFFERS[name].split("\n")
    for count in range(len(lines)):
        try:
            offer = parse_offer_untrusted("\n".join(lines[:count]))
        except SdpError:
            continue
        assert isinstance(offer, Offer)
        assert replace(offer) == offer
