"""GStreamer's webrtcbin plays the program, in both of the variants that can be asked for."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.aiortc_clients import publishing
from tests.e2e.asyncio_thread import AsyncioThread
from tests.e2e.hearing import PATIENCE_S, Ear
from tests.e2e.server import LacServer

pytestmark = pytest.mark.e2e

#: The one that Debian's bindings are for.
PYTHON = "/usr/bin/python3"
SCRIPT = Path(__file__).parent / "gstreamer_player.py"
CHUNK_BYTES = 960


class GStreamerPlayer:
    """The player as a process; `counted` is what its decoder says in the end."""

    def __init__(self, endpoint: str) -> None:
        self.ear = Ear()
        self.counted: dict[str, int] = {}
        self._process = subprocess.Popen([PYTHON, SCRIPT, endpoint], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._thread = threading.Thread(target=self._listen, name="GStreamer player")
        self._thread.start()

    def stop(self) -> None:
        self._process.terminate()
        assert self._process.stderr is not None
        text = self._process.stderr.read().decode()
        self._thread.join(PATIENCE_S)
        with self._process:  # waits, and closes the pipes
            pass
        lines = text.splitlines()
        assert lines, "ended without a word"
        assert lines[-1].startswith("{"), text
        self.counted = json.loads(lines[-1])

    def _listen(self) -> None:
        assert self._process.stdout is not None
        while data := self._process.stdout.read(CHUNK_BYTES):
            self.ear.hear(np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float32) / 32768)
        self.ear.end()


@contextmanager
def playing(endpoint: str) -> Iterator[GStreamerPlayer]:
    player = GStreamerPlayer(endpoint)
    try:
        yield player
    finally:
        player.stop()


@pytest.mark.parametrize("variant", ["opus", "opus3"])
def test_gstreamer_plays_it_without_making_anything_up(server: LacServer, aio: AsyncioThread, variant: str) -> None:
    host = server.register("Hanna")
    show_id = server.start_show(host)["id"]
    endpoint = f"{server.url}/whep/{show_id}?variant={variant}"
    with publishing(aio, server, show_id, 440, host.token), playing(endpoint) as player:
        player.ear.wait_for_tone(440)
    # A quarter of a second of it was heard: at least five packets of 60 ms had begun.
    assert player.counted["num-pushed"] >= 5
    assert player.counted["plc-num-samples"] == 0, player.counted
