"""Other people's players and encoders as programs of their own: what they play is heard, what they send is a tone."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from tests.e2e.hearing import Ear
from tests.e2e.tone import RATE_HZ

STOP_S = 10.0


def program(name: str) -> str:
    """Its path. The tests need it: `scripts/ensure-test-packages.sh` installs it."""
    path = shutil.which(name)
    assert path is not None, f"{name} is not installed: apt-get install {name}"
    return path


def ffmpeg_playing(url: str, *options: str) -> list[str]:
    raw = ["-f", "f32le", "-ac", "1", "-ar", str(RATE_HZ), "-flush_packets", "1", "pipe:1"]
    return [program("ffmpeg"), "-nostdin", "-v", "error", *options, "-i", url, *raw]


def mpv_playing(url: str) -> list[str]:
    out = ["--ao=pcm", "--ao-pcm-file=/dev/stdout", "--ao-pcm-waveheader=no", "--audio-format=float"]
    audio = [f"--audio-samplerate={RATE_HZ}", "--audio-channels=mono"]
    return [program("mpv"), "--no-config", "--no-video", "--no-terminal", *out, *audio, url]


class Player:
    """A program that writes mono float32 at 48 kHz to its standard output."""

    def __init__(self, command: Sequence[str]) -> None:
        self.ear = Ear()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._threads = [threading.Thread(target=read) for read in (self._read, self._read_errors)]
        self.errors = b""
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        stream, rest = self.process.stdout, b""
        assert stream is not None
        while data := stream.read1(65536):  # type: ignore[attr-defined]  # a BufferedReader
            data = rest + data
            whole = len(data) // 4 * 4
            rest = data[whole:]
            self.ear.hear(np.frombuffer(data[:whole], "<f4"))
        self.ear.end()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors = self.process.stderr.read()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(STOP_S)
        for thread in self._threads:
            thread.join()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@contextmanager
def playing(command: Sequence[str]) -> Iterator[Player]:
    player = Player(command)
    try:
        yield player
    finally:
        player.close()


def tone_file(path: Path, frequency_hz: int, *codec: str) -> Path:
    """A minute of it."""
    tone = ["-f", "lavfi", "-i", f"sine={frequency_hz}:sample_rate={RATE_HZ}:duration=60", "-ac", "2"]
    subprocess.run([program("ffmpeg"), "-v", "error", *tone, *codec, str(path)], check=True)
    return path


@contextmanager
def sending(command: Sequence[str], *, file: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run an encoder until the block is left; `file` is its standard input."""
    with ExitStack() as stack:
        stdin = subprocess.DEVNULL if file is None else stack.enter_context(file.open("rb"))
        process = subprocess.Popen(command, stdin=stdin, stderr=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(STOP_S)


@contextmanager
def ffmpeg_sending(url: str, frequency_hz: int, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A tone at the pace of the clock, until the block is left."""
    tone = ["-re", "-f", "lavfi", "-i", f"sine={frequency_hz}:sample_rate={RATE_HZ}", "-ac", "2"]
    with sending([program("ffmpeg"), "-nostdin", "-v", "error", *tone, *options, url]) as process:
        yield process


_OGG = ("-f", "ogg", "-content_type", "application/ogg")
#: As much as Opus can be, whatever is said.
OGG_OPUS_LARGE = ("-c:a", "libopus", "-b:a", "500k", "-vbr", "off", "-page_duration", "200000", *_OGG)
OGG_OPUS = ("-c:a", "libopus", "-b:a", "64k", "-page_duration", "200000", *_OGG)
OGG_VORBIS = ("-c:a", "libvorbis", *_OGG)
MP3 = ("-c:a", "libmp3lame", "-f", "mp3", "-content_type", "audio/mpeg")
