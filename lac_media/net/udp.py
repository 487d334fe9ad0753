"""The one UDP socket of a process, non-blocking and without an await per datagram."""

from __future__ import annotations

import errno
import ipaddress
import platform
import socket
import struct
import sys
import time
from contextlib import suppress
from typing import Protocol

import trio

from lac_media.errors import EngineStartError
from lac_media.parameters import Address, UdpAddress

if sys.platform == "linux":
    import fcntl

#: Larger than any datagram that WebRTC peers send; a ClientHello's first part has been seen with 1408 bytes.
MAX_DATAGRAM = 2048
#: What we ask the kernel for; it gives what its limits allow. A slice of the fan-out is about 30 KiB.
BUFFER_BYTES = 4 * 1024 * 1024
#: Linux: the same beyond those limits, for who may administrate the network; and how a socket's memory stands, of
#: which the last number counts datagrams that found the receive buffer full.
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE, _SO_MEMINFO = 32, 33, 55
_MEMINFO = struct.Struct("=9I")
#: Expedited forwarding (RFC 3246) in the upper six bits of TOS / traffic class (RFC 8837: audio).
DSCP_EXPEDITED = 46 << 2
MAPPED_PREFIX = "::ffff:"


#: `SO_TIMESTAMPNS` of <asm-generic/socket.h>, which is also the type of the control message: a `struct timespec` of the
#: wall clock at which the datagram came in.
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@ll")
#: The same as a question (`ioctl`).
_SIOCGSTAMPNS = 0x8907
#: Room for it in `recvmsg`.
STAMP_SPACE = socket.CMSG_SPACE(_TIMESPEC.size) if hasattr(socket, "CMSG_SPACE") else 0
#: What seems to have waited longer has not: somebody has set the clock.
_MAX_AGE_S = 5.0


class DatagramSocket(Protocol):
    """What the endpoint needs of a socket; tests put an in-memory network here."""

    @property
    def local_address(self) -> UdpAddress: ...

    @property
    def waited_s(self) -> float:
        """How long the datagram that was received last had waited here; 0.0 where nobody knows."""

    def receive_nowait(self) -> tuple[bytes, UdpAddress]:
        """The next datagram. Raises `BlockingIOError` when there is none."""

    async def wait_readable(self) -> None: ...

    def send_nowait(self, data: bytes, address: Address) -> bool:
        """False if the datagram was dropped: the buffer is full or the destination cannot be reached."""

    def overruns(self) -> int:
        """Datagrams that came when the receive buffer was full; 0 where the kernel does not say."""

    def close(self) -> None: ...


class UdpSocket:
    """A bound socket. On an IPv6 wildcard it serves both families; addresses are always given in their own family's
    form, never as IPv4-mapped ones."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.is_ipv6 = sock.family == socket.AF_INET6
        self.waited_s = 0.0
        self._is_stamped = _ask_for_stamps(sock)

    @property
    def local_address(self) -> UdpAddress:
        host, port = self.socket.getsockname()[:2]
        return host, port

    def receive_nowait(self) -> tuple[bytes, UdpAddress]:
        while True:
            try:
                if self._is_stamped:
                    data, ancillary, _, (host, port, *_) = self.socket.recvmsg(MAX_DATAGRAM, STAMP_SPACE)
                    age_s = time.time() - received_at(ancillary)
                    self.waited_s = age_s if 0.0 <= age_s <= _MAX_AGE_S else 0.0
                else:
                    data, (host, port, *_) = self.socket.recvfrom(MAX_DATAGRAM)
            except ConnectionError:
                continue  # an ICMP error of an earlier send (Windows: a "reset"); the peer's silence will tell
            if self.is_ipv6 and host.startswith(MAPPED_PREFIX):
                host = host[len(MAPPED_PREFIX) :]
            return data, (host, port)

    async def wait_readable(self) -> None:
        await trio.lowlevel.wait_readable(self.socket)

    def send_nowait(self, data: bytes, address: Address) -> bool:
        try:
            self.socket.sendto(data, self.kernel_address(address))
        except OSError:
            return False
        return True

    def overruns(self) -> int:
        if sys.platform != "linux":
            return 0
        try:
            memory = self.socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        except OSError:
            return 0
        count: int = _MEMINFO.unpack(memory)[-1] if len(memory) == _MEMINFO.size else 0
        return count

    def kernel_address(self, address: Address) -> UdpAddress:
        """The address in the form that this socket's family takes."""
        host, port = address[:2]
        if self.is_ipv6 and ":" not in host:
            return MAPPED_PREFIX + host, port
        return host, port

    def close(self) -> None:
        self.socket.close()


def _ask_for_stamps(sock: socket.socket) -> bool:
    """Have the kernel say with each datagram when it came in (`received_at`). False where that is not known."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        return False
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True


def received_at(ancillary: list[tuple[int, int, bytes]]) -> float:
    """When the kernel received the datagram that came with these control messages: Unix time, 0.0 if none says so."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(data) == _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack(data)
            return float(seconds + nanoseconds * 1e-9)
    return 0.0


def keep_last_stamp(sock: socket.socket) -> None:
    """Have the kernel remember when the datagram that was taken last came in, instead of saying so with each: for who
    wants to know it now and then (`last_received_at`)."""
    if sys.platform == "linux" and _ask_for_stamps(sock):
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 0)
        last_received_at(sock)  # the first question only switches it on


def last_received_at(sock: socket.socket) -> float:
    """When the datagram that was taken last came in: Unix time, 0.0 where that is not known."""
    if sys.platform != "linux":
        return 0.0
    try:
        seconds, nanoseconds = _TIMESPEC.unpack(fcntl.ioctl(sock, _SIOCGSTAMPNS, bytes(_TIMESPEC.size)))
    except OSError:
        return 0.0
    return float(seconds + nanoseconds * 1e-9)


def open_udp_socket(ip: str, port: int) -> UdpSocket:
    """Bind a UDP socket to `ip` ("::" serves IPv4 too). Raises `EngineStartError` with what to change."""
    try:
        is_ipv6 = ipaddress.ip_address(ip).version == 6
    except ValueError:
        raise EngineStartError(f"{ip!r} is not an IP address to listen on for media") from None
    sock = socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if is_ipv6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if ip == "::" else 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, DSCP_EXPEDITED)
        if not is_ipv6 or ip == "::":
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, DSCP_EXPEDITED)
        _enlarge_buffers(sock)
        sock.bind((ip, port))
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise EngineStartError(f"the media port {port} (UDP) on {ip} is in use by another program") from error
        raise EngineStartError(f"cannot listen for media on {ip} port {port} (UDP): {error.strerror}") from error
    return UdpSocket(sock)


def _enlarge_buffers(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    if sys.platform == "linux":
        for option in (_SO_SNDBUFFORCE, _SO_RCVBUFFORCE):
            with suppress(PermissionError):  # then what the limits allow
                sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
