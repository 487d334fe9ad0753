"""Radios and encoders of other people: mpv and ffmpeg listen, ffmpeg and curl are the host."""

from __future__ import annotations

import base64
import re
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import pytest

from lac_media.container.ogg_opus import OggOpusReader
from tests.e2e.aiortc_clients import listening
from tests.e2e.asyncio_thread import AsyncioThread
from tests.e2e.players import (
    MP3,
    OGG_OPUS,
    OGG_VORBIS,
    ffmpeg_playing,
    ffmpeg_sending,
    mpv_playing,
    playing,
    program,
    sending,
    tone_file,
)
from tests.e2e.server import LacServer, running_server
from tests.e2e.tone import RATE_HZ

pytestmark = pytest.mark.e2e


def icecast(server: LacServer, show: dict[str, Any]) -> str:
    return server.url.replace("http://", f"icecast://source:{show['streamKey']}@") + f"/source/{show['id']}"


def stream_of(server: LacServer, show: dict[str, Any], ending: str) -> str:
    return f"{server.url}/listen/{show['id']}.{ending}"


def wait_until_live(server: LacServer, show: dict[str, Any]) -> None:
    deadline = time.monotonic() + 15
    while server.call("GET", f"/api/broadcasts/{show['id']}")["status"] != "live":
        assert time.monotonic() < deadline, "the source client did not begin the show"
        time.sleep(0.1)


@pytest.mark.parametrize("encoder", [OGG_OPUS, MP3], ids=["opus", "mp3"])
def test_ffmpegs_icecast_output_is_the_host_and_everybody_hears_it(
    server: LacServer, aio: AsyncioThread, encoder: tuple[str, ...]
) -> None:
    show = server.create_show(server.register("Hanna"))
    with ffmpeg_sending(icecast(server, show), 440, *encoder), ExitStack() as stack:
        wait_until_live(server, show)
        listener = stack.enter_context(listening(aio, server, show["id"]))
        commands = [command(stream_of(server, show, ending)) for ending in ("ogg", "mp3", "aac") for command in PLAYERS]
        players = [stack.enter_context(playing(command)) for command in commands]
        listener.ear.wait_for_tone(440)
        for player in players:
            player.ear.wait_for_tone(440)
        assert server.call("GET", f"/api/broadcasts/{show['id']}")["listenerCount"] == 1 + len(players)


PLAYERS = (ffmpeg_playing, mpv_playing)


def test_a_stream_survives_changes_of_the_host_and_ends_with_the_show(server: LacServer) -> None:
    host = server.register("Hanna")
    show = server.start_show(host)
    with playing(ffmpeg_playing(stream_of(server, show, "mp3"))) as player:
        player.ear.wait_for_silence()
        with ffmpeg_sending(icecast(server, show), 440, *MP3):
            player.ear.wait_for_tone(440)
        player.ear.wait_for_silence()
        with ffmpeg_sending(icecast(server, show), 660, "-legacy_icecast", "1", *OGG_VORBIS):
            player.ear.wait_for_tone(660)
            server.call("POST", f"/api/broadcasts/{show['id']}/end", token=host.token)
            player.ear.wait_for_end()
        assert player.process.wait(10) == 0


EZSTREAM = """<ezstream>
<servers><server><hostname>127.0.0.1</hostname><port>{port}</port><user>anybody</user><password>{key}</password>
<tls>{tls}</tls></server></servers>
<streams><stream><mountpoint>/source/{id}</mountpoint><format>MP3</format></stream></streams>
<intakes><intake><filename>{file}</filename></intake></intakes>
</ezstream>"""


@pytest.mark.parametrize("tls", ["None", "May"])
def test_ezstream_is_the_host(server: LacServer, tmp_path: Path, tls: str) -> None:
    """With libshout, which most source clients are made with. It asks without a key first, or for TLS before that, and
    says by another request what is playing."""
    show = server.create_show(server.register("Hanna"))
    title = ("-metadata", "title=A tune", "-metadata", "artist=Eve")
    file = tone_file(tmp_path / "tone.mp3", 440, "-c:a", "libmp3lame", *title)
    settings = tmp_path / "ezstream.xml"
    port = server.url.rpartition(":")[2]
    settings.write_text(EZSTREAM.format(port=port, key=show["streamKey"], tls=tls, id=show["id"], file=file))
    settings.chmod(0o600)
    with sending([program("ezstream"), "-c", str(settings)]):
        wait_until_live(server, show)
        with playing(ffmpeg_playing(stream_of(server, show, "aac"))) as player:
            player.ear.wait_for_tone(440)
        assert title_in(server, show) == "Eve - A tune"


def title_in(server: LacServer, show: dict[str, Any]) -> str:
    """The first one that a radio is told."""
    with server.http.stream("GET", stream_of(server, show, "mp3"), headers={"Icy-MetaData": "1"}) as response:
        every, data = int(response.headers["icy-metaint"]), b""
        for piece in response.iter_raw():
            data += piece
            if len(data) > every + 16 * 255:
                break
    found = re.match(rb"StreamTitle='(.*?)';", data[every + 1 :])
    assert found is not None
    return found[1].decode()


def test_oggfwd_sends_opus(server: LacServer, tmp_path: Path) -> None:
    show = server.create_show(server.register("Hanna"))
    file = tone_file(tmp_path / "tone.ogg", 440, "-c:a", "libopus")
    port = server.url.rpartition(":")[2]
    with sending([program("oggfwd"), "127.0.0.1", port, show["streamKey"], f"/source/{show['id']}"], file=file):
        wait_until_live(server, show)
        with playing(ffmpeg_playing(stream_of(server, show, "ogg"))) as player:
            player.ear.wait_for_tone(440)


def test_curl_sends_a_file(server: LacServer, tmp_path: Path) -> None:
    """Faster than it plays: it is slowed down, and still heard at the pace of the clock."""
    show = server.create_show(server.register("Hanna"))
    file = tone_file(tmp_path / "tone.ogg", 440, "-c:a", "libopus")
    url = f"{server.url}/source/{show['id']}"
    sign_in = ["--user", f"source:{show['streamKey']}", "--header", "Content-Type: audio/ogg"]
    sending = subprocess.Popen([program("curl"), "--silent", "--show-error", *sign_in, "--upload-file", str(file), url])
    try:
        wait_until_live(server, show)
        with playing(ffmpeg_playing(stream_of(server, show, "ogg"))) as player:
            player.ear.wait_for_tone(440)
            heard, at = player.ear.samples, time.monotonic()
            time.sleep(1.5)
            assert (player.ear.samples - heard) / RATE_HZ < time.monotonic() - at + 4.0  # the burst, and a margin
    finally:
        sending.kill()
        sending.wait(10)
    refused = subprocess.run(
        [
            program("curl"),
            "--silent",
            "--user",
            "source:wrong",
            "--upload-file",
            str(file),
            "--write-out",
            "%{http_code}",
            url,
        ],
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert refused.stdout.endswith(b"401")


def test_the_server_stops_in_order_while_radios_listen_and_an_encoder_sends(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        show = server.create_show(server.register("Hanna"))
        with ffmpeg_sending(icecast(server, show), 440, *OGG_OPUS) as encoder:
            wait_until_live(server, show)
            url = stream_of(server, show, "ogg")
            with subprocess.Popen([program("curl"), "--silent", "--no-buffer", url], stdout=subprocess.PIPE) as radio:
                assert radio.stdout is not None
                read_packets(radio.stdout, 20)
                assert server.stop() == 0
                radio.communicate(timeout=30)
            assert radio.returncode == 0  # 56 after the reset that ends the grace period
            encoder.wait(10)


def read_packets(stream: IO[bytes], count: int) -> None:
    """From what a client of the Ogg stream gets."""
    reader, packets = OggOpusReader(), 0
    while packets < count:
        data = stream.read(500)
        assert data, "the stream ended"
        packets += len(list(reader.receive(data)))


def test_an_old_source_client_on_a_bare_socket(server: LacServer, tmp_path: Path) -> None:
    """SOURCE, HTTP/1.0, no length: as libshout has done it for twenty years."""
    show = server.create_show(server.register("Hanna"))
    file = tmp_path / "tone.mp3"
    tone = ["-f", "lavfi", "-i", "sine=440:sample_rate=44100:duration=20", "-c:a", "libmp3lame", "-b:a", "128k"]
    subprocess.run([program("ffmpeg"), "-v", "error", *tone, str(file)], check=True)
    password = base64.b64encode(f"source:{show['streamKey']}".encode()).decode()
    head = f"SOURCE /source/{show['id']} HTTP/1.0\r\nAuthorization: Basic {password}\r\nContent-Type: audio/mpeg\r\n"
    head += "ice-name: A show\r\nice-public: 0\r\nUser-Agent: libshout/2.0\r\n\r\n"
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(head.encode())
        assert sock.recv(1000).startswith(b"HTTP/1.0 200 OK")
        data = file.read_bytes()
        with playing(ffmpeg_playing(stream_of(server, show, "aac"))) as player:
            sock.settimeout(10)
            sock.sendall(data[:200_000])
            player.ear.wait_for_tone(440)
