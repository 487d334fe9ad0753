"""What a load test is to do, and with whom."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from lac.errors import ConfigError


class Mode(StrEnum):
    WEBRTC = "webrtc"
    HLS = "hls"
    WS = "ws"


class Repair(StrEnum):
    """What a listener does about packets that are missing."""

    #: Asks for them again (RFC 4585), as browsers do.
    NACK = "nack"
    #: Takes redundant copies (RFC 2198) besides.
    RED = "red"


@dataclass(frozen=True, slots=True)
class Plan:
    """Times in seconds. Without a `broadcast_id` shows are started, for which an account is needed; without an account
    a live public show of somebody else's is listened to."""

    url: str
    mode: Mode = Mode.WEBRTC
    #: In all shows together.
    listeners: int = 100
    #: Each with a publisher of its own.
    shows: int = 1
    #: Over how long the listeners come.
    ramp_s: float = 5.0
    #: How long all of them stay.
    duration_s: float = 15.0
    chatters: int = 0
    #: Chat messages a second of all chatters together.
    chat_per_s: float = 5.0
    broadcast_id: str | None = None
    token: str | None = None
    email: str | None = None
    password: str | None = None
    #: "opus" or "opus3".
    variant: str = "opus"
    #: None: what is missing stays missing.
    repair: Repair | None = None
    #: The share of what comes to a listener that it loses, and the share of the listeners to whom that happens.
    lose: float = 0.0
    lossy: float = 1.0
    #: From the last one's coming until it is measured.
    settle_s: float = 0.0
    #: Listeners that are joining at the same time, and how often each asks again when told that it is too much.
    at_once: int = 20
    retries: int = 10
    #: Of other people who speak in the one show, and may.
    speaker_tokens: tuple[str, ...] = ()
    #: What all who speak send, 20 ms each, over and over. Without, packets that mean nothing.
    frames: tuple[bytes, ...] = ()

    @property
    def publishes(self) -> bool:
        """Whether we send the audio ourselves, and can thus say how late it arrives."""
        return self.token is not None or self.email is not None

    def is_lossy(self, number: int) -> bool:
        """Whether the listener of this number loses packets: as many as are to, evenly among the others."""
        return self.lose > 0 and int((number + 1) * self.lossy) > int(number * self.lossy)


def check_target(url: str, *, own_server: bool) -> None:
    """Raise `ConfigError` for a server on another machine that the caller has not said is theirs."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"--url {url}: not an address. Example: http://127.0.0.1:8000")
    if own_server:
        return
    try:
        addresses = {str(info[4][0]) for info in socket.getaddrinfo(parts.hostname, parts.port or 80)}
    except OSError as error:
        raise ConfigError(f"--url {url}: {parts.hostname} cannot be found ({error.strerror}).") from None
    if not all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses):
        raise ConfigError(
            f"{parts.hostname} is another machine. A load test brings a server to its limits: add "
            "--yes-i-run-this-server if it is yours."
        )
