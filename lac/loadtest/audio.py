"""The audio of a load test: packets that can be told apart, so that it is known when each was sent."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence

import trio

from lac_media.errors import ParseError
from lac_media.net.peer_task import ClientPeer
from lac_media.proto.opus import parse_opus_untrusted
from lac_media.proto.rtp import RtpPacket

FRAME_S = 0.02
FRAME_TICKS = 960
PAYLOAD_TYPE = 100
#: As much as speech at 24 kbit/s.
PAYLOAD_BYTES = 60
#: SILK, wide band, 20 ms, mono: a payload of any content is a packet of Opus.
_TOC = 0x48
#: How long a sent packet is remembered.
REMEMBERED = 500


class Speech:
    """Sends 50 packets a second: `frames` over and over, or, without, packets that mean nothing. `sent` has the Unix
    time of the latest, by their content."""

    def __init__(self, peer: ClientPeer, frames: Sequence[bytes] = ()) -> None:
        self._peer = peer
        self._frames = frames
        self.sent: OrderedDict[bytes, float] = OrderedDict()
        self.packets = 0

    def sent_at_untrusted(self, payload: bytes) -> float | None:
        """The Unix time at which the first frame of a packet was sent; None if it is none of ours. Of joined packets
        (`opus3`) the first has waited for the others."""
        try:
            packet = parse_opus_untrusted(payload)
        except ParseError:
            return None
        first = payload[packet.frames_at : packet.frames_at + packet.frame_sizes[0]]
        return self.sent.get(bytes([payload[0] & 0xFC]) + first)

    async def run(self) -> None:
        due = trio.current_time()
        while True:
            self._say()
            due = max(due + FRAME_S, trio.current_time() - 0.1)
            await trio.sleep_until(due)

    def _say(self) -> None:
        number = self.packets
        self.packets += 1
        if self._frames:
            payload = self._frames[number % len(self._frames)]
        else:
            payload = bytes([_TOC]) + number.to_bytes(4, "big")
            payload += bytes(PAYLOAD_BYTES - len(payload))
        packet = RtpPacket(
            PAYLOAD_TYPE, number & 0xFFFF, number * FRAME_TICKS & 0xFFFF_FFFF, self._peer.ssrc, payload=payload
        )
        self.sent[payload] = time.time()
        self._peer.send_rtp(packet)
        if len(self.sent) > REMEMBERED:
            self.sent.popitem(last=False)
