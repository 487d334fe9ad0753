"""The shell of a peer that has a socket of its own: our client role, in tests and load generators."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

import trio

from lac_media.certificate import DtlsIdentity
from lac_media.net.endpoint import BURST
from lac_media.net.udp import DatagramSocket
from lac_media.parameters import DtlsParameters, IceCandidate, IceParameters
from lac_media.proto.ice import IceControlling
from lac_media.proto.peer import PeerCore, PeerEvent
from lac_media.proto.rtp import RtpPacket


class ClientPeer:
    """A client of a relay, on its own socket. `run` is its task; the other methods are synchronous."""

    def __init__(self, sock: DatagramSocket, identity: DtlsIdentity, *, on_event: Callable[[PeerEvent], None]) -> None:
        self.socket = sock
        self.ice_parameters = IceParameters(secrets.token_hex(6), secrets.token_hex(18))
        self.fingerprint = identity.fingerprint
        self.ssrc = secrets.randbelow(2**32 - 1) + 1
        self._identity = identity
        self._on_event = on_event
        self.core: PeerCore | None = None

    def connect(self, ice: IceParameters, candidate: IceCandidate, dtls: DtlsParameters) -> PeerCore:
        """Take the relay's parameters and begin with the next turn of `run`."""
        now = trio.current_time()
        core = PeerCore(
            IceControlling(self.ice_parameters, ice, candidate, make_bytes=secrets.token_bytes, now=now),
            self._identity.context,
            ssrc=self.ssrc,
            cname=secrets.token_hex(8),
            unix_offset_s=time.time() - now,
            now=now,
        )
        core.connect(dtls, now=now)
        self.core = core
        return core

    def send_rtp(self, packet: RtpPacket) -> None:
        """Send one packet now. Raises `LocalProtocolError` unless connected."""
        if self.core is not None:
            self.core.send_rtp(packet, now=trio.current_time())
            self._flush(self.core)

    def close(self) -> None:
        """Say goodbye; `run` then returns."""
        if self.core is not None:
            self.core.close("left", now=trio.current_time())
            self._flush(self.core)

    async def run(self) -> None:
        """Drive the connected core until it has closed; closes the socket. Call `connect` first."""
        try:
            await self.run_until(lambda: False)
        finally:
            self.socket.close()

    async def run_until(self, done: Callable[[], bool]) -> None:
        """The same until `done()`, or until the core has closed; the socket stays open."""
        core = self.core
        while core is not None and not core.closed and not done():
            self._flush(core)
            with trio.move_on_at(core.timer_at()):
                await self.socket.wait_readable()
            now = trio.current_time()
            try:
                for _ in range(BURST):
                    data, address = self.socket.receive_nowait()
                    core.receive_datagram(data, address, now=now)
            except BlockingIOError:
                pass
            core.handle_timer(now=now)
            self._flush(core)

    def flush(self) -> None:
        """Send what the core has to send, report its events: for whoever feeds it instead of `run`."""
        if self.core is not None:
            self._flush(self.core)

    def _flush(self, core: PeerCore) -> None:
        for data, address in core.datagrams_to_send():
            self.socket.send_nowait(data, address)
        for event in core.events():
            self._on_event(event)
