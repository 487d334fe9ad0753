"""Facts that a media room reports to its owner, synchronously, in the order in which they happened."""

from __future__ import annotations

from dataclasses import dataclass

from lac_media.parameters import Direction


@dataclass(frozen=True, slots=True)
class SessionConnected:
    """ICE, DTLS and SRTP are up."""

    session_id: str
    direction: Direction
    owner: str


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """The session has left the room; it reports nothing more. Sent for every session that was ever opened.

    `reason` is one of: "left" (our API, WHIP/WHEP DELETE), "hung_up" (DTLS close_notify), "timeout" (never connected),
    "lost" (consent expired), "failed" (handshake or protocol), "replaced", "removed", "ended" (the room closed).
    """

    session_id: str
    direction: Direction
    owner: str
    reason: str
    was_connected: bool


@dataclass(frozen=True, slots=True)
class SpeakerStarted:
    """The first audio packet of a producer has reached the program."""

    session_id: str
    producer_id: str
    owner: str


@dataclass(frozen=True, slots=True)
class SpeakerStopped:
    """A producer that had started is gone, or has sent nothing for a while (then `SpeakerStarted` may follow)."""

    session_id: str
    producer_id: str
    owner: str


@dataclass(frozen=True, slots=True)
class SpeakingChanged:
    """Who is speaking now, and how loud: (owner, level in dBov), the loudest first. A few times a second at most."""

    speaking: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class AudienceChanged:
    """The program reaches this session from now on, or no more. Not sent at its close: `SessionClosed` says so."""

    session_id: str
    hears: bool


RoomEvent = AudienceChanged | SessionConnected | SessionClosed | SpeakerStarted | SpeakerStopped | SpeakingChanged
