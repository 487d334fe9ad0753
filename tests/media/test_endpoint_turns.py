"""Whose turn it is: what a timer would ask for may lie in the socket already, and audio goes before handshakes."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import trio

from lac_media.net import endpoint as endpoint_module
from lac_media.net.endpoint import BURST, Endpoint
from lac_media.net.udp import UdpSocket, open_udp_socket
from lac_media.parameters import Address
from lac_media.proto.peer import PeerEvent, PeerReached

HOST = "127.0.0.1"
#: As RTP begins.
PACKET = b"\x80\x6f" + bytes(20)
#: Without the order it was in random order, so half of them were wrong.
ROUNDS = 20


class NotingCore:
    """A peer's core as far as the endpoint knows it. Notes what it was called for."""

    def __init__(self, address: Address, *, connected: bool = True) -> None:
        self.remote_address = address
        self.srtp = object() if connected else None
        self.due = float("inf")
        self.calls: list[str] = []
        self.rung = trio.Event()
        self._events: list[PeerEvent] = [PeerReached(address)]

    def timer_at(self) -> float:
        return self.due

    def handle_timer(self, *, now: float) -> None:
        self.calls.append("timer")
        self.due = float("inf")
        self.rung.set()

    def receive_datagram(self, data: bytes, address: Address, *, now: float) -> None:
        self.calls.append("datagram")

    def datagrams_to_send(self) -> Iterator[tuple[bytes, Address]]:
        return iter(())

    def events(self) -> Iterator[PeerEvent]:
        events, self._events = self._events, []
        return iter(events)


@pytest.fixture
def publisher() -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.bind((HOST, 0))
        yield sock


async def rounds(sock: UdpSocket, publisher: socket.socket, datagrams: int, count: int) -> list[list[str]]:
    """What the core was called for, each time that datagrams and a timer had to wait for the same loop."""
    endpoint, seen = Endpoint(sock), []
    core = NotingCore(publisher.getsockname())
    attachment = endpoint.attach(core, "ufrag", lambda event: None)  # type: ignore[arg-type]
    endpoint.flush(attachment)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(endpoint.run)
        for _ in range(count):
            core.calls, core.rung = [], trio.Event()
            core.due = trio.current_time() + 0.01
            endpoint.flush(attachment)
            for _ in range(datagrams):
                publisher.sendto(PACKET, sock.local_address)
            time.sleep(0.03)  # noqa: ASYNC251  the loop stands still
            with trio.fail_after(60):
                await core.rung.wait()
            seen.append(core.calls)
        nursery.cancel_scope.cancel()
    return seen


async def test_what_came_while_the_loop_stood_still_is_read_before_the_timers_run(publisher: socket.socket) -> None:
    with closing(open_udp_socket(HOST, 0)) as sock:
        for calls in await rounds(sock, publisher, 3, ROUNDS):
            assert calls == ["datagram"] * 3 + ["timer"]


async def test_all_of_it_also_when_that_is_more_than_one_turn(
    publisher: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_module, "READ_FIRST_S", 30.0)  # on however slow a machine
    many = BURST + BURST // 2
    with closing(open_udp_socket(HOST, 0)) as sock:
        for calls in await rounds(sock, publisher, many, ROUNDS):
            assert calls == ["datagram"] * many + ["timer"]


class Script:
    """A socket with these datagrams, by whom they are from."""

    def __init__(self, *senders: Address) -> None:
        self.local_address = (HOST, 1)
        self.waited_s = 0.0
        self._senders = list(senders)

    async def wait_readable(self) -> None:
        await trio.lowlevel.checkpoint()
        if not self._senders:
            await trio.sleep_forever()

    def receive_nowait(self) -> tuple[bytes, Address]:
        if not self._senders:
            raise BlockingIOError
        return PACKET, self._senders.pop(0)


ALICE, BOB = (HOST, 1001), (HOST, 1002)


class Wire:
    """An endpoint with Alice, who is connecting, and Bob, who is connected; both note into one list."""

    def __init__(self, sock: object) -> None:
        self.endpoint = Endpoint(sock)  # type: ignore[arg-type]  # one of those above
        self.calls: list[str] = []
        self.attachments = {}
        for name, address in (("alice", ALICE), ("bob", BOB)):
            core = NotingCore(address, connected=name == "bob")
            core.receive_datagram = lambda *_, name=name, **__: self.calls.append(name)  # type: ignore[method-assign]
            self.attachments[name] = self.endpoint.attach(core, name, lambda event: None)  # type: ignore[arg-type]
            self.endpoint.flush(self.attachments[name])

    async def run(self, until: Callable[[], bool]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.endpoint.run)
            with trio.fail_after(60):
                while not until():
                    await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()


async def test_audio_is_not_kept_waiting_by_those_who_connect() -> None:
    wire = Wire(Script(*[ALICE] * 5, BOB, *[ALICE] * 2, BOB))
    await wire.run(lambda: len(wire.calls) == 9)
    assert wire.calls == ["bob"] * 2 + ["alice"] * 7
    assert wire.endpoint.counters.datagrams_in == 9


async def test_who_connects_gets_a_turn_though_the_socket_is_never_empty() -> None:
    class Endless(Script):
        def receive_nowait(self) -> tuple[bytes, Address]:
            return PACKET, super().receive_nowait()[1] if self._senders else BOB

        async def wait_readable(self) -> None:
            await trio.lowlevel.checkpoint()

    wire = Wire(Endless(*[ALICE] * 5))
    await wire.run(lambda: wire.calls.count("alice") == 5)


async def test_a_crowd_that_connects_has_bounded_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "MAX_ASIDE", 3)
    wire = Wire(Script(*[ALICE] * 5, BOB))
    await wire.run(lambda: len(wire.calls) == 4)
    assert wire.calls == ["bob", *["alice"] * 3]
    assert wire.endpoint.counters.crowded_out == 2


async def test_who_is_gone_meanwhile_is_not_dealt_with() -> None:
    wire = Wire(Script(*[ALICE] * 3, BOB))
    bob = wire.attachments["bob"].core
    bob.receive_datagram = lambda *_, **__: wire.endpoint.detach(wire.attachments["alice"])
    await wire.run(lambda: not wire.attachments["alice"].attached and not wire.endpoint._aside)
    assert wire.calls == []


class Flood:
    """A socket that is never empty."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.local_address = (HOST, 1)
        self.waited_s = 0.0

    async def wait_readable(self) -> None:
        await trio.lowlevel.checkpoint()

    def receive_nowait(self) -> tuple[bytes, Address]:
        return PACKET, self.address


async def test_a_socket_that_is_never_empty_keeps_no_timer_for_ever(publisher: socket.socket) -> None:
    address: Address = publisher.getsockname()
    endpoint, core = Endpoint(Flood(address)), NotingCore(address)  # type: ignore[arg-type]
    attachment = endpoint.attach(core, "ufrag", lambda event: None)  # type: ignore[arg-type]
    endpoint.flush(attachment)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(endpoint.run)
        for _ in range(3):
            core.rung = trio.Event()
            core.due = trio.current_time() - 1.0
            endpoint.flush(attachment)
            with trio.fail_after(60):
                await core.rung.wait()
            assert "datagram" in core.calls
            core.calls.clear()
        nursery.cancel_scope.cancel()
