from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.database import InlineDatabase
from tests.recordings.station import RecordedStation
from tests.rooms.conftest import populated, tables

__all__ = ["populated", "tables"]


@pytest.fixture
def new_station(tables: InlineDatabase, populated: tuple[str, bytes], tmp_path: Path) -> Callable[[], RecordedStation]:
    """Makes a station as it is before it opens, on an empty disk."""

    def make() -> RecordedStation:
        station = RecordedStation(tables, tmp_path / "data")
        shutil.rmtree(station.settings.data_dir, ignore_errors=True)
        station.show_id, snapshot = populated
        tables.restore(snapshot)
        return station

    return make
