"""Answering with a file from disk: whole or a part of it (RFC 9110 section 14), read in pieces by worker threads.

The file is open from the first piece to the last, or until the client goes away; a disk that hangs holds a thread, and
never the event loop.
"""

from __future__ import annotations

import os
import re
import threading
import unicodedata
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import trio
from quart import Response, request
from quart.wrappers.response import ResponseBody

from lac.errors import NotFoundError
from lac_web.errors import problem_response

CHUNK_BYTES = 256 * 1024
_NAME_MAX = 100


class _OpenFile:
    """A descriptor that a thread may still read from when its owner closes it: then the thread is the one who does."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        self._reading = threading.Lock()
        self._closing = False

    def read(self, size: int, position: int) -> bytes:
        with self._reading:
            data = b"" if self._closing else os.pread(self._descriptor, size, position)
        if self._closing:
            self.close()
        return data

    def close(self) -> None:
        self._closing = True
        if self._descriptor >= 0 and self._reading.acquire(blocking=False):
            try:
                descriptor, self._descriptor = self._descriptor, -1
                if descriptor >= 0:
                    os.close(descriptor)
            finally:
                self._reading.release()


class FilePart(ResponseBody):
    """Bytes `begin` to `end` of a file. The server enters it when it begins to answer."""

    def __init__(self, path: Path, begin: int, end: int, limiter: trio.CapacityLimiter) -> None:
        self._path = path
        self._position = begin
        self._end = end
        self._limiter = limiter
        self._file: _OpenFile | None = None

    async def __aenter__(self) -> FilePart:
        # Not given up halfway: what is opened must be known to be closed. Opening waits for no data.
        self._file = await trio.to_thread.run_sync(_OpenFile, self._path, limiter=self._limiter)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def __aiter__(self) -> FilePart:
        return self

    async def __anext__(self) -> bytes:
        file, size = self._file, min(CHUNK_BYTES, self._end - self._position)
        if file is None or size <= 0:
            raise StopAsyncIteration
        data = await trio.to_thread.run_sync(
            file.read, size, self._position, limiter=self._limiter, abandon_on_cancel=True
        )
        if not data:  # cut off under our hands: the client sees that it got too little
            raise StopAsyncIteration
        self._position += len(data)
        return data


async def file_response(
    path: Path,
    *,
    content_type: str,
    entity_tag: str,
    name: str,
    limiter: trio.CapacityLimiter,
    extension: str = ".ogg",
) -> Response:
    """The answer to the present GET or HEAD. `entity_tag` names the bytes, strongly. Raises `NotFoundError`."""
    try:
        size = (await trio.to_thread.run_sync(path.stat, limiter=limiter, abandon_on_cancel=True)).st_size
    except FileNotFoundError:
        raise NotFoundError("This file is not there any more.") from None
    if request.if_none_match.contains_weak(entity_tag):
        response = Response(b"", status=304, content_type=content_type)
    else:
        # RFC 9110 section 14.2: only GET knows ranges.
        asked = request.headers.get("Range") if request.method == "GET" else None
        part = requested_part(asked, request.headers.get("If-Range"), entity_tag, size)
        if part is None:
            return problem_response(
                416,
                "range_not_satisfiable",
                f"The file has {size} bytes; the range that was asked for begins after them.",
                headers={"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"},
            )
        begin, end = part
        body: ResponseBody | bytes = b"" if request.method == "HEAD" else FilePart(path, begin, end, limiter)
        response = Response(body, status=200 if (begin, end) == (0, size) else 206, content_type=content_type)
        if response.status_code == 206:
            response.headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
        response.automatically_set_content_length = False
        response.headers["Content-Length"] = str(end - begin)
        response.headers["Content-Disposition"] = content_disposition(name, extension)
        # How slow a client may read is the server's business, which looks at every piece.
        response.timeout = None
    response.set_etag(entity_tag)
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["Cache-Control"] = "private, no-cache"
    return response


def redirect_to(url: str) -> Response:
    """To a signed address, which is good for some hours and not to be kept."""
    response = Response(b"", status=302)
    response.headers["Location"] = url
    response.headers["Cache-Control"] = "no-store"
    return response


_RANGE = re.compile(r"bytes=\s*([0-9]{0,19})-([0-9]{0,19})\s*")


def requested_part(header: str | None, if_range: str | None, entity_tag: str, size: int) -> tuple[int, int] | None:
    """The bytes to send, from and up to: all where nothing else is asked for, or not in a way that we serve, which a
    server may ignore (several ranges, other units). None when there are no such bytes (416)."""
    everything = (0, size)
    # RFC 9110 section 13.1.5: only a strong tag that matches keeps the range; dates are never good enough here.
    if header is None or (if_range is not None and if_range != f'"{entity_tag}"'):
        return everything
    found = _RANGE.fullmatch(header)
    if found is None or not (found[1] or found[2]):
        return everything
    if not found[1]:  # the last so many
        length = int(found[2])
        return (max(0, size - length), size) if length and size else None
    begin = int(found[1])
    if found[2] and int(found[2]) < begin:
        return everything  # not a range at all (RFC 9110 section 14.1.1)
    end = min(int(found[2]) + 1, size) if found[2] else size
    return (begin, end) if begin < size else None


def content_disposition(name: str, extension: str = ".ogg") -> str:
    """For a download, RFC 6266: a name that every file system takes, and the real one for those who understand it."""
    name = "".join(" " if unicodedata.category(char)[0] in "CZ" or char in '/\\:*?"<>|' else char for char in name)
    name = " ".join(name.split()).strip(". ")[:_NAME_MAX] or "recording"
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = " ".join(re.sub(r"[^A-Za-z0-9 ._()-]", " ", plain).split()).strip(". ") or "recording"
    return f"attachment; filename=\"{plain}{extension}\"; filename*=UTF-8''{quote(name, safe='')}{extension}"
