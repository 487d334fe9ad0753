"""`lac serve` whose recordings' disk is slow: `SLOW_DISK_S=0.5,2 python -m benchmarks.slow_disk_server serve`.

Every call of the recorder that touches the disk takes so many seconds longer, anything between the two, in the worker
thread where it blocks anyway. Everything else is the same.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

from lac.cli.main import main
from lac.recordings import archive

_LEAST_S, _MOST_S = (float(seconds) for seconds in os.environ["SLOW_DISK_S"].split(","))
_at_once = archive._InThreads.__call__


async def slowly(self: archive._InThreads, job: Callable[[], Any], /) -> Any:
    delay_s = random.uniform(_LEAST_S, _MOST_S)

    def after_a_while() -> Any:
        time.sleep(delay_s)
        return job()

    return await _at_once(self, after_a_while)


if __name__ == "__main__":
    archive._InThreads.__call__ = slowly  # type: ignore[method-assign]
    sys.exit(main())
