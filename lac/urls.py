"""Where this server is, for links that leave it. Never from a request's Host header: whoever asks chooses that."""

from __future__ import annotations

from lac.config import Settings


def base_url_of(settings: Settings, listening: str | None = None) -> str:
    """Without a trailing slash: LAC_PUBLIC_URL, else where the server turned out to listen, else where it should."""
    return (settings.public_url or listening or _local_url(settings)).rstrip("/")


def _local_url(settings: Settings) -> str:
    host = settings.host
    if host in ("0.0.0.0", "::"):  # noqa: S104  nothing is bound here
        host = "localhost"
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"
