"""What counts as an e-mail address, a password and a display name. Pure."""

from __future__ import annotations

import re
import unicodedata

from lac.text import clean_line, invalid

EMAIL_MAX = 254  # RFC 5321 section 4.5.3.1.3, less the angle brackets
LOCAL_PART_MAX = 64  # RFC 5321 section 4.5.3.1.1
PASSWORD_MIN = 10
PASSWORD_MAX = 128
DISPLAY_NAME_MAX = 64

_LOCAL_PART = re.compile(r"[^\s@<>()\[\],;:\"\\]+")
_DOMAIN = re.compile(r"(?:[\w](?:[\w-]{0,61}[\w])?\.)+[\w](?:[\w-]{0,61}[\w])?")


def normalise_email(value: str) -> str:
    """The address in the one form in which we store and look it up: trimmed, NFC, lower case.

    Whether it exists only a message to it can tell; this refuses what cannot be an address.
    """
    email = unicodedata.normalize("NFC", value).strip().lower()
    local, at, domain = email.rpartition("@")
    if (
        not at
        or len(email) > EMAIL_MAX
        or len(local) > LOCAL_PART_MAX
        or not email.isprintable()
        or not _LOCAL_PART.fullmatch(local)
        or not _DOMAIN.fullmatch(domain)
    ):
        raise invalid("email", "is not an e-mail address")
    return email


def check_password(value: str, *, field: str = "password") -> str:
    """The password as it is hashed: NFKC, so that it does not depend on the keyboard that typed it."""
    password = unicodedata.normalize("NFKC", value)
    if len(password) < PASSWORD_MIN:
        raise invalid(field, f"is shorter than {PASSWORD_MIN} characters")
    if len(password) > PASSWORD_MAX:
        raise invalid(field, f"is longer than {PASSWORD_MAX} characters")
    if any(unicodedata.category(char) == "Cs" for char in password):
        raise invalid(field, "contains characters that do not exist")
    return password


def check_display_name(value: str) -> str:
    return clean_line("displayName", value, max_length=DISPLAY_NAME_MAX)
