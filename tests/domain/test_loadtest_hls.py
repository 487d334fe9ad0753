"""What a load test's player reads in a playlist: ours, as the server writes it, and anything else."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lac.loadtest.hls import MediaPlaylist, parse_media_playlist

DELTA = """#EXTM3U
#EXT-X-MEDIA-SEQUENCE:100
#EXT-X-SKIP:SKIPPED-SEGMENTS=3
#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:05.500Z
#EXT-X-PART:DURATION=0.32,URI="../media/high/103.0-a.m4s",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.32,URI="../media/high/103.1-a.m4s",INDEPENDENT=YES
#EXTINF:0.64,
../media/high/103-a.m4s
#EXT-X-PROGRAM-DATE-TIME:2026-01-02T03:04:06.140Z
#EXT-X-PART:DURATION=0.32,URI="../media/high/104.0-a.m4s",INDEPENDENT=YES
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="../media/high/104.1-a.m4s"
"""


def test_parts_are_numbered_and_dated_also_behind_what_a_delta_skips() -> None:
    playlist = parse_media_playlist(DELTA)
    assert [part.position for part in playlist.parts] == [(103, 0), (103, 1), (104, 0)]
    assert playlist.parts[1].uri == "../media/high/103.1-a.m4s"
    live = datetime(2026, 1, 2, 3, 4, 6, 460_000, UTC).timestamp()
    assert playlist.parts[2].ends_at == pytest.approx(live)
    assert (playlist.next, playlist.ended) == ((104, 1), False)


def test_the_end_is_seen() -> None:
    assert parse_media_playlist(DELTA + "#EXT-X-ENDLIST\n").ended


@given(st.lists(st.sampled_from([*DELTA.splitlines(), "#EXT-X-PART:", "#EXT-X-SKIP:SKIPPED-SEGMENTS=x", "", "?"])))
def test_anything_else_is_a_value_error_at_most(lines: list[str]) -> None:
    try:
        playlist = parse_media_playlist("\n".join(["#EXTM3U", *lines]))
    except ValueError:
        return
    assert isinstance(playlist, MediaPlaylist)
