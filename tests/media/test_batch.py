"""Real sockets on the loopback: both batches send the same, both families go through one socket."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import socket
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from lac_media.engine import EngineConfig, open_engine
from lac_media.net import batch as batch_module
from lac_media.net.batch import LoopBatch, MmsgBatch, SendBatch, make_batch
from lac_media.net.udp import UdpSocket, open_udp_socket
from lac_media.parameters import Direction
from lac_media.proto.srtp import MAX_PACKET, PROFILES, SrtpKeys, SrtpSession
from tests.fakes.link import identity
from tests.fakes.net import Net
from tests.media.clients import Client, add_client, opus

RTP = bytes.fromhex("80640001000003c000000007")
REPORT = bytes.fromhex("80c80006000000070000000000000000000000000000000100000001")


def session(number: int, *, is_server: bool = True, profile: bytes = b"SRTP_AEAD_AES_128_GCM") -> SrtpSession:
    chosen = PROFILES[profile]
    material = bytes((number + n) & 255 for n in range(chosen.keying_material_length))
    return SrtpSession(SrtpKeys.from_keying_material(chosen, material, is_server=is_server))


@contextmanager
def receivers(count: int, family: int = socket.AF_INET) -> Iterator[list[socket.socket]]:
    made = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(count)]
    try:
        for sock in made:
            sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
            sock.settimeout(2)
        yield made
    finally:
        for sock in made:
            sock.close()


@pytest.fixture
def relay() -> Iterator[UdpSocket]:
    sock = open_udp_socket("127.0.0.1", 0)
    yield sock
    sock.close()


def both(relay: UdpSocket, slots: int) -> list[SendBatch]:
    return [MmsgBatch(relay, slots), LoopBatch(relay, slots)]


def test_linux_gets_the_fast_batch_and_a_fake_network_the_other(relay: UdpSocket) -> None:
    assert isinstance(make_batch(relay, 10), MmsgBatch)
    assert isinstance(make_batch(Net().open_socket("192.0.2.1"), 10), LoopBatch)


@pytest.mark.parametrize("profile", PROFILES)
def test_both_batches_send_the_same_bytes(relay: UdpSocket, profile: bytes) -> None:
    heard: list[list[bytes]] = []
    for batch in both(relay, 8):
        with receivers(6) as people:
            for index, person in enumerate(people):
                batch.set_slot(index, session(index, profile=profile), person.getsockname())
            assert batch.send_rtp(RTP + opus(1), 6) == 0
            # To each its own.
            assert batch.send_rtcp([REPORT + bytes(4 * index) for index in range(6)]) == 0
            batch.move_slot(5, 1)
            assert batch.send_rtp(RTP[:3] + b"\x02" + RTP[4:] + opus(2), 5) == 0
            heard.append([person.recv(2000) for person in people for _ in range(2)])
            heard[-1] += [people[index].recv(2000) for index in (0, 2, 3, 4, 5)]
            people[1].setblocking(False)
            with pytest.raises(BlockingIOError):
                people[1].recv(2000)
    assert heard[0] == heard[1]
    third = session(3, is_server=False, profile=profile)
    assert third.unprotect(heard[0][6]) == RTP + opus(1)
    assert third.unprotect_rtcp(heard[0][7]) == REPORT + bytes(12)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts what a full buffer loses")
def test_what_a_full_receive_buffer_loses_is_counted(relay: UdpSocket) -> None:
    sent = 2000
    relay.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for _ in range(sent):
            peer.sendto(b"hello", relay.local_address)
    taken = 0
    with contextlib.suppress(BlockingIOError):
        while relay.receive_nowait():
            taken += 1
    assert 0 < taken < sent
    assert relay.overruns() == sent - taken
    relay.close()
    assert relay.overruns() == 0


def test_batches_on_one_socket_do_not_disturb_each_other(relay: UdpSocket) -> None:
    with receivers(4) as people:
        batches = [MmsgBatch(relay, 2), MmsgBatch(relay, 3)]
        for index, person in enumerate(people):
            batches[index % 2].set_slot(index // 2, session(index), person.getsockname())
        for batch, number in zip(batches, (1, 2), strict=True):
            assert batch.send_rtp(RTP + opus(number), 2) == 0
        for index, person in enumerate(people):
            plain = session(index, is_server=False).unprotect(person.recv(2000))
            assert plain == RTP + opus(index % 2 + 1)


def test_what_is_too_large_is_dropped_whole_and_the_largest_goes_out(relay: UdpSocket) -> None:
    for batch in both(relay, 2):
        with receivers(2) as people:
            for index, person in enumerate(people):
                batch.set_slot(index, session(index), person.getsockname())
            assert batch.send_rtp(RTP + bytes(MAX_PACKET - 11), 2) == 2
            assert batch.send_rtp(RTP + bytes(MAX_PACKET - 12), 2) == 0
            assert [len(person.recv(2000)) for person in people] == [MAX_PACKET + 16] * 2


def test_a_destination_that_cannot_be_reached_does_not_hold_up_the_others(relay: UdpSocket) -> None:
    for batch in both(relay, 3):
        with receivers(2) as people:
            batch.set_slot(0, session(0), people[0].getsockname())
            batch.set_slot(1, session(1), ("255.255.255.255", 9))  # broadcasting is not allowed
            batch.set_slot(2, session(2), people[1].getsockname())
            assert batch.send_rtp(RTP + opus(1), 3) == 1
            assert all(person.recv(2000) for person in people)


def test_a_full_buffer_drops_the_rest_and_counts_it(relay: UdpSocket, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loopback delivers at once, so its buffer is never full: the kernel's answers are made up here."""
    answers = iter([(3, 0), (-1, errno.EINTR), (2, 0), (-1, errno.EAGAIN)])

    def sendmmsg(fd: int, messages: object, count: int, flags: int) -> int:
        taken, error = next(answers)
        ctypes.set_errno(error)
        return taken

    monkeypatch.setattr(batch_module, "_sendmmsg", sendmmsg)
    batch = MmsgBatch(relay, 8)
    for index in range(8):
        batch.set_slot(index, session(index), ("127.0.0.1", 9))
    assert batch.send_rtp(RTP + opus(1), 8) == 3
    assert next(answers, None) is None


def test_a_cleared_slot_lets_go_of_the_keys(relay: UdpSocket) -> None:
    for batch in both(relay, 4):
        sessions = [_Watched(session(number)) for number in range(3)]
        dead = [weakref.ref(one) for one in sessions]
        for index, one in enumerate(sessions):
            batch.set_slot(index, one, ("127.0.0.1", 9))  # type: ignore[arg-type]  # quacks like one
        del sessions, one
        gc.disable()
        try:
            batch.move_slot(2, 0)
            assert [ref() is None for ref in dead] == [True, False, False]
            batch.clear_slot(1)
            assert [ref() is None for ref in dead] == [True, True, False]
            batch.clear_slot(0)
            assert [ref() is None for ref in dead] == [True, True, True]
        finally:
            gc.enable()


class _Watched:
    """An SRTP session that weak references may watch."""

    def __init__(self, inner: SrtpSession) -> None:
        self.transmit = inner.transmit


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


NEEDS_IPV6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@NEEDS_IPV6
def test_one_wildcard_socket_sends_to_both_families() -> None:
    sock = open_udp_socket("::", 0)
    try:
        for batch in both(sock, 2):
            with receivers(1) as [four], receivers(1, socket.AF_INET6) as [six]:
                batch.set_slot(0, session(0), four.getsockname())
                batch.set_slot(1, session(1), six.getsockname()[:2])
                assert batch.send_rtp(RTP + opus(1), 2) == 0
                assert session(0, is_server=False).unprotect(four.recv(2000)) == RTP + opus(1)
                assert session(1, is_server=False).unprotect(six.recv(2000)) == RTP + opus(1)
                four.sendto(b"4", ("127.0.0.1", sock.local_address[1]))
                six.sendto(b"6", ("::1", sock.local_address[1]))
                got = {sock.receive_nowait() for _ in range(2)}
                assert got == {(b"4", four.getsockname()), (b"6", six.getsockname()[:2])}
    finally:
        sock.close()


@NEEDS_IPV6
async def test_publisher_and_listeners_of_both_families_meet_on_one_port() -> None:
    config = EngineConfig(listen_ip="::", announced_ips=("127.0.0.1", "::1"))
    async with open_engine(config, identity=identity(0)) as engine:
        async with engine.open_room("room", lambda event: None) as room, trio.open_nursery() as nursery:
            clients: dict[str, Client] = {}
            with trio.fail_after(5):
                for name, ip, direction in (
                    ("host", "::1", Direction.SEND),
                    ("four", "127.0.0.1", Direction.RECV),
                    ("six", "::1", Direction.RECV),
                ):
                    candidate = next(one for one in engine.candidates if one.ip == ip)
                    clients[name] = await add_client(
                        nursery,
                        lambda ip=ip: open_udp_socket(ip, 0),
                        engine,
                        room,
                        direction,
                        name,
                        candidate=candidate,
                    )
                await clients["host"].talk(1, 5)
                while not all(clients[name].speech[-1:] == [opus(5)] for name in ("four", "six")):  # noqa: ASYNC110  # real sockets
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel("done")
        assert engine.endpoint.peer_count == 0
