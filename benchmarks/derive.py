"""What is made from a recording, in CPU seconds for an hour of it: `python -m benchmarks.derive`."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from lac_media.container.ogg_opus import OggOpusWriter, OpusHead
from lac_media.derive.audio import SAMPLE_RATE_HZ, read_audio
from lac_media.derive.encode import ExportFormat, encode
from lac_media.derive.worker import AnalyseJob, do_job
from lac_media.opus import Encoder

MINUTES = 5


def write_recording(path: Path) -> None:
    """Noise that comes and goes, so that encoders have something to do."""
    rng = np.random.default_rng(1)
    encoder = Encoder(bitrate_bps=64_000)
    writer = OggOpusWriter(1, head=OpusHead(pre_skip=encoder.lookahead_ticks))
    with path.open("wb") as file:
        file.write(writer.begin())
        for number in range(MINUTES * 60 * 50):
            level = 0.02 + 0.1 * abs(np.sin(number / 40))
            file.write(writer.add(encoder.encode(rng.normal(0, level, (960, 2)).astype(np.float32))))
        file.write(writer.end())


def measured(what: str, do: Callable[[], object]) -> None:
    before = time.process_time()
    do()
    seconds = (time.process_time() - before) * 60 / MINUTES
    print(f"{what:<28} {seconds:6.1f} s of CPU an hour of audio, {3600 / seconds:5.0f} times faster than it plays")


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "program.ogg"
        write_recording(source)
        measured("decoding alone", lambda: sum(len(block) for block in read_audio(source)) / SAMPLE_RATE_HZ)
        job = AnalyseJob(str(source), str(Path(name) / "peaks.json"))
        measured("waveform and loudness", lambda: do_job(job, lambda seconds: None))
        for export in ExportFormat:
            measured(export.upper(), partial(encode, source, Path(name) / f"a.{export}", export, tags={}))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{'memory at most':<28} {peak} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
