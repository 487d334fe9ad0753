"""Sending one packet to many listeners: one copy each, protected under each one's key, handed over by one system call.

Both are called through ctypes, so nothing has to be compiled; where the C library has no `sendmmsg`, a loop of `sendto`
takes its place. See docs/PERFORMANCE.md for what each costs.
"""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import cffi
import numpy as np
from pylibsrtp._binding import ffi as _srtp_ffi  # the C functions behind pylibsrtp.Session, without a copy per packet
from pylibsrtp._binding import lib as _srtp_lib

from lac_media.net.udp import DatagramSocket, UdpSocket
from lac_media.parameters import Address, UdpAddress
from lac_media.proto.srtp import MAX_PACKET, SrtpSession

#: Room for one protected packet: the largest plaintext and libsrtp's trailer.
SLOT_BYTES = 1536
#: Room for so many at first: a slice of the fan-out, and more.
SCRATCH_SLOTS = 128
_SOCKADDR_BYTES = 28
#: Where the lower half of a `size_t` is: libsrtp writes lengths as `int`.
_LOW_HALF = 0 if sys.byteorder == "little" else struct.calcsize("N") - struct.calcsize("i")

_ffi = cffi.FFI()
_ffi.cdef("""
    struct iovec { void *iov_base; size_t iov_len; };
    struct msghdr {
        void *msg_name; unsigned int msg_namelen;
        struct iovec *msg_iov; size_t msg_iovlen;
        void *msg_control; size_t msg_controllen;
        int msg_flags;
    };
    struct mmsghdr { struct msghdr msg_hdr; unsigned int msg_len; };
""")
_MESSAGE_BYTES = _ffi.sizeof("struct mmsghdr")


# What follows is called through ctypes and keeps the interpreter's lock, which cffi gives up round each call. A thread
# that waits for the lock (the database's, say) is woken each time for nothing, a thousand times in a delivery, and what
# it takes it keeps for milliseconds. None of these calls blocks: the socket does not.


def _keeping_the_lock(function: Any) -> Any:
    """`err_status_t f(srtp_t context, void *packet, int *length)` of libsrtp."""
    address = int(_srtp_ffi.cast("uintptr_t", function))
    return ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)(address)


_srtp_protect = _keeping_the_lock(_srtp_ffi.addressof(_srtp_lib, "srtp_protect"))
_srtp_protect_rtcp = _keeping_the_lock(_srtp_ffi.addressof(_srtp_lib, "srtp_protect_rtcp"))


def _load_sendmmsg() -> Any:
    if sys.platform != "linux":  # the structures above are Linux's
        return None
    try:
        function = ctypes.PyDLL(None, use_errno=True).sendmmsg
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]
    return function


_sendmmsg: Any = _load_sendmmsg()


class SendBatch(Protocol):
    """A fixed number of slots, each for one listener. Slots are filled from the front.

    `send*` return how many datagrams the kernel did not take; they are lost, on purpose: late audio is worthless.
    """

    def set_slot(self, index: int, srtp: SrtpSession, address: Address) -> None: ...

    def move_slot(self, source: int, target: int) -> None:
        """Move a slot's listener, so that a hole can be closed."""

    def clear_slot(self, index: int) -> None:
        """Forget the slot's listener: its keys must not outlive it."""

    def send_rtp(self, packet: bytes, count: int) -> int:
        """Protect and send `packet` to the first `count` slots."""

    def send_rtcp(self, packets: Sequence[bytes]) -> int:
        """To each of the first slots its own packet. Rare, so that it may cost a little more."""


class Sender(Protocol):
    """A datagram socket, or all TCP connections."""

    def send_nowait(self, data: bytes, address: Address) -> bool: ...


def make_batch(sock: DatagramSocket, slots: int) -> SendBatch:
    """The fastest batch that this socket and platform allow."""
    if _sendmmsg is not None and isinstance(sock, UdpSocket):
        return MmsgBatch(sock, slots)
    return LoopBatch(sock, slots)


class _Scratch:
    """Where packets are protected. One for all batches of a socket: each fills it and hands it over in one go, and what
    then stands in it is of no further use. A batch of a single listener is thus a cheap thing."""

    def __init__(self) -> None:
        self._rooms = 0
        self._memory: Any = None

    def memory(self, slots: int) -> Any:
        """Room for that many packets, `SLOT_BYTES` apart. Earlier ones stay with whoever has them."""
        if slots > self._rooms:
            self._rooms = max(slots, SCRATCH_SLOTS)
            self._memory = _ffi.new("char[]", self._rooms * SLOT_BYTES)
        return self._memory


_scratches: WeakKeyDictionary[UdpSocket, _Scratch] = WeakKeyDictionary()


class MmsgBatch:
    """`srtp_protect` per listener into one buffer, then one `sendmmsg`.

    Nothing but libsrtp's call happens once per listener, and no line of Python: a packet is copied into all slots by
    one statement, and libsrtp reads and writes its length where the kernel will look for it.
    """

    def __init__(self, sock: UdpSocket, slots: int) -> None:
        self._sock = sock
        self._fd = sock.socket.fileno()
        self._memory = _scratches.setdefault(sock, _Scratch()).memory(slots)
        self._names = _ffi.new("char[]", slots * _SOCKADDR_BYTES)
        self._iovecs = _ffi.new("struct iovec[]", slots)
        self._messages = _ffi.new("struct mmsghdr[]", slots)
        self._messages_at = _address(self._messages)
        self._sessions: list[SrtpSession | None] = [None] * slots
        # What libsrtp is called with, by slot: addresses; the latter two as far as slots have been used.
        self._contexts: list[int | None] = [None] * slots
        self._buffers: list[int] = []
        self._lengths: list[int] = []
        # The same memory, for writing all slots at once: the packets as rows, and every `iov_len`.
        rows = np.frombuffer(memoryview(_ffi.buffer(self._memory, slots * SLOT_BYTES)), np.uint8)
        self._rows = rows.reshape(slots, SLOT_BYTES)
        self._sizes = np.frombuffer(memoryview(_ffi.buffer(self._iovecs)), np.uintp)[1::2]

    def _prepare_slot(self, index: int) -> None:
        """Tie its parts together: when it is used for the first time, because most slices are never full."""
        buffer, iovec = self._memory + index * SLOT_BYTES, self._iovecs + index
        iovec.iov_base = buffer
        self._buffers.append(_address(buffer))
        self._lengths.append(_address(_ffi.addressof(iovec, "iov_len")) + _LOW_HALF)
        header = self._messages[index].msg_hdr
        header.msg_iov = iovec
        header.msg_iovlen = 1
        header.msg_name = self._names + index * _SOCKADDR_BYTES

    def set_slot(self, index: int, srtp: SrtpSession, address: Address) -> None:
        for unused in range(len(self._buffers), index + 1):
            self._prepare_slot(unused)
        name = encode_sockaddr(self._sock.kernel_address(address), is_ipv6=self._sock.is_ipv6)
        _ffi.memmove(self._names + index * _SOCKADDR_BYTES, name, len(name))
        self._messages[index].msg_hdr.msg_namelen = len(name)
        self._bind(index, srtp)

    def move_slot(self, source: int, target: int) -> None:
        size = self._messages[source].msg_hdr.msg_namelen
        _ffi.memmove(self._names + target * _SOCKADDR_BYTES, self._names + source * _SOCKADDR_BYTES, size)
        self._messages[target].msg_hdr.msg_namelen = size
        session = self._sessions[source]
        if session is not None:
            self._bind(target, session)
        self.clear_slot(source)

    def clear_slot(self, index: int) -> None:
        self._sessions[index] = self._contexts[index] = None

    def _bind(self, index: int, srtp: SrtpSession) -> None:
        self._sessions[index] = srtp  # keeps libsrtp's context alive while its raw pointer stands beside it
        self._contexts[index] = int(_srtp_ffi.cast("uintptr_t", srtp.transmit._srtp[0]))

    def send_rtp(self, packet: bytes, count: int) -> int:
        size = len(packet)
        if size > MAX_PACKET:
            return count
        self._rows[:count, :size] = np.frombuffer(packet, np.uint8)
        self._sizes[:count] = size
        return self._send(_srtp_protect, count)

    def send_rtcp(self, packets: Sequence[bytes]) -> int:
        count = len(packets)
        if any(len(packet) > MAX_PACKET for packet in packets):
            return count
        for index, packet in enumerate(packets):
            self._rows[index, : len(packet)] = np.frombuffer(packet, np.uint8)
        self._sizes[:count] = [len(packet) for packet in packets]
        return self._send(_srtp_protect_rtcp, count)

    def _send(self, protect: Any, count: int) -> int:
        """What stands in the first slots."""
        failures = list(map(protect, self._contexts[:count], self._buffers, self._lengths))
        if any(failures):
            # A packet that cannot be protected goes out as an empty datagram: harmless, and its slot keeps its place.
            self._sizes[[index for index, failed in enumerate(failures) if failed]] = 0
        return self._hand_over(count)

    def _hand_over(self, count: int) -> int:
        sent = position = 0
        while position < count:
            messages = self._messages_at + position * _MESSAGE_BYTES
            taken = _sendmmsg(self._fd, messages, count - position, socket.MSG_DONTWAIT)
            if taken > 0:
                sent += taken
                position += taken
                continue
            error = ctypes.get_errno()
            if error == errno.EINTR:
                continue
            if error in (errno.EAGAIN, errno.ENOBUFS):
                break
            position += 1  # this destination cannot be reached; the others can
        return count - sent


class LoopBatch:
    """The same one by one: for other platforms, for in-memory networks, and for listeners over TCP."""

    def __init__(self, sender: Sender, slots: int) -> None:
        self._sender = sender
        self._slots: list[tuple[SrtpSession, Address] | None] = [None] * slots

    def set_slot(self, index: int, srtp: SrtpSession, address: Address) -> None:
        self._slots[index] = (srtp, address)

    def move_slot(self, source: int, target: int) -> None:
        self._slots[target], self._slots[source] = self._slots[source], None

    def clear_slot(self, index: int) -> None:
        self._slots[index] = None

    def send_rtp(self, packet: bytes, count: int) -> int:
        return self._send(SrtpSession.protect, [packet] * count)

    def send_rtcp(self, packets: Sequence[bytes]) -> int:
        return self._send(SrtpSession.protect_rtcp, packets)

    def _send(self, protect: Callable[[SrtpSession, bytes], bytes], packets: Sequence[bytes]) -> int:
        count = len(packets)
        if any(len(packet) > MAX_PACKET for packet in packets):
            return count
        taken = 0
        for slot, packet in zip(self._slots[:count], packets, strict=True):
            if slot is not None:
                taken += self._sender.send_nowait(protect(slot[0], packet), slot[1])
        return count - taken


def _address(pointer: Any) -> int:
    return int(_ffi.cast("uintptr_t", pointer))


def encode_sockaddr(address: UdpAddress, *, is_ipv6: bool) -> bytes:
    """`struct sockaddr_in` or `sockaddr_in6` for an address in the socket's own family. A zone ("%eth0") is kept."""
    host, port = address
    if not is_ipv6:
        return struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)
    parsed = ipaddress.IPv6Address(host)
    scope = socket.if_nametoindex(parsed.scope_id) if parsed.scope_id else 0
    return struct.pack("=H", socket.AF_INET6) + struct.pack("!HI", port, 0) + parsed.packed + struct.pack("=I", scope)
