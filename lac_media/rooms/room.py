"""A media room: one program, the sessions around it, and the task that sends the program out."""

from __future__ import annotations

import contextvars
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
import trio

from lac_media.certificate import DtlsIdentity
from lac_media.errors import SessionClosedError, UnknownProducerError
from lac_media.load import LoadMeter
from lac_media.net.endpoint import Endpoint
from lac_media.parameters import Direction, Variant
from lac_media.proto.ice import IceLite
from lac_media.proto.peer import PeerCore
from lac_media.proto.rtcp import SenderReport, cname_sdes, encode_rtcp, ntp_from_unix
from lac_media.proto.rtp import RtpPacket
from lac_media.rooms.director import Director
from lac_media.rooms.economy import Economy
from lac_media.rooms.events import (
    AudienceChanged,
    RoomEvent,
    SessionClosed,
    SessionConnected,
    SpeakerStarted,
    SpeakerStopped,
    SpeakingChanged,
)
from lac_media.rooms.fanout import Fanout, Seat
from lac_media.rooms.levels import Levels
from lac_media.rooms.line import ProgramPacket
from lac_media.rooms.program import Program
from lac_media.rooms.sender import ProgramSender
from lac_media.rooms.session import Session, new_ice_parameters
from lac_media.rooms.source import LocalSource
from lac_media.rooms.speaker import Speaker
from lac_media.rooms.stage import StageForwarding
from lac_media.rooms.tap import Tap, TapPoint
from lac_media.streams.hub import StreamHub
from lac_media.streams.streams import Streams
from lac_media.totals import MediaTotals

log = structlog.get_logger(__name__)

#: A speaker whose audio has not come for this long is reported as stopped.
SPEAKER_STOPPED_S = 3.0
REPORT_INTERVAL_S = 2.0
#: How often at most the owner is told who speaks.
SPEAKING_INTERVAL_S = 0.5
#: So many listeners of a room may be sent packets again, or this share of them.
REPEATED_AT_LEAST, REPEATED_SHARE = 20, 0.25
#: From this ratio of lost packets on, a listener's network is called weak.
WEAK_LOSS = 0.05


@dataclass(frozen=True, slots=True)
class RoomStats:
    """`worst_loss` is a ratio of the listeners' last reports, `round_trip_s` their median; None without reports."""

    listeners: int
    packets_in: int
    packets_lost_in: int
    packets_out: int
    dropped_out: int
    worst_loss: float | None
    weak_listeners: int
    round_trip_s: float | None


class MediaRoom:
    """Made by `open_media_room`. `on_event` is called synchronously and must not raise.

    Everyone whose audio comes and who is not muted is heard in the program; who may speak is not decided here.
    """

    def __init__(
        self,
        room_id: str,
        nursery: trio.Nursery,
        endpoint: Endpoint,
        identity: DtlsIdentity,
        on_event: Callable[[RoomEvent], None],
        load: LoadMeter,
        hub: StreamHub,
    ) -> None:
        now = trio.current_time()
        self.id = room_id
        self.endpoint = endpoint
        self.cname = secrets.token_hex(8)
        self.program = Program(
            ssrc=secrets.randbelow(2**32 - 1) + 1,
            first_sequence=secrets.randbelow(2**15),
            first_timestamp=secrets.randbelow(2**32),
            now=now,
        )
        self.director = Director(self.program)
        #: Those of the program: the usual one, then those for transports that are sent it anew.
        self._program_ssrcs = [self.program.ssrc]
        self._economy_ssrcs = list[int]()
        self._sessions: dict[str, Session] = {}
        self.levels = Levels()
        self.stage = StageForwarding(self._sessions, self.levels, self._new_ssrc)
        self.economy = Economy(ssrc=self._new_ssrc(), first_sequence=secrets.randbelow(2**15))
        self._economy_ssrcs.append(self.economy.ssrc)
        self.fanout = Fanout(
            self.program.ssrc, endpoint.make_batch, make_tcp_batch=endpoint.make_tcp_batch, economy=self.economy
        )
        self._sender = ProgramSender(self.fanout, load)
        self._program_taps = TapPoint()
        #: Of each speaker that somebody reads.
        self._speaker_taps: dict[Speaker, TapPoint] = {}
        self.streams = Streams(nursery, hub, self.tap_program, on_event)
        self._speaking: tuple[tuple[str, int], ...] = ()
        self._speaking_told_at = now
        self._sources: dict[str, LocalSource] = {}
        self._nursery = nursery
        self._identity = identity
        self._on_event = on_event
        self._load = load
        self._muted: set[str] = set()
        self._wake = trio.Event()
        #: Until when the program's task sleeps if nobody wakes it.
        self._sleeps_until = 0.0
        self._closed = False
        #: Of sessions that have closed.
        self._before = MediaTotals()
        self._report_at = now + REPORT_INTERVAL_S
        #: Unix time minus monotonic time, one for the room: round trips must not change when the wall clock is set.
        self._unix_offset_s = time.time() - now

    # What the owner asks

    @property
    def sessions(self) -> Mapping[str, Session]:
        return self._sessions

    async def open_session(self, direction: Direction, owner: str) -> Session:
        """A new session, whose task runs in this room. Raises `SessionClosedError` once the room is closing."""
        await trio.lowlevel.checkpoint()
        if self._closed:
            raise SessionClosedError("the room is closing")
        now = trio.current_time()
        ice = new_ice_parameters()
        core = PeerCore(
            IceLite(ice, now=now),
            self._identity.context,
            ssrc=self.program.ssrc if direction is Direction.RECV else secrets.randbelow(2**32 - 1) + 1,
            cname=self.cname,
            unix_offset_s=self._unix_offset_s,
            now=now,
        )
        session = Session(self, direction, owner, core, ice)
        self._sessions[session.id] = session
        # A clean context: the task outlives the request that asked for it and must not carry its variables.
        contextvars.Context().run(self._nursery.start_soon, _own_session, session)
        return session

    @property
    def sources(self) -> Mapping[str, LocalSource]:
        return self._sources

    def open_source(self, owner: str) -> LocalSource:
        """A speaker whose packets come from this process. Raises `SessionClosedError` once the room is closing."""
        if self._closed:
            raise SessionClosedError("the room is closing")
        source = LocalSource(self, owner)
        self._sources[source.id] = source
        return source

    def begin_source(self, source: LocalSource) -> None:
        """Its owner has entered it in the books: it counts as connected from now on."""
        if not source.closed:
            self._on_event(SessionConnected(source.id, source.direction, source.owner))

    def end_streams(self, reason: str) -> None:
        """Let go of those who are here by plain HTTP, listeners and sources; no new ones can come."""
        self.streams.close(reason)
        for source in list(self._sources.values()):
            source.close(reason)

    def _speakers(self) -> Iterator[Speaker]:
        yield from self._sessions.values()
        yield from self._sources.values()

    def speaker(self, producer_id: str) -> Speaker:
        """Whoever has this producer. Raises `UnknownProducerError`."""
        for speaker in self._speakers():
            if speaker.producer_id == producer_id:
                return speaker
        raise UnknownProducerError("there is no such producer (any more)")

    def tap_program(self) -> Tap:
        """Read the program, from its next packet on until the room closes. Raises `SessionClosedError` once it does."""
        if self._closed:
            raise SessionClosedError("the room is closing")
        return self._program_taps.open()

    def tap_speaker(self, producer_id: str) -> Tap:
        """Read one speaker, while not muted, until their session closes. Raises `UnknownProducerError`."""
        return self._speaker_taps.setdefault(self.speaker(producer_id), TapPoint()).open()

    def close_stage(self, owner: str) -> None:
        """The owner is sent no single speakers any more: they have left the stage."""
        for session in self._sessions.values():
            if session.owner == owner:
                session.close_speakers()

    def mute(self, owner: str) -> None:
        """Keep the owner's audio from everybody from this moment on, in later sessions too."""
        self._muted.add(owner)
        for speaker in self._speakers():
            if speaker.owner == owner:
                self._silence(speaker, trio.current_time())
        self._wake.set()

    def unmute(self, owner: str) -> None:
        """Let the owner's audio in again."""
        self._muted.discard(owner)

    def is_muted(self, owner: str) -> bool:
        return owner in self._muted

    def close_owner(self, owner: str, reason: str) -> None:
        """Close all sessions of this owner, at once."""
        for speaker in [speaker for speaker in self._speakers() if speaker.owner == owner]:
            speaker.close(reason)
        self.streams.close_owner(owner, reason)

    def producers(self) -> list[tuple[str, str]]:
        """(producer id, owner) of everyone whose audio is arriving."""
        return [
            (speaker.producer_id, speaker.owner)
            for speaker in self._speakers()
            if speaker.producer_id is not None and speaker.heard_at is not None
        ]

    def media_time_s(self) -> float:
        return self.program.media_time_s(now=trio.current_time())

    def stats(self) -> RoomStats:
        losses, round_trips = [], []
        packets_in, lost_in = self._before.packets_in, self._before.packets_lost_in
        packets_in += sum(source.packets for source in self._sources.values())
        for session in self._sessions.values():
            stats = session.stats()
            packets_in += stats.packets_in
            lost_in += stats.packets_lost_in
            if session.consumes and stats.loss is not None:
                losses.append(stats.loss)
                if stats.round_trip_s is not None:
                    round_trips.append(stats.round_trip_s)
        return RoomStats(
            listeners=self.fanout.listeners + len(self.streams),
            packets_in=packets_in,
            packets_lost_in=lost_in,
            packets_out=self.fanout.packets_out,
            dropped_out=self.fanout.dropped,
            worst_loss=max(losses, default=None),
            weak_listeners=sum(loss >= WEAK_LOSS for loss in losses),
            round_trip_s=sorted(round_trips)[len(round_trips) // 2] if round_trips else None,
        )

    def totals(self) -> MediaTotals:
        """Since the room was opened, sessions that have closed included."""
        totals = MediaTotals(
            rooms=1,
            sessions=len(self._sessions) + len(self._sources),
            packets_in=sum(source.packets for source in self._sources.values()),
            listeners=self.fanout.listeners,
            listeners_by_variant=self.fanout.listeners_by_variant.copy(),
            packets_out=self.fanout.packets_out,
            dropped_out=self.fanout.dropped,
            switched=self.fanout.switched,
            queue_dropped=self._sender.dropped,
            mixed=self.director.mixed_packets,
        )
        totals.add_past(self._before)
        for session in self._sessions.values():
            totals.add_past(_totals_of(session))
        return totals

    # What sessions report

    def session_connected(self, session: Session) -> None:
        self._on_event(SessionConnected(session.id, session.direction, session.owner))

    def audience_changed(self, session: Session, *, hears: bool) -> None:
        self._on_event(AudienceChanged(session.id, hears))

    def session_closed(self, session: Session, reason: str) -> None:
        del self._sessions[session.id]
        self._before.add_past(_totals_of(session))
        self._before.closed[reason, session.was_connected] += 1
        self._forget_speaker(session)
        self._on_event(SessionClosed(session.id, session.direction, session.owner, reason, session.was_connected))

    def source_closed(self, source: LocalSource, reason: str) -> None:
        del self._sources[source.id]
        self._before.packets_in += source.packets
        self._before.closed[reason, True] += 1
        self._forget_speaker(source)
        self._on_event(SessionClosed(source.id, source.direction, source.owner, reason, was_connected=True))

    def _forget_speaker(self, speaker: Speaker) -> None:
        self.audio_ended(speaker)
        taps = self._speaker_taps.pop(speaker, None)
        if taps is not None:
            taps.end()
        self.stage.forget(speaker)

    def receive_audio(self, session: Speaker, packet: RtpPacket, level: int | None) -> None:
        """One packet of a publisher. Synchronous, once per packet: nothing here awaits or blocks."""
        now = trio.current_time()
        begins = session.heard_at is None
        session.heard_at = now
        if begins:
            self._supersede(session, now)
        if begins and session.producer_id is not None:
            self._on_event(SpeakerStarted(session.id, session.producer_id, session.owner))
            if session.closed:
                return  # the owner did not want it
        if session.owner in self._muted:
            return
        self.levels.receive(session, packet.payload, level, now=now)
        for sent in self.director.receive(session, packet, level, now=now):
            self._queue(sent, waited_s=self.endpoint.waited_s)
        self.stage.pass_on(session, packet, level, now=now)
        if session in self._speaker_taps:
            self._speaker_taps[session].offer_rtp(packet, level, now=now)
        if now - self._speaking_told_at >= SPEAKING_INTERVAL_S:
            self._tell_who_speaks(now)
        # At once, and not when the task's turn comes: others may be in front of it.
        self._sender.send_next()
        if not self._sender.is_idle or self._timer_at() < self._sleeps_until:
            self._wake.set()

    def _tell_who_speaks(self, now: float) -> None:
        """The level in steps of 6 dB, or it would change each time."""
        self._speaking_told_at = now
        speaking = tuple(
            (session.owner, round(level / 6) * 6)
            for session, level in self.levels.speaking(now=now).items()
            if isinstance(session, Session | LocalSource)
        )
        if speaking != self._speaking:
            self._speaking = speaking
            self._on_event(SpeakingChanged(speaking))

    def _supersede(self, session: Speaker, now: float) -> None:
        """A person has one voice: that of the session whose audio came up last."""
        for other in self._speakers():
            if other is not session and other.owner == session.owner:
                self._silence(other, now)

    def _silence(self, session: Speaker, now: float) -> None:
        """Not heard from this moment on, neither in the program nor on stage."""
        self.director.remove(session, now=now)
        self.levels.remove(session)
        self.stage.pause(session)

    def audio_ended(self, session: Speaker) -> None:
        """The session's stream is over, or has been silent for too long."""
        self._silence(session, trio.current_time())
        if session.heard_at is not None and session.producer_id is not None:
            session.heard_at = None
            self._on_event(SpeakerStopped(session.id, session.producer_id, session.owner))
        self._wake.set()

    # The task that sends

    async def run_program(self) -> None:
        """Send the program, its silence and its reports until cancelled."""
        while True:
            self._sleeps_until = self._timer_at()
            with trio.move_on_at(self._sleeps_until):
                await self._wake.wait()
            self._wake = trio.Event()
            now = trio.current_time()
            for packet in self.director.handle_timer(now=now):
                self._queue(packet)
            # Those that come meanwhile have set the new event; reports must not wait for a queue that never empties.
            await self._sender.send_pending(now=now)
            if now >= self._report_at:
                self._report_at = now + REPORT_INTERVAL_S
                self._notice_stopped_speakers(now)
                await self.fanout.send_report(self._encode_program_report)
                self.stage.report(self._encode_report, now=now)
                self._tell_who_speaks(now)

    def _timer_at(self) -> float:
        return min(self.director.timer_at(), self.fanout.timer_at(), self._report_at)

    def _queue(self, packet: ProgramPacket, *, waited_s: float = 0.0) -> None:
        self._sender.queue(packet, waited_s)
        self._program_taps.offer_program(packet)

    def _notice_stopped_speakers(self, now: float) -> None:
        for speaker in list(self._speakers()):
            if speaker.heard_at is not None and now - speaker.heard_at >= SPEAKER_STOPPED_S:
                self.audio_ended(speaker)

    def may_repeat(self, seat: Seat) -> bool:
        """Whether this listener may be sent packets again: not while this server is late itself, nor when so many
        of the audience lose packets that the network that is full is likely the server's own."""
        if self._load.overloaded:
            return False
        repeated = self.fanout.listeners_by_variant[Variant.OPUS_AGAIN]
        return seat.variant is Variant.OPUS_AGAIN or repeated < max(
            REPEATED_AT_LEAST, self.fanout.listeners * REPEATED_SHARE
        )

    def program_ssrc(self, *, economy: bool, used: Collection[int]) -> int:
        """The SSRC of the program for a transport that must not be sent anything new under the `used` ones. Those who
        come for the first time have the same one; so do those who come for the second time."""
        ssrcs = self._economy_ssrcs if economy else self._program_ssrcs
        unused = next((ssrc for ssrc in ssrcs if ssrc not in used), None)
        if unused is None:
            unused = self._new_ssrc(used)
            ssrcs.append(unused)
        return unused

    def _new_ssrc(self, used: Collection[int] = ()) -> int:
        """One that nobody has: a listener may be sent the program and several speakers."""
        taken = {*self._program_ssrcs, *self._economy_ssrcs, *self.stage.ssrcs, *used}
        while (ssrc := secrets.randbelow(2**32 - 1) + 1) in taken:
            pass
        return ssrc

    def _encode_program_report(self, ssrc: int, packets: int, octets: int) -> bytes:
        """Of the program in any variant: all have the same timestamps."""
        return self._encode_report(ssrc, self.program.rtp_timestamp(now=trio.current_time()), packets, octets)

    def _encode_report(self, ssrc: int, timestamp: int, packets: int, octets: int) -> bytes:
        report = SenderReport(
            ssrc,
            ntp_timestamp=ntp_from_unix(trio.current_time() + self._unix_offset_s),
            rtp_timestamp=timestamp,
            packet_count=packets & 0xFFFF_FFFF,
            octet_count=octets & 0xFFFF_FFFF,
        )
        return encode_rtcp([report, cname_sdes(ssrc, self.cname)])

    def close(self) -> None:
        """Close every session; no new one can be opened. Synchronous."""
        self._closed = True
        for speaker in list(self._speakers()):
            speaker.close("ended")
        self.streams.close("ended")
        self._program_taps.end()


def _totals_of(session: Session) -> MediaTotals:
    stats = session.stats()
    return MediaTotals(
        packets_in=stats.packets_in,
        packets_lost_in=stats.packets_lost_in,
        packets_repaired_in=stats.packets_repaired_in,
        bad_packets=stats.bad_packets,
        retransmitted=stats.retransmitted,
    )


async def _own_session(session: Session) -> None:
    """The task that owns a session: one wake-up in its whole life."""
    try:
        await session.wait_closed()
    finally:
        session.close("ended")


@asynccontextmanager
async def open_media_room(
    room_id: str,
    endpoint: Endpoint,
    identity: DtlsIdentity,
    on_event: Callable[[RoomEvent], None],
    load: LoadMeter,
    hub: StreamHub,
) -> AsyncGenerator[MediaRoom, None]:
    """A room for as long as the block lasts; leaving it closes every session and ends every task of it."""
    async with trio.open_nursery() as nursery:
        room = MediaRoom(room_id, nursery, endpoint, identity, on_event, load, hub)
        nursery.start_soon(room.run_program)
        try:
            yield room
        finally:
            room.close()
            nursery.cancel_scope.cancel("media room closed")
