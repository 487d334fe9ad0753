"""What a mixed frame costs: decoding, loudness, sum, encoding, for so many speakers.

    python -m benchmarks.mix [--seconds 20]

Voices with pauses, each in its own mix of jitter and clock drift, through the director as in a live room. CPU of this
thread per 20 ms of program; "p99" is of single frames. "loud" is the same with voices so loud that the limiter is busy
and packets are decoded, and some made again, before they go out. "activity" comes on top where clients do not say
how loud they are (FFmpeg, GStreamer), to see who is speaking; with one speaker too. "decode" and "encode" are libopus
alone, for comparison.
"""

from __future__ import annotations

import argparse
import heapq
import random
import statistics
import time

import numpy as np

from lac_media.opus import Decoder, Encoder, opus_version
from lac_media.opus.library import APPLICATION_LOW_DELAY, APPLICATION_VOIP
from lac_media.parameters import OPUS_CLOCK_RATE_HZ
from lac_media.proto.rtp import RtpPacket
from lac_media.rooms.director import Director
from lac_media.rooms.levels import Levels
from lac_media.rooms.program import FRAME_S, Program

FRAME = 960
SPEAKERS = (2, 4, 12)


def voice(seconds: int, seed: int, amplitude: float = 0.2) -> list[bytes]:
    """Packets of something like speech, as a browser sends it: 32 kbit/s with FEC."""
    rng = np.random.default_rng(seed)
    count = seconds * OPUS_CLOCK_RATE_HZ
    t = np.arange(count) / OPUS_CLOCK_RATE_HZ
    pitch = np.cumsum(110 + 15 * seed + 20 * np.sin(2 * np.pi * 0.7 * t + seed)) / OPUS_CLOCK_RATE_HZ
    syllables = np.clip(0.4 + 0.8 * np.sin(2 * np.pi * 3.1 * t + seed), 0, 1)
    mono = ((1 - 2 * (pitch % 1)) * amplitude + rng.standard_normal(count) * 0.01) * syllables
    pcm = np.ascontiguousarray(np.stack((mono, mono), axis=1).astype(np.float32))
    encoder = Encoder(bitrate_bps=32_000, application=APPLICATION_VOIP, fec=True, expected_loss=5)
    return [encoder.encode(pcm[start : start + FRAME]) for start in range(0, count, FRAME)]


def measure(speakers: int, voices: list[list[bytes]]) -> tuple[list[float], list[float]]:
    """CPU seconds of each 20 ms, taking packets in and putting one out, pass-through with one speaker; and those to see
    who is speaking."""
    rng = random.Random(1)
    director = Director(Program(ssrc=7, first_sequence=0, first_timestamp=0, now=0.0))
    levels = Levels()
    arriving: list[tuple[float, int, RtpPacket]] = []
    for who in range(speakers):
        payloads = voices[who % len(voices)]
        for n, payload in enumerate(payloads):
            at = n * FRAME_S * (1 + (who - speakers / 2) * 50e-6) + 0.02 + rng.random() * 0.02
            arriving.append((at, who, RtpPacket(111, n & 0xFFFF, n * FRAME, who, payload=payload)))
    heapq.heapify(arriving)
    costs, activity = [], []
    for tick in range(len(voices[0])):
        now = tick * FRAME_S
        arrived = []
        while arriving and arriving[0][0] <= now:
            arrived.append(heapq.heappop(arriving))
        begin = time.thread_time()
        for at, who, packet in arrived:
            list(director.receive(who, packet, None, now=at))
        list(director.handle_timer(now=now))
        between = time.thread_time()
        for at, who, packet in arrived:
            levels.receive(who, packet.payload, None, now=at)
        costs.append(between - begin)
        activity.append(time.thread_time() - between)
    assert director.is_mixing == (speakers > 1)
    return costs[50:], activity[50:]


def codec_alone(payloads: list[bytes]) -> tuple[float, float]:
    """CPU seconds to decode one packet, and to encode one as the mix does."""
    decoder = Decoder()
    encoder = Encoder(bitrate_bps=96_000, application=APPLICATION_LOW_DELAY)
    begin = time.thread_time()
    frames = [decoder.decode(payload) for payload in payloads]
    between = time.thread_time()
    for frame in frames:
        encoder.encode(frame)
    end = time.thread_time()
    return (between - begin) / len(payloads), (end - between) / len(payloads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=20)
    args = parser.parse_args()
    usual, loud = ([voice(args.seconds, seed, amplitude) for seed in range(4)] for amplitude in (0.2, 0.8))
    decode, encode = codec_alone(usual[0])
    print(f"{opus_version()}: decode {decode * 1e6:.0f} µs, encode {encode * 1e6:.0f} µs a packet\n")
    print("| speakers | µs per 20 ms | p99 µs | core | loud µs | p99 µs | activity µs |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for speakers in (1, *SPEAKERS):
        costs, activity = measure(speakers, usual)
        costs_when_loud, _activity = measure(speakers, loud)
        mean = statistics.fmean(costs)
        cells = [
            f"{speakers}",
            f"{mean * 1e6:.0f}",
            f"{p99(costs) * 1e6:.0f}",
            f"{mean / FRAME_S:.1%}",
            f"{statistics.fmean(costs_when_loud) * 1e6:.0f}",
            f"{p99(costs_when_loud) * 1e6:.0f}",
            f"{statistics.fmean(activity) * 1e6:.0f}",
        ]
        print(f"| {' | '.join(cells)} |")


def p99(costs: list[float]) -> float:
    return statistics.quantiles(costs, n=100)[98]


if __name__ == "__main__":
    main()
