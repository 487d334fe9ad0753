"""Values that signalling and the media plane exchange. Immutable; no behaviour beyond validation.

They follow the vocabulary of ORTC/mediasoup, because the mediasoup-client library is one of our clients; SDP is
translated to and from them in `proto/sdp.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from lac_media.errors import UnsupportedMediaError

#: An IP address as text (IPv4, or IPv6 without brackets) and a port: datagrams.
UdpAddress = tuple[str, int]


class TcpAddress(NamedTuple):
    """The other end of one TCP connection. Never equal to a UDP address, nor to that of another connection."""

    ip: str
    port: int
    connection: int


#: Where a peer is reached, and how.
Address = UdpAddress | TcpAddress

OPUS_CLOCK_RATE_HZ = 48_000
#: Payload type and header extension ids that we prefer when the remote side leaves the choice to us.
OPUS_PAYLOAD_TYPE = 100
MID_EXTENSION_ID = 1
AUDIO_LEVEL_EXTENSION_ID = 10
MID_URI = "urn:ietf:params:rtp-hdrext:sdes:mid"
AUDIO_LEVEL_URI = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"


class Direction(StrEnum):
    """Seen from the client, as in mediasoup: `SEND` publishes to us, `RECV` listens to us."""

    SEND = "send"
    RECV = "recv"


class Variant(StrEnum):
    """The forms of the program. Listeners ask for `OPUS` or `OPUS3`; who has asked for Opus and loses packets gets
    `OPUS_RED`, or `OPUS_AGAIN` if it cannot take that, while that helps."""

    #: As the speaker sent it, or as it was mixed.
    OPUS = "opus"
    #: Each packet with copies of the frames before it (RFC 2198), under the same numbers.
    OPUS_RED = "opus+red"
    #: Each packet, and after each of the next two the same again.
    OPUS_AGAIN = "opus+again"
    #: Three packets in one: a stream of its own.
    OPUS3 = "opus3"


class DtlsRole(StrEnum):
    AUTO = "auto"
    CLIENT = "client"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class IceParameters:
    """RFC 8839 section 5.4: ufrag of 4 to 256 and password of 22 to 256 ice-chars."""

    username_fragment: str
    password: str


@dataclass(frozen=True, slots=True)
class IceCandidate:
    """One host candidate of ours. `priority` as in RFC 8445 section 5.1.2."""

    foundation: str
    priority: int
    ip: str
    port: int
    protocol: str = "udp"
    type: str = "host"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A certificate's hash (RFC 8122): `algorithm` such as "sha-256", `value` as upper-case hex with colons."""

    algorithm: str
    value: str


@dataclass(frozen=True, slots=True)
class DtlsParameters:
    """`role` is the role of whoever sends these parameters."""

    role: DtlsRole
    fingerprints: tuple[Fingerprint, ...]


@dataclass(frozen=True, slots=True)
class ProducerParameters:
    """How a publisher sends its Opus stream.

    `ssrc` may be unknown (SDP without `a=ssrc`): the first SSRC seen with `payload_type` is then taken.
    """

    payload_type: int
    ssrc: int | None = None
    mid: str | None = None
    mid_extension_id: int | None = None
    audio_level_extension_id: int | None = None
    channels: int = 2
    #: The publisher understands generic NACK (RFC 4585) and can retransmit.
    nack: bool = False
    #: The payload type of redundant audio (RFC 2198) on the same stream, if the publisher may send it.
    red_payload_type: int | None = None
    #: RTCP may go without the compound's leading report (RFC 5506).
    reduced_size_rtcp: bool = False

    @property
    def payload_types(self) -> tuple[int, ...]:
        """Those of the packets that carry its audio."""
        return (self.payload_type,) if self.red_payload_type is None else (self.payload_type, self.red_payload_type)


@dataclass(frozen=True, slots=True)
class ConsumerParameters:
    """How a listener wants the program: its payload type and header extension ids. Listeners with equal parameters
    receive byte-identical plaintext packets. `UnsupportedMediaError` for what does not fit an RTP header: it would stop
    the program for everyone."""

    payload_type: int = OPUS_PAYLOAD_TYPE
    audio_level_extension_id: int | None = AUDIO_LEVEL_EXTENSION_ID
    #: What the listener calls redundant audio (RFC 2198); None: it cannot take any.
    red_payload_type: int | None = None
    #: The listener asks for what it misses (generic NACK, RFC 4585). Says nothing of how packets look.
    nack: bool = field(default=False, compare=False)
    #: The listener wants a third of the packets (`Variant.OPUS3`). Of the program only: speakers are sent as they are.
    economy: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.payload_type <= 127:
            raise UnsupportedMediaError(f"RTP payload type {self.payload_type} is not within 0 to 127")
        if self.red_payload_type is not None and not 0 <= self.red_payload_type <= 127:
            raise UnsupportedMediaError(f"RTP payload type {self.red_payload_type} is not within 0 to 127")
        if self.audio_level_extension_id is not None and not 1 <= self.audio_level_extension_id <= 14:
            raise UnsupportedMediaError(
                f"the audio level extension has id {self.audio_level_extension_id}; only 1 to 14 can be sent"
            )
