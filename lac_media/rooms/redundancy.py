"""Whether a listener gets redundancy (`opus+red`, or `opus+again` if it cannot take that) or not, decided from its own
receiver reports. Sans-IO.

It costs two to three times the bytes and repairs losses of one or two packets at once. So it is for those who lose
packets, and not for those whose losses it makes worse.
"""

from __future__ import annotations

import math

from lac_media.parameters import Variant
from lac_media.proto.rtcp import ReportBlock

#: Ratio of lost packets from which on a listener gets redundancy, and below which it does without again.
ENTER_LOSS, LEAVE_LOSS = 0.02, 0.006
#: The same for listeners whose questions (NACK) are answered before anybody hears the gap.
ENTER_LOSS_IF_REPAIRED, LEAVE_LOSS_IF_REPAIRED = 0.05, 0.015
#: Up to this round trip they are: jitter buffers have room for as much.
QUICK_ROUND_TRIP_S = 0.1
#: How many packets the smoothed loss looks back, roughly, for who needs redundancy (ten seconds) and for who does no
#: longer (twenty).
MEMORY_PACKETS, LONG_MEMORY_PACKETS = 500, 1000
#: Nobody is moved back sooner: from RED, and from repetition, which hides so well what is lost that it takes longer to
#: see. Who had to be given redundancy again within `RETURN_S` stays twice as long each time.
STAY_S, STAY_REPEATED_S, MAX_STAY_S = 15.0, 60.0, 240.0
RETURN_S = 60.0
#: If of the first so many packets with redundancy so much more is lost than before, the network has no room for it. The
#: difference is large because losses that have just begun are not yet seen in full when they bring redundancy.
TRIAL_PACKETS, WORSE_LOSS = 500, 0.15
#: How long a network that had no room is left alone.
BACK_OFF_S = 60.0


class RedundancyChooser:
    """One listener. `asks_again`: it sends NACKs for what it misses. `redundant` is the variant that it gets."""

    __slots__ = (
        "_asks_again",
        "_highest",
        "_left_at",
        "_loss",
        "_loss_before",
        "_loss_long",
        "_may_enter_at",
        "_may_leave_at",
        "_redundant",
        "_repaired",
        "_stay_s",
        "_trial_lost",
        "_trial_packets",
        "variant",
    )

    def __init__(self, *, asks_again: bool, redundant: Variant = Variant.OPUS_RED) -> None:
        self.variant = Variant.OPUS
        self._redundant = redundant
        self._asks_again = asks_again
        #: Of the last report; None before the first.
        self._highest: int | None = None
        self._repaired = 0
        self._loss = self._loss_long = 0.0
        self._may_enter_at = self._may_leave_at = self._left_at = float("-inf")
        self._stay_s = 0.0
        # While redundancy is new: the loss before it, and packets since then.
        self._loss_before = 0.0
        self._trial_packets = 0
        self._trial_lost = 0.0

    def report(
        self, block: ReportBlock, *, round_trip_s: float | None, repaired: int, now: float, allowed: bool = True
    ) -> Variant:
        """Take a report about the program; the variant that this listener is to have from now on.

        `repaired` counts all that was ever sent to it again: it has come in the end and does not show as lost, so it is
        counted in here. `now` is monotonic seconds. Not `allowed`: the server cannot afford redundancy just now.
        """
        expected, sent_again = self._since_last(block, repaired)
        if expected <= 0:
            return self.variant
        visible = block.fraction_lost / 256
        asked_for = min(1.0, sent_again / expected)
        lost = trial_lost = min(1.0, visible + asked_for) * expected
        if self.variant is Variant.OPUS_AGAIN:
            # Only what has been lost each time shows: where one in ten is lost, one in a thousand is. Where losses come
            # together it is more, and the network is not therefore without room. But what is asked for was lost once:
            # questions are asked before the repetition is there.
            trial_lost = max(math.sqrt(visible), asked_for) * expected
            lost = max(math.cbrt(visible), asked_for) * expected
        self._loss += min(1.0, expected / MEMORY_PACKETS) * (lost / expected - self._loss)
        self._loss_long += min(1.0, expected / LONG_MEMORY_PACKETS) * (lost / expected - self._loss_long)
        quick = self._asks_again and round_trip_s is not None and round_trip_s <= QUICK_ROUND_TRIP_S
        if self.variant is Variant.OPUS:
            if (
                allowed
                and now >= self._may_enter_at
                and self._loss >= (ENTER_LOSS_IF_REPAIRED if quick else ENTER_LOSS)
            ):
                self._enter(max(self._loss, lost / expected), now)
        else:
            if self._has_made_it_worse(expected, trial_lost) or not allowed:
                self._leave(now, may_enter_at=now + BACK_OFF_S)
            elif now >= self._may_leave_at and self._loss_long < (LEAVE_LOSS_IF_REPAIRED if quick else LEAVE_LOSS):
                self._leave(now, may_enter_at=now)
        return self.variant

    def _since_last(self, block: ReportBlock, repaired: int) -> tuple[int, int]:
        """Packets that the report is about, and those sent again meanwhile. The first report only says where to begin;
        so does one that goes back."""
        before, self._highest = self._highest, block.highest_sequence
        sent_again, self._repaired = repaired - self._repaired, repaired
        if before is None:
            return 0, 0
        # 16 bits of cycles and 16 of the sequence number: 32 that wrap.
        expected = ((block.highest_sequence - before + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000
        return expected, sent_again

    def _enter(self, loss: float, now: float) -> None:
        self.variant = self._redundant
        self._loss_before = self._loss_long = loss
        self._trial_packets, self._trial_lost = 0, 0.0
        at_first_s = STAY_REPEATED_S if self._redundant is Variant.OPUS_AGAIN else STAY_S
        self._stay_s = min(2 * self._stay_s, MAX_STAY_S) if now - self._left_at < RETURN_S else at_first_s
        self._may_leave_at = now + self._stay_s

    def _leave(self, now: float, *, may_enter_at: float) -> None:
        self.variant = Variant.OPUS
        self._left_at = now
        self._may_enter_at = may_enter_at

    def _has_made_it_worse(self, expected: int, lost: float) -> bool:
        """What happens later has other causes."""
        if self._trial_packets >= TRIAL_PACKETS:
            return False
        self._trial_packets += expected
        self._trial_lost += lost
        return (
            self._trial_packets >= TRIAL_PACKETS
            and self._trial_lost / self._trial_packets >= self._loss_before + WORSE_LOSS
        )
