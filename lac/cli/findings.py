"""What `lac doctor` finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

#: For whatever is asked.
TIMEOUT_S = 5.0


class Verdict(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    verdict: Verdict
    subject: str
    text: str
    #: What to do. Empty where nothing needs to be done.
    advice: str = ""


Findings = Iterator[Finding]
