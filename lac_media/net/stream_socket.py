"""The TCP sockets under ICE-TCP, non-blocking and without an await per write."""

from __future__ import annotations

import errno
import ipaddress
import socket
import sys
from typing import Protocol

import structlog
import trio

from lac_media.errors import EngineStartError
from lac_media.net.udp import DSCP_EXPEDITED, MAPPED_PREFIX
from lac_media.parameters import UdpAddress

log = structlog.get_logger(__name__)

#: What we ask the kernel to hold of one connection; Linux doubles it and counts its own book-keeping in. About a second
#: of audio: more would only make a slow listener hear later things later.
SEND_BUFFER_BYTES = 32 * 1024
#: After this long without an acknowledgement of what was sent the kernel gives a connection up.
USER_TIMEOUT_MS = 20_000
BACKLOG = 256
#: The process or the machine has no more: connections wait in the backlog until something is closed.
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
EXHAUSTED_PAUSE_S = 0.1


class StreamSocket(Protocol):
    """What a connection needs of a socket; tests put an in-memory network here."""

    @property
    def remote_address(self) -> UdpAddress: ...

    def receive_nowait(self, max_bytes: int) -> bytes:
        """Empty at the end. Raises `BlockingIOError` when there is nothing, `OSError` when it is broken."""

    async def wait_readable(self) -> None: ...

    def send_nowait(self, data: bytes | bytearray) -> int:
        """How many bytes were taken. Raises `BlockingIOError` when none can be, `OSError` when it is broken."""

    async def wait_writable(self) -> None: ...

    def close(self) -> None: ...


class StreamListener(Protocol):
    async def accept(self) -> StreamSocket:
        """The next connection. Once it has been taken nothing is awaited any more: none is lost by a cancel."""

    def close(self) -> None: ...


class TcpSocket:
    """A connection that was accepted."""

    def __init__(self, sock: socket.socket, remote_address: UdpAddress) -> None:
        self._sock = sock
        self.remote_address = remote_address

    def receive_nowait(self, max_bytes: int) -> bytes:
        return self._sock.recv(max_bytes)

    async def wait_readable(self) -> None:
        await trio.lowlevel.wait_readable(self._sock)

    def send_nowait(self, data: bytes | bytearray) -> int:
        return self._sock.send(data)

    async def wait_writable(self) -> None:
        await trio.lowlevel.wait_writable(self._sock)

    def close(self) -> None:
        self._sock.close()


class TcpListener:
    """A bound and listening socket. On an IPv6 wildcard it serves both families."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def accept(self) -> TcpSocket:
        while True:
            await trio.lowlevel.wait_readable(self._sock)
            try:
                sock, (host, port, *_) = self._sock.accept()
            except OSError as error:
                if error.errno in EXHAUSTED:
                    log.warning("no more tcp connections can be opened", error=errno.errorcode[error.errno])
                    await trio.sleep(EXHAUSTED_PAUSE_S)
                continue  # gone before we got to it
            try:
                _set_options(sock)
            except OSError:
                sock.close()
                continue
            return TcpSocket(sock, (host.removeprefix(MAPPED_PREFIX), port))

    def close(self) -> None:
        self._sock.close()


def _set_options(sock: socket.socket) -> None:
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    if sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, DSCP_EXPEDITED)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, DSCP_EXPEDITED)


def open_tcp_listener(ip: str, port: int) -> TcpListener:
    """Listen on `ip` ("::" serves IPv4 too). Raises `EngineStartError` with what to change."""
    family = socket.AF_INET6 if ipaddress.ip_address(ip).version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if ip == "::" else 1)
        sock.bind((ip, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        why = "is in use by another program" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
        raise EngineStartError(
            f"the media port {port} (TCP) on {ip} {why}; LAC_ICE_TCP=false does without TCP"
        ) from error
    return TcpListener(sock)
