"""When to ask for what, of one incoming stream: generic NACK (RFC 4585 section 6.2.1) from the receiver's side.

Sans-IO. Sequence numbers are extended ones (`lac_media.proto.reception`), `now` is monotonic seconds. Nothing here
knows of RTCP: `handle_timer` gives numbers, and the caller sends them.
"""

from __future__ import annotations

from dataclasses import dataclass

from lac_media.proto.pace import Pace
from lac_media.proto.seq import MAX_DROPOUT, MAX_MISORDER

#: How long a gap may be nothing but reordering, or be filled by redundancy (RFC 2198), before we ask.
REORDER_WAIT_S = 0.02
#: Packets that cannot be here this long after their time are not asked for any more: the program has gone on.
MAX_AGE_S = 1.0
#: How often one packet is asked for at the most.
MAX_TIMES = 8
#: What is overdue is asked for before a later packet shows that it is missing: for so many after the last that came. It
#: may be late or never have been sent (DTX), so it is then asked for no more until that is known.
MAX_AHEAD = 3
#: Of one stream, at the same time. Those before that are given up: they would come too late for `ReceptionStats`.
MAX_MISSING = MAX_MISORDER
#: Numbers of one NACK: after an outage the sender's queue must not be filled at once. The rest follow after `PACE_S`.
MAX_NUMBERS = 32
PACE_S = 0.01
#: The first question is repeated so soon, whatever the round trip: on a network that loses packets it gets lost as
#: easily, and to learn that takes a round trip that listeners' buffers may not have.
REPEAT_S = 0.01
#: Numbers per second that may be asked for, repetitions included: while answers come, and when none do. Asking more of
#: a network that is full makes it fuller. What was saved up allows for so many at once.
MAX_PER_S, MIN_PER_S = 40.0, 4.0
MAX_SAVED = 64.0
#: How much one packet that came, or was given up in vain, says about the next ones.
HOPE_STEP = 0.05
#: Until it is known.
DEFAULT_ROUND_TRIP_S = 0.1
#: We ask again after a round trip and this much more, for answers that are a little late.
SLACK_S = 0.02
MAX_INTERVAL_S = 0.5


@dataclass(slots=True)
class RepairCounters:
    """Packets, over all streams of a peer."""

    #: Came twice: by the network's doing (RTCP, too), or both as a redundant copy and by themselves.
    duplicates: int = 0
    #: Taken from a redundant copy.
    recovered: int = 0
    #: Asked for, each time counted; those of them that then came; those that we stopped hoping for.
    nacked: int = 0
    repaired: int = 0
    given_up: int = 0
    #: Answers that came when nobody waited for them any more.
    too_late: int = 0


@dataclass(slots=True)
class _Missing:
    #: When it would have come: between its neighbours.
    expected_at: float
    ask_at: float
    times: int = 0
    asked_at: float = 0.0


class NackGenerator:
    """The packets of one stream that are missing, or overdue by its `pace`. Bounded: `MAX_MISSING` of them, each asked
    for `MAX_TIMES` at most, the first time twice and then about once per round trip, only while the answer can come
    within `MAX_AGE_S`, and all together no oftener than answers give reason to.

    After any input re-read `timer_at()`.
    """

    __slots__ = (
        "_arrived_at",
        "_budget",
        "_budget_at",
        "_counters",
        "_highest",
        "_hope",
        "_measured_s",
        "_missing",
        "_pace",
        "asked_at",
        "reported_round_trip_s",
    )

    def __init__(self, counters: RepairCounters, pace: Pace) -> None:
        #: What reports say, if any do: a peer that only publishes cannot be measured that way (RFC 3550 section 6.4.1).
        self.reported_round_trip_s: float | None = None
        #: When we last asked for anything.
        self.asked_at = float("-inf")
        self._counters = counters
        self._pace = pace
        self._highest: int | None = None
        self._arrived_at = 0.0
        self._measured_s: float | None = None
        self._missing: dict[int, _Missing] = {}  # rising
        #: Of the packets asked for lately, the share that came.
        self._hope = 1.0
        self._budget, self._budget_at = MAX_SAVED, 0.0

    @property
    def round_trip_s(self) -> float:
        """From asking to getting, as measured here; else what reports say; else a guess."""
        if self._measured_s is not None:
            return self._measured_s
        return DEFAULT_ROUND_TRIP_S if self.reported_round_trip_s is None else self.reported_round_trip_s

    @property
    def missing(self) -> int:
        """How many packets we still hope for."""
        return len(self._missing)

    def receive(self, sequence: int, *, now: float) -> None:
        """A packet has come, for the first time or again. A leap that no network makes (RFC 3550 section A.1) is a
        restart of the source: everything before it is forgotten."""
        highest = self._highest
        lost = self._missing.pop(sequence, None)
        if lost is not None and lost.times:
            self._counters.repaired += 1
        if highest is not None and sequence <= highest:
            if lost is not None and lost.times:
                self._hope += HOPE_STEP * (1 - self._hope)
                self._measure(now - lost.asked_at)
            elif lost is not None:
                self._pace.was_late()
            return
        if highest is None or sequence - highest >= MAX_DROPOUT:
            self._missing.clear()
        elif sequence - highest > 1:
            self._note_gap(highest, sequence, now)
        self._highest, self._arrived_at = sequence, now

    def recover(self, sequence: int) -> None:
        """The content of a packet before the highest was found elsewhere: do not ask for it."""
        self._missing.pop(sequence, None)

    def timer_at(self) -> float:
        """When `handle_timer` is next due; infinity while nothing is missing, nor may soon be."""
        ask_at = min((lost.ask_at for lost in self._missing.values()), default=float("inf"))
        return min(ask_at, self._overdue_at())

    def handle_timer(self, *, now: float) -> list[int]:
        """The numbers to ask for now, rising, at most `MAX_NUMBERS`; a no-op if early. Where not all can be asked for,
        those go first that never were, and the newest: they are in time the longest."""
        while self._highest is not None and self._overdue_at() <= now:
            self._look_ahead(self._highest, now)
        due = self._due(now)
        if not due:
            return []
        due.sort(key=lambda number: (self._missing[number].times, -number))
        per_s = self._renew_budget(now)
        room = min(MAX_NUMBERS, int(self._budget))
        interval = min(self.round_trip_s + SLACK_S, MAX_INTERVAL_S)
        for number in due[:room]:
            lost = self._missing[number]
            if not lost.times:
                lost.asked_at = now
            lost.times += 1
            if self._is_ahead(number):
                lost.ask_at = float("inf")  # until another one is overdue, or has come
            else:
                lost.ask_at = now + (REPEAT_S if lost.times == 1 else interval)
        self._budget -= len(due[:room])
        if len(due) > room:
            wait_s = max(PACE_S, (1 - self._budget) / per_s)
            for number in due[room:]:
                self._missing[number].ask_at = now + wait_s
        if room:
            self.asked_at = now
            self._counters.nacked += len(due[:room])
        return sorted(due[:room])

    def _due(self, now: float) -> list[int]:
        """What is to be asked for; those that cannot be here in time are given up."""
        due: list[int] = []
        oldest = 0 if self._highest is None else self._highest - MAX_MISSING
        latest = now + self.round_trip_s - MAX_AGE_S
        for sequence, lost in list(self._missing.items()):
            if lost.ask_at > now:
                continue
            hopeless = lost.times >= MAX_TIMES or lost.expected_at < latest or sequence < oldest
            if hopeless and not self._is_ahead(sequence):
                del self._missing[sequence]
                self._counters.given_up += 1
                if lost.times:
                    self._hope -= HOPE_STEP * self._hope
            else:
                due.append(sequence)
        return due

    def _renew_budget(self, now: float) -> float:
        """Add what has been saved since the last time; how much a second brings."""
        per_s = MIN_PER_S + (MAX_PER_S - MIN_PER_S) * self._hope
        self._budget = min(MAX_SAVED, self._budget + per_s * max(0.0, now - self._budget_at))
        self._budget_at = now
        return per_s

    def _ahead(self, highest: int) -> int:
        """How many are overdue of those after the highest, which they follow without a gap."""
        return max(0, next(reversed(self._missing), highest) - highest)

    def _overdue_at(self) -> float:
        """When the next one is, after those that are already."""
        if self._highest is None or (ahead := self._ahead(self._highest)) >= MAX_AHEAD:
            return float("inf")
        return self._pace.overdue_at(ahead + 1)

    def _look_ahead(self, highest: int, now: float) -> None:
        """One more packet is overdue: ask for it, and once more for those before it."""
        ahead = self._ahead(highest) + 1
        for number in range(highest + 1, highest + ahead):
            if self._missing[number].times < MAX_AHEAD:
                self._missing[number].ask_at = now
        self._missing[highest + ahead] = _Missing(self._pace.due_at(ahead), now)
        self._drop_oldest()

    def _is_ahead(self, number: int) -> bool:
        return self._highest is not None and number > self._highest

    def _note_gap(self, highest: int, sequence: int, now: float) -> None:
        first = max(highest + 1, sequence - MAX_MISSING)
        self._counters.given_up += first - highest - 1
        for number in range(highest + 1, min(first, highest + 1 + self._ahead(highest))):
            del self._missing[number]
        step_s = (now - self._arrived_at) / (sequence - highest)
        for number in range(first, sequence):
            known = self._missing.get(number)
            if known is None:
                self._missing[number] = _Missing(self._arrived_at + (number - highest) * step_s, now + REORDER_WAIT_S)
            elif known.ask_at == float("inf"):
                known.ask_at = now if known.times == 1 else max(now, known.asked_at + self.round_trip_s + SLACK_S)
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        while len(self._missing) > MAX_MISSING:
            del self._missing[next(iter(self._missing))]
            self._counters.given_up += 1

    def _measure(self, sample_s: float) -> None:
        """Take a sample counted from the first time that we asked. If that first question was lost the sample is too
        long, never too short: so we follow shorter ones quickly and longer ones slowly."""
        if self._measured_s is None:
            self._measured_s = sample_s
        else:
            self._measured_s += (sample_s - self._measured_s) * (0.5 if sample_s < self._measured_s else 0.125)
