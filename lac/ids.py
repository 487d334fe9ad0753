"""Opaque identifiers: 80 random bits in lower-case base32, safe in URLs and impractical to guess."""

import base64
import hashlib
import secrets


def new_id() -> str:
    return base64.b32encode(secrets.token_bytes(10)).decode("ascii").lower()


def repeatable_id(*parts: str) -> str:
    """The same id for the same parts, as long as a new one: for what a client may send twice and we keep once."""
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()
    return base64.b32encode(digest[:10]).decode().lower()
