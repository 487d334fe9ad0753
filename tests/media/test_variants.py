"""The variants of the program: who gets what, and that nobody misses or doubles anything when switched between them."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from lac_media.errors import LocalProtocolError
from lac_media.net.batch import SendBatch
from lac_media.parameters import Address, ConsumerParameters, Direction, Variant
from lac_media.proto.opus import SILENCE_20MS_MONO, parse_opus_untrusted
from lac_media.proto.peer import PeerCore
from lac_media.proto.red import parse_red_untrusted
from lac_media.proto.rtcp import Nack
from lac_media.proto.rtp import RtpPacket, parse_rtp_untrusted
from lac_media.proto.srtp import SrtpSession
from lac_media.rooms import fanout as fanout_module
from lac_media.rooms.economy import Economy
from lac_media.rooms.fanout import AGAIN_REACH, SMALL_BYTES, Fanout, Seat, copies_for
from lac_media.rooms.line import ProgramPacket
from lac_media.rooms.program import MAX_PAYLOAD
from tests.media.clients import Client, Studio, open_studio, opus
from tests.media.delivery import deliver
from tests.media.test_batch import session

PROGRAM_SSRC, ECONOMY_SSRC, OPUS_TYPE, RED_TYPE = 7, 8, 111, 63
PLAIN = ConsumerParameters(OPUS_TYPE, None)
ABLE = ConsumerParameters(OPUS_TYPE, None, RED_TYPE)
SAVING = ConsumerParameters(OPUS_TYPE, None, economy=True)


class OpenBatch:
    """A batch that encrypts nothing: what each address was sent, in order."""

    def __init__(self, sent: dict[Address, list[bytes]], reports: dict[Address, bytes], slots: int) -> None:
        self.sent = sent
        self.reports = reports
        self.slots: list[Address | None] = [None] * slots

    def set_slot(self, index: int, srtp: SrtpSession, address: Address) -> None:
        self.slots[index] = address

    def move_slot(self, source: int, target: int) -> None:
        self.slots[target], self.slots[source] = self.slots[source], None

    def clear_slot(self, index: int) -> None:
        self.slots[index] = None

    def send_rtp(self, packet: bytes, count: int) -> int:
        for address in self.slots[:count]:
            assert address is not None
            self.sent.setdefault(address, []).append(packet)
        return 0

    def send_rtcp(self, packets: Sequence[bytes]) -> int:
        for address, packet in zip(self.slots, packets, strict=False):
            assert address is not None
            self.reports[address] = packet
        return 0


class Hall:
    """A fan-out and what everyone in it has been sent."""

    def __init__(self) -> None:
        self.sent: dict[Address, list[bytes]] = {}
        #: The last one that each was sent.
        self.reports: dict[Address, bytes] = {}
        self.fanout = Fanout(PROGRAM_SSRC, self._make_batch, economy=Economy(ssrc=ECONOMY_SSRC, first_sequence=10))
        self._srtp = session(1)
        self._ports = iter(range(1000, 60_000))

    def _make_batch(self, slots: int) -> SendBatch:
        return OpenBatch(self.sent, self.reports, slots)

    def seat(self, parameters: ConsumerParameters) -> Seat:
        return self.fanout.add(parameters, self._srtp, ("192.0.2.7", next(self._ports)))

    def packets(self, seat: Seat) -> list[RtpPacket]:
        return [parse_rtp_untrusted(data) for data in self.sent.get(seat.address, [])]


def packet(number: int, payload: bytes | None = None, *, ticks: int | None = None) -> ProgramPacket:
    place = number * 960 if ticks is None else ticks
    return ProgramPacket(
        number & 0xFFFF, place & 0xFFFF_FFFF, place, False, opus(number) if payload is None else payload, None, 0.0
    )


async def test_who_has_redundancy_gets_each_frame_three_times_under_the_same_numbers(autojump_clock: MockClock) -> None:
    hall = Hall()
    plain, able = hall.seat(ABLE), hall.seat(ABLE)
    await deliver(hall.fanout, packet(65_534))
    hall.fanout.switch(able, Variant.OPUS_RED)
    assert able.variant is Variant.OPUS, "from the next packet on"
    for number in (65_535, 65_536, 65_537):
        await deliver(hall.fanout, packet(number))
    assert [p.payload for p in hall.packets(plain)] == [opus(n) for n in range(65_534, 65_538)]
    sent = hall.packets(able)
    assert [p.sequence for p in sent] == [p.sequence for p in hall.packets(plain)] == [65_534, 65_535, 0, 1]
    assert [p.timestamp for p in sent] == [p.timestamp for p in hall.packets(plain)]
    assert [p.payload_type for p in sent] == [OPUS_TYPE, RED_TYPE, RED_TYPE, RED_TYPE]
    for number, red in zip((65_535, 65_536, 65_537), sent[1:], strict=True):
        blocks = parse_red_untrusted(red.payload)
        carried = range(max(65_534, number - 2), number + 1)
        assert [block.payload for block in blocks] == [opus(n) for n in carried]
        assert [block.timestamp_offset for block in blocks] == [960 * (number - n) for n in carried]
        assert {block.payload_type for block in blocks} == {OPUS_TYPE}
    assert hall.fanout.listeners_by_variant == {Variant.OPUS: 1, Variant.OPUS_RED: 1}
    assert hall.fanout.switched == 1


async def test_who_cannot_take_redundancy_gets_each_packet_again_after_each_of_the_next_two(
    autojump_clock: MockClock,
) -> None:
    hall = Hall()
    plain, again = hall.seat(PLAIN), hall.seat(PLAIN)
    hall.fanout.switch(again, Variant.OPUS_AGAIN)
    for number in range(AGAIN_REACH + 5):
        await deliver(hall.fanout, packet(number))
    await deliver(hall.fanout, packet(15, b"\x78"))  # DTX: the pause may be long
    await deliver(hall.fanout, packet(16))
    once, twice = hall.sent[plain.address], hall.sent[again.address]
    assert [p.sequence for p in hall.packets(plain)] == list(range(17))
    begins = AGAIN_REACH + 1  # nothing from before its first packets
    thrice = [once[number - back] for number in range(begins, 16) for back in range(3)]
    assert twice == [*once[:begins], *thrice, once[16], once[14]]
    assert hall.fanout.retransmission(again, 14, now=0.0) == once[14]


def test_copies_are_sent_where_they_are_worth_something_and_fit() -> None:
    before = packet(1)
    assert copies_for(packet(2), [before]) == (before,)
    assert copies_for(packet(2, bytes([0x78]) + bytes(MAX_PAYLOAD - 31)), [before]) == (before,)
    assert copies_for(packet(2, bytes([0x78]) + bytes(MAX_PAYLOAD - 30)), [before]) == (), "no room in a datagram"
    assert copies_for(packet(2), [packet(1, b"\x78")]) == (), "a sign of life in a pause"
    assert copies_for(packet(2), [packet(1, bytes(1024))]) == (), "ten bits of length"
    assert copies_for(packet(2, ticks=960 + 0x3FFF), [before]) == (before,)
    assert copies_for(packet(2, ticks=960 + 0x4000), [before]) == (), "fourteen bits of time"
    assert copies_for(packet(2, ticks=960), [before]) == (), "RED says older, so it must be older"


def test_the_second_copy_is_for_speech_and_for_what_has_room() -> None:
    second, first = packet(1), packet(2)
    assert copies_for(packet(3), [first, second]) == (second, first)
    full = bytes([0x78]) + bytes(MAX_PAYLOAD - 1 - 1 - 2 * (4 + len(first.payload)))
    assert copies_for(packet(3, full), [first, second]) == (second, first)
    assert copies_for(packet(3, full + b"."), [first, second]) == (first,)
    music, more = (packet(number, bytes([0x78]) + bytes(SMALL_BYTES)) for number in (1, 2))
    assert copies_for(packet(3), [more, music]) == (more,)
    assert copies_for(packet(3), [first, music]) == (first,)
    assert copies_for(packet(3), [packet(2, b"\x78"), second]) == (second,), "what was said before the pause"


async def test_without_a_copy_it_is_plain_opus(autojump_clock: MockClock) -> None:
    hall = Hall()
    able = hall.seat(ABLE)
    hall.fanout.switch(able, Variant.OPUS_RED)
    await deliver(hall.fanout, packet(1))
    await deliver(hall.fanout, packet(4))  # those between were lost on their way to us
    assert [(p.payload_type, p.payload) for p in hall.packets(able)] == [(OPUS_TYPE, opus(1)), (OPUS_TYPE, opus(4))]
    await deliver(hall.fanout, packet(6))
    *_, last = hall.packets(able)
    assert [(block.timestamp_offset, block.payload) for block in parse_red_untrusted(last.payload)] == [
        (2 * 960, opus(4)),
        (0, opus(6)),
    ]


async def test_like_listeners_share_a_group_whatever_else_they_could_take(autojump_clock: MockClock) -> None:
    hall = Hall()
    for parameters in (PLAIN, ABLE, SAVING, ConsumerParameters(OPUS_TYPE, None, RED_TYPE, economy=True)):
        hall.seat(parameters)
    assert len(hall.fanout._groups) == 2


async def test_nobody_is_switched_to_what_they_cannot_take(autojump_clock: MockClock) -> None:
    hall = Hall()
    for parameters, variant in (
        (PLAIN, Variant.OPUS_RED),
        (PLAIN, Variant.OPUS3),
        (SAVING, Variant.OPUS),
        (ConsumerParameters(OPUS_TYPE, None, RED_TYPE, economy=True), Variant.OPUS_RED),
    ):
        with pytest.raises(LocalProtocolError):
            hall.fanout.switch(hall.seat(parameters), variant)
    with pytest.raises(LocalProtocolError):
        Fanout(1, hall._make_batch).add(SAVING, session(1), ("192.0.2.1", 1))


async def test_who_leaves_while_a_switch_is_due_is_gone(autojump_clock: MockClock) -> None:
    hall = Hall()
    able = hall.seat(ABLE)
    hall.fanout.switch(able, Variant.OPUS_RED)
    hall.fanout.remove(able)
    hall.fanout.remove(able)
    hall.fanout.switch(able, Variant.OPUS)
    await deliver(hall.fanout, packet(1))
    assert hall.sent == {}
    assert (hall.fanout.listeners, hall.fanout._groups, hall.fanout.switched) == (0, {}, 0)
    assert not any(hall.fanout.listeners_by_variant.values())


async def test_what_was_sent_before_a_switch_is_repeated_as_it_was(autojump_clock: MockClock) -> None:
    """Another plaintext under a number that was used would use the key stream of SRTP twice."""
    hall = Hall()
    able, plain = hall.seat(ABLE), hall.seat(PLAIN)
    sequence = 0
    for variant in (Variant.OPUS, Variant.OPUS_RED, Variant.OPUS, Variant.OPUS_RED):
        hall.fanout.switch(able, variant)
        for _ in range(3):
            await deliver(hall.fanout, packet(sequence))
            sequence += 1
        for seat in (able, plain):
            sent = {parse_rtp_untrusted(data).sequence: data for data in hall.sent[seat.address]}
            again = {number: hall.fanout.retransmission(seat, number, now=0.0) for number in sent}
            known = {number: data for number, data in again.items() if data is not None}
            assert known == {number: sent[number] for number in known}
            assert set(range(max(0, sequence - 6), sequence)) <= set(known), "the last two stretches at least"
    assert hall.fanout.retransmission(able, sequence, now=0.0) is None
    assert hall.fanout.retransmission(hall.seat(PLAIN), sequence - 1, now=0.0) is None, "from before it came"


async def test_reports_count_what_each_was_sent_in_whatever_variant(autojump_clock: MockClock) -> None:
    hall = Hall()
    plain, moved, again = hall.seat(PLAIN), hall.seat(ABLE), hall.seat(PLAIN)
    saving = hall.seat(SAVING)
    number = 0

    async def go_on(count: int) -> None:
        nonlocal number
        for _ in range(count):
            await deliver(hall.fanout, packet(number))
            number += 1

    async def check() -> None:
        await hall.fanout.send_report(lambda ssrc, packets, octets: f"{ssrc} {packets} {octets}".encode())
        for seat in (plain, moved, again, saving):
            sizes = [len(each.payload) for each in hall.packets(seat)]
            said = tuple(int(part) for part in hall.reports[seat.address].split())
            assert said == (ECONOMY_SSRC if seat is saving else PROGRAM_SSRC, len(sizes), sum(sizes))

    await go_on(AGAIN_REACH + 5)
    await check()
    for variant, other in ((Variant.OPUS_RED, Variant.OPUS_AGAIN), (Variant.OPUS, Variant.OPUS)) * 2:
        hall.fanout.switch(moved, variant)
        hall.fanout.switch(again, other)
        await go_on(1)
        await check()
        await go_on(8)
        await check()
    assert again.more.packets > 8, "the copies of the time with them"
    assert len({hall.reports[seat.address] for seat in (plain, moved, again)}) == 3


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_however_people_come_go_and_switch_each_gets_everything_once(seed: int) -> None:
    """With a checkpoint before every slice, so that things happen in the middle of a delivery, too."""
    trio.run(_come_go_and_switch, random.Random(seed), clock=MockClock(autojump_threshold=0))


async def _come_go_and_switch(chance: random.Random) -> None:
    hall, number, seats = Hall(), 65_500, list[Seat]()
    #: For each seat the last number sent before it came, and of one that is gone the last it may have been sent.
    came: dict[Seat, int] = {}
    done = False

    async def meddle() -> None:
        while not done:
            kind = chance.choice(["come", "come", "go", "switch", "switch", "switch", "nothing"])
            if kind == "come":
                seat = hall.seat(chance.choice([PLAIN, ABLE, ABLE, ABLE]))
                seats.append(seat)
                came[seat] = number
            elif kind == "go" and seats:
                hall.fanout.remove(seats.pop(chance.randrange(len(seats))))
            elif kind == "switch" and seats:
                seat = chance.choice(seats)
                if seat.parameters is ABLE:
                    hall.fanout.switch(seat, chance.choice([Variant.OPUS, Variant.OPUS_RED]))
            await trio.lowlevel.checkpoint()

    sizes = fanout_module.SLICE, fanout_module.TURN_S
    fanout_module.SLICE, fanout_module.TURN_S = 3, -1.0
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(meddle)
            for _ in range(60):
                await deliver(hall.fanout, packet(number))
                number += 1
            done = True
    finally:
        fanout_module.SLICE, fanout_module.TURN_S = sizes
    for seat, first in came.items():
        heard = hall.packets(seat)
        numbers = [p.sequence for p in heard]
        assert numbers == [(numbers[0] + n) & 0xFFFF for n in range(len(numbers))] if numbers else True
        for p in heard:
            payload = p.payload if p.payload_type == OPUS_TYPE else parse_red_untrusted(p.payload)[-1].payload
            assert int.from_bytes(payload[1:5], "big") & 0xFFFF == p.sequence
        if seat in seats:
            newest = (number - 1) & 0xFFFF
            assert first == number or (numbers and numbers[-1] == newest) or first == number - 1
            if numbers:
                assert (numbers[0] - first) & 0xFFFF <= 1, "from the packet during which it came, or the next"
        for sequence in numbers:
            again = hall.fanout.retransmission(seat, sequence, now=0.0)
            assert again is None or again in hall.sent[seat.address]
    by_variant = {
        variant: sum(seat.variant is variant for seat in seats) for variant in (Variant.OPUS, Variant.OPUS_RED)
    }
    assert hall.fanout.listeners == len(seats) == sum(by_variant.values())
    assert {v: hall.fanout.listeners_by_variant[v] for v in by_variant} == by_variant


# The economy variant, with peers


def core_of(client: Client) -> PeerCore:
    core = client.peer.core
    assert core is not None
    return core


def frames_heard(client: Client) -> list[bytes]:
    """Of the packets with more than silence in them: their frames as packets of one."""
    frames = []
    for received in client.packets:
        parsed = parse_opus_untrusted(received.payload)
        at = parsed.frames_at
        for size in parsed.frame_sizes:
            frames.append(bytes([received.payload[0] & 0xFC]) + received.payload[at : at + size])
            at += size
    return [frame for frame in frames if frame != SILENCE_20MS_MONO]


async def saver(studio: Studio) -> Client:
    return await studio.listener(consumer=ConsumerParameters(economy=True))


async def test_a_saving_listener_hears_all_in_a_third_of_the_packets(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        host, listener, other = await studio.publisher("host"), await saver(studio), await studio.listener()
        await trio.sleep(1.0)
        before = len(listener.packets), len(other.packets)
        await host.talk(1, 60)
        await trio.sleep(0.2)
        assert other.speech == frames_heard(listener) == [opus(n) for n in range(1, 61)]
        fewer, more = len(listener.packets) - before[0], len(other.packets) - before[1]
        assert fewer <= more / 3 + 3
        sequences = [received.sequence for received in listener.packets]
        assert sequences == [(sequences[0] + n) & 0xFFFF for n in range(len(sequences))]
        assert {received.ssrc for received in listener.packets} == {studio.room.economy.ssrc}
        assert studio.room.economy.ssrc != studio.room.program.ssrc
        assert core_of(listener).counters.bad_rtp == core_of(listener).counters.unknown_ssrc == 0
        stats = listener.session.stats(), other.session.stats()
        assert [each.variant for each in stats] == ["opus3", "opus"]


async def test_what_a_saving_listener_misses_is_sent_again(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        host, listener = await studio.publisher("host"), await saver(studio)
        await host.talk(1, 30)
        sequences = [received.sequence for received in listener.packets]
        core, count = core_of(listener), len(listener.packets)
        duplicates = core.repair.duplicates
        economy = studio.room.economy.ssrc
        core.send_rtcp([Nack(core.ssrc, economy, (*sequences[-3:], (sequences[-1] + 500) & 0xFFFF))])
        core.send_rtcp([Nack(core.ssrc, studio.room.program.ssrc, tuple(sequences[-3:]))])  # another stream than theirs
        listener.peer._flush(core)
        await trio.sleep(0.01)
        assert listener.session.stats().retransmitted == 3
        assert core.repair.duplicates - duplicates == 3
        assert len(listener.packets) - count <= 1


async def test_reports_are_of_the_stream_that_each_listener_has(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        host, listener, other = await studio.publisher("host"), await saver(studio), await studio.listener()
        seen: dict[str, list[object]] = {"listener": [], "other": []}
        for name, client in (("listener", listener), ("other", other)):
            core = core_of(client)
            core._receive_report = lambda packet, now, name=name: seen[name].append(packet)  # type: ignore[method-assign, misc]  # to look on
        await host.talk(1, 250)
        room = studio.room
        for name, ssrc in (("listener", room.economy.ssrc), ("other", room.program.ssrc)):
            reports = [report for report in seen[name] if getattr(report, "packet_count", 0)]
            assert reports
            assert {report.ssrc for report in reports} == {ssrc}  # type: ignore[attr-defined]  # SenderReport
        [first, *_] = [report for report in seen["listener"] if getattr(report, "packet_count", 0)]
        joined, single = (room.fanout.counts[variant].packets for variant in (Variant.OPUS3, Variant.OPUS))
        assert first.packet_count <= joined < single / 2  # type: ignore[attr-defined]  # SenderReport


async def test_a_saving_listeners_reports_about_us_are_read(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        host, listener = await studio.publisher("host"), await saver(studio)
        await host.talk(1, 300)
        stats = listener.session.stats()
        assert (stats.loss, stats.packets_lost_out) == (0.0, 0)
        assert stats.round_trip_s is not None


async def test_the_last_saving_listener_ends_the_work_for_it(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        listener, other = await saver(studio), await saver(studio)
        listener.session.close("left")
        await trio.sleep(0.1)
        assert studio.room.economy._expected is not None
        other.session.close("left")
        packets = studio.room.fanout.counts[Variant.OPUS3].packets
        await trio.sleep(1.0)
        assert studio.room.fanout.counts[Variant.OPUS3].packets == packets
        assert studio.room.fanout.timer_at() == float("inf")
        again = await saver(studio)
        await trio.sleep(1.0)
        assert len(again.packets) > 10


async def test_only_the_program_has_an_economy_variant(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        host = await studio.publisher("host")
        host.say(1)
        session = await studio.room.open_session(Direction.RECV, "guest")
        assert host.session.producer_id is not None
        with pytest.raises(LocalProtocolError):
            session.consume(ConsumerParameters(economy=True), host.session.producer_id)


async def test_pauses_reach_a_saving_listener_without_waiting_for_their_end(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        host, listener = await studio.publisher("host"), await saver(studio)
        await host.talk(1, 4)
        await trio.sleep(0.1)  # the fourth is alone, and Opus in DTX would be silent for 400 ms
        assert frames_heard(listener) == [opus(n) for n in range(1, 5)]
