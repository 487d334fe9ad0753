"""Listeners who come and go leave nothing behind. `python -m benchmarks.soak` does the same for longer."""

from __future__ import annotations

from pathlib import Path

from benchmarks.soak import COUNTED, soak
from tests.e2e.server import running_server


def test_a_hundred_listeners_come_and_go_and_leave_nothing_behind(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        show_id = server.start_show(server.register("Hanna"))["id"]
        before, *_, after = soak(server, show_id, cycles=100, parts=2)
        assert server.metric("lac_media_sessions_closed_total") == 100
        assert after.counts == before.counts
        assert set(after.counts) == set(COUNTED)
        # Ten connections at a time, none of them left; the pool of the database may have grown.
        assert after.descriptors - before.descriptors <= server.metric("lac_db_threads") * 2
