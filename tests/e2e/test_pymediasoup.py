"""pymediasoup, which speaks the JSON of `/api/mediasoup` and, as publisher, insists on being the DTLS server."""

from __future__ import annotations

import time

import pytest

from tests.e2e.aiortc_clients import publishing
from tests.e2e.asyncio_thread import AsyncioThread
from tests.e2e.pymediasoup_clients import pymediasoup_client
from tests.e2e.raw_listener import recording_packets
from tests.e2e.room_socket import room_socket
from tests.e2e.server import LacServer

pytestmark = pytest.mark.e2e

#: From the host's command to the removed person's silence. Usually a tenth of a second: `test_loss_of_rights` measures.
REMOVED_WITHIN_S = 5.0


def test_a_guest_hears_what_the_host_publishes(server: LacServer, aio: AsyncioThread) -> None:
    host = server.register("Hanna")
    show_id = server.start_show(host)["id"]
    with (
        room_socket(server.url) as socket,
        pymediasoup_client(aio, server, show_id, host.token) as publisher,
    ):
        guest = socket.join(show_id, name="Guest")["you"]
        with pymediasoup_client(aio, server, show_id, guest["token"]) as listener:
            listener.listen()
            listener.ear.wait_for_silence()
            publisher.publish(440)
            assert publisher.dtls_role == "server"
            socket.wait_for("activeSpeakers")
            listener.ear.wait_for_tone(440)
            assert listener.dtls_role == "client"
            stats = publisher.call("GET", f"/api/mediasoup/transports/{publisher.transport_id}/stats")
            assert stats["packetsIn"] > 0
            assert stats["packetsLostIn"] == 0


def test_closing_the_transport_over_http_ends_what_the_listener_gets(server: LacServer, aio: AsyncioThread) -> None:
    host = server.register("Hanna")
    show_id = server.start_show(host)["id"]
    with pymediasoup_client(aio, server, show_id) as listener:
        listener.listen()
        listener.ear.wait_for_silence()
        listener.call("DELETE", f"/api/mediasoup/transports/{listener.transport_id}")
        listener.ear.wait_for_end()
        assert (
            server.http.get(f"{server.url}/api/mediasoup/transports/{listener.transport_id}/stats").status_code == 404
        )


def test_removing_a_guest_ends_socket_and_media_at_once(server: LacServer, aio: AsyncioThread) -> None:
    host = server.register("Hanna")
    show_id = server.start_show(host)["id"]
    with (
        room_socket(server.url) as of_host,
        room_socket(server.url) as of_guest,
        publishing(aio, server, show_id, 440, host.token),
    ):
        of_host.join(show_id, token=host.token)
        guest = of_guest.join(show_id, name="Guest")["you"]
        with (
            pymediasoup_client(aio, server, show_id, guest["token"]) as listener,
            recording_packets(server, show_id, guest["token"]) as raw,
        ):
            listener.listen()
            listener.ear.wait_for_tone(440)
            asked_at = time.monotonic()
            of_host.command("remove", userId=guest["id"], reason="enough")
            assert of_guest.wait_closed(REMOVED_WITHIN_S) == 4403
            assert raw.wait_closed(REMOVED_WITHIN_S) - asked_at < REMOVED_WITHIN_S
            assert raw.arrivals[-1][0] - asked_at < REMOVED_WITHIN_S
            assert of_guest.wait_for("removed")["reason"] == "enough"
            listener.ear.wait_for_end()

        refused = server.http.post(
            f"{server.url}/api/mediasoup/{show_id}/transports",
            json={"direction": "recv"},
            headers={"Authorization": f"Bearer {guest['token']}"},
        )
        assert refused.status_code == 403
