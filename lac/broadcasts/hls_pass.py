"""The passes of HLS listeners: a part of the address of everything that a player asks for.

Players (a browser's own, a television) cannot send a header, so the address itself says who listens, signed by us. Like
a sign-in it is short-lived: it must come into use before it expires, and then holds while it is used. Pure.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from datetime import datetime, timedelta

import msgspec

from lac.auth.tokens import keyed_digest

PASS_LIFETIME = timedelta(minutes=15)
PASS_MAX = 1024
_SIGNATURE_BYTES = 16


class HlsPass(msgspec.Struct, frozen=True, array_like=True):
    """`id` is the listening session's. Without a `person_id` the listener is nobody in particular."""

    id: str
    #: Unix seconds.
    expires_at: int
    person_id: str | None = None
    is_guest: bool = False
    sign_in_id: str | None = None
    invite_version: int | None = None
    #: Of somebody without an account: what bans know them by.
    address_hash: str | None = None

    @property
    def owner(self) -> str:
        """Who this is in the history of listeners."""
        return self.person_id or f"anon-{self.id}"

    @property
    def user_id(self) -> str | None:
        return None if self.is_guest else self.person_id

    def is_expired(self, now: datetime) -> bool:
        return now.timestamp() >= self.expires_at


def new_pass(
    pass_id: str,
    person_id: str | None,
    *,
    is_guest: bool = False,
    sign_in_id: str | None = None,
    invite_version: int | None = None,
    address_hash: str | None = None,
    now: datetime,
) -> HlsPass:
    expires_at = int((now + PASS_LIFETIME).timestamp())
    return HlsPass(pass_id, expires_at, person_id, is_guest, sign_in_id, invite_version, address_hash)


def encode_pass(listener: HlsPass, broadcast_id: str, *, key: str) -> str:
    """Base64url text, without dots or anything else that an address would have to escape."""
    payload = msgspec.msgpack.encode(listener)
    return base64.urlsafe_b64encode(_sign(payload, broadcast_id, key) + payload).decode().rstrip("=")


def decode_pass_untrusted(text: str, broadcast_id: str, *, key: str) -> HlsPass | None:
    """The pass, if it is one of ours for this broadcast; whether it has expired is for the caller to look at."""
    if len(text) > PASS_MAX:
        return None
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return None
    signature, payload = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
    if not hmac.compare_digest(signature, _sign(payload, broadcast_id, key)):
        return None
    try:
        return msgspec.msgpack.decode(payload, type=HlsPass)
    except (msgspec.DecodeError, msgspec.ValidationError):  # of another version of ours
        return None


def _sign(payload: bytes, broadcast_id: str, key: str) -> bytes:
    return keyed_digest("hls-pass", broadcast_id, payload.hex(), key=key)[:_SIGNATURE_BYTES]
