"""Whatever is mixed, what listeners' decoders make of it does not clip; and it is not softer than that takes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from lac_media.mix.loudness import CEILING, LOOKAHEAD, Limiter, decibels
from lac_media.mix.output import BITRATE_BPS, HARMLESS, OVERLAP, Output
from lac_media.opus import Decoder, Encoder, Pcm
from lac_media.opus.library import APPLICATION_LOW_DELAY
from tests.mix.material import MATERIAL, Material, harsh, music, noise, square, voice
from tests.mix.show import RATE, Show, Speaker, Wave, sine

FRAME = 960


def frames(left: Wave, right: Wave | None, seconds: float) -> list[Pcm]:
    t = np.arange(int(seconds * RATE)) / RATE
    sides = [left(t)] * 2 if right is None else [left(t), right(t)]
    pcm = np.ascontiguousarray(np.stack(sides, axis=1).astype(np.float32))
    return [pcm[start : start + FRAME] for start in range(0, len(pcm), FRAME)]


def decoded(payloads: Iterable[bytes]) -> Pcm:
    decoder = Decoder()
    return np.concatenate([decoder.decode(payload) for payload in payloads])


@pytest.mark.parametrize("amplitude", [0.5, 0.9])
@pytest.mark.parametrize("material", MATERIAL)
def test_no_sample_of_a_decoded_mix_is_above_full_scale(material: Material, amplitude: float) -> None:
    """Two, then three of them at once, through encoders of their own."""
    for seed in range(2):
        show = Show()
        people = [Speaker(str(n), material(seed + 3 * n, amplitude), ssrc=n) for n in range(3)]
        for person in people[:2]:
            show.start(person)
        show.run(1.5)
        show.start(people[2])
        show.run(1.5)
        assert show.director.is_mixing
        mixed = len(show.out) - show.director.mixed_packets
        # Where the first mixed packet begins, half of what is heard is still what the host's own encoder has sent.
        heard = show.decoded()[mixed * FRAME + OVERLAP :]
        assert float(np.abs(heard).max()) <= 1.0
        assert float(np.abs(heard).max()) > 0.8 * amplitude
        show.assert_unbroken()


@pytest.mark.parametrize("material", [noise, harsh, music])
def test_nor_if_left_and_right_have_nothing_in_common(material: Material) -> None:
    for seed in range(3):
        limiter, output = Limiter(), Output()
        loud = frames(material(seed, 1.8), material(seed + 10, 1.8), 2.0)
        heard = decoded([output.encode(limiter.process(frame)) for frame in loud])
        assert float(np.abs(heard).max()) <= 1.0
        assert output.repeated, "nothing that it takes any care for"


@pytest.mark.parametrize("material", MATERIAL)
def test_it_is_turned_down_no_more_than_its_peaks_ask_for(material: Material) -> None:
    """Compared to what an encoder that takes no such care makes of the limiter's output."""
    for amplitude, most_db in ((0.7, 0.5), (1.4, 3.0)):
        limiter, output = Limiter(), Output()
        careless = Encoder(bitrate_bps=BITRATE_BPS, application=APPLICATION_LOW_DELAY)
        limited = [limiter.process(frame) for frame in frames(material(1, amplitude), None, 3.0)]
        heard, other = decoded(map(output.encode, limited)), decoded(map(careless.encode, limited))
        lost_db = decibels(other) - decibels(heard)
        assert lost_db <= most_db
        assert lost_db <= 20 * np.log10(np.abs(other).max() / 0.97)


@pytest.mark.parametrize("host", [sine(440, 0.89), square(1, 0.5)], ids=["tone", "square"])
def test_a_loud_speaker_is_as_loud_in_the_mix_as_alone(host: Wave) -> None:
    """The first frames of a mix are stretched, which costs half a dB as their copies do not quite match."""
    show = Show()
    show.start(Speaker("host", host))
    show.run(2.0)
    show.start(Speaker("guest", sine(1000, 0.001), ssrc=2))
    show.run(1.0)
    begin = (len(show.out) - show.director.mixed_packets) * FRAME
    heard = show.decoded()
    alone = decibels(heard[begin - RATE : begin])
    for after in range(6):
        now = begin + after * FRAME
        assert decibels(heard[now : now + FRAME]) == pytest.approx(alone, abs=0.8)


def test_what_is_not_loud_is_encoded_as_ever() -> None:
    output, encoder = Output(), Encoder(bitrate_bps=BITRATE_BPS, application=APPLICATION_LOW_DELAY)
    for frame in frames(voice(1, HARMLESS / 1.1), None, 1.0):
        assert output.encode(frame) == encoder.encode(frame)
    assert output.repeated == 0


def test_after_something_too_loud_it_comes_back_to_full_strength_without_a_click() -> None:
    output = Output()
    loud, tone = frames(noise(1, 2.4), None, 0.5), frames(sine(440, 0.45), None, 1.0)
    limiter = Limiter()
    payloads = [output.encode(limiter.process(frame)) for frame in loud]
    assert output.repeated
    payloads += [output.encode(frame) for frame in tone]
    heard = decoded(payloads)[-len(tone) * FRAME :]
    assert np.abs(heard[RATE // 2 :]).max() == pytest.approx(0.45, rel=0.02)
    assert np.abs(np.diff(heard[5 * FRAME :, 0])).max() < 1.1 * 0.45 * 2 * np.pi * 440 / RATE


def test_the_limiters_ceiling_leaves_room_for_the_encoder() -> None:
    """A tone at the ceiling, which Opus codes nearly without an error, is turned down no further."""
    output, limiter = Output(), Limiter()
    payloads = [output.encode(limiter.process(frame)) for frame in frames(sine(440, 2.0), None, 1.0)]
    heard = decoded(payloads)
    assert output.repeated == 0
    assert np.abs(heard[RATE // 2 :]).max() == pytest.approx(CEILING, rel=0.03)
    assert output.delay_ticks + LOOKAHEAD == 240
