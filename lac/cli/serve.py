"""`lac serve`: the composition root. The only module that knows of accounts, media and HTTP together.

One process, one `trio.run`, one tree: HTTP, the media engine and the broadcasts on air are owned side by side below
`run_server`; leaving it ends them in the order in which they depend on each other.
"""

from __future__ import annotations

import argparse
import gc
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
import trio

from lac.auth.service import AuthService
from lac.broadcasts.live import open_on_air
from lac.broadcasts.service import BroadcastService
from lac.cdn.origin import open_hls_origin
from lac.cli.environment import command_environment
from lac.config import Settings, load_settings
from lac.console import for_people
from lac.db.engine import open_database
from lac.db.sole_server import hold_database
from lac.errors import ConfigError
from lac.outbox import open_outbox
from lac.recordings.afterwards import open_afterwards, open_places
from lac.recordings.archive import open_archive
from lac.recordings.service import RecordingService
from lac.sole_server import hold_data
from lac.urls import base_url_of
from lac_media.engine import EngineConfig, open_engine
from lac_media.errors import EngineStartError
from lac_web.app import create_app
from lac_web.logging import configure_logging
from lac_web.server import listening_on, serve_http
from lac_web.services import Services

log = structlog.get_logger(__name__)

#: From the signal to the last connection closed. Supervisors usually kill after ten.
SHUTDOWN_S = 6.0
#: How long sockets get to hear that the server goes away before it stops listening to them.
DRAIN_S = 3.0


@dataclass(frozen=True, slots=True)
class RunningServer:
    """What `run_server` reports when everything is up."""

    urls: list[str]
    media_port: int
    services: Services
    #: Set when nothing of it is left.
    stopped: trio.Event


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", help="address to listen on for HTTP (LAC_HOST, default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port for HTTP (LAC_PORT, default 8000)")
    parser.add_argument(
        "--media-port", type=int, help="port for media, UDP and TCP (MEDIASOUP_MIN_PORT, default 40000)"
    )
    parser.add_argument("--workers", type=int, help="number of processes (LAC_WORKERS; this version runs one)")
    parser.add_argument("--data-dir", type=Path, help="directory for the database and secrets (LAC_DATA_DIR, ./data)")


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM. Returns the process's exit code."""
    settings = load_settings(
        command_environment(),
        host=args.host,
        port=args.port,
        media_port=args.media_port,
        workers=args.workers,
        data_dir=args.data_dir,
    )
    configure_logging(stream=sys.stdout)
    trio.run(_serve_until_signalled, settings)
    return 0


async def _serve_until_signalled(settings: Settings) -> None:
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            nursery.start_soon(_stop_on_signal, signals, stop, nursery.cancel_scope)
            server = await nursery.start(partial(run_server, settings, stop=stop))
            await _greet(server)
            # What the start has made stays for good: the collector need not look at it again.
            gc.collect()
            gc.freeze()
            gc.set_threshold(10_000, 10, 10)
            await server.stopped.wait()
            nursery.cancel_scope.cancel("the server has stopped")


async def _stop_on_signal(signals: AsyncIterator[int], stop: trio.Event, everything: trio.CancelScope) -> None:
    """The first signal stops in order; a second one at once."""
    async for number in signals:
        log.info("stopping", signal=signal.Signals(number).name, at_once=stop.is_set())
        if stop.is_set():
            everything.cancel("second signal")
        stop.set()


async def run_server(
    settings: Settings,
    *,
    stop: trio.Event,
    task_status: trio.TaskStatus[RunningServer] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Everything, from the database to HTTP, until `stop` is set or the caller's scope is cancelled.

    Raises `ConfigError` with one line for whatever keeps it from starting. That another server has the data, or the
    ports, is found out before anything is read or written: shows that are live in the database are taken up as ours.
    """
    stopped = trio.Event()
    try:
        with hold_data(settings):
            await _run_alone(settings, stop, stopped, task_status)
    finally:
        stopped.set()


async def _run_alone(
    settings: Settings, stop: trio.Event, stopped: trio.Event, task_status: trio.TaskStatus[RunningServer]
) -> None:
    async with listening_on(settings.host, settings.port) as listening, open_services(settings) as services:
        shutdown = trio.Event()
        app = create_app(services)
        serve = partial(serve_http, app, listening, direct=app.direct)
        async with trio.open_nursery() as beside:
            beside.start_soon(services.engine.load.run)
            async with trio.open_nursery() as nursery:
                urls: list[str] = await nursery.start(partial(serve, shutdown=shutdown, grace_s=SHUTDOWN_S))
                task_status.started(RunningServer(urls, services.engine.port, services, stopped))
                await stop.wait()
                app.draining = True
                with trio.move_on_after(DRAIN_S):
                    await services.on_air.drain()
                services.on_air.media.end_streams()
                app.gateway.close_all()  # those too that have not joined a room
                shutdown.set()
            beside.cancel_scope.cancel("HTTP has ended")


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncGenerator[Services, None]:
    """Database, media engine and broadcasts on air, without HTTP."""
    config = EngineConfig(
        settings.media_listen_ip,
        settings.media_port,
        settings.media_announced_ips,
        settings.ice_tcp,
        settings.load_limits,
        settings.stream_limits,
    )
    try:
        async with (
            open_engine(config) as engine,  # first: what cannot have its port touches nothing
            hold_database(settings),
            open_database(settings) as db,
            open_outbox() as outbox,
        ):
            auth = AuthService(db, settings, outbox=outbox)
            broadcasts = BroadcastService(db, settings)
            async with (
                open_places(settings) as places,
                open_archive(db, settings, remove_elsewhere=places.remove_from_bucket) as archive,
                open_afterwards(db, settings, places, archive) as afterwards,
                open_hls_origin(settings) as origin,
                open_on_air(db, engine, broadcasts, auth, settings, archive=archive, origin=origin) as on_air,
            ):
                recordings = RecordingService(db, broadcasts, archive)
                _say_where_mails_go(settings)  # last: a start that is refused says why, and nothing else
                yield Services(settings, db, engine, auth, broadcasts, on_air, archive, recordings, afterwards)
    except* EngineStartError as group:
        raise ConfigError(f"{_first(group)}. Set MEDIASOUP_MIN_PORT or MEDIASOUP_LISTEN_IP.") from group


def _say_where_mails_go(settings: Settings) -> None:
    smtp = settings.smtp
    if smtp is None:
        log.info("mails go to the console, SMTP_HOST is not set")
    else:
        log.info("mails go to the mail server", host=smtp.host, port=smtp.port, sender=smtp.sender)
        if settings.public_url is None:
            log.warning("links in mails lead to this machine, set LAC_PUBLIC_URL", links=base_url_of(settings))


def _first(group: BaseExceptionGroup[EngineStartError]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _greet(server: RunningServer) -> None:
    """For whoever started it: where to go, and, while there is no admin, how to become one."""
    settings = server.services.settings
    say = partial(print, file=for_people(), flush=True)
    for url in server.urls:
        say(f"LiveAudioCast is ready: open {settings.public_url or url}")
    tcp = " and, where networks block UDP, TCP port " + str(server.media_port) if settings.ice_tcp else ""
    say(f"Media: UDP port {server.media_port}{tcp}, announced as {', '.join(settings.media_announced_ips)}")
    for name in settings.without_effect:
        say(f"{name} is set, but this version does not use it yet.")
    link = await server.services.auth.issue_setup_link(settings.public_url or server.urls[0])
    if link is not None:
        say(f"There is no admin yet. This link makes you one, once: {link}")
    say("Stop with Ctrl+C.")
