"""A room that a recorder taps, without sessions: its program is the real one, its speakers are the test's."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

import trio

from lac.recordings.model import Recording, RecordingStatus
from lac_media.container.ogg_opus import OggOpusReader
from lac_media.errors import UnknownProducerError
from lac_media.parameters import OPUS_CLOCK_RATE_HZ
from lac_media.proto.opus import duration_ticks_untrusted
from lac_media.proto.rtp import RtpPacket
from lac_media.rooms.program import Program
from lac_media.rooms.tap import Tap, TapPoint

T = TypeVar("T")
FRAME = 960
STARTED_AT = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


class Inline:
    """Runs what blocks at once: in virtual time there are no threads. `gate` holds it back, as a slow disk does."""

    def __init__(self) -> None:
        self.gate: trio.Event | None = None
        self.delay_s = 0.0

    async def __call__(self, job: Callable[[], T], /) -> T:
        await trio.lowlevel.checkpoint()
        if self.gate is not None:
            await self.gate.wait()
        await trio.sleep(self.delay_s)
        return job()


def opus(number: int) -> bytes:
    """A frame of 20 ms, stereo, that can be told from others, and that a decoder takes."""
    return b"\xfc" + number.to_bytes(4, "big") + bytes(range(1, 40))


class Speaker:
    """Sends what it is told to when it is told to: by its own clock."""

    def __init__(self, room: Room, person_id: str, producer_id: str, *, first_timestamp: int = 4_294_000_000) -> None:
        self.person_id = person_id
        self.producer_id = producer_id
        self.taps = TapPoint()
        self._room = room
        self._first_timestamp = first_timestamp
        self._sequence = 65_000

    def send(self, ticks: int, payload: bytes, *, now: float, level: int | None = 30) -> None:
        """`ticks` is the time by this speaker's clock."""
        self._sequence += 1
        stamp = (self._first_timestamp + ticks) & 0xFFFF_FFFF
        packet = RtpPacket(111, self._sequence & 0xFFFF, stamp, 1, payload=payload)
        self._room.receive(self, packet, level, now=now)


class Room:
    """`tick` has the program do what it does while time passes."""

    def __init__(self) -> None:
        self.program = Program(ssrc=1, first_sequence=30_000, first_timestamp=4_294_900_000, now=trio.current_time())
        self.program_taps = TapPoint()
        self.speakers: dict[str, Speaker] = {}
        self.heard: set[str] = set()

    def add(self, person_id: str, producer_id: str | None = None, **kwargs: int) -> Speaker:
        speaker = Speaker(self, person_id, producer_id or f"producer of {person_id}", **kwargs)
        self.speakers[speaker.producer_id] = speaker
        return speaker

    def leave(self, speaker: Speaker) -> None:
        del self.speakers[speaker.producer_id]
        speaker.taps.end()

    def receive(self, speaker: Speaker, packet: RtpPacket, level: int | None, *, now: float) -> None:
        self.tick(now)
        sent = self.program.receive(speaker, packet, level, now=now)
        if sent is not None:
            self.program_taps.offer_program(sent)
        speaker.taps.offer_rtp(packet, level, now=now)

    def tick(self, now: float) -> None:
        for packet in self.program.handle_timer(now=now):
            self.program_taps.offer_program(packet)

    # what a take needs

    def tap_program(self) -> Tap:
        return self.program_taps.open()

    def tap_speaker(self, producer_id: str) -> Tap:
        if producer_id not in self.speakers:
            raise UnknownProducerError("there is no such producer (any more)")
        return self.speakers[producer_id].taps.open()

    def producers(self) -> list[tuple[str, str]]:
        return [(speaker.producer_id, speaker.person_id) for speaker in self.speakers.values()]

    def media_time_s(self) -> float:
        return self.program.media_time_s(now=trio.current_time())


def a_recording(recording_id: str = "rec-1") -> Recording:
    return Recording(
        id=recording_id,
        broadcast_id="show-1",
        status=RecordingStatus.RECORDING,
        title="A show",
        description="",
        storage_key=None,
        content_type=None,
        size_bytes=None,
        duration_s=None,
        sha256=None,
        started_at=STARTED_AT,
        ended_at=None,
        created_at=STARTED_AT,
        media_start_s=0.0,
        part=1,
        started_by=None,
        end_reason=None,
        failure=None,
        lost_s=0.0,
        revision=1,
    )


def positions(data: bytes) -> tuple[dict[bytes, float], float]:
    """Where each packet of an Ogg Opus file begins, and how long all are: seconds on the recording's time line."""
    found, ticks = {}, 0
    for packet in OggOpusReader().receive(data):
        found[packet] = ticks / OPUS_CLOCK_RATE_HZ
        ticks += duration_ticks_untrusted(packet)
    return found, ticks / OPUS_CLOCK_RATE_HZ
