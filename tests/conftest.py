"""Settings for all tests."""

from __future__ import annotations

import os

import structlog
from hypothesis import HealthCheck, settings

# Deadlines measure the machine, not the code. A CI run must be repeatable; a developer's may explore.
settings.register_profile("dev", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

# As the server writes them. By default structlog has rich draw each traceback with its frames' source in colours: more
# than half a second for one, and the sweeps log hundreds.
_plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
structlog.configure(processors=[*structlog.get_config()["processors"][:-1], _plain])
