"""A real server that speaks S3, checks signatures and keeps objects as files: `rclone serve s3`, from a wheel.

It forgets open multipart uploads when it ends, calls their absence NoSuchUpload, and tags a finished one with the MD5
of its content, where Amazon has one of the parts' MD5s: the product has to bear both.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lac.config_services import S3Settings

KEY, SECRET, BUCKET = "key", "secret", "shows"


class Rclone:
    """One server, which can be killed and started again at the same port with the same objects."""

    def __init__(self, directory: Path, *, public: bool = False) -> None:
        self._public = public
        self.bucket_directory = directory / BUCKET
        self.bucket_directory.mkdir(parents=True)
        self._directory = directory
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = int(sock.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def settings(self, *, secret: str = SECRET, port: int | None = None) -> S3Settings:
        return S3Settings(BUCKET, "us-east-1", f"http://127.0.0.1:{port or self.port}", KEY, secret)

    def start(self) -> None:
        rclone = Path(sys.executable).with_name("rclone")
        options = ["--addr", f"127.0.0.1:{self.port}"]
        # Whoever asks may read, and, with any key, write: pages of any origin, too.
        options += ["--allow-origin", "*"] if self._public else ["--auth-key", f"{KEY},{SECRET}"]
        self._process = subprocess.Popen(
            [str(rclone), "serve", "s3", *options, str(self._directory)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert self._process.poll() is None, "rclone has ended"
                assert time.monotonic() < deadline
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def objects(self) -> list[str]:
        """The keys of all, from the disk."""
        files = self.bucket_directory.rglob("*")
        return sorted(str(path.relative_to(self.bucket_directory)) for path in files if path.is_file())

    def content(self, key: str) -> bytes:
        return (self.bucket_directory / key).read_bytes()


@contextmanager
def rclone_server(directory: Path, *, public: bool = False) -> Iterator[Rclone]:
    """`public`: objects can be had without a key."""
    server = Rclone(directory, public=public)
    server.start()
    try:
        yield server
    finally:
        server.kill()
