"""Between pass-through and mix, and back: nothing is heard of it, and nothing seen in the numbering."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lac_media.mix.loudness import SLEW_DB_PER_S, decibels
from lac_media.opus import Pcm
from lac_media.opus.library import APPLICATION_VOIP
from lac_media.proto.opus import SILENCE_20MS_MONO
from lac_media.rooms.director import ALONE_S, DRAIN_S, MAX_ALONE_S, PAUSE_WAIT_S, QUIET_AFTER_S
from tests.mix.hearing import HOP, splatter, steps, tone
from tests.mix.show import RATE, START, Show, Speaker, Wave, silence, sine

HOST = Speaker("host", sine(440))
#: As the mix begins half a second later than this speaker, with whom nothing but a swelling tone comes, whatever is
#: heard at its beginning and end is the change-over.
GUEST_BEGINS, GUEST_ENDS = 0.5, 3.5
#: For so long both send.
TOGETHER_S = 4.5
#: Clicks are -80 dBFS or less. Steady tones of 0.2 that are cut off anywhere give 100 to 1,000 times as much.
NO_CLICK = 1e-4
#: Hops until the first packet of all, which begins the tone at full strength, has died away.
SETTLED = int(0.5 * RATE / HOP)


def swelling(hertz: float) -> Wave:
    tone = sine(hertz)
    return lambda t: tone(t) * np.clip(2 * (t - GUEST_BEGINS), 0, 1) * np.clip(2 * (GUEST_ENDS - t), 0, 1)


def there_and_back(
    host: Speaker,
    *,
    guest: Speaker | None = None,
    seed: int = 1,
    host_leaves: bool = False,
    cut: bool = False,
) -> tuple[Show, int, int]:
    """A host, a guest who comes and goes, the host again; or the host goes, and the guest stays. `cut`: nobody says so,
    their packets end. Returns the numbers of the first and last mixed packets."""
    show = Show(seed=seed)
    guest = guest or Speaker("guest", swelling(1000), ssrc=2, delay_s=0.05)
    show.start(host)
    show.run(3.0)
    show.start(guest)
    show.run(TOGETHER_S)
    assert show.director.is_mixing
    show.stop(host if host_leaves else guest, removed=not cut)
    show.run(7.0)
    assert not show.director.is_mixing
    # Before the host's first packet there is silence.
    sent = {*host.sent, *guest.sent, SILENCE_20MS_MONO}
    mixed = [n for n, packet in enumerate(show.out) if packet.payload not in sent]
    assert mixed == list(range(mixed[0], mixed[-1] + 1))
    assert len(mixed) == show.director.mixed_packets
    return show, mixed[0], mixed[-1]


def part(pcm: Pcm, begin: float, end: float) -> Pcm:
    return pcm[int(begin * RATE) : int(end * RATE)]


@pytest.mark.parametrize(
    "host",
    [
        HOST,
        replace(HOST, bitrate_bps=256_000),
        replace(HOST, jitter_s=0.015),
        replace(HOST, ppm=300),
        replace(HOST, ppm=-300),
        replace(HOST, bitrate_bps=24_000, application=APPLICATION_VOIP),
        replace(HOST, bitrate_bps=32_000, application=APPLICATION_VOIP, fec=True, expected_loss=5),
        replace(HOST, sequence=65_400, timestamp=2**32 - 100_000),
    ],
    ids=["music", "music 256k", "jitter", "fast clock", "slow clock", "speech", "speech with FEC", "wraps"],
)
def test_a_tone_goes_on_through_the_mix_and_back_without_a_click_or_a_leap(host: Speaker) -> None:
    show, first, last = there_and_back(host)
    show.assert_unbroken()
    pcm = show.decoded()
    assert splatter(pcm)[SETTLED:].max() < NO_CLICK
    begins, ends = first / 50, (last + 1) / 50
    alone = steps(part(pcm, 1.0, 2.5)).max()
    # Around both changes no sample is further from its neighbour than in the steady tone. (The guest takes a while.)
    assert steps(part(pcm, begins - 0.1, begins + 0.03)).max() < 1.1 * alone
    assert steps(part(pcm, ends - 0.3, ends + 0.3)).max() < 1.1 * alone
    # And what is heard is what is said: the tone all the time, the guest's meanwhile.
    for begin, end in ((1.0, 2.5), (begins + 1.0, begins + 2.5), (ends, ends + 2.0)):
        assert tone(part(pcm, begin, end), 440) == pytest.approx(0.2, rel=0.5)
    assert tone(part(pcm, ends, ends + 2.0), 440) == pytest.approx(0.2, rel=0.03)
    assert tone(part(pcm, 1.0, 2.5), 1000) < 0.001
    assert tone(part(pcm, begins + 1.0, begins + 2.5), 1000) == pytest.approx(0.2, rel=0.5)
    assert tone(part(pcm, ends, ends + 2.0), 1000) < 0.001


GUEST = Speaker("guest", lambda t: sine(1000)(t) * np.clip(2 * (t - GUEST_BEGINS), 0, 1), ssrc=2, delay_s=0.05)
SOFT_GUEST = replace(GUEST, wave=lambda t: GUEST.wave(t) / 4)  # by 12 dB


@pytest.mark.parametrize("way", ["leaves", "is cut"])
@pytest.mark.parametrize(
    ("guest", "amplitude"),
    [
        (GUEST, 0.2),
        (SOFT_GUEST, 0.05),
        (replace(GUEST, jitter_s=0.015), 0.2),
        (replace(SOFT_GUEST, ppm=300), 0.05),
        (replace(GUEST, bitrate_bps=32_000, application=APPLICATION_VOIP, fec=True, expected_loss=5), 0.2),
    ],
    ids=["as loud", "12 dB softer", "jitter", "softer, fast clock", "speech with FEC"],
)
def test_a_guest_who_stays_goes_on_through_the_mix_when_the_host_is_gone(
    guest: Speaker, amplitude: float, way: str
) -> None:
    show, first, last = there_and_back(replace(HOST), guest=replace(guest), host_leaves=True, cut=way == "is cut")
    show.assert_unbroken()
    pcm = show.decoded()
    begins, ends = first / 50, (last + 1) / 50
    # The host ends in the middle of a tone, in the mix. From then on there is no click, and no leap of the level.
    left = begins + TOGETHER_S + 0.5
    assert splatter(part(pcm, left, len(pcm) / RATE)).max() < NO_CLICK
    assert tone(part(pcm, left, ends), 440) < 0.001
    assert ends > left + 0.5
    levels_db = [decibels(part(pcm, at, at + 0.1)) for at in np.arange(left, ends + 1.0, 0.1)]
    assert np.abs(np.diff(levels_db)).max() < 0.1 * SLEW_DB_PER_S + 0.2
    # It ends where they are themselves, and as loud.
    assert tone(part(pcm, ends, ends + 1.0), 1000) == pytest.approx(amplitude, rel=0.06)
    after = part(pcm, ends + 0.5, ends + 1.5)
    assert steps(part(pcm, ends - 0.2, ends + 0.3)).max() < 1.2 * steps(after).max()
    # In the mix the soft one has been made louder than that, halfway towards the host.
    together = tone(part(pcm, begins + 3.0, begins + 4.0), 1000)
    assert together == pytest.approx(np.sqrt(amplitude * 0.2), rel=0.1)


@pytest.mark.parametrize("host", [replace(HOST, ticks=n) for n in (120, 480, 1920, 2880)])
def test_packets_of_other_lengths_hand_over_at_their_boundaries(host: Speaker) -> None:
    show, first, last = there_and_back(replace(host))
    numbers = [packet.sequence for packet in show.out]
    assert numbers == [(numbers[0] + n) & 0xFFFF for n in range(len(numbers))]
    sizes = [b.ticks - a.ticks for a, b in zip(show.out, show.out[1:], strict=False)]
    mixed = sizes[first : last + 1]
    assert set(mixed) == {960}
    assert set(sizes[last + 1 :]) == {host.ticks}
    assert splatter(show.decoded())[SETTLED:].max() < NO_CLICK


def test_the_mix_begins_within_the_time_that_the_hosts_jitter_has_taught_listeners() -> None:
    show, first, _last = there_and_back(replace(HOST, jitter_s=0.015))
    lateness = [p.sent_at - p.ticks / RATE for p in show.out]
    usual = max(lateness[50:first])
    assert max(lateness[first:]) <= usual + 0.001


def test_after_the_change_back_packets_are_ahead_by_what_was_buffered_and_no_more() -> None:
    show, first, last = there_and_back(replace(HOST))
    lateness = [p.sent_at - p.ticks / RATE for p in show.out]
    assert lateness[-1] == pytest.approx(lateness[first - 1], abs=0.06)
    at_once = [p for p in show.out[last + 1 :] if p.sent_at == show.out[last + 1].sent_at]
    assert 1 <= len(at_once) <= 4


def test_music_passes_through_byte_for_byte() -> None:
    rng = np.random.default_rng(1)
    noise = (rng.standard_normal(RATE) * 0.1).astype(np.float32)
    host = replace(HOST, wave=lambda t: noise[np.arange(len(t)) % RATE], bitrate_bps=256_000)
    show = Show()
    show.start(host)
    show.run(5.0)
    passed = [packet.payload for packet in show.out if packet.payload != SILENCE_20MS_MONO]
    assert passed == host.sent[: len(passed)]
    assert len(passed) >= 248
    assert sum(map(len, passed)) / len(passed) * 400 > 200_000
    assert show.director.mixed_packets == 0


def test_somebody_with_an_open_microphone_and_nothing_to_say_starts_no_mix() -> None:
    """Neither DTX nor digital silence nor a level of silence is a voice."""
    for quiet in (
        Speaker("guest", silence, ssrc=2),
        Speaker("guest", silence, ssrc=2, dtx=True, application=APPLICATION_VOIP, bitrate_bps=24_000),
        Speaker("guest", sine(700, 1e-4), ssrc=2, level=80),
        Speaker("guest", sine(700, 1e-4), ssrc=2, level=127 | 0x80),
    ):
        show = Show()
        host = replace(HOST)
        show.start(host)
        show.run(1.0)
        show.start(quiet)
        show.run(3.0)
        # DTX begins with a few frames of its encoder making sure.
        assert show.director.mixed_packets == 0 or quiet.dtx
        assert not show.director.is_mixing or show.now < START + QUIET_AFTER_S + 3.0
        show.assert_unbroken()


def test_who_speaks_after_the_other_has_fallen_silent_passes_through_without_a_mix() -> None:
    show = Show()
    host = Speaker("host", lambda t: sine(440)(t) * (t < 2.0))
    guest = Speaker("guest", lambda t: sine(1000)(t) * (t > 3.0 + QUIET_AFTER_S), ssrc=2)
    show.start(host)
    show.start(guest)
    show.run(8.0)
    assert show.director.mixes == 0
    assert tone(part(show.decoded(), 6.0, 7.5), 1000) == pytest.approx(0.2, rel=0.05)
    show.assert_unbroken()


def test_a_short_absence_does_not_end_the_mix() -> None:
    show = Show()
    host, guest = replace(HOST), Speaker("guest", sine(1000), ssrc=2)
    show.start(host)
    show.start(guest)
    show.run(3.0)
    for _ in range(3):
        show.stop(guest)
        show.run(ALONE_S - 0.2)
        show.start(guest)
        show.run(1.0)
    assert show.director.is_mixing
    assert show.director.mixes == 1
    show.assert_unbroken()


def test_muting_one_of_three_takes_exactly_one_out_at_once() -> None:
    show = Show()
    people = [Speaker(name, sine(f), ssrc=n) for n, (name, f) in enumerate([("a", 400), ("b", 1000), ("c", 2300)])]
    for person in people:
        show.start(person)
    show.run(3.0)
    before = len(show.out)
    show.stop(people[1])
    show.run(1.0)
    pcm = show.decoded()
    now = before * 960
    for hertz in (400, 1000, 2300):
        assert tone(pcm[now - RATE : now], hertz) > 0.1
    assert tone(pcm[now + 1920 :], 1000) < 0.01
    assert tone(pcm[now + 1920 :], 400) > 0.1
    assert tone(pcm[now + 1920 :], 2300) > 0.1
    show.assert_unbroken()


def test_when_all_are_gone_silence_follows_at_once_and_in_step() -> None:
    show = Show()
    people = [replace(HOST), Speaker("guest", sine(1000), ssrc=2)]
    for person in people:
        show.start(person)
    show.run(3.0)
    mixed = len(show.out)
    for person in people:
        show.stop(person)
    show.run(2.0)
    assert not show.director.is_mixing
    assert show.silent_packets >= 98
    assert show.out[mixed + 2].payload == SILENCE_20MS_MONO
    assert splatter(show.decoded(since=mixed + 3)).max() < NO_CLICK
    show.assert_unbroken()


def test_speakers_whose_network_breaks_leave_without_stalling_anybody() -> None:
    """Their packets just stop. The others go on, then silence does."""
    show = Show()
    host, guest = replace(HOST), Speaker("guest", sine(1000), ssrc=2)
    show.start(host)
    show.start(guest)
    show.run(3.0)
    show.stop(guest, removed=False)
    show.run(7.0)
    assert not show.director.is_mixing
    assert tone(show.decoded()[-RATE:], 440) == pytest.approx(0.2, rel=0.03)
    show.start(guest)
    show.run(3.0)
    show.stop(host, removed=False)
    show.stop(guest, removed=False)
    show.run(3.0)
    assert not show.director.is_mixing
    assert show.out[-1].payload == SILENCE_20MS_MONO
    show.assert_unbroken()


def test_the_mix_ends_even_if_no_boundary_can_be_met() -> None:
    """A speaker whose every packet comes with another length, and never a pause."""
    show = Show()
    host = Speaker("host", sine(440))
    guest = Speaker("guest", sine(1000), ssrc=2)
    show.start(host)
    show.start(guest)
    show.run(3.0)
    show.stop(guest)
    for _ in range(int((ALONE_S + DRAIN_S + PAUSE_WAIT_S + MAX_ALONE_S) / 0.1)):
        host.ticks = 480 if host.ticks == 960 else 960
        host.timestamp += 7  # and a clock that limps
        show.run(0.1)
    assert not show.director.is_mixing


def test_a_stall_of_our_own_is_left_out_and_not_made_up_for() -> None:
    show = Show()
    host, guest = replace(HOST), Speaker("guest", sine(1000), ssrc=2)
    show.start(host)
    show.start(guest)
    show.run(3.0)
    before = len(show.out)
    show.now += 1.0
    show.run(2.0)
    assert len(show.out) - before == pytest.approx(100, abs=5)
    sizes = [b.ticks - a.ticks for a, b in zip(show.out, show.out[1:], strict=False)]
    assert [size for size in sizes if size != 960] == [pytest.approx(RATE, abs=2000)]
    assert show.program.media_time_s(now=show.now) == pytest.approx(show.now - START, abs=0.1)


def test_media_time_never_goes_back_over_changes() -> None:
    show = Show()
    host = replace(HOST, ppm=-5000)  # far behind the clock when the mix begins
    guest = Speaker("guest", sine(1000), ssrc=2)
    show.start(host)
    before = 0.0
    for n in range(300):
        if n == 100:
            show.start(guest)
        if n == 150:
            show.stop(guest)
        show.run(0.05)
        media_time = show.program.media_time_s(now=show.now)
        assert media_time >= before
        before = media_time
