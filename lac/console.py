"""Where words for people go. Programs read the log on standard output, one JSON object a line: nothing else goes there
unless somebody sits in front of it."""

from __future__ import annotations

import sys
from typing import TextIO


def for_people() -> TextIO:
    return sys.stdout if sys.stdout.isatty() else sys.stderr
