"""What a store can answer that is no success. `lac.storage.s3` maps whatever boto3 raises to one of these."""

from __future__ import annotations


class StoreError(Exception):
    """Base. The message is a sentence for the operator; it has no key in it."""


class StoreAwayError(StoreError):
    """Cannot be reached, is too slow or overloaded: passing. Try again later."""


class StoreRefusedError(StoreError):
    """Answers, but not to us, or not to this: a wrong key, no right, no bucket. Somebody has to mend the settings.

    `code` is the store's own word.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class UploadGoneError(StoreError):
    """The store does not know this multipart upload, or a part of it, any more. Begin it anew."""
