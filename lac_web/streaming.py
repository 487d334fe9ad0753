"""Requests and responses that have no end: what Quart does not do for them.

- A body that comes for hours is read piece by piece, and the client is kept waiting by TCP when we are slower. Quart
  collects whatever comes, without bound.
- Clients that say what is playing do not wait for the answer (BUTT): the request is carried out all the same.
- Whatever a handler has opened is closed when the request is over, however it ends: also when the client goes away
  between the handler's return and the response's first byte.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import trio
from quart import Request, request
from quart.wrappers.request import Body
from quart_trio.asgi import TrioASGIHTTPConnection

if TYPE_CHECKING:
    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable

#: Bodies below this path are streams.
SOURCE_PREFIX = "/source/"
#: What is asked for here is done, also when whoever asked has gone by then.
METADATA_PATH = "/admin/metadata"
#: Bytes of such a body that wait here for their reader. Before them hypercorn has ten pieces of at most 64 KiB.
BODY_BUFFER = 64 * 1024
_AT_END = "lac.at_end"


def at_request_end(callback: Callable[[], None]) -> None:
    """Call it when the present request is over. Synchronous; must not raise."""
    cast("Any", request.scope)[_AT_END].append(callback)


class StreamedBody(Body):
    """A request body without limit, of which only a little is here at a time."""

    def __init__(self) -> None:
        super().__init__(None, None)
        # Quart's own class has asyncio's.
        self._complete = cast("Any", trio.Event())
        self._has_data = cast("Any", trio.Event())
        self._taken = trio.Event()

    async def __anext__(self) -> bytes:
        if not self._complete.is_set():
            await self._has_data.wait()
        data = bytes(self._data)
        self._data.clear()
        if not self._complete.is_set():
            self._has_data = cast("Any", trio.Event())
        self._taken.set()
        if not data and self._complete.is_set():
            raise StopAsyncIteration
        return data

    async def wait_for_room(self) -> None:
        while len(self._data) >= BODY_BUFFER:
            self._taken = trio.Event()
            await self._taken.wait()


class StreamingHTTPConnection(TrioASGIHTTPConnection):
    """One request."""

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        callbacks: list[Callable[[], None]] = []
        cast("Any", self.scope)[_AT_END] = callbacks
        made = self._create_request_from_scope(send)
        try:
            # As quart-trio's own, with one task fewer.
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.handle_messages, nursery, made, receive)
                await self.handle_request(nursery, made, send)
        finally:
            for callback in callbacks:
                callback()

    def _create_request_from_scope(self, send: ASGISendCallable) -> Request:
        made = super()._create_request_from_scope(send)
        if self.scope["path"].startswith(SOURCE_PREFIX) or self.scope["path"] == METADATA_PATH:
            made.body = StreamedBody()
        return made

    async def handle_messages(  # type: ignore[override]  # as quart-trio does
        self, nursery: trio.Nursery, request: Request, receive: ASGIReceiveCallable
    ) -> None:
        body = request.body
        if not isinstance(body, StreamedBody):
            await super().handle_messages(nursery, request, receive)
            return
        while True:
            message: Any = await receive()
            if message["type"] == "http.disconnect":
                # What came is still played, or done: the handler ends with the body, and this task with the handler.
                body.set_complete()
                await trio.sleep_forever()
            body.append(message.get("body", b""))
            if not message.get("more_body", False):
                body.set_complete()
            await body.wait_for_room()
