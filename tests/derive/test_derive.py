"""Waveform, loudness and copies, compared with what the sound is known to be and with FFmpeg's own measure."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from lac.recordings.worker_process import WorkerError, run_job
from lac_media.derive.audio import SAMPLE_RATE_HZ, Block, UnreadableError, duration_of, read_audio
from lac_media.derive.encode import RECIPES, ChapterMark, ExportFormat, encode
from lac_media.derive.loudness import Loudness, LoudnessMeter
from lac_media.derive.peaks import SAMPLES_PER_PIXEL, PeakMeter
from lac_media.derive.worker import AnalyseJob, EncodeJob
from tests.derive.sound import silence, tone, write_ogg


def blocks(pcm: Block, size: int) -> Iterator[Block]:
    return (pcm[start : start + size] for start in range(0, len(pcm), size))


def measure(pcm: Block) -> Loudness:
    meter = LoudnessMeter()
    for block in blocks(pcm, 1920):
        meter.add(block)
    return meter.result()


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_recording_is_read_sample_for_sample(tmp_path: Path) -> None:
    pcm = np.concatenate((silence(1), tone(1), silence(1)))
    read = np.concatenate(list(read_audio(write_ogg(tmp_path / "a.ogg", pcm))))
    assert abs(len(read) - len(pcm)) <= 400, "but for the encoder's delay"
    loud = np.flatnonzero(np.abs(read).max(axis=1) > 0.1)
    assert abs(loud[0] - SAMPLE_RATE_HZ) < 500
    assert abs(loud[-1] - 2 * SAMPLE_RATE_HZ) < 500


def test_a_page_that_is_damaged_is_silence_and_moves_nothing(tmp_path: Path) -> None:
    path = write_ogg(tmp_path / "a.ogg", np.concatenate((tone(5), silence(1), tone(0.5))))
    data = bytearray(path.read_bytes())
    pages = [at for at in range(len(data)) if data.startswith(b"OggS", at)]
    at = pages[4]  # the third second
    data[at + 300 : at + 320] = b"\xff" * 20  # its checksum is wrong now: FFmpeg drops the page
    path.write_bytes(data)
    read = np.concatenate(list(read_audio(path)))
    assert abs(len(read) - 6.5 * SAMPLE_RATE_HZ) < 400
    loud = np.abs(read).max(axis=1) > 0.1
    assert np.flatnonzero(loud)[-1] == pytest.approx(6.5 * SAMPLE_RATE_HZ, abs=500)
    assert not loud[int(5.1 * SAMPLE_RATE_HZ) : int(5.9 * SAMPLE_RATE_HZ)].any()


def test_what_is_no_audio_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    for content in (b"", b"no audio at all" * 100):
        path.write_bytes(content)
        with pytest.raises(UnreadableError):
            list(read_audio(path))
    with pytest.raises(FileNotFoundError):
        list(read_audio(tmp_path / "missing.ogg"))


# --- measuring --------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 9000), max_size=6))
def test_peaks_do_not_depend_on_how_the_sound_came(lengths: list[int]) -> None:
    pcm = np.random.default_rng(1).uniform(-1, 1, (sum(lengths), 2)).astype(np.float32)
    meter, start = PeakMeter(), 0
    for length in lengths:
        meter.add(pcm[start : start + length])
        start += length
    result = meter.result()
    assert result["length"] == -(-len(pcm) // SAMPLES_PER_PIXEL)
    expected = []
    for block in blocks(pcm, SAMPLES_PER_PIXEL):
        expected += [round(float(block.min()) * 127), round(float(block.max()) * 127)]
    assert result["data"] == expected


def test_peaks_show_where_the_sound_is() -> None:
    meter = PeakMeter()
    for block in blocks(np.concatenate((silence(1), tone(1, level=2.0))), 777):
        meter.add(block)
    data = np.array(meter.result()["data"]).reshape(-1, 2)
    assert len(data) == 20
    assert not data[:10].any()
    assert (data[10:] == [-127, 127]).all(), "what clips is full scale"


def test_loudness_of_the_test_signals_of_ebu_tech_3341() -> None:
    """Sines of 1 kHz in both channels are as loud as their peak level, in LUFS: test cases 1, 2 and 3 of the document,
    which allows 0.1 LU."""
    assert measure(tone(5, level=10 ** (-23 / 20), hz=1000)).integrated_lufs == pytest.approx(-23.0, abs=0.1)
    assert measure(tone(5, level=10 ** (-33 / 20), hz=1000)).integrated_lufs == pytest.approx(-33.0, abs=0.1)
    parts = [tone(seconds, level=10 ** (db / 20), hz=1000) for seconds, db in ((5, -36), (15, -23), (5, -36))]
    gated = measure(np.concatenate(parts))
    assert gated.integrated_lufs == pytest.approx(-23.0, abs=0.1), "the softer parts are below the relative gate"
    assert gated.range_lu is not None
    assert gated.true_peak_dbtp == pytest.approx(-23.0, abs=0.2)


def test_the_true_peak_lies_between_the_samples() -> None:
    """A sine of a quarter of the sample rate, sampled 45 degrees beside its peaks."""
    times = np.arange(SAMPLE_RATE_HZ)
    fade = np.minimum(1, np.minimum(times, times[::-1]) / 4800)
    mono = 0.5 * fade * np.sin(np.pi / 2 * times + np.pi / 4)
    pcm = np.stack((mono, mono), axis=1).astype(np.float32)
    assert np.abs(pcm).max() == pytest.approx(0.3536, abs=1e-3)
    assert measure(pcm).true_peak_dbtp == pytest.approx(-6.02, abs=0.3)


def test_silence_has_no_loudness() -> None:
    assert measure(silence(3)) == Loudness(None, None, None)
    assert measure(silence(0)) == Loudness(None, None, None)
    assert measure(tone(0.1)).integrated_lufs is None


def test_loudness_agrees_with_the_formulas_of_bs_1770() -> None:
    """Annex 1 written out with numpy: two filters, powers of overlapping blocks of 0.4 s, two gates."""
    rng = np.random.default_rng(3)
    for shape in (np.linspace(0.2, 2, 8), np.array([1, 0, 0, 0.01, 2, 0.3, 0.3, 1])):
        envelope = np.repeat(shape, SAMPLE_RATE_HZ)[:, np.newaxis]
        noise = (rng.normal(0, 0.05, envelope.shape) * envelope * [1, 0.5]).astype(np.float32)
        assert measure(noise).integrated_lufs == pytest.approx(loudness_by_formula(noise), abs=0.03)


def loudness_by_formula(pcm: Block) -> float:
    padded = np.concatenate((pcm, silence(1))).astype(np.float64)
    delay = np.exp(-2j * np.pi * np.fft.rfftfreq(len(padded)))
    response: Any = 1.0
    for numerator, denominator in (
        ((1.53512485958697, -2.69169618940638, 1.19839281085285), (1, -1.69065929318241, 0.73248077421585)),
        ((1.0, -2.0, 1.0), (1, -1.99004745483398, 0.99007225036621)),
    ):
        response = response * np.polyval(numerator[::-1], delay) / np.polyval(denominator[::-1], delay)
    weighted = np.fft.irfft(np.fft.rfft(padded, axis=0) * response[:, np.newaxis], len(padded), axis=0)[: len(pcm)]
    block, hop = SAMPLE_RATE_HZ * 4 // 10, SAMPLE_RATE_HZ // 10
    powers = np.array(
        [(weighted[start : start + block] ** 2).mean(axis=0).sum() for start in range(0, len(pcm) - block + 1, hop)]
    )

    def lufs(power: Any) -> Any:
        return -0.691 + 10 * np.log10(power + 1e-30)

    loud = powers[lufs(powers) > -70]
    return float(lufs(loud[lufs(loud) > lufs(loud.mean()) - 10].mean()))


# --- copies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("export", list(ExportFormat))
def test_a_copy_is_as_long_says_what_it_is_and_sounds_the_same(tmp_path: Path, export: ExportFormat) -> None:
    source = write_ogg(tmp_path / "a.ogg", np.concatenate((silence(1), tone(2), silence(0.5))))
    target = tmp_path / f"a.{export}"
    heard: list[float] = []
    chapters = [ChapterMark(0, "Anfang"), ChapterMark(1.5, "Später")]
    seconds = encode(
        source, target, export, tags={"title": "Zwei Töne", "artist": "Ada"}, chapters=chapters, progress=heard.append
    )
    assert seconds == pytest.approx(3.5, abs=0.01)
    assert heard == sorted(heard)
    assert heard[-1] == pytest.approx(3.5, abs=0.02)
    assert duration_of(target) == pytest.approx(3.5, abs=0.06)
    pcm = np.concatenate(list(read_audio(target)))
    loud = np.flatnonzero(np.abs(pcm).max(axis=1) > 0.1) / SAMPLE_RATE_HZ
    assert (loud[0], loud[-1]) == (pytest.approx(1, abs=0.05), pytest.approx(3, abs=0.05))
    with av.open(str(target)) as container:
        assert container.metadata["title"] == "Zwei Töne"
        marks = [(mark["start"] * mark["time_base"], mark["metadata"]["title"]) for mark in container.chapters()]
    assert marks == [(0, "Anfang"), (1.5, "Später")]
    if export is ExportFormat.M4A:
        data = target.read_bytes()
        assert data.index(b"moov") < data.index(b"mdat"), "it plays before it is all there"
    assert RECIPES[export].content_type.startswith("audio/")


# --- in a process of its own ------------------------------------------------------------------------------------------


async def test_a_worker_analyses(tmp_path: Path) -> None:
    source = write_ogg(tmp_path / "a.ogg", tone(3, level=0.1))
    target = tmp_path / "peaks.json"
    heard: list[float] = []
    made = await run_job(AnalyseJob(str(source), str(target)), heard.append)
    assert made.duration_s == pytest.approx(3, abs=0.01)
    assert made.integrated_lufs == pytest.approx(-20, abs=0.3)
    content = await trio.Path(target).read_bytes()
    assert made.size == len(content)
    assert len(json.loads(content)["data"]) == 60
    assert heard, "it said how far it was"


async def test_a_worker_says_what_it_cannot_do(tmp_path: Path) -> None:
    source = tmp_path / "a.ogg"
    source.write_bytes(b"no audio")
    with pytest.raises(WorkerError, match=r"a\.ogg") as caught:
        await run_job(EncodeJob(str(source), str(tmp_path / "a.mp3"), ExportFormat.MP3))
    assert not caught.value.may_help


async def test_a_worker_goes_with_whoever_wanted_it(tmp_path: Path) -> None:
    """A source that never comes to an end: the worker waits in the middle of its work."""
    fifo = tmp_path / "a.ogg"
    os.mkfifo(fifo)
    job = EncodeJob(str(fifo), str(tmp_path / "a.mp3"), ExportFormat.MP3)
    before = _children()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_job, job)
        with trio.fail_after(60):
            while not (_children() - before):  # noqa: ASYNC110  another process's doing
                await trio.sleep(0.05)
        nursery.cancel_scope.cancel("enough")
    assert not _children() - before
    async with trio.open_nursery() as nursery:  # killed by somebody else
        nursery.start_soon(_kill_next_child, before)
        with pytest.raises(WorkerError, match="unexpectedly") as caught:
            await run_job(job)
    assert caught.value.may_help


async def test_a_worker_ends_with_the_server_however_that_ends(tmp_path: Path) -> None:
    """SIGKILL closes the pipe and does nothing else."""
    fifo = tmp_path / "a.ogg"
    os.mkfifo(fifo)
    job = EncodeJob(str(fifo), str(tmp_path / "a.mp3"), ExportFormat.MP3)
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "lac_media.derive.worker"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    assert process.stdin is not None
    with trio.fail_after(100):
        await process.stdin.send_all(msgspec.json.encode(job) + b"\n")
        await process.stdin.aclose()
        assert await process.wait() == 1


async def _kill_next_child(before: set[int]) -> None:
    with trio.fail_after(60):
        while not (children := _children() - before):  # noqa: ASYNC110  another process's doing
            await trio.sleep(0.05)
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def _children() -> set[int]:
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with (task / "children").open() as file:
            found |= {int(pid) for pid in file.read().split()}
    return found
