"""A listener that moves between UDP and TCP while a packet is being delivered gets each packet once all the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pytest
from trio.testing import MockClock

from lac_media.net.batch import SendBatch
from lac_media.parameters import Address, ConsumerParameters, TcpAddress, Variant
from lac_media.proto.srtp import SrtpSession
from lac_media.rooms import fanout as fanout_module
from lac_media.rooms.fanout import AGAIN_REACH, Fanout, Seat
from tests.media.delivery import deliver
from tests.media.test_batch import session
from tests.media.test_variants import ABLE, PLAIN, packet

SLICE = 2
SEATS = 11


class Tap:
    """Counts slices, and lets a test do something after a certain one: there the fan-out may give way."""

    def __init__(self) -> None:
        self.heard: dict[SrtpSession, list[tuple[int, Address]]] = {}
        self.slices = 0
        self.then: tuple[int, Callable[[], None]] | None = None

    def after(self, slices: int, do: Callable[[], None]) -> None:
        self.then = (self.slices + slices, do)

    def count(self) -> None:
        self.slices += 1
        if self.then is not None and self.slices == self.then[0]:
            self.then[1]()


class TappedBatch:
    def __init__(self, tap: Tap, slots: int, *, over_tcp: bool) -> None:
        self._tap = tap
        self._over_tcp = over_tcp
        self._slots: list[tuple[SrtpSession, Address] | None] = [None] * slots

    def set_slot(self, index: int, srtp: SrtpSession, address: Address) -> None:
        assert isinstance(address, TcpAddress) == self._over_tcp
        self._slots[index] = (srtp, address)

    def move_slot(self, source: int, target: int) -> None:
        self._slots[target], self._slots[source] = self._slots[source], None

    def clear_slot(self, index: int) -> None:
        self._slots[index] = None

    def send_rtp(self, packet: bytes, count: int) -> int:
        for slot in self._slots[:count]:
            assert slot is not None
            self._tap.heard.setdefault(slot[0], []).append((int.from_bytes(packet[2:4], "big"), slot[1]))
        self._tap.count()
        return 0

    def send_rtcp(self, packets: Sequence[bytes]) -> int:
        return 0


class Room:
    """Seats in several slices of both kinds and of two groups, each with a session of its own."""

    def __init__(self) -> None:
        self.tap = Tap()
        self.fanout = Fanout(7, self._udp, make_tcp_batch=self._tcp)
        self.seats: list[Seat] = []
        self.number = 0
        for index in range(SEATS):
            parameters = ConsumerParameters(111, None) if index % 3 else ConsumerParameters(96, None)
            self.seats.append(self.fanout.add(parameters, session(index), udp(index) if index % 2 else tcp(index)))

    def _udp(self, slots: int) -> SendBatch:
        return TappedBatch(self.tap, slots, over_tcp=False)

    def _tcp(self, slots: int) -> SendBatch:
        return TappedBatch(self.tap, slots, over_tcp=True)

    async def send(self) -> int:
        """One packet; how many slices it took."""
        before = self.tap.slices
        await deliver(self.fanout, packet(self.number))
        self.number += 1
        return self.tap.slices - before

    def numbers(self, seat: Seat) -> list[int]:
        return [number for number, _ in self.tap.heard[seat.srtp]]

    def check(self, seat: Seat, *, times: int = 1) -> None:
        numbers = self.numbers(seat)
        assert sorted(numbers) == sorted(list(range(self.number)) * times)
        assert self.tap.heard[seat.srtp][-1][1] == seat.address


def udp(index: int) -> Address:
    return ("192.0.2.1", 1000 + index)


def tcp(index: int) -> Address:
    return TcpAddress("192.0.2.1", 1000 + index, index)


def elsewhere(seat: Seat) -> Address:
    return ("192.0.2.2", 7) if isinstance(seat.address, TcpAddress) else TcpAddress("192.0.2.2", 7, 99)


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout_module, "SLICE", SLICE)


async def count_slices() -> int:
    return await Room().send()


@pytest.mark.parametrize("who", range(SEATS))
async def test_at_every_boundary_of_slices_each_packet_comes_once(autojump_clock: MockClock, who: int) -> None:
    boundaries = await count_slices()
    assert boundaries >= 5
    for boundary in range(1, boundaries + 1):
        room = Room()
        seat = room.seats[who]
        await room.send()
        room.tap.after(boundary, partial(room.fanout.move, seat, elsewhere(seat)))
        for _ in range(3):
            await room.send()
        for each in room.seats:
            room.check(each)


async def test_there_and_back_within_one_delivery(autojump_clock: MockClock) -> None:
    for boundary in range(1, await count_slices() + 1):
        room = Room()
        seat = room.seats[1]

        def there_and_back(room: Room = room, seat: Seat = seat) -> None:
            room.fanout.move(seat, elsewhere(seat))
            room.fanout.move(seat, ("192.0.2.3", 8))

        room.tap.after(boundary, there_and_back)
        for _ in range(3):
            await room.send()
        for each in room.seats:
            room.check(each)
        assert seat.address == ("192.0.2.3", 8)


async def test_who_leaves_after_a_move_is_gone(autojump_clock: MockClock) -> None:
    room = Room()
    seat = room.seats[1]

    def move_and_leave() -> None:
        room.fanout.move(seat, elsewhere(seat))
        room.fanout.remove(seat)
        room.fanout.move(seat, udp(1))

    await room.send()
    room.tap.after(1, move_and_leave)
    await room.send()
    heard = len(room.numbers(seat))
    await room.send()
    assert len(room.numbers(seat)) == heard
    assert room.fanout.listeners == SEATS - 1


@pytest.mark.parametrize("parameters", [PLAIN, ABLE], ids=["opus+again", "opus+red"])
async def test_a_move_and_a_switch_at_the_same_time(autojump_clock: MockClock, parameters: ConsumerParameters) -> None:
    variant = Variant.OPUS_RED if parameters is ABLE else Variant.OPUS_AGAIN
    for boundary in range(1, await count_slices() + 1):
        room = Room()
        seat = room.fanout.add(parameters, session(50), udp(50))
        for _ in range(AGAIN_REACH + 2):
            await room.send()

        def move_and_switch(room: Room = room, seat: Seat = seat) -> None:
            room.fanout.move(seat, elsewhere(seat))
            room.fanout.switch(seat, variant)

        room.tap.after(boundary, move_and_switch)
        await room.send()
        plain = room.number
        for _ in range(3):
            await room.send()
        numbers = room.numbers(seat)
        assert numbers[:plain] == list(range(plain))
        again = [plain + number - back for number in range(3) for back in range(3)]
        assert numbers[plain:] == (again if variant is Variant.OPUS_AGAIN else [plain, plain + 1, plain + 2])
        assert isinstance(seat.address, TcpAddress)
