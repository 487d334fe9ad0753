"""`lac serve` that sends its program unencrypted when told so: `python -m benchmarks.unencrypted_server serve`.

SIGUSR1 switches over and back while it runs; everything else is the same. Nobody can listen to it: it is the floor that
`benchmarks.encryption` measures against.
"""

from __future__ import annotations

import signal
import sys
from typing import Any

import numpy as np

from lac.cli.main import main
from lac_media.net.batch import MmsgBatch

#: As much as encryption adds, so that the kernel carries the same: the tag of AES-GCM.
TAG = bytes(16)
_send_protected = MmsgBatch._send


def send_plain(self: MmsgBatch, _protect: Any, count: int) -> int:
    size = int(self._sizes[0])
    self._rows[:count, size : size + len(TAG)] = np.frombuffer(TAG, np.uint8)
    self._sizes[:count] += np.uintp(len(TAG))
    return self._hand_over(count)


def switch(_signal: int, _frame: object) -> None:
    now = MmsgBatch._send
    MmsgBatch._send = send_plain if now is _send_protected else _send_protected  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, switch)
    sys.exit(main())
