"""Offers and answers (RFC 8866, RFC 8829, RFC 3264) for WHIP (RFC 9725) and WHEP: one audio stream, Opus, one port.

Tolerant of what real clients write, strict in what a session cannot do without: ICE credentials, a certificate's
fingerprint, a DTLS role, Opus, RTCP on the same port. Every refusal is an `SdpError` that a person can act on.
"""

from __future__ import annotations

from dataclasses import dataclass

from lac_media.parameters import (
    AUDIO_LEVEL_EXTENSION_ID,
    AUDIO_LEVEL_URI,
    MID_EXTENSION_ID,
    MID_URI,
    OPUS_CLOCK_RATE_HZ,
    OPUS_PAYLOAD_TYPE,
    Direction,
    Fingerprint,
    IceCandidate,
    IceParameters,
)
from lac_media.proto.sdp_description import (
    ECONOMY_PTIME_MS,
    Answer,
    MediaLine,
    Offer,
    SdpDirection,
    Setup,
    parse_answer_untrusted,
    parse_offer_untrusted,
)
from lac_media.proto.sdp_lines import SdpError, ice_lines, join_lines

__all__ = [
    "Answer",
    "AnswerParameters",
    "MediaLine",
    "Offer",
    "OfferParameters",
    "SdpDirection",
    "SdpError",
    "Setup",
    "build_answer",
    "build_offer",
    "parse_answer_untrusted",
    "parse_offer_untrusted",
]

#: The longest Opus packet (RFC 7587 section 6.1).
MAX_PTIME_MS = 120
_OPUS_FMTP = "minptime=10;useinbandfec=1"


@dataclass(frozen=True, slots=True)
class AnswerParameters:
    """What we put into an answer. `ssrc` and `cname` are those of the program, for listeners only."""

    ice: IceParameters
    candidates: tuple[IceCandidate, ...]
    fingerprints: tuple[Fingerprint, ...]
    direction: Direction
    ssrc: int | None = None
    cname: str | None = None
    #: For listeners: the program comes as 60 ms a packet, thus never with RED.
    economy: bool = False
    #: Of the o= line; a fresh one for every session (RFC 8866 section 5.2).
    session_id: int = 1


@dataclass(frozen=True, slots=True)
class OfferParameters:
    """What we put into an offer in the client role. `ssrc` and `cname` are those of our own stream, if we publish."""

    ice: IceParameters
    candidates: tuple[IceCandidate, ...]
    fingerprints: tuple[Fingerprint, ...]
    direction: Direction
    ssrc: int | None = None
    cname: str | None = None
    payload_type: int = OPUS_PAYLOAD_TYPE
    setup: Setup = Setup.ACTPASS
    mid: str = "0"
    nack: bool = True
    #: Offered behind Opus: we understand RED, and send Opus.
    red_payload_type: int | None = None
    session_id: int = 1


def build_answer(offer: Offer, parameters: AnswerParameters) -> str:
    """Answer as the ICE-lite server. Payload types and extension ids are the offer's; every m-line but the one audio
    line is refused (RFC 3264 section 6). Opus and, where offered, RED stay in the offer's order: a browser sends the
    first. Raises SdpError when the offer's direction does not allow it."""
    offer.require(parameters.direction)
    lines = _session_lines(parameters.session_id)
    lines.append("a=ice-lite")
    if offer.bundle and offer.mid is not None:
        lines.append(f"a=group:BUNDLE {offer.mid}")
    lines.append("a=msid-semantic: WMS *")
    for index, line in enumerate(offer.media):
        if index == offer.audio_index:
            lines += _accepted_lines(offer, parameters)
        else:
            lines += _refused_lines(line)
    return join_lines(lines)


def _session_lines(session_id: int) -> list[str]:
    return ["v=0", f"o=- {session_id} 1 IN IP4 127.0.0.1", "s=-", "t=0 0"]


def _transport_lines(
    kind_and_formats: tuple[str, str, str], ice: IceParameters, candidates: tuple[IceCandidate, ...], *, complete: bool
) -> list[str]:
    """m= and c= of the default candidate (RFC 8839 section 4.2.1.2), then ICE."""
    kind, proto, formats = kind_and_formats
    default = next((c for c in candidates if c.protocol == "udp"), None)
    if default is None:
        port, connection = 9, "IN IP4 0.0.0.0"
    else:
        port, connection = default.port, f"IN {'IP6' if ':' in default.ip else 'IP4'} {default.ip}"
    return [f"m={kind} {port} {proto} {formats}", f"c={connection}", *ice_lines(ice, candidates, complete=complete)]


def _opus_lines(payload_type: int, fmtp: str, extensions: dict[str, int], *, nack: bool) -> list[str]:
    lines = [f"a=rtpmap:{payload_type} opus/{OPUS_CLOCK_RATE_HZ}/2", f"a=fmtp:{payload_type} {fmtp}"]
    if nack:
        lines.append(f"a=rtcp-fb:{payload_type} nack")
    return lines + [f"a=extmap:{number} {uri}" for uri, number in extensions.items()]


def _red_lines(payload_type: int, opus: int, *, nack: bool) -> list[str]:
    """RFC 2198 section 5: Opus within, as primary and as copy."""
    lines = [f"a=rtpmap:{payload_type} red/{OPUS_CLOCK_RATE_HZ}/2", f"a=fmtp:{payload_type} {opus}/{opus}"]
    if nack:
        lines.append(f"a=rtcp-fb:{payload_type} nack")
    return lines


def _accepted_lines(offer: Offer, parameters: AnswerParameters) -> list[str]:
    listening = parameters.direction is Direction.RECV
    formats = (offer.payload_type,) if parameters.economy else offer.formats
    lines = _transport_lines(
        ("audio", offer.audio.proto, " ".join(map(str, formats))),
        parameters.ice,
        parameters.candidates,
        complete=True,
    )
    lines += [f"a=fingerprint:{f.algorithm} {f.value}" for f in parameters.fingerprints]
    lines.append(f"a=setup:{offer.answer_setup}")
    if offer.mid is not None:
        lines.append(f"a=mid:{offer.mid}")
    lines += ["a=sendonly" if listening else "a=recvonly", "a=rtcp-mux"]
    if offer.rtcp_rsize:
        lines.append("a=rtcp-rsize")
    wanted = (AUDIO_LEVEL_URI,) if listening else (MID_URI, AUDIO_LEVEL_URI)
    lines += _opus_lines(
        offer.payload_type,
        f"{_OPUS_FMTP};stereo=1;sprop-stereo=1" if offer.stereo else _OPUS_FMTP,
        {uri: offer.extensions[uri] for uri in wanted if uri in offer.extensions},
        nack=offer.nack,
    )
    if offer.red_payload_type in formats and offer.red_payload_type is not None:
        lines += _red_lines(offer.red_payload_type, offer.payload_type, nack=offer.red_nack)
    if parameters.economy:
        # What we send, as far as it is ours to say: a speaker's longer packets are passed on as they are.
        lines += [f"a=ptime:{ECONOMY_PTIME_MS}", f"a=maxptime:{MAX_PTIME_MS}"]
    return lines + (_source_lines(parameters.ssrc, parameters.cname) if listening else [])


def _source_lines(ssrc: int | None, cname: str | None) -> list[str]:
    """RFC 8830 and RFC 5576: what is sent."""
    name = cname or "lac"
    lines = [f"a=msid:{name} audio"]
    if ssrc is not None:
        lines += [f"a=ssrc:{ssrc} cname:{name}", f"a=ssrc:{ssrc} msid:{name} audio"]
    return lines


def _refused_lines(line: MediaLine) -> list[str]:
    """Port 0, same mid, out of the BUNDLE group (RFC 9143 section 7.3.2)."""
    lines = [f"m={line.kind} 0 {line.proto} {' '.join(line.formats) or '0'}", "c=IN IP4 0.0.0.0"]
    if line.mid is not None:
        lines.append(f"a=mid:{line.mid}")
    return [*lines, "a=inactive"]


def build_offer(parameters: OfferParameters) -> str:
    """An offer of ours in the client role: one audio line, Opus, all candidates in it."""
    payload_type, red = parameters.payload_type, parameters.red_payload_type
    publishing = parameters.direction is Direction.SEND
    lines = _session_lines(parameters.session_id)
    lines += [f"a=group:BUNDLE {parameters.mid}", "a=msid-semantic: WMS *"]
    lines += _transport_lines(
        ("audio", "UDP/TLS/RTP/SAVPF", str(payload_type) if red is None else f"{payload_type} {red}"),
        parameters.ice,
        parameters.candidates,
        complete=bool(parameters.candidates),
    )
    lines += [f"a=fingerprint:{f.algorithm} {f.value}" for f in parameters.fingerprints]
    lines += [f"a=setup:{parameters.setup}", f"a=mid:{parameters.mid}"]
    lines += ["a=sendonly" if publishing else "a=recvonly", "a=rtcp-mux", "a=rtcp-rsize"]
    extensions = {MID_URI: MID_EXTENSION_ID, AUDIO_LEVEL_URI: AUDIO_LEVEL_EXTENSION_ID}
    lines += _opus_lines(payload_type, _OPUS_FMTP, extensions, nack=parameters.nack)
    if red is not None:
        lines += _red_lines(red, payload_type, nack=parameters.nack)
    return join_lines(lines + (_source_lines(parameters.ssrc, parameters.cname) if publishing else []))
