"""Plain GET requests answered without the web framework, for what hundreds of clients ask for several times a second.

A request through h11, ASGI and Quart costs about a millisecond of CPU; read and answered here, a tenth of that. Only
requests that have the simplest form are taken, and only those whose answer is known: everything else, errors included,
goes the usual way, as if this were not here. `GuardedH11Protocol` looks here first, on connections between requests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import formatdate
from typing import Protocol

#: The path of a file has no escapes, and a query no more than names and values: others go the usual way.
_REQUEST = re.compile(rb"GET (/[A-Za-z0-9_./-]{1,2000})(?:\?([A-Za-z0-9_=&]{0,500}))? HTTP/1\.1\r\n")
#: Header fields that make more of a request than "give me this", or less of the connection.
_NOT_PLAIN = re.compile(
    rb"\r\n(?:content-length|transfer-encoding|connection:[^\r]*(?:close|upgrade)|upgrade|expect|if-|range|[ \t])",
    re.IGNORECASE,
)
#: Every field is a name and a value of visible text: h11 is stricter still, this is only not to pass over what is not.
_HEAD = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)+\r\n")
_HOST = re.compile(rb"\r\nhost:", re.IGNORECASE)


class Answers(Protocol):
    """What answers: for paths that begin with `prefix`."""

    prefix: bytes

    async def answer(self, path: str, query: str) -> bytes | None:
        """The whole response, or None: let the application answer. Raises nothing but cancellation."""


def plain_get(data: bytes, prefix: bytes) -> tuple[str, str] | None:
    """Path and query, if `data` is one whole request of the simplest form for a path below `prefix`."""
    if not data.startswith(b"GET " + prefix) or not data.endswith(b"\r\n\r\n"):
        return None
    line = _REQUEST.match(data)
    if line is None or _NOT_PLAIN.search(data, line.end() - 2) is not None:
        return None
    if _HEAD.fullmatch(data, line.end()) is None or len(_HOST.findall(data)) != 1:
        return None
    return line[1].decode("ascii"), (line[2] or b"").decode("ascii")


def response(status: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """An HTTP/1.1 response that keeps the connection. `status` is "200 OK"."""
    lines = [f"HTTP/1.1 {status}", f"date: {formatdate(usegmt=True)}", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
