"""The address that a request comes from. One answer for limits, bans and logs.

Whoever connects may write what they like into X-Forwarded-For. It is believed only when the connection itself comes
from a proxy that the operator trusts (`LAC_TRUSTED_PROXIES`), and from the right, where each proxy has added the
address that it saw: the first one there that is no proxy of ours is the client.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: For connections that have no address (Unix sockets, test clients). They all count as one.
UNKNOWN = "unknown"
#: One customer of a provider usually has at least a /64, and may take any address in it.
_IPV6_GROUP_BITS = 64


class HasScope(Protocol):
    """Quart's `request` and `websocket`."""

    @property
    def scope(self) -> Any: ...


def address_of(connection: HasScope, trusted: Sequence[Network]) -> str:
    """The client's address of a request or WebSocket: IPv4 or IPv6 in its own short form, or `UNKNOWN`."""
    return client_address(_peer(connection), _header(connection, b"x-forwarded-for"), trusted)


def is_tls(connection: HasScope, trusted: Sequence[Network]) -> bool:
    """Whether the client speaks TLS, to us or to a trusted proxy that says so in X-Forwarded-Proto."""
    if connection.scope.get("scheme") in ("https", "wss"):
        return True
    said = _header(connection, b"x-forwarded-proto")
    return is_from_proxy(connection, trusted) and bool(said) and said[-1].lower() in ("https", "wss")


def is_from_proxy(connection: HasScope, trusted: Sequence[Network]) -> bool:
    """Whether the other end of the connection itself is trusted."""
    peer = parse_address(_peer(connection))
    return peer is not None and _is_in(peer, trusted)


def is_local(connection: HasScope) -> bool:
    """Whether it comes from this machine itself, and not through a proxy on it.

    A proxy gives itself away by a header or by the name that it passes on; so does a browser that somebody else's page
    has led here under a name of theirs.
    """
    peer = parse_address(_peer(connection))
    if peer is None or not peer.is_loopback:
        return False
    if any(_header(connection, name) for name in (b"x-forwarded-for", b"forwarded", b"via", b"x-real-ip")):
        return False
    host = (_header(connection, b"host") or ["localhost"])[-1].lower()
    named = parse_address(host)
    return host.partition(":")[0] == "localhost" or (named is not None and named.is_loopback)


def client_address(peer: str | None, forwarded_for: Sequence[str], trusted: Sequence[Network]) -> str:
    """`peer` is the other end of the connection, `forwarded_for` what X-Forwarded-For lists, left to right."""
    address = parse_address(peer)
    if address is None:
        return UNKNOWN
    hops = list(forwarded_for)
    while hops and _is_in(address, trusted):
        hop = parse_address(hops.pop())
        if hop is None:
            break  # not an address: the proxy that passed it on is the last one who is known
        address = hop
    return str(address)


def address_group(address: str) -> str:
    """What limits and bans count as one: an IPv4 address, or the /64 of an IPv6 one."""
    parsed = parse_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(parsed), _IPV6_GROUP_BITS), strict=False))
    return address


def parse_address(raw: str | None) -> Address | None:
    """An address as proxies write it: with or without a port, brackets or a zone; IPv4-mapped ones as IPv4."""
    if raw is None:
        return None
    text = raw.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _is_in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _peer(connection: HasScope) -> str | None:
    client = connection.scope.get("client")
    return str(client[0]) if client else None


def _header(connection: HasScope, wanted: bytes) -> list[str]:
    """The comma-separated values of a header, also where it comes several times."""
    values = [value.decode("latin-1") for name, value in connection.scope.get("headers", ()) if name.lower() == wanted]
    return [part.strip() for value in values for part in value.split(",") if part.strip()]
