"""`lac doctor`, `lac seed`, `lac backup`, `lac restore`."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import socket
import sqlite3
import tarfile
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import trio

from lac import backup as backup_module
from lac.auth import passwords
from lac.auth.passwords import PasswordHasher
from lac.auth.service import AuthService
from lac.backup import BackupError, create_backup, restore_backup
from lac.broadcasts.service import BroadcastService
from lac.cli import doctor, environment, main
from lac.cli.doctor import Finding, Verdict
from lac.config import Settings, load_settings
from lac.db.engine import Database, open_database
from lac.recordings import store
from lac.recordings.layout import recording_dir
from lac.recordings.manifest import read_manifest
from lac.recordings.model import Recording, RecordingStatus
from lac.sample_data import sow
from lac.sole_server import LOCK_FILE, hold_data_dir

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(tmp_path, monkeypatch)


def enter(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of the machine, and cheap hashes."""
    monkeypatch.chdir(directory)
    monkeypatch.setattr(environment.os, "environ", {})
    monkeypatch.setattr(
        passwords.PasswordHasher.__init__, "__kwdefaults__", {"memory_kib": 8, "time_cost": 1, "threads": 1}
    )


@pytest.fixture
def home() -> Settings:
    """The settings that a command finds in this directory."""
    return load_settings({})


def titles(settings: Settings) -> set[str]:
    with closing(sqlite3.connect(settings.sqlite_path)) as connection:
        return {row[0] for row in connection.execute("SELECT title FROM broadcasts")}


def seconds_of(path: Path) -> list[np.ndarray]:
    """What a decoder makes of the file, a second each."""
    with av.open(str(path)) as container:
        sound = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    return [sound[:, begin : begin + 48_000] for begin in range(0, sound.shape[1], 48_000)]


@pytest.fixture(scope="module")
def sown_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory as `lac seed` leaves it, to be copied."""
    directory = tmp_path_factory.mktemp("sown")
    with pytest.MonkeyPatch.context() as monkeypatch:
        enter(directory, monkeypatch)
        assert main.main(["seed", "--password", PASSWORD]) == 0
        return directory / load_settings({}).data_dir


@pytest.fixture
def seeded(home: Settings, sown_data: Path) -> Settings:
    shutil.copytree(sown_data, home.data_dir, dirs_exist_ok=True)
    return home


# --- seed -------------------------------------------------------------------------------------------------------------


def test_a_seeded_server_has_people_who_can_sign_in(home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["seed"]) == 0
    said = capsys.readouterr().out
    password = re.search(r"password: (\S+)", said)
    assert password is not None

    async def sign_in() -> None:
        async with open_database(home) as db:
            auth = AuthService(db, home)
            signed_in = await auth.login("ines@example.org", password[1])
            assert signed_in.user.is_admin

    trio.run(sign_in)


def test_a_seeded_show_can_be_heard_again(home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """By everybody, and it is whole: sound all along, each person on a track of their own, chapters, chat."""
    assert main.main(["seed"]) == 0
    assert "2 recordings" in capsys.readouterr().out

    async def look() -> tuple[list[Recording], list[int]]:
        async with open_database(home) as db:
            everybody = partial(
                store.list_page,
                viewer_id=None,
                sees_all=False,
                broadcast_id=None,
                host_id=None,
                sees_unfinished=False,
                limit=10,
                after=None,
            )
            found = await db.read(everybody)
            said = partial(store.chat_page, slack=timedelta(seconds=5), limit=100, after=None)
            pages = [await db.read(partial(said, recording=recording)) for recording in found.items]
            return list(found.items), [len(page.items) for page in pages]

    (duet, last_words), (said, _) = trio.run(look)
    assert said == 12, "all of the chat was while it was recorded"
    assert (duet.media_start_s, duet.duration_s) == (0, 24)
    assert (last_words.media_start_s, last_words.duration_s) == (44 * 60 - 12, 12)
    for recording, people in ((duet, 2), (last_words, 1)):
        directory = recording_dir(home.data_dir, recording.id)
        manifest = read_manifest(directory)
        assert manifest is not None
        assert manifest.status is RecordingStatus.READY
        assert manifest.tracks[0].file == "program.ogg"
        assert len(manifest.tracks) == 1 + people
        assert all(track.verified for track in manifest.tracks)
        assert manifest.chapters
        assert manifest.tracks[0].gaps == []
        program = (directory / "program.ogg").read_bytes()
        assert (len(program), hashlib.sha256(program).hexdigest()) == (recording.size_bytes, recording.sha256)
        loudness = [np.abs(second).max() for second in seconds_of(directory / "program.ogg")]
        assert len(loudness) == recording.duration_s
        assert min(loudness) > 0.05
        assert max(loudness) < 1


def test_seeding_twice_or_among_people_is_refused(seeded: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["seed", "--password", PASSWORD, "--force"]) == 1
    assert "are there already" in capsys.readouterr().err
    with closing(sqlite3.connect(seeded.sqlite_path)) as connection, connection:
        connection.execute("UPDATE users SET email = 'real-' || email")
    assert main.main(["seed", "--password", PASSWORD]) == 1
    assert "--force" in capsys.readouterr().err
    assert main.main(["seed", "--password", PASSWORD, "--force"]) == 0


async def test_the_samples_are_what_the_services_expect(
    db: Database, broadcasts: BroadcastService, hasher: PasswordHasher
) -> None:
    """On both databases."""
    password_hash = await hasher.hash(PASSWORD)
    now = datetime.now(UTC)
    sown = await db.run(lambda session: sow(session, password_hash=password_hash, now=now))
    assert (sown.people, sown.shows) == (12, 13)
    assert sown.messages > 50
    assert sown.follows > 20
    page = await broadcasts.list(None, limit=100)
    assert {item.status for item in page.items} == {"scheduled", "ended"}
    assert len(page.items) == 11, "one is private, one unlisted"
    for item in page.items:
        if item.status == "scheduled":
            assert item.scheduled_at is not None
            assert item.scheduled_at > now
        else:
            assert item.ended_at is not None
            assert item.ended_at <= now


# --- backup and restore -----------------------------------------------------------------------------------------------


def test_what_was_saved_comes_back(seeded: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = tmp_path / "saved.tar.gz"
    assert main.main(["backup", str(archive)]) == 0
    assert archive.stat().st_mode & 0o777 == 0o600
    before, secrets = titles(seeded), (seeded.data_dir / "secrets.json").read_bytes()

    assert main.main(["restore", str(archive), "--data-dir", "elsewhere"]) == 0
    elsewhere = replace(seeded, data_dir=Path("elsewhere"))
    assert titles(elsewhere) == before
    assert (elsewhere.data_dir / "secrets.json").read_bytes() == secrets
    assert (elsewhere.data_dir / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert not [path for path in elsewhere.data_dir.iterdir() if path.name.startswith(".")]
    assert "Restored the backup of" in capsys.readouterr().out


def test_recordings_are_copied_as_files_and_it_says_so(
    seeded: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(seeded.sqlite_path)) as connection, connection:
        connection.execute("PRAGMA foreign_keys=ON")
        known = [key for (key,) in connection.execute("SELECT storage_key FROM recordings") if key]
        (show_id,) = connection.execute("SELECT id FROM broadcasts LIMIT 1").fetchone()
        connection.execute(
            "INSERT INTO recordings (id, broadcast_id, status, title, storage_key, started_at, created_at) "
            "VALUES ('rec1', ?, 'ready', 'Kept', 'recordings/rec1/program.ogg', '2030-01-01', '2030-01-01')",
            (show_id,),
        )
    for name in ("program.ogg", "speakers/1-ann.ogg"):
        file = seeded.data_dir / "recordings" / "rec1" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"O" * 1024 * 1024)
    count, size = backup_module.recordings_beside(seeded)
    assert size >= 2 * 1024 * 1024
    archive = tmp_path / "saved.tar.gz"
    assert main.main(["backup", str(archive)]) == 0
    told = capsys.readouterr().out
    assert f"{count} recordings (" in told
    assert str(seeded.data_dir / "recordings") in told
    assert archive.stat().st_size < 1024 * 1024, "they are not in it"

    assert main.main(["restore", str(archive), "--data-dir", "elsewhere"]) == 0
    assert f"The files of {len(known) + 1} recordings are not here" in capsys.readouterr().out
    for key in [*known, "recordings/rec1/program.ogg"]:
        (seeded.data_dir / key).parent.mkdir(parents=True, exist_ok=True)
        (seeded.data_dir / key).touch()
    shutil.copytree(seeded.data_dir / "recordings", Path("elsewhere") / "recordings")
    assert main.main(["restore", str(archive), "--data-dir", "elsewhere", "--force"]) == 0
    assert "are not here" not in capsys.readouterr().out


def test_a_backup_of_a_running_server_is_complete(home: Settings, tmp_path: Path) -> None:
    """What is committed but still in the write-ahead log is in it; what is not committed is not."""
    assert main.main(["migrate"]) == 0
    with closing(sqlite3.connect(home.sqlite_path)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint=0")
        with connection:
            connection.execute("INSERT INTO setup_tokens VALUES ('kept', '2030-01-01', '2030-01-01')")
        connection.execute("INSERT INTO setup_tokens VALUES ('open', '2030-01-01', '2030-01-01')")
        create_backup(home, tmp_path / "saved")
    restore_backup(replace(home, data_dir=tmp_path / "new"), tmp_path / "saved")
    with closing(sqlite3.connect(tmp_path / "new" / "liveaudiocast.db")) as connection:
        assert connection.execute("SELECT token_hash FROM setup_tokens").fetchall() == [("kept",)]


def test_nothing_is_overwritten_unless_told(seeded: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["backup", "saved"]) == 0
    assert main.main(["backup", "saved"]) == 1
    assert "saved exists" in capsys.readouterr().err
    assert main.main(["backup", "saved", "--force"]) == 0
    assert main.main(["restore", "saved"]) == 1
    assert "--force" in capsys.readouterr().err
    with closing(sqlite3.connect(seeded.sqlite_path)) as connection, connection:
        connection.execute("DELETE FROM broadcasts")
    assert main.main(["restore", "saved", "--force"]) == 0
    assert titles(seeded)
    aside = list(seeded.data_dir.glob("liveaudiocast.db.before-restore-*"))
    assert len(aside) == 1
    with closing(sqlite3.connect(aside[0])) as connection:
        assert connection.execute("SELECT count(*) FROM broadcasts").fetchone() == (0,)


async def test_a_database_in_use_is_not_replaced(tmp_path: Path) -> None:
    settings = load_settings({}, data_dir=tmp_path / "data")
    async with open_database(settings) as db:
        await db.ping()
        create_backup(settings, tmp_path / "saved")
        with pytest.raises(BackupError, match="Stop the server"):
            restore_backup(settings, tmp_path / "saved", overwrite=True)
        await db.ping()
    restore_backup(settings, tmp_path / "saved", overwrite=True)


def altered(archive: Path, **changes: object) -> Path:
    """The same archive with another manifest."""
    with tarfile.open(archive) as old:
        members = {member.name: old.extractfile(member).read() for member in old.getmembers()}
    manifest = json.loads(members["manifest.json"])
    for name, value in changes.items():
        manifest[name] = value
    members["manifest.json"] = json.dumps(manifest).encode()
    target = archive.with_suffix(".altered")
    with tarfile.open(target, "w:gz") as new:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            new.addfile(info, io.BytesIO(content))
    return target


def test_a_bad_archive_changes_nothing(seeded: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "saved.tar.gz"
    create_backup(seeded, archive)
    before = titles(seeded)
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"not an archive")
    cut = tmp_path / "cut"
    cut.write_bytes(archive.read_bytes()[:-2000])
    empty = tmp_path / "empty"
    with tarfile.open(empty, "w:gz"):
        pass
    swapped = altered(archive, database={"name": "x", "bytes": 10, "sha256": "0" * 64})
    for path in (garbage, cut, empty, swapped, altered(archive, format="x"), tmp_path / "missing"):
        with pytest.raises(BackupError, match=r"damaged|no file"):
            restore_backup(seeded, path, overwrite=True)
    with pytest.raises(BackupError, match="newer version"):
        restore_backup(seeded, altered(archive, format=99), overwrite=True)
    monkeypatch.setattr(backup_module, "known_revisions", lambda: frozenset({"0000"}))
    with pytest.raises(BackupError, match="newer version"):
        restore_backup(seeded, archive, overwrite=True)
    assert titles(seeded) == before
    left = {path.name for path in seeded.data_dir.iterdir()} - {"liveaudiocast.db-wal", "liveaudiocast.db-shm"}
    assert left == {"liveaudiocast.db", LOCK_FILE, "secrets.json", "recordings"}


def test_nothing_is_restored_while_a_server_holds_the_data(seeded: Settings, tmp_path: Path) -> None:
    archive = tmp_path / "saved"
    create_backup(seeded, archive)
    before = titles(seeded)
    with (
        hold_data_dir(seeded.data_dir),
        pytest.raises(BackupError, match=r"in use by another process \(\d+\)\. Stop the server"),
    ):
        restore_backup(seeded, archive, overwrite=True)
    assert titles(seeded) == before
    restore_backup(seeded, archive, overwrite=True)


def test_postgresql_has_its_own_tools(home: Settings, tmp_path: Path) -> None:
    settings = replace(home, database_url="postgresql+psycopg://me@host/name")
    for act in (create_backup, restore_backup):
        with pytest.raises(BackupError, match=r"pg_dump.*secrets\.json.*recordings"):
            act(settings, tmp_path / "saved")


def test_a_backup_of_nothing_is_an_error(home: Settings, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="no database"):
        create_backup(home, tmp_path / "saved")
    home.sqlite_path.write_bytes(b"this is no database at all" * 100)
    with pytest.raises(BackupError):
        create_backup(home, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


# --- doctor -----------------------------------------------------------------------------------------------------------


def of(findings: object, subject: str) -> list[Finding]:
    return [finding for finding in findings if finding.subject == subject]  # type: ignore[attr-defined]


def test_a_fresh_directory_is_well(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment.os, "environ", {"LAC_PORT": "0", "MEDIASOUP_MIN_PORT": "0"})
    assert main.main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "FAIL" not in said
    for subject in ("configuration", "data directory", "database", "clock", "HTTP port", "media port", "announced"):
        assert subject in said


def test_a_wrong_setting_is_a_finding_and_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".env").write_text("LAC_PORT=http\n")
    assert main.main(["doctor"]) == 1
    assert re.search(r"^FAIL +configuration +LAC_PORT: 'http' is not a port", capsys.readouterr().out, re.MULTILINE)


def test_a_port_that_somebody_has_is_named(home: Settings) -> None:
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        port = tcp.getsockname()[1]
        udp.bind(("127.0.0.1", port))
        settings = replace(home, port=port, media_port=port)
        monkey = pytest.MonkeyPatch()
        with monkey.context() as patch:
            patch.setattr(doctor, "TIMEOUT_S", 0.2)
            findings = list(doctor.check_ports(settings))
    assert [finding.verdict for finding in findings] == [Verdict.FAIL] * 3
    assert all("taken by another program" in finding.text and finding.advice for finding in findings)
    assert [finding.text.split()[0] for finding in findings] == [str(port), "UDP", "TCP"]


def test_media_over_udp_alone_is_worth_a_warning(home: Settings) -> None:
    settings = replace(home, port=0, media_port=0, ice_tcp=False)
    findings = of(doctor.check_ports(settings), "media port")
    assert [finding.verdict for finding in findings] == [Verdict.OK, Verdict.WARN]
    assert "LAC_ICE_TCP" in findings[1].text


def test_ports_that_our_own_server_has_are_fine(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_answers_as_us", lambda *_: True)
    monkeypatch.setattr(doctor, "_cannot_bind", lambda *_: "is taken by another program")
    assert {finding.verdict for finding in doctor.check_ports(home)} == {Verdict.OK}


@pytest.mark.parametrize(
    ("host", "public_url", "announced", "verdict"),
    [
        ("127.0.0.1", None, "127.0.0.1", Verdict.OK),
        ("0.0.0.0", None, "127.0.0.1", Verdict.FAIL),  # noqa: S104
        ("0.0.0.0", None, "192.168.1.5", Verdict.OK),  # noqa: S104
        ("127.0.0.1", "https://live.example.org", "127.0.0.1", Verdict.FAIL),
        ("127.0.0.1", "https://live.example.org", "10.0.0.5", Verdict.WARN),
        ("127.0.0.1", "https://studio.lan", "10.0.0.5", Verdict.OK),
        ("127.0.0.1", "https://live.example.org", "93.184.216.34", Verdict.OK),
    ],
)
def test_an_announced_address_has_to_be_reachable(
    home: Settings, host: str, public_url: str | None, announced: str, verdict: Verdict
) -> None:
    settings = replace(home, host=host, public_url=public_url, media_announced_ips=(announced,))
    assert [finding.verdict for finding in doctor.check_announced(settings)] == [verdict]


def test_an_unreadable_database_is_a_finding(home: Settings) -> None:
    home.sqlite_path.write_bytes(b"this is no database at all" * 100)
    (finding,) = doctor.check_database(home)
    assert finding.verdict is Verdict.FAIL
    assert "restore" in finding.advice


def test_a_postgresql_that_is_away_is_a_finding_without_its_password(home: Settings) -> None:
    settings = replace(home, database_url="postgresql+psycopg://me:hidden@127.0.0.1:1/name")
    (finding,) = doctor.check_database(settings)
    assert finding.verdict is Verdict.FAIL
    assert "hidden" not in finding.text + finding.advice


def test_a_current_database_is_fine_on_both_kinds(settings: Settings) -> None:
    findings = list(doctor.check_database(settings))
    assert [finding.verdict for finding in findings] == [Verdict.OK]


def test_rows_from_the_future_show_a_wrong_clock(seeded: Settings) -> None:
    later = (datetime.now(UTC) + timedelta(days=2)).strftime("%Y-%m-%d %H:%M:%S.%f")
    with closing(sqlite3.connect(seeded.sqlite_path)) as connection, connection:
        connection.execute("UPDATE broadcasts SET updated_at = ?", (later,))
    (finding,) = of(doctor.check_database(seeded), "clock")
    assert finding.verdict is Verdict.FAIL


def test_readable_secrets_are_a_finding(home: Settings) -> None:
    (home.data_dir / "secrets.json").chmod(0o644)
    (finding,) = of(doctor.check_data_dir(home), "secrets")
    assert "chmod 600" in finding.advice


def test_plain_http_for_others_is_a_finding(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ConnectionRefusedError("Connection refused")

    monkeypatch.setattr(doctor, "_ask", refuse)
    findings = list(doctor.check_public_url(replace(home, public_url="http://live.example.org")))
    assert [(finding.subject, finding.verdict) for finding in findings] == [
        ("HTTPS", Verdict.FAIL),
        ("public URL", Verdict.WARN),
    ]
    (finding,) = doctor.check_public_url(replace(home, host="192.0.2.1"))
    assert "LAC_PUBLIC_URL" in finding.text


def test_a_public_address_is_judged_by_what_answers_there(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(home, public_url="https://live.example.org")
    now = datetime.now(UTC)

    def verdicts(answer: doctor._Answer) -> list[tuple[str, Verdict]]:
        monkeypatch.setattr(doctor, "_ask", lambda *_: answer)
        return [(finding.subject, finding.verdict) for finding in doctor.check_public_url(settings)]

    year = now + timedelta(days=365)
    assert verdicts(doctor._Answer(True, 200, now, year)) == [("public URL", Verdict.OK)]
    assert verdicts(doctor._Answer(False, 502, now, year)) == [("public URL", Verdict.FAIL)]
    assert ("HTTPS", Verdict.WARN) in verdicts(doctor._Answer(True, 200, now, now + timedelta(days=3)))
    assert ("clock", Verdict.FAIL) in verdicts(doctor._Answer(True, 200, now - timedelta(hours=1), year))


def test_how_many_hours_of_recordings_there_is_room_for(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(doctor.check_recordings(home)) == [], "nobody has recorded anything"
    directory = home.data_dir / "recordings" / "rec-1" / "speakers"
    directory.mkdir(parents=True)
    (directory / "1-ada.ogg").write_bytes(bytes(1024))
    for gigabytes, verdict in ((100, Verdict.OK), (0.5, Verdict.WARN)):
        usage = doctor.shutil.disk_usage(home.data_dir)._replace(free=round(gigabytes * 1024**3))
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _path, usage=usage: usage)
        (finding,) = doctor.check_recordings(home)
        assert finding.verdict is verdict
        assert finding.text.startswith("1 in 0.0 GiB; room for about ")
    (home.data_dir / "recordings").rename(home.data_dir / "elsewhere")
    (home.data_dir / "recordings").write_bytes(b"")
    (finding,) = doctor.check_recordings(home)
    assert finding.verdict is Verdict.FAIL
