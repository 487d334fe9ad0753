"""One remote WebRTC peer, sans-IO: ICE, DTLS, SRTP, RTP and RTCP put together. Both ends of the wire use it.

Inputs are datagrams, timers and local requests, each with `now` in monotonic seconds that never go back. After any
input drain `datagrams_to_send()` and `events()` and re-read `timer_at()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lac_media.errors import LocalProtocolError, ParseError, RemoteProtocolError, UnsupportedMediaError
from lac_media.parameters import Address, DtlsParameters, DtlsRole, ProducerParameters
from lac_media.proto.demux import PacketKind, classify
from lac_media.proto.dtls import DtlsConnection, DtlsContext
from lac_media.proto.ice import IceControlling, IceLite
from lac_media.proto.incoming import IncomingStream
from lac_media.proto.nack import RepairCounters
from lac_media.proto.peer_state import PeerInput, PeerState, next_state
from lac_media.proto.reception import ReceptionStats
from lac_media.proto.rtcp import (
    Bye,
    Nack,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SenderReport,
    cname_sdes,
    encode_rtcp,
    ntp_from_unix,
    parse_rtcp_untrusted,
    round_trip_s,
)
from lac_media.proto.rtp import RtpPacket, encode_rtp, parse_rtp_untrusted
from lac_media.proto.srtp import SrtpSession
from lac_media.proto.stun import Message, parse_stun_untrusted

#: A peer that is not connected after this long never will be.
CONNECT_TIMEOUT_S = 30.0
#: Streams of a peer that are remembered: the present one, and those before it, of which packets may still come.
MAX_STREAMS = 4
#: How often we report on what we receive and send (RFC 3550 section 6.2 allows it for so few members).
REPORT_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class PeerReached:
    """The peer is at `address` now: the first proven one, or a new one that it has moved to."""

    address: Address


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """DTLS is done and SRTP is up; `profile` is the name of the SRTP profile."""

    profile: str


@dataclass(frozen=True, slots=True)
class RtpReceived:
    """One authentic packet of the expected stream, its payload Opus. `audio_level` is the RFC 6464 byte where there was
    one. No sequence number comes twice; late ones come when they come."""

    packet: RtpPacket
    audio_level: int | None


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The peer said BYE for its stream."""


@dataclass(frozen=True, slots=True)
class NackReceived:
    """The peer misses these packets of `ssrc` (16-bit sequence numbers)."""

    ssrc: int
    lost: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReportReceived:
    """The peer says how our stream reaches it; `PeerCore.round_trip_s` is up to date."""

    block: ReportBlock


@dataclass(frozen=True, slots=True)
class PeerClosed:
    """The last event. `reason` in the words of `lac_media.rooms.events.SessionClosed`."""

    reason: str
    detail: str = ""


PeerEvent = PeerReached | PeerConnected | RtpReceived | StreamEnded | NackReceived | ReportReceived | PeerClosed


@dataclass(slots=True)
class PeerCounters:
    """What came and was not used, each kind with its count."""

    bad_stun: int = 0
    bad_dtls: int = 0
    bad_rtp: int = 0
    bad_rtcp: int = 0
    unknown_ssrc: int = 0
    #: On the expected stream, but neither Opus nor RED.
    unknown_type: int = 0
    #: From an address that ICE has not proven, or before the keys were there.
    unproven: int = 0


class PeerCore:
    """One remote peer. Does no I/O and reads no clock.

    `ssrc` and `cname` are ours, for RTCP. `unix_offset_s` is Unix time minus `now`: RTCP speaks wall-clock time.
    Closes after `ice.CONSENT_TIMEOUT_S` without a valid check (our rule as the lite side; compare RFC 7675 5.1).
    """

    def __init__(
        self,
        ice: IceLite | IceControlling,
        dtls_context: DtlsContext,
        *,
        ssrc: int,
        cname: str,
        unix_offset_s: float,
        now: float,
    ) -> None:
        self.ice = ice
        self.state = PeerState.NEW
        self.ssrc = ssrc
        self.counters = PeerCounters()
        self.repair = RepairCounters()
        self.srtp: SrtpSession | None = None
        #: What the peer says of our stream, in its latest report.
        self.remote_report: ReportBlock | None = None
        self.round_trip_s: float | None = None
        self._dtls_context = dtls_context
        self._dtls: DtlsConnection | None = None
        self._cname = cname
        self._unix_offset_s = unix_offset_s
        self._connect_by = now + CONNECT_TIMEOUT_S
        self._report_at = float("inf")
        self._expected: ProducerParameters | None = None
        self._incoming: IncomingStream | None = None
        #: It and those before it, the latest last, by SSRC.
        self._streams: dict[int, IncomingStream] = {}
        self._sent_packets = 0
        self._sent_octets = 0
        self._sent_timestamp = (0, now)
        self._out: list[tuple[bytes, Address]] = []
        self._events: list[PeerEvent] = []

    @property
    def remote_address(self) -> Address | None:
        return self.ice.remote_address

    @property
    def reception(self) -> ReceptionStats | None:
        """What we know of the stream that the peer sends now; None before its first packet."""
        return None if self._incoming is None else self._incoming.reception

    @property
    def closed(self) -> bool:
        return self.state is PeerState.CLOSED

    def connect(self, remote: DtlsParameters, *, now: float) -> None:
        """Take the peer's DTLS parameters. We take the role that it leaves us; where it leaves both, the server's.

        Raises `LocalProtocolError` when they were given before, `UnsupportedMediaError` when unusable.
        """
        state = next_state(self.state, PeerInput.REMOTE_PARAMETERS)
        ours = DtlsRole.CLIENT if remote.role is DtlsRole.SERVER else DtlsRole.SERVER
        self._dtls = DtlsConnection(self._dtls_context, ours, remote.fingerprints)
        self.state = state
        if state is PeerState.HANDSHAKING:
            self._guarded(self._start_dtls, now)

    def expect_stream(self, parameters: ProducerParameters) -> None:
        """Say which RTP stream of the peer is wanted. Everything else is counted and dropped."""
        self._expected = parameters
        self._incoming = None
        self._streams.clear()

    def close(self, reason: str, *, now: float) -> None:
        """End here and now: says BYE and close_notify to a connected peer. Idempotent."""
        if self.closed:
            return
        if self.srtp is not None:
            self.send_rtcp(
                [self._report(now, self._blocks(now)), cname_sdes(self.ssrc, self._cname), Bye((self.ssrc,))]
            )
        if self._dtls is not None:
            self._dtls.close()
            self._drain_dtls()
        self._end(reason)

    # Inputs from the network

    def receive_datagram(self, data: bytes, address: Address, *, now: float) -> None:
        """Feed one UDP payload. Bad ones are counted, never raised."""
        if self.closed or not data:
            return
        kind = classify(data)
        if kind is PacketKind.STUN:
            try:
                message = parse_stun_untrusted(data)
            except ParseError:
                self.counters.bad_stun += 1
                return
            self.receive_stun(message, address, now=now)
        elif address != self.ice.remote_address:
            self.counters.unproven += 1
        elif kind is PacketKind.RTP:
            self._receive_rtp(data, now)
        elif kind is PacketKind.RTCP:
            self._receive_rtcp(data, now)
        elif kind is PacketKind.DTLS:
            self._receive_dtls(data, now)
        else:
            self.counters.unproven += 1

    def receive_stun(self, message: Message, address: Address, *, now: float) -> bool:
        """Feed one STUN message that was parsed already, to find out for whom it is. True if it was authentic."""
        if self.closed:
            return False
        before = self.ice.remote_address
        authentic = self.ice.receive_check(message, address, now=now)
        self._out.extend(self.ice.datagrams_to_send())
        if not authentic:
            self.counters.bad_stun += 1
            return False
        was_waiting = self.state is PeerState.CHECKING
        self.state = next_state(self.state, PeerInput.ADDRESS_PROVEN)
        reached = self.ice.remote_address
        if reached is not None and reached != before:
            self._events.append(PeerReached(reached))
        if was_waiting:
            self._guarded(self._start_dtls, now)
        return True

    def path_lost(self, address: Address) -> None:
        """The TCP connection to `address` has gone. The peer has not: it may come again, by another one or by UDP."""
        if address == self.ice.remote_address:
            self.ice.path_lost()

    def _receive_dtls(self, data: bytes, now: float) -> None:
        dtls = self._dtls
        if dtls is None:
            self.counters.unproven += 1  # the peer is ahead of signalling and will repeat itself
            return

        def feed(now: float) -> None:
            dtls.receive_datagram(data, now=now)
            self._after_dtls(now)

        self._guarded(feed, now)

    def _receive_rtp(self, data: bytes, now: float) -> None:
        if self.srtp is None:
            self.counters.unproven += 1
            return
        replays = self.srtp.replays
        plain = self.srtp.unprotect(data)
        if plain is None:
            if self.srtp.replays > replays:
                self.repair.duplicates += 1
            else:
                self.counters.bad_rtp += 1
            return
        try:
            packet = parse_rtp_untrusted(plain)
            stream = self._bind(packet)
            if stream is None:
                self.counters.unknown_ssrc += 1
                return
            audio = stream.receive(packet, now=now)
            self.counters.unknown_type += packet.payload_type not in stream.expected.payload_types
        except ParseError:
            self.counters.bad_rtp += 1
            return
        if self._report_at == float("inf"):
            self._report_at = now + REPORT_INTERVAL_S
        self._events.extend(RtpReceived(part, level) for part, level in audio)

    def _bind(self, packet: RtpPacket) -> IncomingStream | None:
        """The expected stream, if the packet belongs to it: by SSRC, by mid (RFC 8843 section 9.2), or, where
        signalling named no SSRC, by being the first with a right payload type. Another SSRC is another stream; what
        comes late of the one before finds its history still there."""
        stream, expected = self._incoming, self._expected
        if stream is not None and packet.ssrc == stream.ssrc:
            return stream
        if expected is None or packet.payload_type not in expected.payload_types:
            return None
        by_mid = (
            expected.mid is not None
            and expected.mid_extension_id is not None
            and packet.extensions.get(expected.mid_extension_id) == expected.mid.encode()
        )
        first_unnamed = expected.ssrc is None and stream is None
        if not (by_mid or first_unnamed or packet.ssrc == expected.ssrc):
            return None
        stream = self._streams.pop(packet.ssrc, None) or IncomingStream(packet.ssrc, expected, self.repair)
        while len(self._streams) >= MAX_STREAMS:
            del self._streams[next(iter(self._streams))]
        self._incoming = self._streams[packet.ssrc] = stream
        return stream

    def _receive_rtcp(self, data: bytes, now: float) -> None:
        if self.srtp is None:
            self.counters.unproven += 1
            return
        replays = self.srtp.replays
        plain = self.srtp.unprotect_rtcp(data)
        if plain is None:
            if self.srtp.replays > replays:
                self.repair.duplicates += 1
            else:
                self.counters.bad_rtcp += 1
            return
        try:
            packets = parse_rtcp_untrusted(plain)
        except ParseError:
            self.counters.bad_rtcp += 1
            return
        for packet in packets:
            self._receive_report(packet, now)

    def _receive_report(self, packet: RtcpPacket, now: float) -> None:
        match packet:
            case SenderReport() | ReceiverReport():
                if isinstance(packet, SenderReport) and self.reception and packet.ssrc == self.reception.ssrc:
                    self.reception.receive_sender_report(packet, now=now)
                for block in packet.reports:
                    if block.ssrc != self.ssrc:
                        continue
                    self.remote_report = block
                    round_trip = round_trip_s(self._ntp(now), block.lsr, block.dlsr)
                    if round_trip is not None:
                        self.round_trip_s = round_trip
                        if self._incoming is not None:
                            self._incoming.learn_round_trip(round_trip)
                    self._events.append(ReportReceived(block))
            case Nack():
                self._events.append(NackReceived(packet.media_ssrc, packet.lost))
            case Bye():
                if self.reception is not None and self.reception.ssrc in packet.ssrcs:
                    self._events.append(StreamEnded())
            case _:
                pass

    # Timers

    def handle_timer(self, *, now: float) -> None:
        """Run what is due; a no-op if early."""
        if self.closed:
            return
        if self.state is not PeerState.CONNECTED and now >= self._connect_by:
            self._end("timeout", "not connected in time")
            return
        if self.state is PeerState.CONNECTED and self.ice.consent_lost(now=now):
            self._end("lost", "no authenticated check for too long")
            return
        self.ice.handle_timer(now=now)
        self._out.extend(self.ice.datagrams_to_send())
        if self._dtls is not None and self.state is PeerState.HANDSHAKING:
            self._dtls.handle_timer(now=now)
            self._drain_dtls()
        if now >= self._report_at and self.srtp is not None:
            self.send_rtcp([self._report(now, self._blocks(now)), cname_sdes(self.ssrc, self._cname)])
            self._report_at = now + REPORT_INTERVAL_S
        if self._incoming is not None and self.srtp is not None:
            lost = self._incoming.handle_timer(now=now)
            if lost:
                self._send_nack(self._incoming, lost, now)

    def timer_at(self) -> float:
        """When `handle_timer` is next due; infinity when closed."""
        if self.closed:
            return float("inf")
        if self.state is PeerState.CONNECTED:
            repair_at = float("inf") if self._incoming is None else self._incoming.timer_at()
            return min(self.ice.timer_at(), self._report_at, repair_at)
        due = self._connect_by
        if isinstance(self.ice, IceControlling):
            due = min(due, self.ice.timer_at())
        if self._dtls is not None and self.state is PeerState.HANDSHAKING:
            due = min(due, self._dtls.timer_at())
        return due

    # Outputs

    def send_rtp(self, packet: RtpPacket, *, now: float) -> None:
        """Send one packet of our stream. Raises `LocalProtocolError` unless connected.

        The server's fan-out does not come this way: it protects and sends in batches (`lac_media.net.batch`).
        """
        self._send_protected(self._connected_srtp().protect(encode_rtp(packet)))
        self._sent_packets += 1
        self._sent_octets += len(packet.payload)
        self._sent_timestamp = (packet.timestamp, now)
        if self._report_at == float("inf"):
            self._report_at = now + REPORT_INTERVAL_S

    def send_rtcp(self, packets: list[RtcpPacket]) -> None:
        """Send one compound RTCP packet. Raises `LocalProtocolError` unless connected."""
        self._send_protected(self._connected_srtp().protect_rtcp(encode_rtcp(packets)))

    def datagrams_to_send(self) -> Iterator[tuple[bytes, Address]]:
        out, self._out = self._out, []
        return iter(out)

    def events(self) -> Iterator[PeerEvent]:
        events, self._events = self._events, []
        return iter(events)

    # Parts

    def _start_dtls(self, now: float) -> None:
        if self._dtls is not None:
            self._dtls.start(now=now)
            self._after_dtls(now)

    def _after_dtls(self, now: float) -> None:
        dtls = self._dtls
        if dtls is None:
            return
        self._drain_dtls()
        if dtls.keys is not None and self.state is PeerState.HANDSHAKING:
            self.state = next_state(self.state, PeerInput.KEYS_READY)
            self.srtp = SrtpSession(dtls.keys)
            self._events.append(PeerConnected(dtls.keys.profile.name))
        if dtls.peer_closed:
            self._end("hung_up")

    def _drain_dtls(self) -> None:
        address = self.ice.remote_address
        if self._dtls is not None and address is not None:
            self._out.extend((datagram, address) for datagram in self._dtls.datagrams_to_send())

    def _guarded(self, step: Callable[[float], None], now: float) -> None:
        """Run a DTLS step; an association that cannot be had ends the peer, not the caller."""
        try:
            step(now)
        except (RemoteProtocolError, UnsupportedMediaError) as error:
            self.counters.bad_dtls += 1
            self._drain_dtls()  # the alert that says why
            self._end("failed", str(error))

    def _send_nack(self, stream: IncomingStream, lost: tuple[int, ...], now: float) -> None:
        """RFC 4585 section 3.1: behind an (empty) report and our name, unless both ends do without (RFC 5506)."""
        nack = Nack(self.ssrc, stream.ssrc, lost)
        if self._expected is not None and self._expected.reduced_size_rtcp:
            self.send_rtcp([nack])
        else:
            self.send_rtcp([self._report(now, ()), cname_sdes(self.ssrc, self._cname), nack])

    def _blocks(self, now: float) -> tuple[ReportBlock, ...]:
        block = self.reception.report_block(now=now) if self.reception is not None else None
        return () if block is None else (block,)

    def _report(self, now: float, blocks: tuple[ReportBlock, ...]) -> SenderReport | ReceiverReport:
        if not self._sent_packets:
            return ReceiverReport(self.ssrc, blocks)
        timestamp, sent_at = self._sent_timestamp
        return SenderReport(
            self.ssrc,
            ntp_timestamp=self._ntp(now),
            rtp_timestamp=(timestamp + round((now - sent_at) * 48_000)) & 0xFFFF_FFFF,
            packet_count=self._sent_packets & 0xFFFF_FFFF,
            octet_count=self._sent_octets & 0xFFFF_FFFF,
            reports=blocks,
        )

    def _ntp(self, now: float) -> int:
        return ntp_from_unix(now + self._unix_offset_s)

    def _connected_srtp(self) -> SrtpSession:
        if self.srtp is None or self.closed:
            raise LocalProtocolError("the peer is not connected")
        return self.srtp

    def _send_protected(self, packet: bytes) -> None:
        address = self.ice.remote_address
        if address is not None:
            self._out.append((packet, address))

    def _end(self, reason: str, detail: str = "") -> None:
        self.state = next_state(self.state, PeerInput.CLOSE)
        self._events.append(PeerClosed(reason, detail))
