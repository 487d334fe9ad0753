"""`lac serve` that says on SIGUSR1 what it keeps in memory: `SOAK_FILE=x.json python -m benchmarks.soak_server serve`.

Counted is what is in use once the collector has been everywhere and the C library has given back what it can: how many
blocks Python has handed out, and how many bytes `malloc` has. Resident memory, which depends on what was freed where,
says less. Timeouts that are over go first: Trio keeps a thousand of them and more until it looks for them, some blocks
each, and then drops all at once. Everything else is as it always is.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType

import trio
from trio._core._run import GLOBAL_RUN_CONTEXT

from lac.cli.main import main


class _Mallinfo2(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33 and newer."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def on_signal(_number: int, _frame: FrameType | None) -> None:
    # In between two tasks, not in the midst of something.
    trio.lowlevel.current_trio_token().run_sync_soon(tell, idempotent=True)


def tell() -> None:
    GLOBAL_RUN_CONTEXT.runner.deadlines._prune()
    library = ctypes.CDLL(None)
    library.mallinfo2.restype = _Mallinfo2
    gc.collect()
    library.malloc_trim(0)
    heap = library.mallinfo2()
    kept = {"blocks": sys.getallocatedblocks(), "heap_bytes": heap.uordblks + heap.hblkhd}
    target = Path(os.environ["SOAK_FILE"])
    fresh = target.with_suffix(".new")
    fresh.write_text(json.dumps(kept), encoding="ascii")
    fresh.replace(target)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, on_signal)
    sys.exit(main())
