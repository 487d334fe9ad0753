"""What the benchmarks of a whole server share: one to measure, a crowd for it, and tables."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
import trio

from lac.loadtest.plan import Plan
from lac.loadtest.results import Results
from lac.loadtest.run import LoadTest
from tests.e2e.server import Account, LacServer, running_server

#: For the server, too, which inherits it.
FILES = 20_000
#: What a crowd in another process says.
ALL_IN = "all in"
_BUCKET = re.compile(r'_bucket\{le="([^"]+)"\} (\S+)$')


def allow_files() -> None:
    """Each listener needs a socket, and so does each that the server has over TCP."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, FILES)), hard))


@contextmanager
def measured_server(*, program: str = "lac.cli.main", refuses: bool = False, **environment: str) -> Iterator[LacServer]:
    """A real `lac serve` in a process of its own, that refuses nobody: how far it gets is what is to be seen. One that
    `refuses` has the usual limits for that, and knows no HLS to send people to."""
    allow_files()
    free = {
        "LAC_LIMITS_FACTOR": "10000",
        "LAC_HLS_OFFLOAD_LISTENERS": "1000000",
        "LAC_HOST_GRACE_S": "3600",  # a show may go on without its host
    }
    if not refuses:
        free |= {"LAC_OVERLOAD_DELAY_MS": "60000", "LAC_OVERLOAD_LAG_MS": "60000"}
    with (
        tempfile.TemporaryDirectory() as data_dir,
        running_server(Path(data_dir), program=program, **free | environment) as server,
    ):
        server.http.timeout = httpx.Timeout(60)
        yield server


def resident_kib(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


class Buckets:
    """A histogram of /metrics as it stands now."""

    def __init__(self, server: LacServer, name: str) -> None:
        lines = [line for line in server.call("GET", "/metrics").text.splitlines() if line.startswith(f"{name}_bucket")]
        found = [match for line in lines if (match := _BUCKET.search(line))]
        self.counts = {float(match[1]): float(match[2]) for match in found}

    def quantile_since(self, before: Buckets, share: float) -> float:
        """Of what has been counted since then, straight lines within a bucket; infinite above the last bound."""
        counts = {bound: count - before.counts[bound] for bound, count in self.counts.items()}
        wanted = share * max(counts.values())
        low, below = 0.0, 0.0
        for bound, count in sorted(counts.items()):
            if count >= wanted and count > below:
                return low + (bound - low) * (wanted - below) / (count - below) if bound != float("inf") else bound
            low, below = bound, count
        return float("inf")


@dataclass(frozen=True)
class Crowd:
    """What came of one crowd, and what the server said of the same time."""

    results: Results
    #: Resident memory of the server when all were in, less that before the first.
    grown_kib: int
    #: From a program packet's arrival to its last listener.
    forwarding_p50_ms: float
    forwarding_p99_ms: float

    @property
    def core(self) -> float:
        """The server's share of one core."""
        return (self.results.server_cpu_s or 0.0) / self.results.measured_s

    @property
    def listeners_per_core(self) -> float:
        return self.results.connected / self.core if self.core else 0.0


def gather(server: LacServer, host: Account, *, on_all_in: Callable[[], None] = lambda: None, **plan: Any) -> Crowd:
    """Bring a crowd to a show with a speaker (its own, unless another is named), stay as planned, and leave.
    `on_all_in` is called once, when it begins to be measured."""
    before, began = resident_kib(server.process.pid), list[Buckets]()
    grown_kib = 0

    def tell(line: str) -> None:
        nonlocal grown_kib
        if line.startswith("measuring") and not began:
            grown_kib = resident_kib(server.process.pid) - before
            began.append(Buckets(server, "lac_forwarding_delay_seconds"))
            on_all_in()

    test = LoadTest(Plan(server.url, token=host.token, **plan), tell)
    trio.run(test.run)
    if test.results.broken_off or not began:
        raise RuntimeError(f"the crowd broke off: {test.results.broken_off or 'too short a time to measure'}")
    ended = Buckets(server, "lac_forwarding_delay_seconds")
    p50, p99 = (ended.quantile_since(began[0], share) * 1000 for share in (0.5, 0.99))
    return Crowd(test.results, grown_kib, p50, p99)


@dataclass
class Beside:
    """A crowd in another process. `results` are there after the block."""

    results: Results | None = None


@contextmanager
def crowd_beside(plan: Plan) -> Iterator[Beside]:
    """Listeners from a process of their own, while something else is measured: all are in when the block begins, and
    leave when it ends, whatever the plan's duration. `RuntimeError` if they do not get in."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_be_beside, args=(theirs, plan))
    process.start()
    theirs.close()
    beside = Beside()
    try:
        first: str | Results = ours.recv()
        if first != ALL_IN:
            raise RuntimeError(f"the crowd did not get in: {first}")
        yield beside
        ours.send("leave")
        beside.results = ours.recv()
    finally:
        ours.close()  # which it takes for "leave"
        process.join()


def _be_beside(pipe: Connection, plan: Plan) -> None:
    allow_files()
    all_in = False

    def tell(line: str) -> None:
        nonlocal all_in
        if line.startswith("measuring") and not all_in:
            all_in = True
            pipe.send(ALL_IN)

    test = LoadTest(plan, tell)

    def wait_for_the_word() -> None:
        with suppress(EOFError):
            pipe.recv()

    async def until_told() -> None:
        async with trio.open_nursery() as nursery:

            async def leave_when_told() -> None:
                await trio.to_thread.run_sync(wait_for_the_word, abandon_on_cancel=True)
                nursery.cancel_scope.cancel("told to leave")

            nursery.start_soon(leave_when_told)
            await test.run()
            nursery.cancel_scope.cancel("over")

    trio.run(until_told)
    with suppress(OSError):  # nobody wants to know any more
        pipe.send(test.results)


def warm_up(server: LacServer, host: Account) -> None:
    """What a process does for the first time takes longer, and more memory."""
    gather(server, host, listeners=50, ramp_s=0.5, duration_s=2.0)


def machine_s() -> float:
    """CPU seconds that a fixed amount of plain Python takes: what tells two machines apart, or one machine's hours."""
    began, total = time.process_time(), 0
    for number in range(3_000_000):
        total += number * number % 7
    return time.process_time() - began


def print_head(*columns: str) -> None:
    print(f"\nThe machine: {machine_s():.2f} s for a fixed piece of work.\n")
    print("| " + " | ".join(columns) + " |")
    print("|" + " ---: |" * len(columns), flush=True)


def print_row(*values: object) -> None:
    print("| " + " | ".join(str(value) for value in values) + " |", flush=True)
