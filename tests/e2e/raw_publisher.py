"""A publisher whose packets are numbered, so that a raw listener can tell whether each of them arrived."""

from __future__ import annotations

import contextlib
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import trio

from lac_media.certificate import make_dtls_identity
from lac_media.errors import LocalProtocolError
from lac_media.net.peer_task import ClientPeer
from lac_media.net.udp import open_udp_socket
from lac_media.parameters import DtlsParameters, DtlsRole, Fingerprint, IceCandidate, IceParameters
from lac_media.proto.peer import PeerClosed, PeerConnected, PeerEvent
from lac_media.proto.rtp import RtpPacket
from tests.e2e.hearing import PATIENCE_S
from tests.e2e.server import LacServer

PAYLOAD_TYPE = 100
FRAME_S = 0.02
FRAME_TICKS = 960
#: Opus' first byte: one frame of 20 ms, stereo. The program's own silence begins otherwise.
_TOC = b"\xfc"


def frame(number: int) -> bytes:
    return _TOC + struct.pack("!I", number)


def frame_number(payload: bytes) -> int | None:
    """None for silence."""
    return struct.unpack("!I", payload[1:])[0] if payload[:1] == _TOC and len(payload) == 5 else None


def missing_frames(payloads: Iterable[bytes]) -> list[tuple[int, int]]:
    """Neighbours among the frames heard that were no neighbours when they were sent."""
    numbers = [number for payload in payloads if (number := frame_number(payload)) is not None]
    return [(before, after) for before, after in pairwise(numbers) if after != before + 1]


class RawPublisher:
    """Sends a frame every 20 ms by the clock, in a thread of its own, from being connected until it is stopped."""

    def __init__(self, server: LacServer, show_id: str, token: str) -> None:
        self.sent = 0
        self.close_reason: str | None = None
        self._server = server
        self._path = f"/api/mediasoup/{show_id}/transports"
        self._token = token
        self._sending = threading.Event()
        self._connected: trio.Event
        self._running = trio.CancelScope()
        self._peer: ClientPeer | None = None
        self._trio_token: trio.lowlevel.TrioToken | None = None
        self._thread = threading.Thread(target=trio.run, args=(self._main,), name="raw publisher")

    def start(self) -> None:
        self._thread.start()
        assert self._sending.wait(PATIENCE_S), "the publisher is not connected"

    def stop(self) -> None:
        peer, trio_token = self._peer, self._trio_token
        if peer is not None and trio_token is not None:
            with contextlib.suppress(trio.RunFinishedError):  # the server hung up first
                trio_token.run_sync_soon(peer.close)
                trio_token.run_sync_soon(self._running.cancel)  # a server that is gone does not answer
        self._thread.join()

    async def _main(self) -> None:
        self._trio_token = trio.lowlevel.current_trio_token()
        self._connected = trio.Event()
        peer = ClientPeer(open_udp_socket("127.0.0.1", 0), make_dtls_identity(), on_event=self._on_event)
        peer.connect(*await trio.to_thread.run_sync(self._signal, peer.fingerprint, peer.ssrc))
        self._peer = peer
        with self._running:
            await self._send_while_open(peer)

    async def _send_while_open(self, peer: ClientPeer) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send, peer)
            await peer.run()
            nursery.cancel_scope.cancel()

    async def _send(self, peer: ClientPeer) -> None:
        await self._connected.wait()
        began_at = trio.current_time()
        while True:
            number = self.sent
            await trio.sleep_until(began_at + number * FRAME_S)
            packet = RtpPacket(PAYLOAD_TYPE, number & 0xFFFF, number * FRAME_TICKS, peer.ssrc, payload=frame(number))
            with contextlib.suppress(LocalProtocolError):  # it has just been closed
                peer.send_rtp(packet)
            self.sent += 1
            self._sending.set()

    def _signal(self, fingerprint: Fingerprint, ssrc: int) -> tuple[IceParameters, IceCandidate, DtlsParameters]:
        call, token = self._server.call, self._token
        transport = call("POST", self._path, token=token, json={"direction": "send"})
        base = f"/api/mediasoup/transports/{transport['id']}"
        ours = {"role": "client", "fingerprints": [{"algorithm": fingerprint.algorithm, "value": fingerprint.value}]}
        call("POST", f"{base}/connect", token=token, json={"dtlsParameters": ours})
        codec = {"mimeType": "audio/opus", "payloadType": PAYLOAD_TYPE, "clockRate": 48_000, "channels": 2}
        parameters = {"codecs": [codec], "encodings": [{"ssrc": ssrc}]}
        call("POST", f"{base}/produce", token=token, json={"kind": "audio", "rtpParameters": parameters})
        ice, candidate, dtls = (transport[name] for name in ("iceParameters", "iceCandidates", "dtlsParameters"))
        return (
            IceParameters(ice["usernameFragment"], ice["password"]),
            IceCandidate(
                candidate[0]["foundation"], candidate[0]["priority"], candidate[0]["address"], candidate[0]["port"]
            ),
            DtlsParameters(
                DtlsRole.SERVER, tuple(Fingerprint(f["algorithm"], f["value"]) for f in dtls["fingerprints"])
            ),
        )

    def _on_event(self, event: PeerEvent) -> None:
        if isinstance(event, PeerConnected):
            self._connected.set()
        elif isinstance(event, PeerClosed):
            self.close_reason = event.reason


@contextmanager
def publishing_frames(server: LacServer, show_id: str, token: str) -> Iterator[RawPublisher]:
    """Frames are being sent when the block begins."""
    publisher = RawPublisher(server, show_id, token)
    try:
        publisher.start()
        yield publisher
    finally:
        publisher.stop()
