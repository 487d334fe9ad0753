"""A speaker without a WebRTC peer: Opus packets that are in this process already, such as an Icecast client's."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import trio

from lac_media.errors import ParseError, SessionClosedError
from lac_media.parameters import OPUS_PAYLOAD_TYPE, Direction
from lac_media.proto.opus import duration_ticks_untrusted
from lac_media.proto.rtp import RtpPacket

if TYPE_CHECKING:
    from lac_media.rooms.room import MediaRoom


class LocalSource:
    """Made by `MediaRoom.open_source`. Synchronous like a `Session`, and muted, replaced and removed like one. Whoever
    pushes keeps to the pace of the clock: see `lac_media.sources.pacer`."""

    direction = Direction.SEND

    def __init__(self, room: MediaRoom, owner: str) -> None:
        self.id = secrets.token_hex(16)
        self.room = room
        self.owner = owner
        self.producer_id: str | None = secrets.token_hex(8)
        self.heard_at: float | None = None
        #: What is playing now, if the source says so.
        self.song: str | None = None
        self.close_reason: str | None = None
        self.packets = 0
        #: What was no Opus.
        self.malformed = 0
        self._ssrc = secrets.randbelow(2**32 - 1) + 1
        self._sequence = secrets.randbelow(2**15)
        self._timestamp = secrets.randbelow(2**32)
        self._closed = trio.Event()

    @property
    def closed(self) -> bool:
        return self.close_reason is not None

    def push(self, payload: bytes) -> None:
        """The next packet, which plays right after the one before. Nothing comes of it once the source is closed: that
        may happen at any push, when its owner is not wanted."""
        if self.closed:
            return
        try:
            ticks = duration_ticks_untrusted(payload)
        except ParseError:
            self.malformed += 1
            return
        self.packets += 1
        packet = RtpPacket(
            OPUS_PAYLOAD_TYPE, self._sequence & 0xFFFF, self._timestamp & 0xFFFF_FFFF, self._ssrc, payload=payload
        )
        self._sequence += 1
        self._timestamp += ticks
        self.room.receive_audio(self, packet, None)

    def skip(self, ticks: int) -> None:
        """Nothing was there for so long."""
        self._timestamp += ticks

    def close(self, reason: str) -> None:
        """Heard no more, from this moment on. Idempotent."""
        if self.close_reason is None:
            self.close_reason = reason
            self._closed.set()
            self.room.source_closed(self, reason)

    async def wait_closed(self) -> None:
        await self._closed.wait()

    def check_open(self) -> None:
        """Raise `SessionClosedError` if it is closed."""
        if self.closed:
            raise SessionClosedError(f"this source has closed ({self.close_reason})")
