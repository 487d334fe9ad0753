"""The gateway with the real room behind it, in a whole running server."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from lac.cli.serve import RunningServer, run_server
from lac.config import load_settings
from lac.identity import Identity, IdentityKind
from lac.outbox import QueuedOutbox
from tests.fakes.gateway import Client, websocket_client

SECRETS = {"JWT_SECRET": "access-" + "a" * 40, "JWT_REFRESH_SECRET": "refresh-" + "b" * 40}


@asynccontextmanager
async def running(data_dir: Path) -> AsyncGenerator[tuple[RunningServer, trio.Event], None]:
    settings = load_settings(SECRETS, data_dir=data_dir, port=0, media_port=0)
    async with trio.open_nursery() as nursery:
        stop = trio.Event()
        server: RunningServer = await nursery.start(partial(run_server, settings, stop=stop))
        with trio.fail_after(20):
            yield server, stop
            stop.set()
            await server.stopped.wait()


async def until(client: Client, event: str) -> dict[str, object]:
    while (frame := await client.next())["event"] != event:
        pass
    return dict(frame["data"])


async def test_a_show_with_a_guest_who_is_removed_and_a_shutdown(tmp_path: Path) -> None:
    async with running(tmp_path) as (server, stop):
        services = server.services
        port = int(server.urls[0].rsplit(":", 1)[1])
        signed_in = await services.auth.register("host@lac.test", "a long password", "Host")
        identity = Identity(IdentityKind.USER, signed_in.user.id, "Host")
        broadcast = await services.broadcasts.create(identity, "A show")
        await services.on_air.start(identity, broadcast.id)
        async with websocket_client(port) as host, websocket_client(port) as guest:
            await host.send("join", {"broadcastId": broadcast.id, "token": signed_in.access_token})
            assert (await until(host, "joined"))["role"] == "host"
            await guest.send("join", {"broadcastId": broadcast.id, "name": "Gast"}, ack=1)
            you = (await until(guest, "joined"))["you"]
            assert isinstance(you, dict)
            await until(guest, "ack")

            await guest.send("chatMessage", {"text": "Grüße"}, ack=2)
            assert (await until(host, "chatMessage"))["text"] == "Grüße"
            await until(guest, "ack")

            await host.send("remove", {"userId": you["id"], "reason": "spam"}, ack=3)
            await until(host, "ack")
            assert (await guest.closed())[0] == 4403
            outbox = services.auth.account.outbox
            assert isinstance(outbox, QueuedOutbox)
            assert outbox.sent == 1  # the host's welcome, long before
            assert guest.received[-1] == {"event": "removed", "data": {"reason": "spam"}}

            async with websocket_client(port) as again:
                await again.send("join", {"broadcastId": broadcast.id, "token": you["token"]})
                assert (await again.closed())[0] == 4403

            stop.set()
            await until(host, "reconnect")
            assert (await host.closed())[0] == 1001


async def test_a_banned_guest_is_known_by_the_address_that_a_proxy_passes_on(tmp_path: Path) -> None:
    there, elsewhere = [[(b"X-Forwarded-For", address)] for address in (b"203.0.113.9", b"198.51.100.1")]
    async with running(tmp_path) as (server, _):
        services = server.services
        port = int(server.urls[0].rsplit(":", 1)[1])
        signed_in = await services.auth.register("host@lac.test", "a long password", "Host")
        identity = Identity(IdentityKind.USER, signed_in.user.id, "Host")
        broadcast = await services.broadcasts.create(identity, "A show")
        async with websocket_client(port) as host, websocket_client(port, headers=there) as guest:
            await host.send("join", {"broadcastId": broadcast.id, "token": signed_in.access_token})
            await until(host, "joined")
            await guest.send("join", {"broadcastId": broadcast.id})
            you = (await until(guest, "joined"))["you"]
            assert isinstance(you, dict)
            await host.send("slowMode", {"seconds": 60}, ack=1)
            await until(host, "ack")
            for ack in (2, 3):
                await guest.send("chatMessage", {"text": "hello"}, ack=ack)
            error = await until(guest, "error")
            wait = error["retryAfterMs"]
            assert error["code"] == "slow_mode"
            assert isinstance(wait, int)
            assert 50_000 < wait <= 60_000
            await host.send("remove", {"userId": you["id"], "ban": True}, ack=4)
            assert (await guest.closed())[0] == 4403
            async with websocket_client(port, headers=there) as again:
                await again.send("join", {"broadcastId": broadcast.id})
                assert (await again.closed())[0] == 4403
            async with websocket_client(port, headers=elsewhere) as another:
                await another.send("join", {"broadcastId": broadcast.id})
                await until(another, "joined")


async def test_strangers_and_wrong_tokens_are_told(tmp_path: Path) -> None:
    async with running(tmp_path) as (server, _):
        port = int(server.urls[0].rsplit(":", 1)[1])
        for join, code in (({"broadcastId": "nowhere"}, 4404), ({"broadcastId": "b", "token": "nonsense"}, 4401)):
            async with websocket_client(port) as client:
                await client.send("join", join)
                assert (await client.closed())[0] == code
