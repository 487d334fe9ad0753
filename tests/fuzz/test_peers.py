"""Whole peers and the endpoint, fed with garbage: from strangers, and from peers with the right keys."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pylibsrtp import Error

from lac_media.net.endpoint import Attachment, Endpoint
from lac_media.parameters import Address
from lac_media.proto.peer import PeerEvent
from tests.fakes.link import CLIENT, Link, make_link
from tests.fuzz import samples
from tests.fuzz.budget import EXAMPLES, slow
from tests.fuzz.mutation import damaged

ELSEWHERE: Address = ("203.0.113.66", 666)
SERVER_PASSWORD = "serverpassword0123456789abcdef"

datagrams = st.tuples(st.just("datagram"), damaged(samples.session().to_server + samples.session().to_client))
authentic = st.one_of(
    st.tuples(st.just("rtp"), damaged(samples.RTP)),
    st.tuples(st.just("rtcp"), damaged(samples.RTCP)),
    st.tuples(st.just("stun"), damaged(samples.UNSIGNED_STUN)),
)
waits = st.tuples(st.just("wait"), st.sampled_from([0.0, 0.001, 0.02, 0.5, 1.0]))


def protect(link: Link, what: str, plain: bytes) -> bytes | None:
    """As the client would have sent it; None where libsrtp itself will not."""
    srtp = link.client.srtp
    assert srtp is not None
    try:
        if what == "stun":
            return samples.signed(plain, SERVER_PASSWORD)
        return srtp.protect(plain) if what == "rtp" else srtp.protect_rtcp(plain)
    except (Error, ValueError):
        return None


def play(link: Link, script: list[tuple[str, Any]]) -> None:
    """Nothing may escape, and no deadline may come that is due again at once (`Link` asserts that)."""
    for what, value in script:
        if what == "wait":
            link.run_for(value)
            continue
        data = value if what == "datagram" else protect(link, what, value)
        if data is not None:
            before = len(link.server_events)
            link.inject(data, CLIENT)
            assert len(link.server_events) - before <= 600, "one datagram has set off too much"


@slow
@given(st.lists(datagrams | waits, max_size=12))
def test_a_peer_before_and_during_its_handshake(script: list[tuple[str, Any]]) -> None:
    link = make_link()
    for step in script:
        play(link, [step])
        link.run_for(0.005)


@slow
@given(st.lists(datagrams | authentic | authentic | waits, max_size=40))
def test_a_connected_publisher(script: list[tuple[str, Any]]) -> None:
    link = samples.connected(make_link())
    link.server.expect_stream(samples.STREAM)
    play(link, script)


class Sink:
    """A socket that takes everything and gives nothing."""

    def send_nowait(self, data: bytes, address: Address) -> bool:
        return True


def garbage(rng: random.Random, link: Link) -> Iterator[tuple[bytes, Address]]:
    """Without end: pieces of real sessions with a few bytes changed, and authentic packets with nonsense inside."""
    wire = samples.session().to_server + samples.session().to_client
    kinds = [("rtp", samples.RTP), ("rtcp", samples.RTCP), ("stun", samples.UNSIGNED_STUN)]
    while True:
        what, plains = rng.choice(kinds)
        data = bytearray(rng.choice(wire if rng.random() < 0.5 else plains))
        for _ in range(rng.randrange(4)):
            data[rng.randrange(len(data))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        if rng.random() < 0.2:
            del data[rng.randrange(1, len(data)) :]
        source = CLIENT if rng.random() < 0.8 else (f"203.0.113.{rng.randrange(256)}", rng.randrange(65536))
        if rng.random() < 0.5:
            protected = protect(link, what, bytes(data))
            if protected is not None:
                yield protected, source if what != "stun" else CLIENT
        else:
            yield bytes(data), source


def test_an_endpoint_does_not_grow_by_what_it_is_fed() -> None:
    link = samples.connected(make_link())
    link.server.expect_stream(samples.STREAM)
    endpoint = Endpoint(Sink())  # type: ignore[arg-type]  # as much of a socket as is needed
    events = 0

    def count(event: PeerEvent) -> None:
        nonlocal events
        events += 1

    attachment: Attachment = endpoint.attach(link.server, "serverufrag", count)
    check = next(data for data in samples.session().to_server if data[0] == 0)
    now = link.now
    stream = garbage(random.Random(4), link)

    def feed(datagrams: int) -> None:
        nonlocal now
        for number in range(datagrams):
            if number % 1000 == 0:
                endpoint.receive(check, CLIENT, now=now)  # the peer is still there
            data, source = next(stream)
            now += 0.0005
            endpoint.receive(data, source, now=now)
            endpoint.run_timers(now=now)

    feed(4_000)
    assert not attachment.core.closed
    tracemalloc.start()
    try:
        feed(1_000)
        before = tracemalloc.get_traced_memory()[0]
        feed(10 * EXAMPLES)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 32_768, f"{grown} bytes"
    assert endpoint.counters.peer_failures == 0
    assert endpoint.peer_count == 2, "an ufrag and an address"
    assert len(endpoint._timers) < 50, "void entries go when they are due"
    assert not attachment.core.closed
    assert events > 100
    counters = attachment.core.counters
    assert min(counters.bad_stun, counters.bad_rtp, counters.bad_rtcp, counters.unknown_ssrc) > 10
