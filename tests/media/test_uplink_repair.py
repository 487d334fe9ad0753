"""What a publisher's network loses reaches the audience all the same, and the repair leaves nothing behind."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from lac_media.parameters import ProducerParameters
from lac_media.proto.peer import NackReceived
from lac_media.proto.red import build_red
from lac_media.proto.rtp import RtpPacket
from tests.fakes.net import NetSocket
from tests.media.clients import FRAME_S, PUBLISHED, Client, Studio, open_studio, opus
from tests.media.test_sweeps import Remains, remember
from tests.sweep import sweep

RED = 63


def packet(host: Client, number: int, *, copies: bool) -> RtpPacket:
    payload = opus(number)
    if copies:
        payload = build_red(payload, [(960, opus(number - 1))] if number else [], payload_type=PUBLISHED)
    return RtpPacket(RED if copies else PUBLISHED, 1000 + number, number * 960, host.peer.ssrc, payload=payload)


async def talk(host: Client, count: int, lost: set[int], *, copies: bool) -> list[int]:
    """Send `count` packets, without those in `lost`, and what is asked for again; the numbers that were asked for."""
    sock = host.peer.socket
    assert isinstance(sock, NetSocket)
    asked: list[int] = []
    for number in range(count):
        sock.cut_off = number in lost
        host.peer.send_rtp(packet(host, number, copies=copies))
        sock.cut_off = False
        await trio.sleep(FRAME_S)
        nacks = [event for event in host.events if isinstance(event, NackReceived)]
        host.events.clear()
        for sequence in (sequence for nack in nacks for sequence in nack.lost):
            asked.append(sequence - 1000)
            host.peer.send_rtp(packet(host, sequence - 1000, copies=copies))
    return asked


async def on_stage(studio: Studio) -> tuple[Client, Client]:
    host, listener = await studio.publisher("host"), await studio.listener()
    host.session._core.expect_stream(
        ProducerParameters(PUBLISHED, host.peer.ssrc, nack=True, red_payload_type=RED, reduced_size_rtcp=True)
    )
    return host, listener


async def test_the_audience_gets_what_was_sent_again(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        host, listener = await on_stage(studio)
        asked = await talk(host, 60, {10, 20, 21, 22, 40}, copies=False)
        assert list(dict.fromkeys(asked)) == [10, 20, 21, 22, 40]
        assert len(asked) <= 10, "each twice at the most"
        assert sorted(listener.speech) == [opus(number) for number in range(60)]
        stats = host.session.stats()
        assert (stats.packets_in, stats.packets_lost_in, stats.packets_repaired_in) == (60, 0, 5)
        assert studio.engine.totals().packets_repaired_in == 5


async def test_the_audience_gets_copies_in_order_and_nobody_is_asked(autojump_clock: MockClock) -> None:
    async with open_studio() as studio:
        host, listener = await on_stage(studio)
        asked = await talk(host, 60, {10, 20, 40}, copies=True)
        assert asked == []
        assert listener.speech == [opus(number) for number in range(60)]
        assert host.session.stats().packets_repaired_in == 3


def test_cancelled_anywhere_repair_leaves_nothing() -> None:
    remains = Remains()

    async def scenario() -> None:
        remains.begin()
        async with open_studio(remains.net) as studio:
            remember(remains, studio)
            host, _ = await on_stage(studio)
            await talk(host, 12, {2, 5, 6}, copies=False)

    assert sweep(scenario, remains.check) > 100
