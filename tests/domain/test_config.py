"""Settings: defaults that need nothing, and one clear line for what cannot work."""

from __future__ import annotations

import ipaddress
import json
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from lac import config
from lac.config import Settings, load_settings
from lac.config_recordings import RecordingSettings
from lac.config_values import MIN_SECRET_BYTES
from lac.errors import ConfigError
from lac.recordings.podcast_categories import CATEGORIES, parse_category
from lac_media.load import LoadLimits
from lac_media.streams.hub import StreamLimits
from tests.domain.conftest import SECRETS

WILDCARD = "0.0.0.0"  # noqa: S104  nothing is bound here


def load(environ: dict[str, str] | None = None, **overrides: object) -> Settings:
    return load_settings({**SECRETS, **(environ or {})}, **overrides)


def test_an_empty_environment_gives_the_documented_defaults(tmp_path: Path) -> None:
    settings = load_settings({"LAC_DATA_DIR": str(tmp_path)})
    assert (settings.host, settings.port, settings.media_port) == ("127.0.0.1", 8000, 40_000)
    assert (settings.media_listen_ip, settings.media_announced_ips) == ("127.0.0.1", ("127.0.0.1",))
    assert settings.database_url is None
    assert settings.open_registration
    assert settings.host_grace_s == 60
    assert settings.hls_offload_listeners == 100
    assert settings.load_limits == LoadLimits(forwarding_delay_s=0.05, loop_lag_s=0.05, listeners=None)
    assert settings.stream_limits == StreamLimits(listeners=1000, per_address=50)
    assert settings.without_effect == ()


def test_how_many_may_have_plain_streams_is_set() -> None:
    settings = load({"LAC_MAX_STREAMS": "10", "LAC_MAX_STREAMS_PER_ADDRESS": "3"})
    assert settings.stream_limits == StreamLimits(listeners=10, per_address=3)
    for name in ("LAC_MAX_STREAMS", "LAC_MAX_STREAMS_PER_ADDRESS"):
        with pytest.raises(ConfigError, match=name):
            load({name: "0"})


def test_what_the_server_bears_is_set_in_milliseconds_and_listeners() -> None:
    settings = load({"LAC_OVERLOAD_DELAY_MS": "12.5", "LAC_OVERLOAD_LAG_MS": "80", "LAC_MAX_LISTENERS": "500"})
    assert settings.load_limits == LoadLimits(forwarding_delay_s=0.0125, loop_lag_s=0.08, listeners=500)
    for name in ("LAC_OVERLOAD_DELAY_MS", "LAC_OVERLOAD_LAG_MS", "LAC_MAX_LISTENERS"):
        for wrong in ("0", "-1", "nan", "many"):
            with pytest.raises(ConfigError, match=name):
                load({name: wrong})


def test_hls_through_a_cdn_is_set_as_a_whole() -> None:
    bucket = {"S3_BUCKET_NAME": "shows"}
    cdn = {"LAC_HLS_CDN_URL": "https://cdn.example/radio/"}
    assert load().hls_cdn_url is None
    assert load(cdn).hls_cdn_url == "https://cdn.example/radio"
    assert not load({**cdn, **bucket}).hls_push, "a bucket for recordings is not one for everybody"
    assert load({**cdn, **bucket, "LAC_HLS_PUSH": "s3"}).hls_push
    for half, missing in (
        ({**cdn, "LAC_HLS_PUSH": "s3"}, "S3_BUCKET_NAME"),
        ({**bucket, "LAC_HLS_PUSH": "s3"}, "LAC_HLS_CDN_URL"),
    ):
        with pytest.raises(ConfigError, match=f"LAC_HLS_PUSH=s3 is set, but {missing}"):
            load(half)
    for wrong in ({"LAC_HLS_CDN_URL": "cdn.example"}, {"LAC_HLS_CDN_URL": "https://c/?q"}, {"LAC_HLS_PUSH": "ftp"}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            load({**bucket, **wrong})


def test_an_empty_variable_is_not_set() -> None:
    assert load({"LAC_PORT": " ", "DB_HOST": ""}).port == 8000


def test_the_command_line_wins_unless_it_is_silent() -> None:
    settings = load({"LAC_PORT": "9000", "LAC_HOST": "127.0.0.2"}, port=0, host=None)
    assert (settings.port, settings.host) == (0, "127.0.0.2")


def test_secrets_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    first = load_settings({}, data_dir=tmp_path / "data")
    second = load_settings({}, data_dir=tmp_path / "data")
    assert first.jwt_secret == second.jwt_secret
    assert first.jwt_secret != first.jwt_refresh_secret
    assert len(first.jwt_secret) >= MIN_SECRET_BYTES
    file = tmp_path / "data" / "secrets.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["secrets.json"]


def test_what_becomes_of_recordings() -> None:
    settings = load({"LAC_RECORDING_RETENTION_DAYS": "30", "LAC_RECORDING_SPOOL_MB": "2", "LAC_PODCASTS": "no"})
    assert settings.recordings == RecordingSettings(timedelta(days=30), 2 << 20, podcasts=False)
    assert load({}).recordings.retention is None


def test_what_podcasts_are() -> None:
    category = {"LAC_PODCAST_LANGUAGE": "pt-BR", "LAC_PODCAST_CATEGORY": "Music  > Music History"}
    found = load({**category, "LAC_PODCAST_EXPLICIT": "yes", "LAC_PODCAST_IMAGE_URL": "https://a.org/c.JPG"}).recordings
    assert (found.podcast_language, found.podcast_category) == ("pt-BR", ("Music", "Music History"))
    assert (found.podcast_explicit, found.podcast_image_url) == (True, "https://a.org/c.JPG")
    for name, below in CATEGORIES.items():
        assert parse_category(name) == (name,)
        assert all(parse_category(f"{name}>{one}") == (name, one) for one in below)


def test_set_secrets_touch_no_file(tmp_path: Path) -> None:
    load({}, data_dir=tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"jwtSecret": "x" * 40})])
def test_a_damaged_secrets_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "secrets.json").write_text(content)
    with pytest.raises(ConfigError, match=r"secrets\.json is damaged"):
        load_settings({}, data_dir=tmp_path)


def test_a_data_directory_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"^LAC_DATA_DIR: .* cannot be written to") as caught:
        load_settings({}, data_dir=tmp_path / "file" / "data")
    assert "\n" not in caught.value.detail


def test_secrets_do_not_show_in_the_settings() -> None:
    shown = repr(load({"DATABASE_URL": "postgresql://me:hidden@host/name"}))
    assert "hidden" not in shown
    assert SECRETS["JWT_SECRET"] not in shown
    assert SECRETS["JWT_REFRESH_SECRET"] not in shown


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"LAC_PROT": "1"}, "LAC_PROT is not a setting. Did you mean LAC_PORT?"),
        ({"LAC_XYZZY": "1"}, "LAC_XYZZY is not a setting. Known: "),
        ({"LAC_PORT": "http"}, "LAC_PORT: 'http' is not a port number"),
        ({"LAC_PORT": "65536"}, "LAC_PORT: '65536' is not a port number"),
        ({"LAC_PORT": "-1"}, "LAC_PORT: '-1' is not a port number"),
        ({"LAC_OPEN_REGISTRATION": "maybe"}, "LAC_OPEN_REGISTRATION: 'maybe' is neither true nor false"),
        ({"LAC_HOST_GRACE_S": "nan"}, "LAC_HOST_GRACE_S: 'nan' is not a number of seconds"),
        ({"LAC_WORKERS": "0"}, "LAC_WORKERS: '0' is not a whole number above zero"),
        ({"LAC_WORKERS": "4"}, "LAC_WORKERS=4: this version runs as one process"),
        ({"LAC_PUBLIC_URL": "audio.example.org"}, "LAC_PUBLIC_URL: 'audio.example.org' is not an address"),
        ({"LAC_CORS_ORIGINS": "https://a.org/path"}, "LAC_CORS_ORIGINS: 'https://a.org/path' is not an origin"),
        ({"LAC_LIMITS_FACTOR": "0"}, "LAC_LIMITS_FACTOR: '0' is not a number from 0.01"),
        ({"LAC_RECORDING_RETENTION_DAYS": "0"}, "LAC_RECORDING_RETENTION_DAYS: '0' is not a whole number above zero"),
        ({"LAC_RECORDING_RETENTION_DAYS": "99999"}, "LAC_RECORDING_RETENTION_DAYS: '99999' is not a number of days"),
        ({"LAC_EXPORT_CACHE_MB": "1.5"}, "LAC_EXPORT_CACHE_MB: '1.5' is not a whole number above zero"),
        ({"LAC_PODCAST_LANGUAGE": "English"}, "LAC_PODCAST_LANGUAGE: 'English' is not a language tag"),
        ({"LAC_PODCAST_CATEGORY": "Talk"}, "LAC_PODCAST_CATEGORY: 'Talk' is not a category of podcasts. One of: Arts"),
        ({"LAC_PODCAST_CATEGORY": "Music > Jazz"}, "LAC_PODCAST_CATEGORY: 'Music > Jazz' is not a category"),
        ({"LAC_PODCAST_IMAGE_URL": "cover.gif"}, "LAC_PODCAST_IMAGE_URL: 'cover.gif' is not the address of a PNG"),
        ({"LAC_METRICS_TOKEN": "short"}, "LAC_METRICS_TOKEN: shorter than 16 characters"),
        ({"LAC_TRUSTED_PROXIES": "proxy"}, "LAC_TRUSTED_PROXIES: 'proxy' is not an address or a network"),
        ({"LAC_HOST": "audio.internal"}, "LAC_HOST=audio.internal is a name"),
        ({"MEDIASOUP_LISTEN_IP": "eth0"}, "MEDIASOUP_LISTEN_IP: 'eth0' is not an IP address"),
        ({"MEDIASOUP_ANNOUNCED_IP": "your-public-ip"}, "MEDIASOUP_ANNOUNCED_IP: 'your-public-ip' is not an IP"),
        ({"MEDIASOUP_ANNOUNCED_IP": WILDCARD}, "MEDIASOUP_ANNOUNCED_IP: 0.0.0.0 is not an address that clients"),
        ({"MEDIASOUP_MIN_PORT": "40000", "MEDIASOUP_MAX_PORT": "39999"}, "MEDIASOUP_MAX_PORT=39999 is below"),
        ({"DB_HOST": "db"}, "DB_NAME is not set, but DB_HOST is"),
        ({"DB_HOST": "db", "DB_NAME": "lac"}, "DB_USER is not set, but DB_HOST is"),
        ({"DB_PASSWORD": "x"}, "DB_HOST is not set, but DB_PASSWORD is"),
        ({"DB_HOST": "db", "DB_NAME": "lac", "DB_USER": "u", "DB_PORT": "pg"}, "DB_PORT: 'pg' is not a port number"),
        ({"DB_HOST": "db", "DATABASE_URL": "postgresql://h/n"}, "DB_HOST and DATABASE_URL are both set"),
        ({"DATABASE_URL": "mysql://h/n"}, "DATABASE_URL: mysql is not supported"),
        ({"DATABASE_URL": "not a url"}, "DATABASE_URL: not a database URL"),
        ({"DATABASE_URL": "postgresql://h"}, "DATABASE_URL: the database's name is missing"),
        ({"DATABASE_URL": "sqlite://"}, "DATABASE_URL: SQLite needs a file"),
        ({"JWT_SECRET": ""}, "JWT_SECRET is not set, but JWT_REFRESH_SECRET is"),
        ({"JWT_REFRESH_SECRET": ""}, "JWT_REFRESH_SECRET is not set, but JWT_SECRET is"),
        ({"JWT_SECRET": "changeme"}, "JWT_SECRET: shorter than 32 bytes"),
    ],
)
def test_what_cannot_work_is_named_in_one_line(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ)
    assert caught.value.detail.startswith(message)
    assert "\n" not in caught.value.detail


def test_a_secret_never_shows_in_an_error() -> None:
    with pytest.raises(ConfigError) as caught:
        load({"JWT_SECRET": "hunter2", "JWT_REFRESH_SECRET": "x" * 40})
    assert "hunter2" not in caught.value.detail


def test_the_parts_of_a_database_address_make_a_url_even_with_odd_passwords() -> None:
    parts = {"DB_HOST": "db", "DB_NAME": "lac", "DB_USER": "me", "DB_PASSWORD": "p@ss/w:rd%"}
    assert load(parts).database_url == "postgresql+psycopg://me:p%40ss%2Fw%3Ard%25@db:5432/lac"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_spelling_of_postgresql_uses_our_driver(scheme: str) -> None:
    url = load({"DATABASE_URL": f"{scheme}://me:pw@db:5433/lac?sslmode=require"}).database_url
    assert url == "postgresql+psycopg://me:pw@db:5433/lac?sslmode=require"


def test_media_over_tcp_can_be_switched_off() -> None:
    assert load({}).ice_tcp
    assert not load({"LAC_ICE_TCP": "false"}).ice_tcp
    with pytest.raises(ConfigError, match="LAC_ICE_TCP: 'perhaps'"):
        load({"LAC_ICE_TCP": "perhaps"})


def test_media_listens_where_http_listens() -> None:
    assert load({"LAC_HOST": "192.0.2.7"}).media_listen_ip == "192.0.2.7"
    assert load({"LAC_HOST": "192.0.2.7"}).media_announced_ips == ("192.0.2.7",)
    assert load({}, host="localhost").media_listen_ip == "127.0.0.1"
    assert load({"LAC_HOST": WILDCARD, "MEDIASOUP_LISTEN_IP": "127.0.0.1"}).media_announced_ips == ("127.0.0.1",)


def test_a_wildcard_announces_the_addresses_that_packets_leave_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        config, "source_address", lambda _family, towards: "2001:db8::5" if ":" in towards else "10.0.0.5"
    )
    assert load({"LAC_HOST": WILDCARD}).media_announced_ips == ("10.0.0.5",)
    assert load({"LAC_HOST": "::"}).media_announced_ips == ("2001:db8::5", "10.0.0.5")


def test_a_wildcard_without_a_route_asks_for_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "source_address", lambda _family, _towards: None)
    with pytest.raises(ConfigError, match=r"^MEDIASOUP_ANNOUNCED_IP is not set"):
        load({"LAC_HOST": WILDCARD})


def test_several_addresses_can_be_announced() -> None:
    settings = load({"MEDIASOUP_ANNOUNCED_IP": "203.0.113.5, 2001:DB8::5"})
    assert settings.media_announced_ips == ("203.0.113.5", "2001:db8::5")


def test_lists_are_split_and_checked() -> None:
    settings = load(
        {
            "LAC_CORS_ORIGINS": "https://A.example, http://localhost:5173/",
            "LAC_TRUSTED_PROXIES": "10.0.0.0/8,::1",
            "LAC_PUBLIC_URL": "https://audio.example.org/",
        }
    )
    assert settings.cors_origins == ("https://a.example", "http://localhost:5173")
    assert settings.trusted_proxies == (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1/128"))
    assert settings.public_url == "https://audio.example.org"


def test_settings_of_components_that_this_version_lacks_are_reported() -> None:
    settings = load({"REDIS_HOST": "redis", "AWS_REGION": "eu-west-1", "S3_BUCKET_NAME": "shows"})
    assert settings.without_effect == ("REDIS_HOST",)
    assert settings.s3 is not None


def test_a_proxy_on_this_machine_is_trusted_unless_told_otherwise() -> None:
    assert load().trusted_proxies == config.LOOPBACK_NETWORKS
    assert load({"LAC_TRUSTED_PROXIES": "none"}).trusted_proxies == ()


def test_limits_are_multiplied_for_a_large_house() -> None:
    usual, large = load().rate_limits, load({"LAC_LIMITS_FACTOR": "2.5"}).rate_limits
    assert large.media_by_address.burst == 2.5 * usual.media_by_address.burst
    assert large.media_by_address.per_s == 2.5 * usual.media_by_address.per_s
    assert load({"LAC_LIMITS_FACTOR": "0.01"}).rate_limits.link_by_address.burst == 1


def test_the_metrics_token_does_not_show() -> None:
    settings = load({"LAC_METRICS_TOKEN": "sixteen characters"})
    assert settings.metrics_token == "sixteen characters"
    assert "sixteen" not in repr(settings)
