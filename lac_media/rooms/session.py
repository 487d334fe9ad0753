"""One WebRTC transport of a person in a room: publishing ("send") or listening ("recv")."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from lac_media.errors import LocalProtocolError, SessionClosedError, UnsupportedMediaError
from lac_media.net.endpoint import Attachment
from lac_media.parameters import (
    ConsumerParameters,
    Direction,
    DtlsParameters,
    IceParameters,
    ProducerParameters,
)
from lac_media.proto.dtls import SUPPORTED_HASHES
from lac_media.proto.ice import IceLite
from lac_media.proto.peer import (
    NackReceived,
    PeerClosed,
    PeerConnected,
    PeerCore,
    PeerEvent,
    PeerReached,
    RtpReceived,
    StreamEnded,
)
from lac_media.rooms.fanout import Seat

if TYPE_CHECKING:
    from lac_media.rooms.room import MediaRoom

#: The one producer that listeners consume.
PROGRAM_ID = "program"
#: Retransmissions that one listener may have in a second: twice what the program sends. A NACK of 1,400 bytes can ask
#: for thousands.
REPAIRS_PER_S = 100


@dataclass(frozen=True, slots=True)
class ConsumerInfo:
    """What a listener must know to play the program: `ssrc` and `cname` as they will be on the wire."""

    id: str
    producer_id: str
    ssrc: int
    cname: str
    parameters: ConsumerParameters


@dataclass(frozen=True, slots=True)
class SessionStats:
    """`loss` is a ratio of the last interval; times in seconds; None where the peer has not said."""

    state: str
    srtp_profile: str | None
    packets_in: int
    packets_lost_in: int
    #: Those that came after all: asked for again, or as redundant copies.
    packets_repaired_in: int
    jitter_in_s: float
    loss: float | None
    packets_lost_out: int | None
    jitter_out_s: float | None
    round_trip_s: float | None
    retransmitted: int
    bad_packets: int


def new_ice_parameters() -> IceParameters:
    """Fresh credentials: 48 and 144 random bits (RFC 8839 section 5.4 wants 24 and 128)."""
    return IceParameters(secrets.token_hex(6), secrets.token_hex(18))


class Session:
    """Made by `MediaRoom.open_session`. All methods are synchronous; a task in the room's nursery owns the session, and
    cancelling the room closes it.

    `owner` is whoever signalling says it belongs to; muting and removing go by it.
    """

    def __init__(self, room: MediaRoom, direction: Direction, owner: str, core: PeerCore, ice: IceParameters) -> None:
        self.id = secrets.token_hex(16)
        self.room = room
        self.direction = direction
        self.owner = owner
        self.ice_parameters = ice
        self.producer_id: str | None = None
        self.was_connected = False
        #: When its audio last came, monotonic seconds; None while it is not heard (see `MediaRoom`).
        self.heard_at: float | None = None
        self.retransmitted = 0
        self._repairs_left = REPAIRS_PER_S
        self._repairs_renewed_at = 0.0
        self.close_reason: str | None = None
        self._core = core
        self._attachment: Attachment | None = room.endpoint.attach(core, ice.username_fragment, self._on_event)
        self._consumer: ConsumerInfo | None = None
        self._seat: Seat | None = None
        self._seated_at = 0.0
        self._closed = trio.Event()

    # What signalling asks

    def connect(self, remote: DtlsParameters) -> None:
        """Take the peer's DTLS parameters. `LocalProtocolError` if they were given before, `UnsupportedMediaError` if
        none of the fingerprints can be checked, `SessionClosedError` if it is too late."""
        attachment = self._open()
        if not any(fingerprint.algorithm in SUPPORTED_HASHES for fingerprint in remote.fingerprints):
            raise UnsupportedMediaError("none of the DTLS fingerprints uses sha-256, sha-384 or sha-512")
        self._core.connect(remote, now=trio.current_time())
        self.room.endpoint.flush(attachment)

    def produce(self, parameters: ProducerParameters) -> str:
        """Announce the stream that the peer will send; returns the producer's id."""
        self._open()
        if self.direction is not Direction.SEND:
            raise LocalProtocolError("this transport is for listening; create one with direction send")
        if self.producer_id is not None:
            raise LocalProtocolError("this transport has its producer already")
        self._core.expect_stream(parameters)
        self.producer_id = secrets.token_hex(8)
        return self.producer_id

    def consume(self, parameters: ConsumerParameters) -> ConsumerInfo:
        """Have the program sent to the peer as soon as it is connected."""
        self._open()
        if self.direction is not Direction.RECV:
            raise LocalProtocolError("this transport is for publishing; create one with direction recv")
        if self._consumer is not None:
            raise LocalProtocolError("this transport has its consumer already")
        self._consumer = ConsumerInfo(
            secrets.token_hex(8), PROGRAM_ID, self.room.program.ssrc, self.room.cname, parameters
        )
        self._take_seat()
        return self._consumer

    def restart_ice(self) -> IceParameters:
        """New credentials for the same session; media goes on over the old path until the peer has moved."""
        attachment = self._open()
        fresh = new_ice_parameters()
        ice = self._core.ice
        if not isinstance(ice, IceLite):
            raise LocalProtocolError("only the server's side restarts ICE this way")
        ice.restart(fresh)
        self.room.endpoint.set_ufrags(attachment, ice.ufrags)
        self.ice_parameters = fresh
        return fresh

    def close(self, reason: str) -> None:
        """End the session now: goodbye to the peer, nothing left registered. Idempotent."""
        attachment = self._attachment
        if attachment is not None:
            self._core.close(reason, now=trio.current_time())
            self.room.endpoint.flush(attachment)  # reports PeerClosed, which finishes the rest

    @property
    def closed(self) -> bool:
        return self._attachment is None

    @property
    def consumes(self) -> bool:
        return self._seat is not None

    def stats(self) -> SessionStats:
        core = self._core
        reception, report, counters = core.reception, core.remote_report, core.counters
        repair = core.repair
        return SessionStats(
            state=core.state.value,
            srtp_profile=core.srtp.profile.name if core.srtp is not None else None,
            packets_in=reception.packets_received if reception else 0,
            packets_lost_in=max(0, reception.cumulative_lost) if reception else 0,
            packets_repaired_in=repair.repaired + repair.recovered,
            jitter_in_s=reception.jitter_s if reception else 0.0,
            loss=report.fraction_lost / 256 if report else None,
            packets_lost_out=report.cumulative_lost if report else None,
            jitter_out_s=report.jitter / 48_000 if report else None,
            round_trip_s=core.round_trip_s,
            retransmitted=self.retransmitted,
            bad_packets=counters.bad_stun + counters.bad_dtls + counters.bad_rtp + counters.bad_rtcp,
        )

    # What the room does with it

    async def wait_closed(self) -> None:
        await self._closed.wait()

    def may_repair(self, sent_at: float, *, now: float) -> bool:
        """Whether a packet that went out to everyone at `sent_at` may be sent to this peer again.

        Nothing from before it took its seat: its SRTP session has never seen that part of the numbering, and around a
        wrap would take it for the next round.
        """
        if self._seat is None or sent_at < self._seated_at:
            return False
        if now - self._repairs_renewed_at >= 1.0:
            self._repairs_left, self._repairs_renewed_at = REPAIRS_PER_S, now
        return self._repairs_left > 0

    def send_repair(self, packet: bytes) -> None:
        """Protect and send one plaintext RTP packet outside the fan-out: a retransmission."""
        core = self._core
        if core.srtp is not None and core.remote_address is not None and self._attachment is not None:
            self._repairs_left -= 1
            self.retransmitted += 1
            self.room.endpoint.send(core.srtp.protect(packet), core.remote_address)

    @property
    def consumer_parameters(self) -> ConsumerParameters | None:
        return self._consumer.parameters if self._consumer is not None else None

    def _open(self) -> Attachment:
        if self._attachment is None:
            raise SessionClosedError(f"this transport has closed ({self.close_reason})")
        return self._attachment

    def _on_event(self, event: PeerEvent) -> None:
        if self._attachment is None:
            return  # closed by what an earlier event of the same input brought about
        match event:
            case RtpReceived(packet, level):
                self.room.receive_audio(self, packet, level)
            case NackReceived(ssrc, lost):
                if ssrc == self.room.program.ssrc:
                    self.room.retransmit(self, lost)
            case PeerConnected():
                self.was_connected = True
                self.room.session_connected(self)
                self._take_seat()
            case PeerReached(address):
                if self._seat is not None:
                    self.room.fanout.move(self._seat, address)
            case StreamEnded():
                self.room.audio_ended(self)
            case PeerClosed(reason):
                self._finish(reason)

    def _take_seat(self) -> None:
        core = self._core
        # Closed already if the room's owner wanted so when it heard that we are connected.
        if self._seat is not None or self._consumer is None or self._attachment is None:
            return
        if core.srtp is not None and core.remote_address is not None:
            self._seat = self.room.fanout.add(self._consumer.parameters, core.srtp, core.remote_address)
            self._seated_at = trio.current_time()

    def _finish(self, reason: str) -> None:
        """The one way out, however the session ends. Synchronous: afterwards nothing refers to it."""
        attachment, self._attachment = self._attachment, None
        if attachment is None:
            return
        self.close_reason = reason
        self.room.endpoint.detach(attachment)
        if self._seat is not None:
            self.room.fanout.remove(self._seat)
            self._seat = None
        self._closed.set()
        self.room.session_closed(self, reason)
