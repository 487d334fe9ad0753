"""Does a file play, and what is in it? Run as a program of its own, with little priority: decoding takes a core for a
while, and a decoder that breaks must not take the server with it.

    python -m lac.recordings.verify FILE...    prints one JSON object, from each file to what was found
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import av
import av.error

_CHUNK = 1024 * 1024
NICE = 10


def examine(path: Path) -> dict[str, Any]:
    """`size`, `sha256`, `packets`, `undecodable` (packets that a decoder passes over), `decodedS`, and `error` where it
    cannot be read at all."""
    found: dict[str, Any] = {"size": 0, "sha256": "", "packets": 0, "undecodable": 0, "decodedS": 0.0, "error": None}
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            found["size"] += len(chunk)
    found["sha256"] = digest.hexdigest()
    samples = 0
    try:
        with av.open(str(path), format="ogg") as container:
            stream = container.streams.audio[0]
            for packet in container.demux(stream):
                found["packets"] += packet.size > 0
                try:
                    samples += sum(frame.samples for frame in packet.decode())
                except av.error.FFmpegError:
                    found["undecodable"] += 1
            found["decodedS"] = samples / (stream.codec_context.sample_rate or 48_000)
    except (av.error.FFmpegError, IndexError) as error:
        found["error"] = str(error)
    return found


def main(arguments: list[str]) -> int:
    with contextlib.suppress(OSError):
        os.nice(NICE)
    av.logging.set_level(av.logging.PANIC)
    sys.stdout.write(json.dumps({name: examine(Path(name)) for name in arguments}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
