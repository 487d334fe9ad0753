"""The recorder of a show: who starts it, what becomes of it, and what everyone is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from lac.audit import list_audit
from lac.broadcasts.live import OnAir
from lac.errors import ConflictError, ForbiddenError, UnavailableError
from lac.recordings.manifest import read_manifest
from lac.recordings.model import EndReason, RecordingStatus
from tests.fakes.air import COHOST, HOST, LISTENER, MODERATOR, SPEAKER
from tests.recordings.station import RecordedStation
from tests.recordings.test_tape import decoded_s

NewStation = Callable[[], RecordedStation]


async def record_always(station: RecordedStation) -> None:
    await station.broadcasts.update(HOST, station.show_id, {"recording_enabled": True})


async def test_a_host_starts_and_stops_and_everyone_is_told(
    new_station: NewStation, autojump_clock: trio.testing.MockClock
) -> None:
    station = new_station()
    async with station.open() as on_air:
        await station.start()
        before = await station.join(LISTENER)
        assert before.data("joined")[0]["recording"] == "off"
        host = (await station.publish()).speak()
        started = await on_air.start_recording(COHOST, station.show_id)
        assert started.status is RecordingStatus.RECORDING
        assert (await on_air.start_recording(HOST, station.show_id)).id == started.id
        await station.talk(host, 2)
        during = await station.join(MODERATOR)
        assert during.data("joined")[0]["recording"] == "recording"
        speaker = (await station.publish(SPEAKER)).speak()
        await station.talk(speaker, 2)
        stopped = await on_air.stop_recording(HOST, station.show_id)
        assert (stopped.id, stopped.status) == (started.id, RecordingStatus.PROCESSING)
        assert before.data("recording") == [{"state": "recording"}, {"state": "off"}]
        (row,) = await station.finished(1)
        assert (row.status, row.end_reason, row.started_by) == ("ready", "stopped", COHOST.id)
        assert row.duration_s == pytest.approx(4, abs=0.01)
        manifest = read_manifest(station.archive.directory(row.id))
        assert manifest is not None
        assert [track.person_id for track in manifest.tracks] == [None, HOST.id, SPEAKER.id]
        for track in manifest.tracks:
            assert track.verified
            assert decoded_s(station.archive.directory(row.id) / track.file) == pytest.approx(4, abs=0.03)
        first_gap = manifest.tracks[2].gaps[0]
        assert (first_gap.start_s, first_gap.duration_s) == (0, pytest.approx(2, abs=0.02))

        again = await on_air.start_recording(HOST, station.show_id)
        assert again.part == 2
        await on_air.end(HOST, station.show_id)
        rows = await station.finished(2)
        assert [row.end_reason for row in rows] == ["stopped", "ended"]
        assert station.archive.totals().active == 0


async def test_a_show_that_is_to_be_recorded_is_from_its_first_second_to_its_last(
    new_station: NewStation, autojump_clock: trio.testing.MockClock
) -> None:
    station = new_station()
    await record_always(station)
    async with station.open() as on_air:
        await station.start()
        await trio.sleep(1)
        await station.talk((await station.publish()).speak(), 3)
        await on_air.end(HOST, station.show_id)
        (row,) = await station.finished(1)
        assert (row.status, row.end_reason) == (RecordingStatus.READY, EndReason.ENDED)
        assert row.media_start_s == pytest.approx(0, abs=0.01)
        assert row.duration_s == pytest.approx(4, abs=0.03)


async def switch(station: RecordedStation, on_air: OnAir, *, on: bool) -> None:
    """As PATCH does it."""
    changed = await station.broadcasts.update(HOST, station.show_id, {"recording_enabled": on})
    await on_air.rights.record_changed(HOST, changed)


async def test_the_switch_in_the_middle_of_a_show(
    new_station: NewStation, autojump_clock: trio.testing.MockClock
) -> None:
    """Switched on, the show is recorded at once; switched off, what is being recorded goes on."""
    station = new_station()
    async with station.open() as on_air:
        await station.start()
        everyone = await station.join(LISTENER)
        host = (await station.publish()).speak()
        await station.talk(host, 1)
        await switch(station, on_air, on=True)
        await station.talk(host, 2)
        assert everyone.data("recording") == [{"state": "recording"}]
        await switch(station, on_air, on=False)
        await switch(station, on_air, on=True)
        await station.talk(host, 1)
        assert len(station.rows()) == 1, "it is recorded already"
        await switch(station, on_air, on=False)
        await station.talk(host, 1)
        assert everyone.data("recording") == [{"state": "recording"}]
        await on_air.stop_recording(COHOST, station.show_id)
        first, *others = await station.finished(1)
        assert (first.status, first.started_by, others) == ("ready", HOST.id, [])
        assert first.duration_s == pytest.approx(4, abs=0.03)
        page = station.db.now(lambda session: list_audit(session, station.show_id, limit=100))
        lines = [(entry.action, entry.actor_id) for entry in page.items]
        assert lines.count(("recording.started", HOST.id)) == 1

        await switch(station, on_air, on=True)
        await station.talk(host, 1)
        async with trio.open_nursery() as nursery:
            # While one ends: the next one follows.
            nursery.start_soon(on_air.stop_recording, COHOST, station.show_id)
            await trio.testing.wait_all_tasks_blocked()
            await switch(station, on_air, on=False)
            await switch(station, on_air, on=True)
        await station.talk(host, 1)
        assert everyone.data("recording")[-1] == {"state": "recording"}
        await on_air.end(HOST, station.show_id)
        assert [row.end_reason for row in await station.finished(3)] == ["stopped", "stopped", "ended"]
        await switch(station, on_air, on=False)
        await switch(station, on_air, on=True)
        assert len(station.rows()) == 3


async def test_switched_on_while_the_database_is_away_it_begins_later(
    new_station: NewStation, autojump_clock: trio.testing.MockClock
) -> None:
    station = new_station()
    async with station.open() as on_air:
        await station.start()
        begin, station.archive.begin = station.archive.begin, _away  # type: ignore[method-assign]
        await switch(station, on_air, on=True)
        await trio.sleep(3)
        assert not station.rows()
        station.archive.begin = begin  # type: ignore[method-assign]
        await trio.sleep(3)
        assert [row.started_by for row in station.rows()] == [HOST.id]


async def _away(*args: object, **kwargs: object) -> Any:
    raise UnavailableError("away")


async def test_who_may_record_and_when(new_station: NewStation, autojump_clock: trio.testing.MockClock) -> None:
    station = new_station()
    async with station.open() as on_air:
        with pytest.raises(ConflictError) as not_live:
            await on_air.start_recording(HOST, station.show_id)
        assert not_live.value.code == "not_live"
        await station.start()
        for person in (LISTENER, SPEAKER, MODERATOR):
            with pytest.raises(ForbiddenError):
                await on_air.start_recording(person, station.show_id)
        with pytest.raises(ConflictError) as not_recording:
            await on_air.stop_recording(HOST, station.show_id)
        assert not_recording.value.code == "not_recording"
        with pytest.raises(ConflictError):
            await on_air.mark_chapter(HOST, station.show_id, "Nothing")


async def test_a_show_that_was_recorded_when_the_process_ended_is_recorded_further(
    new_station: NewStation, autojump_clock: trio.testing.MockClock
) -> None:
    station = new_station()
    async with station.open() as on_air:
        await station.start()
        await on_air.start_recording(HOST, station.show_id)
        await station.talk((await station.publish()).speak(), 1)
    (row,) = station.rows()
    assert (row.status, row.end_reason) == (RecordingStatus.PROCESSING, EndReason.SHUTDOWN)
    async with station.open() as on_air:
        await trio.sleep(1)
        rows = await station.finished(1)
        assert [(row.part, row.status) for row in rows] == [(1, "ready"), (2, "recording")]
        await on_air.stop_recording(HOST, station.show_id)
    async with station.open():
        await trio.sleep(5)
        assert [row.part for row in station.rows()] == [1, 2], "what a host has stopped stays so"


async def test_the_database_is_away_when_the_show_begins(
    new_station: NewStation, autojump_clock: trio.testing.MockClock
) -> None:
    station = new_station()
    await record_always(station)
    async with station.open() as on_air:
        begin = station.archive.begin

        async def away(*args: object, **kwargs: object) -> object:
            raise UnavailableError("away")

        station.archive.begin = away  # type: ignore[method-assign,assignment]
        await station.start()
        socket = await station.join(LISTENER)
        await trio.sleep(3)
        station.archive.begin = begin  # type: ignore[method-assign]
        await trio.sleep(3)
        assert socket.data("recording")[-1] == {"state": "recording"}
        station.archive.begin = away  # type: ignore[method-assign,assignment]
        await on_air.stop_recording(HOST, station.show_id)
        with pytest.raises(UnavailableError):
            await on_air.start_recording(HOST, station.show_id)


async def test_the_end_is_not_written_down_and_found_out_later(
    new_station: NewStation, autojump_clock: trio.testing.MockClock
) -> None:
    station = new_station()
    async with station.open() as on_air:
        await station.start()
        await on_air.start_recording(HOST, station.show_id)
        await station.talk((await station.publish()).speak(), 1)

        async def away(*args: object, **kwargs: object) -> object:
            raise UnavailableError("away")

        station.archive.ended = away  # type: ignore[method-assign,assignment]
        stopped = await on_air.stop_recording(HOST, station.show_id)
        assert stopped.status is RecordingStatus.RECORDING
        (row,) = await station.finished(1)
        assert (row.status, row.end_reason) == (RecordingStatus.READY, EndReason.STOPPED)


async def test_a_disk_that_hangs_holds_up_neither_the_show_nor_its_end(
    new_station: NewStation, autojump_clock: trio.testing.MockClock
) -> None:
    station = new_station()
    async with station.open() as on_air:
        await station.start()
        await on_air.start_recording(HOST, station.show_id)
        host = (await station.publish()).speak()
        await station.talk(host, 1)
        station.disk.gate = trio.Event()
        await station.talk(host, 20)
        with trio.fail_after(20):
            await on_air.end(HOST, station.show_id)
        (row,) = station.rows()
        assert row.status is RecordingStatus.RECORDING, "left for later"
        gate, station.disk.gate = station.disk.gate, None
        gate.set()
        (row,) = await station.finished(1)
        assert row.status is RecordingStatus.READY
        assert row.end_reason == EndReason.ENDED
        assert 20 < row.duration_s < 22
