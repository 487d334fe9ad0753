from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lac_media.parameters import IceCandidate, IceParameters
from lac_media.proto.sdp import SdpError
from lac_media.proto.sdpfrag import SdpFragment, build_sdpfrag, parse_sdpfrag_untrusted

ICE = IceParameters("EsAw", "P2uYro0UCOQ4zxjKXaWCBui1")
CANDIDATE = IceCandidate("1387637174", 2122260223, "192.0.2.1", 61764)

# After the example of RFC 9725 section 4.3.2: credentials in front, candidates under their m-line.
TRICKLE = """a=group:BUNDLE 0 1
a=ice-ufrag:EsAw
a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1
m=audio 9 UDP/TLS/RTP/SAVPF 111
a=mid:0
a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1
a=candidate:3471623853 1 udp 2122194687 198.51.100.2 61765 typ host generation 0 ufrag EsAw network-id 2
a=end-of-candidates
"""

ice_text = st.text("abcXYZ019+/", min_size=22, max_size=40)
fragments = st.builds(
    SdpFragment,
    ice=st.none() | st.builds(IceParameters, ice_text, ice_text),
    candidates=st.lists(
        st.builds(
            IceCandidate,
            st.text("abc123+/", min_size=1, max_size=32),
            st.integers(1, 2**32 - 1),
            st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str),
            st.integers(0, 65535),
            st.sampled_from(["udp", "tcp"]),
            st.sampled_from(["host", "srflx", "relay"]),
        ),
        max_size=4,
    ).map(tuple),
    end_of_candidates=st.booleans(),
    mid=st.none() | st.text("abc123", min_size=1, max_size=8),
).filter(lambda f: f.ice is not None or f.end_of_candidates or bool(f.candidates))


@given(fragments, st.booleans())
def test_parse_undoes_build(fragment: SdpFragment, ice_lite: bool) -> None:
    assert parse_sdpfrag_untrusted(build_sdpfrag(fragment, ice_lite=ice_lite)) == fragment


def test_a_trickled_fragment() -> None:
    fragment = parse_sdpfrag_untrusted(TRICKLE.replace("\n", "\r\n"))
    assert fragment.ice == ICE
    assert fragment.candidates[0] == CANDIDATE
    assert len(fragment.candidates) == 2
    assert fragment.end_of_candidates
    assert fragment.mid == "0"


def test_a_restart_is_answered_line_by_line() -> None:
    text = build_sdpfrag(SdpFragment(ICE, (CANDIDATE,), end_of_candidates=True, mid="0"))
    assert text.split("\r\n") == [
        "a=ice-lite",
        "a=ice-options:ice2",
        "a=group:BUNDLE 0",
        "m=audio 9 UDP/TLS/RTP/SAVPF 0",
        "a=mid:0",
        "a=ice-ufrag:EsAw",
        "a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1",
        "a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host",
        "a=end-of-candidates",
        "",
    ]


def test_only_candidates_or_only_their_end_are_fragments_too() -> None:
    assert parse_sdpfrag_untrusted("a=end-of-candidates").end_of_candidates
    only = parse_sdpfrag_untrusted("a=candidate:1 1 udp 5 192.0.2.1 9 typ host")
    assert only.ice is None
    assert len(only.candidates) == 1
    assert parse_sdpfrag_untrusted("a=candidate:unreadable").candidates == ()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "neither ICE credentials nor candidates"),
        ("m=audio 9 RTP/AVP 0\na=mid:0", "neither ICE credentials nor candidates"),
        ("a=ice-ufrag:abcd", "needs both or neither"),
        ("a=ice-pwd:" + "p" * 22, "needs both or neither"),
        ("a=ice-ufrag:abc\na=ice-pwd:" + "p" * 22, "4 to 256"),
        ("a=mid:a b\na=end-of-candidates", "not a token"),
        ("nonsense", "Line 1"),
        ("a=" + "x" * 70_000, "65536 is the most"),
    ],
)
def test_a_refusal_is_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(SdpError, match=sentence):
        parse_sdpfrag_untrusted(text)
