"""FFmpeg's WHIP muxer, as encoders use it: SHA-1 SRTP, no audio level, and DTLS in either role."""

from __future__ import annotations

import datetime
import fractions
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lac_media.rooms.room import SPEAKER_STOPPED_S
from tests.e2e.aiortc_clients import listening
from tests.e2e.asyncio_thread import AsyncioThread
from tests.e2e.room_socket import RoomSocket, room_socket
from tests.e2e.server import LacServer
from tests.e2e.tone import RATE_HZ, tone

pytestmark = pytest.mark.e2e

FRAME_SAMPLES = 960
#: What is sent is a sine of 0.4 on both sides: -11 dBov.
TONE_DBOV = -12


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """P-256: the one that FFmpeg makes for itself is on a curve which OpenSSL refuses ("wrong curve")."""
    folder = tmp_path_factory.mktemp("certificate")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "encoder")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    cert_file, key_file = folder / "p256.crt", folder / "p256.key"
    cert_file.write_bytes(certificate.public_bytes(pem))
    key_file.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return {"cert_file": str(cert_file), "key_file": str(key_file)}


class FfmpegPublisher:
    """Encodes a tone at the pace of the clock in a thread of its own, until told to stop."""

    def __init__(self, url: str, frequency_hz: float, options: dict[str, str]) -> None:
        self._url = url
        self._frequency_hz = frequency_hz
        self._options = options
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="ffmpeg")
        self._thread.start()

    def stop(self) -> None:
        """End the stream as FFmpeg ends it: with a DELETE. Raises what went wrong meanwhile."""
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._publish()
        except Exception as error:
            self._error = error

    def _publish(self) -> None:
        with av.open(self._url, "w", format="whip", options={"handshake_timeout": "5000", **self._options}) as out:
            stream = out.add_stream("libopus", rate=RATE_HZ)
            stream.layout = "stereo"
            stream.bit_rate = 64_000
            started_at, at = time.monotonic(), 0
            while not self._stop.wait(max(0.0, started_at + at / RATE_HZ - time.monotonic())):
                samples = tone(self._frequency_hz, FRAME_SAMPLES / RATE_HZ, start_s=at / RATE_HZ)
                pcm = np.repeat((samples * 32767).astype(np.int16), 2)
                frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), format="s16", layout="stereo")
                frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, at, fractions.Fraction(1, RATE_HZ)
                at += FRAME_SAMPLES
                out.mux(stream.encode(frame))


@contextmanager
def ffmpeg_publishing(url: str, frequency_hz: float, options: dict[str, str]) -> Iterator[FfmpegPublisher]:
    publisher = FfmpegPublisher(url, frequency_hz, options)
    try:
        yield publisher
    finally:
        publisher.stop()


def wait_for_speaking(socket: RoomSocket) -> list[dict[str, object]]:
    """Whom the room is told to be speaking, once somebody is."""
    speaking: list[dict[str, object]] = []
    while not speaking:
        speaking = socket.wait_for("activeSpeakers")["speaking"]
    return speaking


@pytest.mark.parametrize("dtls_role", ["active", "passive"])
def test_ffmpeg_is_heard_and_says_goodbye(
    server: LacServer, aio: AsyncioThread, certificate: dict[str, str], tmp_path: Path, dtls_role: str
) -> None:
    host = server.register("Hanna")
    show = server.start_show(host)
    options = {**certificate, "authorization": show["streamKey"]}
    if dtls_role == "active":
        options["whip_flags"] = "dtls_active"
    with room_socket(server.url) as socket, listening(aio, server, show["id"]) as listener:
        socket.join(show["id"], token=host.token)
        listener.ear.wait_for_silence()
        with ffmpeg_publishing(f"{server.url}/whip/{show['id']}", 440, options):
            listener.ear.wait_for_tone(440)
            # It says nothing of levels: this one is that of what it sends, in steps of 6 dB.
            assert wait_for_speaking(socket) == [{"userId": host.user_id, "level": TONE_DBOV}]
        stopped_at = time.monotonic()
        while socket.wait_for("activeSpeakers")["producers"]:
            pass
        assert time.monotonic() - stopped_at < SPEAKER_STOPPED_S, "its DELETE did not end the session"
        listener.ear.wait_for_silence()
        assert listener.state == "connected"
