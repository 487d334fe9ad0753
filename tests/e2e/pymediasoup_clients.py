"""pymediasoup as publisher and listener, signalling over `/api/mediasoup`, behind calls that block."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiortc import MediaStreamTrack
from pymediasoup import AiortcHandler, Device
from pymediasoup.models.transport import DtlsParameters, IceCandidate, IceParameters
from pymediasoup.rtp_parameters import RtpCapabilities, RtpParameters
from pymediasoup.transport import Transport

from tests.e2e.aiortc_clients import ToneTrack, listen_to
from tests.e2e.asyncio_thread import AsyncioThread
from tests.e2e.hearing import Ear
from tests.e2e.server import LacServer


class PymediasoupClient:
    def __init__(self, aio: AsyncioThread, server: LacServer, show_id: str, token: str | None) -> None:
        self.aio = aio
        self.ear = Ear()
        self.states: list[str] = []
        #: What the library said of its DTLS side.
        self.dtls_role: str | None = None
        self.transport_id: str
        self._server = server
        self._show = f"/api/mediasoup/{show_id}"
        self._token = token
        self._transport: Transport | None = None
        self._listening: asyncio.Task[None] | None = None

    def publish(self, frequency_hz: float) -> None:
        self.aio.call(self._publish(ToneTrack(frequency_hz)))

    def listen(self) -> None:
        self.aio.call(self._listen())

    def hang_up(self) -> None:
        if self._transport is not None:
            self.aio.call(self._transport.close())

    def call(self, method: str, path: str, body: object = None) -> Any:
        return self._server.call(method, path, token=self._token, json=body)

    async def _call(self, method: str, path: str, body: object = None) -> Any:
        return await asyncio.to_thread(self.call, method, path, body)

    async def _open(self, direction: str, tracks: list[MediaStreamTrack]) -> tuple[Device, Transport]:
        device = Device(AiortcHandler.createFactory(tracks=tracks))
        capabilities = await self._call("GET", f"{self._show}/rtp-capabilities")
        await device.load(RtpCapabilities(**capabilities["rtpCapabilities"]))
        answer = await self._call("POST", f"{self._show}/transports", {"direction": direction})
        self.transport_id = answer["id"]
        create = device.createSendTransport if direction == "send" else device.createRecvTransport
        transport = create(
            id=answer["id"],
            iceParameters=IceParameters(**answer["iceParameters"]),
            iceCandidates=[IceCandidate(**candidate) for candidate in answer["iceCandidates"]],
            dtlsParameters=DtlsParameters(**answer["dtlsParameters"]),
            sctpParameters=None,
            iceServers=[],
        )
        self._transport = transport

        @transport.on("connect")
        async def connect(parameters: DtlsParameters) -> None:
            self.dtls_role = parameters.role
            body = {"dtlsParameters": parameters.model_dump(exclude_none=True)}
            await self._call("POST", f"/api/mediasoup/transports/{self.transport_id}/connect", body)

        @transport.on("connectionstatechange")
        def change(state: str) -> None:
            self.states.append(state)

        return device, transport

    async def _publish(self, track: ToneTrack) -> None:
        _, transport = await self._open("send", [track])

        @transport.on("produce")
        async def produce(kind: str, parameters: RtpParameters, _: object) -> str:
            body = {"kind": kind, "rtpParameters": parameters.model_dump(exclude_none=True)}
            answer = await self._call("POST", f"/api/mediasoup/transports/{self.transport_id}/produce", body)
            producer_id: str = answer["id"]
            return producer_id

        await transport.produce(track=track)

    async def _listen(self) -> None:
        device, transport = await self._open("recv", [])
        assert device.recvRtpCapabilities is not None
        body = {"rtpCapabilities": device.recvRtpCapabilities.model_dump(exclude_none=True)}
        answer = await self._call("POST", f"/api/mediasoup/transports/{self.transport_id}/consume", body)
        consumer = await transport.consume(
            id=answer["id"],
            producerId=answer["producerId"],
            kind=answer["kind"],
            rtpParameters=RtpParameters(**answer["rtpParameters"]),
        )
        assert consumer.track is not None
        self._listening = asyncio.ensure_future(listen_to(consumer.track, self.ear))


@contextmanager
def pymediasoup_client(
    aio: AsyncioThread, server: LacServer, show_id: str, token: str | None = None
) -> Iterator[PymediasoupClient]:
    client = PymediasoupClient(aio, server, show_id, token)
    try:
        yield client
    finally:
        client.hang_up()
