"""Reading playlists the way a strict player does: what rfc8216bis demands of them is checked while reading."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime

_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^",]*)(?:,|$)')


@dataclass
class ReadPart:
    uri: str
    duration: float


@dataclass
class ReadSegment:
    msn: int
    discontinuities: int
    date: datetime | None = None
    parts: list[ReadPart] = field(default_factory=list)
    uri: str | None = None
    duration: float | None = None


@dataclass
class ReadPlaylist:
    target: int = 0
    part_target: float | None = None
    control: dict[str, str] = field(default_factory=dict)
    skipped: int = 0
    map_uri: str | None = None
    segments: list[ReadSegment] = field(default_factory=list)
    hint: str | None = None
    reports: list[dict[str, str]] = field(default_factory=list)
    ended: bool = False

    @property
    def is_whole(self) -> bool:
        """Without anything of low latency: for a store of files."""
        parts = [part for segment in self.segments for part in segment.parts]
        return not (self.control or self.part_target or self.hint or self.reports or parts or self.skipped)

    @property
    def whole(self) -> list[ReadSegment]:
        return [segment for segment in self.segments if segment.uri is not None]


def attributes(text: str) -> dict[str, str]:
    found = {name: value.strip('"') for name, value in _ATTRIBUTE.findall(text)}
    assert found, text
    return found


def read(content: bytes, older: ReadPlaylist | None = None) -> ReadPlaylist:
    """`older` is the playlist that a delta goes on from."""
    lines = content.decode().split("\n")
    assert lines[0] == "#EXTM3U"
    assert lines[-1] == ""
    playlist = ReadPlaylist()
    msn = discontinuities = 0
    version = 0
    current: ReadSegment | None = None

    def segment() -> ReadSegment:
        nonlocal current
        if current is None:
            current = ReadSegment(msn, discontinuities)
            playlist.segments.append(current)
        return current

    for line in lines[1:-1]:
        tag, _, value = line.partition(":")
        match tag:
            case "#EXT-X-VERSION":
                version = int(value)
            case "#EXT-X-TARGETDURATION":
                playlist.target = int(value)
            case "#EXT-X-PART-INF":
                playlist.part_target = float(attributes(value)["PART-TARGET"])
            case "#EXT-X-SERVER-CONTROL":
                playlist.control = attributes(value)
            case "#EXT-X-MEDIA-SEQUENCE":
                msn = int(value)
            case "#EXT-X-DISCONTINUITY-SEQUENCE":
                discontinuities = int(value)
            case "#EXT-X-SKIP":
                playlist.skipped = int(attributes(value)["SKIPPED-SEGMENTS"])
                assert older is not None
                known = {segment.msn: segment for segment in older.whole}
                for _ in range(playlist.skipped):
                    playlist.segments.append(known[msn])  # all of them must be known
                    discontinuities = known[msn].discontinuities
                    msn += 1
            case "#EXT-X-MAP":
                playlist.map_uri = attributes(value)["URI"]
            case "#EXT-X-DISCONTINUITY":
                assert current is None
                discontinuities += 1
            case "#EXT-X-PROGRAM-DATE-TIME":
                segment().date = datetime.fromisoformat(value)
            case "#EXT-X-PART":
                part = attributes(value)
                assert part["INDEPENDENT"] == "YES"
                segment().parts.append(ReadPart(part["URI"], float(part["DURATION"])))
            case "#EXTINF":
                segment().duration = float(value.rstrip(","))
            case "#EXT-X-PRELOAD-HINT":
                assert attributes(value)["TYPE"] == "PART"
                playlist.hint = attributes(value)["URI"]
            case "#EXT-X-RENDITION-REPORT":
                playlist.reports.append(attributes(value))
            case "#EXT-X-ENDLIST":
                playlist.ended = True
            case _:
                assert not line.startswith("#"), line
                assert segment().duration is not None
                segment().uri = line
                current = None
                msn += 1
    # One of whole segments has nothing that needs more (section 8: EXT-X-MAP without I-frames).
    assert version >= (6 if playlist.is_whole else 9)
    _check(playlist)
    return playlist


def _check(playlist: ReadPlaylist) -> None:
    assert playlist.map_uri is not None
    for segment in playlist.whole:
        assert segment.duration is not None
        assert segment.duration > 0
        assert round(segment.duration) <= playlist.target
        if segment.parts:
            assert abs(sum(part.duration for part in segment.parts) - segment.duration) < 1e-5
    numbers = [segment.msn for segment in playlist.segments]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    for before, after in zip(playlist.segments, playlist.segments[1:], strict=False):
        assert before.date is not None
        assert after.date is not None
        assert before.duration is not None
        passed = (after.date - before.date).total_seconds()
        if after.discontinuities == before.discontinuities:
            assert abs(passed - before.duration) < 0.0011, "dates go on with the audio"
        else:
            assert after.discontinuities == before.discontinuities + 1
            assert passed > before.duration
    if playlist.ended:
        assert playlist.hint is None
        assert all(not segment.parts for segment in playlist.segments)
        assert len(playlist.whole) == len(playlist.segments)
        return
    if playlist.is_whole:
        assert len(playlist.whole) == len(playlist.segments)
        return
    target = playlist.part_target
    assert target is not None
    assert playlist.hint is not None
    assert playlist.control["CAN-BLOCK-RELOAD"] == "YES"
    assert float(playlist.control["PART-HOLD-BACK"]) >= 3 * target
    assert float(playlist.control["CAN-SKIP-UNTIL"]) >= 6 * playlist.target
    for segment in playlist.segments:
        for part in segment.parts:
            assert part.duration <= target
        assert all(part.duration >= 0.85 * target for part in segment.parts[:-1])
    listed = sum(
        segment.duration or sum(p.duration for p in segment.parts) for segment in playlist.segments if segment.parts
    )
    assert listed <= 3 * playlist.target + 0.001
    if len(playlist.segments) > 4:
        assert playlist.segments[-1].parts, "the end is listed in parts"
    for report in playlist.reports:
        assert int(report["LAST-MSN"]) == playlist.segments[-1].msn
        assert int(report["LAST-PART"]) == len(playlist.segments[-1].parts) - 1
