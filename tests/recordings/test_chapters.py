"""Who has the word, and since when."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing

from lac.recordings.chapters import HOLD_S, SpeakerChapters
from lac.recordings.manifest import read_manifest
from lac_media.rooms.events import SpeakingChanged
from tests.fakes.air import HOST, SPEAKER
from tests.recordings.station import RecordedStation


def test_interjections_and_pauses_take_the_word_from_nobody() -> None:
    chapters = SpeakerChapters()
    chapters.hear("ada", 1.0)
    assert chapters.due(1.0 + HOLD_S - 0.1) is None
    assert chapters.due(1.0 + HOLD_S) == (1.0, "ada")
    assert chapters.due(20.0) is None
    chapters.hear("bo", 20.0)
    chapters.hear("ada", 21.0)
    chapters.hear(None, 30.0)
    assert chapters.due(60.0) is None
    chapters.hear("ada", 60.0)
    assert chapters.due(70.0) is None
    chapters.hear("bo", 70.0)
    assert chapters.due(75.0) == (70.0, "bo")
    chapters.hear("ada", 80.0)
    assert chapters.due(83.0) == (80.0, "ada")


async def test_chapters_of_a_show(
    new_station: Callable[[], RecordedStation], autojump_clock: trio.testing.MockClock
) -> None:
    station = new_station()
    async with station.open() as on_air:
        await station.start()
        await station.join(HOST)
        await station.join(SPEAKER)
        for identity in (HOST, SPEAKER):
            (await station.publish(identity)).speak()
        recording = await on_air.start_recording(HOST, station.show_id)
        station.media.report(SpeakingChanged(((HOST.id, -20),)))
        await trio.sleep(10)
        station.media.report(SpeakingChanged(((SPEAKER.id, -20), (HOST.id, -40))))
        await trio.sleep(10)
        marked = await on_air.mark_chapter(HOST, station.show_id, "The Lisbon sessions")
        assert marked.start_s == pytest.approx(20, abs=0.01)
        await on_air.stop_recording(HOST, station.show_id)
        await station.finished(1)
        manifest = read_manifest(station.archive.directory(recording.id))
        assert manifest is not None
        assert [(chapter.title, chapter.kind, round(chapter.start_s)) for chapter in manifest.chapters] == [
            (HOST.display_name, "speaker", 0),
            (SPEAKER.display_name, "speaker", 10),
            ("The Lisbon sessions", "marker", 20),
        ]
