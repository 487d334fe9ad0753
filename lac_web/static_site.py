"""The built web client: read once at start, served from memory, so that no request path ever reaches the file system.

`index.html` answers every address that the client routes itself (`/b/:id`); files under `assets/` have their content's
hash in their name and may be cached for ever; everything else is revalidated by entity tag.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path

from quart import Quart, Response, request
from werkzeug.exceptions import NotFound
from werkzeug.routing import BaseConverter

from lac_web.api.endpoint import access
from lac_web.security import Access

STATIC_DIR = Path(__file__).parent / "static"
INDEX = "index.html"
#: First path segments that belong to the server: an unknown address below them is a 404, never the client's page.
RESERVED = ("api", "ws", "whip", "whep", "hls", "listen", "podcasts", "source", "admin", "health", "ready", "metrics")

_IMMUTABLE = "public, max-age=31536000, immutable"
_REVALIDATE = "no-cache"
_GZIP_MIN_BYTES = 1024
_COMPRESSIBLE = ("text/", "application/javascript", "application/json", "application/manifest", "image/svg")
#: What `mimetypes` does not know on every platform.
_TYPES = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
    ".wasm": "application/wasm",
    ".svg": "image/svg+xml",
}

HELP_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>LiveAudioCast: the web client is not built</title>
<h1>The server runs. Its web client is not built.</h1>
<p>Build it, then start the server again:</p>
<pre>cd frontend
npm ci
npm run build</pre>
<p>The API works without it: see <a href="/api/docs">/api/docs</a>.</p>
</html>
"""


@dataclass(frozen=True, slots=True)
class StaticFile:
    content: bytes
    gzipped: bytes | None
    content_type: str
    entity_tag: str
    cache_control: str

    @classmethod
    def make(cls, path: str, content: bytes) -> StaticFile:
        suffix = Path(path).suffix.lower()
        content_type = _TYPES.get(suffix) or mimetypes.guess_type(path)[0] or "application/octet-stream"
        packed = None
        if content_type.startswith(_COMPRESSIBLE):
            if len(content) >= _GZIP_MIN_BYTES:
                packed = gzip.compress(content, 6, mtime=0)
            if content_type.startswith("text/"):
                content_type += "; charset=utf-8"
        return cls(
            content=content,
            gzipped=packed,
            content_type=content_type,
            entity_tag=hashlib.sha256(content).hexdigest()[:32],
            cache_control=_IMMUTABLE if path.startswith("assets/") else _REVALIDATE,
        )


def load_site(directory: Path = STATIC_DIR) -> dict[str, StaticFile]:
    """Every regular file below `directory` by its path relative to it; empty when there is no build."""
    if not (directory / INDEX).is_file():
        return {}
    site = {}
    for file in sorted(directory.rglob("*")):
        if file.is_file() and not file.is_symlink():
            path = file.relative_to(directory).as_posix()
            site[path] = StaticFile.make(path, file.read_bytes())
    return site


class SitePathConverter(BaseConverter):
    """Any path whose first segment is not the server's own."""

    part_isolating = False
    regex = rf"(?!(?:{'|'.join(RESERVED)})(?:/|$)).*?"


def _find(site: dict[str, StaticFile], path: str) -> StaticFile:
    if path in site:
        return site[path]
    # A name with a dot in it asked for a file; a missing script must not be answered with a page.
    if path.startswith("assets/") or "." in path.rpartition("/")[2]:
        raise NotFound
    return site[INDEX]


def _serve(file: StaticFile) -> Response:
    packed = file.gzipped if request.accept_encodings["gzip"] > 0 else None
    body = file.content if packed is None else packed
    # One tag per representation (RFC 9110 section 8.8.3.3).
    tag = file.entity_tag if packed is None else f"{file.entity_tag}-gzip"
    unchanged = request.if_none_match.contains_weak(tag)
    response = Response(b"" if unchanged else body, status=304 if unchanged else 200, content_type=file.content_type)
    response.set_etag(tag)
    response.headers["Cache-Control"] = file.cache_control
    if file.gzipped is not None:
        response.vary.add("Accept-Encoding")
    if packed is not None and not unchanged:
        response.headers["Content-Encoding"] = "gzip"
    return response


def register_static_site(app: Quart, site: dict[str, StaticFile]) -> None:
    """Add the routes. `site` comes from `load_site`; an empty one serves a page that says how to build it."""
    help_page = StaticFile.make("help.html", HELP_PAGE.encode())
    app.url_map.converters["site"] = SitePathConverter

    @access(Access.ANYONE)
    async def web_client(path: str = "") -> Response:
        """The web client's files and pages."""
        return _serve(_find(site, path) if site else _find({INDEX: help_page}, path))

    app.add_url_rule("/", "web_client", web_client, methods=["GET"])
    app.add_url_rule("/<site:path>", "web_client", web_client, methods=["GET"])
