"""Copies, waveform, loudness and the podcast over HTTP: with real files, real workers, and a bucket in memory."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import av
import feedparser
import numpy as np
import pytest
import trio

from lac.broadcasts.model import Visibility
from lac.db.engine import Database
from lac.recordings import derivative_store, places
from lac.recordings import store as recordings
from lac.recordings.afterwards import Afterwards
from lac.recordings.layout import PROGRAM
from lac.recordings.manifest import Chapter, Manifest, TrackInfo, write_manifest
from lac.recordings.model import RecordingStatus
from lac_media.derive.audio import SAMPLE_RATE_HZ, read_audio
from lac_media.derive.worker import Job, Made, do_job
from lac_web.services import attach_services
from tests.derive.sound import silence, tone, write_ogg
from tests.fakes.store import MemoryStore
from tests.recordings.room import a_recording
from tests.web.conftest import Api, problem_of

SECONDS = 3.0


@pytest.fixture
def bucket() -> MemoryStore:
    return MemoryStore()


async def in_thread(job: Job, progress: Callable[[float], None]) -> Made:
    """What a worker does, without its low priority: other tests want this machine, too."""
    return await trio.to_thread.run_sync(do_job, job, lambda seconds: trio.from_thread.run_sync(progress, seconds))


class Shows:
    """A host with a public show whose recording is complete."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.token = self.user_id = self.show_id = self.id = ""

    async def prepare(self, **fields: Any) -> Shows:
        account = await self.api.account("host")
        self.token, self.user_id = account["accessToken"], account["user"]["id"]
        show = await self.api.broadcast(self.token, title="Late Harbour", **fields)
        self.show_id = show["id"]
        recording = replace(
            a_recording(),
            broadcast_id=self.show_id,
            status=RecordingStatus.READY,
            title="Späte Schau",
            duration_s=SECONDS,
        )
        self.id = recording.id
        directory = self.api.services.archive.directory(self.id)
        directory.mkdir(parents=True)
        write_ogg(directory / PROGRAM, np.concatenate((silence(1), tone(SECONDS - 1, level=0.1))))
        chapters = [Chapter(start_s=0.0, title="Hello", kind="marker"), Chapter(start_s=1.0, title="x", kind="speaker")]
        manifest = Manifest(
            id=self.id,
            broadcast_id=self.show_id,
            title=recording.title,
            part=1,
            status=RecordingStatus.READY,
            started_at=recording.started_at,
            media_start_s=0.0,
            duration_s=SECONDS,
            tracks=[TrackInfo(file=PROGRAM)],
            chapters=chapters,
        )
        write_manifest(directory, manifest, sync=False)
        await self.api.services.db.run(lambda session: recordings.add(session, recording))
        self.afterwards.derivatives._run_job = in_thread
        self.afterwards.derivatives.wake()
        return self

    @property
    def afterwards(self) -> Afterwards:
        return self.api.services.afterwards

    async def get(self, path: str, **kwargs: Any) -> Any:
        return await self.api.call("GET", f"/api/recordings/{self.id}/{path}", **kwargs)

    async def until(self, ready: Callable[[], Awaitable[bool]]) -> None:
        with trio.fail_after(60):
            while not await ready():  # noqa: ASYNC110  as a page would look
                await trio.sleep(0.05)

    async def export(self, export: str) -> dict[str, Any]:
        """Ask for it and wait until it is there."""
        response = await self.api.call(
            "POST", f"/api/recordings/{self.id}/exports", self.token, json={"format": export}
        )
        assert response.status_code == 202, await response.get_data()

        async def is_ready() -> bool:
            answer: dict[str, Any] = await (await self.get(f"exports/{export}")).get_json()
            assert answer["status"] != "failed", answer
            self.latest = answer
            return bool(answer["status"] == "ready")

        await self.until(is_ready)
        return self.latest


@pytest.fixture
async def shows(api: Api) -> Shows:
    return await Shows(api).prepare()


async def test_waveform_and_loudness_come_by_themselves(shows: Shows) -> None:
    async def is_ready() -> bool:
        response = await shows.get("peaks")
        if response.status_code == 200:
            return True
        await problem_of(response, 409, "analysis_pending")
        return False

    await shows.until(is_ready)
    response = await shows.get("peaks")
    peaks = await response.get_json()
    assert peaks["length"] == 30
    assert set(peaks["data"][:18]) <= {0, 1, -1}
    assert max(peaks["data"]) == pytest.approx(13, abs=1)
    assert response.headers["ETag"]
    loudness = await (await shows.get("loudness")).get_json()
    assert loudness["integratedLufs"] == pytest.approx(-20, abs=0.5)
    assert loudness["truePeakDbtp"] == pytest.approx(-20, abs=0.5)


async def test_a_copy_from_the_wish_to_the_last_byte(shows: Shows, tmp_path: Any) -> None:
    await problem_of(await shows.get("exports/mp3"), 404, "no_such_export")
    await problem_of(await shows.get("exports/wav"), 404, "no_such_export")
    made = await shows.export("mp3")
    assert made["progress"] == 1.0
    assert made["durationS"] == pytest.approx(SECONDS, abs=0.02)
    path = made["url"].removeprefix(f"/api/recordings/{shows.id}/")
    response = await shows.get(path)
    content = await response.get_data()
    assert response.headers["Content-Type"] == "audio/mpeg"
    assert response.headers["Content-Disposition"].endswith("Sp%C3%A4te%20Schau.mp3")
    assert len(content) == made["sizeBytes"]
    target = tmp_path / "copy.mp3"
    target.write_bytes(content)
    assert sum(map(len, read_audio(target))) / SAMPLE_RATE_HZ == pytest.approx(SECONDS, abs=0.06)
    part = await shows.get(path, headers={"Range": "bytes=10-19"})
    assert (part.status_code, await part.get_data()) == (206, content[10:20])
    known = await shows.get(path, headers={"If-None-Match": response.headers["ETag"]})
    assert known.status_code == 304
    assert (await (await shows.get("whereabouts", token=shows.token)).get_json())["place"] == "disk"
    listed = await (await shows.get("exports")).get_json()
    assert {item["format"] for item in listed["items"]} == {"mp3", "m4a"}, "the other one is the podcast's"
    gone = await shows.api.call("DELETE", f"/api/recordings/{shows.id}/exports/mp3", shows.token)
    assert gone.status_code == 204
    await problem_of(await shows.get(path), 404, "no_such_export")


async def test_only_who_may_hear_it_may_have_it(api: Api) -> None:
    shows = await Shows(api).prepare(visibility=Visibility.PRIVATE)
    stranger = (await api.account("stranger"))["accessToken"]
    for path in ("exports", "exports/m4a", "exports/m4a/download", "peaks", "loudness"):
        await problem_of(await shows.get(path), 404)
        await problem_of(await api.call("GET", f"/api/recordings/{shows.id}/{path}", stranger), 404)
    for path in ("feed.xml", f"{shows.id}.m4a", f"{shows.id}/chapters.json"):
        response = await api.call("GET", f"/podcasts/{shows.user_id}/{path}")
        if path == "feed.xml":
            assert shows.id.encode() not in await response.get_data()
        else:
            await problem_of(response, 404)
    response = await api.call("POST", f"/api/recordings/{shows.id}/exports", stranger, json={"format": "mp3"})
    await problem_of(response, 404)


async def test_the_podcast(shows: Shows) -> None:
    api = shows.api
    url = f"/podcasts/{shows.user_id}/feed.xml"
    empty = await api.call("GET", url)
    assert empty.headers["Content-Type"] == "application/rss+xml; charset=utf-8"
    await shows.export("m4a")
    await api.broadcast(shows.token, title="On air now", live=True)
    response = await api.call("GET", url, headers={"Origin": "https://player.example"})
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    parsed = feedparser.parse(await response.get_data())
    assert not parsed.bozo
    assert response.headers["ETag"] != empty.headers["ETag"]
    (entry,) = [entry for entry in parsed.entries if entry.id == shows.id]
    assert entry.title == "Späte Schau"
    assert "On air now" in str(await response.get_data(), "utf-8")
    enclosure = entry.enclosures[0]
    path = "/podcasts" + enclosure.href.partition("/podcasts")[2]
    audio = await api.call("GET", path)
    assert (audio.status_code, audio.headers["Content-Type"]) == (200, "audio/mp4")
    assert str(len(await audio.get_data())) == enclosure.length
    chapters = await api.call("GET", "/podcasts" + entry.podcast_chapters["url"].partition("/podcasts")[2])
    assert chapters.headers["Content-Type"] == "application/json+chapters"
    assert (await chapters.get_json(force=True))["chapters"] == [{"startTime": 0.0, "title": "Hello"}]
    tag, date = response.headers["ETag"], response.headers["Last-Modified"]
    for headers, status in (
        ({"If-None-Match": tag}, 304),
        ({"If-None-Match": '"other"'}, 200),
        ({"If-Modified-Since": date}, 304),
        ({"If-Modified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"}, 200),
        ({"If-None-Match": '"other"', "If-Modified-Since": date}, 200),
    ):
        assert (await api.call("GET", url, headers=headers)).status_code == status, headers
    await problem_of(await api.call("GET", "/podcasts/nobody/feed.xml"), 404)


async def test_the_picture_of_the_podcast_is_as_directories_want_it(shows: Shows) -> None:
    feed = await shows.api.call("GET", f"/podcasts/{shows.user_id}/feed.xml")
    address = feedparser.parse(await feed.get_data()).feed.image.href
    response = await shows.api.call("GET", "/podcasts" + address.partition("/podcasts")[2])
    assert (response.status_code, response.headers["Content-Type"]) == (200, "image/png")
    with av.open(io.BytesIO(await response.get_data())) as file:
        (frame,) = file.decode(video=0)
    assert frame.width == frame.height
    assert 1400 <= frame.width <= 3000
    assert frame.format.name == "rgb24"


async def test_an_episode_that_is_being_prepared(shows: Shows) -> None:
    services = shows.api.services
    await services.db.run(lambda session: recordings.change(session, shows.id, {"title": "x"}))
    response = await shows.api.call("GET", f"/podcasts/{shows.user_id}/{shows.id}.m4a")
    if response.status_code != 200:  # a quick machine has made it by now
        await problem_of(response, 503, "export_pending")
        assert response.headers["Retry-After"]


@pytest.fixture
async def in_bucket(shows: Shows, bucket: MemoryStore) -> Shows:
    """The same with its files in a bucket only."""
    await shows.export("m4a")
    directory = shows.api.services.archive.directory(shows.id)
    here = shows.afterwards.places
    elsewhere = replace(shows.afterwards, places=places.Places(here.data_dir, here.disk, bucket))
    shows.api.services = replace(shows.api.services, afterwards=elsewhere)
    shows.api.services.archive.read_elsewhere = elsewhere.places.manifest
    attach_services(shows.api.app, shows.api.services)
    db: Database = shows.api.services.db
    at = a_recording().started_at
    await db.run(lambda session: derivative_store.note_offloaded(session, shows.id, 1, at=at))

    def mark(session: Any) -> None:
        from lac.db import models

        for row in session.query(models.RecordingDerivative):
            row.in_bucket = True

    await db.run(mark)
    places.remove_audio(directory)
    for name in ("derived/audio.m4a", "derived/peaks.json", "manifest.json"):
        path = directory / name
        bucket.objects[f"recordings/{shows.id}/{name}"] = path.read_bytes()
        path.unlink()
    return shows


async def test_what_is_in_the_bucket_is_fetched_from_there(in_bucket: Shows, bucket: MemoryStore) -> None:
    download = await in_bucket.get("download")
    assert download.status_code == 302
    assert download.headers["Location"].startswith(f"https://bucket.example.org/recordings/{in_bucket.id}/program.ogg")
    assert download.headers["Cache-Control"] == "no-store"
    copy = await in_bucket.get("exports/m4a/download")
    assert (copy.status_code, copy.headers["Location"].partition("?")[0]) == (
        302,
        f"https://bucket.example.org/recordings/{in_bucket.id}/derived/audio.m4a",
    )
    episode = await in_bucket.api.call("GET", f"/podcasts/{in_bucket.user_id}/{in_bucket.id}.m4a")
    assert episode.status_code == 302
    assert (await (await in_bucket.get("peaks")).get_json())["length"] == 30
    chapters = await (await in_bucket.get("chapters")).get_json()
    assert chapters["chapters"][0]["title"] == "Hello"
    bucket.away = True
    await problem_of(await in_bucket.get("peaks"), 503, "storage_unavailable")
