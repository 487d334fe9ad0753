"""Plain streams of a room: encoded once, read by many, and nothing of them is left."""

from __future__ import annotations

import contextlib

import pytest
import trio

from lac_media.container.ogg_opus import OggOpusReader
from lac_media.errors import SessionClosedError, StreamsFullError
from lac_media.rooms.events import SessionClosed, SessionConnected
from lac_media.streams import program_stream
from lac_media.streams.formats import StreamFormat, StreamTitle
from lac_media.streams.hub import StreamLimits
from lac_media.streams.listener import StreamListener
from lac_media.streams.program_stream import IDLE_S, INTERVAL_S, ProgramStream
from tests.fakes.net import Net
from tests.media.clients import Studio, open_studio, opus
from tests.sweep import sweep


async def read_for(listener: StreamListener, seconds: float) -> bytes:
    data = b""
    with trio.move_on_after(seconds):
        while True:
            data += await listener.receive()
    return data


def packets_of(data: bytes) -> list[bytes]:
    return list(OggOpusReader().receive(data))


def speech_of(data: bytes) -> list[int]:
    return [int.from_bytes(packet[1:5], "big") for packet in packets_of(data) if packet[:1] == opus(0)[:1]]


async def test_opus_comes_untouched_and_without_a_break(autojump_clock: trio.testing.MockClock) -> None:
    async with open_studio() as studio:
        host = await studio.publisher("host")
        listener = studio.room.streams.open(StreamFormat.OGG, "me")
        await host.talk(1, 100)
        data = await read_for(listener, 1.0)
        assert speech_of(data) == list(range(1, 101))


async def test_the_second_listener_shares_the_encoder_and_begins_with_a_burst(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_studio() as studio:
        host = await studio.publisher("host")
        first = studio.room.streams.open(StreamFormat.OGG, "first")
        await host.talk(1, 300)
        second = studio.room.streams.open(StreamFormat.OGG, "second")
        assert studio.engine.streams.encoders[StreamFormat.OGG] == 1
        assert studio.engine.streams.listeners[StreamFormat.OGG] == 2
        burst = speech_of(await second.receive())
        assert 100 < len(burst) <= 150
        assert burst == list(range(burst[0], burst[0] + len(burst)))
        assert speech_of(await read_for(first, 1.0))[-1] == 300


async def test_silence_is_streamed_while_nobody_speaks_and_loss_does_not_move_the_line(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_studio() as studio:
        host = await studio.publisher("host")
        listener = studio.room.streams.open(StreamFormat.OGG, "me")
        began_at = trio.current_time()
        await host.talk(1, 50)
        host._sequence += 10  # lost on the way
        await trio.sleep(0.2)
        await host.talk(61, 50)
        await trio.sleep(5.0)
        data = await read_for(listener, 1.0)
        seconds = trio.current_time() - began_at
        packets = packets_of(data)
        assert abs(len(packets) * 0.02 - seconds) < INTERVAL_S + 0.5
        numbers = speech_of(data)
        assert numbers == [*range(1, 51), *range(61, 111)]
        at = [n for n, packet in enumerate(packets) if packet[:1] == opus(0)[:1]]
        assert at[50] - at[49] == 11


async def test_an_encoder_without_listeners_stops_after_a_while_and_starts_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_studio() as studio:
        streams, hub = studio.room.streams, studio.engine.streams
        listener = streams.open(StreamFormat.OGG, "me")
        await trio.sleep(1.0)
        listener.close("hung_up")
        await trio.sleep(IDLE_S - 2)
        assert hub.encoders[StreamFormat.OGG] == 1
        await trio.sleep(3)
        assert hub.encoders[StreamFormat.OGG] == 0
        assert studio.room._program_taps.is_empty
        again = streams.open(StreamFormat.OGG, "me")
        assert packets_of(await read_for(again, 1.0))


async def test_a_stalled_listener_is_moved_forward_and_the_others_hear_everything(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_studio() as studio:
        host = await studio.publisher("host")
        stalled = studio.room.streams.open(StreamFormat.OGG, "stalled")
        quick = studio.room.streams.open(StreamFormat.OGG, "quick")
        heard = b""

        async def listen() -> None:
            nonlocal heard
            heard = await read_for(quick, 21.0)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await host.talk(1, 1000)
        assert speech_of(heard) == list(range(1, 1001))
        rest = speech_of(await read_for(stalled, 1.0))
        assert stalled.skips == 1
        assert 850 < rest[0] < rest[-1] == 1000  # it goes on where a new one would begin
        stalled.close("hung_up")
        assert studio.engine.streams.skips == 1


async def test_a_new_title_reaches_those_who_listen(autojump_clock: trio.testing.MockClock) -> None:
    async with open_studio() as studio:
        title = StreamTitle("The show", "Hanna")
        studio.room.streams.describe = lambda: title
        listener = studio.room.streams.open(StreamFormat.OGG, "me")
        assert b"TITLE=The show" in await read_for(listener, 1.0)
        title = StreamTitle("The show", "Hanna", "A song")
        data = await read_for(listener, 1.0)
        assert b"TITLE=A song" in data
        assert listener.title.text == "A song"


async def test_listeners_of_removed_owners_hear_no_more(autojump_clock: trio.testing.MockClock) -> None:
    async with open_studio() as studio:
        listener = studio.room.streams.open(StreamFormat.OGG, "me")
        other = studio.room.streams.open(StreamFormat.OGG, "other")
        studio.room.streams.begin(listener)
        await trio.sleep(1.0)
        studio.room.close_owner("me", "removed")
        with pytest.raises(trio.EndOfChannel):
            await listener.receive()
        assert await other.receive()
        assert SessionConnected(listener.id, listener.direction, "me") in studio.events
        assert SessionClosed(listener.id, listener.direction, "me", "removed", was_connected=True) in studio.events


async def test_the_end_of_the_show_ends_the_stream_properly(autojump_clock: trio.testing.MockClock) -> None:
    data = b""

    async def listen(listener: StreamListener) -> None:
        nonlocal data
        with contextlib.suppress(trio.EndOfChannel):
            while True:
                data += await listener.receive()

    async with trio.open_nursery() as outside, open_studio() as studio:
        host = await studio.publisher("host")
        outside.start_soon(listen, studio.room.streams.open(StreamFormat.OGG, "me"))
        await host.talk(1, 50)
        await trio.sleep(0.3)
    assert speech_of(data) == list(range(1, 51))
    assert data[data.rindex(b"OggS") + 5] & 4  # the last page says so
    with pytest.raises(SessionClosedError):
        studio.room.streams.open(StreamFormat.OGG, "too late")


async def test_there_is_room_for_so_many_and_so_many_of_one_address(autojump_clock: trio.testing.MockClock) -> None:
    async with open_studio() as studio:
        hub, streams = studio.engine.streams, studio.room.streams
        hub.limits = StreamLimits(listeners=3, per_address=2)
        first = streams.open(StreamFormat.OGG, "a", "192.0.2.1")
        streams.open(StreamFormat.MP3, "b", "192.0.2.1")
        with pytest.raises(StreamsFullError) as here:
            streams.open(StreamFormat.OGG, "c", "192.0.2.1")
        streams.open(StreamFormat.OGG, "d", "192.0.2.2")
        with pytest.raises(StreamsFullError) as anywhere:
            streams.open(StreamFormat.OGG, "e", "192.0.2.3")
        assert (here.value.here, anywhere.value.here, hub.refused) == (True, False, 2)
        first.close("hung_up")
        first.close("hung_up")
        streams.open(StreamFormat.OGG, "c", "192.0.2.1")


async def test_an_encoder_that_breaks_takes_down_its_listeners_and_nobody_else(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: ProgramStream) -> None:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("the encoder broke")

    async with open_studio() as studio:
        listener = await studio.listener("me")
        with monkeypatch.context() as patch:
            patch.setattr(ProgramStream, "_step", broken)
            stream = studio.room.streams.open(StreamFormat.OGG, "me")
            with pytest.raises(trio.EndOfChannel):
                await stream.receive()
        again = studio.room.streams.open(StreamFormat.OGG, "me")
        assert await again.receive()
        assert listener.close_reason is None


def test_nothing_is_left_of_streams_whenever_they_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_stream, "IDLE_S", 0.2)
    studios: list[Studio] = []

    async def scenario() -> None:
        studios.clear()
        async with open_studio(Net()) as studio:
            studios.append(studio)
            streams = studio.room.streams
            async with trio.open_nursery() as nursery:
                listeners = [streams.open(StreamFormat.OGG, name) for name in ("a", "b")]
                nursery.start_soon(read_for, listeners[0], 0.4)
                await trio.sleep(0.3)
                listeners[1].close("hung_up")
                await trio.sleep(0.3)
                listeners[0].close("hung_up")
                await trio.sleep(0.6)

    def check() -> None:
        for studio in studios:
            hub = studio.engine.streams
            assert not +hub.listeners
            assert not +hub.encoders
            assert not len(studio.room.streams)
            assert studio.room._program_taps.is_empty

    assert sweep(scenario, check) > 20
