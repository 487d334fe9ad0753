"""What a transport consumes anew comes under another SSRC: its numbers have gone on, or round, under the same key."""

from __future__ import annotations

import pytest
import trio
from pylibsrtp import Error
from trio.testing import MockClock

from lac_media.errors import LocalProtocolError, TransportUsedUpError
from lac_media.net.batch import LoopBatch
from lac_media.parameters import OPUS_PAYLOAD_TYPE, Address, ConsumerParameters, Direction, ProducerParameters
from lac_media.proto.rtcp import Nack
from lac_media.proto.rtp import parse_rtp_untrusted
from lac_media.proto.srtp import PROFILES
from lac_media.rooms.fanout import Fanout
from lac_media.rooms.line import ProgramPacket
from lac_media.rooms.session import MAX_SSRCS, ConsumerInfo
from tests.media.clients import Client, open_studio, opus
from tests.media.delivery import deliver
from tests.media.test_batch import session
from tests.media.test_stage import make_stage

AWAY = 33_000
ROUND = 65_536
ADDRESS = ("192.0.2.7", 1000)


class Wire:
    """A network that keeps what was sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send_nowait(self, data: bytes, address: Address) -> bool:
        self.sent.append(data)
        return True


class Hall:
    """A fan-out with SRTP, and one listener's end of it."""

    def __init__(self, profile: bytes) -> None:
        self.wire = Wire()
        self.fanout = Fanout(7, lambda slots: LoopBatch(self.wire, slots))
        self.srtp = session(1, profile=profile)
        self.listener = session(1, is_server=False, profile=profile)
        self.number = 40_000  # the first wrap is not far

    async def go_on(self, count: int) -> None:
        for _ in range(count):
            place = self.number * 960
            packet = ProgramPacket(
                self.number & 0xFFFF, place & 0xFFFF_FFFF, place, False, opus(self.number), None, 0.0
            )
            await deliver(self.fanout, packet)
            self.number += 1

    async def listen(self, count: int, ssrc: int, payload_type: int = 111) -> list[bytes]:
        """Take a seat for so many packets; what came, decrypted, in its order."""
        seat = self.fanout.add(ConsumerParameters(payload_type, None), self.srtp, ADDRESS, ssrc=ssrc)
        await self.go_on(count)
        self.fanout.remove(seat)
        sent, self.wire.sent = self.wire.sent, []
        plain = [self.listener.unprotect(data) for data in sent]
        return [parse_rtp_untrusted(data).payload for data in plain if data is not None]


@pytest.mark.parametrize("profile", PROFILES)
async def test_after_half_a_round_of_numbers_everything_is_heard_again(
    autojump_clock: MockClock, profile: bytes
) -> None:
    hall = Hall(profile)
    assert await hall.listen(30_000, ssrc=7) == [opus(number) for number in range(40_000, 70_000)]
    await hall.go_on(AWAY)
    first = hall.number
    with pytest.raises(Error, match="replay check failed"):
        await hall.listen(1, ssrc=7)  # why there has to be another one
    hall.fanout = Fanout(7, lambda slots: LoopBatch(hall.wire, slots))
    hall.number = first
    assert await hall.listen(200, ssrc=8) == [opus(number) for number in range(first, first + 200)]


def key_stream(protected: bytes, plain: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(protected[12:], plain[12:], strict=False))


async def test_numbers_that_come_round_do_not_bring_the_key_stream_again(autojump_clock: MockClock) -> None:
    """Whoever hears the network and knows what was said once would read what is said now."""
    streams: dict[int, list[bytes]] = {}
    for again in (7, 8):
        hall = Hall(b"SRTP_AEAD_AES_128_GCM")
        for ssrc, away in ((7, ROUND - 5), (again, 0)):
            seat = hall.fanout.add(ConsumerParameters(111, None), hall.srtp, ADDRESS, ssrc=ssrc)
            await hall.go_on(5)
            hall.fanout.remove(seat)
            for data in hall.wire.sent:
                plain = hall.listener.unprotect(data) or b""
                number = int.from_bytes(data[2:4], "big")
                expected = opus(hall.number - 5 + (number - hall.number + 5) % ROUND)
                streams.setdefault(again, []).append(key_stream(data, data[:12] + expected))
                assert plain == b"" or plain[12:] == expected
            hall.wire.sent.clear()
            await hall.go_on(away)
    assert set(streams[7][:5]) == set(streams[7][5:]), "the same key stream: this is what must not be"
    assert not set(streams[8][:5]) & set(streams[8][5:])


def listen_for(client: Client, info: ConsumerInfo) -> None:
    core = client.peer.core
    assert core is not None
    core.expect_stream(ProducerParameters(OPUS_PAYLOAD_TYPE, info.ssrc, audio_level_extension_id=10))
    client.events.clear()


def consume_anew(client: Client) -> ConsumerInfo:
    consumer = client.session._consumer
    assert consumer is not None
    client.session.close_consumer(consumer.id)
    info = client.session.consume(consumer.parameters)
    listen_for(client, info)
    return info


@pytest.mark.parametrize("economy", [False, True])
async def test_who_consumes_the_program_anew_hears_it_under_another_ssrc(
    autojump_clock: MockClock, economy: bool
) -> None:
    async with open_studio() as studio:
        room = studio.room
        host = await studio.publisher("host")
        one, other = [await studio.listener(consumer=ConsumerParameters(economy=economy)) for _ in range(2)]
        usual = room.economy.ssrc if economy else room.program.ssrc
        await host.talk(1, 20)
        room.program._next_sequence += AWAY
        room.economy._sequence = (room.economy._sequence + AWAY) & 0xFFFF
        room.economy.clear()  # it was not there meanwhile
        room.director.remove(host.session, now=trio.current_time())  # who then begins a new line, with the next number
        second = [consume_anew(client).ssrc for client in (one, other)]
        assert second[0] == second[1] != usual, "they share what is made for them"
        third = consume_anew(one).ssrc
        assert third not in (usual, second[0])
        await host.talk(21, 30)
        for client, ssrc in ((one, third), (other, second[0])):
            assert {packet.ssrc for packet in client.packets} == {ssrc}
            assert len(client.packets) >= (8 if economy else 25)
            core = client.peer.core
            assert core is not None
            retransmitted, sequence = client.session.retransmitted, client.packets[-1].sequence
            core.send_rtcp([Nack(core.ssrc, usual, (sequence,)), Nack(core.ssrc, ssrc, (sequence,))])
            client.peer._flush(core)
            await host.talk(100, 1)
            assert client.session.retransmitted - retransmitted == 1
        await host.talk(51, 250)
        assert [client.session.stats().loss for client in (one, other)] == [0.0, 0.0], "reports are about the new one"


async def test_a_speaker_consumed_anew_comes_under_another_ssrc(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        (one, two, three), ssrcs = await make_stage(studio, 3)
        one.say(1)
        await trio.sleep(0.1)
        usual = ssrcs[two.name, one.name]
        assert usual == ssrcs[three.name, one.name]
        info = next(info for info in two.hearing.session.speakers if info.ssrc == usual)
        two.hearing.session.close_consumer(info.id)
        again = two.consume(one)
        assert again not in set(ssrcs.values())
        one.say(2)
        await trio.sleep(0.1)
        assert two.payloads(again) == three.payloads(usual)[-1:] == [opus(2)]
        assert [packet.ssrc for packet in two.heard[again]] == [again]


async def test_a_transport_is_used_up_one_day(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        session = await studio.room.open_session(Direction.RECV, "restless")
        seen = set()
        for _ in range(MAX_SSRCS):
            info = session.consume(ConsumerParameters())
            seen.add(info.ssrc)
            with pytest.raises(LocalProtocolError):
                session.consume(ConsumerParameters())
            session.close_consumer(info.id)
        assert len(seen) == MAX_SSRCS
        with pytest.raises(TransportUsedUpError):
            session.consume(ConsumerParameters())
        other = await studio.room.open_session(Direction.RECV, "other")
        assert other.consume(ConsumerParameters()).ssrc == studio.room.program.ssrc
