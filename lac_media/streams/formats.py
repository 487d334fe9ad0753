"""In which formats the program can be had, and what they say about themselves."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class StreamFormat(StrEnum):
    """Also the ending of the address."""

    OGG = "ogg"
    MP3 = "mp3"
    AAC = "aac"


#: Of what is encoded here. Opus goes out as it came in.
MP3_BPS = 128_000
AAC_BPS = 96_000

CONTENT_TYPES = {
    StreamFormat.OGG: "audio/ogg",
    StreamFormat.MP3: "audio/mpeg",
    StreamFormat.AAC: "audio/aac",
}
#: kbit/s, for `icy-br`; of Opus, whose bitrate is the speaker's choice, a usual one.
BITRATES_KBPS = {StreamFormat.OGG: 96, StreamFormat.MP3: MP3_BPS // 1000, StreamFormat.AAC: AAC_BPS // 1000}


@dataclass(frozen=True, slots=True)
class StreamTitle:
    """What players show. `song`: what is playing now, where the host's encoder says so."""

    show: str = ""
    host: str = ""
    song: str | None = None

    @property
    def text(self) -> str:
        """One line for those who can show only one."""
        if self.song:
            return self.song
        return f"{self.host} - {self.show}" if self.host else self.show
