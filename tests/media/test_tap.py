"""Readers of a room get what passed by, and however slow they are nobody else notices."""

from __future__ import annotations

import itertools

import pytest
import trio
from trio.testing import assert_no_checkpoints

from lac_media.errors import SessionClosedError, UnknownProducerError
from lac_media.proto.rtp import RtpPacket
from lac_media.rooms.tap import TAP_PACKETS, Tap, TapPoint
from tests.fakes.net import Net
from tests.media.clients import Client, open_studio, opus
from tests.sweep import sweep


def producer_of(client: Client) -> str:
    assert client.session.producer_id is not None
    return client.session.producer_id


async def test_a_tap_gives_the_program_as_listeners_get_it(autojump_clock: trio.testing.MockClock) -> None:
    async with open_studio() as studio:
        host, listener = await studio.publisher("host"), await studio.listener()
        tap = studio.room.tap_program()
        began_at = studio.room.media_time_s()
        await host.talk(1, 10)
        packets = await tap.receive()
        spoken = [packet for packet in packets if packet.payload in [opus(number) for number in range(1, 11)]]
        assert [packet.payload for packet in spoken] == listener.speech
        assert [b.rtp_timestamp - a.rtp_timestamp for a, b in itertools.pairwise(spoken)] == [960] * 9
        assert [b.sequence - a.sequence for a, b in itertools.pairwise(packets)] == [1] * (len(packets) - 1)
        assert abs(spoken[0].rtp_timestamp / 48_000 - began_at) < 0.05
        assert trio.current_time() - packets[-1].arrived_at < 0.05


async def test_a_tap_gives_one_speaker_alone_and_nothing_of_a_muted_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_studio() as studio:
        host, guest = await studio.publisher("host"), await studio.publisher("guest")
        tap = studio.room.tap_speaker(producer_of(guest))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.talk, 100, 10)
            nursery.start_soon(guest.talk, 1, 10)
        studio.room.mute("guest")
        await guest.talk(11, 3)
        assert [packet.payload for packet in await tap.receive()] == [opus(number) for number in range(1, 11)]


async def test_what_waits_is_read_after_the_source_has_ended_and_then_no_more(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_studio() as studio:
        host = await studio.publisher("host")
        speaker = studio.room.tap_speaker(producer_of(host))
        program = studio.room.tap_program()
        await host.talk(1, 2)
        host.session.close("left")
        assert len(await speaker.receive()) == 2
        with pytest.raises(trio.EndOfChannel):
            await speaker.receive()
        assert not program.ended
    await program.receive()
    with pytest.raises(trio.EndOfChannel):
        await program.receive()


async def test_a_speaker_or_room_that_is_gone_cannot_be_tapped(autojump_clock: trio.testing.MockClock) -> None:
    async with open_studio() as studio:
        with pytest.raises(UnknownProducerError):
            studio.room.tap_speaker("nobody")
        room = studio.room
    with pytest.raises(SessionClosedError):
        room.tap_program()


def packet(number: int) -> RtpPacket:
    return RtpPacket(111, number & 0xFFFF, number * 960 & 0xFFFF_FFFF, 1, payload=opus(number))


async def test_a_slow_reader_loses_the_oldest_and_others_nothing() -> None:
    point = TapPoint()
    slow, fast = point.open(), point.open()
    with assert_no_checkpoints():
        for number in range(TAP_PACKETS + 20):
            point.offer_rtp(packet(number), None, now=0)
            fast.receive_nowait()
    assert (slow.dropped, fast.dropped) == (20, 0)
    waiting = await slow.receive()
    assert [one.payload for one in waiting] == [opus(number) for number in range(20, TAP_PACKETS + 20)]


async def test_numbers_do_not_wrap_and_empty_packets_are_left_out() -> None:
    point = TapPoint()
    tap = point.open()
    for number in range(65_534, 65_538):
        point.offer_rtp(packet(number), 5, now=0)
    point.offer_rtp(RtpPacket(111, 2, 0, 1, payload=b""), None, now=0)
    got = await tap.receive()
    assert [one.sequence for one in got] == [65_534, 65_535, 65_536, 65_537]
    assert got[0].level == 5


async def test_a_closed_tap_is_fed_no_more() -> None:
    point = TapPoint()
    tap = point.open()
    point.offer_rtp(packet(1), None, now=0)
    tap.close()
    tap.close()
    assert point.is_empty
    with pytest.raises(trio.EndOfChannel):
        await tap.receive()


async def test_a_reader_waiting_for_the_next_packet_is_woken_by_it_or_by_the_end() -> None:
    point = TapPoint()
    tap = point.open()
    seen: list[int | str] = []

    async def read() -> None:
        try:
            while True:
                seen.append(len(await tap.receive()))
        except trio.EndOfChannel:
            seen.append("end")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        point.offer_rtp(packet(1), None, now=0)
        await trio.testing.wait_all_tasks_blocked()
        point.end()
    assert seen == [1, "end"]


def test_nothing_is_left_of_readers() -> None:
    taps: list[Tap] = []
    rooms: list[object] = []

    async def read(tap: Tap) -> None:
        try:
            while True:
                await tap.receive()
        except trio.EndOfChannel:
            pass
        finally:
            tap.close()

    async def scenario() -> None:
        taps.clear()
        async with open_studio(Net()) as studio:
            rooms[:] = [studio.room]
            host = await studio.publisher("host")
            async with trio.open_nursery() as nursery:
                for tap in (studio.room.tap_program(), studio.room.tap_speaker(producer_of(host))):
                    taps.append(tap)
                    nursery.start_soon(read, tap)
                await host.talk(1, 3)
                taps[0].close()
                host.session.close("left")

    def check() -> None:
        assert all(tap.ended and not tap.receive_nowait() for tap in taps)
        for room in rooms:
            assert room._speaker_taps == {}  # type: ignore[attr-defined]  # looks inside
            assert room._program_taps.is_empty  # type: ignore[attr-defined]

    assert sweep(scenario, check) > 30
