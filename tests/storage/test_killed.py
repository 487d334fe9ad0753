"""A process that sends a growing file is killed at random moments; the last one finishes, and nothing is left open."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import trio

from lac.config_services import S3Settings
from lac.storage.disk import DiskThreads
from lac.storage.mirror import Mirror, journal_path, read_journal
from lac.storage.s3 import open_s3
from tests.rclone import BUCKET, SECRET, rclone_server
from tests.rclone import KEY as KEY_ID

KEY = "recordings/r1/program.ogg"
ROOT = Path(__file__).parents[2]
LIVES = 3


def send(path: str, url: str) -> None:
    """In the process that is killed: follow the file for ever."""

    async def main() -> None:
        async with open_s3(S3Settings(BUCKET, "us-east-1", url, KEY_ID, SECRET)) as store:
            await Mirror(store, DiskThreads(), Path(path), KEY, "audio/ogg").run()

    trio.run(main)


def test_a_sender_that_is_killed_again_and_again(tmp_path: Path) -> None:
    rng = random.Random(5)
    path = tmp_path / "program.ogg"
    path.touch()
    went_on = 0
    with rclone_server(tmp_path / "s3") as rclone:
        for _life in range(LIVES):
            before = read_journal(path)
            command = "import sys; from tests.storage.test_killed import send; send(*sys.argv[1:])"
            with subprocess.Popen([sys.executable, "-c", command, str(path), rclone.url], cwd=ROOT) as process:
                with path.open("ab") as file:
                    file.write(os.urandom(6 << 20))
                deadline = time.monotonic() + 60
                known = 0 if before is None else len(before.parts)
                while (journal := read_journal(path)) is None or len(journal.parts) <= known:
                    assert process.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
                time.sleep(rng.random() / 4)
                process.kill()
            went_on += before is not None and before.upload_id == journal.upload_id

        async def finish() -> None:
            async with open_s3(rclone.settings()) as store:
                assert len(await store.open_uploads("")) == 1
                mirror = Mirror(store, DiskThreads(), path, KEY, "audio/ogg")
                mirror.closed.set()
                await mirror.run()
                assert await store.open_uploads("") == []

        trio.run(finish)
        assert went_on == LIVES - 1, "each went on with the upload that the one before had begun"
        assert rclone.content(KEY) == path.read_bytes()
    assert not journal_path(path).exists()
