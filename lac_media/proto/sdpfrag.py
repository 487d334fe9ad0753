"""Trickle-ICE fragments, `application/trickle-ice-sdpfrag` (RFC 8840 section 9), as WHIP's PATCH uses them
(RFC 9725 sections 4.3.2 and 4.3.3)."""

from __future__ import annotations

from dataclasses import dataclass

from lac_media.parameters import IceCandidate, IceParameters
from lac_media.proto.sdp_lines import (
    SdpError,
    ice_lines,
    is_token,
    join_lines,
    parse_candidates,
    parse_ice_parameters,
    split_sections,
)


@dataclass(frozen=True, slots=True)
class SdpFragment:
    """`ice` is None when only candidates come; credentials other than the known ones ask for an ICE restart."""

    ice: IceParameters | None = None
    candidates: tuple[IceCandidate, ...] = ()
    end_of_candidates: bool = False
    mid: str | None = None


def parse_sdpfrag_untrusted(text: str) -> SdpFragment:
    """Parse a fragment; attributes may stand before or within its m-lines. Raises SdpError, nothing else."""
    sections = split_sections(text)
    ufrag = next((v for s in sections if (v := s.get("ice-ufrag")) is not None), None)
    pwd = next((v for s in sections if (v := s.get("ice-pwd")) is not None), None)
    if (ufrag is None) != (pwd is None):
        raise SdpError("The fragment has one of a=ice-ufrag and a=ice-pwd; it needs both or neither.")
    ice = None if ufrag is None or pwd is None else parse_ice_parameters(ufrag, pwd)
    mid = next((v for s in sections if (v := s.get("mid")) is not None), None)
    if mid is not None and not is_token(mid):
        raise SdpError("The a=mid of the fragment is not a token (RFC 8866).")
    candidates = tuple(c for s in sections for c in parse_candidates(s))
    ended = any(s.get("end-of-candidates") is not None for s in sections)
    if ice is None and not ended and not any(s.all("candidate") for s in sections):
        raise SdpError("The fragment has neither ICE credentials nor candidates.")
    return SdpFragment(ice, candidates, ended, mid)


def build_sdpfrag(fragment: SdpFragment, *, ice_lite: bool = True) -> str:
    """A fragment of ours, for instance the answer to an ICE restart. `ice_lite` when the server's side speaks."""
    lines = ["a=ice-lite", "a=ice-options:ice2"] if ice_lite else []
    if fragment.mid is not None:
        # RFC 8840 section 9.2: a pseudo m-line, only there to carry the mid.
        lines += [f"a=group:BUNDLE {fragment.mid}", "m=audio 9 UDP/TLS/RTP/SAVPF 0", f"a=mid:{fragment.mid}"]
    if fragment.ice is not None:
        lines += ice_lines(fragment.ice, fragment.candidates, complete=fragment.end_of_candidates)
    else:
        lines += ice_lines(IceParameters("", ""), fragment.candidates, complete=fragment.end_of_candidates)[2:]
    return join_lines(lines)
