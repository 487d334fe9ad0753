"""Recordings for the sample shows: real files that sound, made by the recorder itself, which is given what microphones
would have sent and a clock that does not wait. Finished and verified like every other recording.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import trio
from sqlalchemy import orm

from lac.config import Settings
from lac.db.engine import Database
from lac.ids import new_id
from lac.recordings import store
from lac.recordings.deck import Deck
from lac.recordings.finalize import decide, examine_files, mend, row_values
from lac.recordings.layout import CONTENT_TYPE, recording_dir, storage_key
from lac.recordings.manifest import Chapter, Manifest, write_manifest
from lac.recordings.model import EndReason, Recording, RecordingStatus
from lac.recordings.tape import Batch, Origin
from lac.sample_data import Recorded, Turn
from lac_media.opus.codec import CHANNELS, Encoder
from lac_media.opus.library import Pcm
from lac_media.parameters import OPUS_CLOCK_RATE_HZ
from lac_media.rooms.tap import TappedPacket

FRAME_TICKS = 960
FRAME_S = FRAME_TICKS / OPUS_CLOCK_RATE_HZ
BITRATE_BPS = 64_000
#: The RFC 6464 level of somebody who speaks.
LEVEL = 20
#: A chord is struck this often, from one of these roots (MIDI notes), one for each person in turn.
BEAT_S = 1.0
_ROOTS = (57, 64, 52)
#: Semitones above the root: minor, major, and the way back.
_CHORDS = ((0, 3, 7), (-4, 0, 3), (3, 7, 10), (-2, 2, 5))


def chords(root: int, duration_s: float) -> Pcm:
    """Plucked chords, (n, 2), at a third of full scale."""
    pcm: Pcm = np.zeros((round(duration_s * OPUS_CLOCK_RATE_HZ), CHANNELS), np.float32)
    strokes = math.ceil(duration_s / BEAT_S)
    for stroke in range(strokes):
        begin = round(stroke * BEAT_S * OPUS_CLOCK_RATE_HZ)
        sound = pcm[begin : begin + round(2 * BEAT_S * OPUS_CLOCK_RATE_HZ)]
        t = np.arange(len(sound), dtype=np.float32) / OPUS_CLOCK_RATE_HZ
        for number, above in enumerate(_CHORDS[stroke % len(_CHORDS)]):
            frequency_hz = 440 * 2 ** ((root + above - 69) / 12)
            tone = sum(np.sin(2 * np.pi * frequency_hz * k * t) / k**2 for k in (1, 2, 3))
            left = 0.5 + 0.2 * (number - 1)
            decay = np.exp(-3 * t) * np.minimum(1, t / 0.005)
            sound += np.outer(0.15 * tone * decay, (left, 1 - left)).astype(np.float32)
    return pcm


def packets(turn: Turn, number: int) -> Iterator[TappedPacket]:
    """What the person's microphone sends while it is their turn: Opus, at the pace of the clock."""
    encoder = Encoder(bitrate_bps=BITRATE_BPS)
    pcm = chords(_ROOTS[number % len(_ROOTS)], turn.until_s - turn.from_s)
    for frame in range(len(pcm) // FRAME_TICKS):
        at_s = turn.from_s + frame * FRAME_S
        payload = encoder.encode(pcm[frame * FRAME_TICKS : (frame + 1) * FRAME_TICKS])
        yield TappedPacket(frame, round(at_s * OPUS_CLOCK_RATE_HZ), at_s, payload, LEVEL)


async def record_samples(db: Database, settings: Settings, recorded: tuple[Recorded, ...]) -> int:
    """Make the files, then the rows. How many can be played. Raises `OSError`, `VerifierError`."""
    ready = 0
    for sample in recorded:
        recording = _begun(sample)
        directory = recording_dir(settings.data_dir, recording.id)
        await trio.to_thread.run_sync(_record, sample, recording, directory)
        mended = await trio.to_thread.run_sync(mend, directory, recording)
        manifest = decide(mended, await examine_files(directory, mended))
        await trio.to_thread.run_sync(write_manifest, directory, manifest)
        await db.run(partial(_enter, recording, manifest))
        ready += manifest.status is RecordingStatus.READY
    return ready


def _begun(sample: Recorded) -> Recording:
    recording_id = new_id()
    started_at = sample.show_started_at + timedelta(seconds=sample.media_start_s)
    return Recording(
        id=recording_id,
        broadcast_id=sample.broadcast_id,
        status=RecordingStatus.RECORDING,
        title=sample.title,
        description=sample.description,
        storage_key=storage_key(recording_id),
        content_type=CONTENT_TYPE,
        size_bytes=None,
        duration_s=None,
        sha256=None,
        started_at=started_at,
        ended_at=None,
        created_at=started_at,
        media_start_s=sample.media_start_s,
        part=1,
        started_by=sample.turns[0].person_id,
        end_reason=None,
        failure=None,
        lost_s=0.0,
        revision=1,
    )


def _enter(recording: Recording, manifest: Manifest, session: orm.Session) -> None:
    store.add(session, recording)
    store.move(session, recording.id, RecordingStatus.PROCESSING)
    store.move(session, recording.id, manifest.status, row_values(manifest))


def _record(sample: Recorded, recording: Recording, directory: Path) -> None:
    """Blocking. The program is whoever speaks, packet by packet, as in a room where one person does."""
    ends_s = sample.turns[-1].until_s
    serial = partial(random.Random(7).getrandbits, 32)  # noqa: S311  a number of a stream, not a secret
    origin = Origin(round(sample.media_start_s * OPUS_CLOCK_RATE_HZ), 0.0)
    deck = Deck(recording, directory, origin, serial)
    for number, turn in enumerate(sample.turns):
        tape = deck.speaker(turn.person_id, turn.display_name)
        deck.chapters.append(
            Chapter(start_s=turn.from_s, title=turn.display_name, kind="speaker", person_id=turn.person_id)
        )
        heard = list(packets(turn, number))
        batches = [Batch(deck.program, 0, [_in_program(packet, origin) for packet in heard], 0)]
        if tape is not None:
            batches.append(Batch(tape, number + 1, heard, 0))
        deck.write(batches, now=turn.until_s)
    ended_at = recording.started_at + timedelta(seconds=ends_s)
    deck.close([], now=ends_s, ended_at=ended_at, reason=EndReason.ENDED)


def _in_program(packet: TappedPacket, origin: Origin) -> TappedPacket:
    ticks = origin.ticks_at(packet.arrived_at)
    return replace(packet, sequence=(ticks - origin.ticks) // FRAME_TICKS, rtp_timestamp=ticks)
