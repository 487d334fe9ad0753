"""What a receiver knows of one incoming RTP stream: RFC 3550 sections A.1 (sequence), A.3 (loss), A.8 (jitter).

One deviation: streams are announced by signalling, so there is no probation; the first packet counts. Another:
jitter is measured on packets in order only, so that retransmissions do not look like a bad network.
"""

from __future__ import annotations

from lac_media.proto.rtcp import ReportBlock, SenderReport, clamp_cumulative_lost, ntp_short
from lac_media.proto.seq import MAX_DROPOUT, MAX_MISORDER, delta32

#: A timestamp step further than this from the clock's is a new timeline, not jitter.
_MAX_JITTER_STEP_S = 5


class ReceptionStats:
    """Counts one stream. `now` is monotonic seconds, never going back; sequences are extended here, once."""

    __slots__ = (
        "_bad_sequence",
        "_base",
        "_clock_rate_hz",
        "_counted_before",
        "_expected_prior",
        "_highest",
        "_jitter_ticks",
        "_lsr",
        "_received",
        "_received_prior",
        "_sr_at",
        "_transit",
        "late",
        "restarts",
        "ssrc",
    )

    def __init__(self, ssrc: int, clock_rate_hz: int = 48_000) -> None:
        self.ssrc = ssrc
        #: Packets that came after a higher one, and restarts of the source's numbering.
        self.late = 0
        self.restarts = 0
        self._clock_rate_hz = clock_rate_hz
        self._highest: int | None = None
        self._base = 0
        self._received = 0
        self._counted_before = 0
        self._bad_sequence: int | None = None
        self._expected_prior = 0
        self._received_prior = 0
        self._jitter_ticks = 0.0
        self._transit: int | None = None
        self._lsr = 0
        self._sr_at = 0.0

    @property
    def packets_received(self) -> int:
        """All packets that counted, restarts included."""
        return self._counted_before + self._received

    @property
    def highest_sequence(self) -> int | None:
        """Extended; None before the first packet. It also rises over a restart of the source."""
        return self._highest

    @property
    def packets_expected(self) -> int:
        """Since the last restart."""
        return 0 if self._highest is None else self._highest - self._base + 1

    @property
    def cumulative_lost(self) -> int:
        """Expected minus received since the last restart; negative when duplicates came. 24 signed bits."""
        return clamp_cumulative_lost(self.packets_expected - self._received)

    @property
    def jitter_s(self) -> float:
        return self._jitter_ticks / self._clock_rate_hz

    def receive(self, sequence: int, timestamp: int, *, now: float) -> int | None:
        """Count one packet and return its extended sequence number.

        None for a number far from the others: the caller drops that packet. If the next one follows it, the source
        has restarted (RFC 3550 section A.1): counting begins anew, on numbers above all earlier ones.
        """
        highest = self._highest
        if highest is None:
            self._restart(sequence)
            extended = sequence
        else:
            ahead = (sequence - highest) & 0xFFFF
            if 0 < ahead < MAX_DROPOUT:
                extended = self._highest = highest + ahead
            elif ahead == 0 or ahead > 0x10000 - MAX_MISORDER:
                self._received += 1
                self._bad_sequence = None
                if ahead == 0:
                    return highest
                self.late += 1
                return highest + ahead - 0x10000
            elif sequence != self._bad_sequence:
                self._bad_sequence = (sequence + 1) & 0xFFFF
                return None
            else:
                self.restarts += 1
                extended = ((highest >> 16) + 1 << 16) + sequence
                self._restart(extended)
        self._received += 1
        self._bad_sequence = None
        self._measure_jitter(timestamp, now)
        return extended

    def _restart(self, extended: int) -> None:
        self._counted_before += self._received
        self._base = self._highest = extended
        self._received = self._received_prior = self._expected_prior = 0
        self._transit = None

    def _measure_jitter(self, timestamp: int, now: float) -> None:
        transit = int(now * self._clock_rate_hz) - timestamp
        if self._transit is not None:
            step = abs(delta32(transit, self._transit))
            if step <= _MAX_JITTER_STEP_S * self._clock_rate_hz:
                self._jitter_ticks += (step - self._jitter_ticks) / 16
        self._transit = transit

    def receive_sender_report(self, report: SenderReport, *, now: float) -> None:
        """Remember when the sender's report came, so that it can compute the round trip from our next one."""
        self._lsr = ntp_short(report.ntp_timestamp)
        self._sr_at = now

    def report_block(self, *, now: float) -> ReportBlock | None:
        """The block for the next RR or SR; None before the first packet. Begins a new interval of `fraction_lost`."""
        if self._highest is None:
            return None
        expected = self.packets_expected
        expected_interval = expected - self._expected_prior
        lost_interval = expected_interval - (self._received - self._received_prior)
        self._expected_prior = expected
        self._received_prior = self._received
        fraction = min(255, (lost_interval << 8) // expected_interval) if expected_interval and lost_interval > 0 else 0
        return ReportBlock(
            ssrc=self.ssrc,
            fraction_lost=fraction,
            cumulative_lost=self.cumulative_lost,
            highest_sequence=self._highest & 0xFFFFFFFF,
            jitter=min(int(self._jitter_ticks), 0xFFFFFFFF),
            lsr=self._lsr,
            dlsr=min(int((now - self._sr_at) * 65536), 0xFFFFFFFF) if self._lsr else 0,
        )
