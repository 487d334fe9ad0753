"""The parts that SDP (RFC 8866) and trickle fragments (RFC 8840) have in common: lines, attributes, candidates."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from lac_media.errors import ParseError
from lac_media.parameters import IceCandidate, IceParameters

#: Characters. A Chromium offer of audio, video and data has 7000.
MAX_SDP_CHARACTERS = 64 * 1024
MAX_MEDIA_LINES = 64

_TOKEN = re.compile(r"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]{1,64}")
#: RFC 8839 section 5.4 has letters, digits, "+" and "/". We compare these only, so anything visible passes.
_ICE_TEXT = re.compile(r"[!-~]+")
#: RFC 8839 section 5.1: foundation, component, transport, priority, address, port, "typ", type, then pairs.
_CANDIDATE = re.compile(
    r"(?P<foundation>[!-~]{1,32}) (?P<component>[0-9]{1,3}) (?P<protocol>[A-Za-z]{1,8}) (?P<priority>[0-9]{1,10})"
    r" (?P<address>[0-9A-Za-z.:%_\-]{1,255}) (?P<port>[0-9]{1,5}) typ (?P<type>[a-z]{1,16})(?: .*)?"
)


class SdpError(ParseError):
    """An SDP that we cannot take. The message is a sentence for whoever runs the client that sent it."""


@dataclass(slots=True)
class Section:
    """The session part (`media` is empty) or one m-line with what follows it. Attributes keep their order."""

    media: str = ""
    attributes: list[tuple[str, str]] = field(default_factory=list)

    def get(self, name: str) -> str | None:
        """The first value of attribute `name`, "" for a flag, None when it is absent."""
        return next((value for key, value in self.attributes if key == name), None)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


def split_sections(text: str) -> list[Section]:
    """Cut a description into its session part and its m-lines. Takes any line ends. Raises SdpError."""
    if len(text) > MAX_SDP_CHARACTERS:
        raise SdpError(f"The SDP has {len(text)} characters; {MAX_SDP_CHARACTERS} is the most that is read.")
    sections = [Section()]
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        line = line.strip()
        if not line:
            continue
        if line[1:2] != "=":
            raise SdpError(f'Line {number} of the SDP is not of the form "letter=value".')
        kind, value = line[0], line[2:]
        if kind == "m":
            sections.append(Section(value))
            if len(sections) > MAX_MEDIA_LINES + 1:
                raise SdpError(f"The SDP has more than {MAX_MEDIA_LINES} media lines.")
        elif kind == "a":
            name, _, rest = value.partition(":")
            sections[-1].attributes.append((name.strip().lower(), rest.strip()))
    return sections


def parse_number(text: str, low: int, high: int) -> int | None:
    """A decimal of ASCII digits within [low, high], else None. `int()` alone takes "١", "1_0" and a megabyte of 9s."""
    if not text.isascii() or not text.isdigit() or len(text) > 20:
        return None
    value = int(text)
    return value if low <= value <= high else None


def is_token(text: str) -> bool:
    """RFC 8866 section 9: what a mid, a media kind and the like are made of; at most 64 characters here."""
    return _TOKEN.fullmatch(text) is not None


def parse_ice_parameters(ufrag: str, pwd: str) -> IceParameters:
    """Check the lengths of RFC 8839 section 5.4. Raises SdpError."""
    if not 4 <= len(ufrag) <= 256 or _ICE_TEXT.fullmatch(ufrag) is None:
        raise SdpError("The value of a=ice-ufrag must have 4 to 256 characters (RFC 8839).")
    if not 22 <= len(pwd) <= 256 or _ICE_TEXT.fullmatch(pwd) is None:
        raise SdpError("The value of a=ice-pwd must have 22 to 256 characters (RFC 8839).")
    return IceParameters(ufrag, pwd)


def parse_candidate(value: str) -> IceCandidate | None:
    """One candidate of component 1 (RTP, with RTCP on it), or None for any other and for a malformed one.

    Its `ip` may be a name that ends in ".local" (mDNS). A candidate that cannot be read is no reason to refuse a
    session: there may be others, and towards an ICE-lite server none is needed.
    """
    match = _CANDIDATE.fullmatch(" ".join(value.split(" ")))
    if match is None or int(match["component"]) != 1:
        return None
    priority, port = int(match["priority"]), int(match["port"])
    if not 0 < priority < 1 << 32 or port > 0xFFFF:
        return None
    return IceCandidate(match["foundation"], priority, match["address"], port, match["protocol"].lower(), match["type"])


def parse_candidates(section: Section) -> tuple[IceCandidate, ...]:
    return tuple(c for c in map(parse_candidate, section.all("candidate")) if c is not None)


def format_candidate(candidate: IceCandidate) -> str:
    """The line of a candidate of ours. TCP ones are passive: we listen (RFC 6544 section 4.5)."""
    line = (
        f"a=candidate:{candidate.foundation} 1 {candidate.protocol} {candidate.priority}"
        f" {candidate.ip} {candidate.port} typ {candidate.type}"
    )
    return line + " tcptype passive" if candidate.protocol == "tcp" else line


def ice_lines(ice: IceParameters, candidates: tuple[IceCandidate, ...], *, complete: bool) -> list[str]:
    """Credentials and candidates. `complete` says that no more candidates will follow."""
    lines = [f"a=ice-ufrag:{ice.username_fragment}", f"a=ice-pwd:{ice.password}", *map(format_candidate, candidates)]
    if complete:
        lines.append("a=end-of-candidates")
    return lines


def join_lines(lines: list[str]) -> str:
    return "\r\n".join(lines) + "\r\n"
