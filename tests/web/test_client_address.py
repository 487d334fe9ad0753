"""Who asks: what X-Forwarded-For is worth, and from whom."""

from __future__ import annotations

import ipaddress
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lac_web.client_address import UNKNOWN, address_group, address_of, client_address, is_local, is_tls, parse_address

PROXIES = tuple(ipaddress.ip_network(text) for text in ("127.0.0.1", "10.0.0.0/8", "::1", "2001:db8:1::/48"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.5", [], "203.0.113.5"),
        ("203.0.113.5", ["198.51.100.1"], "203.0.113.5"),  # not a proxy of ours: its header is a claim
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("127.0.0.1", ["192.0.2.66", "198.51.100.1"], "198.51.100.1"),  # what the client itself sent is on the left
        ("127.0.0.1", ["192.0.2.66", "198.51.100.1", "10.1.2.3"], "198.51.100.1"),
        ("127.0.0.1", ["10.9.9.9", "10.1.2.3"], "10.9.9.9"),  # nobody but proxies: the outermost
        ("127.0.0.1", ["198.51.100.1", "nonsense"], "127.0.0.1"),
        ("127.0.0.1", ["198.51.100.1", "nonsense", "10.1.2.3"], "10.1.2.3"),
        ("127.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("::1", ["[2001:db8::7]:4711"], "2001:db8::7"),
        ("::ffff:127.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("2001:db8:1::5", ["2001:db8:2::5"], "2001:db8:2::5"),
        ("fe80::1%eth0", [], "fe80::1"),
        (None, ["198.51.100.1"], UNKNOWN),
        ("<local>", ["198.51.100.1"], UNKNOWN),
    ],
)
def test_the_rightmost_untrusted_address_is_the_client(peer: str | None, forwarded: list[str], address: str) -> None:
    assert client_address(peer, forwarded, PROXIES) == address


@given(st.lists(st.text(max_size=40), max_size=8))
def test_no_header_makes_it_fail_or_lie_about_an_untrusted_peer(forwarded: list[str]) -> None:
    assert client_address("203.0.113.5", forwarded, PROXIES) == "203.0.113.5"
    answer = client_address("127.0.0.1", forwarded, PROXIES)
    assert parse_address(answer) is not None


def test_one_customer_counts_as_one() -> None:
    assert address_group("2001:db8::1:2:3:4") == address_group("2001:db8::ffff") == "2001:db8::/64"
    assert address_group("2001:db8:0:1::1") != address_group("2001:db8::1")
    assert address_group("198.51.100.1") == "198.51.100.1"
    assert address_group(UNKNOWN) == UNKNOWN


def connection(peer: str | None, scheme: str = "http", **headers: str) -> Any:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"client": None if peer is None else (peer, 1), "headers": raw, "scheme": scheme}
    return SimpleNamespace(scope=scope)


def test_several_headers_are_read_as_one() -> None:
    request = connection("127.0.0.1")
    request.scope["headers"] = [(b"x-forwarded-for", b"192.0.2.66, 198.51.100.1"), (b"X-Forwarded-For", b"10.1.1.1")]
    assert address_of(request, PROXIES) == "198.51.100.1"
    assert address_of(connection(None), PROXIES) == UNKNOWN


def test_tls_is_what_we_see_or_what_a_trusted_proxy_says() -> None:
    assert is_tls(connection("203.0.113.5", "https"), ())
    assert is_tls(connection("203.0.113.5", "wss"), ())
    assert is_tls(connection("127.0.0.1", x_forwarded_proto="https"), PROXIES)
    assert not is_tls(connection("203.0.113.5", x_forwarded_proto="https"), PROXIES)
    assert not is_tls(connection("127.0.0.1", x_forwarded_proto="https, http"), PROXIES)
    assert not is_tls(connection("127.0.0.1"), PROXIES)


@pytest.mark.parametrize(
    ("peer", "headers", "local"),
    [
        ("127.0.0.1", {}, True),
        ("::1", {"host": "[::1]:8000"}, True),
        ("127.0.0.1", {"host": "localhost:8000"}, True),
        ("127.0.0.1", {"host": "127.0.0.1"}, True),
        ("203.0.113.5", {"host": "localhost"}, False),
        (None, {}, False),
        ("127.0.0.1", {"x_forwarded_for": "198.51.100.1"}, False),
        ("127.0.0.1", {"via": "1.1 proxy"}, False),
        ("127.0.0.1", {"host": "live.example.org"}, False),  # a proxy that adds nothing but passes the name on
        ("127.0.0.1", {"host": "rebound.example:8000"}, False),  # a page that had its name resolve to us
    ],
)
def test_only_this_machine_itself_is_local(peer: str | None, headers: dict[str, str], local: bool) -> None:
    assert is_local(connection(peer, **headers)) is local
