"""The whole packager in virtual time: what players are given can be decoded, and is where media time says."""

from __future__ import annotations

import io
import itertools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
import trio
from trio.testing import MockClock

from lac_media.errors import HlsRequestError, HlsTimeoutError
from lac_media.hls.renditions import PART_S, RENDITIONS
from lac_media.hls.stream import HlsStream
from tests.hls.playlists import ReadPlaylist, read
from tests.hls.radio import BEGAN_AT, TONE_HZ, Radio, make_stream
from tests.sweep import sweep

HIGH, LOW = RENDITIONS
RATE = 48_000


@asynccontextmanager
async def on_air(directory: Path, radio: Radio | None = None, **options: object) -> AsyncGenerator[HlsStream, None]:
    stream = make_stream(directory, **options)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.run, radio or Radio())
        yield stream
        nursery.cancel_scope.cancel()


async def listen(stream: HlsStream, *, seconds: float, radio: Radio) -> ReadPlaylist:
    """Somebody asks all the time."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(radio.play, seconds)
        latest = read((await stream.playlist(HIGH)).content)
        with trio.move_on_after(seconds - 1.2):
            while True:
                last = latest.segments[-1]
                after = (last.msn, len(last.parts))
                latest = read((await stream.playlist(HIGH, after=after, skip=True)).content, latest)
    return latest


async def fetch(stream: HlsStream, uri: str) -> bytes:
    rendition, _, name = uri.partition("/")
    data = await stream.file(next(r for r in RENDITIONS if r.name == rendition), name)
    assert data is not None, uri
    return data


def decoded(data: bytes) -> tuple[npt.NDArray[np.float32], list[int]]:
    """The first channel, and each frame's ticks."""
    with av.open(io.BytesIO(data)) as container:
        frames = list(container.decode(audio=0))
    return np.concatenate([frame.to_ndarray()[0] for frame in frames]), [frame.pts or 0 for frame in frames]


def amplitude(pcm: npt.NDArray[np.float32]) -> float:
    """Of the tone."""
    times = np.arange(len(pcm)) / RATE
    return float(2 * abs(np.mean(pcm * np.exp(-2j * np.pi * TONE_HZ * times))))


@pytest.mark.parametrize("rendition", RENDITIONS, ids=lambda r: r.name)
async def test_what_is_played_is_the_program_at_its_media_time(
    rendition: object, tmp_path: Path, autojump_clock: MockClock
) -> None:
    radio = Radio()
    radio.ticks = 50_000 * 960 + 333
    async with on_air(tmp_path / "s", radio) as stream:
        await listen(stream, seconds=12, radio=radio)
        assert rendition in RENDITIONS
        playlist = read((await stream.playlist(rendition)).content)  # type: ignore[arg-type]  # just checked
        assert playlist.map_uri is not None
        header = await fetch(stream, playlist.map_uri)
        segments = [await fetch(stream, segment.uri) for segment in playlist.whole if segment.uri]
        parts = [await fetch(stream, part.uri) for part in playlist.segments[1].parts]
    assert b"".join(parts) == segments[1], "a segment is its parts"
    pcm, ticks = decoded(header + b"".join(segments))
    first = playlist.segments[0].date
    assert first is not None
    assert abs((first - BEGAN_AT).total_seconds() - ticks[0] / RATE) < 0.0011
    assert ticks[0] % 1024 == 0
    assert abs(ticks[0] - 50_000 * 960) < 3 * 960, "with the first packet that was tapped"
    assert all(b - a == 1024 for a, b in itertools.pairwise(ticks))
    assert 0.45 < amplitude(pcm[RATE:]) < 0.55
    for segment, data in zip(playlist.whole, segments, strict=True):
        assert 8 * len(data) / (segment.duration or 0) < RENDITIONS[RENDITIONS.index(rendition)].peak_bps  # type: ignore[arg-type]  # as above


async def test_players_follow_part_by_part_within_a_second(tmp_path: Path, autojump_clock: MockClock) -> None:
    radio = Radio()
    async with on_air(tmp_path / "s", radio) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(radio.play, 15)
        playlist = read((await stream.playlist(LOW)).content)
        assert trio.current_time() < 1.1, "the first segment is a short one"
        for _ in range(25):
            hinted = playlist.hint
            assert hinted is not None
            data = await fetch(stream, hinted)  # blocks until it is there
            behind_s = trio.current_time() - radio_position_s(playlist) - PART_S
            assert -0.001 < behind_s < 0.1
            after = (playlist.segments[-1].msn, len(playlist.segments[-1].parts))
            playlist = read((await stream.playlist(LOW, after=after)).content)
            assert (await fetch(stream, playlist.segments[-1].parts[-1].uri)) == data
        nursery.cancel_scope.cancel()


def radio_position_s(playlist: ReadPlaylist) -> float:
    """Until when the playlist has audio, in virtual time."""
    last = playlist.segments[-1]
    assert last.date is not None
    return (last.date - BEGAN_AT).total_seconds() + sum(part.duration for part in last.parts)


async def test_loss_and_silence_keep_their_exact_length(tmp_path: Path, autojump_clock: MockClock) -> None:
    radio = Radio()
    async with on_air(tmp_path / "s", radio) as stream:
        stream.need()
        await radio.play(3)
        radio.skip(40)  # lost: 0.8 s
        await trio.sleep(0.8)
        await radio.play(3)
        radio.leap(100)  # the speaker sent nothing for 2 s
        await trio.sleep(2)
        await radio.play(3)
        playlist = read((await stream.playlist(HIGH)).content)
        assert playlist.map_uri is not None
        header = await fetch(stream, playlist.map_uri)
        pcm, ticks = decoded(header + b"".join([await fetch(stream, s.uri) for s in playlist.whole if s.uri]))
    assert {segment.discontinuities for segment in playlist.segments} == {0}
    assert ticks[-1] - ticks[0] == 1024 * (len(ticks) - 1)
    for begins_s, ends_s, expected in (
        (1, 2.9, 0.5),
        (3.2, 3.75, 0.0),
        (3.9, 6.7, 0.5),
        (7.0, 8.7, 0.0),
        (8.9, 10, 0.5),
    ):
        assert abs(amplitude(pcm[int(begins_s * RATE) : int(ends_s * RATE)]) - expected) < 0.05, begins_s


async def test_nobody_listens_and_nothing_is_encoded_then_it_goes_on(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lac_media.hls.stream.IDLE_STOP_S", 10.0)  # a minute of encoding takes seconds
    radio = Radio()
    async with on_air(tmp_path / "s", radio) as stream:
        await radio.play(2)
        assert not stream.encoding
        assert not radio.taps
        before = await listen(stream, seconds=6, radio=radio)
        await radio.play(11)
        assert not stream.encoding
        assert radio.taps[0].ended
        end = stream.plan.end_position
        async with trio.open_nursery() as nursery:
            nursery.start_soon(radio.play, 3)
            playlist = read((await stream.playlist(HIGH)).content)
        assert playlist.segments[-1].discontinuities == 1
        assert playlist.segments[-1].msn > end[0], "a playlist is not given out before something follows"
        assert playlist.segments[0].msn == before.segments[0].msn
        header = await fetch(stream, playlist.map_uri or "")
        _, ticks = decoded(header + await fetch(stream, playlist.whole[-1].uri or ""))
        assert abs(ticks[0] / RATE - (2 + 6 + 11)) < 0.1, "on media time"


async def test_a_show_that_asks_for_it_is_encoded_for_nobody(tmp_path: Path, autojump_clock: MockClock) -> None:
    radio = Radio()
    async with on_air(tmp_path / "s", radio, keep_encoding=True) as stream:
        await radio.play(8)
        assert stream.encoding
        first = stream.plan.segments[0]
        assert first.ticks < 960 * 3, "from the beginning on"
        stream.keep_encoding(False)
        await radio.play(1)
        assert not stream.encoding


async def test_the_window_moves_and_the_files_with_it(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lac_media.hls.stream.LINGER_SEGMENTS", 3)
    monkeypatch.setattr("lac_media.hls.stream.MEMORY_SEGMENTS", 4)
    radio, directory = Radio(), tmp_path / "s"
    async with on_air(directory, radio, window_s=26.0) as stream:
        latest = await listen(stream, seconds=52, radio=radio)
        full = read((await stream.playlist(HIGH)).content)
        assert latest.skipped > 0
        first = full.segments[0].msn
        followed = [(s.msn, s.uri) for s in latest.whole if s.msn >= first]
        assert followed == [(s.msn, s.uri) for s in full.whole][: len(followed)], "deltas lead to the same list"
        assert 26 <= sum(s.duration or 0 for s in full.whole) < 34
        assert len(list(directory.glob("*.m4s"))) <= 2 * (len(full.whole) + 3)
        in_memory = [segment for segment in stream.plan.segments if segment.in_memory]
        assert len(in_memory) <= 4 + 1
        pcm, ticks = decoded(
            await fetch(stream, full.map_uri or "") + b"".join([await fetch(stream, s.uri or "") for s in full.whole])
        )
        assert ticks[-1] - ticks[0] == 1024 * (len(ticks) - 1)
        assert amplitude(pcm[RATE:]) > 0.45
        assert await stream.file(HIGH, stream.plan.segment_name(stream.plan.segments[0])) is not None
        assert await stream.file(HIGH, "100-r1.m4s") is None, "long gone"
    await stream.remove()
    assert not directory.exists()


async def test_the_end_of_the_show_is_a_list_that_stays(tmp_path: Path, autojump_clock: MockClock) -> None:
    radio = Radio()
    async with on_air(tmp_path / "s", radio) as stream:
        await listen(stream, seconds=9.5, radio=radio)
    stream.end()
    playlist = read((await stream.playlist(HIGH, after=(999, None))).content)
    assert playlist.ended
    total = sum(segment.duration or 0 for segment in playlist.whole)
    assert 9.5 <= total < 9.6, "to the last packet"
    header = await fetch(stream, playlist.map_uri or "")
    pcm, _ = decoded(header + b"".join([await fetch(stream, s.uri or "") for s in playlist.whole]))
    assert amplitude(pcm[RATE : 9 * RATE]) > 0.45


async def test_what_cannot_come_is_refused_or_given_up(tmp_path: Path, autojump_clock: MockClock) -> None:
    radio = Radio()
    async with on_air(tmp_path / "s", radio) as stream:
        with pytest.raises(HlsTimeoutError):
            await stream.playlist(HIGH)  # the radio sends nothing
        latest = await listen(stream, seconds=4, radio=radio)
        with pytest.raises(HlsRequestError):
            await stream.playlist(HIGH, after=(latest.segments[-1].msn + 3, 0))
        for name in (
            "x.m4s",
            "101-r2.m4s",
            "1.2.3-r1.m4s",
            "../s",
            f"{10**14}-r1.m4s",
            "101.9999-r1.m4s",
            "init-r2.mp4",
        ):
            assert await stream.file(HIGH, name) is None, name


async def test_a_full_disk_shortens_the_window_and_nothing_else(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s").write_text("not a directory")
    monkeypatch.setattr("lac_media.hls.stream.MEMORY_SEGMENTS", 4)
    radio = Radio()
    async with on_air(tmp_path / "s", radio) as stream:
        playlist = await listen(stream, seconds=36, radio=radio)
        assert stream.unwritten > 0
        assert len(playlist.whole) <= 4 + 1
        for segment in read((await stream.playlist(HIGH)).content).whole:
            await fetch(stream, segment.uri or "")


async def test_a_hole_of_minutes_is_not_filled(tmp_path: Path, autojump_clock: MockClock) -> None:
    radio = Radio()
    async with on_air(tmp_path / "s", radio) as stream:
        await listen(stream, seconds=5, radio=radio)
        radio.leap(50 * 600)
        playlist = await listen(stream, seconds=5, radio=radio)
        assert playlist.segments[-1].discontinuities == 1
        assert len(playlist.segments) < 10


def test_cancelled_at_any_step_nothing_is_left_and_what_is_listed_is_there(tmp_path: Path) -> None:
    made: list[tuple[HlsStream, Radio]] = []

    async def scenario() -> None:
        radio = Radio()
        stream = make_stream(tmp_path / str(len(made)))
        made.append((stream, radio))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.run, radio)
                nursery.start_soon(radio.play, 1.5)
                await stream.playlist(HIGH)
                await stream.playlist(LOW, after=(101, 0))
                nursery.cancel_scope.cancel()
        finally:
            stream.end()

    def check() -> None:
        stream, radio = made[-1]
        assert not stream.encoding
        assert all(tap.ended for tap in radio.taps)
        assert stream._waiting == 0

        async def look() -> None:
            if stream.plan.segments:
                playlist = read((await stream.playlist(HIGH)).content)
                header = await fetch(stream, playlist.map_uri or "")
                data = [await fetch(stream, segment.uri or "") for segment in playlist.whole]
                _, ticks = decoded(header + b"".join(data))
                assert all(b - a == 1024 for a, b in itertools.pairwise(ticks))
            await stream.remove()

        trio.run(look)

    assert sweep(scenario, check) > 100
    assert not list(tmp_path.iterdir())
