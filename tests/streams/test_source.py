"""A speaker without a peer is a speaker like any other: heard, muted, replaced and removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from lac_media.container.ogg_opus import OggOpusWriter
from lac_media.errors import SessionClosedError
from lac_media.parameters import Direction
from lac_media.rooms.events import SessionClosed, SessionConnected, SpeakerStarted, SpeakerStopped
from lac_media.rooms.source import LocalSource
from lac_media.sources.ingest import Ingest, SourceType
from lac_media.sources.serve import IDLE_S, serve_source
from tests.fakes.net import Net
from tests.media.clients import FRAME_S, Studio, open_studio, opus
from tests.sweep import Cut, sweep_within


async def talk(source: LocalSource, first: int, count: int) -> None:
    for number in range(first, first + count):
        source.push(opus(number))
        await trio.sleep(FRAME_S)


def pages(first: int, count: int) -> bytes:
    writer = OggOpusWriter(7, tags={"ARTIST": "Hanna", "TITLE": "A song"})
    return writer.begin() + b"".join(writer.add(opus(number)) for number in range(first, first + count)) + writer.end()


class Body:
    """These pieces, and `then_s` later the end."""

    def __init__(self, *pieces: bytes, then_s: float = 0.0) -> None:
        self.left = list(pieces)
        self._then_s = then_s

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self.left:
            await trio.sleep(self._then_s)
            raise StopAsyncIteration
        return self.left.pop(0)


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads would let the virtual clock run away."""

    async def run_sync(work: Callable[..., Any], *args: Any, limiter: trio.CapacityLimiter) -> Any:
        async with limiter:
            return work(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)


async def test_it_is_heard_untouched_by_the_audience_and_on_stage(autojump_clock: trio.testing.MockClock) -> None:
    async with open_studio() as studio:
        listener = await studio.listener()
        source = studio.room.open_source("host")
        tap = studio.room.tap_speaker(source.producer_id or "")
        studio.room.begin_source(source)
        await talk(source, 1, 20)
        await trio.sleep(0.1)
        assert listener.speech == [opus(number) for number in range(1, 21)]
        assert [packet.payload for packet in tap.receive_nowait()] == [opus(number) for number in range(1, 21)]
        assert studio.room.producers() == [(source.producer_id, "host")]
        assert studio.room.totals().packets_in == 20
        source.close("hung_up")
        source.close("hung_up")
        source.push(opus(21))
        assert studio.room.producers() == []
        assert studio.room.totals().packets_in == 20
        own = [event for event in studio.events if getattr(event, "session_id", None) == source.id]
        assert own == [
            SessionConnected(source.id, Direction.SEND, "host"),
            SpeakerStarted(source.id, source.producer_id or "", "host"),
            SpeakerStopped(source.id, source.producer_id or "", "host"),
            SessionClosed(source.id, Direction.SEND, "host", "hung_up", was_connected=True),
        ]
        with pytest.raises(SessionClosedError):
            source.check_open()


async def test_muted_it_is_not_heard_from_that_moment_on(autojump_clock: trio.testing.MockClock) -> None:
    async with open_studio() as studio:
        listener = await studio.listener()
        source = studio.room.open_source("host")
        await talk(source, 1, 10)
        studio.room.mute("host")
        await talk(source, 11, 10)
        studio.room.unmute("host")
        await talk(source, 21, 10)
        await trio.sleep(0.1)
        assert listener.speech == [opus(number) for number in [*range(1, 11), *range(21, 31)]]


async def test_a_person_has_one_voice_whichever_way_it_comes(autojump_clock: trio.testing.MockClock) -> None:
    async with open_studio() as studio:
        listener, browser = await studio.listener(), await studio.publisher("host")
        await browser.talk(1, 10)
        source = studio.room.open_source("host")
        await talk(source, 101, 10)
        await trio.sleep(0.1)
        assert listener.speech == [opus(number) for number in [*range(1, 11), *range(101, 111)]]
        again = await studio.publisher("host")
        await again.talk(201, 10)
        await trio.sleep(0.1)
        assert listener.speech[-10:] == [opus(number) for number in range(201, 211)]


async def test_who_is_removed_is_cut_off_and_a_silent_one_stops_speaking(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_studio() as studio:
        source = studio.room.open_source("host")
        await talk(source, 1, 5)
        await trio.sleep(6.0)
        assert SpeakerStopped(source.id, source.producer_id or "", "host") in studio.events
        await talk(source, 6, 5)
        studio.room.close_owner("host", "removed")
        assert source.close_reason == "removed"
        assert not studio.room.sources
        other = studio.room.open_source("other")
    assert other.close_reason == "ended"
    with pytest.raises(SessionClosedError):
        studio.room.open_source("late")


async def test_a_whole_file_at_once_is_played_at_the_clocks_pace_and_to_its_end(
    autojump_clock: trio.testing.MockClock, inline: None
) -> None:
    async with open_studio() as studio:
        listener, source = await studio.listener(), studio.room.open_source("host")
        began_at = trio.current_time()
        data = pages(1, 400)
        body = Body(*(data[start : start + 500] for start in range(0, len(data), 500)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_source, source, Ingest(SourceType.OGG), body, studio.engine.streams)
            await trio.sleep(1.0)
            # Flow control: two seconds wait here, and the rest with the sender.
            assert len(body.left) * 500 > 0.4 * len(data)
            assert source.song == "Hanna - A song"
        assert 8.0 < trio.current_time() - began_at < 8.6
        assert listener.speech[:400] == [opus(number) for number in range(1, 401)]
        assert source.close_reason == "hung_up"


async def test_a_source_that_falls_silent_is_let_go(autojump_clock: trio.testing.MockClock, inline: None) -> None:
    async with open_studio() as studio:
        source = studio.room.open_source("host")
        began_at = trio.current_time()
        await serve_source(source, Ingest(SourceType.OGG), Body(pages(1, 10), then_s=100.0), studio.engine.streams)
        assert trio.current_time() - began_at == pytest.approx(IDLE_S, abs=0.5)
        assert source.close_reason == "lost"


async def test_what_is_no_audio_ends_the_source(autojump_clock: trio.testing.MockClock, inline: None) -> None:
    async with open_studio() as studio:
        source = studio.room.open_source("host")
        garbage = b"OggS" + bytes(100_000)
        await serve_source(source, Ingest(SourceType.OGG), Body(garbage, then_s=100.0), studio.engine.streams)
        assert source.close_reason == "failed"


async def test_a_source_that_is_closed_from_outside_ends_at_once(
    autojump_clock: trio.testing.MockClock, inline: None
) -> None:
    async with open_studio() as studio:
        listener, source = await studio.listener(), studio.room.open_source("host")
        async with trio.open_nursery() as nursery:
            body = Body(pages(1, 400), then_s=100.0)
            nursery.start_soon(serve_source, source, Ingest(SourceType.OGG), body, studio.engine.streams)
            await trio.sleep(1.0)
            source.close("removed")
            closed_at, heard = trio.current_time(), len(listener.speech)
        assert trio.current_time() - closed_at < 0.2
        await trio.sleep(1.0)
        assert len(listener.speech) <= heard + 1
        assert source.close_reason == "removed"


def test_nothing_is_left_of_a_source_wherever_it_is_cut(inline: None) -> None:
    studios: list[Studio] = []

    async def scenario(cut: Cut) -> None:
        studios.clear()
        async with open_studio(Net()) as studio:
            studios.append(studio)
            with cut:
                source = studio.room.open_source("host")
                try:
                    studio.room.begin_source(source)
                    body = Body(pages(1, 10), then_s=0.1)
                    await serve_source(source, Ingest(SourceType.OGG), body, studio.engine.streams)
                finally:
                    source.close("hung_up")
            assert not studio.room.sources
            assert studio.room.director.sources == []

    def check() -> None:
        for studio in studios:
            assert studio.engine.session_count == 0
            assert studio.engine.streams.decoding.borrowed_tokens == 0
            closed = [event for event in studio.events if isinstance(event, SessionClosed)]
            assert len(closed) == 1

    assert sweep_within(scenario, check) > 20
