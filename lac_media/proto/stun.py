"""STUN for ICE (RFC 8489, RFC 8445 section 7) with `aioice.stun` as the codec.

aioice's parser trusts the sizes that a message claims, and neither the magic cookie nor the position of FINGERPRINT is
looked at; `parse_stun_untrusted` checks all of that first.
"""

from __future__ import annotations

import hmac
from binascii import crc32
from ipaddress import ip_address
from struct import Struct
from struct import error as struct_error

from aioice import stun
from aioice.stun import Class, Message, Method

from lac_media.errors import LocalProtocolError, ParseError
from lac_media.parameters import Address

__all__ = [
    "Class",
    "Message",
    "Method",
    "binding_error",
    "binding_request",
    "binding_success",
    "is_authentic",
    "local_ufrag",
    "parse_stun_untrusted",
]

HEADER_LENGTH = 20
MAGIC_COOKIE = 0x2112A442
#: Bigger than any connectivity check; bounds what a stranger can make us look at.
MAX_ATTRIBUTES = 32

_HEADER = Struct("!HHL")
_ATTRIBUTE = Struct("!HH")
_MESSAGE_INTEGRITY, _XOR_MAPPED_ADDRESS, _FINGERPRINT = 0x0008, 0x0020, 0x8028
_FINGERPRINT_XOR = 0x5354554E
_BINDING_SUCCESS = 0x0101
_COOKIE_BYTES = MAGIC_COOKIE.to_bytes(4, "big")
_MAPPED = Struct("!HHxBH")
_INTEGRITY_HEAD = _ATTRIBUTE.pack(_MESSAGE_INTEGRITY, 20)
_FINGERPRINT_ATTRIBUTE = Struct("!HHL")
#: Length in bytes of every attribute that has a fixed one (RFC 8489 section 14, RFC 8445 section 16.1).
_FIXED_LENGTHS = {
    _MESSAGE_INTEGRITY: 20,
    0x0003: 4,  # CHANGE-REQUEST
    0x000C: 4,  # CHANNEL-NUMBER
    0x000D: 4,  # LIFETIME
    0x0019: 4,  # REQUESTED-TRANSPORT
    0x0024: 4,  # PRIORITY
    0x0025: 0,  # USE-CANDIDATE
    _FINGERPRINT: 4,
    0x8029: 8,  # ICE-CONTROLLED
    0x802A: 8,  # ICE-CONTROLLING
}


def parse_stun_untrusted(data: bytes) -> Message:
    """Parse a STUN message, its FINGERPRINT verified if there is one. Raises ParseError, nothing else.

    The sender is not proven by this: see `is_authentic`. Attributes after MESSAGE-INTEGRITY are left out, since
    nothing protects them (RFC 8489 section 14.5).
    """
    size = len(data)
    if size < HEADER_LENGTH:
        raise ParseError(f"STUN message of {size} bytes is shorter than its header of 20")
    kind, length, cookie = _HEADER.unpack_from(data)
    if kind & 0xC000:
        raise ParseError("STUN message does not begin with two zero bits")
    if cookie != MAGIC_COOKIE:
        raise ParseError("STUN magic cookie is missing")
    if length % 4:
        raise ParseError(f"STUN length {length} is not a multiple of 4")
    if length != size - HEADER_LENGTH:
        raise ParseError(f"STUN header claims {length} bytes of attributes, {size - HEADER_LENGTH} are there")
    _check_attributes(data, size)
    try:
        return stun.parse_message(data)
    except (ValueError, struct_error) as exc:  # UnicodeDecodeError is a ValueError
        raise ParseError(f"STUN: {exc}") from exc


def _check_attributes(data: bytes, size: int) -> None:
    """Walk the attributes: each within the message, fixed sizes right, none twice that matters, FINGERPRINT last."""
    pos = HEADER_LENGTH
    seen = set()
    while pos < size:
        # The total is a multiple of 4 and every step is: at least 4 bytes are left here.
        kind, length = _ATTRIBUTE.unpack_from(data, pos)
        end = pos + 4 + length + (-length & 3)
        if end > size:
            raise ParseError(f"STUN attribute 0x{kind:04x} claims {length} bytes, {size - pos - 4} are left")
        if _FIXED_LENGTHS.get(kind, length) != length:
            raise ParseError(f"STUN attribute 0x{kind:04x} has {length} bytes, not {_FIXED_LENGTHS[kind]}")
        if kind in seen and kind in stun.ATTRIBUTES_BY_TYPE:
            # aioice keeps the last, RFC 8489 section 14 the first: no honest ICE agent repeats one.
            raise ParseError(f"STUN attribute 0x{kind:04x} appears twice")
        seen.add(kind)
        if len(seen) > MAX_ATTRIBUTES:
            raise ParseError(f"STUN message has more than {MAX_ATTRIBUTES} attributes")
        if kind == _FINGERPRINT and end != size:
            raise ParseError("STUN FINGERPRINT is not the last attribute")
        pos = end


def is_authentic(message: Message, password: str) -> bool:
    """Does MESSAGE-INTEGRITY, over the bytes as received, prove the ICE `password`? Its absence is failure.

    `message` comes from `parse_stun_untrusted`, which has dropped whatever MESSAGE-INTEGRITY does not cover.
    """
    return bool(message.check_message_integrity(password.encode("utf-8")))


def local_ufrag(message: Message) -> str | None:
    """The receiver's part of USERNAME, "receiver:sender" (RFC 8445 section 7.2.2). None without a colon."""
    username = message.attributes.get("USERNAME")
    if not isinstance(username, str):
        return None
    ours, colon, _ = username.partition(":")
    return ours if colon else None


def binding_request(
    transaction_id: bytes,
    username: str,
    password: str,
    *,
    priority: int,
    tie_breaker: int,
    controlling: bool = True,
    use_candidate: bool = False,
) -> bytes:
    """A connectivity check (RFC 8445 section 7.1). `username` is "theirs:ours", `password` theirs."""
    attributes: dict[str, object] = {
        "USERNAME": username,
        "ICE-CONTROLLING" if controlling else "ICE-CONTROLLED": tie_breaker,
        "PRIORITY": priority,
    }
    if use_candidate:
        attributes["USE-CANDIDATE"] = None
    return _signed(Class.REQUEST, transaction_id, attributes, password)


def binding_success(request: Message, mapped_address: Address, password: str) -> bytes:
    """Answer a check. `mapped_address` is where it came from, `password` ours.

    Written by hand because every listener asks for one every two seconds: a quarter of the time aioice takes, and
    the same bytes. Raises LocalProtocolError for an address that is none.
    """
    host, port = mapped_address[:2]
    try:
        packed = ip_address(host).packed
    except ValueError as exc:
        raise LocalProtocolError(f"{host!r} is not an IP address") from exc
    if not 0 <= port <= 0xFFFF:
        raise LocalProtocolError(f"{port} is not a port")
    transaction_id = request.transaction_id
    # RFC 8489 section 14.2: address XOR (cookie, transaction id); port XOR the upper half of the cookie.
    mask = _COOKIE_BYTES + transaction_id
    size = len(packed)
    address = (int.from_bytes(packed, "big") ^ int.from_bytes(mask[:size], "big")).to_bytes(size, "big")
    mapped = _MAPPED.pack(_XOR_MAPPED_ADDRESS, 4 + size, 1 if size == 4 else 2, port ^ MAGIC_COOKIE >> 16)
    # Both digests count the length up to and including their own attribute (RFC 8489 sections 14.5 and 14.7).
    attributes = len(mapped) + size
    rest = _COOKIE_BYTES + transaction_id + mapped + address
    covered = _ATTRIBUTE.pack(_BINDING_SUCCESS, attributes + 24) + rest
    rest += _INTEGRITY_HEAD + hmac.digest(password.encode("utf-8"), covered, "sha1")
    message = _ATTRIBUTE.pack(_BINDING_SUCCESS, attributes + 32) + rest
    return message + _FINGERPRINT_ATTRIBUTE.pack(_FINGERPRINT, 4, crc32(message) ^ _FINGERPRINT_XOR)


def binding_error(request: Message, code: int, reason: str, password: str) -> bytes:
    """Refuse an authenticated check, for instance with 487 Role Conflict (RFC 8445 section 7.3.1.1)."""
    if not 300 <= code <= 699:
        raise LocalProtocolError(f"STUN error code {code} is not within 300 to 699")
    return _signed(Class.ERROR, request.transaction_id, {"ERROR-CODE": (code, reason)}, password)


def _signed(message_class: Class, transaction_id: bytes, attributes: dict[str, object], password: str) -> bytes:
    if len(transaction_id) != 12:
        raise LocalProtocolError(f"a STUN transaction id has 12 bytes, not {len(transaction_id)}")
    message = Message(Method.BINDING, message_class, transaction_id, attributes)
    try:
        message.add_message_integrity(password.encode("utf-8"))
        return bytes(message)
    except (struct_error, ValueError) as exc:
        raise LocalProtocolError(f"STUN attribute out of range: {exc}") from exc
