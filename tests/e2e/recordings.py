"""Recordings as a client of a real server sees them, and what ffmpeg says of their files."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.e2e.server import LacServer

#: The verifier has a low priority, and waits for everything else on a busy machine.
FINISHED_WITHIN_S = 60.0


def list_recordings(server: LacServer, show_id: str, token: str) -> list[dict[str, Any]]:
    """The earliest first."""
    page = server.call("GET", f"/api/recordings?broadcastId={show_id}&limit=100", token=token)
    items: list[dict[str, Any]] = page["items"]
    return items[::-1]


def finished(server: LacServer, show_id: str, token: str, *, count: int = 1) -> list[dict[str, Any]]:
    """The show's recordings, once so many of them are ready or have failed."""
    deadline = time.monotonic() + FINISHED_WITHIN_S
    while True:
        found = list_recordings(server, show_id, token)
        done = [recording for recording in found if recording["status"] in ("ready", "failed")]
        if len(done) >= count:
            return done
        assert time.monotonic() < deadline, f"{found}\n{server.log()}"
        time.sleep(0.1)


def manifest_of(server: LacServer, recording_id: str, token: str) -> dict[str, Any]:
    manifest: dict[str, Any] = server.call("GET", f"/api/recordings/{recording_id}/manifest", token=token)
    return manifest


def probe(path: Path) -> dict[str, Any]:
    """What ffprobe says of a file, which it must read without a complaint."""
    command = ["ffprobe", "-v", "error", "-show_format", "-show_streams", "-of", "json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == "", done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def decoded_seconds(path: Path) -> float:
    """How much sound ffmpeg finds in it."""
    command = ["ffmpeg", "-v", "quiet", "-i", str(path), "-f", "s16le", "-ac", "1", "-ar", "8000", "-"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    return len(done.stdout) / 2 / 8000


def check_files(directory: Path, manifest: dict[str, Any]) -> None:
    """Every file of a finished recording is what its manifest says, and there is nothing else but what was made from
    it."""
    names = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}
    names = {name for name in names if not name.startswith("derived/")}
    assert names == {"manifest.json", *(track["file"] for track in manifest["tracks"])}
    for track in manifest["tracks"]:
        path = directory / track["file"]
        assert path.stat().st_size == track["sizeBytes"]
        found = probe(path)
        assert found["streams"][0]["codec_name"] == "opus"
        assert abs(float(found["format"]["duration"]) - track["durationS"]) < 0.05
        assert abs(decoded_seconds(path) - track["durationS"]) < 0.1
