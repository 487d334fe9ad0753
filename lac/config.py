"""Settings from the environment: read once, checked once, frozen. A wrong, unknown or half-set variable is a
`ConfigError` that names it, before anything has started.
"""

from __future__ import annotations

import difflib
import ipaddress
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast, overload

from lac import config_values as parse
from lac.config_recordings import RecordingSettings
from lac.config_services import (
    RedisSettings,
    S3Settings,
    SmtpSettings,
    database_url_from_parts,
    redis_settings,
    s3_settings,
    smtp_settings,
)
from lac.config_values import Network
from lac.data_dir import load_or_create_secrets
from lac.errors import ConfigError
from lac.limits import RateLimits
from lac.recordings.podcast_categories import parse_category
from lac_media.load import LoadLimits
from lac_media.streams.hub import StreamLimits

T = TypeVar("T")

LAC_VARIABLES = frozenset(
    {
        "LAC_DATA_DIR",
        "LAC_HOST",
        "LAC_PORT",
        "LAC_PUBLIC_URL",
        "LAC_CORS_ORIGINS",
        "LAC_TRUSTED_PROXIES",
        "LAC_WORKERS",
        "LAC_HLS_OFFLOAD_LISTENERS",
        "LAC_HLS_WINDOW_S",
        "LAC_HLS_KEEP_S",
        "LAC_HLS_CDN_URL",
        "LAC_HLS_PUSH",
        "LAC_HOST_GRACE_S",
        "LAC_OPEN_REGISTRATION",
        "LAC_LIMITS_FACTOR",
        "LAC_METRICS_TOKEN",
        "LAC_MAX_LISTENERS",
        "LAC_OVERLOAD_DELAY_MS",
        "LAC_OVERLOAD_LAG_MS",
        "LAC_ICE_TCP",
        "LAC_MAX_STREAMS",
        "LAC_MAX_STREAMS_PER_ADDRESS",
        "LAC_RECORDING_RETENTION_DAYS",
        "LAC_RECORDING_SPOOL_MB",
        "LAC_EXPORT_CACHE_MB",
        "LAC_EXPORT_JOBS",
        "LAC_PODCASTS",
        "LAC_PODCAST_CATEGORY",
        "LAC_PODCAST_EXPLICIT",
        "LAC_PODCAST_IMAGE_URL",
        "LAC_PODCAST_LANGUAGE",
    }
)
#: What each of them sets, this version does not have. They are accepted, so that a complete `.env` works, and
#: collected in `Settings.without_effect`, so that the start can say so.
LATER_VARIABLES = (
    "REDIS_HOST",
    "REDIS_URL",
    "FCM_PROJECT_ID",
    "APNS_KEY_ID",
)
#: A proxy on this machine; whoever else can connect from here needs no disguise.
LOOPBACK_NETWORKS: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    data_dir: Path
    jwt_secret: str = field(repr=False)
    jwt_refresh_secret: str = field(repr=False)
    host: str = "127.0.0.1"
    port: int = 8000
    #: Without a trailing slash. None: take it from the request.
    public_url: str | None = None
    #: An SQLAlchemy URL, with its password. None: SQLite in `data_dir`.
    database_url: str | None = field(default=None, repr=False)
    media_listen_ip: str = "127.0.0.1"
    #: The addresses that clients are told to send media to. Never empty, never a wildcard.
    media_announced_ips: tuple[str, ...] = ("127.0.0.1",)
    media_port: int = 40_000
    #: Whether media may come over TCP, too, on the same port number.
    ice_tcp: bool = True
    #: Origins of other sites whose pages may call the API; ("*",) is any.
    cors_origins: tuple[str, ...] = ()
    #: The proxies whose X-Forwarded-* headers may be believed.
    trusted_proxies: tuple[Network, ...] = LOOPBACK_NETWORKS
    workers: int = 1
    hls_offload_listeners: int = 100
    #: How far back HLS listeners can go, and how long that stays after the end of a show.
    hls_window_s: float = 1800.0
    hls_keep_s: float = 3600.0
    #: Where players find public HLS instead of here, without a trailing slash: a CDN.
    hls_cdn_url: str | None = None
    #: The CDN takes it from the bucket, and not from us: `s3` is set, then.
    hls_push: bool = False
    host_grace_s: float = 60.0
    open_registration: bool = True
    rate_limits: RateLimits = field(default_factory=RateLimits)
    #: What /metrics asks for. None: it answers this machine only.
    metrics_token: str | None = field(default=None, repr=False)
    redis: RedisSettings | None = None
    s3: S3Settings | None = None
    smtp: SmtpSettings | None = None
    load_limits: LoadLimits = field(default_factory=LoadLimits)
    stream_limits: StreamLimits = field(default_factory=StreamLimits)
    recordings: RecordingSettings = field(default_factory=RecordingSettings)
    #: Variables that are set and do nothing in this version.
    without_effect: tuple[str, ...] = ()

    @property
    def sqlite_path(self) -> Path:
        """Where the embedded database is when `database_url` is None."""
        return self.data_dir / "liveaudiocast.db"


def load_settings(environ: Mapping[str, str], **overrides: object) -> Settings:
    """Settings from `environ`. `overrides` are fields of `Settings` (from the command line) that win unless None.

    Generates the secrets into the data directory when JWT_SECRET and JWT_REFRESH_SECRET are not set.
    Raises `ConfigError`, one line, naming the variable.
    """
    env = {name: value.strip() for name, value in environ.items() if value.strip()}
    _refuse_unknown(env)
    read = _Reader(env, {name: value for name, value in overrides.items() if value is not None})

    host = read("host", "LAC_HOST", str, "127.0.0.1")
    listen_ip = read("media_listen_ip", "MEDIASOUP_LISTEN_IP", parse.ip, None) or _media_ip_for(host)
    media_port = read("media_port", "MEDIASOUP_MIN_PORT", parse.port, 40_000)
    max_port = read("", "MEDIASOUP_MAX_PORT", parse.port, None)
    if max_port is not None and max_port < media_port:
        raise ConfigError(f"MEDIASOUP_MAX_PORT={max_port} is below MEDIASOUP_MIN_PORT={media_port}.")
    workers = read("workers", "LAC_WORKERS", parse.positive, 1)
    if workers > 1:
        raise ConfigError(f"LAC_WORKERS={workers}: this version runs as one process. Unset it or set it to 1.")
    data_dir = read("data_dir", "LAC_DATA_DIR", Path, Path("data"))
    jwt_secret, jwt_refresh_secret = _secrets(read, data_dir)
    s3 = s3_settings(env)
    cdn_url = read("hls_cdn_url", "LAC_HLS_CDN_URL", parse.public_url, None)
    push = read("hls_push", "LAC_HLS_PUSH", parse.hls_push, default=False)
    if push and s3 is None:
        raise ConfigError("LAC_HLS_PUSH=s3 is set, but S3_BUCKET_NAME is not. Set both, or neither.")
    if push and cdn_url is None:
        raise ConfigError(
            "LAC_HLS_PUSH=s3 is set, but LAC_HLS_CDN_URL, where players find the bucket, is not. Set both, or neither."
        )
    announced = read("media_announced_ips", "MEDIASOUP_ANNOUNCED_IP", parse.ip_list, None)
    return Settings(
        data_dir=data_dir,
        jwt_secret=jwt_secret,
        jwt_refresh_secret=jwt_refresh_secret,
        host=host,
        port=read("port", "LAC_PORT", parse.port, 8000),
        public_url=read("public_url", "LAC_PUBLIC_URL", parse.public_url, None),
        database_url=database_url_from_parts(env) or read("database_url", "DATABASE_URL", parse.database_url, None),
        media_listen_ip=listen_ip,
        media_announced_ips=announced or _own_addresses(listen_ip),
        media_port=media_port,
        ice_tcp=read("ice_tcp", "LAC_ICE_TCP", parse.boolean, default=True),
        cors_origins=read("cors_origins", "LAC_CORS_ORIGINS", parse.origins, ()),
        trusted_proxies=read("trusted_proxies", "LAC_TRUSTED_PROXIES", parse.proxies, LOOPBACK_NETWORKS),
        workers=workers,
        hls_offload_listeners=read("hls_offload_listeners", "LAC_HLS_OFFLOAD_LISTENERS", parse.positive, 100),
        hls_window_s=read("hls_window_s", "LAC_HLS_WINDOW_S", parse.hls_window, 1800.0),
        hls_keep_s=read("hls_keep_s", "LAC_HLS_KEEP_S", parse.seconds, 3600.0),
        hls_cdn_url=cdn_url,
        hls_push=push,
        host_grace_s=read("host_grace_s", "LAC_HOST_GRACE_S", parse.seconds, 60.0),
        open_registration=read("open_registration", "LAC_OPEN_REGISTRATION", parse.boolean, default=True),
        rate_limits=RateLimits().scaled(read("", "LAC_LIMITS_FACTOR", parse.factor, 1.0)),
        metrics_token=read("metrics_token", "LAC_METRICS_TOKEN", parse.metrics_token, None),
        load_limits=LoadLimits(
            forwarding_delay_s=read("", "LAC_OVERLOAD_DELAY_MS", parse.milliseconds, LoadLimits().forwarding_delay_s),
            loop_lag_s=read("", "LAC_OVERLOAD_LAG_MS", parse.milliseconds, LoadLimits().loop_lag_s),
            listeners=read("", "LAC_MAX_LISTENERS", parse.positive, None),
        ),
        stream_limits=StreamLimits(
            listeners=read("", "LAC_MAX_STREAMS", parse.positive, StreamLimits().listeners),
            per_address=read("", "LAC_MAX_STREAMS_PER_ADDRESS", parse.positive, StreamLimits().per_address),
        ),
        recordings=_recordings(read),
        redis=redis_settings(env),
        s3=s3,
        smtp=smtp_settings(env),
        without_effect=tuple(name for name in LATER_VARIABLES if name in env),
    )


class _Reader:
    """One value at a time: the override, else the variable, else the default."""

    def __init__(self, env: Mapping[str, str], overrides: Mapping[str, object]) -> None:
        self._env = env
        self._overrides = overrides

    @overload
    def __call__(self, field_name: str, variable: str, parse: Callable[[str], T], default: None) -> T | None: ...
    @overload
    def __call__(self, field_name: str, variable: str, parse: Callable[[str], T], default: T) -> T: ...
    def __call__(self, field_name: str, variable: str, parse: Callable[[str], T], default: T | None) -> T | None:
        if field_name in self._overrides:
            return cast("T", self._overrides[field_name])
        raw = self._env.get(variable)
        if raw is None:
            return default
        try:
            return parse(raw)
        except ValueError as error:
            raise ConfigError(f"{variable}: {error}") from None


def _recordings(read: _Reader) -> RecordingSettings:
    defaults = RecordingSettings()
    return RecordingSettings(
        retention=read("", "LAC_RECORDING_RETENTION_DAYS", parse.days, defaults.retention),
        spool_bytes=read("", "LAC_RECORDING_SPOOL_MB", parse.megabytes, defaults.spool_bytes),
        export_cache_bytes=read("", "LAC_EXPORT_CACHE_MB", parse.megabytes, defaults.export_cache_bytes),
        export_jobs=read("", "LAC_EXPORT_JOBS", parse.positive, defaults.export_jobs),
        podcasts=read("", "LAC_PODCASTS", parse.boolean, defaults.podcasts),
        podcast_language=read("", "LAC_PODCAST_LANGUAGE", parse.language, defaults.podcast_language),
        podcast_category=read("", "LAC_PODCAST_CATEGORY", parse_category, defaults.podcast_category),
        podcast_explicit=read("", "LAC_PODCAST_EXPLICIT", parse.boolean, defaults.podcast_explicit),
        podcast_image_url=read("", "LAC_PODCAST_IMAGE_URL", parse.picture, defaults.podcast_image_url),
    )


def _refuse_unknown(env: Mapping[str, str]) -> None:
    for name in sorted(env):
        if name.startswith("LAC_") and name not in LAC_VARIABLES:
            close = difflib.get_close_matches(name, LAC_VARIABLES, n=1)
            hint = f"Did you mean {close[0]}?" if close else f"Known: {', '.join(sorted(LAC_VARIABLES))}."
            raise ConfigError(f"{name} is not a setting. {hint}")


def _secrets(read: _Reader, data_dir: Path) -> tuple[str, str]:
    jwt_secret = read("jwt_secret", "JWT_SECRET", parse.secret, None)
    jwt_refresh_secret = read("jwt_refresh_secret", "JWT_REFRESH_SECRET", parse.secret, None)
    if jwt_secret is None and jwt_refresh_secret is None:
        return load_or_create_secrets(data_dir)
    if jwt_secret is None or jwt_refresh_secret is None:
        missing, present = ("JWT_SECRET", "JWT_REFRESH_SECRET")[:: 1 if jwt_secret is None else -1]
        raise ConfigError(f"{missing} is not set, but {present} is. Set both, or neither to have them made.")
    return jwt_secret, jwt_refresh_secret


def _media_ip_for(host: str) -> str:
    """Media listens where HTTP listens."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        return parse.ip(host)
    except ValueError:
        raise ConfigError(
            f"LAC_HOST={host} is a name, so the address for media is not clear. Set MEDIASOUP_LISTEN_IP to an address."
        ) from None


def _own_addresses(listen_ip: str) -> tuple[str, ...]:
    """What to announce when nobody said: the address itself or, for a wildcard, where the default route leaves from."""
    address = ipaddress.ip_address(listen_ip)
    if not address.is_unspecified:
        return (listen_ip,)
    found = []
    if address.version == 6:
        found.append(source_address(socket.AF_INET6, "2001:db8::1"))
    found.append(source_address(socket.AF_INET, "192.0.2.1"))
    announced = tuple(ip for ip in found if ip is not None)
    if not announced:
        raise ConfigError(
            f"MEDIASOUP_ANNOUNCED_IP is not set, media listens on {listen_ip} and this machine has no default route to "
            "guess from. Set MEDIASOUP_ANNOUNCED_IP to the address at which clients reach this machine."
        )
    return announced


def source_address(family: socket.AddressFamily, towards: str) -> str | None:
    """The local address that packets to `towards` would leave from; None without a route. Sends nothing."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((towards, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return None
