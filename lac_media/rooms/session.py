"""One WebRTC transport of a person in a room: publishing ("send") or listening ("recv")."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from lac_media.errors import (
    LocalProtocolError,
    SessionClosedError,
    TransportUsedUpError,
    UnknownConsumerError,
    UnsupportedMediaError,
)
from lac_media.net.endpoint import Attachment
from lac_media.parameters import (
    ConsumerParameters,
    Direction,
    DtlsParameters,
    IceParameters,
    ProducerParameters,
    Variant,
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
    ReportReceived,
    RtpReceived,
    StreamEnded,
)
from lac_media.proto.rtcp import ReportBlock
from lac_media.proto.srtp import SrtpSession
from lac_media.rooms.fanout import Seat, payload_size
from lac_media.rooms.redundancy import RedundancyChooser

if TYPE_CHECKING:
    from lac_media.rooms.room import MediaRoom

#: The one producer that listeners consume.
PROGRAM_ID = "program"
#: What a transport may be sent under SSRCs of its own, one after the other: libsrtp keeps 300 bytes for each.
MAX_SSRCS = 256
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
    #: Monotonic seconds: nothing from before is sent again.
    since: float


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
    #: In which form the program is sent; None while it is not.
    variant: Variant | None


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
        #: By the SSRC under which each is sent: consumers of single speakers.
        self._speakers: dict[int, ConsumerInfo] = {}
        #: Under which anything was ever sent to it, or was to be sent.
        self._ssrcs: set[int] = set()
        self._seat: Seat | None = None
        #: For listeners in the usual variant; None for all others.
        self._chooser: RedundancyChooser | None = None
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

    def consume(self, parameters: ConsumerParameters, producer_id: str = PROGRAM_ID) -> ConsumerInfo:
        """Have the program, or one speaker's audio, sent to the peer as soon as it is connected.

        Each time under another SSRC. What is consumed anew under the same one would go on with other numbers under the
        same key: after 32,768 packets SRTP's rollover counter could not follow, and where the numbers come round again
        two plaintexts would share one key stream.

        Raises `UnknownProducerError`, and `LocalProtocolError` for what this session has already, for one's own audio,
        for a speaker in the economy variant, and on a transport for publishing; `TransportUsedUpError` on one that has
        consumed `MAX_SSRCS` times.
        """
        self._open()
        if self.direction is not Direction.RECV:
            raise LocalProtocolError("this transport is for publishing; create one with direction recv")
        if producer_id != PROGRAM_ID:
            return self._consume_speaker(parameters, producer_id)
        if self._consumer is not None:
            raise LocalProtocolError("this transport has its consumer already")
        self._check_unused_left()
        ssrc = self.room.program_ssrc(economy=parameters.economy, used=self._ssrcs)
        self._ssrcs.add(ssrc)
        self._consumer = ConsumerInfo(
            secrets.token_hex(8), PROGRAM_ID, ssrc, self.room.cname, parameters, trio.current_time()
        )
        self._core.ssrc = ssrc  # what the peer's reports about us are about
        self._take_seat()
        return self._consumer

    def _consume_speaker(self, parameters: ConsumerParameters, producer_id: str) -> ConsumerInfo:
        if parameters.economy:
            raise LocalProtocolError("only the program has an economy variant")
        speaker = self.room.speaker(producer_id)
        if speaker.owner == self.owner:
            raise LocalProtocolError("nobody is sent their own audio")
        if any(info.producer_id == producer_id for info in self._speakers.values()):
            raise LocalProtocolError("this transport has a consumer of this producer already")
        self._check_unused_left()
        ssrc = self.room.stage.ssrc_of(speaker, used=self._ssrcs)
        self._ssrcs.add(ssrc)
        info = ConsumerInfo(secrets.token_hex(8), producer_id, ssrc, self.room.cname, parameters, trio.current_time())
        self._speakers[info.ssrc] = info
        self.room.stage.changed()
        return info

    def _check_unused_left(self) -> None:
        if len(self._ssrcs) >= MAX_SSRCS:
            raise TransportUsedUpError("too much was consumed on this transport, one after the other; open another")

    def close_consumer(self, consumer_id: str) -> None:
        """Stop sending this. `UnknownConsumerError` if the session has no such consumer."""
        if self._consumer is not None and self._consumer.id == consumer_id:
            self._consumer = None
            if self._give_up_seat():
                self.room.audience_changed(self, hears=False)
            return
        for ssrc, info in self._speakers.items():
            if info.id == consumer_id:
                del self._speakers[ssrc]
                self.room.stage.changed()
                return
        raise UnknownConsumerError("this transport has no such consumer (any more)")

    def close_speakers(self, producer_id: str | None = None) -> None:
        """Stop sending this speaker, or (None) all of them: the peer has left the stage."""
        for ssrc, info in list(self._speakers.items()):
            if producer_id in (None, info.producer_id):
                del self._speakers[ssrc]
                self.room.stage.changed()

    @property
    def speakers(self) -> list[ConsumerInfo]:
        """What is sent of single speakers."""
        return list(self._speakers.values())

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
            variant=self._seat.variant if self._seat is not None else None,
        )

    # What the room does with it

    async def wait_closed(self) -> None:
        await self._closed.wait()

    def has_repair_left(self, *, now: float) -> bool:
        """Whether anything may be sent again just now."""
        if now - self._repairs_renewed_at >= 1.0:
            self._repairs_left, self._repairs_renewed_at = REPAIRS_PER_S, now
        return self._repairs_left > 0

    def send_repair(self, packet: bytes) -> bool:
        """Protect and send one plaintext RTP packet once more: a retransmission. False while not connected."""
        if not self.send_rtp(packet):
            return False
        self._repairs_left -= 1
        self.retransmitted += 1
        return True

    def send_rtp(self, packet: bytes) -> bool:
        """Protect and send one plaintext RTP packet outside the fan-out. False while the peer is not connected."""
        return self._send(packet, SrtpSession.protect)

    def send_rtcp(self, packet: bytes) -> bool:
        """The same for a compound RTCP packet."""
        return self._send(packet, SrtpSession.protect_rtcp)

    def _send(self, packet: bytes, protect: Callable[[SrtpSession, bytes], bytes]) -> bool:
        core = self._core
        if core.srtp is None or core.remote_address is None or self._attachment is None:
            return False
        self.room.endpoint.send(protect(core.srtp, packet), core.remote_address)
        return True

    def _repair(self, lost: tuple[int, ...]) -> None:
        """Answer a NACK about the program (RFC 4585 section 6.2.1), from what all listeners share."""
        now = trio.current_time()
        for sequence in dict.fromkeys(lost):
            if self._seat is None or not self.has_repair_left(now=now):
                return
            packet = self.room.fanout.retransmission(self._seat, sequence, now=now)
            if packet is not None and self.send_repair(packet):
                self._seat.more.add(payload_size(packet))

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
                if self._consumer is not None and ssrc == self._consumer.ssrc:
                    self._repair(lost)
                elif ssrc in self._speakers:
                    self.room.stage.retransmit(self, self._speakers[ssrc], lost)
            case ReportReceived(block):
                self._choose_variant(block)
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
            parameters = self._consumer.parameters
            self._seat = self.room.fanout.add(parameters, core.srtp, core.remote_address, ssrc=self._consumer.ssrc)
            if not parameters.economy:
                redundant = Variant.OPUS_AGAIN if parameters.red_payload_type is None else Variant.OPUS_RED
                self._chooser = RedundancyChooser(asks_again=parameters.nack, redundant=redundant)
            self.room.audience_changed(self, hears=True)

    def _give_up_seat(self) -> bool:
        """False if there was none."""
        seat, self._seat, self._chooser = self._seat, None, None
        if seat is not None:
            self.room.fanout.remove(seat)
        return seat is not None

    def _choose_variant(self, block: ReportBlock) -> None:
        """With redundancy or without, by what the peer says of its losses."""
        if self._seat is None or self._chooser is None:
            return
        variant = self._chooser.report(
            block,
            round_trip_s=self._core.round_trip_s,
            repaired=self.retransmitted,
            now=trio.current_time(),
            allowed=self._seat.parameters.red_payload_type is not None or self.room.may_repeat(self._seat),
        )
        self.room.fanout.switch(self._seat, variant)

    def _finish(self, reason: str) -> None:
        """The one way out, however the session ends. Synchronous: afterwards nothing refers to it."""
        attachment, self._attachment = self._attachment, None
        if attachment is None:
            return
        self.close_reason = reason
        self.room.endpoint.detach(attachment)
        self._give_up_seat()
        self._speakers.clear()
        self._closed.set()
        self.room.session_closed(self, reason)
