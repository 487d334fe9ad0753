from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator

import pytest

from tests.fakes.air import Station
from tests.fakes.database import InlineDatabase


@pytest.fixture(scope="session")
def tables() -> Iterator[InlineDatabase]:
    """The tables are made once; each test begins with them empty."""
    db = InlineDatabase()
    yield db
    db.dispose()


@pytest.fixture
def new_station(tables: InlineDatabase) -> Station:
    """Not open: for scenarios that open it themselves."""
    station = Station(tables)
    station.populate()
    return station


@pytest.fixture
async def station(new_station: Station) -> AsyncGenerator[Station, None]:
    """On air, with one scheduled broadcast. The test asks for `autojump_clock` too: pytest-trio sees only a test's own
    arguments."""
    await new_station.schedule()
    async with new_station.open():
        yield new_station
