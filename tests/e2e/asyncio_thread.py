"""An asyncio loop in a thread of its own.

Playwright's synchronous interface keeps a running loop in the test's thread, where `asyncio.run` is then refused; and
tests that bring several stacks together read better when none of them owns the main program.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class AsyncioThread:
    def __init__(self) -> None:
        self.errors: list[dict[str, Any]] = []
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda _, context: self.errors.append(context))
        self._thread = threading.Thread(target=self._loop.run_forever, name="asyncio")
        self._thread.start()

    def call(self, coroutine: Coroutine[Any, Any, T], timeout_s: float = 20.0) -> T:
        """Run it in the loop and wait for what comes of it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout_s)

    def close(self) -> None:
        """End whatever still runs, then the loop."""
        try:
            self.call(self._cancel_all())
            self.call(self._loop.shutdown_default_executor())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _cancel_all(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
