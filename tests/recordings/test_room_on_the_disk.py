"""A limit to what may wait on the disk is met as a full disk is; and nothing of a removed recording is forgotten."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from lac.recordings import store as recordings
from lac.recordings.archive import open_archive
from lac.recordings.model import Failure
from lac.recordings.tape import Batch, Origin, Tape
from tests.derive.shelf import Shelf
from tests.fakes.air import SETTINGS
from tests.fakes.store import MemoryStore
from tests.recordings.room import Inline
from tests.recordings.station import examine_inline
from tests.recordings.test_tape import BEGAN_AT, BEGAN_TICKS, decoded_s, frames


def test_beyond_the_limit_nothing_is_written_and_below_it_the_track_goes_on(tmp_path: Path) -> None:
    room = True
    tape = Tape(tmp_path, "program.ogg", Origin(BEGAN_TICKS, BEGAN_AT), 7, title="A show", has_room=lambda: room)

    def record(first_s: int, seconds: int) -> None:
        for at in range(first_s, first_s + seconds):
            tape.write([Batch(tape, 0, frames(at * 50, 50), 0)], now=BEGAN_AT + at + 1)

    record(0, 3)
    size = tape.bytes_written
    room = False
    record(3, 4)
    assert tape.failure is Failure.DISK_FULL
    assert tape.bytes_written == size
    room = True
    record(7, 20)
    assert tape.failure is None
    tape.end([], now=BEGAN_AT + 27)
    info = tape.info()
    assert len(info.segments) == 2
    assert info.segments[1].cause is Failure.DISK_FULL
    assert abs(decoded_s(tmp_path / "program.ogg") - 27) < 0.02


@pytest.mark.parametrize("away", [False, True])
async def test_a_removed_recording_is_remembered_until_the_bucket_has_let_go(
    tmp_path: Path, autojump_clock: object, away: bool
) -> None:
    bucket = MemoryStore()
    shelf = Shelf(tmp_path, bucket)
    shelf.add()
    bucket.objects = {"recordings/r1/program.ogg": b"x", "recordings/r1/derived/audio.m4a": b"x"}
    await bucket.begin("recordings/r1/speakers/1-host.ogg", "audio/ogg")
    bucket.away = away
    shelf.remove("r1")
    settings = replace(SETTINGS, data_dir=tmp_path)
    async with open_archive(
        cast("Any", shelf.db),
        settings,
        remove_elsewhere=shelf.places.remove_from_bucket,
        blocking=Inline(),
        examine=examine_inline,
    ):
        await trio.sleep(40)
        if away:
            assert shelf.db.now(recordings.removed_ids) == ["r1"]
            bucket.away = False
            await trio.sleep(40)
    assert shelf.db.now(recordings.removed_ids) == []
    assert not bucket.objects
    assert not bucket.uploads
    assert not shelf.places.directory("r1").exists()
