"""Opaque identifiers: 80 random bits in lower-case base32, safe in URLs and impractical to guess."""

import base64
import secrets


def new_id() -> str:
    return base64.b32encode(secrets.token_bytes(10)).decode("ascii").lower()
