"""Sending e-mail: what services need of it, and a mailer for servers that have none configured.

The one for those that have is in `lac.mail_smtp`, which also chooses.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TextIO

import structlog

from lac.console import for_people

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Mail:
    """Plain text. `text` may hold a link that lets its reader in: it is in no log and no repr."""

    to: str = field(repr=False)
    subject: str
    text: str = field(repr=False)


class Mailer(Protocol):
    async def send(self, mail: Mail) -> None:
        """Hand the mail over. Raises `UnavailableError` when that is not possible now."""


class ConsoleMailer:
    """Writes mails to the console, for the operator to pass on: the one place where such links are ever shown.

    At most `BURST` at once and one more every `REFILL_S`; the rest is dropped and counted, so that strangers who fill
    in forms cannot flood the log.
    """

    BURST = 20
    REFILL_S = 3.0

    def __init__(self, stream: TextIO | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._left = float(self.BURST)
        self._counted_at = clock()
        self.dropped = 0

    async def send(self, mail: Mail) -> None:
        now = self._clock()
        self._left = min(self.BURST, self._left + (now - self._counted_at) / self.REFILL_S)
        self._counted_at = now
        if self._left < 1:
            self.dropped += 1
            log.warning("too many mails for the console: one is dropped", subject=mail.subject, dropped=self.dropped)
            return
        self._left -= 1
        log.info("mail on the console, no mail server is configured", subject=mail.subject)
        stream = self._stream or for_people()
        body = "".join(f"  {line}\n" for line in mail.text.splitlines())
        stream.write(f"--- e-mail to {mail.to}: {mail.subject}\n{body}---\n")
        stream.flush()
