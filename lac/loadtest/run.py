"""A load test from its first request to its figures. Cancelled or broken off, it says what it has seen up to then."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import httpx
import trio

from lac.errors import LacError
from lac.loadtest.audio import Speech
from lac.loadtest.chatters import Chatter
from lac.loadtest.hls import HlsListener
from lac.loadtest.listeners import Habits, Listener, Swarm, open_client_socket
from lac.loadtest.plan import Mode, Plan, Repair
from lac.loadtest.results import Results, Spread
from lac.loadtest.server_cpu import cpu_seconds, find_server
from lac.loadtest.signalling import TIMEOUT_S, RefusedError, Signalling
from lac_media.certificate import make_dtls_identity
from lac_media.errors import EngineStartError, MediaError, ParseError
from lac_media.net.peer_task import ClientPeer
from lac_media.net.udp import UdpSocket
from lac_media.parameters import Direction
from lac_media.proto.peer import PeerConnected, PeerEvent
from lac_media.proto.red import parse_red_untrusted
from lac_media.proto.rtp import parse_rtp_untrusted

CONNECT_TIMEOUT_S = 20.0
#: Listeners that decrypt what they hear, evenly spread over all: so many, or, because each costs as much as ten others,
#: a tenth of a smaller crowd, but not less than the second number.
SAMPLED, SAMPLED_AT_LEAST = 20, 5
PROGRESS_S = 1.0
START_TIMEOUT_S = 10.0
END_TIMEOUT_S = 5.0

Tell = Callable[[str], None]


@dataclass(slots=True)
class _Show:
    id: str
    #: What we publish to it, if we do.
    speech: Speech | None = None


class LoadTest:
    """`tell` is called with a line for people now and then."""

    def __init__(self, plan: Plan, tell: Tell) -> None:
        self.plan = plan
        self.results = Results(mode=plan.mode, url=plan.url, wanted=plan.listeners)
        self._tell = tell
        self._identity = make_dtls_identity()
        self._swarm = Swarm(repair=plan.repair is not None)
        self._chatters: list[Chatter] = []
        self._latencies_ms: list[float] = []
        self._chat_latencies_ms: list[float] = []
        self._behind_live_ms: list[float] = []
        self._joins_s: list[float] = []
        self._measuring = False
        # Looked for now: it takes a while, in which nothing may wait.
        self._server = find_server(plan.url)

    @property
    def packets(self) -> int:
        """That have come to those who listen now; while measuring, since that began."""
        return sum(listener.tally.received for listener in self._swarm.listeners)

    async def run(self) -> None:
        """Everything. `results` is complete as far as it went, however this ends."""
        limits = httpx.Limits(max_connections=self.plan.at_once, max_keepalive_connections=self.plan.at_once)
        async with httpx.AsyncClient(base_url=self.plan.url, timeout=TIMEOUT_S, limits=limits) as http:
            signalling = Signalling(self.plan, http)
            try:
                await signalling.sign_in()
                async with self._live_shows(signalling) as shows, trio.open_nursery() as nursery:
                    nursery.start_soon(self._swarm.run)
                    nursery.start_soon(self._show_progress)
                    if self.plan.publishes and self.plan.mode is not Mode.WS:
                        for show in shows:
                            show.speech = await self._publish(signalling, show, nursery)
                        for token in self.plan.speaker_tokens:
                            await self._publish(signalling, shows[0], nursery, token)
                    await self._bring_everyone(signalling, shows, nursery)
                    await trio.sleep(self.plan.settle_s)
                    await self._measure()
                    nursery.cancel_scope.cancel("the load test is over")
            except* (RefusedError, LacError, MediaError, trio.TooSlowError) as group:
                self.results.broken_off = "; ".join(dict.fromkeys(_texts(group)))
            finally:
                self.results.retried = signalling.retried
                self._summarise()
                self._swarm.close()

    @asynccontextmanager
    async def _live_shows(self, signalling: Signalling) -> AsyncGenerator[list[_Show], None]:
        shows: list[_Show] = []
        try:
            while len(shows) < self.plan.shows:
                # Not cut in half: a show that has been started has to be ended, and so its id to be known.
                with trio.fail_after(START_TIMEOUT_S, shield=True):
                    shows.append(_Show(await signalling.show(len(shows) + 1)))
            yield shows
        finally:
            with trio.move_on_after(END_TIMEOUT_S) as ending:
                ending.shield = True
                for show in shows:
                    try:
                        await signalling.end(show.id)
                    except (RefusedError, LacError) as error:
                        self._tell(f"a show could not be ended: {error}")

    async def _publish(
        self, signalling: Signalling, show: _Show, nursery: trio.Nursery, token: str | None = None
    ) -> Speech:
        connected = trio.Event()

        def on_event(event: PeerEvent) -> None:
            if isinstance(event, PeerConnected):
                connected.set()

        sock = open_client_socket(_host_of(self.plan.url))
        try:
            peer = ClientPeer(sock, self._identity, on_event=on_event)
            answered = await signalling.connect(show.id, peer, Direction.SEND, cname=secrets.token_hex(8), token=token)
            peer.connect(answered.ice, answered.candidate, answered.dtls)
        except BaseException:
            sock.close()  # from here on `run` does
            raise
        nursery.start_soon(peer.run)
        with trio.move_on_after(CONNECT_TIMEOUT_S):
            await connected.wait()
        if not connected.is_set():
            raise RefusedError(0, "media_unreachable", "the publisher's audio does not reach the server's media port")
        speech = Speech(peer, self.plan.frames)
        nursery.start_soon(speech.run)
        return speech

    async def _bring_everyone(self, signalling: Signalling, shows: list[_Show], nursery: trio.Nursery) -> None:
        places = trio.CapacityLimiter(self.plan.at_once)
        server_before = self._server_cpu()
        began_at = trio.current_time()
        wanted = self.plan.listeners
        async with trio.open_nursery() as joining:
            for number in range(wanted):
                await trio.sleep_until(began_at + number * self.plan.ramp_s / max(1, wanted))
                await places.acquire_on_behalf_of(number)
                join = partial(self._join, signalling, shows[number % len(shows)], number, nursery)
                joining.start_soon(self._join_in_turn, join, places, number)
        chatters = self.plan.chatters if self.plan.mode is not Mode.WS else 0
        for number in range(chatters):
            await self._chat(shows[number % len(shows)].id, number, chatters, nursery)
        self.results.joining_s = trio.current_time() - began_at
        self.results.server_join_cpu_s = _difference(server_before, self._server_cpu())

    async def _join_in_turn(self, join: Callable[[], object], places: trio.CapacityLimiter, number: int) -> None:
        try:
            await join()  # type: ignore[misc]
        finally:
            places.release_on_behalf_of(number)

    async def _join(self, signalling: Signalling, show: _Show, number: int, nursery: trio.Nursery) -> None:
        began_at = trio.current_time()
        try:
            if self.plan.mode is Mode.WS:
                await self._chat(show.id, number, self.plan.listeners, nursery)
            elif self.plan.mode is Mode.HLS:
                player = HlsListener(self.plan.url, show.id, self._part_came)
                await nursery.start(self._keep, player.run, lambda: player.joined)
            else:
                await self._listen(signalling, show, number)
        except RefusedError as error:
            self.results.failed[error.code] += 1
        except (MediaError, EngineStartError) as error:
            self.results.failed[str(error)] += 1
        else:
            self.results.connected += 1
            self._joins_s.append(trio.current_time() - began_at)

    async def _listen(self, signalling: Signalling, show: _Show, number: int) -> None:
        sampled = min(SAMPLED, max(SAMPLED_AT_LEAST, self.plan.listeners // 10))
        every = max(1, self.plan.listeners // sampled)
        speech = show.speech if number % every == 0 else None
        plan = self.plan
        connected = trio.Event()

        def make_peer(sock: UdpSocket, on_event: Callable[[PeerEvent], None]) -> ClientPeer:
            def tell_both(event: PeerEvent) -> None:
                on_event(event)
                if isinstance(event, PeerConnected):
                    connected.set()

            return ClientPeer(sock, self._identity, on_event=tell_both)

        red: int | None = None

        def hear(plain: bytes, received_at: float) -> None:
            if speech is not None:
                self._hear(speech, plain, received_at, red)

        sock = open_client_socket(_host_of(plan.url))
        listener = Listener(sock, make_peer, None if speech is None else hear, seed=number)
        try:
            answered = await signalling.connect(show.id, listener.peer, Direction.RECV, cname="")
            listener.peer.connect(answered.ice, answered.candidate, answered.dtls)
            with trio.move_on_after(CONNECT_TIMEOUT_S):
                await listener.peer.run_until(connected.is_set)
        finally:
            if not connected.is_set():
                listener.close()
        if not connected.is_set():
            raise RefusedError(0, listener.closed or "timeout", "the media port does not answer")
        red = answered.stream.red_payload_type if plan.repair is Repair.RED else None
        listener.behave(
            Habits(
                asks=plan.repair is not None,
                payload_type=answered.stream.payload_type,
                red_payload_type=red,
                lose=plan.lose if plan.is_lossy(number) else 0.0,
            )
        )
        self._swarm.add(listener)

    async def _chat(self, show_id: str, number: int, chatters: int, nursery: trio.Nursery) -> None:
        chatter = Chatter(self.plan.url, show_id, self._message_came)
        speaking = self.plan.chat_per_s > 0 and number < self.plan.chat_per_s * 10
        every_s = min(chatters, self.plan.chat_per_s * 10) / self.plan.chat_per_s if speaking else None
        await nursery.start(self._keep, partial(chatter.run, every_s), lambda: chatter.joined)
        self._chatters.append(chatter)

    async def _keep(
        self,
        run: Callable[..., Awaitable[None]],
        has_joined: Callable[[], bool],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run a client. One that breaks later is counted, not raised."""
        refused: list[RefusedError] = []
        try:
            await run(task_status=task_status)
        except* RefusedError as group:
            refused += [error for error in group.exceptions if isinstance(error, RefusedError)]
        if refused and not has_joined():
            raise refused[0]
        self.results.lost_connections.update(error.code for error in refused)

    async def _measure(self) -> None:
        for listener in self._swarm.listeners:
            listener.forget()
        self._latencies_ms.clear()
        self.results.messages_received = 0
        sent_before = sum(chatter.sent for chatter in self._chatters)
        server_before = self._server_cpu()
        own_before, began_at = time.process_time(), trio.current_time()
        self._measuring = True
        try:
            await trio.sleep(self.plan.duration_s)
        finally:
            self._measuring = False
            results = self.results
            results.measured_s = trio.current_time() - began_at
            results.generator_cpu_s = time.process_time() - own_before
            results.messages_sent = sum(chatter.sent for chatter in self._chatters) - sent_before
            server_after = self._server_cpu()
            results.server_cpu_s = _difference(server_before, server_after)
            if server_before is not None and server_after is None:
                results.broken_off = "the server's process has ended"

    def _server_cpu(self) -> float | None:
        return None if self._server is None else cpu_seconds(self._server)

    def _hear(self, speech: Speech, plain: bytes, received_at: float, red: int | None) -> None:
        if not self._measuring or not received_at:
            return
        try:
            packet = parse_rtp_untrusted(plain)
            is_red = packet.payload_type == red
            payload = parse_red_untrusted(packet.payload)[-1].payload if is_red else packet.payload
        except ParseError:
            return
        sent_at = speech.sent_at_untrusted(payload)
        if sent_at is not None:
            self._latencies_ms.append((received_at - sent_at) * 1000)

    def _message_came(self, delay_s: float) -> None:
        self.results.messages_received += 1
        if self._measuring:
            self._chat_latencies_ms.append(delay_s * 1000)

    def _part_came(self, behind_s: float) -> None:
        if self._measuring:
            self.results.parts_received += 1
            self._behind_live_ms.append(behind_s * 1000)

    async def _show_progress(self) -> None:
        while True:
            await trio.sleep(PROGRESS_S)
            failed = sum(self.results.failed.values())
            self._tell(
                f"{'measuring' if self._measuring else 'joining'}: {self.results.connected} connected, "
                f"{failed} failed, {self.packets or self.results.parts_received} "
                f"{'parts' if self.plan.mode is Mode.HLS else 'packets'}"
            )

    def _summarise(self) -> None:
        results, listeners = self.results, self._swarm.listeners
        results.join_s = Spread.of(self._joins_s)
        results.latency_ms = Spread.of(self._latencies_ms)
        results.behind_live_ms = Spread.of(self._behind_live_ms)
        results.chat_latency_ms = Spread.of(self._chat_latencies_ms)
        results.lost_connections.update(self._swarm.lost)
        for listener in listeners:
            tally = listener.tally
            received = min(tally.received, tally.expected)
            recovered = min(tally.recovered, tally.expected - received)
            results.packets_expected += tally.expected
            results.packets_received += received
            results.packets_recovered += recovered
            results.packets_asked_for += tally.asked
            results.packets_repaired += tally.repaired
            if tally.expected:
                loss = 1 - (received + recovered) / tally.expected
                results.without_loss += loss <= 0
                results.worst_loss = max(results.worst_loss, loss)


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _host_of(url: str) -> str:
    return httpx.URL(url).host


def _texts(group: BaseExceptionGroup[BaseException]) -> list[str]:
    found: list[str] = []
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            found += _texts(error)
        else:
            found.append(error.detail if isinstance(error, LacError) else str(error) or type(error).__name__)
    return found
