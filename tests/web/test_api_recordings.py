"""Recordings over HTTP: what is answered, whole and in parts, and to whom."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import re
import threading
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from lac.recordings import store
from lac.recordings.layout import recording_dir
from lac.recordings.manifest import Chapter, Manifest, TrackInfo, write_manifest
from lac.recordings.model import Failure, RecordingStatus
from lac_web.file_responses import CHUNK_BYTES, FilePart, content_disposition, requested_part
from tests.recordings.room import STARTED_AT, a_recording
from tests.web.conftest import Api, problem_of

TAG = "tag"
DATA = bytes(range(256)) * 4096  # more than one piece


async def put(api: Api, broadcast_id: str, **fields: Any) -> str:
    """A finished recording with two tracks."""
    recording = dataclasses.replace(
        a_recording(f"rec-{len(fields)}-{broadcast_id}"), **{"status": RecordingStatus.READY, **fields}
    )
    recording = dataclasses.replace(recording, broadcast_id=broadcast_id)
    await api.services.db.run(lambda session: store.add(session, recording))
    directory = recording_dir(api.services.settings.data_dir, recording.id)
    (directory / "speakers").mkdir(parents=True)
    (directory / "program.ogg").write_bytes(DATA)
    (directory / "speakers" / "1-ada.ogg").write_bytes(DATA[::-1])
    manifest = Manifest(
        id=recording.id,
        broadcast_id=broadcast_id,
        title=recording.title,
        part=1,
        status=recording.status,
        started_at=STARTED_AT,
        media_start_s=0.0,
        tracks=[
            TrackInfo(file="program.ogg", sha256=hashlib.sha256(DATA).hexdigest()),
            TrackInfo(file="speakers/1-ada.ogg", person_id="ada", display_name="Ada"),
        ],
        chapters=[Chapter(start_s=2.0, title="Hello", kind="marker", person_id="ada")],
    )
    write_manifest(directory, manifest)
    return recording.id


@pytest.fixture
async def ready(api: Api) -> tuple[str, str]:
    """The id of a recording and its host's token."""
    token = await api.token()
    return await put(api, (await api.broadcast(token))["id"]), token


async def test_the_whole_file_and_parts_of_it(api: Api, ready: tuple[str, str]) -> None:
    path = f"/api/recordings/{ready[0]}/download"
    whole = await api.call("GET", path)
    assert (whole.status_code, await whole.get_data()) == (200, DATA)
    assert whole.headers["Content-Type"] == "audio/ogg; codecs=opus"
    assert whole.headers["Content-Length"] == str(len(DATA))
    assert whole.headers["Accept-Ranges"] == "bytes"
    assert "no-store" not in whole.headers["Cache-Control"]
    tag = whole.headers["ETag"]
    for header, begin, end in (
        ("bytes=0-0", 0, 1),
        ("bytes=1000-1999", 1000, 2000),
        ("bytes=300000-", 300_000, len(DATA)),
        ("bytes=-5", len(DATA) - 5, len(DATA)),
        (f"bytes=0-{10**18}", 0, len(DATA)),
    ):
        part = await api.call("GET", path, headers={"Range": header, "If-Range": tag})
        assert await part.get_data() == DATA[begin:end]
        if (begin, end) != (0, len(DATA)):
            assert part.status_code == 206
            assert part.headers["Content-Range"] == f"bytes {begin}-{end - 1}/{len(DATA)}"
    for headers in ({"Range": "bytes=5-9", "If-Range": '"other"'}, {"Range": "bytes=5-9", "If-Range": f"W/{tag}"}):
        assert (await api.call("GET", path, headers=headers)).status_code == 200
    beyond = await api.call("GET", path, headers={"Range": f"bytes={len(DATA)}-"})
    await problem_of(beyond, 416, "range_not_satisfiable")
    assert beyond.headers["Content-Range"] == f"bytes */{len(DATA)}"
    unchanged = await api.call("GET", path, headers={"If-None-Match": tag})
    assert (unchanged.status_code, await unchanged.get_data()) == (304, b"")
    head = await api.call("HEAD", path, headers={"Range": "bytes=5-9"})
    assert (head.status_code, head.headers["ETag"], await head.get_data()) == (200, tag, b"")


def open_descriptors(path: Path) -> int:
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            count += entry.readlink() == path
    return count


async def test_a_file_is_closed_when_its_client_goes_away_also_while_a_thread_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "program.ogg"
    path.write_bytes(DATA)
    limiter = trio.CapacityLimiter(2)
    async with FilePart(path, 0, len(DATA), limiter) as part:
        assert await part.__anext__() == DATA[:CHUNK_BYTES]
        assert open_descriptors(path) == 1
    assert open_descriptors(path) == 0

    reading, go_on, real = threading.Event(), threading.Event(), os.pread

    def slow(descriptor: int, size: int, position: int) -> bytes:
        reading.set()
        go_on.wait(30)
        return real(descriptor, size, position)

    monkeypatch.setattr("lac_web.file_responses.os.pread", slow)
    async with trio.open_nursery() as nursery:

        async def download() -> None:
            async with FilePart(path, 0, len(DATA), limiter) as part:
                await part.__anext__()

        nursery.start_soon(download)
        await trio.to_thread.run_sync(reading.wait)
        nursery.cancel_scope.cancel()
    assert open_descriptors(path) == 1, "the thread is in it"
    go_on.set()
    with trio.fail_after(20):
        while open_descriptors(path):  # noqa: ASYNC110  a thread has no event of ours
            await trio.sleep(0.01)


async def test_tracks_and_the_manifest_are_for_those_who_run_the_show(api: Api, ready: tuple[str, str]) -> None:
    recording_id, host = ready
    other = await api.token("bob")
    for path in ("tracks/1", "tracks/2", "manifest"):
        await problem_of(await api.call("GET", f"/api/recordings/{recording_id}/{path}"), 401)
        await problem_of(await api.call("GET", f"/api/recordings/{recording_id}/{path}", other), 403)
    track = await api.call("GET", f"/api/recordings/{recording_id}/tracks/2", host)
    assert await track.get_data() == DATA[::-1]
    assert "A show - Ada.ogg" in track.headers["Content-Disposition"]
    for number in ("0", "3", "99999", "x", "-1", "²"):
        problem = await api.call("GET", f"/api/recordings/{recording_id}/tracks/{number}", host)
        await problem_of(problem, 404, "no_such_track")
    manifest = await (await api.call("GET", f"/api/recordings/{recording_id}/manifest", host)).get_json()
    assert [track["file"] for track in manifest["tracks"]] == ["program.ogg", "speakers/1-ada.ogg"]
    chapters = await (await api.call("GET", f"/api/recordings/{recording_id}/chapters")).get_json()
    assert chapters["chapters"] == [{"startS": 2.0, "title": "Hello", "kind": "marker", "personId": "ada"}]


async def test_one_that_is_not_ready_is_there_for_hosts_only_and_not_to_download(api: Api) -> None:
    token = await api.token()
    show = await api.broadcast(token)
    recording_id = await put(api, show["id"], status=RecordingStatus.PROCESSING)
    for path in ("", "/download", "/chapters", "/messages"):
        await problem_of(await api.call("GET", f"/api/recordings/{recording_id}{path}"), 404, "not_found")
    assert (await api.call("GET", f"/api/recordings/{recording_id}", token)).status_code == 200
    await problem_of(await api.call("GET", f"/api/recordings/{recording_id}/download", token), 409, "recording_active")


async def test_a_failed_one_can_be_taken_home_by_its_hosts(api: Api) -> None:
    token = await api.token()
    recording_id = await put(api, (await api.broadcast(token))["id"], status=RecordingStatus.FAILED)
    assert await (await api.call("GET", f"/api/recordings/{recording_id}/download", token)).get_data() == DATA


async def test_a_private_shows_recording_is_private(api: Api) -> None:
    token = await api.token()
    recording_id = await put(api, (await api.broadcast(token, visibility="private"))["id"])
    for path in ("", "/download", "/chapters", "/messages"):
        await problem_of(await api.call("GET", f"/api/recordings/{recording_id}{path}"), 404)
        await problem_of(await api.call("GET", f"/api/recordings/{recording_id}{path}", await api.token("bob")), 404)
    assert (await api.call("GET", f"/api/recordings/{recording_id}/download", token)).status_code == 200


async def test_changes_need_what_was_seen_and_a_removal_takes_the_files(api: Api, ready: tuple[str, str]) -> None:
    recording_id, host = ready
    path = f"/api/recordings/{recording_id}"
    tag = (await api.call("GET", path)).headers["ETag"]
    changed = await api.call("PATCH", path, host, json={"title": "Another"}, headers={"If-Match": tag})
    assert (await changed.get_json())["title"] == "Another"
    stale = await api.call("PATCH", path, host, json={"title": "x"}, headers={"If-Match": tag})
    await problem_of(stale, 412, "precondition_failed")
    await problem_of(await api.call("PATCH", path, host, json={"title": None}), 422)
    assert (await api.call("DELETE", path, host)).status_code == 204
    await problem_of(await api.call("GET", path), 404)


async def test_a_file_that_is_gone_is_not_found(api: Api, ready: tuple[str, str]) -> None:
    (recording_dir(api.services.settings.data_dir, ready[0]) / "program.ogg").unlink()
    await problem_of(await api.call("GET", f"/api/recordings/{ready[0]}/download"), 404)


@given(st.text(max_size=40), st.integers(0, 1000))
def test_any_range_is_taken_as_all_a_part_or_none(header: str, size: int) -> None:
    for text in (header, f"bytes={header}"):
        part = requested_part(text, None, TAG, size)
        if part is not None:
            begin, end = part
            assert 0 <= begin < end <= size or part == (0, size)


@given(st.integers(0, 100), st.integers(0, 100) | st.none(), st.integers(1, 60))
def test_a_range_is_what_slicing_makes_of_it(begin: int, last: int | None, size: int) -> None:
    data = bytes(range(size))
    part = requested_part(f"bytes={begin}-{'' if last is None else last}", f'"{TAG}"', TAG, size)
    if last is not None and last < begin:
        assert part == (0, size)
    elif begin >= size:
        assert part is None
    else:
        assert part is not None
        assert data[part[0] : part[1]] == data[begin : None if last is None else last + 1]


@given(st.text(max_size=300))
def test_any_title_makes_a_name_that_no_header_and_no_file_system_minds(title: str) -> None:
    header = content_disposition(title)
    assert header.isascii()
    assert header.isprintable()
    plain = re.fullmatch(r"attachment; filename=\"([A-Za-z0-9 ._()-]+\.ogg)\"; filename\*=UTF-8''[!-~]+", header)
    assert plain is not None, header
    assert not plain[1].startswith(".")


async def test_recording_begins_when_a_live_show_is_switched_to_be_recorded(api: Api) -> None:
    host = await api.token("host")
    show = await api.broadcast(host)
    path = f"/api/broadcasts/{show['id']}"
    await api.call("POST", f"{path}/start", host)
    assert (await api.call("PATCH", path, host, json={"recordingEnabled": True})).status_code == 200
    for _ in range(500):
        found = await list_recordings(api, host, show["id"])
        if found:
            break
        await trio.sleep(0.02)
    assert [item["status"] for item in found] == ["recording"]
    assert (await api.call("POST", f"{path}/record/stop", host)).status_code == 200


async def list_recordings(api: Api, host: str, broadcast_id: str) -> list[dict[str, Any]]:
    page = await (await api.call("GET", f"/api/recordings?broadcastId={broadcast_id}", host)).get_json()
    items: list[dict[str, Any]] = page["items"]
    return items


async def test_one_that_failed_says_whether_something_can_be_heard(api: Api) -> None:
    host = await api.token("host")
    show = await api.broadcast(host)
    failed = {"status": RecordingStatus.FAILED, "duration_s": 3.0, "size_bytes": len(DATA)}
    kept = await put(api, show["id"], **failed, failure=Failure.DISK_FULL)
    nothing = await put(api, show["id"], **failed, failure=Failure.NOTHING_RECORDED, lost_s=1.0)
    found = {item["id"]: item["playable"] for item in await list_recordings(api, host, show["id"])}
    assert found == {kept: True, nothing: False}
    download = await api.call("GET", f"/api/recordings/{kept}/download", host)
    assert await download.get_data() == DATA
    await problem_of(await api.call("GET", f"/api/recordings/{kept}/download"), 404)
    for path in ("peaks", "loudness"):
        await problem_of(await api.call("GET", f"/api/recordings/{nothing}/{path}", host), 404, "nothing_recorded")
    wish = await api.call("POST", f"/api/recordings/{nothing}/exports", host, json={"format": "mp3"})
    await problem_of(wish, 404, "nothing_recorded")
