"""How much is tried: a few seconds for each target, or as many examples as FUZZ_EXAMPLES says (`make fuzz`)."""

from __future__ import annotations

import os

from hypothesis import settings

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "300"))
#: For targets of microseconds, and for those with a handshake or a whole session in each example.
fast = settings(max_examples=EXAMPLES)
slow = settings(max_examples=max(10, EXAMPLES // 6))
