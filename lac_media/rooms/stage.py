"""What people on stage are sent of each other: single speakers, one line for each, passed on as their packets come."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

import trio

from lac_media.parameters import ConsumerParameters
from lac_media.proto.rtp import RtpPacket
from lac_media.rooms.fanout import encode_for
from lac_media.rooms.forward import Forward
from lac_media.rooms.levels import Levels
from lac_media.rooms.speaker import Speaker

if TYPE_CHECKING:
    from lac_media.rooms.session import ConsumerInfo, Session


class StageForwarding:
    """Selective forwarding in one room: of more than a few speakers only the loudest (`levels`) are passed on.

    `sessions` are the room's, as they come and go. `new_ssrc` gives one that neither the room has nor any of those
    that it is told of. Synchronous throughout: nothing here awaits or blocks.
    """

    def __init__(
        self, sessions: Mapping[str, Session], levels: Levels, new_ssrc: Callable[[Collection[int]], int]
    ) -> None:
        self._sessions = sessions
        self._levels = levels
        self._new_ssrc = new_ssrc
        #: Of each speaker that somebody else on stage is sent.
        self._forwards: dict[Speaker, Forward] = {}
        #: Who is sent what of them, by speaker; None after a change, to be worked out again.
        self._routes: dict[Speaker, list[tuple[Session, ConsumerInfo]]] | None = None

    @property
    def ssrcs(self) -> set[int]:
        """Those that are in use here."""
        return {forward.ssrc for forward in self._forwards.values()}

    def ssrc_of(self, speaker: Speaker, *, used: Collection[int]) -> int:
        """The SSRC of this speaker's line for a transport that must not be sent anything new under the `used` ones."""
        forward = self._forwards.get(speaker)
        if forward is None:
            forward = self._forwards[speaker] = Forward(
                ssrc=self._new_ssrc(()),
                first_sequence=secrets.randbelow(2**15),
                first_timestamp=secrets.randbelow(2**32),
                now=trio.current_time(),
            )
        return self._new_ssrc(used) if forward.ssrc in used else forward.ssrc

    def changed(self) -> None:
        """Somebody is sent another speaker, or one fewer."""
        self._routes = None

    def pass_on(self, speaker: Speaker, packet: RtpPacket, level: int | None, *, now: float) -> None:
        """Send one packet of this speaker to those who are sent them, if the speaker is among the loudest."""
        forward = self._forwards.get(speaker)
        if forward is None:
            return
        if not self._levels.is_among_loudest(speaker, now=now):
            forward.pause()
            return
        passed = forward.receive(packet, level, now=now)
        if passed is None:
            return
        written: dict[tuple[ConsumerParameters, int], bytes] = {}
        for listener, info in self._routes_of(speaker):
            form = (info.parameters, info.ssrc)
            plain = written.get(form)
            if plain is None:
                plain = written[form] = encode_for(info.parameters, passed, info.ssrc)
            listener.send_rtp(plain)

    def pause(self, speaker: Speaker) -> None:
        """Nothing comes of this speaker for a while; what comes next begins a new stretch."""
        if speaker in self._forwards:
            self._forwards[speaker].pause()

    def forget(self, speaker: Speaker) -> None:
        """The speaker is gone: nobody is sent them any more."""
        if self._forwards.pop(speaker, None) is not None:
            for other in self._sessions.values():
                other.close_speakers(speaker.producer_id)
        self._routes = None

    def retransmit(self, session: Session, info: ConsumerInfo, lost: tuple[int, ...]) -> None:
        """Answer a NACK (RFC 4585 section 6.2.1) about what this session is sent of one speaker."""
        forward = next(
            (forward for speaker, forward in self._forwards.items() if speaker.producer_id == info.producer_id), None
        )
        if forward is None:
            return
        now = trio.current_time()
        for sequence in dict.fromkeys(lost):
            packet = forward.retransmission(sequence, now=now)
            if packet is not None and packet.sent_at >= info.since and session.has_repair_left(now=now):
                session.send_repair(encode_for(info.parameters, packet, info.ssrc))

    def report(self, encode: Callable[[int, int, int, int], bytes], *, now: float) -> None:
        """Send everyone a report of each line: `encode` is given its SSRC, the RTP timestamp of `now`, and how many
        packets and octets of payload went out."""
        for speaker, forward in self._forwards.items():
            timestamp = forward.rtp_timestamp(now=now)
            for listener, info in self._routes_of(speaker):
                listener.send_rtcp(encode(info.ssrc, timestamp, forward.packets, forward.octets))

    def _routes_of(self, speaker: Speaker) -> list[tuple[Session, ConsumerInfo]]:
        if self._routes is None:
            producers = {speaker.producer_id: speaker for speaker in self._forwards}
            self._routes = {}
            for listener in self._sessions.values():
                for info in listener.speakers:
                    if info.producer_id in producers:
                        self._routes.setdefault(producers[info.producer_id], []).append((listener, info))
        return self._routes.get(speaker, [])
