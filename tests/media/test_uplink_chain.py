"""From a publisher's core over a bad network to what listeners and the others on stage are sent: whatever networks and
encoders do, both lines stay lines."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from lac_media.proto.opus import SILENCE_20MS_MONO
from lac_media.proto.peer import RtpReceived
from lac_media.proto.seq import SequenceExtender
from lac_media.rooms.director import Director
from lac_media.rooms.forward import Forward
from lac_media.rooms.line import ProgramPacket
from lac_media.rooms.program import Program
from tests.fakes.impairment import Burst, Impairment
from tests.fakes.link import Link, make_link
from tests.proto.test_repair import FRAME, FRAME_S, Publisher, parameters

WAY_S = 0.02


class Chain:
    """Everything behind the publisher's core. `number` of a frame is what it carries."""

    def __init__(self, link: Link, *, sequence: int, timestamp: int) -> None:
        self.link = link
        self.director = Director(Program(ssrc=7, first_sequence=sequence, first_timestamp=timestamp, now=link.now))
        self.forward = Forward(ssrc=8, first_sequence=sequence, first_timestamp=timestamp, now=link.now)
        self.program: list[ProgramPacket] = []
        self.forwarded: list[ProgramPacket] = []
        self._seen = 0

    def run_for(self, seconds: float) -> None:
        """In steps short enough for every timer."""
        end = self.link.now + seconds
        while self.link.now < end:
            self.link.run_for(min(FRAME_S / 2, end - self.link.now))
            now = self.link.now
            for event in self.link.server_events[self._seen :]:
                if isinstance(event, RtpReceived):
                    self.program.extend(self.director.receive("host", event.packet, event.audio_level, now=now))
                    passed = self.forward.receive(event.packet, event.audio_level, now=now)
                    self.forwarded += [passed] if passed is not None else []
            self._seen = len(self.link.server_events)
            if self.director.timer_at() <= now:
                self.program.extend(self.director.handle_timer(now=now))
                assert self.director.timer_at() > now, "a timer that is due again at once would spin"


def check_line(packets: list[ProgramPacket], stamps: dict[int, int], first_timestamp: int) -> int:
    """No number twice; in the order of numbers, time rises; each frame once, and within a stretch numbers and times are
    the publisher's. How many of its frames there are."""
    extender = SequenceExtender()
    numbered = {extender.extend(packet.sequence): packet for packet in packets}
    assert len(numbered) == len(packets), "a number went out twice"
    ordered = [packet for _, packet in sorted(numbered.items())]
    ticks = [packet.ticks for packet in ordered]
    assert ticks == sorted(set(ticks)), "time goes back or stands still"
    assert all(packet.timestamp == (first_timestamp + packet.ticks) % 2**32 for packet in packets)
    spoken = {
        number: int.from_bytes(packet.payload[1:5], "big")
        for number, packet in numbered.items()
        if packet.payload != SILENCE_20MS_MONO
    }
    assert len(set(spoken.values())) == len(spoken), "a frame went out twice"
    stretch = None
    for number, frame in sorted(spoken.items()):
        before, stretch = stretch, (number - frame, (numbered[number].ticks - stamps[frame]) % 2**32)
        assert stretch == before or numbered[number].marker, "within a stretch numbers and time are the publisher's"
    return len(spoken)


networks = st.builds(
    Impairment,
    loss=st.sampled_from([0.0, 0.1, 0.3]),
    burst=st.sampled_from([None, Burst(0.1, 4.0)]),
    duplicate=st.sampled_from([0.0, 0.3]),
    delay_s=st.just(WAY_S),
    jitter_s=st.sampled_from([0.0, 0.05]),
    reorder=st.sampled_from([0.0, 0.3]),
    reorder_s=st.sampled_from([0.03, 0.15]),
)
events = st.lists(
    st.tuples(st.sampled_from(["talk"] * 6 + ["pause", "dtx", "dark", "leap", "ssrc"]), st.integers(1, 25)), max_size=8
)


@settings(max_examples=25, deadline=None)
@given(
    networks,
    events,
    st.integers(0, 2),
    st.booleans(),
    st.sampled_from([1000, 65_510, 32_750]),
    st.sampled_from([0, 2**32 - 20 * FRAME, 2**31 - 5 * FRAME]),
    st.integers(0, 2**31),
)
def test_whatever_happens_both_lines_stay_lines(
    network: Impairment,
    script: list[tuple[str, int]],
    levels: int,
    nack: bool,
    first: int,
    timestamp: int,
    seed: int,
) -> None:
    """Loss, bursts, jitter, reordering, duplicates, blackouts, both wraps at both ends, DTX, pauses, leaps of the
    numbering, other SSRCs, RED, NACK."""
    link = make_link(seed=seed)
    publisher = Publisher(link, first=first, timestamp=timestamp, levels=levels)
    link.server.expect_stream(parameters(nack=nack, red=levels > 0))
    ours = (first + 40_000) % 2**16, (timestamp + 2**31) % 2**32
    chain = Chain(link, sequence=ours[0], timestamp=ours[1])
    link.impairment = network
    stamps: dict[int, int] = {}
    ssrc = 2
    answered = 0

    def say(pause: int = 0) -> None:
        nonlocal answered
        packet = publisher.packet(pause=pause, ssrc=ssrc)
        packet.extensions[4] = b"0"
        stamps[publisher._next - 1] = publisher._stamp
        link.client.send_rtp(packet, now=link.now)
        chain.run_for(FRAME_S)
        # What is asked for is sent again, of the present numbering.
        for event in link.client_events[answered:]:
            for sequence in getattr(event, "lost", ()):
                if sequence in publisher.sent:
                    link.client.send_rtp(publisher.sent[sequence], now=link.now)
        answered = len(link.client_events)

    for what, amount in script:
        if what == "talk":
            for _ in range(amount):
                say()
        elif what == "pause":
            chain.run_for(amount / 10)
            say(pause=amount * 10)
        elif what == "dtx":
            for _ in range(amount % 4):
                chain.run_for(19 * FRAME_S)
                say(pause=19)
        elif what == "dark":
            network.dark_until = link.now + amount / 10
        elif what == "leap":
            publisher._next += 3_000 + amount
            publisher.sent.clear()
        elif ssrc != 2 + amount % 3:
            ssrc = 2 + amount % 3
            publisher._frames = []  # no encoder puts a copy of another stream's frame along
            publisher.sent.clear()
    chain.run_for(1.5)
    heard = check_line(chain.program, stamps, ours[1])
    passed = check_line(chain.forwarded, stamps, ours[1])
    assert passed >= heard, "the program drops what comes after its silence, the stage need not"
    assert [packet.payload for packet in chain.program[-20:]] == [SILENCE_20MS_MONO] * 20
    assert not link.server.closed
