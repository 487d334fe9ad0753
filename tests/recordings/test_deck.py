"""All files of one recording while it is made."""

from __future__ import annotations

from pathlib import Path

from lac.recordings.deck import MANIFEST_INTERVAL_S, Deck
from lac.recordings.manifest import read_manifest
from lac.recordings.model import EndReason
from lac.recordings.tape import Batch, Origin
from lac_media.rooms.tap import TappedPacket
from tests.recordings.room import FRAME, STARTED_AT, a_recording, opus

BEGAN_AT = 100.0


def test_whose_track_a_file_is_can_be_read_as_soon_as_it_is_there(tmp_path: Path) -> None:
    serials = iter(range(9))
    deck = Deck(a_recording(), tmp_path / "rec-1", Origin(0, BEGAN_AT), lambda: next(serials))
    deck.write([], now=BEGAN_AT)
    deck.write([], now=BEGAN_AT + MANIFEST_INTERVAL_S)  # the manifest has just been written
    tape = deck.speaker("ada", "Ada")
    assert tape is not None
    now = BEGAN_AT + MANIFEST_INTERVAL_S + 0.2
    deck.write([Batch(tape, 1, [TappedPacket(0, FRAME, now, opus(1))], 0)], now=now)
    assert (tmp_path / "rec-1" / tape.file).exists()
    manifest = read_manifest(tmp_path / "rec-1")
    assert manifest is not None
    assert [(track.file, track.display_name) for track in manifest.tracks] == [
        ("program.ogg", None),
        (tape.file, "Ada"),
    ]
    deck.close([], now=now, ended_at=STARTED_AT, reason=EndReason.STOPPED)
