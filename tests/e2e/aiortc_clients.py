"""aiortc as somebody else's encoder and player, behind calls that block."""

from __future__ import annotations

import asyncio
import fractions
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urljoin

import av
import httpx
import numpy as np
import numpy.typing as npt
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

from tests.e2e.asyncio_thread import AsyncioThread
from tests.e2e.hearing import PATIENCE_S, Ear
from tests.e2e.server import LacServer
from tests.e2e.tone import RATE_HZ, tone

FRAME_SAMPLES = 960
#: So many of the last frames played are kept.
FRAMES_KEPT = 250


class ToneTrack(MediaStreamTrack):
    """A tone that never ends, 20 ms at a time, at the pace of the clock."""

    kind = "audio"

    def __init__(self, frequency_hz: float) -> None:
        super().__init__()
        self.frequency_hz = frequency_hz
        self._started_at: float | None = None
        self._samples = 0

    async def recv(self) -> av.AudioFrame:
        if self.readyState != "live":
            raise MediaStreamError
        now = time.monotonic()
        self._started_at = self._started_at or now
        await asyncio.sleep(max(0.0, self._started_at + self._samples / RATE_HZ - now))
        samples = tone(self.frequency_hz, FRAME_SAMPLES / RATE_HZ, start_s=self._samples / RATE_HZ)
        pcm = np.repeat((samples * 32767).astype(np.int16), 2)
        frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate = RATE_HZ
        frame.pts = self._samples
        frame.time_base = fractions.Fraction(1, RATE_HZ)
        self._samples += FRAME_SAMPLES
        return frame


@dataclass(frozen=True)
class Played:
    """What came out of one packet."""

    #: In samples, as the sender counts them.
    timestamp: int
    mono: npt.NDArray[np.float32]


async def listen_to(track: MediaStreamTrack, ear: Ear, played: deque[Played] | None = None) -> None:
    """Feed the track's audio to the ear until it ends, and note in `played` what came out of each packet."""
    try:
        while True:
            frame = await track.recv()
            assert isinstance(frame, av.AudioFrame)
            assert frame.sample_rate == RATE_HZ
            pcm = frame.to_ndarray().reshape(-1, len(frame.layout.channels))
            mono = pcm.mean(axis=1).astype(np.float32) / 32768
            if played is not None:
                assert frame.pts is not None
                played.append(Played(frame.pts, mono))
            ear.hear(mono)
    except MediaStreamError:
        ear.end()


@dataclass
class HttpSession:
    """The WHIP or WHEP session that an offer has opened."""

    url: str
    etag: str
    answer: str
    token: str | None

    @classmethod
    def open(cls, server: LacServer, path: str, offer: str, token: str | None) -> HttpSession:
        headers = {"Content-Type": "application/sdp"}
        response = server.call("POST", path, token=token, content=offer, headers=headers)
        assert response.status_code == 201
        assert response.headers["content-type"].partition(";")[0] == "application/sdp"
        location = urljoin(str(response.url), response.headers["location"])
        return cls(location, response.headers["etag"], response.text, token)

    def delete(self) -> int:
        """The status of a DELETE."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return httpx.delete(self.url, headers=headers, timeout=20).status_code


class AiortcPeer:
    """A peer connection and the HTTP session behind it."""

    def __init__(self, aio: AsyncioThread, server: LacServer) -> None:
        self.aio = aio
        self.server = server
        self.ear = Ear()
        self.played: deque[Played] = deque(maxlen=FRAMES_KEPT)
        self.http: HttpSession
        self.asked_at = 0.0
        self._listening: asyncio.Task[None] | None = None
        aio.call(self._open())

    async def _open(self) -> None:
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.closed = asyncio.Event()

        @self.pc.on("connectionstatechange")
        def look() -> None:
            if self.pc.connectionState in ("closed", "failed"):
                self.closed.set()

        @self.pc.on("track")
        def hear(track: MediaStreamTrack) -> None:
            self._listening = asyncio.ensure_future(listen_to(track, self.ear, self.played))

    async def _offer(self, track: MediaStreamTrack | None) -> str:
        if track is None:
            self.pc.addTransceiver("audio", direction="recvonly")
        else:
            self.pc.addTransceiver(track, direction="sendonly")
        await self.pc.setLocalDescription(await self.pc.createOffer())
        return self.pc.localDescription.sdp

    async def _accept(self, answer: str) -> None:
        await self.pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    def _negotiate(self, path: str, track: MediaStreamTrack | None, token: str | None) -> None:
        self.asked_at = time.monotonic()
        self.http = HttpSession.open(self.server, path, self.aio.call(self._offer(track)), token)
        self.aio.call(self._accept(self.http.answer))

    def publish(self, show_id: str, frequency_hz: float, token: str) -> None:
        self._negotiate(f"/whip/{show_id}", ToneTrack(frequency_hz), token)

    def listen(self, show_id: str, token: str | None = None, query: str = "") -> None:
        self._negotiate(f"/whep/{show_id}{query}", None, token)

    @property
    def state(self) -> str:
        return str(self.pc.connectionState)

    def wait_closed(self, timeout_s: float = PATIENCE_S) -> None:
        """Until the connection has ended, by whichever side."""
        self.aio.call(asyncio.wait_for(self.closed.wait(), timeout_s))

    def hang_up(self) -> None:
        """Close the connection without a word over HTTP."""
        self.aio.call(self.pc.close())


@contextmanager
def publishing(
    aio: AsyncioThread, server: LacServer, show_id: str, frequency_hz: float, token: str
) -> Iterator[AiortcPeer]:
    """A WHIP publisher with a tone, for as long as the block lasts."""
    peer = AiortcPeer(aio, server)
    try:
        peer.publish(show_id, frequency_hz, token)
        yield peer
    finally:
        peer.hang_up()


@contextmanager
def listening(
    aio: AsyncioThread, server: LacServer, show_id: str, token: str | None = None, query: str = ""
) -> Iterator[AiortcPeer]:
    """A WHEP listener, for as long as the block lasts."""
    peer = AiortcPeer(aio, server)
    try:
        peer.listen(show_id, token, query)
        yield peer
    finally:
        peer.hang_up()
