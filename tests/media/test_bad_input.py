"""Anything may arrive at an open UDP port. It is counted and dropped, and nobody notices."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from lac_media.net.endpoint import Attachment, Endpoint
from lac_media.parameters import Address, ProducerParameters
from lac_media.proto.peer import PeerEvent
from lac_media.proto.rtp import RtpPacket, encode_rtp
from lac_media.proto.srtp import MAX_PACKET
from lac_media.proto.stun import binding_request
from lac_media.rooms.program import MAX_PAYLOAD
from tests.fakes.link import Link, make_link
from tests.fakes.net import Net
from tests.media.clients import PUBLISHED, SERVER_IP, Client, Studio, open_studio, opus

STRANGER: Address = ("203.0.113.66", 6666)
RELAY: Address = (SERVER_IP, 40_000)

STUN_HEAD = bytes.fromhex("0001000021 12a442".replace(" ", "")) + bytes(12)
CLIENT_HELLO_HEAD = bytes.fromhex("16feff0000000000000000")


def of_every_kind() -> list[bytes]:
    rng = random.Random(11)
    heads = [b"", b"\0", b"\x80", STUN_HEAD, CLIENT_HELLO_HEAD, b"\x17\xfe\xfd", b"\x80\x6f", b"\x81\xc9", b"\xff"]
    junk = [head + rng.randbytes(size) for head in heads for size in (0, 1, 3, 11, 40, 1200, 2000)]
    long_username = binding_request(
        bytes(12), username="a" * 500 + ":b", password="p", priority=1, tie_breaker=1, use_candidate=True
    )
    whole = [long_username, STUN_HEAD, STUN_HEAD[:4] + bytes(16), b"\x80\xc8\0\0" + bytes(8)]
    return junk + whole + [long_username[:cut] for cut in range(0, len(long_username), 7)]


async def undisturbed(studio: Studio, host: Client, listener: Client, disturb: Callable[[], None]) -> None:
    """`disturb` between every two packets, and the listener hears every one of them."""
    listener.events.clear()
    failures = studio.engine.counters.peer_failures
    for number in range(10):
        disturb()
        host.say(number)
        await trio.sleep(0.02)
    await trio.sleep(0.1)
    assert listener.speech == [opus(n) for n in range(10)]
    assert studio.engine.counters.peer_failures == failures == 0


async def test_garbage_of_every_kind_from_strangers_is_counted_and_disturbs_nobody(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        host, listener = await studio.publisher("host"), await studio.listener()
        peers, counters = studio.engine.endpoint.peer_count, studio.engine.counters
        junk = of_every_kind()
        before = counters.datagrams_in, counters.malformed + counters.unknown_source
        sent = studio.engine.endpoint.socket.sent  # type: ignore[attr-defined]  # a NetSocket
        for data in junk:
            studio.net.carry(data, STRANGER, RELAY)
        await wait_all_tasks_blocked()
        assert counters.datagrams_in - before[0] >= len(junk)
        assert counters.malformed + counters.unknown_source - before[1] == len(junk)
        answered = studio.engine.endpoint.socket.sent - sent  # type: ignore[attr-defined]  # a NetSocket
        assert answered <= 8, "the program's own silence at most: strangers get no answer"

        def disturb() -> None:
            for data in junk:
                studio.net.carry(data, STRANGER, RELAY)

        await undisturbed(studio, host, listener, disturb)
        assert studio.engine.endpoint.peer_count == peers


async def test_the_same_garbage_from_proven_addresses_disturbs_nobody_either(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        host, listener = await studio.publisher("host"), await studio.listener()
        junk = of_every_kind()

        def disturb() -> None:
            for client in (host, listener):
                for data in junk:
                    studio.net.carry(data, client.peer.socket.local_address, RELAY)

        await undisturbed(studio, host, listener, disturb)
        assert host.session.stats().bad_packets > len(junk)
        assert not host.session.closed


async def test_checks_that_prove_nothing_move_nobody(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        host, listener = await studio.publisher("host"), await studio.listener()
        fragment = listener.session.ice_parameters.username_fragment

        def forged(password: str) -> bytes:
            return binding_request(
                bytes(12), username=f"{fragment}:x", password=password, priority=1, tie_breaker=1, use_candidate=True
            )

        wrong = forged("guess-guess-guess-guess")
        bare = wrong[:2] + (len(wrong) - 52).to_bytes(2, "big") + wrong[4:-32]

        def disturb() -> None:
            for data in (wrong, bare):
                studio.net.carry(data, STRANGER, RELAY)

        await undisturbed(studio, host, listener, disturb)
        assert listener.session.stats().bad_packets == 20
        assert STRANGER not in studio.engine.endpoint._by_address


async def test_media_and_dtls_from_an_unproven_address_are_not_looked_at(autojump_clock: MockClock) -> None:
    net = Net(log=[])
    async with open_studio(net) as studio:
        host, listener = await studio.publisher("host"), await studio.listener()
        await host.talk(1, 2)
        assert net.log is not None
        own = [data for source, _, data in net.log if source == host.peer.socket.local_address and data[0] >= 20]
        assert {data[0] >> 6 for data in own} == {0, 2}, "DTLS and RTP"
        unknown = studio.engine.counters.unknown_source
        for data in own:
            net.carry(data, STRANGER, RELAY)
        await trio.sleep(0.001)
        assert studio.engine.counters.unknown_source - unknown == len(own)
        await undisturbed(studio, host, listener, lambda: None)


async def test_an_address_claimed_with_a_forged_source_goes_back_to_whom_it_is_proven(
    autojump_clock: MockClock,
) -> None:
    """A listener who knows its own password can sign a check and send it as if from the host's address."""
    async with open_studio() as studio:
        host, thief = await studio.publisher("host"), await studio.listener("thief")
        listener = await studio.listener()
        theirs = thief.session.ice_parameters
        claim = binding_request(
            bytes(12),
            username=f"{theirs.username_fragment}:x",
            password=theirs.password,
            priority=1,
            tie_breaker=1,
            use_candidate=True,
        )
        studio.net.carry(claim, host.peer.socket.local_address, RELAY)
        await trio.sleep(5)  # the host's next check has come by now
        await undisturbed(studio, host, listener, lambda: None)


async def test_unknown_streams_replays_and_rtcp_junk_are_counted(autojump_clock: MockClock) -> None:
    net = Net(log=[])
    async with open_studio(net) as studio:
        host, listener = await studio.publisher("host"), await studio.listener()
        await host.talk(100, 1)
        core = host.peer.core
        assert core is not None
        assert core.srtp is not None
        assert net.log is not None
        source = host.peer.socket.local_address
        recorded = [data for origin, _, data in net.log if origin == source and 128 <= data[0] <= 191]
        counters = host.session._core.counters

        def packet(payload_type: int, ssrc: int) -> RtpPacket:
            host._sequence += 1
            return RtpPacket(payload_type, host._sequence, host._sequence * 960, ssrc, payload=opus(0))

        def disturb() -> None:
            assert core is not None
            assert core.srtp is not None
            for data in recorded:
                net.carry(data, source, RELAY)
            for unknown in (packet(PUBLISHED, 4711), packet(96, host.peer.ssrc)):
                net.carry(core.srtp.protect(encode_rtp(unknown)), source, RELAY)
            for junk in (b"\x81\xc9\xff\xff" + bytes(8), b"\x80\xc8\0\1" + bytes(4), b"\x9f\xcd\0\2" + bytes(8)):
                net.carry(core.srtp.protect_rtcp(junk), source, RELAY)

        listener.events.clear()
        await undisturbed(studio, host, listener, disturb)
        assert host.session._core.repair.duplicates == 10 * len(recorded)
        assert counters.bad_rtp == 0
        assert (counters.unknown_ssrc, counters.unknown_type) == (10, 10)
        assert counters.bad_rtcp >= 20


@pytest.mark.parametrize("size", [MAX_PAYLOAD + 1, MAX_PACKET - 12])
async def test_audio_too_large_for_the_fan_out_is_dropped_alone(autojump_clock: MockClock, size: int) -> None:
    async with open_studio() as studio:
        host, listener = await studio.publisher("host"), await studio.listener()

        def disturb() -> None:
            host._sequence += 1
            large = RtpPacket(
                PUBLISHED, host._sequence, host._sequence * 960, host.peer.ssrc, payload=b"\x48" + bytes(size - 1)
            )
            host.peer.send_rtp(large)

        await undisturbed(studio, host, listener, disturb)


# Fuzzing, without tasks


class Desk:
    """An endpoint with three connected peers and one that is waiting, and no network below it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.endpoint = Endpoint(_Nowhere())
        self.links: list[Link] = []
        self.attachments: list[Attachment] = []
        self.events: list[PeerEvent] = []
        self.recorded: list[bytes] = []
        for number in range(4):
            link = make_link(seed=number)
            link.client_address = (f"198.51.100.{number}", 5000)
            record = link.server.receive_datagram

            def receive(data: bytes, address: Address, *, now: float, record: Callable[..., None] = record) -> None:
                self.recorded.append(data)
                record(data, address, now=now)

            link.server.receive_datagram = receive  # type: ignore[method-assign]  # listens in
            if number < 3:
                assert link.run_until(lambda link=link: link.server.srtp is not None and link.client.srtp is not None)
                link.server.expect_stream(ProducerParameters(PUBLISHED, ssrc=2))
                for sequence in range(3):
                    packet = RtpPacket(PUBLISHED, sequence, 960 * sequence, 2, payload=opus(sequence))
                    link.client.send_rtp(packet, now=link.now)
                link.run_for(2.1)
            link.server.receive_datagram = record  # type: ignore[method-assign]  # no longer
            attachment = self.endpoint.attach(link.server, f"fragment-{number}", self.events.append)
            self.endpoint._move(attachment, link.client_address)
            self.links.append(link)
            self.attachments.append(attachment)
            self.now = max(self.now, link.now)
        self.events.clear()

    def sizes(self) -> tuple[int, ...]:
        endpoint = self.endpoint
        return len(endpoint._by_ufrag), len(endpoint._by_address)


class _Nowhere:
    local_address: Address = RELAY
    waited_s = 0.0

    def receive_nowait(self) -> tuple[bytes, Address]:
        raise BlockingIOError

    async def wait_readable(self) -> None:
        await trio.sleep_forever()

    def send_nowait(self, data: bytes, address: Address) -> bool:
        return True

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def desk() -> Desk:
    async def make() -> Desk:
        return Desk()

    return trio.run(make)


MUTATIONS = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6)
SOURCES = st.sampled_from([*[(f"198.51.100.{n}", 5000) for n in range(4)], STRANGER])


@settings(max_examples=300)
@given(data=st.binary(max_size=2048), source=SOURCES)
def test_no_bytes_make_the_endpoint_raise_or_grow(desk: Desk, data: bytes, source: Address) -> None:
    receive_and_check(desk, data, source)


@settings(max_examples=500)
@given(
    pick=st.integers(0, 10_000),
    source=SOURCES,
    mutations=MUTATIONS,
    cut=st.integers(0, 2000),
    tail=st.binary(max_size=40),
)
def test_no_mutation_of_real_datagrams_makes_the_endpoint_raise_or_grow(
    desk: Desk, pick: int, source: Address, mutations: list[tuple[int, int]], cut: int, tail: bytes
) -> None:
    damaged = bytearray(desk.recorded[pick % len(desk.recorded)])
    for position, value in mutations:
        damaged[position % len(damaged)] = value
    receive_and_check(desk, bytes(damaged[: max(cut, 1)]) + tail, source)


def receive_and_check(desk: Desk, data: bytes, source: Address) -> None:
    before = desk.sizes()
    timers = len(desk.endpoint._timers)
    desk.endpoint.receive(data, source, now=desk.now)
    assert desk.sizes() == before
    assert len(desk.endpoint._timers) <= timers + 1
    assert desk.endpoint.counters.peer_failures == 0, "an internal error was caught at the boundary"
    for link in desk.links[:3]:
        assert link.server.srtp is not None
        assert not link.server.closed


def test_after_all_that_the_connected_peers_still_work(desk: Desk) -> None:
    for link, attachment in zip(desk.links[:3], desk.attachments, strict=False):
        assert attachment.attached
        link.client.send_rtp(RtpPacket(PUBLISHED, 99, 99 * 960, 2, payload=opus(99)), now=desk.now)
        [(data, _)] = [sent for sent in link.client.datagrams_to_send() if 128 <= sent[0][0] <= 191]
        desk.events.clear()
        desk.endpoint.receive(data, link.client_address, now=desk.now)
        assert [event.packet.payload for event in desk.events if hasattr(event, "packet")] == [opus(99)]
