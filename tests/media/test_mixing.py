"""A room with several speakers, over the wire: real peers, real Opus, virtual time."""

from __future__ import annotations

import gc
import weakref
from itertools import pairwise

import numpy as np
import trio
from trio.testing import MockClock, assert_no_checkpoints

from lac_media.opus import Decoder, Encoder, Pcm
from lac_media.parameters import Direction
from lac_media.proto.opus import SILENCE_20MS_MONO
from lac_media.proto.rtcp import Nack
from lac_media.proto.rtp import RtpPacket
from tests.media.clients import FRAME_S, Client, Studio, open_studio
from tests.media.test_sweeps import Remains, remember
from tests.mix.hearing import splatter, tone
from tests.mix.show import RATE
from tests.sweep import sweep

FRAME = 960
TONES = {"ann": 400.0, "ben": 1000.0, "cem": 2300.0}


async def sing(client: Client, hertz: float, seconds: float, *, bitrate_bps: int = 64_000) -> None:
    """A tone from this client's microphone."""
    encoder = Encoder(bitrate_bps=bitrate_bps)
    for n in range(round(seconds / FRAME_S)):
        t = (n * FRAME + np.arange(FRAME)) / RATE
        mono = (0.2 * np.sin(2 * np.pi * hertz * t)).astype(np.float32)
        client.send_opus(encoder.encode(np.ascontiguousarray(np.stack((mono, mono), axis=1))))
        await trio.sleep(FRAME_S)


def heard(packets: list[RtpPacket]) -> Pcm:
    decoder = Decoder()
    return np.concatenate([decoder.decode(packet.payload) for packet in packets])


def assert_one_line(packets: list[RtpPacket]) -> None:
    for before, after in pairwise(packets):
        assert (after.sequence - before.sequence) & 0xFFFF == 1
        assert (after.timestamp - before.timestamp) & 0xFFFF_FFFF == FRAME
    assert len({packet.ssrc for packet in packets}) == 1


async def test_the_audience_hears_everybody_and_sees_one_unbroken_line(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        listener = await studio.listener()
        people = {name: await studio.publisher(name) for name in TONES}
        async with trio.open_nursery() as nursery:
            for name, hertz in TONES.items():
                nursery.start_soon(sing, people[name], hertz, 6.0)
                await trio.sleep(1.0)
            await trio.sleep(1.0)
            together = heard(listener.packets)[-RATE // 2 :]
            studio.room.mute("ben")
            await trio.sleep(0.8)
            without_ben = heard(listener.packets)[-RATE // 2 :]
            studio.room.unmute("ben")
            await trio.sleep(1.0)
            again = heard(listener.packets)[-RATE // 2 :]
        assert all(tone(together, hertz) > 0.1 for hertz in TONES.values())
        assert tone(without_ben, TONES["ben"]) < 0.002
        assert min(tone(without_ben, TONES["ann"]), tone(without_ben, TONES["cem"])) > 0.1
        assert tone(again, TONES["ben"]) > 0.1
        await trio.sleep(2.0)
        assert listener.packets[-1].payload == SILENCE_20MS_MONO
        assert_one_line(listener.packets)
        assert studio.room.totals().queue_dropped == 0
        assert studio.room.totals().mixed > 200


async def test_one_speaker_passes_through_again_after_the_other_has_left(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        listener = await studio.listener()
        host, guest = await studio.publisher("host"), await studio.publisher("guest")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sing, host, 440.0, 12.0)
            await trio.sleep(1.0)
            await sing(guest, 1000.0, 2.0)
            assert studio.room.director.is_mixing
            guest.peer.close()
            await trio.sleep(8.0)
            assert not studio.room.director.is_mixing
            assert_one_line(listener.packets)
            pcm = heard(listener.packets)
            assert splatter(pcm[-5 * RATE :]).max() < 1e-4
            assert tone(pcm[-RATE:], 440.0) > 0.19


async def test_a_mixed_packet_that_was_lost_is_sent_again(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        listener = await studio.listener()
        host, guest = await studio.publisher("host"), await studio.publisher("guest")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sing, host, 440.0, 1.5)
            nursery.start_soon(sing, guest, 1000.0, 1.5)
            await trio.sleep(1.0)
            studio.net.impairment.loss = 1.0
            await trio.sleep(0.1)
            studio.net.impairment.loss = 0.0
            await trio.sleep(0.1)
            numbers = [packet.sequence for packet in listener.packets]
            lost = [n for n in range(numbers[0], numbers[-1]) if n not in numbers]
            assert len(lost) in (4, 5, 6)
            core = listener.peer.core
            assert core is not None
            core.send_rtcp([Nack(core.ssrc, studio.room.program.ssrc, tuple(lost))])
            listener.peer._flush(core)
        numbers = sorted(packet.sequence for packet in listener.packets)
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def test_taking_a_packet_into_the_mix_never_waits(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        host, guest = await studio.publisher("host"), await studio.publisher("guest")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sing, host, 440.0, 1.0)
            await sing(guest, 1000.0, 0.5)
            packet = RtpPacket(111, 9, 9, guest.peer.ssrc, payload=Encoder(bitrate_bps=64_000).encode(noise()))
            with assert_no_checkpoints():
                studio.room.receive_audio(guest.session, packet, None)


async def test_decoders_are_freed_with_the_mix_and_without_the_collector(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        host, guest = await studio.publisher("host"), await studio.publisher("guest")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sing, host, 440.0, 1.0)
            await sing(guest, 1000.0, 1.0)
        mix = studio.room.director._mix
        assert mix is not None
        parts = [weakref.ref(mix.mixer._output._encoder), weakref.ref(mix.mixer._output._decoder)]
        parts += [weakref.ref(channel.playout._decoder) for channel in mix.channels.values()]
        del mix
        gc.collect()
        gc.disable()
        try:
            for name in ("host", "guest"):
                studio.room.close_owner(name, "removed")
            await trio.sleep(0.2)
            assert not studio.room.director.is_mixing
            assert [part() for part in parts] == [None] * 4
        finally:
            gc.enable()


def noise() -> Pcm:
    return (np.random.default_rng(1).standard_normal((FRAME, 2)) * 0.1).astype(np.float32)


def test_nothing_is_left_of_a_room_that_is_mixing() -> None:
    remains = Remains()

    async def scenario() -> None:
        remains.begin()
        async with open_studio(remains.net) as studio:
            remember(remains, studio)
            await evening(studio)

    assert sweep(scenario, remains.check) > 100


async def evening(studio: Studio) -> None:
    """Two speak, one is muted and comes back, one leaves, the other is removed."""
    host, guest = await studio.publisher("host"), await studio.publisher("guest")
    await studio.add(Direction.RECV)
    for number in range(3):
        host.say(number)
        guest.say(number)
        await trio.sleep(FRAME_S)
    assert studio.room.director.is_mixing
    studio.room.mute("guest")
    host.say(3)
    await trio.sleep(FRAME_S)
    studio.room.unmute("guest")
    guest.say(4)
    await trio.sleep(FRAME_S)
    guest.peer.close()
    host.say(5)
    await trio.sleep(FRAME_S)
    studio.room.close_owner("host", "removed")
    await trio.sleep(0.05)
