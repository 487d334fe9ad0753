"""Worker processes: one job each, a few at a time, gone with whoever wanted them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog
import trio

import lac_media
from lac.tasks import cleanup_scope
from lac_media.derive.worker import Job, Made, Report

log = structlog.get_logger(__name__)

#: A worker says something twice a second; one that says nothing for so long, on however busy a machine, hangs.
SILENCE_S = 120.0
#: A line of a worker's is some hundred bytes.
MAX_LINE_BYTES = 64 * 1024
KILL_S = 5.0


class WorkerError(Exception):
    """The job cannot be done; the message is for people. Doing it again ends the same way, unless that `may_help`."""

    def __init__(self, message: str, *, may_help: bool = False) -> None:
        super().__init__(message)
        self.may_help = may_help


async def run_job(job: Job, on_progress: Callable[[float], None] = lambda seconds: None) -> Made:
    """Do `job` in a process of its own. Raises `WorkerError`. Cancelling kills the process; what it wrote by then
    is the caller's to remove."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "lac_media.derive.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=_environment(),
    )
    try:
        if process.stdin is None or process.stdout is None:
            raise WorkerError("the worker has no pipes", may_help=True)
        try:
            await process.stdin.send_all(msgspec.json.encode(job) + b"\n")
            last = await _listen(process.stdout, on_progress)
        except trio.BrokenResourceError:
            last = Report()
        if last.done is not None:
            return last.done
        if last.error is not None:
            raise WorkerError(last.error)
        status = await process.wait()
        raise WorkerError(f"the worker ended unexpectedly (status {status})", may_help=True)
    finally:
        if process.returncode is None:
            process.kill()
        with cleanup_scope(KILL_S, "waiting for a worker's end", pid=process.pid):
            await process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    await pipe.aclose()


async def _listen(pipe: trio.abc.ReceiveStream, on_progress: Callable[[float], None]) -> Report:
    """The last report of a worker; an empty one if it ended without."""
    buffer = bytearray()
    while True:
        while (end := buffer.find(b"\n")) >= 0:
            report = msgspec.json.decode(bytes(buffer[:end]), type=Report)
            del buffer[: end + 1]
            if report.at is None:
                return report
            on_progress(report.at)
        with trio.move_on_after(SILENCE_S) as scope:
            data = await pipe.receive_some(MAX_LINE_BYTES)
        if scope.cancelled_caught or len(buffer) > MAX_LINE_BYTES:
            raise WorkerError("the worker hangs", may_help=True)
        if not data:
            return Report()
        buffer += data


def _environment() -> dict[str, str]:
    """What a worker needs, and none of the server's secrets. It imports the code that we run, wherever that lies."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT") if name in os.environ}
    return {**kept, "PYTHONPATH": str(Path(lac_media.__file__).parents[1])}
