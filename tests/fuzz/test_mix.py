"""Speakers who send anything at all as Opus, numbered anyhow: the mix goes on, in bounded memory, with finite sound."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lac_media.mix.output import OVERLAP
from lac_media.mix.playout import HISTORY, MAX_HELD
from lac_media.opus import Decoder, Encoder, OpusError
from lac_media.opus.library import APPLICATION_AUDIO, APPLICATION_VOIP
from lac_media.proto.opus import MAX_DURATION_TICKS
from lac_media.proto.rtp import RtpPacket
from lac_media.rooms.director import Director
from lac_media.rooms.line import ProgramPacket
from lac_media.rooms.program import FRAME_S, Program
from tests.fuzz.budget import slow
from tests.fuzz.mutation import damaged

_RNG = np.random.default_rng(1)
OPUS = [
    Encoder(bitrate_bps=bitrate, application=application, fec=True, expected_loss=20).encode(
        (_RNG.standard_normal((ticks, 2)) * 0.2).astype(np.float32)
    )
    for ticks in (120, 480, 960, 2880)
    for application, bitrate in ((APPLICATION_VOIP, 24_000), (APPLICATION_AUDIO, 128_000))
]

PACKETS = st.lists(
    st.tuples(
        st.integers(0, 2),  # who
        st.integers(0, 3),  # frames of the program before it
        damaged(OPUS),
        st.one_of(st.just(1), st.integers(-5, 5), st.integers(0, 65_535)),  # step in sequence
        st.one_of(st.just(960), st.integers(-5000, 5000), st.integers(0, 2**32 - 1)),  # and timestamp
        st.integers(0, 20),  # 0: another SSRC
    ),
    max_size=40,
)


@slow
@given(PACKETS)
def test_the_mix_goes_on_whatever_speakers_send(packets: list[tuple[int, int, bytes, int, int, int]]) -> None:
    now, ticks, last_mix = 10.0, [], None
    director = Director(Program(ssrc=7, first_sequence=0, first_timestamp=0, now=now))
    listener = Decoder()
    numbers = [[1, 1, who] for who in range(3)]

    def hear(packet: ProgramPacket) -> tuple[float, float]:
        """The peaks of the packet's first 2.5 ms, and of the rest."""
        ticks.append(packet.ticks)
        try:
            pcm = np.abs(listener.decode(packet.payload))
        except OpusError:  # what passes through is the speaker's own, however broken
            return 0.0, 0.0
        return float(pcm[:OVERLAP].max(initial=0.0)), float(pcm[OVERLAP:].max(initial=0.0))

    def listen(frames: int) -> None:
        nonlocal now, last_mix
        for _ in range(frames):
            now += FRAME_S
            for beginning, rest in [hear(packet) for packet in director.handle_timer(now=now)]:
                # A mix's first packet is joined to what passed through before it, however loud that is. And what no
                # microphone sends (offsets that come and go) leaves more than was foreseen where packets overlap.
                if director.is_mixing and director._mix is last_mix:
                    assert rest <= 1.1
                    assert beginning < 2.0
                last_mix = director._mix

    for who, frames, payload, sequence, timestamp, ssrc in packets:
        listen(frames)
        number = numbers[who]
        number[0] = (number[0] + sequence) & 0xFFFF
        number[1] = (number[1] + timestamp) & 0xFFFF_FFFF
        number[2] += 10 * (ssrc == 0)
        packet = RtpPacket(111, number[0], number[1], number[2], payload=payload)
        for sent in director.receive(who, packet, None, now=now):
            hear(sent)
        for channel in director._mix.channels.values() if director._mix is not None else ():
            assert len(channel.playout._held) <= MAX_HELD
            assert len(channel.playout._pcm) <= 3 * HISTORY + 3 * MAX_DURATION_TICKS
    # When all have fallen silent, so has the mix, and time goes on.
    listen(400)
    assert not director.is_mixing
    assert len(ticks) > 300
