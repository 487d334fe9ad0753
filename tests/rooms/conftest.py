from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator

import pytest
import trio

from tests.fakes.air import Station
from tests.fakes.database import InlineDatabase


@pytest.fixture(scope="session")
def tables() -> Iterator[InlineDatabase]:
    """Made once; each test begins with them empty."""
    db = InlineDatabase()
    yield db
    db.dispose()


@pytest.fixture(scope="session")
def populated(tables: InlineDatabase) -> tuple[str, bytes]:
    """The id of the broadcast, and everything in the tables when a test begins."""
    station = Station(tables)
    trio.run(station.populate)
    return station.show_id, tables.snapshot()


@pytest.fixture
def new_station(tables: InlineDatabase, populated: tuple[str, bytes]) -> Callable[[], Station]:
    """Makes a station as it is before it opens: for what opens it itself."""

    def make() -> Station:
        station = Station(tables)
        station.show_id, snapshot = populated
        tables.restore(snapshot)
        return station

    return make


@pytest.fixture
async def station(new_station: Callable[[], Station]) -> AsyncGenerator[Station, None]:
    """On air, with one scheduled broadcast. The test asks for `autojump_clock` too: pytest-trio sees only a test's own
    arguments."""
    station = new_station()
    async with station.open():
        yield station
