"""aiortc as encoder (WHIP) and as player (WHEP)."""

from __future__ import annotations

import pytest

from tests.e2e.aiortc_clients import listening, publishing
from tests.e2e.asyncio_thread import AsyncioThread
from tests.e2e.raw_listener import recording_packets
from tests.e2e.server import LacServer

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("bearer", ["access token", "stream key"])
def test_a_tone_published_over_whip_is_heard_over_whep(server: LacServer, aio: AsyncioThread, bearer: str) -> None:
    host = server.register("Hanna")
    show = server.start_show(host)
    token = host.token if bearer == "access token" else show["streamKey"]
    with publishing(aio, server, show["id"], 440, token), listening(aio, server, show["id"]) as listener:
        listener.ear.wait_for_tone(440)
        assert listener.state == "connected"


def test_a_listener_stays_while_publishers_come_and_go(server: LacServer, aio: AsyncioThread) -> None:
    host = server.register("Hanna")
    show_id = server.start_show(host)["id"]
    with recording_packets(server, show_id) as raw, listening(aio, server, show_id) as listener:
        listener.ear.wait_for_silence()
        with publishing(aio, server, show_id, 440, host.token):
            listener.ear.wait_for_tone(440)
        listener.ear.wait_for_silence()
        with publishing(aio, server, show_id, 660, host.token):
            listener.ear.wait_for_tone(660)
            raw.wait_for_packets(10)
        listener.ear.wait_for_silence()
        assert listener.state == "connected"
    raw.check_one_unbroken_stream()


def test_delete_ends_either_session_once(server: LacServer, aio: AsyncioThread) -> None:
    host = server.register("Hanna")
    show_id = server.start_show(host)["id"]
    with publishing(aio, server, show_id, 440, host.token) as publisher, listening(aio, server, show_id) as listener:
        listener.ear.wait_for_tone(440)
        assert publisher.http.delete() == 200
        publisher.wait_closed()
        assert publisher.http.delete() == 404
        listener.ear.wait_for_silence()
        assert listener.http.delete() == 200
        listener.wait_closed()
        listener.ear.wait_for_end()
        assert listener.http.delete() == 404


def test_the_end_of_the_show_hangs_up_on_everyone(server: LacServer, aio: AsyncioThread) -> None:
    host = server.register("Hanna")
    show_id = server.start_show(host)["id"]
    with publishing(aio, server, show_id, 440, host.token) as publisher, listening(aio, server, show_id) as listener:
        listener.ear.wait_for_tone(440)
        server.call("POST", f"/api/broadcasts/{show_id}/end", token=host.token)
        listener.wait_closed()
        publisher.wait_closed()
        listener.ear.wait_for_end()
        assert listener.http.delete() == 404
