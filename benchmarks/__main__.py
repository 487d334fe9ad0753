"""Everything that docs/PERFORMANCE.md shows, one after the other: `make bench`.

    python -m benchmarks [--only NAME ...]

A benchmark that fails does not keep the others from being run. Exits with 1 if one has failed, and says which.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence

#: Together about forty minutes. Alone, without what is said here, some of them take longer and say more.
BENCHMARKS = (
    "fanout",
    "encryption --rounds 4",
    "audience --variants opus opus3 --seconds 8",
    "audience --rows again red mixed",
    "overload",
    "busy --seconds 8",
    "memory",
    "joins --listeners 500",
    "soak",
    "mouth_to_ear",
    "room",
    "mix",
    "repair --minutes 1",
    "repair --chromium listener",
    "repair --chromium publisher",
    "repair --chromium host",
    "streams",
    "hls",
    "derive",
    "slow_disk",
)


def run_all(commands: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """Run each; those that failed. Interrupted, it ends at once."""
    failed = []
    for command in commands:
        print(f"\n## {shlex.join(command[1:])}\n", flush=True)
        began = time.monotonic()
        code = subprocess.run(command, check=False).returncode
        print(f"\n({time.monotonic() - began:.0f} s)", flush=True)
        if code:
            print(f"FAILED with {code}", flush=True)
            failed.append(command)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = list(dict.fromkeys(line.split()[0] for line in BENCHMARKS))
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    only = parser.parse_args().only
    lines = [line.split() for line in BENCHMARKS]
    failed = run_all([[sys.executable, "-m", f"benchmarks.{name}", *rest] for name, *rest in lines if name in only])
    for command in failed:
        print(f"FAILED: {shlex.join(command[1:])}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
