"""Joined Opus packets: the same frames, the same sound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lac_media.errors import LocalProtocolError
from lac_media.opus import Decoder, Encoder
from lac_media.opus.library import APPLICATION_AUDIO, APPLICATION_LOW_DELAY, APPLICATION_VOIP
from lac_media.proto.opus import MAX_DURATION_TICKS, parse_opus_untrusted
from lac_media.proto.opus_join import MAX_FRAMES, OpusJoiner, join_frames

RATE = 48_000


def frames_of(data: bytes) -> list[bytes]:
    packet = parse_opus_untrusted(data)
    at, frames = packet.frames_at, []
    for size in packet.frame_sizes:
        frames.append(data[at : at + size])
        at += size
    return frames


def padded(data: bytes, padding: int) -> bytes:
    """The same frames in the form of code 3, with so many bytes of padding (at most 254)."""
    packet, frames = parse_opus_untrusted(data), frames_of(data)
    lengths = b""
    for size in packet.frame_sizes[:-1]:
        lengths += bytes([size]) if size < 252 else bytes([252 + (size & 3), (size - 252 - (size & 3)) >> 2])
    count = 0xC0 | len(frames)
    return bytes([data[0] | 3, count, padding]) + lengths + b"".join(frames) + bytes(padding)


@st.composite
def packets(draw: st.DrawFn, coding: int) -> bytes:
    """One packet of any code, coded in this way."""
    frame_ticks = parse_opus_untrusted(bytes([coding, 0])).frame_ticks
    most = min(6, MAX_DURATION_TICKS // frame_ticks)
    sizes = st.one_of(st.integers(0, 8), st.sampled_from([251, 252, 253, 300, 1275]))
    frames = [bytes([number + 1]) * draw(sizes) for number in range(draw(st.integers(1, most)))]
    data = join_frames(coding, frames)
    return padded(data, draw(st.integers(0, 254))) if draw(st.booleans()) else data


@given(st.data())
def test_what_is_joined_has_all_frames_in_order_and_keeps_the_limits(data: st.DataObject) -> None:
    codings = data.draw(st.lists(st.integers(0, 63).map(lambda n: n << 2), min_size=1, max_size=2))
    stream = [data.draw(packets(data.draw(st.sampled_from(codings)))) for _ in range(data.draw(st.integers(1, 12)))]
    max_ticks = data.draw(st.sampled_from([960, 2880, MAX_DURATION_TICKS]))
    max_bytes = data.draw(st.sampled_from([64, 1300]))
    joiner = OpusJoiner(max_ticks=max_ticks, max_bytes=max_bytes)
    out: list[bytes] = []
    groups: list[list[bytes]] = []
    for packet in stream:
        parsed = parse_opus_untrusted(packet)
        before = joiner.ticks
        if not joiner.add(parsed, packet):
            assert joiner.ticks == before > 0, "refused, and nothing has changed"
            out.append(joiner.take())
            groups.append([])
            assert joiner.add(parsed, packet), "an empty joiner takes anything"
        elif not groups:
            groups.append([])
        groups[-1].append(packet)
    out.append(joiner.take())
    assert joiner.ticks == 0
    for joined, group in zip(out, groups, strict=True):
        parsed = parse_opus_untrusted(joined)  # raises if it breaks a rule of RFC 6716 section 3.4
        assert frames_of(joined) == [frame for packet in group for frame in frames_of(packet)]
        assert {packet[0] & 0xFC for packet in group} == {joined[0] & 0xFC}
        if len(group) == 1:
            assert joined == group[0]
        else:
            assert parsed.duration_ticks <= max_ticks
            assert parsed.frame_count <= MAX_FRAMES
            assert len(joined) <= max_bytes


@pytest.mark.parametrize(
    ("frames", "packet"),
    [
        ([b"ab"], b"\xf8ab"),
        ([b"ab", b"cd"], b"\xf9abcd"),
        ([b"a", b"bcd"], b"\xfa\x01abcd"),
        ([b"a", b"b", b"c"], b"\xfb\x03abc"),
        ([b"a", b"bc", b"d"], b"\xfb\x83\x01\x02abcd"),
        ([b"x" * 255, b"y"], b"\xfa\xff\x00" + b"x" * 255 + b"y"),
        ([b"", b"", b"z"], b"\xfb\x83\x00\x00z"),
    ],
)
def test_the_smallest_form_is_chosen(frames: list[bytes], packet: bytes) -> None:
    assert join_frames(0xFB, frames) == packet
    assert frames_of(packet) == frames


def test_packets_that_are_coded_otherwise_are_refused() -> None:
    joiner = OpusJoiner(max_bytes=1300)
    first = b"\x78" + bytes(20)  # hybrid, 20 ms, mono
    assert joiner.add(parse_opus_untrusted(first), first)
    for toc in (0x7C, 0x70, 0x48, 0xF8):  # stereo; 10 ms; SILK; CELT
        other = bytes([toc]) + bytes(20)
        assert not joiner.add(parse_opus_untrusted(other), other)
    assert joiner.take() == first


def test_there_is_nothing_to_take_from_an_empty_joiner_and_no_joiner_without_limits() -> None:
    joiner = OpusJoiner(max_bytes=10)
    with pytest.raises(LocalProtocolError):
        joiner.take()
    for ticks in (0, MAX_DURATION_TICKS + 1):
        with pytest.raises(LocalProtocolError):
            OpusJoiner(max_ticks=ticks, max_bytes=10)


# What a decoder makes of it

SOUNDS = ["voice", "music", "noise", "clicks and silence"]
#: Of opus_defines.h: with wide band at the most, libopus has no use for CELT.
SET_MAX_BANDWIDTH, WIDE_BAND, FULL_BAND = 4004, 1103, 1105
#: Application, bit/s, bandwidth and frame: SILK, hybrid and CELT, in mono and stereo.
CODINGS = [
    (APPLICATION_VOIP, 10_000, FULL_BAND, 960),
    (APPLICATION_VOIP, 12_000, FULL_BAND, 480),
    (APPLICATION_VOIP, 32_000, WIDE_BAND, 960),
    (APPLICATION_VOIP, 16_000, FULL_BAND, 960),
    (APPLICATION_AUDIO, 48_000, FULL_BAND, 960),
    (APPLICATION_AUDIO, 128_000, FULL_BAND, 960),
    (APPLICATION_LOW_DELAY, 16_000, FULL_BAND, 960),
    (APPLICATION_LOW_DELAY, 96_000, FULL_BAND, 240),
    (APPLICATION_LOW_DELAY, 200_000, FULL_BAND, 960),
]


def sound(kind: str, seed: int, samples: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    t = np.arange(samples) / RATE
    if kind == "voice":
        pitch = np.cumsum(150 + 50 * np.sin(2 * np.pi * 3 * t)) / RATE
        left = (1 - 2 * (pitch % 1)) * (0.3 + 0.25 * np.sin(2 * np.pi * 2 * t))
        right = left
    elif kind == "music":
        left = sum(0.15 * np.sin(2 * np.pi * hertz * t) for hertz in random.uniform(100, 8000, 4))
        right = sum(0.15 * np.sin(2 * np.pi * hertz * t) for hertz in random.uniform(100, 8000, 4))
    elif kind == "noise":
        left, right = random.standard_normal((2, samples)) * 0.2
    else:
        left = right = np.where(t % 0.21 < 0.002, 0.8, 0.0)
    return np.ascontiguousarray(np.stack([left, right], axis=1).astype(np.float32))


def encoder_for(application: int, bitrate_bps: int, bandwidth: int, *, fec: bool = False, dtx: bool = False) -> Encoder:
    encoder = Encoder(bitrate_bps=bitrate_bps, application=application, fec=fec, expected_loss=10 * fec, dtx=dtx)
    encoder._set(SET_MAX_BANDWIDTH, bandwidth)
    return encoder


@pytest.mark.parametrize(("application", "bitrate_bps", "bandwidth", "ticks"), CODINGS)
@settings(max_examples=4)
@given(st.sampled_from(SOUNDS), st.integers(0, 1000), st.booleans(), st.booleans())
def test_joined_packets_decode_to_the_very_same_samples(
    application: int, bitrate_bps: int, bandwidth: int, ticks: int, kind: str, seed: int, fec: bool, dtx: bool
) -> None:
    encoder = encoder_for(application, bitrate_bps, bandwidth, fec=fec, dtx=dtx)
    pcm = sound(kind, seed, RATE - RATE % ticks)
    stream = [encoder.encode(pcm[at : at + ticks]) for at in range(0, len(pcm), ticks)]
    joiner, joined = OpusJoiner(max_ticks=2880, max_bytes=1300), []
    for packet in stream:
        parsed = parse_opus_untrusted(packet)
        if not joiner.add(parsed, packet):
            joined.append(joiner.take())
            joiner.add(parsed, packet)
    joined.append(joiner.take())
    assert len(joined) < len(stream) * 0.8, "it does join"
    one, other = Decoder(), Decoder()
    plain = np.concatenate([one.decode(packet) for packet in stream])
    again = np.concatenate([other.decode(packet) for packet in joined])
    assert np.array_equal(plain, again)


def test_these_codings_are_of_all_kinds() -> None:
    kinds = set()
    for application, bitrate_bps, bandwidth, ticks in CODINGS:
        encoder = encoder_for(application, bitrate_bps, bandwidth)
        for kind in SOUNDS:
            pcm = sound(kind, 1, 20 * ticks)
            for at in range(0, len(pcm), ticks):
                parsed = parse_opus_untrusted(encoder.encode(pcm[at : at + ticks]))
                mode = "SILK" if parsed.config < 12 else "hybrid" if parsed.config < 16 else "CELT"
                kinds.add((mode, parsed.channels))
    assert kinds >= {(mode, channels) for mode in ("SILK", "hybrid", "CELT") for channels in (1, 2)}
