"""A station that records: `OnAir` over the fakes, the real archive on a real disk, in virtual time."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import sqlalchemy as sa
import trio

from lac.broadcasts.live import OnAir, open_on_air
from lac.db import models
from lac.recordings.archive import Archive, open_archive
from lac.recordings.finalize import Examined, Mended
from lac.recordings.service import RecordingService
from lac.recordings.verify import examine
from lac_media.proto.rtp import RtpPacket
from lac_media.rooms.line import ProgramPacket
from tests.fakes.air import SETTINGS, Station
from tests.fakes.database import InlineDatabase
from tests.fakes.media import FakeSession
from tests.recordings.room import FRAME, Inline, opus


async def examine_inline(directory: Path, mended: Mended) -> Mapping[str, Examined]:
    """The real verifier, in this process."""
    await trio.lowlevel.checkpoint()
    return {name: msgspec.convert(examine(directory / name), Examined) for name in mended.durations}


class RecordedStation(Station):
    def __init__(self, db: InlineDatabase, data_dir: Path) -> None:
        super().__init__(db)
        self.settings = dataclasses.replace(SETTINGS, data_dir=data_dir)
        self.disk = Inline()
        self.archive: Archive
        self.recordings: RecordingService
        self._frames = 0

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[OnAir, None]:
        db = cast("Any", self.db)
        async with open_archive(db, self.settings, blocking=self.disk, examine=examine_inline) as self.archive:
            self.recordings = RecordingService(db, self.broadcasts, self.archive)
            async with open_on_air(
                db,
                cast("Any", self.engine),
                self.broadcasts,
                cast("Any", self.auth),
                self.settings,
                archive=self.archive,
            ) as self._on_air:
                yield self._on_air

    async def talk(self, session: FakeSession, seconds: float) -> None:
        """The program and the speaker's own stream, a frame every 20 ms."""
        for _ in range(round(seconds * 50)):
            self.say(session)
            await trio.sleep(0.02)

    def say(self, session: FakeSession) -> None:
        now, room = trio.current_time(), self.engine.rooms.get(self.show_id)
        if room is None:  # the show has just been cancelled
            return
        self._frames += 1
        ticks, sequence = round((now - room.opened_at) * 48_000), self._frames & 0xFFFF
        payload = opus(self._frames)
        room.program_taps.offer_program(ProgramPacket(sequence, ticks & 0xFFFF_FFFF, ticks, False, payload, 30, now))
        taps = room.speaker_taps.get(session.producer_id or "")
        if taps is not None:
            packet = RtpPacket(111, sequence, self._frames * FRAME & 0xFFFF_FFFF, 1, payload=payload)
            taps.offer_rtp(packet, 30, now=now)

    def rows(self) -> list[models.Recording]:
        query = sa.select(models.Recording).order_by(models.Recording.part)
        return self.db.now(lambda session: list(session.scalars(query)))

    @property
    def directories(self) -> list[Path]:
        home = self.settings.data_dir / "recordings"
        return sorted(home.iterdir()) if home.exists() else []

    async def finished(self, count: int) -> list[models.Recording]:
        """So many recordings, once they are ready or have failed."""
        for _ in range(600):
            if sum(row.status in ("ready", "failed") for row in self.rows()) >= count:
                break
            await trio.sleep(0.5)
        return self.rows()
