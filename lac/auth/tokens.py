"""The tokens that clients carry. Pure: keys and the time come in as arguments.

Access and guest tokens are JWTs (RFC 7519) signed with HS256; `typ` keeps one from being used as the other. Tokens for
setup, for a link in an e-mail and of a new sign-in are random; the database keeps only their HMAC, so that a copy of it
opens nothing. The refresh tokens after the first follow from the one before and our key, see `successor_of`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import jwt

from lac.errors import NotSignedInError

ACCESS_LIFETIME = timedelta(minutes=15)
GUEST_LIFETIME = timedelta(hours=12)
REFRESH_LIFETIME = timedelta(days=30)
#: For so long a used refresh token may be presented again, by a client that did not get the answer.
REFRESH_RETRY_WINDOW = timedelta(seconds=10)
SETUP_LIFETIME = timedelta(hours=24)
VERIFY_LIFETIME = timedelta(days=3)
RESET_LIFETIME = timedelta(hours=1)
#: Somebody has typed it into a radio.
LISTEN_LIFETIME = timedelta(days=7)
TOKEN_MAX = 4096

_ALGORITHM = "HS256"


@dataclass(frozen=True, slots=True)
class AccessClaims:
    user_id: str
    #: The family of refresh tokens that it came with: the token is worth nothing once that is revoked.
    sign_in_id: str


@dataclass(frozen=True, slots=True)
class GuestClaims:
    guest_id: str
    broadcast_id: str
    display_name: str
    #: Of the invite link that the guest came by, if it was one.
    invite_version: int | None = None


@dataclass(frozen=True, slots=True)
class ListenClaims:
    """For an address that is given to a player: good for listening to one broadcast, and nothing else."""

    user_id: str
    sign_in_id: str
    broadcast_id: str


def encode_access(claims: AccessClaims, *, key: str, now: datetime) -> str:
    return _encode({"typ": "access", "sub": claims.user_id, "sid": claims.sign_in_id}, ACCESS_LIFETIME, key, now)


def encode_guest(claims: GuestClaims, *, key: str, now: datetime) -> str:
    payload = {
        "typ": "guest",
        "sub": claims.guest_id,
        "broadcast": claims.broadcast_id,
        "name": claims.display_name,
    }
    if claims.invite_version is not None:
        payload["invite"] = str(claims.invite_version)
    return _encode(payload, GUEST_LIFETIME, key, now)


def encode_listen(claims: ListenClaims, *, key: str, now: datetime) -> str:
    payload = {"typ": "listen", "sub": claims.user_id, "sid": claims.sign_in_id, "broadcast": claims.broadcast_id}
    return _encode(payload, LISTEN_LIFETIME, key, now)


def decode_listen_untrusted(token: str, *, key: str, now: datetime) -> ListenClaims | GuestClaims:
    """The claims of a token that may stand in a player's address: not those of an access token, which opens more.
    Raises as `decode_token_untrusted`."""
    payload = _payload_untrusted(token, key, now)
    match payload:
        case {"typ": "listen", "sub": str(user_id), "sid": str(sign_in_id), "broadcast": str(broadcast_id)}:
            return ListenClaims(user_id, sign_in_id, broadcast_id)
    claims = _claims_of(payload)
    if isinstance(claims, GuestClaims):
        return claims
    raise _invalid()


def decode_token_untrusted(token: str, *, key: str, now: datetime) -> AccessClaims | GuestClaims:
    """The claims of a token of ours. Raises `NotSignedInError` with `token_expired` or `token_invalid`."""
    return _claims_of(_payload_untrusted(token, key, now))


def _payload_untrusted(token: str, key: str, now: datetime) -> dict[str, Any]:
    """What a token of ours says that has not expired."""
    if len(token) > TOKEN_MAX:
        raise _invalid()
    try:
        payload = _signed_payload_untrusted(token, key)
    except (jwt.InvalidTokenError, ValueError):  # ValueError: text that is not ASCII
        raise _invalid() from None
    expires_at = payload["exp"]
    if not isinstance(expires_at, int) or isinstance(expires_at, bool):
        raise _invalid()
    if now.timestamp() >= expires_at:
        raise NotSignedInError("Your sign-in has expired. Refresh it or sign in again.", code="token_expired")
    return payload


@lru_cache(maxsize=1024)
def _signed_payload_untrusted(token: str, key: str) -> dict[str, Any]:
    """What a token says that we have signed, whenever that was: this does not change, and is asked again and again.
    Raises what `jwt.decode` raises, or ValueError. Not to be changed by the caller."""
    payload: dict[str, Any] = jwt.decode(
        token,
        key,
        algorithms=[_ALGORITHM],
        # The caller compares the times, with its own clock.
        options={"require": ["typ", "sub", "exp"], "verify_exp": False, "verify_iat": False, "verify_nbf": False},
    )
    return payload


def _claims_of(payload: dict[str, Any]) -> AccessClaims | GuestClaims:
    match payload:
        case {"typ": "access", "sub": str(user_id), "sid": str(sign_in_id)}:
            return AccessClaims(user_id, sign_in_id)
        case {"typ": "access", "sub": str()}:  # of the version before: clients refresh an expired one by themselves
            raise NotSignedInError("Your sign-in has to be refreshed.", code="token_expired")
        case {"typ": "guest", "sub": str(guest_id), "broadcast": str(broadcast_id), "name": str(name)}:
            invite = payload.get("invite")
            return GuestClaims(guest_id, broadcast_id, name, None if invite is None else int(invite))
        case _:
            raise _invalid()


def new_opaque_token() -> str:
    return secrets.token_urlsafe(32)


def successor_of(refresh_token: str, *, key: str) -> str:
    """The refresh token that replaces this one. Whoever retries because the answer was lost gets the same again, so
    that a family is a chain and never a tree: a second user of any link of it is always found out."""
    digest = keyed_digest("refresh-successor", refresh_token, key=key)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def hash_opaque_token(token: str, *, key: str) -> str:
    """64 hex digits: what the database keeps of a refresh or setup token."""
    return keyed_digest("opaque-token", token, key=key).hex()


def hash_address(address: str, *, key: str) -> str:
    """64 hex digits for the network that a client comes from: an IPv4 address, or the /64 of an IPv6 one, within which
    a client chooses freely."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return keyed_digest("address", address, key=key).hex()
    if isinstance(ip, ipaddress.IPv6Address):
        mapped = ip.ipv4_mapped
        network = str(mapped) if mapped else str(ipaddress.ip_network((int(ip) >> 64 << 64, 64)).network_address)
        return keyed_digest("address", network, key=key).hex()
    return keyed_digest("address", str(ip), key=key).hex()


def keyed_digest(purpose: str, *parts: str, key: str) -> bytes:
    """HMAC-SHA256 over `parts`. Digests for different purposes, and the signatures of JWTs, never coincide."""
    # NUL separates: neither our ids nor the base64 text that a JWT signs can contain it.
    message = "\0".join((f"liveaudiocast {purpose}", *parts))
    return hmac.digest(key.encode(), message.encode("utf-8", "surrogatepass"), hashlib.sha256)


def _encode(payload: dict[str, str], lifetime: timedelta, key: str, now: datetime) -> str:
    issued_at = int(now.astimezone(UTC).timestamp())
    times = {"iat": issued_at, "exp": issued_at + int(lifetime.total_seconds())}
    return jwt.encode({**payload, **times}, key, algorithm=_ALGORITHM)


def _invalid() -> NotSignedInError:
    return NotSignedInError("This token is not valid here. Sign in again.", code="token_invalid")
