from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from lac_media.errors import ParseError
from lac_media.proto.opus import (
    SILENCE_20MS_MONO,
    SILENCE_20MS_STEREO,
    duration_ticks_untrusted,
    is_dtx,
    parse_opus_untrusted,
)


@pytest.mark.parametrize("silence", [SILENCE_20MS_MONO, SILENCE_20MS_STEREO])
@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_libopus_plays_our_silence_as_silence_after_sound(silence: bytes, layout: str) -> None:
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 48_000, layout, "flt"
    encoder.time_base = Fraction(1, 48_000)
    channels = 1 if layout == "mono" else 2
    tone = np.sin(np.arange(960 * 10) * 2 * np.pi * 440 / 48_000).astype(np.float32) * 0.5
    packets = []
    for at in range(0, len(tone), 960):
        samples = np.repeat(tone[at : at + 960], channels)[np.newaxis]
        frame = av.AudioFrame.from_ndarray(samples, format="flt", layout=layout)
        frame.sample_rate, frame.pts = 48_000, at
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    decoder = av.CodecContext.create("libopus", "r")
    decoder.sample_rate, decoder.layout = 48_000, layout
    loud = [f for p in packets for f in decoder.decode(av.Packet(p))]
    assert max(np.abs(f.to_ndarray().astype(float)).max() for f in loud) > 0
    quiet = [f for _ in range(6) for f in decoder.decode(av.Packet(silence))]
    assert sum(f.samples for f in quiet) == 6 * 960
    assert np.abs(quiet[-1].to_ndarray().astype(float)).max() == 0
    info = parse_opus_untrusted(packets[5])
    assert (info.duration_ticks, info.channels) == (960, channels)


def test_our_silence_is_20_ms_of_one_frame() -> None:
    mono, stereo = parse_opus_untrusted(SILENCE_20MS_MONO), parse_opus_untrusted(SILENCE_20MS_STEREO)
    assert (mono.channels, stereo.channels) == (1, 2)
    assert mono.duration_ticks == stereo.duration_ticks == 960
    assert not mono.is_dtx


@pytest.mark.parametrize(
    ("config", "ticks"),
    [(0, 480), (1, 960), (2, 1920), (3, 2880), (11, 2880), (12, 480), (15, 960), (16, 120), (17, 240), (31, 960)],
)
def test_frame_durations_of_rfc_6716_table_2(config: int, ticks: int) -> None:
    assert parse_opus_untrusted(bytes((config << 3, 1, 2))).frame_ticks == ticks


@pytest.mark.parametrize(
    ("data", "sizes"),
    [
        ("f8", (0,)),
        ("f8aabb", (2,)),
        ("f9aabb", (1, 1)),
        ("fa01aabbcc", (1, 2)),
        ("fafc01" + "aa" * 256 + "bb", (256, 1)),
        ("fb03aabbcc", (1, 1, 1)),
        ("fb830101aabbcc", (1, 1, 1)),
        ("fb4202aabb0000", (1, 1)),  # two bytes of padding
        ("fbc20201aabbcc0000", (1, 2)),
    ],
)
def test_framing_codes(data: str, sizes: tuple[int, ...]) -> None:
    packet = parse_opus_untrusted(bytes.fromhex(data))
    assert packet.frame_sizes == sizes
    assert packet.duration_ticks == 960 * len(sizes) == duration_ticks_untrusted(bytes.fromhex(data))
    assert packet.frame_count == len(sizes)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "empty"),
        ("f9aa", "odd number"),
        ("fa", "before a frame's size"),
        ("fafc", "within a frame's size"),
        ("fa02aa", "claims 2 bytes, 1"),
        ("fb", "before its frame count"),
        ("fb00", "0 frames"),
        ("fb31", "49 frames"),
        ("fb07", "120 ms"),
        ("fb02aabbcc", "do not divide"),
        ("fb42", "length of its padding"),
        ("fb42ff", "length of its padding"),
        ("fb4209aa", "padding of 9 bytes"),
        ("fb8205aa", "more bytes than"),
        ("f8" + "00" * 1276, "1275"),
    ],
)
def test_malformed_framing_is_refused(data: str, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        parse_opus_untrusted(bytes.fromhex(data))


def test_signs_of_life_in_silence() -> None:
    assert is_dtx(b"\xf8")
    assert is_dtx(b"\xf8\xff")
    assert not is_dtx(SILENCE_20MS_MONO)
    assert is_dtx(bytes.fromhex("fb03"))
    assert not is_dtx(b"")
    assert not is_dtx(bytes.fromhex("fb00"))
