"""What a player makes of the bytes: the tone that was sent, unbroken, whenever it joins."""

from __future__ import annotations

import io
from collections.abc import Iterator

import av
import numpy as np
import pytest

from lac_media.container.ogg_opus import OggOpusReader
from lac_media.opus import Encoder
from lac_media.proto.opus import SILENCE_20MS_MONO
from lac_media.rooms.timeline import Piece
from lac_media.streams.formats import StreamFormat, StreamTitle
from lac_media.streams.packers import OggPacker, Packer, make_packer
from tests.e2e.tone import RATE_HZ, dominant_frequency_hz, tone

TITLE = StreamTitle("The show", "Hanna")
FRAME = 960


def spoken(frequency_hz: float, frames: int) -> list[Piece]:
    encoder = Encoder(bitrate_bps=64_000)
    pcm = np.repeat(tone(frequency_hz, frames * FRAME / RATE_HZ)[:, None], 2, axis=1)
    return [
        Piece(n * FRAME, FRAME, encoder.encode(np.ascontiguousarray(pcm[n * FRAME : (n + 1) * FRAME])), is_gap=False)
        for n in range(frames)
    ]


def chunks(packer: Packer, pieces: list[Piece], size: int = 12) -> Iterator[tuple[bytes, bytes]]:
    for start in range(0, len(pieces), size):
        yield from packer.pack(pieces[start : start + size], TITLE)


def decoded(data: bytes, container: str) -> np.ndarray:
    """The left channel."""
    with av.open(io.BytesIO(data), format=container) as source:
        resampler = av.AudioResampler(format="flt", layout="stereo", rate=RATE_HZ)
        frames = [part for frame in source.decode(audio=0) for part in resampler.resample(frame)]
        frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray()[0, ::2] for frame in frames])


CONTAINERS = {StreamFormat.OGG: "ogg", StreamFormat.MP3: "mp3", StreamFormat.AAC: "aac"}


@pytest.mark.parametrize("stream_format", StreamFormat)
def test_the_tone_is_right_and_as_long_as_it_was(stream_format: StreamFormat) -> None:
    packed = list(chunks(make_packer(stream_format), spoken(440, 100)))
    sound = decoded(packed[0][1] + b"".join(data for data, _ in packed), CONTAINERS[stream_format])
    assert abs(dominant_frequency_hz(sound[RATE_HZ // 2 :]) - 440) < 1
    assert 0.2 < np.sqrt(np.mean(sound[RATE_HZ // 2 :] ** 2)) < 0.35  # 0.4 / sqrt(2)
    assert abs(len(sound) / RATE_HZ - 2.0) < 0.1


@pytest.mark.parametrize("stream_format", StreamFormat)
def test_who_joins_at_any_chunk_hears_it_too(stream_format: StreamFormat) -> None:
    packed = list(chunks(make_packer(stream_format), spoken(440, 100)))
    for start in (1, 3):
        sound = decoded(packed[start][1] + b"".join(data for data, _ in packed[start:]), CONTAINERS[stream_format])
        assert abs(dominant_frequency_hz(sound[RATE_HZ // 2 :]) - 440) < 1


def test_opus_goes_out_as_it_came_in() -> None:
    pieces = spoken(440, 60)
    packed = list(chunks(OggPacker(), pieces))
    reader = OggOpusReader()
    data = packed[0][1] + b"".join(data for data, _ in packed)
    assert list(reader.receive(data)) == [piece.payload for piece in pieces]


def test_a_new_title_is_a_new_chained_stream() -> None:
    packer = OggPacker()
    pieces = spoken(440, 40)
    first = packer.pack(pieces[:20], TITLE)
    (end, old_header), (data, header) = packer.pack(pieces[20:], StreamTitle("The show", "Hanna", "A song"))
    assert old_header is first[0][1]
    assert b"TITLE=The show" in old_header
    assert b"ARTIST=Hanna" in old_header
    assert b"TITLE=A song" in header
    whole = old_header + first[0][0] + end + header + data
    assert list(OggOpusReader().receive(whole)) == [piece.payload for piece in pieces]
    assert len(decoded(whole, "ogg")) / RATE_HZ > 0.75


def test_pages_are_short_so_that_nobody_waits_for_them() -> None:
    (data, _), *_ = OggPacker().pack(spoken(440, 100), TITLE)
    assert data.count(b"OggS") >= 10


@pytest.mark.parametrize("stream_format", [StreamFormat.MP3, StreamFormat.AAC])
def test_gaps_and_garbage_keep_their_length(stream_format: StreamFormat) -> None:
    pieces = spoken(440, 100)
    for number in (20, 21):
        pieces[number] = pieces[number]._replace(payload=SILENCE_20MS_MONO, is_gap=True)
    pieces[40] = pieces[40]._replace(payload=b"\xfc" + bytes(range(200)))
    pieces[60] = Piece(60 * FRAME, FRAME, b"\xff\x3f", is_gap=False)
    packed = list(chunks(make_packer(stream_format), pieces))
    sound = decoded(b"".join(data for data, _ in packed), CONTAINERS[stream_format])
    assert abs(len(sound) / RATE_HZ - 2.0) < 0.1
    assert abs(dominant_frequency_hz(sound[-RATE_HZ // 4 :]) - 440) < 5
