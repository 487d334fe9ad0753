"""libopus through cffi: what goes in comes out, and nothing leaks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lac_media.errors import EngineStartError
from lac_media.opus import Decoder, Encoder, OpusError, Pcm, library, opus_version
from lac_media.opus.library import APPLICATION_AUDIO, APPLICATION_LOW_DELAY, APPLICATION_VOIP, opus_library
from lac_media.proto.opus import parse_opus_untrusted
from tests.mix.hearing import tone
from tests.mix.show import RATE

FRAME = 960


def frames(hertz: float, count: int, amplitude: float = 0.2) -> list[Pcm]:
    t = np.arange(count * FRAME) / RATE
    mono = (amplitude * np.sin(2 * np.pi * hertz * t)).astype(np.float32)
    pcm = np.ascontiguousarray(np.stack((mono, mono), axis=1))
    return [pcm[start : start + FRAME] for start in range(0, len(pcm), FRAME)]


def test_it_is_libopus() -> None:
    assert opus_version().startswith("libopus 1.")


@pytest.mark.parametrize("application", [APPLICATION_AUDIO, APPLICATION_LOW_DELAY])
def test_a_tone_survives_and_is_late_by_the_lookahead(application: int) -> None:
    encoder, decoder = Encoder(bitrate_bps=96_000, application=application), Decoder()
    original = np.concatenate(frames(440, 50))
    heard = np.concatenate([decoder.decode(encoder.encode(frame)) for frame in frames(440, 50)])
    assert tone(heard[RATE // 2 :], 440) == pytest.approx(0.2, rel=0.02)
    late = encoder.lookahead_ticks
    difference = heard[RATE // 2 + late :] - original[RATE // 2 : -late]
    assert np.abs(difference).max() < 0.02


def test_channels_stay_apart() -> None:
    encoder, decoder = Encoder(bitrate_bps=256_000), Decoder()
    left = np.concatenate(frames(440, 50))
    left[:, 1] = 0
    heard = np.concatenate([decoder.decode(encoder.encode(left[n : n + FRAME])) for n in range(0, len(left), FRAME)])
    assert np.abs(heard[RATE // 2 :, 0]).max() > 0.19
    assert np.abs(heard[RATE // 2 :, 1]).max() < 0.005


@pytest.mark.parametrize("application", [APPLICATION_VOIP, APPLICATION_AUDIO, APPLICATION_LOW_DELAY])
def test_both_ends_go_back_to_where_they_were_saved(application: int) -> None:
    encoder, decoder = Encoder(bitrate_bps=48_000, application=application), Decoder()
    before, after, other = voice(20)[:10], voice(20)[10:], frames(440, 10, 0.9)
    for frame in before:
        decoder.decode(encoder.encode(frame))
    saved = encoder.save(), decoder.save()
    packets = [encoder.encode(frame) for frame in after]
    heard = [decoder.decode(packet) for packet in packets]
    encoder.set_bitrate(192_000)
    for frame in other:
        decoder.decode(encoder.encode(frame))
    encoder.load(saved[0])
    decoder.load(saved[1])
    assert [encoder.encode(frame) for frame in after] == packets
    assert np.array_equal(np.concatenate([decoder.decode(packet) for packet in packets]), np.concatenate(heard))
    encoder.set_bitrate(192_000)
    assert sum(len(encoder.encode(frame)) for frame in after) > 2 * sum(map(len, packets))


def voice(packets: int) -> list[Pcm]:
    """Something that libopus takes for speech, with a pitch that changes every 40 ms: nothing can be guessed."""
    rng = np.random.default_rng(1)
    out, phase = [], 0.0
    for number in range(packets):
        turns = phase + (1 + np.arange(FRAME)) * (130, 210, 160, 250, 180)[number // 2 % 5] / RATE
        phase = turns[-1] % 1
        loudness = 0.3 + 0.25 * np.sin(number / 2)
        mono = ((1 - 2 * (turns % 1)) * loudness + rng.standard_normal(FRAME) * 0.005).astype(np.float32)
        out.append(np.ascontiguousarray(np.stack((mono, mono), axis=1)))
    return out


def test_a_lost_packet_comes_back_from_the_fec_in_the_next() -> None:
    encoder = Encoder(bitrate_bps=32_000, application=APPLICATION_VOIP, fec=True, expected_loss=25)
    packets = [encoder.encode(frame) for frame in voice(60)]
    with_fec = without = 0.0
    for lost in range(30, 60 - 1, 4):
        repairing, guessing, whole = Decoder(), Decoder(), Decoder()
        for packet in packets[:lost]:
            for decoder in (repairing, guessing, whole):
                decoder.decode(packet)
        meant = whole.decode(packets[lost])
        with_fec += float(np.square(repairing.decode_lost(FRAME, packets[lost + 1]) - meant).sum())
        without += float(np.square(guessing.conceal(FRAME) - meant).sum())
    assert with_fec < 0.3 * without


def test_an_independent_packet_needs_no_packet_before_it() -> None:
    encoder = Encoder(bitrate_bps=96_000, application=APPLICATION_LOW_DELAY)
    melody = frames(440, 20)
    for frame in melody[:10]:
        encoder.encode(frame)
    packet = encoder.encode(melody[10], independent=True)
    fresh, warm = Decoder(), Decoder()
    for other in frames(1500, 5, 0.9):  # another stream's past, as loud as can be
        warm.decode(Encoder(bitrate_bps=96_000, application=APPLICATION_LOW_DELAY).encode(other))
    # What differs is the overlap with that past: 2.5 ms, and what the de-emphasis keeps of it.
    assert np.abs(fresh.decode(packet)[480:] - warm.decode(packet)[480:]).max() < 0.02


def test_dtx_is_off_unless_asked_for() -> None:
    silence = np.zeros((FRAME, 2), np.float32)
    for dtx in (False, True):
        encoder = Encoder(bitrate_bps=24_000, application=APPLICATION_VOIP, dtx=dtx)
        packets = [encoder.encode(silence) for _ in range(50)]
        assert any(parse_opus_untrusted(packet).is_dtx for packet in packets) == dtx


def test_reset_makes_a_coder_like_new() -> None:
    encoder, decoder = Encoder(bitrate_bps=96_000), Decoder()
    first = [encoder.encode(frame) for frame in frames(440, 5)]
    heard = [decoder.decode(packet) for packet in first]
    encoder.reset()
    decoder.reset()
    assert [encoder.encode(frame) for frame in frames(440, 5)] == first
    assert all(np.array_equal(decoder.decode(packet), pcm) for packet, pcm in zip(first, heard, strict=True))


@given(st.binary(min_size=1, max_size=200))
def test_garbage_raises_opus_error_or_decodes_to_numbers(payload: bytes) -> None:
    decoder = Decoder()
    try:
        pcm = decoder.decode(payload)
    except OpusError:
        pcm = decoder.conceal(FRAME)
    assert np.isfinite(pcm).all()
    assert pcm.shape[1] == 2


def test_wrong_arguments_are_refused_in_words() -> None:
    with pytest.raises(OpusError, match="invalid argument"):
        Encoder(bitrate_bps=64_000, application=1)
    with pytest.raises(OpusError, match="invalid argument"):
        Encoder(bitrate_bps=64_000).encode(np.zeros((961, 2), np.float32))
    with pytest.raises(OpusError, match="invalid argument"):
        Decoder().conceal(100)


def test_what_was_decoded_is_the_callers_own() -> None:
    encoder, decoder = Encoder(bitrate_bps=64_000), Decoder()
    one = decoder.decode(encoder.encode(frames(440, 1)[0]))
    kept = one.copy()
    decoder.decode(encoder.encode(frames(1000, 1)[0]))
    assert np.array_equal(one, kept)


def test_a_machine_without_libopus_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "find_spec", lambda name: None)
    monkeypatch.setattr(library.ctypes.util, "find_library", lambda name: "libc.so.6")
    opus_library.cache_clear()
    try:
        with pytest.raises(EngineStartError, match="pip install av"):
            opus_library()
    finally:
        opus_library.cache_clear()


def test_handles_are_freed_with_their_last_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    freed = []
    real = opus_library()

    class Counting:
        def __getattr__(self, name: str) -> object:
            function = getattr(real, name)
            if not name.endswith("_destroy"):
                return function

            def destroy(handle: object) -> None:
                freed.append(name)
                function(handle)

            return destroy

    monkeypatch.setattr("lac_media.opus.codec.opus_library", Counting)
    encoder, decoder = Encoder(bitrate_bps=64_000), Decoder()
    decoder.decode(encoder.encode(frames(440, 1)[0]))
    del encoder
    assert freed == ["opus_encoder_destroy"]
    del decoder
    assert freed == ["opus_encoder_destroy", "opus_decoder_destroy"]
