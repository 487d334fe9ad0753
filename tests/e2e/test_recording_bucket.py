"""Recordings with a bucket, on a real server: through SIGKILL into rclone's files, back to a listener, and away."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import feedparser
import pytest
import trio

from lac.storage.mirror import read_journal
from lac.storage.s3 import open_s3
from lac_media.derive.audio import SAMPLE_RATE_HZ, read_audio
from tests.e2e.hurried_server import SMALLEST_PART
from tests.e2e.players import OGG_OPUS_LARGE, ffmpeg_sending
from tests.e2e.raw_publisher import publishing_frames
from tests.e2e.recordings import FINISHED_WITHIN_S, finished
from tests.e2e.server import LacServer, running_server
from tests.e2e.test_plain_streams import icecast
from tests.e2e.test_serve_command import refused_start
from tests.rclone import KEY, SECRET, Rclone, rclone_server

pytestmark = pytest.mark.e2e


def environment(rclone: Rclone, *, secret: str = SECRET) -> dict[str, str]:
    settings = rclone.settings()
    return {
        "S3_BUCKET_NAME": settings.bucket,
        "S3_ENDPOINT_URL": str(settings.endpoint_url),
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": secret,
    }


def wait_for(condition: Callable[[], bool], server: LacServer) -> None:
    deadline = time.monotonic() + FINISHED_WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, server.log()
        time.sleep(0.1)


def test_a_recording_goes_into_the_bucket_comes_back_and_is_removed(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with rclone_server(tmp_path / "s3") as rclone:
        line = refused_start(tmp_path / "wrong", **environment(rclone, secret="guessed"))
        assert "S3_BUCKET_NAME" in line
        assert "AWS_SECRET_ACCESS_KEY" in line
        assert "guessed" not in line

        with running_server(data_dir, **environment(rclone)) as server:
            host = server.register("Hanna")
            show_id = server.start_show(host, "Späte Schau", recordingEnabled=True)["id"]
            with publishing_frames(server, show_id, host.token):
                time.sleep(2)
                server.kill()
        rclone.kill()  # and the bucket is away when the server comes back
        with running_server(data_dir, **environment(rclone)) as server:
            (recording,) = finished(server, show_id, host.token)
            assert server.metric("lac_spool_recordings") >= 1
            rclone.start()
            server.call("POST", f"/api/broadcasts/{show_id}/end", token=host.token)
            name = f"recordings/{recording['id']}"
            local = data_dir / name
            wait_for(lambda: not (local / "program.ogg").exists(), server)
            where = f"/api/recordings/{recording['id']}/whereabouts"
            assert server.call("GET", where, token=host.token)["place"] == "bucket"
            assert {f"{name}/{file}" for file in ("program.ogg", "manifest.json")} <= set(rclone.objects())
            assert hashlib.sha256(rclone.content(f"{name}/program.ogg")).hexdigest() == recording["sha256"]

            path = f"{server.url}/api/recordings/{recording['id']}/download"
            redirect = server.http.get(path)
            assert redirect.status_code == 302
            assert redirect.headers["Location"].startswith(f"{rclone.url}/")
            assert hashlib.sha256(server.http.get(redirect.headers["Location"]).content).digest() == (
                bytes.fromhex(recording["sha256"])
            )

            feed = f"{server.url}/podcasts/{host.user_id}/feed.xml"
            wait_for(lambda: recording["id"] in server.http.get(feed).text, server)
            parsed = feedparser.parse(server.http.get(feed).content)
            (episode,) = [entry for entry in parsed.entries if entry.id == recording["id"]]
            # The server was told to take any port: only the path of what it calls itself is right.
            address = server.url + urlsplit(episode.enclosures[0].href).path
            audio = server.http.get(address, follow_redirects=True)
            assert server.http.head(address).status_code == 302
            (tmp_path / "episode.m4a").write_bytes(audio.content)
            assert str(len(audio.content)) == episode.enclosures[0].length
            seconds = sum(map(len, read_audio(tmp_path / "episode.m4a"))) / SAMPLE_RATE_HZ
            assert abs(seconds - recording["durationS"]) < 0.1

            server.call("DELETE", f"/api/recordings/{recording['id']}", token=host.token)
            wait_for(lambda: not any(key.startswith(name) for key in rclone.objects()), server)
            assert server.http.get(feed).text.count(recording["id"]) == 0


def test_a_recording_goes_up_in_parts_while_it_is_made(tmp_path: Path) -> None:
    """Through a killed server, whose next start goes on with the parts that are up, to one object and nothing else."""
    data_dir = tmp_path / "data"
    with rclone_server(tmp_path / "s3") as rclone:
        settings = environment(rclone)
        with running_server(data_dir, program="tests.e2e.hurried_server", **settings) as server:
            host = server.register("Hanna")
            show = server.start_show(host, recordingEnabled=True)
            with ffmpeg_sending(icecast(server, show), 440, *OGG_OPUS_LARGE):
                wait_for(lambda: parts_up(data_dir) >= 3, server)
                server.kill()
        assert trio.run(open_uploads, rclone) >= 1
        with running_server(data_dir, program="tests.e2e.hurried_server", **settings) as server:
            (recording, *_) = finished(server, show["id"], host.token)
            server.call("POST", f"/api/broadcasts/{show['id']}/end", token=host.token)
            name = f"recordings/{recording['id']}"
            wait_for(lambda: not (data_dir / name / "program.ogg").exists(), server)
            content = rclone.content(f"{name}/program.ogg")
            assert hashlib.sha256(content).hexdigest() == recording["sha256"]
            assert len(content) > 3 * SMALLEST_PART
            wait_for(lambda: trio.run(open_uploads, rclone) == 0, server)
            assert parts_up(data_dir) == 0


def parts_up(data_dir: Path) -> int:
    """Of the program, as the server has written it down."""
    journals = [read_journal(path) for path in data_dir.glob("recordings/*/program.ogg")]
    return sum(len(journal.parts) for journal in journals if journal is not None)


async def open_uploads(rclone: Rclone) -> int:
    async with open_s3(rclone.settings()) as store:
        return len(await store.open_uploads(""))
