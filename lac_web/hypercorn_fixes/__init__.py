"""What hypercorn 0.18 needs before it can face the internet under Trio: everything we replace in it, in one place.

hypercorn is a good HTTP/1.1 and WebSocket state machine round h11 and wsproto, but some of its ends are loose when an
application is cancelled, a client stalls, or a client is hostile. Each class in here names the ends it ties.
`tests/web/test_server_*.py` has a test for each that fails without it, and one that notices when a replaced name is
no longer there. `apply()` puts them in place for the whole process; calling it again changes nothing.
"""

from __future__ import annotations

from typing import Any

import hypercorn.protocol
import hypercorn.protocol.h11
import hypercorn.protocol.ws_stream
import hypercorn.trio.run

from lac_web.hypercorn_fixes.connection import BoundedTCPServer
from lac_web.hypercorn_fixes.http import STREAM_KEY, GuardedH11Protocol, GuardedHTTPStream
from lac_web.hypercorn_fixes.log import FrameworkLog
from lac_web.hypercorn_fixes.sockets import GuardedWSStream, PlainHandshake

__all__ = ["STREAM_KEY", "BoundedTCPServer", "FrameworkLog", "GuardedHTTPStream", "GuardedWSStream", "apply"]

#: (module, name, our replacement). hypercorn looks each name up when it makes the object, so setting it is enough.
REPLACED: list[tuple[Any, str, type]] = [
    (hypercorn.trio.run, "TCPServer", BoundedTCPServer),
    (hypercorn.protocol, "H11Protocol", GuardedH11Protocol),
    (hypercorn.protocol.h11, "HTTPStream", GuardedHTTPStream),
    (hypercorn.protocol.h11, "WSStream", GuardedWSStream),
    (hypercorn.protocol.ws_stream, "Handshake", PlainHandshake),
]


def apply() -> None:
    """Put our classes in hypercorn's place, process-wide. Idempotent; raises `AttributeError` if a name is gone."""
    for module, name, replacement in REPLACED:
        original = getattr(module, name)
        if original is not replacement and not issubclass(replacement, original):
            raise AttributeError(f"{module.__name__}.{name} is not what lac_web/hypercorn_fixes was written for")
        setattr(module, name, replacement)
