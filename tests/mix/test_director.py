"""Whatever speakers do, the program is one line that goes on."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from lac_media.proto.opus import SILENCE_20MS_MONO
from lac_media.proto.rtp import RtpPacket
from lac_media.rooms.program import MAX_PAYLOAD, SILENCE_AFTER_S
from tests.mix.hearing import splatter
from tests.mix.show import RATE, Show, Speaker, silence, sine

NAMES = ("a", "b", "c")
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["start", "stop", "vanish", "restart", "hush"]), st.sampled_from(NAMES)),
        st.tuples(st.just("wait"), st.floats(0.0, 4.0)),
    ),
    max_size=12,
)


def people(**settings: float) -> dict[str, Speaker]:
    return {
        name: Speaker(name, sine(300.0 + 400 * n), ssrc=n, delay_s=0.02 + 0.01 * n, **settings)
        for n, name in enumerate(NAMES)
    }


def perform(show: Show, speakers: dict[str, Speaker], actions: list[tuple]) -> None:
    talking: set[str] = set()
    for action, value in actions:
        if action == "wait":
            show.run(value)
            continue
        speaker = speakers[value]
        if action == "start" and value not in talking:
            show.start(speaker)
            talking.add(value)
        elif action in ("stop", "vanish") and value in talking:
            show.stop(speaker, removed=action == "stop")
            talking.discard(value)
            show.run(0.05)  # their next packet would have been made by now
        elif action == "restart":
            speaker.ssrc += 10
            speaker.sequence, speaker.timestamp = 65_500, 2**32 - 960
        elif action == "hush":
            speaker.wave = silence
    show.run(1.0)


@given(ACTIONS)
@settings(max_examples=40)
def test_the_line_never_breaks_whoever_comes_and_goes(actions: list[tuple]) -> None:
    """In-order input without loss: each number once, no time that goes back, and never long without a packet."""
    show = Show()
    perform(show, people(), actions)
    assert [p.sequence for p in show.out] == [(show.out[0].sequence + n) & 0xFFFF for n in range(len(show.out))]
    for before, after in pairwise(show.out):
        assert after.ticks - before.ticks >= 960
        assert after.sent_at - before.sent_at < SILENCE_AFTER_S + 0.1
    assert not show.director.is_mixing or show.director.sources


@given(ACTIONS, st.integers(0, 1000))
@settings(max_examples=40)
def test_bad_networks_bring_no_exception_and_no_repeated_number(actions: list[tuple], seed: int) -> None:
    show = Show(seed=seed)
    perform(show, people(loss=0.2, jitter_s=0.08, duplicate=0.0), actions)
    newest = max(p.ticks for p in show.out)
    assert newest / RATE > show.now - 100.0 - SILENCE_AFTER_S - 0.3
    numbers = [p.sequence for p in show.out]
    assert len(set(numbers)) == len(numbers)


def test_what_nobody_can_play_is_not_taken_for_a_speaker() -> None:
    show = Show()
    for payload in (b"", b"\x03", bytes([0x48]) + bytes(MAX_PAYLOAD)):
        assert list(show.director.receive("x", RtpPacket(111, 1, 1, 1, payload=payload), None, now=show.now)) == []
    assert show.director.sources == []


def test_a_speaker_whose_clock_leaps_does_not_keep_the_program_waiting() -> None:
    show = Show()
    host, guest = Speaker("a", sine(440)), Speaker("b", sine(1000), ssrc=2)
    show.start(host)
    show.run(1.0)
    host.timestamp += 4 * RATE
    show.run(0.05)
    show.start(guest)
    show.run(3.0)
    assert show.director.is_mixing
    assert max(b.sent_at - a.sent_at for a, b in pairwise(show.out)) < 0.3


def test_two_who_keep_silence_do_not_take_turns() -> None:
    show = Show()
    for n, name in enumerate("ab"):
        show.start(Speaker(name, silence, ssrc=n, level=127))
    show.run(5.0)
    assert show.director.mixes == 0
    assert sum(packet.marker for packet in show.out) == 1
    show.assert_unbroken()


def test_an_old_session_of_the_same_person_leaves_no_trace() -> None:
    show = Show()
    old, new = Speaker("old", sine(440)), Speaker("new", sine(440), ssrc=2)
    show.start(old)
    show.run(2.0)
    show.stop(old)
    show.start(new)
    show.run(2.0)
    assert show.director.mixes == 0
    assert show.director.sources == ["new"]
    show.assert_unbroken()


def test_a_late_packet_from_before_the_mix_is_dropped() -> None:
    show = Show()
    host, guest = Speaker("a", sine(440)), Speaker("b", sine(1000), ssrc=2)
    show.start(host)
    show.run(1.0)
    late = host.packet()
    show.run(0.2)
    show.start(guest)
    show.run(2.0)
    list(show.director.receive("a", late, 20, now=show.now))
    show.run(1.0)
    assert splatter(show.decoded()[-RATE // 2 :]).max() < 1e-4


def test_one_packet_of_silence_more_or_less_makes_no_mix() -> None:
    rng = random.Random(1)
    show = Show()
    show.start(Speaker("a", sine(440)))
    show.run(0.5)
    for n in range(100):
        packet = RtpPacket(111, n, n * 960, 9, payload=rng.choice((SILENCE_20MS_MONO, b"\x48", b"\x48\x00")))
        list(show.director.receive("b", packet, None, now=show.now))
        show.run(0.02)
    assert show.director.mixes == 0
