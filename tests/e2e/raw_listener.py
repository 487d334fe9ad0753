"""A listener that sees the packets themselves: our own client role, which decodes nothing and reorders nothing."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate, pairwise

import trio

from lac_media.certificate import make_dtls_identity
from lac_media.net.peer_task import ClientPeer
from lac_media.net.udp import open_udp_socket
from lac_media.parameters import (
    DtlsParameters,
    DtlsRole,
    Fingerprint,
    IceCandidate,
    IceParameters,
    ProducerParameters,
)
from lac_media.proto.peer import PeerClosed, PeerEvent, RtpReceived
from lac_media.proto.rtp import RtpPacket
from tests.e2e.hearing import PATIENCE_S
from tests.e2e.server import LacServer
from tests.e2e.tone import RATE_HZ


class RawListener:
    """Records every packet of the program as it arrives, with the time."""

    def __init__(self, server: LacServer, show_id: str, token: str | None = None) -> None:
        self.arrivals: list[tuple[float, RtpPacket]] = []
        self.port = 0
        self.close_reason: str | None = None
        self.closed_at: float | None = None
        self._changed = threading.Condition()
        self._server = server
        self._path = f"/api/mediasoup/{show_id}/transports"
        self._token = token
        self._thread = threading.Thread(target=trio.run, args=(self._main,), name="raw listener")
        self._peer: ClientPeer | None = None
        self._trio_token: trio.lowlevel.TrioToken | None = None
        self._failed: BaseException | None = None
        self._running = trio.CancelScope()

    def start(self) -> None:
        self._thread.start()
        self.wait_for_packets(1)

    def stop(self) -> None:
        peer, trio_token = self._peer, self._trio_token
        if peer is not None and trio_token is not None:
            with contextlib.suppress(trio.RunFinishedError):  # the server hung up first
                trio_token.run_sync_soon(peer.close)
                trio_token.run_sync_soon(self._running.cancel)  # a server that is gone does not answer
        self._thread.join()

    def wait_for_packets(self, count: int) -> None:
        """Until `count` more packets have come."""
        with self._changed:
            wanted = len(self.arrivals) + count
            arrived = self._changed.wait_for(
                lambda: len(self.arrivals) >= wanted or self.close_reason is not None, PATIENCE_S
            )
            assert arrived, f"{len(self.arrivals)} of {wanted} packets came"
            assert self.close_reason is None, self.close_reason

    def wait_closed(self, timeout_s: float = PATIENCE_S) -> float:
        """Until the server has hung up; the monotonic time of it."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.closed_at is not None, timeout_s), "still connected"
        assert self.closed_at is not None
        return self.closed_at

    def check_one_unbroken_stream(self) -> None:
        """One SSRC, no sequence number missing or out of order, timestamps that run with the clock."""
        arrivals = list(self.arrivals)  # more come meanwhile, in the other thread
        packets = [packet for _, packet in arrivals]
        assert len({packet.ssrc for packet in packets}) == 1
        steps = [(later.sequence - earlier.sequence) & 0xFFFF for earlier, later in pairwise(packets)]
        assert set(steps) == {1}, f"sequence steps {sorted(set(steps))}"
        ticks = [(later.timestamp - earlier.timestamp) & 0xFFFF_FFFF for earlier, later in pairwise(packets)]
        assert all(0 < step < 2**31 for step in ticks), "a timestamp goes back"
        media_s = [total / RATE_HZ for total in accumulate(ticks, initial=0)]
        late_s = [at - media for (at, _), media in zip(arrivals, media_s, strict=True)]
        # By the most prompt ones of the first and the last quarter: a busy machine makes single ones late, and one that
        # has four times as much to do as it can made a whole quarter late by a second.
        quarter = -(-len(late_s) // 4)
        drift_s = min(late_s[-quarter:]) - min(late_s[:quarter])
        assert abs(drift_s) < 1.5, f"{media_s[-1]:.2f} s of media took {drift_s:.2f} s more"

    async def _main(self) -> None:
        self._trio_token = trio.lowlevel.current_trio_token()
        identity = make_dtls_identity()
        peer = ClientPeer(open_udp_socket("127.0.0.1", 0), identity, on_event=self._on_event)
        self.port = peer.socket.local_address[1]
        ice, candidate, dtls, expected = await trio.to_thread.run_sync(self._signal, peer.fingerprint)
        core = peer.connect(ice, candidate, dtls)
        core.expect_stream(expected)
        self._peer = peer
        with self._running:
            await peer.run()

    def _signal(
        self, fingerprint: Fingerprint
    ) -> tuple[IceParameters, IceCandidate, DtlsParameters, ProducerParameters]:
        """Open the transport and the consumer. Its own connection: this runs beside the test."""
        call, token = self._server.call, self._token
        transport = call("POST", self._path, token=token, json={"direction": "recv"})
        base = f"/api/mediasoup/transports/{transport['id']}"
        ours = {"role": "client", "fingerprints": [{"algorithm": fingerprint.algorithm, "value": fingerprint.value}]}
        call("POST", f"{base}/connect", token=token, json={"dtlsParameters": ours})
        capabilities = call("GET", self._path.removesuffix("transports") + "rtp-capabilities", token=token)
        consumer = call("POST", f"{base}/consume", token=token, json=capabilities)
        candidate = transport["iceCandidates"][0]
        codec = consumer["rtpParameters"]["codecs"][0]
        return (
            IceParameters(transport["iceParameters"]["usernameFragment"], transport["iceParameters"]["password"]),
            IceCandidate(candidate["foundation"], candidate["priority"], candidate["address"], candidate["port"]),
            DtlsParameters(
                DtlsRole.SERVER,
                tuple(Fingerprint(f["algorithm"], f["value"]) for f in transport["dtlsParameters"]["fingerprints"]),
            ),
            ProducerParameters(codec["payloadType"], consumer["rtpParameters"]["encodings"][0]["ssrc"]),
        )

    def _on_event(self, event: PeerEvent) -> None:
        with self._changed:
            if isinstance(event, RtpReceived):
                self.arrivals.append((time.monotonic(), event.packet))
            elif isinstance(event, PeerClosed):
                self.close_reason, self.closed_at = event.reason, time.monotonic()
            self._changed.notify_all()


@contextmanager
def recording_packets(server: LacServer, show_id: str, token: str | None = None) -> Iterator[RawListener]:
    """Packets are arriving when the block begins."""
    listener = RawListener(server, show_id, token)
    try:
        listener.start()
        yield listener
    finally:
        listener.stop()
