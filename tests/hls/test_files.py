"""What a stream leaves on the disk, and what the next process makes of it, whatever happened to it in between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from lac_media.hls.files import JOURNAL, read_stream
from lac_media.hls.renditions import RENDITIONS
from lac_media.hls.stream import HlsStream
from tests.hls.playlists import ReadPlaylist, read
from tests.hls.radio import BEGAN_AT, InlineWorkers, Radio, make_stream

HIGH = RENDITIONS[0]


async def record(directory: Path, *, seconds: float = 40) -> HlsStream:
    """A stream that was on the air for so long, with a pause."""
    radio, stream = Radio(), make_stream(directory, keep_encoding=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.run, radio)
        await trio.testing.wait_all_tasks_blocked()
        await radio.play(seconds / 2)
        radio.leap(1000)
        await radio.play(seconds / 2)
        nursery.cancel_scope.cancel()
    return stream


async def restored(directory: Path) -> ReadPlaylist | None:
    found = read_stream(directory)
    if found is None:
        return None
    stream = HlsStream.finished(directory, found, workers=InlineWorkers())
    playlist = read((await stream.playlist(HIGH)).content)
    assert playlist.map_uri is not None
    for uri in (playlist.map_uri, *(segment.uri or "" for segment in playlist.whole)):
        assert await stream.file(HIGH, uri.rpartition("/")[2]), uri
    return playlist


async def test_a_stream_is_found_again_as_it_was(tmp_path: Path, autojump_clock: MockClock) -> None:
    stream = await record(tmp_path / "s")
    stream.end()
    before = read((await stream.playlist(HIGH)).content)
    after = await restored(tmp_path / "s")
    assert after == before
    assert after.ended
    assert after.segments[-1].discontinuities == 1
    assert after.segments[0].date == BEGAN_AT
    assert read_stream(tmp_path / "none") is None


def cut_journal(directory: Path) -> None:
    journal = directory / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-5])


def cut_a_segment(directory: Path) -> None:
    path = max(directory.glob("low-*.m4s"))
    path.write_bytes(path.read_bytes()[:100])


def lose_the_first(directory: Path) -> None:
    min(directory.glob("high-*.m4s")).unlink()


@pytest.mark.parametrize(("harm", "lost"), [(cut_journal, -1), (cut_a_segment, -1), (lose_the_first, 0)])
async def test_what_is_damaged_is_left_out(
    harm: Callable[[Path], None], lost: int, tmp_path: Path, autojump_clock: MockClock
) -> None:
    directory = tmp_path / "s"
    stream = await record(directory)
    harm(directory)
    after = await restored(directory)
    numbers = [segment.msn for segment in stream.plan.segments]
    del numbers[lost]
    assert after is not None
    assert [segment.msn for segment in after.segments] == numbers


@given(st.lists(st.binary(max_size=60) | st.just(b"[1,0,1024,false,[1,1]]"), max_size=5), st.booleans())
def test_any_journal_is_read(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], good_head: bool) -> None:
    directory = tmp_path_factory.mktemp("s")
    for rendition in RENDITIONS:
        (directory / f"{rendition.name}-init.mp4").write_bytes(b"i")
        (directory / f"{rendition.name}-1.m4s").write_bytes(b"s")
    head = [b'{"run":"r1","began_at_us":0}'] if good_head else []
    (directory / JOURNAL).write_bytes(b"\n".join([*head, *lines]))
    found = read_stream(directory)
    whole = good_head and b"[1,0,1024,false,[1,1]]" in lines
    if found is not None:
        assert [segment.msn for segment in found.segments] == [1]
    assert whole <= (found is not None)
