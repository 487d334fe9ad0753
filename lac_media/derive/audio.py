"""A recording as PCM, in blocks, on its own time line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from lac_media.errors import MediaError

SAMPLE_RATE_HZ = 48_000
CHANNELS = 2
#: Shape (samples, 2), 48 kHz, range [-1, 1].
Block = NDArray[np.float32]
#: So much silence goes out as one block: where a file has a hole, or packets that nobody can decode.
_SILENCE_TICKS = SAMPLE_RATE_HZ


class UnreadableError(MediaError):
    """There is no audio in this file that can be decoded."""


def read_audio(path: Path) -> Iterator[Block]:
    """The file from its beginning to its end. What is damaged is silence of the same length, so that everything
    after it stays where it belongs. Raises `UnreadableError` when there is nothing to decode at all, and OSError."""
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            if not container.streams.audio:
                raise UnreadableError(f"{path.name} has no audio")
            yield from _decode(container)
    except av.error.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise UnreadableError(f"{path.name} cannot be decoded: {error.strerror or error}") from error


def duration_of(path: Path) -> float:
    """Seconds, as the file's last page says; 0 where it says nothing. Raises as `read_audio`."""
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            return (container.duration or 0) / av.time_base
    except av.error.InvalidDataError as error:
        raise UnreadableError(f"{path.name} cannot be decoded: {error.strerror or error}") from error


def _decode(container: av.container.InputContainer) -> Iterator[Block]:
    resampler = av.AudioResampler(format="flt", layout="stereo", rate=SAMPLE_RATE_HZ)
    #: Ticks that went out; where the first frame began is where we are.
    done = 0
    began: float | None = None
    for packet in container.demux(audio=0):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            continue  # the next frame's time says how much is missing
        for frame in frames:
            if frame.time is not None:
                if began is None:
                    began = frame.time
                missing = round((frame.time - began) * SAMPLE_RATE_HZ) - done
                # Times are exact here, so that a frame which is early by a little is only rounding.
                while missing > 1:
                    silence = np.zeros((min(missing, _SILENCE_TICKS), CHANNELS), np.float32)
                    done += len(silence)
                    missing -= len(silence)
                    yield silence
            frame.pts = None  # the resampler is not to mind the holes
            for resampled in resampler.resample(frame):
                pcm = resampled.to_ndarray().reshape(-1, CHANNELS)
                done += len(pcm)
                yield np.nan_to_num(pcm, nan=0.0, posinf=0.0, neginf=0.0)
    if began is None:
        raise UnreadableError("nothing in it can be decoded")
