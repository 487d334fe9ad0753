"""SRTP and SRTCP keys and sessions over pylibsrtp (RFC 3711, RFC 5764 section 4.2, RFC 7714)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pylibsrtp import Error, Policy, Session

#: The largest plaintext packet, RTP or RTCP: pylibsrtp has 1,500 bytes for it and a trailer of at most 148.
MAX_PACKET = 1352
#: libsrtp's replay window for what comes in, in packets. Retransmissions may arrive more than a second late.
REPLAY_WINDOW = 1024
#: The same for what goes out: how far back a packet may be sent again, a second even of packets of 2.5 ms. libsrtp
#: shifts the whole window with every packet, for every listener.
SEND_WINDOW = 512
#: SSRCs of one peer. libsrtp keeps a state for each that it has authenticated, for good; a peer has one stream, and
#: another now and then when it negotiates anew.
MAX_INBOUND_SSRCS = 64


@dataclass(frozen=True, slots=True)
class SrtpProfile:
    """`key_length` and `salt_length` in bytes; `number` is libsrtp's name for it."""

    name: str
    number: int
    key_length: int
    salt_length: int

    @property
    def keying_material_length(self) -> int:
        return 2 * (self.key_length + self.salt_length)


#: By OpenSSL's names, in the order of preference; the server's order decides. GCM-128 costs half of CM-SHA1-80 in the
#: fan-out; CM-SHA1-80 is all that FFmpeg and GStreamer offer.
PROFILES: dict[bytes, SrtpProfile] = {
    b"SRTP_AEAD_AES_128_GCM": SrtpProfile("AEAD_AES_128_GCM", Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 16, 12),
    b"SRTP_AES128_CM_SHA1_80": SrtpProfile("AES128_CM_SHA1_80", Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 16, 14),
    b"SRTP_AEAD_AES_256_GCM": SrtpProfile("AEAD_AES_256_GCM", Policy.SRTP_PROFILE_AEAD_AES_256_GCM, 32, 12),
}


@dataclass(frozen=True, slots=True)
class SrtpKeys:
    """Master key and salt for each way, as they come out of the DTLS handshake."""

    profile: SrtpProfile
    send: bytes
    receive: bytes

    def __repr__(self) -> str:
        return f"SrtpKeys({self.profile.name})"  # never the keys: this may reach a log

    @classmethod
    def from_keying_material(cls, profile: SrtpProfile, material: bytes, *, is_server: bool) -> SrtpKeys:
        """Split as RFC 5764 section 4.2 lays it out: client key, server key, client salt, server salt."""
        k, s = profile.key_length, profile.salt_length
        client = material[:k] + material[2 * k : 2 * k + s]
        server = material[k : 2 * k] + material[2 * k + s : 2 * (k + s)]
        return cls(profile, send=server if is_server else client, receive=client if is_server else server)


class SrtpSession:
    """Both ways of one peer. `protect*` takes sane packets of up to `MAX_PACKET` bytes, and raises nothing for them;
    `unprotect*` returns None for replays, forgeries, junk, and for more than `MAX_INBOUND_SSRCS` streams."""

    __slots__ = ("_inbound_ssrcs", "_receive", "profile", "replays", "transmit")

    def __init__(self, keys: SrtpKeys) -> None:
        number = keys.profile.number
        outbound = Policy(key=keys.send, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=number)
        outbound.window_size = SEND_WINDOW
        # A retransmission is the identical packet under the identical index, which reveals nothing new.
        outbound.allow_repeat_tx = True
        inbound = Policy(key=keys.receive, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=number)
        inbound.window_size = REPLAY_WINDOW
        self.profile = keys.profile
        #: pylibsrtp's outbound session; the fan-out drives libsrtp through it without copying.
        self.transmit = Session(outbound)
        self._receive = Session(inbound)
        self._inbound_ssrcs: set[bytes] = set()
        #: Packets refused because they have come before, or are older than the replay window: networks duplicate.
        self.replays = 0

    def protect(self, packet: bytes) -> bytes:
        return bytes(self.transmit.protect(packet))

    def protect_rtcp(self, packet: bytes) -> bytes:
        return bytes(self.transmit.protect_rtcp(packet))

    def unprotect(self, packet: bytes) -> bytes | None:
        return self._unprotect(self._receive.unprotect, packet, packet[8:12])

    def unprotect_rtcp(self, packet: bytes) -> bytes | None:
        return self._unprotect(self._receive.unprotect_rtcp, packet, packet[4:8])

    def _unprotect(self, step: Callable[[bytes], bytes], packet: bytes, ssrc: bytes) -> bytes | None:
        known = ssrc in self._inbound_ssrcs
        if not known and len(self._inbound_ssrcs) >= MAX_INBOUND_SSRCS:
            return None
        try:
            plain = bytes(step(packet))
        except (Error, ValueError) as error:  # ValueError: longer than any packet libsrtp takes
            self.replays += str(error).startswith("replay check failed")
            return None
        if not known:
            self._inbound_ssrcs.add(ssrc)  # now that it is authentic
        return plain
