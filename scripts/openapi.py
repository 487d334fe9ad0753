"""Keep frontend/openapi.json and the TypeScript types made from it equal to what the server's code declares.

    python scripts/openapi.py            write both
    python scripts/openapi.py --check    say whether they are current (exit code 1 if not)

Needs no database and opens no socket.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

from build_web import FRONTEND, ROOT, ensure_packages, find_node, node_environment

sys.path.insert(0, str(ROOT))

from lac.config import Settings
from lac_web.app import create_app
from lac_web.openapi import openapi_document
from lac_web.services import Services

DOCUMENT = FRONTEND / "openapi.json"
TYPES = FRONTEND / "client" / "src" / "schema.d.ts"


def document() -> str:
    """The document as the server would serve it. Describing the routes needs none of the services behind them."""
    nothing = cast("Any", None)
    settings = Settings(data_dir=Path("data"), jwt_secret="", jwt_refresh_secret="")
    app = create_app(Services(settings, *[nothing] * 8))
    return json.dumps(openapi_document(app), indent=2, ensure_ascii=False) + "\n"


def types(text: str) -> str:
    """TypeScript for it, by openapi-typescript."""
    ensure_packages()
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "openapi.json", Path(scratch) / "schema.d.ts"
        source.write_text(text, encoding="utf-8")
        tool = FRONTEND / "node_modules" / "openapi-typescript" / "bin" / "cli.js"
        command = [find_node().binary, tool, source, "--output", target, "--default-non-nullable=false"]
        done = subprocess.run(
            command, cwd=FRONTEND, env=node_environment(), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            sys.exit(f"openapi: openapi-typescript failed:\n{done.stdout}{done.stderr}")
        return target.read_text(encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description="Write, or check, the OpenAPI document and the types made from it.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if something is stale")
    arguments = parser.parse_args()
    text = document()
    made = {DOCUMENT: text, TYPES: types(text)}
    stale = [path for path, new in made.items() if not path.is_file() or path.read_text(encoding="utf-8") != new]
    for path in stale:
        name = path.relative_to(ROOT).as_posix()
        if arguments.check:
            print(f"openapi: {name} is stale; run: make types")
        else:
            path.write_text(made[path], encoding="utf-8")
            print(f"openapi: wrote {name}")
    if not stale:
        print("openapi: up to date")
    return 1 if stale and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
