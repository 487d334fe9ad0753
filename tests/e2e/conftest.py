"""A server per test process, a browser per module, and the clients that several modules share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.asyncio_thread import AsyncioThread
from tests.e2e.server import LacServer, running_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LacServer]:
    """`lac serve` on free ports with a data directory of its own. Tests keep apart by making their own accounts and
    shows."""
    with running_server(tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest.fixture
def aio() -> Iterator[AsyncioThread]:
    """A loop for asyncio clients. What they leave unhandled fails the test."""
    thread = AsyncioThread()
    try:
        yield thread
    finally:
        thread.close()
    assert not thread.errors, thread.errors
