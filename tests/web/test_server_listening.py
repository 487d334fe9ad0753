from __future__ import annotations

import socket
from functools import partial

import pytest
import trio
from quart_trio import QuartTrio

from lac.errors import ConfigError
from lac_web.server import listening_on, open_listening_sockets, serve_http
from tests.fakes.gateway import connected, serving

app = QuartTrio("tests")


async def refusal(host: str, port: int) -> str:
    with pytest.raises(ConfigError) as error:
        async with listening_on(host, port):
            pytest.fail("it listens")
    assert "\n" not in error.value.detail
    return error.value.detail


async def test_a_taken_port_is_named_with_the_variable_to_change() -> None:
    async with serving(app) as server:
        detail = await refusal("127.0.0.1", server.port)
    assert str(server.port) in detail
    assert "LAC_PORT" in detail


async def test_a_port_that_is_bound_but_does_not_listen_yet_is_taken_too() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert "LAC_PORT" in await refusal("127.0.0.1", other.getsockname()[1])


@pytest.mark.parametrize("host", ["203.0.113.7", "no such host", "", "x" * 300])
async def test_an_address_of_another_machine_is_named_with_the_variable_to_change(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if host != "203.0.113.7":  # never ask a name server in a test

        async def unknown(*args: object, **kwargs: object) -> list[object]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(trio.socket, "getaddrinfo", unknown)
    assert "LAC_HOST" in await refusal(host, 0)


async def test_a_port_that_is_none_is_refused() -> None:
    assert "LAC_PORT" in await refusal("127.0.0.1", 70_000)


@pytest.mark.parametrize("host", ["::1", "[::1]"])
async def test_an_ipv6_literal(host: str) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    async with listening_on(host, 0) as listening, trio.open_nursery() as nursery:
        shutdown = trio.Event()
        urls = await nursery.start(partial(serve_http, app, listening, shutdown=shutdown))
        assert urls[0].startswith("http://[::1]:")
        stream = await trio.open_tcp_stream("::1", int(urls[0].rsplit(":", 1)[1]))
        await stream.aclose()
        shutdown.set()


async def test_accepted_sockets_inherit_the_options() -> None:
    [listening] = await open_listening_sockets("127.0.0.1", 0, tcp_user_timeout_s=7)
    with listening, socket.create_connection(listening.getsockname()[:2]):
        listening.setblocking(True)
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


async def test_a_port_is_free_again_at_once_after_the_end() -> None:
    async with serving(app) as server, connected(server.port):
        server.shutdown.set()
        await server.ended.wait()
        [again] = await open_listening_sockets("127.0.0.1", server.port, tcp_user_timeout_s=7)
        again.close()


async def test_one_name_may_stand_for_several_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    async def both(*args: object, **kwargs: object) -> list[object]:
        entry = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*entry, ("127.0.0.1", 0)), (*entry, ("127.0.0.2", 0)), (*entry, ("203.0.113.7", 0))]

    monkeypatch.setattr(trio.socket, "getaddrinfo", both)
    sockets = await open_listening_sockets("name", 0, tcp_user_timeout_s=7)
    assert len({sock.getsockname()[1] for sock in sockets}) == 1
    assert [sock.getsockname()[0] for sock in sockets] == ["127.0.0.1", "127.0.0.2"]
    for sock in sockets:
        sock.close()
