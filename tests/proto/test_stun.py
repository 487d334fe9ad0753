from __future__ import annotations

import pytest
from aioice import stun as aioice_stun
from hypothesis import given
from hypothesis import strategies as st

from lac_media.errors import LocalProtocolError, ParseError
from lac_media.proto.stun import (
    Class,
    Method,
    binding_error,
    binding_request,
    binding_success,
    is_authentic,
    local_ufrag,
    parse_stun_untrusted,
)

# RFC 5769 section 2.1: a request by an implementation that is neither ours nor aioice.
RFC_5769_REQUEST = bytes.fromhex(
    "00010058 2112a442 b7e7a701 bc34d686 fa87dfae"
    "80220010 5354554e 20746573 7420636c 69656e74"
    "00240004 6e0001ff 80290008 932ff9b1 51263b36"
    "00060009 6576746a 3a683676 59202020"
    "00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2 80280004 e57a3bcf"
)
# RFC 5769 section 2.3: the answer over IPv6.
RFC_5769_RESPONSE = bytes.fromhex(
    "01010048 2112a442 b7e7a701 bc34d686 fa87dfae"
    "8022000b 74657374 20766563 746f7220"
    "00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9"
    "00080014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41 80280004 c8fb0b4c"
)
RFC_5769_PASSWORD = "VOkJxbRl1RmTxUk/WvJxBt"
PASSWORD = "p" * 24
TRANSACTION = bytes(range(12))


def request(**changes: object) -> bytes:
    options: dict[str, object] = {"priority": 0x7E0000FF, "tie_breaker": 2**63 + 1, "use_candidate": True}
    return binding_request(TRANSACTION, "ours:theirs", PASSWORD, **(options | changes))  # type: ignore[arg-type]


def raw(*attributes: tuple[int, bytes], length: int | None = None) -> bytes:
    body = b"".join(
        kind.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value + bytes(-len(value) % 4)
        for kind, value in attributes
    )
    size = len(body) if length is None else length
    return b"\x00\x01" + size.to_bytes(2, "big") + b"\x21\x12\xa4\x42" + TRANSACTION + body


def test_vectors_of_rfc_5769() -> None:
    message = parse_stun_untrusted(RFC_5769_REQUEST)
    assert message.attributes["PRIORITY"] == 0x6E0001FF
    assert local_ufrag(message) == "evtj"
    assert is_authentic(message, RFC_5769_PASSWORD)
    assert not is_authentic(message, RFC_5769_PASSWORD + "x")
    answer = parse_stun_untrusted(RFC_5769_RESPONSE)
    assert answer.attributes["XOR-MAPPED-ADDRESS"] == ("2001:db8:1234:5678:11:2233:4455:6677", 32853)
    assert is_authentic(answer, RFC_5769_PASSWORD)


def test_a_request_of_ours_says_what_it_was_given() -> None:
    message = parse_stun_untrusted(request())
    assert (message.message_class, message.message_method) == (Class.REQUEST, Method.BINDING)
    assert message.transaction_id == TRANSACTION
    assert message.attributes["USERNAME"] == "ours:theirs"
    assert message.attributes["PRIORITY"] == 0x7E0000FF
    assert message.attributes["ICE-CONTROLLING"] == 2**63 + 1
    assert "USE-CANDIDATE" in message.attributes
    assert is_authentic(message, PASSWORD)
    plain = parse_stun_untrusted(request(use_candidate=False, controlling=False)).attributes
    assert "USE-CANDIDATE" not in plain
    assert "ICE-CONTROLLED" in plain
    assert "ICE-CONTROLLING" not in plain


@given(
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str),
    st.integers(0, 65535),
    st.binary(min_size=12, max_size=12),
    st.text(max_size=40),
)
def test_a_success_response_is_byte_for_byte_what_aioice_makes(
    host: str, port: int, transaction: bytes, password: str
) -> None:
    asked = aioice_stun.Message(Method.BINDING, Class.REQUEST, transaction)
    theirs = aioice_stun.Message(Method.BINDING, Class.RESPONSE, transaction, {"XOR-MAPPED-ADDRESS": (host, port)})
    theirs.add_message_integrity(password.encode())
    ours = binding_success(asked, (host, port), password)
    assert ours == bytes(theirs)
    assert is_authentic(parse_stun_untrusted(ours), password)


def test_an_error_response_carries_code_and_reason() -> None:
    message = parse_stun_untrusted(binding_error(parse_stun_untrusted(request()), 487, "Role Conflict", PASSWORD))
    assert message.message_class == Class.ERROR
    assert message.attributes["ERROR-CODE"] == (487, "Role Conflict")
    assert is_authentic(message, PASSWORD)


def test_a_message_without_integrity_is_not_authentic() -> None:
    message = parse_stun_untrusted(raw((0x0006, b"ours:theirs"), (0x0024, bytes(4))))
    assert not is_authentic(message, PASSWORD)
    assert not is_authentic(message, "")


def test_changing_any_bit_of_what_the_integrity_covers_breaks_the_proof() -> None:
    data = request()
    for at in range(len(data) - 8):  # the last 8 bytes are FINGERPRINT
        for bit in (1, 0x80):
            forged = bytearray(data)
            forged[at] ^= bit
            try:
                message = parse_stun_untrusted(bytes(forged))
            except ParseError:
                continue
            assert not is_authentic(message, PASSWORD), f"byte {at}"


def test_what_follows_the_integrity_is_not_believed() -> None:
    unsigned = aioice_stun.Message(Method.BINDING, Class.REQUEST, TRANSACTION, {"USERNAME": "ours:theirs"})
    unsigned.add_message_integrity(PASSWORD.encode())
    del unsigned.attributes["FINGERPRINT"]
    unsigned.attributes["USE-CANDIDATE"] = None
    message = parse_stun_untrusted(bytes(unsigned))
    assert is_authentic(message, PASSWORD)
    assert "USE-CANDIDATE" not in message.attributes


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "shorter than its header"),
        (raw()[:19], "shorter than its header"),
        (b"\x40" + raw()[1:], "two zero bits"),
        (raw()[:4] + bytes(4) + raw()[8:], "magic cookie"),
        (raw(length=2) + b"ab", "multiple of 4"),
        (raw(length=4), "claims 4 bytes of attributes, 0"),
        (raw() + b"abcd", "claims 0 bytes of attributes, 4"),
        (raw((0x0024, b"abc")), "0x0024 has 3 bytes, not 4"),
        (raw((0x0024, b"")), "0x0024 has 0 bytes"),
        (raw((0x802A, bytes(4))), "0x802a has 4 bytes, not 8"),
        (raw((0x8028, bytes(3))), "0x8028 has 3 bytes"),
        (raw((0x0008, bytes(16))), "0x0008 has 16 bytes, not 20"),
        (raw((0x0025, bytes(4))), "0x0025 has 4 bytes, not 0"),
        (
            raw(
                (0x0006, b"\xff\xfe"),
            ),
            "utf-8",
        ),
        (raw((0x8028, bytes(4)), (0x0006, b"")), "not the last"),
        (raw((0x8028, bytes(4))), "fingerprint does not match"),
        (raw((0x0006, b"a"), (0x0006, b"b")), "0x0006 appears twice"),
        (raw((0x0020, bytes(3))), "address length"),
        (b"\x00\x00" + raw()[2:], "STUN"),  # an unknown method
        (raw(*((0xC000 + n, b"") for n in range(33))), "more than 32"),
    ],
)
def test_a_malformed_message_says_what_is_wrong(data: bytes, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        parse_stun_untrusted(data)


def test_an_attribute_longer_than_the_message_is_not_shortened() -> None:
    data = bytearray(raw((0x0006, b"ours:theirs1")))
    data[23] = 16
    with pytest.raises(ParseError, match="0x0006 claims 16 bytes, 12 are left"):
        parse_stun_untrusted(bytes(data))


@pytest.mark.parametrize("golden", [RFC_5769_REQUEST, RFC_5769_RESPONSE])
def test_each_truncation_is_refused(golden: bytes) -> None:
    for size in range(len(golden)):
        with pytest.raises(ParseError):
            parse_stun_untrusted(golden[:size])
        if size >= 20:  # under a true length, too, unless an attribute ends just there
            cut = golden[:2] + (size - 20).to_bytes(2, "big") + golden[4:size]
            try:
                message = parse_stun_untrusted(cut)
            except ParseError:
                continue
            assert is_authentic(message, RFC_5769_PASSWORD) == (size == len(golden) - 8)


def test_builders_refuse_what_cannot_be_encoded() -> None:
    asked = parse_stun_untrusted(request())
    with pytest.raises(LocalProtocolError, match="12 bytes"):
        binding_request(b"short", "a:b", PASSWORD, priority=1, tie_breaker=1)
    with pytest.raises(LocalProtocolError, match="out of range"):
        request(priority=2**32)
    with pytest.raises(LocalProtocolError, match="IP address"):
        binding_success(asked, ("localhost", 1), PASSWORD)
    with pytest.raises(LocalProtocolError):
        binding_success(asked, ("127.0.0.1", 65536), PASSWORD)
    with pytest.raises(LocalProtocolError, match="error code"):
        binding_error(asked, 200, "", PASSWORD)
