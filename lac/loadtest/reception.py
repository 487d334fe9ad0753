"""What one listener of a load test knows of the program: what came, what did not, and what it asks for again.

Sans-IO, and as little work for each packet as can be: only what RTP leaves in the clear is looked at (RFC 3711 section
3.1). `now` is monotonic seconds; times that sender reports are compared with are Unix time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from lac_media.errors import ParseError
from lac_media.proto.opus import duration_ticks_untrusted
from lac_media.proto.red import parse_red_untrusted
from lac_media.proto.rtcp import ReportBlock, SenderReport, clamp_cumulative_lost, ntp_short
from lac_media.proto.seq import delta32

#: How far back it is known what has come: more than two seconds at 50 packets a second.
WINDOW = 128
_ALL = (1 << WINDOW) - 1
#: As a browser asks (RFC 4585): not at once, which may be nothing but another order; then after about a round trip.
REORDER_WAIT_S = 0.02
REPEAT_S = 0.1
MAX_TIMES = 10
#: What is missing for so long is not asked for any more; the server has not kept it, either.
MAX_AGE_S = 1.0
#: Of one listener: of a longer outage the end.
MAX_MISSING = 50
_CLOCK_RATE_HZ = 48_000
#: A longer step of the transit time is a new timeline, not jitter.
_MAX_JITTER_STEP_S = 5


class Tally(NamedTuple):
    """Packets. `received` came, each counted once, `repaired` of them after they had been asked for; `recovered` did
    not, but as redundant copies in others. `asked` counts every time."""

    expected: int = 0
    received: int = 0
    recovered: int = 0
    asked: int = 0
    repaired: int = 0


@dataclass(slots=True)
class _Missing:
    since: float
    ask_at: float
    times: int = 0


class Reception:
    """One stream, from its packet `sequence` (16 bits) on. What `asks` is what is missing, by `questions`."""

    __slots__ = (
        "_asked",
        "_asks",
        "_before",
        "_expected_prior",
        "_first",
        "_jitter_ticks",
        "_lsr",
        "_marked",
        "_missing",
        "_received_prior",
        "_recovered",
        "_repaired",
        "_sr_at",
        "_transit",
        "_window",
        "highest",
        "received",
        "recovered",
        "ssrc",
    )

    def __init__(self, ssrc: int, sequence: int, *, asks: bool = False) -> None:
        self.ssrc = ssrc
        #: Extended: it never wraps.
        self.highest = sequence
        self.received = 1
        self.recovered = 0
        self._asks = asks
        self._asked = self._repaired = 0
        self._first = sequence
        #: Bit n: the packet n below the highest has come. Those before the first one are nobody's business.
        self._window = _ALL
        self._missing: dict[int, _Missing] = {}
        #: Those that were found in others and may still come.
        self._recovered: set[int] = set()
        self._expected_prior = self._received_prior = 0
        self._jitter_ticks = 0.0
        self._transit: int | None = None
        self._lsr = 0
        self._sr_at = 0.0
        #: What is not to be counted in `since_mark`, and the highest number then.
        self._marked = Tally()
        self._before = sequence - 1

    @property
    def is_missing_any(self) -> bool:
        """Whether there may be something to ask for."""
        return bool(self._missing)

    def receive(self, sequence: int, *, now: float) -> int | None:
        """Count the packet with this number (16 bits); its extended number, or None if it came before, or is too old
        for that to be known."""
        step = (sequence - self.highest) & 0xFFFF
        if step != 1:
            return self._receive_out_of_order(step, now)
        self.highest += 1
        self._window = self._window << 1 & _ALL | 1
        self.received += 1
        return self.highest

    def _receive_out_of_order(self, step: int, now: float) -> int | None:
        if 0 < step < 0x8000:
            before = self.highest
            self.highest += step
            self._window = (self._window << step if step < WINDOW else 0) & _ALL | 1
            self.received += 1
            if self._asks:
                for number in range(max(before + 1, self.highest - MAX_MISSING), self.highest):
                    self._missing[number] = _Missing(now, now + REORDER_WAIT_S)
            return self.highest
        behind = -step & 0xFFFF
        bit = 1 << behind if behind < WINDOW else 0
        if not bit or self._window & bit:
            return None
        self._window |= bit
        self.received += 1
        missing = self._missing.pop(self.highest - behind, None)
        self._repaired += missing is not None and missing.times > 0
        if self.highest - behind in self._recovered:
            self._recovered.discard(self.highest - behind)
            self.recovered -= 1  # it has come by itself after all
        return self.highest - behind

    def recover(self, number: int) -> None:
        """The packet with this extended number was found in another: if it is missing it need not be asked for."""
        if self._missing.pop(number, None) is None:
            return
        self.recovered += 1
        self._recovered.add(number)
        if len(self._recovered) > WINDOW:
            self._recovered = {kept for kept in self._recovered if kept > self.highest - WINDOW}

    def questions(self, *, now: float) -> list[int]:
        """The numbers (16 bits) to ask for now, rising."""
        due = []
        for number, missing in sorted(self._missing.items()):
            if missing.times >= MAX_TIMES or now - missing.since > MAX_AGE_S:
                del self._missing[number]
            elif now >= missing.ask_at:
                missing.times += 1
                missing.ask_at = now + REPEAT_S
                due.append(number & 0xFFFF)
        self._asked += len(due)
        return due

    def mark(self) -> None:
        """`since_mark` counts from here on."""
        self._before = self.highest
        self._marked = Tally(0, self.received, self.recovered, self._asked, self._repaired)

    def since_mark(self) -> Tally:
        _, received, recovered, asked, repaired = self._marked
        return Tally(
            self.highest - self._before,
            self.received - received,
            self.recovered - recovered,
            self._asked - asked,
            self._repaired - repaired,
        )

    # What the server is told

    def measure_jitter(self, timestamp: int, *, arrived_at: float) -> None:
        """RFC 3550 section A.8, of a packet whose arrival is known."""
        transit = int(arrived_at * _CLOCK_RATE_HZ) - timestamp
        if self._transit is not None:
            step = abs(delta32(transit & 0xFFFF_FFFF, self._transit))
            if step <= _MAX_JITTER_STEP_S * _CLOCK_RATE_HZ:
                self._jitter_ticks += (step - self._jitter_ticks) / 16
        self._transit = transit & 0xFFFF_FFFF

    def receive_sender_report(self, report: SenderReport, *, arrived_at: float) -> None:
        """Remember when it came (Unix time), for the round trip that the server reckons from our next report."""
        if report.ssrc == self.ssrc:
            self._lsr, self._sr_at = ntp_short(report.ntp_timestamp), arrived_at

    def report_block(self, *, unix_s: float) -> ReportBlock:
        """RFC 3550 section 6.4.1. Begins a new interval of the fraction lost. Without jitter where that is not
        measured."""
        expected = self.highest - self._first + 1
        in_interval = expected - self._expected_prior
        lost = in_interval - (self.received - self._received_prior)
        self._expected_prior, self._received_prior = expected, self.received
        return ReportBlock(
            ssrc=self.ssrc,
            fraction_lost=min(255, (lost << 8) // in_interval) if in_interval and lost > 0 else 0,
            cumulative_lost=clamp_cumulative_lost(expected - self.received),
            highest_sequence=self.highest & 0xFFFF_FFFF,
            jitter=int(self._jitter_ticks),
            lsr=self._lsr,
            dlsr=min(max(0, int((unix_s - self._sr_at) * 65536)), 0xFFFF_FFFF) if self._lsr else 0,
        )


class Copies:
    """What redundant copies (RFC 2198) make up for, of one stream. Packets have to be decrypted for it, but only those
    that come while others are missing; and nothing is kept of those that are not, as thousands of listeners share the
    caches of one core."""

    __slots__ = ("_looked_at", "_payload_type", "_reception", "red_payload_type")

    #: libsrtp follows the numbers by what it has decrypted (RFC 3711 section 3.3.1): so often at least.
    LOOK_EVERY = 4096

    def __init__(self, reception: Reception, *, payload_type: int, red_payload_type: int) -> None:
        self.red_payload_type = red_payload_type
        self._payload_type = payload_type
        self._reception = reception
        self._looked_at = reception.highest

    def wants(self, number: int) -> bool:
        """Whether to decrypt the packet with this extended number for `look`, if it is a redundant one."""
        return self._reception.is_missing_any or number - self._looked_at >= self.LOOK_EVERY

    def look(self, number: int, plain: bytes) -> None:
        """Take what the decrypted packet has of others; nothing from one that is not understood.

        A copy has a timestamp and no number. As long as each ends where the one after it begins, they are the packets
        right before this one; beyond a pause there is no telling."""
        self._looked_at = max(self._looked_at, number)
        try:
            *redundant, _ = parse_red_untrusted(rtp_payload_untrusted(plain))
            end = 0
            for block in reversed(redundant):
                number -= 1
                duration = duration_ticks_untrusted(block.payload)
                if block.payload_type != self._payload_type or block.timestamp_offset - duration != end:
                    return
                end = block.timestamp_offset
                self._reception.recover(number)
        except ParseError:
            return


def rtp_payload_untrusted(packet: bytes) -> bytes:
    """What is behind the header (RFC 3550 section 5.1), for who needs nothing else. Raises ParseError."""
    at = 12
    if len(packet) > at:
        at += 4 * (packet[0] & 0x0F)
        if packet[0] & 0x10 and len(packet) >= at + 4:
            at += 4 + 4 * int.from_bytes(packet[at + 2 : at + 4], "big")
    if at >= len(packet):
        raise ParseError("RTP packet without a payload")
    return packet[at:]
