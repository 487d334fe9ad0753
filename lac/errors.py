"""The caller's mistakes, each with a stable `code`. `lac_web.errors` maps every class to one HTTP status, once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lac.rooms.values import HlsAddress


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field of the caller's input that cannot be taken. `field` is a JSON path without the leading `$.`."""

    field: str
    message: str


class LacError(Exception):
    """Base. `code` is stable and for programs, `detail` is a sentence for people that says what to do next."""

    code = "error"

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        if code is not None:
            self.code = code


class InvalidInputError(LacError):
    """Well-formed, but not acceptable (422)."""

    code = "invalid_input"

    def __init__(self, detail: str, *errors: FieldError, code: str | None = None) -> None:
        super().__init__(detail, code=code)
        self.errors = errors


class NotSignedInError(LacError):
    """No identity, or one that no longer counts (401): `token_expired`, `token_invalid`, `invalid_credentials`."""

    code = "not_signed_in"


class ForbiddenError(LacError):
    """Known, but may not (403)."""

    code = "forbidden"


class NotFoundError(LacError):
    """No such thing, or none that this caller may know of (404)."""

    code = "not_found"


class ConflictError(LacError):
    """Possible in another state, not in this one (409): `not_live`, `already_ended`, `email_taken`, `stage_full`."""

    code = "conflict"


class ChangedError(LacError):
    """It is not what the caller has seen any more (412)."""

    code = "precondition_failed"


class TooManyRequestsError(LacError):
    """A limit is reached (429). `retry_after_s` says when to try again."""

    code = "too_many_requests"

    def __init__(self, detail: str, *, retry_after_s: float, code: str | None = None) -> None:
        super().__init__(detail, code=code)
        self.retry_after_s = retry_after_s


class UnavailableError(LacError):
    """Ours, and passing: draining, overloaded, database away (503)."""

    code = "unavailable"

    def __init__(
        self, detail: str, *, retry_after_s: float = 1.0, code: str | None = None, hls: HlsAddress | None = None
    ) -> None:
        super().__init__(detail, code=code)
        self.retry_after_s = retry_after_s
        #: Where to listen instead.
        self.hls = hls


class ConfigError(LacError):
    """The configuration cannot work. The message names the variable and stops the start with exit code 1."""

    code = "config"
