"""A recorded track is as long as the clock says, plays everywhere, and survives being cut off."""

from __future__ import annotations

import io
import random

import av

from lac_media.container.ogg_opus import OggOpusReader, mend_ogg_opus
from lac_media.proto.opus import duration_ticks_untrusted
from lac_media.rooms.track import Gap, Track

FRAME = 960
AUDIO = b"\xfc" + bytes(range(1, 60))


def duration_ticks(data: bytes) -> int:
    mended = mend_ogg_opus(io.BytesIO(data))
    assert mended.was_complete
    return mended.duration_ticks + 312


def test_in_an_hour_of_loss_pauses_absence_and_a_wrong_clock_nothing_is_off_by_20_ms() -> None:
    """An hour in virtual time: a host whose clock is 80 ppm fast, 1 % loss, pauses with DTX, and 100 s of absence."""
    rng = random.Random(5)
    track = Track(1, 0)
    data = bytearray(track.begin())
    spoken: dict[bytes, float] = {}
    for number in range(3600 * 50):
        spoken_at = number * 0.02 / (1 + 80e-6)
        pausing = (number // 500) % 10 == 9 and number % 20
        if 1000 <= spoken_at < 1100 or pausing or rng.random() < 0.01:
            if number % 50 == 0:
                data += track.advance(round(spoken_at * 48_000))
            continue
        payload = AUDIO + number.to_bytes(3, "big")
        spoken[payload] = spoken_at
        data += track.receive(number * FRAME, payload, 30, now=spoken_at + 0.02 + rng.random() * 0.02)
    end = 3600 * 48_000
    data += track.end(end)
    assert abs(duration_ticks(bytes(data)) - end) < 20 * 48
    position, worst = 0, 0.0
    for packet in OggOpusReader().receive(bytes(data)):
        if packet in spoken:
            worst = max(worst, abs(position / 48_000 - spoken[packet]))
        position += duration_ticks_untrusted(packet)
    assert worst < 0.020
    assert max(gap.duration_ticks for gap in track.gaps) >= 99 * 48_000
    assert track.unlisted_gaps == 0
    assert 0 < track.clock_shifts < 60


def test_what_the_gaps_say_is_silent_in_the_file() -> None:
    track = Track(1, 48_000)
    data = track.begin()
    for number in range(100):
        if not 30 <= number < 60:
            data += track.receive(48_000 + number * FRAME, AUDIO, None, now=10 + number * 0.02)
        data += track.advance(48_000 + number * FRAME)
    data += track.end(48_000 + 120 * FRAME)
    assert track.gaps == [Gap(30 * FRAME, 30 * FRAME), Gap(100 * FRAME, 20 * FRAME)]
    assert duration_ticks(data) == 120 * FRAME
    with av.open(io.BytesIO(data)) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) == 120 * FRAME - 312


def test_what_a_killed_process_leaves_lacks_less_than_a_second() -> None:
    track = Track(1, 0)
    data = track.begin()
    for number in range(1000):
        data += track.receive(number * FRAME, AUDIO, None, now=number * 0.02)
        if number > 60 and number % 13 == 0:
            left = mend_ogg_opus(io.BytesIO(data))
            assert (number + 1) * FRAME - left.duration_ticks < 48_000
