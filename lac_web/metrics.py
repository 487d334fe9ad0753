"""What the process tells Prometheus. Its own registry: two applications in one process count apart.

What others count already (media, sockets, the database's threads) is read when it is asked for; only requests are
counted here. Labels are of ours: routes, never addresses or ids.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import trio
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from quart import Quart, Request, Response, g, has_request_context, request

from lac import __version__
from lac.errors import ForbiddenError, NotSignedInError
from lac.outbox import QueuedOutbox
from lac_media.parameters import Variant
from lac_media.streams.formats import StreamFormat
from lac_web.client_address import is_local
from lac_web.rate_limits import RateLimiter
from lac_web.services import Services

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from lac_web.gateway.routes import Gateway

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_BUCKETS_S = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """Of one application."""

    def __init__(self, services: Services, limiter: RateLimiter) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "lac_http_requests", "HTTP requests answered.", ("method", "route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "lac_http_request_seconds",
            "From a request's headers to the answer's.",
            ("route",),
            buckets=_REQUEST_BUCKETS_S,
            registry=self._registry,
        )
        ProcessCollector(registry=self._registry)
        self._registry.register(_ServerCollector(services, limiter, self))
        #: Set once the application has them.
        self.gateway: Gateway | None = None

    def render(self) -> bytes:
        """The text exposition format, version 0.0.4."""
        return generate_latest(self._registry)

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method if method in _METHODS else "other", route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)


class _ServerCollector(Collector):
    """Reads what the services count themselves."""

    def __init__(self, services: Services, limiter: RateLimiter, metrics: Metrics) -> None:
        self._services = services
        self._limiter = limiter
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("lac_build", "Always 1; the version is in the label.", labels=("version",))
        info.add_metric((__version__,), 1)
        yield info
        tasks = trio.lowlevel.current_statistics().tasks_living
        yield GaugeMetricFamily(
            "lac_tasks", "Tasks of the event loop; a few for each socket, one for each session.", tasks
        )
        yield from self._media()
        yield from self._recordings()
        yield from self._afterwards()
        yield from self._hls()
        yield from self._load()
        yield from self._database()
        yield from self._mails()
        gateway = self._metrics.gateway
        if gateway is not None:
            yield GaugeMetricFamily("lac_sockets", "Open WebSockets.", len(gateway.connections))
            closed = CounterMetricFamily(
                "lac_sockets_closed", "WebSockets that we closed, by code; 1013: too slow.", labels=("code",)
            )
            for code, count in sorted(gateway.closed.items()):
                closed.add_metric((str(int(code)),), count)
            yield closed
        refused = CounterMetricFamily(
            "lac_rate_limited", "Requests refused because a limit was reached.", labels=("limit",)
        )
        for limit, count in self._limiter.refused.items():
            refused.add_metric((limit,), count)
        yield refused

    def _media(self) -> Iterator[Metric]:
        engine = self._services.engine
        totals, wire = engine.totals(), engine.counters
        yield GaugeMetricFamily("lac_media_rooms", "Broadcasts on air.", totals.rooms)
        yield GaugeMetricFamily("lac_media_sessions", "Media sessions, speakers and listeners.", totals.sessions)
        yield GaugeMetricFamily("lac_media_peers", "Names and addresses that datagrams are known by.", engine.peers)
        yield GaugeMetricFamily("lac_listeners", "Listeners that the programs reach.", totals.listeners)
        by_variant = GaugeMetricFamily(
            "lac_listeners_by_variant", "The same by the variant of the program that they get.", labels=("variant",)
        )
        for variant in Variant:
            by_variant.add_metric((variant,), totals.listeners_by_variant[variant])
        yield by_variant
        yield from self._streams()
        for name, text, value in (
            ("lac_media_packets_in", "Audio packets from speakers.", totals.packets_in),
            ("lac_media_packets_lost_in", "Audio packets from speakers that never came.", totals.packets_lost_in),
            (
                "lac_media_packets_repaired_in",
                "Audio packets from speakers that were lost and came after all: asked for again, or as copies.",
                totals.packets_repaired_in,
            ),
            ("lac_media_packets_out", "Program packets to listeners.", totals.packets_out),
            ("lac_media_mixed_packets", "Program packets in which several speakers are mixed.", totals.mixed),
            ("lac_media_retransmitted", "Program packets sent again because a listener asked.", totals.retransmitted),
            (
                "lac_listeners_switched",
                "Listeners moved between the program with redundancy and without, because of their losses.",
                totals.switched,
            ),
            ("lac_media_handshake_failures", "Sessions that never got connected.", totals.handshake_failures),
            ("lac_datagrams_in", "UDP datagrams received, all kinds.", wire.datagrams_in),
            ("lac_datagrams_out", "UDP datagrams sent, program packets not counted.", wire.datagrams_out),
            ("lac_media_peer_failures", "Peers ended by an error of ours. Should stay 0.", wire.peer_failures),
        ):
            yield CounterMetricFamily(name, text, value)
        yield from self._tcp()
        dropped = CounterMetricFamily("lac_media_dropped", "Packets thrown away, by why.", labels=("why",))
        for why, count in (
            ("kernel_buffer_full", totals.dropped_out + wire.dropped_out),
            ("receive_buffer_full", wire.overruns),
            ("crowd_connecting", wire.crowded_out),
            ("program_queue_full", totals.queue_dropped),
            ("bad", totals.bad_packets + wire.malformed),
            ("unknown_source", wire.unknown_source),
        ):
            dropped.add_metric((why,), count)
        yield dropped
        closed = CounterMetricFamily("lac_media_sessions_closed", "Media sessions that ended.", labels=("reason",))
        by_reason: dict[str, int] = {}
        for (reason, _), count in totals.closed.items():
            by_reason[reason] = by_reason.get(reason, 0) + count
        for reason, count in sorted(by_reason.items()):
            closed.add_metric((reason,), count)
        yield closed

    def _recordings(self) -> Iterator[Metric]:
        totals = self._services.archive.totals()
        yield GaugeMetricFamily("lac_recordings_active", "Recordings that are being made.", totals.active)
        yield GaugeMetricFamily(
            "lac_recordings_interrupted", "Of those, that cannot be written just now.", totals.interrupted
        )
        for name, text, value in (
            ("lac_recordings_started", "Recordings begun.", totals.started),
            ("lac_recordings_ready", "Recordings that were verified and published.", totals.ready),
            ("lac_recordings_failed", "Recordings that could not be made whole. Should stay 0.", totals.failed),
            ("lac_recordings_written_bytes", "Written to the files of recordings.", totals.bytes_written),
            ("lac_recordings_interruptions", "Times that a track could not be written.", totals.interruptions),
        ):
            yield CounterMetricFamily(name, text, value)
        dropped = CounterMetricFamily("lac_recordings_dropped", "Packets not recorded, by why.", labels=("why",))
        dropped.add_metric(("disk_too_slow",), totals.dropped)
        dropped.add_metric(("disk_refused",), totals.unwritten)
        yield dropped

    def _afterwards(self) -> Iterator[Metric]:
        afterwards = self._services.afterwards
        derivatives, offloader = afterwards.derivatives, afterwards.offloader
        yield GaugeMetricFamily("lac_derivatives_running", "Copies and analyses being made.", derivatives.running)
        yield CounterMetricFamily("lac_derivatives_made", "Copies and analyses of recordings made.", derivatives.made)
        yield CounterMetricFamily("lac_derivatives_failed", "Those that cannot be made.", derivatives.failed)
        if offloader is None:
            return
        spool = offloader.spool
        yield GaugeMetricFamily("lac_spool_recordings", "Recordings that are not in the bucket yet.", spool.recordings)
        yield GaugeMetricFamily("lac_spool_bytes", "Of them, bytes that wait on this disk.", spool.waiting_bytes)
        yield GaugeMetricFamily(
            "lac_bucket_trouble", "1 while the bucket is away or refuses us.", int(spool.trouble is not None)
        )
        yield CounterMetricFamily("lac_offloaded", "Recordings that went into the bucket.", offloader.finished)

    def _tcp(self) -> Iterator[Metric]:
        streams = self._services.engine.endpoint.streams
        if streams is None:
            return
        yield GaugeMetricFamily("lac_media_tcp_connections", "Open connections on the media port.", len(streams))
        for name, text, value in (
            ("lac_media_tcp_refused", "Connections on the media port beyond a limit.", streams.counters.refused),
            ("lac_media_tcp_unproven", "Connections closed because they were nobody's.", streams.counters.unproven),
            (
                "lac_media_tcp_dropped",
                "Packets that slow connections did not take; the program's count as dropped, too.",
                streams.counters.dropped,
            ),
        ):
            yield CounterMetricFamily(name, text, value)

    def _streams(self) -> Iterator[Metric]:
        hub = self._services.engine.streams
        listeners = GaugeMetricFamily("lac_stream_listeners", "Listeners to plain HTTP streams.", labels=("format",))
        encoders = GaugeMetricFamily("lac_stream_encoders", "Plain streams being made.", labels=("format",))
        for stream_format in StreamFormat:
            listeners.add_metric((stream_format,), hub.listeners[stream_format])
            encoders.add_metric((stream_format,), hub.encoders[stream_format])
        yield listeners
        yield encoders
        yield CounterMetricFamily("lac_stream_octets_out", "Bytes of plain streams.", hub.octets_out)
        yield CounterMetricFamily("lac_stream_skips", "Listeners too slow, who were moved forward.", hub.skips)
        yield CounterMetricFamily("lac_stream_refused", "Listeners to plain streams that found no place.", hub.refused)

    def _hls(self) -> Iterator[Metric]:
        desk = self._services.on_air.hls
        yield GaugeMetricFamily("lac_hls_listeners", "Who listens to live shows by HLS.", desk.listeners)
        encoding = sum(stream.encoding for stream in desk.streams)
        yield GaugeMetricFamily("lac_hls_encoding", "Shows that are encoded for HLS just now.", encoding)
        unwritten = sum(stream.unwritten for stream in desk.streams)
        yield GaugeMetricFamily(
            "lac_hls_unwritten", "Segments that could not be written to disk. Should be 0.", unwritten
        )

        pushed = desk.pushed
        if pushed is not None:
            yield GaugeMetricFamily(
                "lac_hls_push_behind_seconds", "How far the bucket is behind, at the worst.", desk.push_behind_s
            )
            yield CounterMetricFamily("lac_hls_push_objects", "Objects put into the bucket for HLS.", pushed.objects)
            yield CounterMetricFamily("lac_hls_push_octets", "Bytes put into the bucket for HLS.", pushed.octets)
            yield CounterMetricFamily("lac_hls_push_failures", "Attempts that failed.", pushed.failures)

    def _load(self) -> Iterator[Metric]:
        load = self._services.engine.load
        yield GaugeMetricFamily(
            "lac_overloaded", "1 while new listeners are refused, for the sake of those inside.", int(load.overloaded)
        )
        yield CounterMetricFamily(
            "lac_listeners_refused", "Listeners refused for that.", self._services.on_air.admission.listeners_refused
        )
        for name, text, delays in (
            ("lac_loop_lag_seconds", "How late a task wakes up. Audio waits for the same loop.", load.lag),
            (
                "lac_forwarding_delay_seconds",
                "From the arrival of a program packet to its last listener. Above 0.05 people begin to hear it.",
                load.forwarding,
            ),
        ):
            buckets = [
                ("+Inf" if bound == math.inf else str(bound), float(count)) for bound, count in delays.cumulative()
            ]
            yield HistogramMetricFamily(name, text, buckets=buckets, sum_value=delays.total_s)

    def _database(self) -> Iterator[Metric]:
        db = self._services.db
        running, waiting = db.load()
        yield GaugeMetricFamily("lac_db_threads", "Database calls that can run at a time.", db.threads)
        yield GaugeMetricFamily("lac_db_running", "Database calls that run now.", running)
        yield GaugeMetricFamily("lac_db_waiting", "Database calls that wait for a thread.", waiting)

    def _mails(self) -> Iterator[Metric]:
        outbox = self._services.auth.account.outbox
        if not isinstance(outbox, QueuedOutbox):
            return
        yield GaugeMetricFamily("lac_mails_waiting", "Mails that wait to be sent.", outbox.waiting)
        yield CounterMetricFamily("lac_mails_sent", "Mails handed over.", outbox.sent)
        yield CounterMetricFamily("lac_mails_lost", "Mails that were not sent; the log says why.", outbox.lost)


def check_may_read_metrics(request: Request, token: str | None, presented: str | None) -> None:
    """With a token configured, whoever presents it; without one, this machine itself. Raises NotSignedInError or
    ForbiddenError."""
    if token is not None:
        if presented is None or not hmac.compare_digest(presented.encode("utf-8", "surrogatepass"), token.encode()):
            raise NotSignedInError("Present LAC_METRICS_TOKEN as the bearer token.")
    elif not is_local(request):
        raise ForbiddenError(
            "Metrics are for this machine only. To read them from elsewhere, set LAC_METRICS_TOKEN.",
            code="metrics_private",
        )


def register_metrics(app: Quart, metrics: Metrics) -> None:
    """Count the application's requests."""

    async def note_start() -> None:
        g.lac_started_at = trio.current_time()

    async def count(response: Response) -> Response:
        if has_request_context():
            rule = request.url_rule
            now = trio.current_time()
            route = rule.rule if rule is not None else "none"
            metrics.count_request(request.method, route, response.status_code, now - g.get("lac_started_at", now))
        return response

    app.before_request(note_start)
    app.after_request(count)
