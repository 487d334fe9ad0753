"""Settings for all tests."""

from __future__ import annotations

import os
from itertools import chain, groupby
from pathlib import Path

import pytest
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


END_TO_END = Path(__file__).parent / "e2e"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """For several workers: two of them begin with the end-to-end tests, which mostly wait for real time to pass, half
    of the files each. The others meanwhile, and these two afterwards, share the rest, which is all computing. So no
    more than two browsers are busy at a time as long as there is anything else to do, and the long tests come first."""
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    if workers > 1:
        items[:] = shared_out(items, workers)


def shared_out(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """In an order that suits `--dist worksteal`, which gives each worker a share of as many tests to begin with."""
    rest, files = [], list[list[pytest.Item]]()
    for path, tests in groupby(items, key=lambda item: item.path):
        if END_TO_END in path.parents:
            files.append(list(tests))
        else:
            rest.extend(tests)
    first, second = list(chain(*files[::2])), list(chain(*files[1::2]))
    between = max(0, len(items) // workers - len(first))
    return [*first, *rest[:between], *second, *rest[between:]]
