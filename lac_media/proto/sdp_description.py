"""Reading offers and answers: see `sdp`, which is the door to this module."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, TypeVar

from lac_media.parameters import (
    AUDIO_LEVEL_URI,
    MID_URI,
    OPUS_CLOCK_RATE_HZ,
    ConsumerParameters,
    Direction,
    DtlsParameters,
    DtlsRole,
    Fingerprint,
    IceCandidate,
    IceParameters,
    ProducerParameters,
)
from lac_media.proto.sdp_lines import (
    SdpError,
    Section,
    is_token,
    parse_candidates,
    parse_ice_parameters,
    parse_number,
    split_sections,
)

#: RFC 8122 section 5 with what browsers and pymediasoup send: algorithm to bytes of hash.
_HASH_BYTES = {"sha-256": 32, "sha-384": 48, "sha-512": 64}
_HEX_PAIRS = re.compile(r"[0-9A-F]{2}(?::[0-9A-F]{2})*")
#: Of the economy variant's packets.
ECONOMY_PTIME_MS = 60
_PROTO = re.compile(r"[A-Za-z0-9/.\-]{1,64}")


class SdpDirection(StrEnum):
    """RFC 8866 section 6.7, from the view of whoever wrote the description."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @property
    def sends(self) -> bool:
        return self in {SdpDirection.SENDRECV, SdpDirection.SENDONLY}

    @property
    def receives(self) -> bool:
        return self in {SdpDirection.SENDRECV, SdpDirection.RECVONLY}


_DIRECTIONS = frozenset(direction.value for direction in SdpDirection)


class Setup(StrEnum):
    """RFC 8842 section 4: who opens the DTLS connection."""

    ACTPASS = "actpass"
    ACTIVE = "active"
    PASSIVE = "passive"


_ROLES = {Setup.ACTPASS: DtlsRole.AUTO, Setup.ACTIVE: DtlsRole.CLIENT, Setup.PASSIVE: DtlsRole.SERVER}


@dataclass(frozen=True, slots=True)
class MediaLine:
    """One m-line. `usable` is false for one that its author has switched off (port 0 without a=bundle-only)."""

    mid: str | None
    kind: str
    port: int
    proto: str
    formats: tuple[str, ...]
    usable: bool = True


@dataclass(frozen=True, slots=True)
class _Description:
    """What we need of a description, session-level and media-level attributes merged."""

    ice: IceParameters
    fingerprints: tuple[Fingerprint, ...]
    setup: Setup
    media: tuple[MediaLine, ...]
    #: Index into `media` of the audio m-line with Opus that everything below is about.
    audio_index: int
    payload_type: int
    direction: SdpDirection
    #: Opus parameters as written, "minptime=10;useinbandfec=1".
    fmtp: str = ""
    #: Generic NACK for Opus (RFC 4585 section 4.2).
    nack: bool = False
    #: Redundant audio (RFC 2198) around the same Opus: its payload type, and whether NACK covers it, too.
    red_payload_type: int | None = None
    red_nack: bool = False
    rtcp_rsize: bool = False
    #: The longest packet that the author takes (RFC 8866 section 6.4); None: what Opus has.
    max_ptime_ms: int | None = None
    #: Header extensions, URI to id.
    extensions: Mapping[str, int] = field(default_factory=dict)
    ssrc: int | None = None
    cname: str | None = None
    candidates: tuple[IceCandidate, ...] = ()
    end_of_candidates: bool = False
    trickle: bool = False
    ice_lite: bool = False
    #: The mids of the BUNDLE group that the audio belongs to; empty without one.
    bundle: tuple[str, ...] = ()

    @property
    def audio(self) -> MediaLine:
        return self.media[self.audio_index]

    @property
    def mid(self) -> str | None:
        return self.audio.mid

    @property
    def stereo(self) -> bool:
        """The author sends stereo or would like to receive it (RFC 7587 section 6.1)."""
        parameters = {part.strip().lower() for part in self.fmtp.split(";")}
        return bool(parameters & {"stereo=1", "sprop-stereo=1"})

    @property
    def formats(self) -> tuple[int, ...]:
        """The payload types that we use, in the author's order of preference."""
        ours = {self.payload_type, self.red_payload_type}
        numbers = (parse_number(text, 0, 127) for text in self.audio.formats)
        return tuple(dict.fromkeys(number for number in numbers if number is not None and number in ours))

    @property
    def mid_extension_id(self) -> int | None:
        return None if self.mid is None else self.extensions.get(MID_URI)

    @property
    def audio_level_extension_id(self) -> int | None:
        return self.extensions.get(AUDIO_LEVEL_URI)

    def dtls_parameters(self) -> DtlsParameters:
        """The author's role and certificate."""
        return DtlsParameters(_ROLES[self.setup], self.fingerprints)


@dataclass(frozen=True, slots=True)
class Offer(_Description):
    """A client's offer."""

    def require(self, direction: Direction) -> None:
        """Raise SdpError unless the offer allows publishing (SEND) or listening (RECV)."""
        if direction is Direction.SEND and not self.direction.sends:
            raise SdpError(
                f"The audio of this offer is a={self.direction}, so nothing would be sent here."
                " To publish, offer it as a=sendonly or a=sendrecv."
            )
        if direction is Direction.RECV and not self.direction.receives:
            raise SdpError(
                f"The audio of this offer is a={self.direction}, so nothing could be heard."
                " To listen, offer it as a=recvonly or a=sendrecv."
            )

    @property
    def answer_setup(self) -> Setup:
        """RFC 8842 section 5.3: passive where the offer allows it, so that the client begins the handshake."""
        return Setup.ACTIVE if self.setup is Setup.PASSIVE else Setup.PASSIVE

    def producer_parameters(self) -> ProducerParameters:
        """How this client publishes. Raises SdpError when its direction forbids it."""
        self.require(Direction.SEND)
        return ProducerParameters(
            payload_type=self.payload_type,
            ssrc=self.ssrc,
            mid=self.mid,
            mid_extension_id=self.mid_extension_id,
            audio_level_extension_id=self.audio_level_extension_id,
            channels=2,
            nack=self.nack,
            red_payload_type=self.red_payload_type,
            reduced_size_rtcp=self.rtcp_rsize,
        )

    def consumer_parameters(self, *, economy: bool = False) -> ConsumerParameters:
        """How this client listens. Raises SdpError when its direction forbids it, or its a=maxptime the `economy`
        variant.

        Without mid extension: our answer names the SSRC and keeps one m-line, which binds the stream.
        """
        self.require(Direction.RECV)
        if economy and self.max_ptime_ms is not None and self.max_ptime_ms < ECONOMY_PTIME_MS:
            raise SdpError(
                f"This offer takes no packets of {ECONOMY_PTIME_MS} ms (a=maxptime:{self.max_ptime_ms}), which are what"
                " the variant opus3 has. Leave the line out, or listen without the variant."
            )
        return ConsumerParameters(
            payload_type=self.payload_type,
            audio_level_extension_id=self.audio_level_extension_id,
            red_payload_type=self.red_payload_type,
            nack=self.nack,
            economy=economy,
        )


@dataclass(frozen=True, slots=True)
class Answer(_Description):
    """A server's answer to an offer of ours (load tester, relay links)."""


def parse_offer_untrusted(text: str) -> Offer:
    """Parse a client's offer. Raises SdpError, nothing else. For the direction see `Offer.require`."""
    return _parse(Offer, text, "offer")


def parse_answer_untrusted(text: str) -> Answer:
    """Parse a server's answer to an offer of ours. Raises SdpError, nothing else."""
    answer = _parse(Answer, text, "answer")
    if answer.setup is Setup.ACTPASS:
        raise SdpError("The answer leaves the DTLS role open: a=setup must be active or passive in an answer.")
    return answer


_D = TypeVar("_D", bound=_Description)


class _Codec(NamedTuple):
    payload_type: int
    fmtp: str
    nack: bool


def _parse(kind: type[_D], text: str, what: str) -> _D:
    """`what` is "offer" or "answer", for the sentences."""
    if not text.lstrip().startswith("v=0"):
        raise SdpError(f'This is not an SDP {what}: it does not begin with "v=0".')
    session, *sections = split_sections(text)
    media = tuple(_parse_media_line(section) for section in sections)
    index, codec = _choose_audio(sections, media, what)
    section, line = sections[index], media[index]
    red = _find_red(section, line, codec.payload_type)
    bundle = _bundle_of(session, line.mid)
    # RFC 9143 section 7.1: a bundle-only m-line leaves its transport to the first m-line of its group.
    sources = [section, session]
    if section.get("bundle-only") is not None:
        if not bundle:
            raise SdpError("The audio is a=bundle-only, but no a=group:BUNDLE names its mid.")
        sources += [s for s, other in zip(sections, media, strict=True) if other.mid == bundle[0]]
    ufrag, pwd = _first(sources, "ice-ufrag"), _first(sources, "ice-pwd")
    if ufrag is None or pwd is None:
        raise SdpError(f"The {what} has no a=ice-ufrag and a=ice-pwd for the audio; ICE needs both.")
    rtcp_mux = _first(sources, "rtcp-mux")
    if rtcp_mux is None and _first(sources, "rtcp-mux-only") is None:
        raise SdpError(f"The {what} has no a=rtcp-mux for the audio; RTP and RTCP must share one port here.")
    ssrc, cname = _parse_ssrc(section)
    options = " ".join(o for s in sources for o in s.all("ice-options")).replace(",", " ").split()
    return kind(
        ice=parse_ice_parameters(ufrag, pwd),
        fingerprints=_parse_fingerprints(sources, what),
        setup=_parse_setup(sources, what),
        media=media,
        audio_index=index,
        payload_type=codec.payload_type,
        direction=_parse_direction(section, session),
        fmtp=codec.fmtp,
        nack=codec.nack,
        red_payload_type=red.payload_type if red is not None else None,
        red_nack=red is not None and red.nack,
        rtcp_rsize=section.get("rtcp-rsize") is not None,
        max_ptime_ms=parse_number(section.get("maxptime") or "", 1, 10_000),
        extensions=_parse_extensions(section, session),
        ssrc=ssrc,
        cname=cname,
        candidates=tuple(c for s in sources for c in parse_candidates(s)),
        end_of_candidates=_first(sources, "end-of-candidates") is not None,
        trickle="trickle" in options,
        ice_lite=session.get("ice-lite") is not None,
        bundle=bundle,
    )


def _first(sources: list[Section], name: str) -> str | None:
    return next((value for source in sources if (value := source.get(name)) is not None), None)


def _parse_media_line(section: Section) -> MediaLine:
    """RFC 8866 section 5.14: kind, port (or port/count), protocol, formats."""
    kind, *rest = section.media.split(" ")
    parts = [part for part in rest if part]
    port = parse_number(parts[0].partition("/")[0], 0, 0xFFFF) if parts else None
    if len(parts) < 2 or port is None or not is_token(kind) or _PROTO.fullmatch(parts[1]) is None:
        raise SdpError('A media line is not of the form "m=audio 9 UDP/TLS/RTP/SAVPF 111".')
    if not all(is_token(part) for part in parts[2:]):
        raise SdpError(f"The formats of the {kind} line are not tokens (RFC 8866).")
    mid = section.get("mid")
    if mid is not None and not is_token(mid):
        raise SdpError(f"The a=mid of the {kind} line is not a token of up to 64 characters (RFC 8866).")
    usable = port != 0 or section.get("bundle-only") is not None
    return MediaLine(mid, kind.lower(), port, parts[1], tuple(parts[2:]), usable)


def _choose_audio(sections: list[Section], media: tuple[MediaLine, ...], what: str) -> tuple[int, _Codec]:
    """The first audio m-line that is in use and has Opus."""
    audio = [index for index, line in enumerate(media) if line.kind == "audio"]
    if not audio:
        raise SdpError(f"The {what} has no audio line (m=audio).")
    usable = [index for index in audio if media[index].usable]
    if not usable:
        raise SdpError(f"The audio line of the {what} is switched off (port 0).")
    for index in usable:
        codec = _find_opus(sections[index], media[index])
        if codec is not None:
            return index, codec
    raise SdpError(f"The audio line of the {what} has no Opus; add a=rtpmap:<type> opus/48000/2.")


def _find_opus(section: Section, line: MediaLine) -> _Codec | None:
    # RFC 7587 section 4.1 wants "/2", always; some leave it out, and all can decode stereo.
    return next(_find_codecs(section, line, "opus"), None)


def _find_red(section: Section, line: MediaLine, opus: int) -> _Codec | None:
    """RFC 2198 section 5: "a=fmtp:63 111/111" says what is inside. RED of anything else is not for us."""
    for codec in _find_codecs(section, line, "red"):
        if codec.payload_type != opus and all(part.strip() == str(opus) for part in codec.fmtp.split("/")):
            return codec
    return None


def _find_codecs(section: Section, line: MediaLine, wanted: str) -> Iterator[_Codec]:
    """The formats of the m-line with this name at 48 kHz, in the author's order of preference."""
    names: dict[str, str] = {}
    for value in section.all("rtpmap"):
        number, _, name = value.partition(" ")
        names.setdefault(number, name.strip().lower())
    for number in line.formats:
        payload_type = parse_number(number, 0, 127)
        if payload_type is None:
            continue
        if names.get(number) not in {f"{wanted}/{OPUS_CLOCK_RATE_HZ}/2", f"{wanted}/{OPUS_CLOCK_RATE_HZ}"}:
            continue
        fmtp = next((v.partition(" ")[2] for v in section.all("fmtp") if v.partition(" ")[0] == number), "")
        feedback = {tuple(value.lower().split()) for value in section.all("rtcp-fb")}
        nack = bool(feedback & {(number, "nack"), ("*", "nack")})
        yield _Codec(payload_type, fmtp.strip(), nack)


def _bundle_of(session: Section, mid: str | None) -> tuple[str, ...]:
    """RFC 9143: the BUNDLE group that has `mid`. Other groups (LS and so on) say nothing to us."""
    for value in session.all("group"):
        semantics, *mids = value.split()[: 1 + 64] or [""]
        if semantics.upper() == "BUNDLE" and mid in mids:
            return tuple(mids)
    return ()


def _parse_fingerprints(sources: list[Section], what: str) -> tuple[Fingerprint, ...]:
    """RFC 8122 section 5. The media level replaces the session level (RFC 8842 section 5). Weak hashes are skipped."""
    values = next((found for source in sources if (found := source.all("fingerprint"))), [])
    if not values:
        raise SdpError(f"The {what} has no a=fingerprint; without it the media cannot be encrypted.")
    fingerprints = []
    for value in values:
        algorithm, _, digest = value.partition(" ")
        algorithm, digest = algorithm.lower(), digest.strip().upper()
        size = _HASH_BYTES.get(algorithm)
        if size is None:
            continue
        if len(digest) != 3 * size - 1 or _HEX_PAIRS.fullmatch(digest) is None:
            raise SdpError(f"The {algorithm} fingerprint is not {size} pairs of hexadecimal digits joined by colons.")
        fingerprints.append(Fingerprint(algorithm, digest))
    if not fingerprints:
        raise SdpError("No a=fingerprint uses sha-256, sha-384 or sha-512, and only those are trusted here.")
    return tuple(dict.fromkeys(fingerprints))


def _parse_setup(sources: list[Section], what: str) -> Setup:
    value = _first(sources, "setup")
    if value is None:
        raise SdpError(f"The {what} has no a=setup; it must be actpass, active or passive (RFC 8842).")
    try:
        return Setup(value.lower())
    except ValueError:
        raise SdpError("The value of a=setup is not actpass, active or passive (RFC 8842).") from None


def _parse_direction(section: Section, session: Section) -> SdpDirection:
    for source in (section, session):
        for name, _ in source.attributes:
            if name in _DIRECTIONS:
                return SdpDirection(name)
    return SdpDirection.SENDRECV  # RFC 8866 section 6.7


def _parse_extensions(section: Section, session: Section) -> dict[str, int]:
    """RFC 8285 section 5: "a=extmap:id[/direction] URI [attributes]". Ids that fit no packet are skipped."""
    extensions: dict[str, int] = {}
    for value in section.all("extmap") + session.all("extmap"):
        parts = value.split()
        number = parse_number(parts[0].partition("/")[0], 1, 255) if len(parts) >= 2 else None
        if number is not None and number != 15:
            extensions.setdefault(parts[1], number)
    return extensions


def _parse_ssrc(section: Section) -> tuple[int | None, str | None]:
    """RFC 5576: the first SSRC and its cname. With retransmission or FEC the first is the media's."""
    ssrc: int | None = None
    for value in section.all("ssrc"):
        number, _, attribute = value.partition(" ")
        found = parse_number(number, 0, 0xFFFFFFFF)
        if found is None or (ssrc is not None and found != ssrc):
            continue
        ssrc = found
        name, _, text = attribute.strip().partition(":")
        if name.lower() == "cname" and text:
            return ssrc, text
    return ssrc, None
