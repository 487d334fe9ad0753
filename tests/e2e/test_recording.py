"""Recordings on a real server: by the host's wish, over SIGKILL, to the file in a stranger's hands."""

from __future__ import annotations

import hashlib
import random
import time
from pathlib import Path

from lac_media.container.ogg_opus import OggOpusReader
from tests.e2e.raw_publisher import frame_number, missing_frames, publishing_frames
from tests.e2e.recordings import check_files, finished, list_recordings, manifest_of
from tests.e2e.server import running_server

#: Of what was sent before a process was killed, so much may be missing.
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
        assert numbers.issuperset(range(first + 10, last - 10))
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
        deadline = time.monotonic() + 10
        while any((tmp_path / "recordings").iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_server_that_is_killed_again_and_again_loses_less_than_a_second_each_time(tmp_path: Path) -> None:
    rng = random.Random(11)
    lives = 3
    sent: list[int] = []
    show_id = token = ""
    for _life in range(lives):
        with running_server(tmp_path) as server:
            if not show_id:
                host = server.register("Hanna")
                show_id, token = server.start_show(host, recordingEnabled=True)["id"], host.token
            with publishing_frames(server, show_id, token) as publisher:
                time.sleep(0.7 + rng.random())
                server.kill()
                sent.append(publisher.sent)
    with running_server(tmp_path) as server:
        recordings = finished(server, show_id, token, count=lives)
        assert [recording["part"] for recording in recordings] == [1, 2, 3]
        for recording, count in zip(recordings, sent, strict=True):
            assert (recording["status"], recording["endReason"]) == ("ready", "lost"), recording
            directory = tmp_path / "recordings" / recording["id"]
            check_files(directory, manifest_of(server, recording["id"], token))
            for file in ("program.ogg", next((directory / "speakers").iterdir()).relative_to(directory)):
                packets = list(OggOpusReader().receive((directory / file).read_bytes()))
                assert missing_frames(packets) == []
                newest = max((number for packet in packets if (number := frame_number(packet)) is not None), default=0)
                assert count - newest <= LOSS_S * 50, (count, newest)
        # And the show that was taken up again is recorded further.
        assert [item["status"] for item in list_recordings(server, show_id, token)][lives:] == ["recording"]
        server.call("POST", f"/api/broadcasts/{show_id}/end", token=token)
        (last,) = finished(server, show_id, token, count=lives + 1)[lives:]
        assert (last["status"], last["endReason"]) == ("ready", "ended")
