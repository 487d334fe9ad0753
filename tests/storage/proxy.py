"""A TCP proxy in front of a store, whose line breaks once at a chosen place."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio


class FailingProxy:
    """The line breaks after `budget` bytes towards the store, or at the first request that has `word` in it: before
    the store hears that, or, `late`, before its answer is heard."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.budget: int | None = None
        self.word: bytes | None = None
        self.late = False
        self._answered = trio.Event()
        self.broken = 0
        #: Accept, and say nothing at all: a store that hangs.
        self.hangs = False
        self._target = port

    async def serve(self, stream: trio.SocketStream) -> None:
        if self.hangs:
            await trio.sleep_forever()
        store = await trio.open_tcp_stream("127.0.0.1", self._target)
        async with stream, store, trio.open_nursery() as nursery:
            nursery.start_soon(self._pass_on, store, stream, nursery.cancel_scope)
            try:
                async for data in stream:
                    breaks = self._is_over(data)
                    if not breaks or self.late:
                        await store.send_all(data)
                    if breaks:
                        if self.late:
                            with trio.move_on_after(20):
                                await self._answered.wait()
                        break
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            nursery.cancel_scope.cancel("the line is broken")

    def _is_over(self, data: bytes) -> bool:
        if self.budget is not None:
            self.budget -= len(data)
        if (self.budget is not None and self.budget < 0) or (self.word is not None and self.word in data):
            self.budget = self.word = None
            self.broken += 1
            return True
        return False

    async def _pass_on(self, source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope) -> None:
        try:
            async for data in source:
                if self.late and self.broken and not self._answered.is_set():
                    self._answered.set()  # nobody hears it
                    continue
                await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel("the store has closed")


@asynccontextmanager
async def failing_proxy(port: int) -> AsyncGenerator[FailingProxy, None]:
    proxy = FailingProxy(port)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, proxy.serve, 0)
        proxy.port = listeners[0].socket.getsockname()[1]
        yield proxy
        nursery.cancel_scope.cancel("the test is over")
