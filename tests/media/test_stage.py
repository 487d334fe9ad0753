"""Speakers on stage hear each other and never themselves, over an in-memory network in virtual time."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from lac_media.errors import LocalProtocolError, SessionClosedError, UnknownConsumerError, UnknownProducerError
from lac_media.parameters import ConsumerParameters, Direction, ProducerParameters
from lac_media.proto.rtcp import Nack
from lac_media.proto.rtp import RtpPacket, parse_rtp_untrusted
from lac_media.rooms.events import AudienceChanged, SpeakingChanged
from lac_media.rooms.levels import LOUDEST
from tests.fakes.net import Net
from tests.media.clients import FRAME_S, PUBLISHED, Client, Studio, open_studio, opus
from tests.sweep import sweep

LEVEL_ID = 10
LOUD, SOFT = 20, 45


class Performer:
    """Somebody on stage: one session that sends, one on which they are sent all the others."""

    def __init__(self, studio: Studio, name: str, sending: Client, hearing: Client) -> None:
        self.name = name
        self.sending = sending
        self.hearing = hearing
        self.studio = studio
        #: What came, by SSRC.
        self.heard: dict[int, list[RtpPacket]] = {}
        #: The network loses what comes while this is set.
        self.loses = False
        core = hearing.peer.core
        assert core is not None

        def receive(data: bytes, _now: float) -> None:
            if self.loses:
                return
            assert core.srtp is not None
            plain = core.srtp.unprotect(data)
            assert plain is not None
            packet = parse_rtp_untrusted(plain)
            self.heard.setdefault(packet.ssrc, []).append(packet)

        core._receive_rtp = receive  # type: ignore[method-assign]  # the core itself follows one stream only

    @property
    def producer_id(self) -> str:
        assert self.sending.session.producer_id is not None
        return self.sending.session.producer_id

    def consume(self, other: Performer) -> int:
        """Have the other's audio sent; its SSRC."""
        return self.hearing.session.consume(ConsumerParameters(), other.producer_id).ssrc

    def say(self, number: int, level: int | None = LOUD) -> None:
        sending = self.sending
        sending._sequence += 1
        stamp = sending._sequence * 960 & 0xFFFF_FFFF
        extensions = {} if level is None else {LEVEL_ID: bytes([level])}
        packet = RtpPacket(
            PUBLISHED, sending._sequence & 0xFFFF, stamp, sending.peer.ssrc, payload=opus(number), extensions=extensions
        )
        sending.peer.send_rtp(packet)

    def payloads(self, ssrc: int) -> list[bytes]:
        return [packet.payload for packet in self.heard.get(ssrc, [])]


async def perform(studio: Studio, name: str) -> Performer:
    sending = await studio.publisher(name)
    assert sending.session._core is not None
    sending.session._core.expect_stream(
        ProducerParameters(PUBLISHED, ssrc=sending.peer.ssrc, audio_level_extension_id=LEVEL_ID)
    )
    hearing = await studio.add(Direction.RECV, name, consumer=ConsumerParameters())
    info = hearing.session._consumer
    assert info is not None
    hearing.session.close_consumer(info.id)  # on stage one hears the others, not the program
    return Performer(studio, name, sending, hearing)


async def make_stage(studio: Studio, size: int) -> tuple[list[Performer], dict[tuple[str, str], int]]:
    """People who all hear each other, and under which SSRC: (who hears, whom) -> SSRC."""
    performers = [await perform(studio, f"person-{number}") for number in range(size)]
    ssrcs = {
        (one.name, other.name): one.consume(other) for one in performers for other in performers if one is not other
    }
    return performers, ssrcs


def assert_unbroken(packets: list[RtpPacket]) -> None:
    sequences = [packet.sequence for packet in packets]
    assert sequences == [(sequences[0] + number) & 0xFFFF for number in range(len(sequences))]
    stamps = [(packet.timestamp - packets[0].timestamp) & 0xFFFF_FFFF for packet in packets]
    assert stamps == sorted(stamps)


async def test_three_speakers_each_hear_the_other_two_and_never_themselves(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        performers, ssrcs = await make_stage(studio, 3)
        for number in range(20):
            for index, performer in enumerate(performers):
                performer.say(1000 * index + number)
            await trio.sleep(FRAME_S)
        await trio.sleep(0.1)
        for one in performers:
            assert len(one.heard) == 2
            for index, other in enumerate(performers):
                if one is not other:
                    ssrc = ssrcs[one.name, other.name]
                    assert one.payloads(ssrc) == [opus(1000 * index + number) for number in range(20)]
                    assert_unbroken(one.heard[ssrc])


async def test_of_many_only_the_loudest_four_are_passed_on(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        performers, ssrcs = await make_stage(studio, 6)
        listener = performers[0]
        loud = performers[1 : 1 + LOUDEST]
        for number in range(100):
            listener.say(number, level=127)
            for performer in loud:
                performer.say(number, LOUD)
            performers[-1].say(number, SOFT)
            await trio.sleep(FRAME_S)
        await trio.sleep(0.1)
        for performer in loud:
            assert len(listener.payloads(ssrcs[listener.name, performer.name])) >= 95
        # Until the four had been heard there was a place.
        assert len(listener.payloads(ssrcs[listener.name, performers[-1].name])) <= 5


async def test_twelve_hear_the_loudest_four_of_each_other_and_the_audience_one_unbroken_sound(
    autojump_clock: MockClock,
) -> None:
    """Everybody sends all the time, and four at a time speak, in turns."""
    frames, settled = 50, 25
    async with open_studio() as studio:
        performers, ssrcs = await make_stage(studio, 12)
        audience = await studio.listener()
        fours = [performers[first : first + LOUDEST] for first in range(0, len(performers), LOUDEST)]
        turns = [*fours, fours[0]]
        for turn, speaking in enumerate(turns):
            for number in range(frames):
                for index, performer in enumerate(performers):
                    performer.say(10_000 * index + 1000 * turn + number, LOUD if performer in speaking else 110)
                await trio.sleep(FRAME_S)
        await trio.sleep(0.2)
        for listener in performers:
            assert set(listener.heard) <= set(ssrcs.values())
            for index, other in enumerate(performers):
                if other is listener:
                    continue  # there is no line for it
                line = listener.heard.get(ssrcs[listener.name, other.name], [])
                assert_unbroken(line)
                said = [packet.payload for packet in line]
                for turn, speaking in enumerate(turns):
                    first = 10_000 * index + 1000 * turn
                    expected = [opus(first + number) for number in range(settled, frames) if other in speaking]
                    came = {opus(first + number) for number in range(settled, frames)}
                    assert [payload for payload in said if payload in came] == expected
            own = 10_000 * performers.index(listener)
            mine = {opus(own + 1000 * turn + number) for turn in range(len(turns)) for number in range(frames)}
            assert not mine & {packet.payload for line in listener.heard.values() for packet in line}
        assert len({packet.ssrc for packet in audience.packets}) == 1
        assert_unbroken(audience.packets)
        assert len(audience.packets) >= len(turns) * frames


async def test_who_becomes_louder_takes_a_place_and_both_lines_stay_whole(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        performers, ssrcs = await make_stage(studio, 6)
        listener, first, last = performers[0], performers[1], performers[-1]
        for turn in range(6):
            speaks, rests = (first, last) if turn % 2 == 0 else (last, first)
            for number in range(50):
                for performer in performers[2:-1]:
                    performer.say(number, LOUD)
                listener.say(number, 127)
                rests.say(number, 120)
                speaks.say(1000 * turn + number, LOUD)
                await trio.sleep(FRAME_S)
        await trio.sleep(0.1)
        for performer in (first, last):
            packets = listener.heard[ssrcs[listener.name, performer.name]]
            assert_unbroken(packets)
            said = {packet.payload for packet in packets}
            turns = range(0, 6, 2) if performer is first else range(1, 6, 2)
            for turn in turns:
                assert len(said & {opus(1000 * turn + number) for number in range(1, 50)}) >= 25
        assert len(listener.heard) == 5


async def test_a_muted_speaker_is_heard_by_nobody_and_goes_on_without_a_gap(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        (one, two), ssrcs = await make_stage(studio, 2)
        audience = await studio.listener()
        for number in range(60):
            if number == 20:
                studio.room.mute(two.name)
                audience.events.clear()
            if number == 40:
                assert set(audience.speech) == set()
                studio.room.unmute(two.name)
            two.say(number)
            await trio.sleep(FRAME_S)
        await trio.sleep(0.1)
        packets = one.heard[ssrcs[one.name, two.name]]
        assert [packet.payload for packet in packets] == [opus(number) for number in (*range(20), *range(40, 60))]
        assert_unbroken(packets)
        pause = (packets[20].timestamp - packets[19].timestamp) & 0xFFFF_FFFF
        assert pause == pytest.approx(21 * 960, abs=480)
        assert packets[20].marker


async def test_what_is_missing_of_a_speaker_is_sent_again(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        (one, two), ssrcs = await make_stage(studio, 2)
        for number in range(10):
            one.loses = number == 4
            two.say(number)
            await trio.sleep(FRAME_S)
        await trio.sleep(0.1)
        ssrc = ssrcs[one.name, two.name]
        sequences = [packet.sequence for packet in one.heard[ssrc]]
        lost = (sequences[3] + 1) & 0xFFFF
        assert sequences[4] == (lost + 1) & 0xFFFF
        one.heard.clear()
        core = one.hearing.peer.core
        assert core is not None
        core.send_rtcp([Nack(1, ssrc, (lost, (lost + 5000) & 0xFFFF))])
        one.hearing.peer._flush(core)
        await trio.sleep(0.1)
        assert one.payloads(ssrc) == [opus(4)]
        assert one.heard[ssrc][0].sequence == lost
        assert one.hearing.session.retransmitted == 1


async def test_who_leaves_the_stage_is_gone_for_the_others_and_hears_them_no_more(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        (one, two, three), ssrcs = await make_stage(studio, 3)
        two.sending.session.close("moved_to_audience")
        studio.room.close_stage(two.name)
        for number in range(5):
            one.say(number)
            three.say(number)
            await trio.sleep(FRAME_S)
        await trio.sleep(0.1)
        assert two.heard == {}
        assert list(one.heard) == [ssrcs[one.name, three.name]]
        assert [info.producer_id for info in one.hearing.session.speakers] == [three.producer_id]
        with pytest.raises(UnknownProducerError):
            one.consume(two)


async def test_what_cannot_be_consumed_is_refused(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        (one, two), _ = await make_stage(studio, 2)
        with pytest.raises(LocalProtocolError):
            one.consume(one)
        with pytest.raises(LocalProtocolError):
            one.consume(two)  # a second time
        with pytest.raises(LocalProtocolError):
            one.sending.session.consume(ConsumerParameters(), two.producer_id)
        with pytest.raises(UnknownConsumerError):
            one.hearing.session.close_consumer("nothing")
        one.hearing.session.close_consumer(one.hearing.session.speakers[0].id)
        assert one.hearing.session.speakers == []
        one.consume(two)


async def test_the_owner_is_told_who_speaks_a_few_times_a_second_at_most(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        (one, two), _ = await make_stage(studio, 2)
        for number in range(300):
            one.say(number, LOUD if number < 150 else 120)
            two.say(number, 120 if number < 150 else SOFT)
            await trio.sleep(FRAME_S)
        told = [event.speaking for event in studio.events if isinstance(event, SpeakingChanged)]
        assert 2 <= len(told) <= 13
        assert told[0][0][0] == one.name
        assert told[-1] == ((two.name, -42),) or told[-1] == ((two.name, -48),)


def test_a_stage_whose_room_is_cancelled_at_any_step_leaves_nothing() -> None:
    net = Net()

    async def scenario() -> None:
        nonlocal net
        net = Net()
        async with open_studio(net) as studio:
            (one, two), _ = await make_stage(studio, 2)
            one.say(1)
            two.say(2)
            await trio.sleep(0.1)
            studio.room.mute(two.name)
            two.sending.session.close("left")
            one.say(3)
            await trio.sleep(0.1)

    def check() -> None:
        assert net.sockets == {}

    assert sweep(scenario, check, refusals=(SessionClosedError,)) > 10


async def test_only_sessions_that_the_program_reaches_are_its_audience(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        host, guest = await perform(studio, "host"), await perform(studio, "guest")
        guest.consume(host)
        await trio.sleep(0.1)
        listener = await studio.listener("ann")
        told = [event for event in studio.events if isinstance(event, AudienceChanged)]
        # `perform` consumes the program first and then gives it up for single speakers.
        expected = [
            AudienceChanged(one.id, hears)
            for one in (host.hearing.session, guest.hearing.session)
            for hears in (True, False)
        ]
        assert told == [*expected, AudienceChanged(listener.session.id, hears=True)]
