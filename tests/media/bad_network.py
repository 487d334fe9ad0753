"""A show on bad networks in virtual time, from a publisher of ours through a real engine to listeners of ours: what is
lost on the way, and what comes too late to be played."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

import trio

from lac_media.parameters import ConsumerParameters, ProducerParameters
from lac_media.proto.peer import NackReceived, RtpReceived
from lac_media.proto.red import build_red
from lac_media.proto.rtp import RtpPacket
from tests.fakes.impairment import Impairment
from tests.media.clients import FRAME_S, PUBLISHED, Client, Studio, opus

#: What publishers and listeners call redundant audio here.
RED = 63
#: A browser's jitter buffer holds this much when it has learned that its network loses packets.
PATIENCE_S = 0.2
#: What the last so many frames were delayed by, most of them, is what it expects of the next.
FOLLOWS_FRAMES = 100
OPUS = 100
FRAME = 960


class Talker:
    """A publisher who answers questions from what it has sent, and puts one older frame along if it is to."""

    def __init__(self, client: Client, *, nack: bool, red: bool) -> None:
        self.client = client
        self.red = red
        self.sent: dict[int, RtpPacket] = {}
        self._number = 0
        self._seen = 0
        client.session._core.expect_stream(
            ProducerParameters(
                PUBLISHED, client.peer.ssrc, nack=nack, red_payload_type=RED if red else None, reduced_size_rtcp=True
            )
        )

    @property
    def count(self) -> int:
        """Frames said so far; the number of the next one."""
        return self._number

    async def talk(self, seconds: float) -> None:
        ends_at = trio.current_time() + seconds
        while trio.current_time() < ends_at - FRAME_S / 2:
            self._say()
            next_at = trio.current_time() + FRAME_S
            while trio.current_time() < next_at - 1e-6:
                self._answer()
                await trio.sleep(FRAME_S / 10)

    def _say(self) -> None:
        number = self._number
        self._number += 1
        payload_type, payload = PUBLISHED, opus(number)
        if self.red and number:
            payload_type, payload = RED, build_red(payload, [(FRAME, opus(number - 1))], payload_type=PUBLISHED)
        packet = RtpPacket(payload_type, number & 0xFFFF, number * FRAME, self.client.peer.ssrc, payload=payload)
        self.sent[packet.sequence] = packet
        self.client.peer.send_rtp(packet)

    def _answer(self) -> None:
        events = self.client.events
        for event in events[self._seen :]:
            if isinstance(event, NackReceived):
                for sequence in event.lost:
                    if sequence in self.sent:
                        self.client.peer.send_rtp(self.sent[sequence])
        self._seen = len(events)


class Ear:
    """A listener who notes when each frame of the talker came. `nack` and `red` are what it can do."""

    def __init__(self, client: Client, *, nack: bool, red: bool) -> None:
        self.client = client
        self.arrivals: dict[int, float] = {}
        core = client.peer.core
        assert core is not None
        core.expect_stream(
            ProducerParameters(
                OPUS,
                audio_level_extension_id=10,
                nack=nack,
                red_payload_type=RED if red else None,
                reduced_size_rtcp=True,
            )
        )
        on_event = client.peer._on_event

        def note(event: object) -> None:
            if isinstance(event, RtpReceived) and event.packet.payload[:1] == b"\x48":
                number = int.from_bytes(event.packet.payload[1:5], "big")
                assert number not in self.arrivals, "a frame came twice"
                self.arrivals[number] = trio.current_time()
            else:
                on_event(event)  # type: ignore[arg-type]  # whatever it is

        client.peer._on_event = note

    def out_of_order(self, first: int, last: int) -> int:
        """Of those frames, how many came after a later one."""
        newest, behind = -1, 0
        for number in self.arrivals:  # as they came
            if first <= number < last:
                behind += number < newest
                newest = max(newest, number)
        return behind

    def misses(self, first: int, last: int) -> Misses:
        """Of the frames from `first` up to but not including `last`."""
        # A frame that came straight is on time.
        offset = min(at - number * FRAME_S for number, at in self.arrivals.items())
        late = [
            self.arrivals[number] - number * FRAME_S - offset
            for number in range(first, last)
            if number in self.arrivals
        ]
        # A player follows what all packets are delayed by, as it does where the program waits for what is missing.
        usual = [0.0] + [median(late[max(0, index - FOLLOWS_FRAMES) : index]) for index in range(1, len(late))]
        too_late = sum(lateness - then > PATIENCE_S for lateness, then in zip(late, usual, strict=True))
        return Misses(last - first, last - first - len(late), too_late, sorted(late))


@dataclass
class Misses:
    frames: int
    never: int
    too_late: int
    lateness: list[float]

    @property
    def share(self) -> float:
        """Of all frames, those that were not there to be played."""
        return (self.never + self.too_late) / self.frames

    @property
    def usual_s(self) -> float:
        """What most frames were delayed by, beyond the most prompt one."""
        return median(self.lateness)


async def add_talker(studio: Studio, network: Impairment | None = None, *, nack: bool, red: bool) -> Talker:
    client = await studio.publisher("host")
    _put_on(studio, client, network)
    return Talker(client, nack=nack, red=red)


async def add_ear(
    studio: Studio, network: Impairment | None = None, *, nack: bool, red: bool, redundancy: bool = True
) -> Ear:
    """Without `redundancy` the server does not get to give it any."""
    client = await studio.listener(consumer=ConsumerParameters(red_payload_type=RED if red else None, nack=nack))
    _put_on(studio, client, network)
    if not redundancy:
        client.session._chooser = None
    return Ear(client, nack=nack, red=red)


def _put_on(studio: Studio, client: Client, network: Impairment | None) -> None:
    if network is not None:
        studio.net.own_networks[client.peer.socket.local_address[0]] = network
