"""What a listener hears, as it comes: decoded audio in, answers about the last moment out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tests.e2e.tone import RATE_HZ, dominant_frequency_hz

#: Long enough to tell tones 10 Hz apart, short enough to notice a change at once.
WINDOW_S = 0.25
TOLERANCE_HZ = 6.0
PATIENCE_S = 15.0


class Ear:
    """The last moment of somebody's audio. Written from any thread, asked from the test's."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._last: npt.NDArray[np.float32] = np.zeros(0, np.float32)
        self.samples = 0
        self.began_at: float | None = None
        self.last_at: float | None = None
        self.ended = False

    def hear(self, samples: npt.NDArray[np.float32]) -> None:
        """Mono float32 at 48 kHz."""
        with self._changed:
            now = time.monotonic()
            self.began_at = self.began_at or now
            self.last_at = now
            self._last = np.concatenate([self._last, samples])[-round(WINDOW_S * RATE_HZ) :]
            self.samples += len(samples)
            self._changed.notify_all()

    def end(self) -> None:
        """No more will come."""
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def frequency_hz(self) -> float:
        """Of the last quarter of a second; 0.0 is silence."""
        return dominant_frequency_hz(self._last)

    def wait_for_tone(self, frequency_hz: float, timeout_s: float = PATIENCE_S) -> None:
        """Until nothing but this tone has been heard for a quarter of a second."""
        self._wait(lambda: abs(self.frequency_hz() - frequency_hz) < TOLERANCE_HZ, f"{frequency_hz} Hz", timeout_s)

    def wait_for_silence(self, timeout_s: float = PATIENCE_S) -> None:
        """Until a quarter of a second of silence has been *heard*: no audio at all does not count."""
        self._wait(lambda: self.frequency_hz() == 0.0, "silence", timeout_s)

    def wait_for_samples(self, count: int, timeout_s: float = PATIENCE_S) -> None:
        """Until so many more have been heard."""
        with self._changed:
            wanted = self.samples + count
            assert self._changed.wait_for(lambda: self.samples >= wanted, timeout_s), f"{self.samples} of {wanted} came"

    def wait_for_end(self, timeout_s: float = PATIENCE_S) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.ended, timeout_s), "the audio did not end"

    def _wait(self, condition: Callable[[], bool], wanted: str, timeout_s: float) -> None:
        def heard() -> bool:
            return len(self._last) == round(WINDOW_S * RATE_HZ) and condition()

        with self._changed:
            assert self._changed.wait_for(heard, timeout_s), (
                f"waited {timeout_s} s for {wanted}; heard {self.frequency_hz():.0f} Hz in the end, "
                f"{self.samples / RATE_HZ:.1f} s of audio in all"
            )
