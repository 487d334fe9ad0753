"""Recordings on a real server: by the host's wish, over SIGKILL, to the file in a stranger's hands."""

from __future__ import annotations

import hashlib
import io
import random
import resource
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from lac_media.container.ogg_opus import OggOpusReader, mend_ogg_opus
from lac_media.errors import ParseError
from tests.e2e.conftest import OpenPage
from tests.e2e.hearing import PATIENCE_S
from tests.e2e.raw_listener import recording_packets
from tests.e2e.raw_publisher import frame_number, missing_frames, publishing_frames
from tests.e2e.recordings import check_files, finished, list_recordings, manifest_of
from tests.e2e.room_socket import room_socket
from tests.e2e.server import LacServer, running_server
from tests.e2e.test_stage import Stage
from tests.e2e.tone import RATE_HZ, dominant_frequency_hz

pytestmark = pytest.mark.e2e

#: Of what listeners had been sent when the process was killed, so much may be missing.
LOSS_S = 1.0


def test_a_host_records_a_part_of_a_show_and_everybody_can_have_it(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        host = server.register("Hanna")
        show = server.start_show(host, "Late: Harbour")
        show_id = show["id"]
        with publishing_frames(server, show_id, host.token) as publisher:
            started = server.call("POST", f"/api/broadcasts/{show_id}/record/start", token=host.token)
            again = server.call("POST", f"/api/broadcasts/{show_id}/record/start", token=host.token)
            assert again["id"] == started["id"]
            first = publisher.sent
            server.call("POST", f"/api/broadcasts/{show_id}/record/chapters", token=host.token, json={"title": "Hello"})
            time.sleep(2)
            last = publisher.sent
            stopped = server.call("POST", f"/api/broadcasts/{show_id}/record/stop", token=host.token)
            assert stopped["status"] == "processing"
            time.sleep(0.2)
        (recording,) = finished(server, show_id, host.token)
        assert (recording["id"], recording["status"], recording["endReason"]) == (started["id"], "ready", "stopped")

        manifest = manifest_of(server, recording["id"], host.token)
        check_files(tmp_path / "recordings" / recording["id"], manifest)
        assert [track["personId"] for track in manifest["tracks"]] == [None, host.user_id]
        assert manifest["tracks"][1]["displayName"] == "Hanna"
        assert [chapter["title"] for chapter in manifest["chapters"]] == ["Hello"]

        path = f"{server.url}/api/recordings/{recording['id']}/download"
        whole = server.http.get(path)
        assert whole.status_code == 200
        assert hashlib.sha256(whole.content).hexdigest() == recording["sha256"]
        assert "Late Harbour.ogg" in whole.headers["Content-Disposition"]
        packets = list(OggOpusReader().receive(whole.content))
        assert missing_frames(packets) == []
        numbers = {frame_number(packet) for packet in packets}
        # What was on its way when recording stopped is not in it: on a busy machine that is some packets.
        assert numbers.issuperset(range(first + 10, last - 50))
        tag = whole.headers["ETag"]
        part = server.http.get(path, headers={"Range": "bytes=100-299", "If-Range": tag})
        assert (part.status_code, part.content) == (206, whole.content[100:300])
        assert server.http.get(path, headers={"Range": "bytes=99999999-"}).status_code == 416
        assert server.http.get(path, headers={"If-None-Match": tag}).status_code == 304
        head = server.http.head(path)
        assert (head.status_code, head.headers["Content-Length"], head.content) == (200, str(len(whole.content)), b"")
        track = f"{server.url}/api/recordings/{recording['id']}/tracks/2"
        assert server.http.get(track).status_code == 401
        mine = server.http.get(track, headers={"Authorization": f"Bearer {host.token}"})
        assert hashlib.sha256(mine.content).hexdigest() == manifest["tracks"][1]["sha256"]

        server.call("DELETE", f"/api/recordings/{recording['id']}", token=host.token)
        assert server.http.get(path).status_code == 404
        deadline = time.monotonic() + 2 * PATIENCE_S
        while any((tmp_path / "recordings").iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_server_that_is_killed_loses_less_than_a_second_and_one_that_is_stopped_nothing(tmp_path: Path) -> None:
    rng = random.Random(11)
    ends = ("lost", "lost", "shutdown")
    #: The newest frame that a listener was sent of each.
    heard: list[int] = []
    show_id = token = ""
    for end in ends:
        with running_server(tmp_path) as server:
            if not show_id:
                host = server.register("Hanna")
                show_id, token = server.start_show(host, recordingEnabled=True)["id"], host.token
            with publishing_frames(server, show_id, token), recording_packets(server, show_id) as listener:
                wait_until(lambda: recorded_files(tmp_path) == len(heard) + 1)
                time.sleep(0.5 + rng.random())
                if end == "lost":
                    server.kill()
                else:
                    server.stop()
            numbers = [frame_number(packet.payload) for _, packet in listener.arrivals]
            heard.append(max(number for number in numbers if number is not None))
    with running_server(tmp_path) as server:
        recordings = finished(server, show_id, token, count=len(ends))
        assert [(recording["part"], recording["endReason"]) for recording in recordings] == list(enumerate(ends, 1))
        for recording, count in zip(recordings, heard, strict=True):
            assert recording["status"] == "ready", recording
            directory = tmp_path / "recordings" / recording["id"]
            check_files(directory, manifest_of(server, recording["id"], token))
            for file in ("program.ogg", next((directory / "speakers").iterdir()).relative_to(directory)):
                packets = list(OggOpusReader().receive((directory / file).read_bytes()))
                assert missing_frames(packets) == []
                newest = max((number for packet in packets if (number := frame_number(packet)) is not None), default=0)
                allowed_s = LOSS_S if recording["endReason"] == "lost" else 0.0
                assert count - newest <= allowed_s * 50, (count, newest)
        # And the show that was taken up again is recorded further.
        assert [item["status"] for item in list_recordings(server, show_id, token)][len(ends) :] == ["recording"]
        server.call("POST", f"/api/broadcasts/{show_id}/end", token=token)
        (last,) = finished(server, show_id, token, count=len(ends) + 1)[len(ends) :]
        assert (last["status"], last["endReason"]) == ("ready", "ended")


def test_a_disk_that_fills_up_costs_the_recording_what_it_must_and_the_listeners_nothing(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        host = server.register("Hanna")
        show_id = server.start_show(host)["id"]
        with room_socket(server.url) as room, publishing_frames(server, show_id, host.token):
            room.join(show_id)
            started = server.call("POST", f"/api/broadcasts/{show_id}/record/start", token=host.token)
            assert room.wait_for("recording") == {"state": "recording"}
            program = tmp_path / "recordings" / started["id"] / "program.ogg"
            with recording_packets(server, show_id) as listener:
                listener.wait_for_packets(50)
                # As on a full disk nothing of the server's grows any more, its database neither.
                unlimited = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
                limit = program.stat().st_size + 100
                resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (limit, unlimited[1]))
                assert room.wait_for("recording") == {"state": "interrupted"}
                assert server.metric("lac_recordings_interrupted") == 1
                listener.wait_for_packets(50)
                resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, unlimited)
                assert room.wait_for("recording") == {"state": "recording"}
                listener.wait_for_packets(50)
                listener.check_one_unbroken_stream()
                payloads = [packet.payload for _, packet in listener.arrivals]
                assert missing_frames(payloads) == []
                heard = max(number for payload in payloads if (number := frame_number(payload)) is not None)
            server.call("POST", f"/api/broadcasts/{show_id}/record/stop", token=host.token)
        (recording,) = finished(server, show_id, host.token)
        assert (recording["status"], recording["failure"]) == ("ready", None)
        assert 0.5 < recording["lostS"] < recording["durationS"] - 1
        manifest = manifest_of(server, recording["id"], host.token)
        check_files(program.parent, manifest)
        assert [segment["cause"] for segment in manifest["tracks"][0]["segments"]] == [None, "disk_full"]
        packets = list(OggOpusReader().receive(program.read_bytes()))
        numbers = [number for packet in packets if (number := frame_number(packet)) is not None]
        assert max(numbers) >= heard
        assert len(missing_frames(packets)) == 1, "one hole, and nothing else is missing"


def sound_of(path: Path, from_s: float, seconds: float) -> float:
    """The frequency that is heard there."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    first = round(from_s * RATE_HZ)
    return dominant_frequency_hz(np.concatenate(frames)[first : first + round(seconds * RATE_HZ)])


def test_what_two_browsers_say_is_recorded_together_and_apart(
    server: LacServer, open_page: OpenPage, library: Path
) -> None:
    stage = Stage(server, open_page, library)
    cohost = stage.person("cohost")
    started = server.call("POST", f"/api/broadcasts/{stage.show_id}/record/start", token=stage.host.token)
    program = server.data_dir / "recordings" / started["id"] / "program.ogg"
    page = stage.page(stage.host.token)
    page.ask("speak(440)")
    wait_until(lambda: tail_frequency(program) == pytest.approx(440, abs=5))
    page = stage.page(cohost.token)
    page.ask("speak(1000)")
    second = program.parent / "speakers" / f"2-{cohost.user_id}.ogg"
    wait_until(lambda: second.exists() and tail_frequency(second) == pytest.approx(1000, abs=5))
    time.sleep(1)
    server.call("POST", f"/api/broadcasts/{stage.show_id}/record/stop", token=stage.host.token)
    (recording,) = finished(server, stage.show_id, stage.host.token)
    assert recording["status"] == "ready"
    manifest = manifest_of(server, recording["id"], stage.host.token)
    check_files(program.parent, manifest)
    assert [track["personId"] for track in manifest["tracks"]] == [None, stage.host.user_id, cohost.user_id]
    end_s = recording["durationS"] - 0.8
    assert sound_of(program.parent / manifest["tracks"][1]["file"], end_s, 0.5) == pytest.approx(440, abs=5)
    assert sound_of(second, end_s, 0.5) == pytest.approx(1000, abs=5)
    assert sound_of(second, 0.0, 0.5) == 0.0, "before they came there is silence"


def recorded_files(data_dir: Path) -> int:
    """Recordings that have begun to be written."""
    return sum(path.stat().st_size > 0 for path in data_dir.glob("recordings/*/program.ogg"))


def tail_frequency(path: Path) -> float:
    """Of the last half second that is in a growing file."""
    data = path.read_bytes() if path.exists() else b""
    file = io.BytesIO(data)
    try:
        mended = mend_ogg_opus(file)
        file.seek(0)
        with av.open(file) as container:
            frames = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    except (ParseError, av.error.FFmpegError):
        return 0.0
    if mended.duration_ticks < RATE_HZ:
        return 0.0
    return dominant_frequency_hz(np.concatenate(frames)[-RATE_HZ // 2 :])


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 2 * PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)
