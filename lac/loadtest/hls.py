"""Listeners by low-latency HLS: each waits for the playlist's next state and fetches the parts that are new in it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urljoin, urlsplit

import trio

from lac.loadtest.signalling import RefusedError
from lac.loadtest.streams import Stream, open_stream

#: Longer than a server lets a player wait for what is next.
ANSWER_TIMEOUT_S = 20.0
MAX_HEAD = 16 * 1024
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d{1,9})", re.IGNORECASE)
_DURATION = re.compile(r"DURATION=([\d.]+)")
_URI = re.compile(r'URI="([^"]+)"')


@dataclass(frozen=True, slots=True)
class Part:
    """`ends_at` is the Unix time at which its last sample was live."""

    position: tuple[int, int]
    uri: str
    ends_at: float


@dataclass(frozen=True, slots=True)
class MediaPlaylist:
    parts: list[Part]
    #: Media sequence number and part of what comes next.
    next: tuple[int, int]
    ended: bool


def parse_media_playlist(text: str) -> MediaPlaylist:
    """The parts in a media playlist, also in a delta of it. Raises `ValueError` for what is none."""
    if not text.startswith("#EXTM3U"):
        raise ValueError("not a playlist")
    msn = part = 0
    now = 0.0
    parts: list[Part] = []
    ended = False
    for line in text.splitlines():
        name, _, value = line.partition(":")
        match name:
            case "#EXT-X-MEDIA-SEQUENCE":
                msn += int(value)
            case "#EXT-X-SKIP":
                msn += int(value.rpartition("=")[2])
            case "#EXT-X-PROGRAM-DATE-TIME":
                now = datetime.fromisoformat(value).timestamp()
            case "#EXT-X-PART":
                duration, uri = _DURATION.search(value), _URI.search(value)
                if duration is None or uri is None:
                    raise ValueError(f"not a part: {value}")
                now += float(duration[1])
                parts.append(Part((msn, part), uri[1], now))
                part += 1
            case "#EXTINF":
                msn, part = msn + 1, 0
            case "#EXT-X-ENDLIST":
                ended = True
    return MediaPlaylist(parts, (msn, part), ended)


class HlsListener:
    """One player. `on_part(delay_s)` is told of each part that arrives, with how far its end was from live then."""

    def __init__(self, url: str, show_id: str, on_part: Callable[[float], None]) -> None:
        self._url = urlsplit(url)
        self._show_id = show_id
        self._on_part = on_part
        self._buffer = b""
        #: Whether it has heard the first part.
        self.joined = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Play until cancelled. Raises `RefusedError` for what the server does not want, and when the show ends."""
        async with await open_stream(self._url) as stream:
            index = f"/hls/{self._show_id}/index.m3u8"
            lines = (await self._get(stream, index)).decode().splitlines()
            listed = [line for line in lines if line and not line.startswith("#")]
            if not listed:
                raise RefusedError(0, "no_rendition", "the multivariant playlist is empty")
            path = urljoin(index, listed[0])
            playlist = await self._playlist(stream, path)
            heard = playlist.parts[-1].position if playlist.parts else playlist.next
            while not playlist.ended:
                msn, part = playlist.next
                playlist = await self._playlist(stream, f"{path}?_HLS_msn={msn}&_HLS_part={part}&_HLS_skip=YES")
                for found in playlist.parts:
                    if found.position > heard:
                        await self._get(stream, urljoin(path, found.uri))
                        heard = found.position
                        self._on_part(time.time() - found.ends_at)
                        if not self.joined:
                            self.joined = True
                            task_status.started()
        raise RefusedError(0, "ended", "the show has ended")

    async def _playlist(self, stream: Stream, path: str) -> MediaPlaylist:
        body = await self._get(stream, path)
        try:
            return parse_media_playlist(body.decode())
        except ValueError as error:
            raise RefusedError(0, "no_playlist", str(error)) from error

    async def _get(self, stream: Stream, path: str) -> bytes:
        """The body of an answer 200. Enough of HTTP/1.1 for that, and cheap: there are six of these a second for each
        listener."""
        request = f"GET {path} HTTP/1.1\r\nHost: {self._url.netloc}\r\n\r\n"
        try:
            with trio.fail_after(ANSWER_TIMEOUT_S):
                await stream.send_all(request.encode())
                while (end := self._buffer.find(b"\r\n\r\n")) < 0 and len(self._buffer) < MAX_HEAD:
                    await self._receive(stream)
                head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
                status, length = _STATUS.match(head), _LENGTH.search(head)
                if end < 0 or status is None or length is None:
                    raise RefusedError(0, "no_http", "an answer without a status or a length")
                while len(self._buffer) < int(length[1]):
                    await self._receive(stream)
        except (OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
            raise RefusedError(0, "no_answer", str(error) or type(error).__name__) from error
        body, self._buffer = self._buffer[: int(length[1])], self._buffer[int(length[1]) :]
        if status[1] != b"200":
            raise RefusedError(int(status[1]), f"http_{int(status[1])}", path)
        return body

    async def _receive(self, stream: Stream) -> None:
        data = await stream.receive_some()
        if not data:
            raise RefusedError(0, "gone", "the server closed the connection")
        self._buffer += data
