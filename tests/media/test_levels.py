"""Who is speaking, from the sound itself, where clients say nothing of it (FFmpeg, GStreamer): real Opus, decoded."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from lac_media.opus import Decoder, OpusError
from lac_media.opus.library import APPLICATION_AUDIO, APPLICATION_VOIP
from lac_media.rooms.levels import FALL_DB_PER_S, LOUDEST, SILENT_DBOV, SPEAKING_DBOV, STALE_S, Levels, dbov_of
from tests.mix.material import voice
from tests.mix.show import Speaker, Wave, silence, sine

#: libopus refuses it: of the packets that code 3 announces there is nothing.
CORRUPT = b"\xff"


class Microphones:
    """Levels in virtual time, fed by speakers whose packets come when they are made."""

    def __init__(self) -> None:
        self.now = 10.0
        self.levels = Levels()

    def hear(self, seconds: float, *speakers: Speaker) -> None:
        until = self.now + seconds
        while self.now < until - 1e-9:
            for speaker in speakers:
                packet = speaker.packet()
                if speaker.would_send(packet):
                    self.levels.receive(speaker.name, packet.payload, None, now=self.now)
            self.now += speakers[0].interval_s

    def level(self, speaker: Speaker) -> float:
        return self.levels.level(speaker.name, now=self.now)

    @property
    def speaking(self) -> list[object]:
        return list(self.levels.speaking(now=self.now))


def test_the_level_is_that_of_the_samples() -> None:
    """0 is a square wave at full scale, so a sine has 3 dB less (RFC 6464)."""
    t = np.arange(4800) / 48_000
    for amplitude in (1.0, 0.1, 0.001):
        both = np.stack([amplitude * np.sin(2 * np.pi * 1000 * t)] * 2, axis=1).astype(np.float32)
        assert dbov_of(both) == pytest.approx(20 * np.log10(amplitude) - 3.01, abs=0.01)
        assert dbov_of(np.sign(both) * np.float32(amplitude)) == pytest.approx(20 * np.log10(amplitude), abs=0.1)


def test_levels_stay_between_silence_and_full_scale() -> None:
    assert dbov_of(np.full((960, 2), 3.0, np.float32)) == 0.0
    assert dbov_of(np.full((960, 2), 1e-12, np.float32)) == SILENT_DBOV
    assert dbov_of(np.zeros((960, 2), np.float32)) == SILENT_DBOV
    assert dbov_of(np.zeros((0, 2), np.float32)) == SILENT_DBOV


@pytest.mark.parametrize("ticks", [480, 960, 2880])
@pytest.mark.parametrize(("application", "bitrate"), [(APPLICATION_VOIP, 24_000), (APPLICATION_AUDIO, 128_000)])
@pytest.mark.parametrize("amplitude", [0.8, 0.1, 0.01])
def test_loud_and_soft_speakers_are_told_apart_by_their_sound(
    amplitude: float, application: int, bitrate: int, ticks: int
) -> None:
    room = Microphones()
    speaker = Speaker("a", sine(440, amplitude), application=application, bitrate_bps=bitrate, ticks=ticks)
    room.hear(0.6, speaker)
    assert room.level(speaker) == pytest.approx(20 * np.log10(amplitude) - 3, abs=2)
    assert room.speaking == ["a"]


@pytest.mark.parametrize("wave", [silence, sine(440, 0.001)], ids=["digital silence", "the noise of a room"])
def test_an_open_microphone_with_nothing_to_say_is_not_speaking(wave: Wave) -> None:
    room = Microphones()
    host, quiet = Speaker("host", voice(1, 0.5)), Speaker("quiet", wave, ssrc=2)
    room.hear(1.0, host, quiet)
    assert room.speaking == ["host"]
    assert room.level(quiet) < SPEAKING_DBOV - 10


def test_of_two_who_speak_the_louder_one_is_named_first() -> None:
    room = Microphones()
    soft, loud = Speaker("soft", voice(1, 0.05)), Speaker("loud", voice(2, 0.5), ssrc=2)
    room.hear(2.0, soft, loud)
    assert room.speaking == ["loud", "soft"]
    assert 10 < room.level(loud) - room.level(soft) < 30


def test_the_end_of_speech_shows_though_dtx_sends_next_to_nothing_and_its_beginning_at_once() -> None:
    room = Microphones()
    talking = lambda t: voice(1, 0.5)(t) * ((t < 1.0) | (t > 6.0))  # noqa: E731
    speaker = Speaker("a", talking, application=APPLICATION_VOIP, bitrate_bps=24_000, dtx=True)
    room.hear(1.0, speaker)
    assert room.speaking == ["a"]
    room.hear(2.0, speaker)
    assert len(speaker.sent[-1]) <= 2, "it does not use DTX"
    for _ in range(30):
        room.hear(0.1, speaker)
        assert room.speaking == []
    room.hear(0.3, speaker)
    assert room.speaking == ["a"]


def test_packets_that_cannot_be_decoded_are_silence_that_sets_in_slowly_and_do_no_harm() -> None:
    with pytest.raises(OpusError):
        Decoder().decode(CORRUPT)
    room = Microphones()
    speaker = Speaker("a", sine(440, 0.5))
    room.hear(1.0, speaker)
    levels = [room.level(speaker)]
    for _ in range(60):
        room.levels.receive("a", CORRUPT, None, now=room.now)
        levels.append(room.level(speaker))
        room.now += 0.02
    assert [a - b for a, b in pairwise(levels)] == pytest.approx([FALL_DB_PER_S * 0.02] * 60)
    assert room.speaking == []
    room.hear(0.4, speaker)
    assert room.level(speaker) == pytest.approx(-9, abs=2)


def test_whoever_sends_only_what_cannot_be_decoded_never_speaks() -> None:
    room = Microphones()
    for n in range(100):
        room.levels.receive("a", CORRUPT, None, now=room.now + n * 0.02)
    assert room.levels.level("a", now=room.now + 2.0) == SILENT_DBOV


def test_a_client_that_sends_levels_is_believed_and_one_from_whom_nothing_comes_is_silent() -> None:
    room = Microphones()
    packet = Speaker("a", sine(440, 0.8)).packet()
    for n in range(50):
        room.now += 0.02
        room.levels.receive("a", packet.payload, 30 | 0x80 * (n % 2), now=room.now)
    assert room.levels.level("a", now=room.now) == -30
    assert room.levels.level("a", now=room.now + STALE_S + 0.01) == SILENT_DBOV


def test_the_loudest_of_many_are_chosen_by_their_sound_too() -> None:
    room = Microphones()
    soft = [Speaker(str(n), sine(300 + 100 * n, 0.02), ssrc=n) for n in range(LOUDEST)]
    late = Speaker("late", sine(1000, 0.3), ssrc=9)
    room.hear(1.0, *soft)
    assert all(room.levels.is_among_loudest(speaker.name, now=room.now) for speaker in soft)
    room.hear(1.0, *soft, late)
    assert room.levels.is_among_loudest("late", now=room.now)
    assert sum(room.levels.is_among_loudest(speaker.name, now=room.now) for speaker in soft) == LOUDEST - 1
