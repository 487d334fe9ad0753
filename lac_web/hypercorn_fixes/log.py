"""What the framework has to say."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import hypercorn.protocol
import hypercorn.protocol.h11
import hypercorn.protocol.ws_stream
import hypercorn.trio.run
import structlog

if TYPE_CHECKING:
    pass

log = structlog.get_logger(__name__)


class FrameworkLog(hypercorn.logging.Logger):
    """hypercorn's errors through our logging, a few a minute: strangers can provoke them as fast as they can send."""

    PER_MINUTE = 6

    def __init__(self, config: hypercorn.config.Config) -> None:
        super().__init__(config)
        self._minute = 0
        self._written = 0
        self._dropped = 0

    async def info(self, message: str, *args: Any, **kwargs: Any) -> None:
        pass

    async def debug(self, message: str, *args: Any, **kwargs: Any) -> None:
        pass

    async def critical(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._write(message, args, exc_info=kwargs.get("exc_info"))

    async def error(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._write(message, args, exc_info=kwargs.get("exc_info"))

    async def warning(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._write(message, args, exc_info=kwargs.get("exc_info"))

    async def exception(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._write(message, args, exc_info=kwargs.get("exc_info", True))

    async def log(self, level: int, message: str, *args: Any, **kwargs: Any) -> None:
        self._write(message, args, exc_info=kwargs.get("exc_info"))

    def _write(self, message: str, args: tuple[Any, ...], exc_info: Any) -> None:
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            if self._dropped:
                log.error("http server errors not shown", count=self._dropped)
            self._minute, self._written, self._dropped = minute, 0, 0
        if self._written >= self.PER_MINUTE:
            self._dropped += 1
            return
        self._written += 1
        log.error("http server: " + (message % args if args else message), exc_info=exc_info)
