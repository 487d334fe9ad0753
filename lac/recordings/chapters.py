"""Chapters that make themselves: where somebody else took the word. Sans-IO; seconds of the recording."""

from __future__ import annotations

#: Whoever is the loudest for this long has the word. Interjections are shorter.
HOLD_S = 3.0


class SpeakerChapters:
    def __init__(self) -> None:
        self._has_the_word: str | None = None
        self._loudest: str | None = None
        self._since_s = 0.0

    def hear(self, loudest: str | None, at_s: float) -> None:
        """Who is the loudest from now on; None while nobody says anything, which takes the word from nobody."""
        if loudest != self._loudest:
            self._loudest, self._since_s = loudest, at_s

    def due(self, at_s: float) -> tuple[float, str] | None:
        """Where a chapter begins, and with whom, once that is sure."""
        person = self._loudest
        if person is None or person == self._has_the_word or at_s - self._since_s < HOLD_S:
            return None
        self._has_the_word = person
        return self._since_s, person
