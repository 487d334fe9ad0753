"""The direction of imports, and what each layer may know of."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: The composition root may import everything; nothing may import it but the command line.
COMPOSITION_ROOT = ROOT / "lac/cli/serve.py"
FORBIDDEN = {
    "lac_media": {"lac", "lac_web", "quart", "quart_trio", "hypercorn", "sqlalchemy", "jwt"},
    "lac": {"lac_web", "quart", "quart_trio", "hypercorn"},
    "lac_web": {"sqlalchemy", "argon2", "pylibsrtp", "OpenSSL"},
}
SANS_IO_FORBIDDEN = {"trio", "socket", "time", "random", "secrets", "select", "threading", "asyncio", "anyio"}
#: The protocol cores, and the domain's pure models.
SANS_IO = [
    *sorted((ROOT / "lac_media/proto").glob("*.py")),
    *sorted((ROOT / "lac_media/mix").glob("*.py")),
    *sorted((ROOT / "lac_media/opus").glob("*.py")),
    ROOT / "lac_media/rooms/program.py",
    ROOT / "lac_media/rooms/director.py",
    ROOT / "lac/broadcasts/model.py",
    ROOT / "lac/broadcasts/policy.py",
    ROOT / "lac/rooms/commands.py",
    ROOT / "lac/rooms/events.py",
    ROOT / "lac/rooms/chat_rules.py",
    ROOT / "lac/rooms/hands.py",
    ROOT / "lac/rooms/invites.py",
    ROOT / "lac/rooms/kept_out.py",
    ROOT / "lac/rooms/mutes.py",
    ROOT / "lac/rooms/recent_chat.py",
    ROOT / "lac/rooms/state.py",
    ROOT / "lac/rooms/values.py",
    ROOT / "lac_web/gateway/protocol.py",
]


def imported_packages(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, f"{path}: relative import"
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_a_package_never_imports_what_stands_above_it(package: str) -> None:
    for path in sorted((ROOT / package).rglob("*.py")):
        if path == COMPOSITION_ROOT:
            continue
        wrong = set(imported_packages(path)) & FORBIDDEN[package]
        assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(sorted(wrong))}"


@pytest.mark.parametrize("path", SANS_IO, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_pure_core_imports_nothing_that_does_io_or_reads_a_clock(path: Path) -> None:
    wrong = set(imported_packages(path)) & SANS_IO_FORBIDDEN
    assert not wrong, f"imports {', '.join(sorted(wrong))}"


def test_the_media_plane_can_be_imported_alone() -> None:
    """`lac_media` is a library of its own: nothing of the rest is loaded with it."""
    import subprocess
    import sys

    code = "import sys, lac_media.engine; print([m for m in sys.modules if m.split('.')[0] in ('lac', 'lac_web')])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
