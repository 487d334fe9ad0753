"""Run npm in `frontend/` with the Node that the locked requirements bring, or the machine's own if that is new enough.

python scripts/npm.py ARGUMENT...
"""

from __future__ import annotations

import subprocess
import sys

from build_web import FRONTEND, ensure_packages, node_environment, npm_command

if __name__ == "__main__":
    ensure_packages()
    command = [*npm_command(), *sys.argv[1:]]
    sys.exit(subprocess.run(command, cwd=FRONTEND, env=node_environment(), check=False).returncode)
