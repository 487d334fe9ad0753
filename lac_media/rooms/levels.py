"""How loud each speaker is, and who the loudest are: from the level that clients send (RFC 6464), or from the sound.

Sans-IO, once per packet. Levels are dBov: 0 is full scale, -127 silence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lac_media.opus import Decoder, OpusError

if TYPE_CHECKING:
    from lac_media.opus import Pcm

#: So many speakers are passed on to each other at once: more voices than that nobody understands.
LOUDEST = 4
#: Above this somebody is speaking; background noise of a room lies below.
SPEAKING_DBOV = -50.0
#: A level rises as fast as a syllable and falls as slowly as a pause between sentences, dB a second.
RISE_DB_PER_S = 600.0
FALL_DB_PER_S = 40.0
SILENT_DBOV = -127.0
#: Somebody takes another's place among the loudest only when louder by this.
HYSTERESIS_DB = 6.0
#: Somebody from whom nothing has come for this long counts as silent. Opus DTX sends a frame every 400 ms.
STALE_S = 0.5


@dataclass(slots=True)
class _Entry:
    at: float
    dbov: float = SILENT_DBOV
    #: Only for those who send no level.
    decoder: Decoder | None = None


class Levels:
    """Speakers are told apart by any hashable `source`."""

    def __init__(self) -> None:
        self._entries: dict[object, _Entry] = {}
        self._loudest: set[object] = set()

    def receive(self, source: object, payload: bytes, level: int | None, *, now: float) -> None:
        """One packet of `source`, with its RFC 6464 byte if it has one."""
        entry = self._entries.get(source)
        if entry is None:
            entry = self._entries[source] = _Entry(now)
        dbov = -float(level & 0x7F) if level is not None else self._decoded(entry, payload)
        passed = max(0.0, now - entry.at)
        rise, fall = RISE_DB_PER_S * max(passed, 0.02), FALL_DB_PER_S * passed
        entry.dbov = min(max(dbov, entry.dbov - fall), entry.dbov + rise)
        entry.at = now

    def remove(self, source: object) -> None:
        """Gone, or muted."""
        self._entries.pop(source, None)
        self._loudest.discard(source)

    def level(self, source: object, *, now: float) -> float:
        entry = self._entries.get(source)
        if entry is None or now - entry.at > STALE_S:
            return SILENT_DBOV
        return entry.dbov

    def speaking(self, *, now: float) -> dict[object, float]:
        """Who is speaking, and how loud, the loudest first."""
        levels = {source: self.level(source, now=now) for source in self._entries}
        heard = [(level, source) for source, level in levels.items() if level >= SPEAKING_DBOV]
        return {source: level for level, source in sorted(heard, key=lambda pair: -pair[0])}

    def is_among_loudest(self, source: object, *, now: float) -> bool:
        """Whether `source` is one of the LOUDEST. Places change hands reluctantly, or every breath would cut a word."""
        if source in self._loudest:
            return True
        if source not in self._entries:
            return False
        if len(self._loudest) < LOUDEST:
            self._loudest.add(source)
            return True
        quietest = min(self._loudest, key=lambda other: self.level(other, now=now))
        if self.level(source, now=now) <= self.level(quietest, now=now) + HYSTERESIS_DB:
            return False
        self._loudest.remove(quietest)
        self._loudest.add(source)
        return True

    @staticmethod
    def _decoded(entry: _Entry, payload: bytes) -> float:
        if entry.decoder is None:
            entry.decoder = Decoder()
        try:
            return dbov_of(entry.decoder.decode(payload))
        except OpusError:
            return SILENT_DBOV


def dbov_of(pcm: Pcm) -> float:
    """Level of some audio relative to a square wave at full scale (RFC 6464 section 3: RMS)."""
    power = float(np.mean(np.square(pcm))) if len(pcm) else 0.0
    return SILENT_DBOV if power <= 0.0 else max(SILENT_DBOV, min(0.0, 10 * math.log10(power)))
