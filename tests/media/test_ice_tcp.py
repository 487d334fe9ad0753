"""Media over TCP (RFC 6544): it sounds the same, and whoever reads slowly or means ill is alone with it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
from trio.testing import MockClock

from lac_media.engine import Engine, EngineConfig, open_engine
from lac_media.errors import EngineStartError
from lac_media.net.endpoint import MAX_CONNECTIONS_PER_PEER
from lac_media.net.tcp import (
    MAX_UNPROVEN,
    MAX_UNPROVEN_PER_ADDRESS,
    MAX_UNSENT_BYTES,
    PROOF_S,
    TcpConnection,
    TcpStreams,
    network_of,
)
from lac_media.parameters import Direction, TcpAddress
from lac_media.proto.framing import encode_frame
from lac_media.proto.ice import CONSENT_TIMEOUT_S
from lac_media.proto.rtcp import Nack
from tests.fakes.link import identity
from tests.fakes.streams import FramedSocket, StreamEnd, StreamNet
from tests.media.clients import SERVER_IP, Client, Studio, add_client, open_studio, opus
from tests.media.test_sweeps import Remains, remember
from tests.sweep import sweep

SERVER = (SERVER_IP, 40_000)
HTTP = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def tcp(engine: Engine) -> TcpStreams:
    streams = engine.endpoint.streams
    assert streams is not None
    return streams


async def add_over_tcp(studio: Studio, direction: Direction, owner: str, ip: str = "203.0.113.5") -> Client:
    assert studio.streams is not None
    end = studio.streams.connect(ip, SERVER)
    return await add_client(
        studio.nursery,
        lambda: FramedSocket(end),
        studio.engine,
        studio.room,
        direction,
        owner,
        candidate=studio.engine.candidates[-1],
    )


def end_of(client: Client) -> StreamEnd:
    sock = client.peer.socket
    assert isinstance(sock, FramedSocket)
    return sock.end


async def test_publishers_and_listeners_meet_over_tcp_and_udp(autojump_clock: MockClock) -> None:
    """The stream comes in pieces of any size."""
    async with open_studio(streams=StreamNet(seed=3)) as studio:
        listeners = [await studio.listener(), await add_over_tcp(studio, Direction.RECV, "anna")]
        hosts = [await studio.publisher("host"), await add_over_tcp(studio, Direction.SEND, "host")]
        await hosts[0].talk(1, 20)
        await hosts[1].talk(101, 20)
        await trio.sleep(0.1)
        for listener in listeners:
            assert listener.speech == [opus(number) for number in (*range(1, 21), *range(101, 121))]
        sequences = [[packet.sequence for packet in listener.packets] for listener in listeners]
        assert sequences[0][-40:] == sequences[1][-40:]
        assert len(tcp(studio.engine)) == 2


async def test_candidates_put_tcp_behind_udp(autojump_clock: MockClock) -> None:
    async with open_studio(streams=StreamNet()) as studio:
        udp, over_tcp = studio.engine.candidates
        assert (udp.protocol, over_tcp.protocol) == ("udp", "tcp")
        assert (udp.ip, udp.port) == (over_tcp.ip, over_tcp.port)
        assert udp.priority > over_tcp.priority
        assert udp.foundation != over_tcp.foundation


async def test_without_ice_tcp_nothing_listens(autojump_clock: MockClock) -> None:
    streams = StreamNet()
    async with open_studio() as studio:
        assert [candidate.protocol for candidate in studio.engine.candidates] == ["udp"]
        assert streams.listeners == {}


async def test_a_goodbye_reaches_the_other_end_and_the_connection_closes(autojump_clock: MockClock) -> None:
    async with open_studio(streams=StreamNet()) as studio:
        listener = await add_over_tcp(studio, Direction.RECV, "anna")
        listener.session.close("removed")
        await trio.sleep(0.01)
        assert listener.close_reason == "hung_up"
        assert len(tcp(studio.engine)) == 0


async def test_a_slow_reader_misses_packets_and_nobody_else_does(autojump_clock: MockClock) -> None:
    async with open_studio(streams=StreamNet()) as studio:
        quick, slow = [await add_over_tcp(studio, Direction.RECV, name) for name in ("anna", "bert")]
        by_udp = await studio.listener()
        host = await studio.publisher("host")
        end = end_of(slow)
        assert end.peer is not None
        end.peer.room = 0  # its kernels take nothing more
        await host.talk(1, 900)
        assert len(quick.speech) == len(by_udp.speech) == 900
        assert slow.speech == []
        dropped = tcp(studio.engine).counters.dropped
        assert 500 < dropped < 900
        answers = dropped - studio.room.totals().dropped_out
        assert 0 <= answers < 20, "to its checks; all else was the program's"

        end.peer.room = 10  # in crumbs, smaller than any frame
        await host.talk(1001, 300)
        end.peer.room = 64 * 1024
        end.peer._notify()
        await host.talk(2001, 3)
        await trio.sleep(0.1)
        sock = slow.peer.socket
        assert isinstance(sock, FramedSocket)
        assert not sock.broken
        numbers = [packet.sequence for packet in slow.packets]
        assert numbers == sorted(numbers)
        assert slow.speech[-3:] == [opus(2001), opus(2002), opus(2003)]
        assert studio.engine.counters.peer_failures == 0


async def test_what_a_connection_holds_back_is_bounded_and_stays_in_frames(autojump_clock: MockClock) -> None:
    net = StreamNet()
    net.open_listener(*SERVER)
    end = net.connect("203.0.113.5", SERVER)
    assert end.peer is not None
    end.peer.room = 7
    address = TcpAddress("203.0.113.5", 1, 1)
    connection = TcpConnection(end.peer, address, lambda data, where: None, now=trio.current_time())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        await trio.testing.wait_all_tasks_blocked()
        sent = [number.to_bytes(4, "big") * 50 for number in range(200)]
        taken = [data for data in sent if connection.send_nowait(data)]
        assert MAX_UNSENT_BYTES - 250 < len(connection._unsent) <= MAX_UNSENT_BYTES + 202
        assert taken == sent[: len(taken)]
        got = FramedSocket(end)
        read: list[bytes] = []
        while len(read) < len(taken):
            await got.wait_readable()
            try:
                read.append(got.receive_nowait()[0])
            except BlockingIOError:
                continue
        assert read == taken
        connection.end()
    assert not connection.send_nowait(b"late")


# Strangers


async def test_a_connection_that_proves_nothing_is_closed_soon(autojump_clock: MockClock) -> None:
    async with open_studio(streams=StreamNet()) as studio:
        assert studio.streams is not None
        silent = studio.streams.connect("203.0.113.5", SERVER)
        trickling = studio.streams.connect("203.0.113.5", SERVER)
        for _ in range(12):
            await trio.sleep(PROOF_S / 10)
            if not trickling.peer.closed:  # type: ignore[union-attr]  # it has one
                trickling.send_nowait(b"\0")
        for end in (silent, trickling):
            assert end.peer is not None
            assert end.peer.closed
        assert (len(tcp(studio.engine)), tcp(studio.engine).counters.unproven) == (0, 2)
        assert tcp(studio.engine)._unproven == {}


@pytest.mark.parametrize(
    "data", [HTTP, encode_frame(b"\x80\x6f" + bytes(30)), encode_frame(b"\x16\xfe\xff" + bytes(30))]
)
async def test_what_does_not_begin_with_a_check_is_closed_at_once(autojump_clock: MockClock, data: bytes) -> None:
    async with open_studio(streams=StreamNet()) as studio:
        assert studio.streams is not None
        end = studio.streams.connect("203.0.113.5", SERVER)
        end.send_nowait(data)
        await trio.sleep(0.01)
        assert end.peer is not None
        assert end.peer.closed


async def test_strangers_take_no_more_than_their_share(autojump_clock: MockClock) -> None:
    async with open_studio(streams=StreamNet()) as studio:
        assert studio.streams is not None
        one_place = [studio.streams.connect("203.0.113.5", SERVER) for _ in range(MAX_UNPROVEN_PER_ADDRESS + 10)]
        await trio.sleep(0.01)
        assert sum(end.peer.closed for end in one_place if end.peer) == 10
        for number in range(MAX_UNPROVEN):
            studio.streams.connect(f"2001:db8:{number:x}::7", SERVER)
        await trio.sleep(0.01)
        assert len(tcp(studio.engine)) == MAX_UNPROVEN
        assert tcp(studio.engine).counters.refused == 10 + MAX_UNPROVEN_PER_ADDRESS
        await trio.sleep(PROOF_S)
        assert len(tcp(studio.engine)) == 0
        listener = await add_over_tcp(studio, Direction.RECV, "anna")
        await trio.sleep(PROOF_S * 2)
        assert not listener.session.closed


def test_a_whole_slash_64_is_one_address() -> None:
    assert network_of("2001:db8:1:2:3::4") == network_of("2001:db8:1:2::9") != network_of("2001:db8:1:3::9")
    assert network_of("203.0.113.5") != network_of("203.0.113.6")


async def test_a_peer_keeps_a_few_connections_and_the_one_in_use(autojump_clock: MockClock) -> None:
    """Checks on many connections, by somebody who knows the password."""
    async with open_studio(streams=StreamNet()) as studio:
        assert studio.streams is not None
        listener = await add_over_tcp(studio, Direction.RECV, "anna")
        used = end_of(listener)
        core = listener.peer.core
        assert core is not None
        spare = []
        for _ in range(10):
            core.ice.check_now(now=trio.current_time())  # type: ignore[union-attr]  # the controlling side
            core.handle_timer(now=trio.current_time())
            end = studio.streams.connect("203.0.113.5", SERVER)
            for data, _ in core.datagrams_to_send():
                end.send_nowait(encode_frame(data))
            spare.append(end)
            await trio.sleep(0.05)
        assert len(tcp(studio.engine)) == MAX_CONNECTIONS_PER_PEER
        assert len(studio.engine.endpoint._by_connection) == MAX_CONNECTIONS_PER_PEER
        assert used.peer is not None
        assert sum(end.peer.closed for end in (used, *spare) if end.peer) == 11 - MAX_CONNECTIONS_PER_PEER
        address = listener.session._core.remote_address
        assert isinstance(address, TcpAddress)
        assert address in studio.engine.endpoint._by_connection
        listener.session.close("removed")
        await trio.sleep(0.01)
        assert len(tcp(studio.engine)) == 0


# Networks that change


def reconnect(studio: Studio, client: Client, sock: FramedSocket) -> None:
    """The client goes on over another socket, and says so with a check, as browsers do."""
    client.peer.socket = sock
    core = client.peer.core
    assert core is not None
    core.ice.check_now(now=trio.current_time())  # type: ignore[union-attr]  # the controlling side


async def test_a_listener_whose_connection_breaks_comes_back_on_another(autojump_clock: MockClock) -> None:
    async with open_studio(streams=StreamNet()) as studio:
        assert studio.streams is not None
        listener = await add_over_tcp(studio, Direction.RECV, "anna")
        host = await studio.publisher("host")
        await host.talk(1, 5)
        end = end_of(listener)
        assert end.peer is not None
        first = listener.session._core.remote_address
        end.peer._ended = True  # the server reads the end of it; the client does not notice
        end.peer._notify()
        await trio.testing.wait_all_tasks_blocked()
        await host.talk(6, 5)
        assert len(tcp(studio.engine)) == 0
        assert not listener.session.closed
        reconnect(studio, listener, FramedSocket(studio.streams.connect("203.0.113.5", SERVER)))
        await trio.sleep(4.1)  # its next check
        await host.talk(11, 5)
        await trio.sleep(0.1)
        assert listener.speech == [opus(number) for number in (*range(1, 6), *range(11, 16))]
        assert listener.session._core.remote_address != first
        assert studio.room.fanout.listeners == 1


async def test_a_listener_moves_between_udp_and_tcp(autojump_clock: MockClock) -> None:
    async with open_studio(streams=StreamNet()) as studio:
        assert studio.streams is not None
        listener = await studio.listener()
        other = await studio.listener()
        host = await studio.publisher("host")
        by_udp = listener.peer.socket
        by_tcp = FramedSocket(studio.streams.connect("203.0.113.5", SERVER))
        for number, sock in enumerate([by_tcp, by_udp, by_tcp]):
            await host.talk(10 * number, 5)
            reconnect(studio, listener, sock)  # type: ignore[arg-type]  # either
            await trio.sleep(4.1)
        await host.talk(100, 5)
        await trio.sleep(0.1)
        spoken = [opus(number) for number in (*range(5), *range(10, 15), *range(20, 25), *range(100, 105))]
        assert other.speech == spoken
        assert listener.speech == spoken
        assert isinstance(listener.session._core.remote_address, TcpAddress)
        # Perhaps in groups of their own: what was lost between two ways may have brought redundancy.
        parts = [part for group in studio.room.fanout._groups.values() for part in group.slices]
        assert sorted((part.over_tcp, len(part.seats)) for part in parts) == [(False, 1), (True, 1)]
        assert studio.room.fanout.listeners == 2
        by_udp.close()


async def test_a_connection_that_nobody_checks_any_more_is_closed(autojump_clock: MockClock) -> None:
    """A browser's spare one whose other end has vanished without a word."""
    async with open_studio(streams=StreamNet()) as studio:
        listener = await add_over_tcp(studio, Direction.RECV, "anna")
        end_of(listener).cut_off = True
        await trio.sleep(CONSENT_TIMEOUT_S + 1)
        assert listener.session.close_reason == "lost"
        assert len(tcp(studio.engine)) == 0


async def test_what_was_dropped_is_repaired_like_any_loss(autojump_clock: MockClock) -> None:
    async with open_studio(streams=StreamNet()) as studio:
        listener = await add_over_tcp(studio, Direction.RECV, "anna")
        host = await studio.publisher("host")
        await host.talk(1, 3)
        core = listener.peer.core
        assert core is not None
        last = listener.packets[-1].sequence
        core.send_rtcp([Nack(core.ssrc, studio.room.program.ssrc, (last,))])
        listener.peer.flush()
        await trio.sleep(0.01)
        assert listener.session.stats().retransmitted == 1


# Ends


def test_cancelled_anywhere_nothing_is_left_of_connections() -> None:
    remains = Remains()
    nets: list[StreamNet] = []

    async def scenario() -> None:
        remains.begin()
        nets[:] = [StreamNet()]
        async with open_studio(remains.net, nets[0]) as studio:
            remember(remains, studio)
            stranger = nets[0].connect("203.0.113.9", SERVER)
            listener = await add_over_tcp(studio, Direction.RECV, "anna")
            host = await add_over_tcp(studio, Direction.SEND, "host")
            end = end_of(listener)
            assert end.peer is not None
            end.peer.room = 0  # something is held back
            await host.talk(1, 2)
            end.peer.room = 64 * 1024
            end.peer._notify()
            stranger.send_nowait(HTTP)
            await host.talk(3, 1)
            host.peer.close()
            await trio.sleep(0.01)

    def check() -> None:
        remains.check()
        (net,) = nets
        assert net.listeners == {}
        # Clients close theirs when they are cancelled; the stranger's end is the test's own.
        assert all(end.closed for end in net.ends if end.peer is not None and end.remote_address != SERVER)
        if remains.engine is not None:
            streams = tcp(remains.engine)
            assert (len(streams), streams._unproven) == (0, {})

    assert sweep(scenario, check) > 80


# Real sockets


@contextmanager
def real_connection(port: int) -> Iterator[socket.socket]:
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    try:
        yield sock
    finally:
        sock.close()


async def test_the_real_thing_listens_on_the_same_port_number_and_hangs_up_on_http() -> None:
    async with open_engine(EngineConfig(ice_tcp=True), identity=identity(0)) as engine:
        assert {candidate.port for candidate in engine.candidates} == {engine.port}
        with real_connection(engine.port) as sock:
            sock.sendall(HTTP)
            assert await trio.to_thread.run_sync(sock.recv, 100) == b""
    with pytest.raises(ConnectionRefusedError), real_connection(engine.candidates[0].port):
        pass


async def test_a_port_that_only_udp_has_free_stops_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = EngineConfig(port=taken.getsockname()[1], ice_tcp=True)
        with pytest.raises(EngineStartError, match=r"\(TCP\).*in use.*LAC_ICE_TCP=false"):
            async with open_engine(config, identity=identity(0)):
                pass
        async with open_engine(EngineConfig(port=config.port), identity=identity(0)) as engine:
            assert engine.port == config.port, "and is free again, and enough without TCP"
