from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from quart_trio import QuartTrio

from lac_web.errors import register_error_handlers
from lac_web.static_site import load_site, register_static_site

INDEX = "<!doctype html><title>client</title>"
SCRIPT = "export const x = 1;\n" * 200


@pytest.fixture
def build(tmp_path: Path) -> Path:
    directory = tmp_path / "static"
    (directory / "assets").mkdir(parents=True)
    (directory / "index.html").write_text(INDEX)
    (directory / "assets" / "app-B2c3D4.js").write_text(SCRIPT)
    (directory / "assets" / "inter.woff2").write_bytes(b"wOF2")
    (directory / "manifest.webmanifest").write_text("{}")
    (tmp_path / "secret.txt").write_text("secret")
    (directory / "link.txt").symlink_to(tmp_path / "secret.txt")
    return directory


def site_app(directory: Path) -> QuartTrio:
    app = QuartTrio("site", static_folder=None)
    register_error_handlers(app)
    register_static_site(app, load_site(directory))
    return app


async def get(app: QuartTrio, path: str, method: str = "GET", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await app.test_client().open(path, method=method, headers=named)


@pytest.mark.parametrize("path", ["/", "/index.html", "/b/abc123", "/b/abc123/", "/login", "/setup"])
async def test_pages_of_the_client_are_its_index(build: Path, path: str) -> None:
    response = await get(site_app(build), path)
    assert response.status_code == 200
    assert await response.get_data(as_text=True) == INDEX
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-cache"


async def test_hashed_assets_are_kept_for_ever(build: Path) -> None:
    response = await get(site_app(build), "/assets/app-B2c3D4.js")
    assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert response.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert await response.get_data(as_text=True) == SCRIPT
    font = await get(site_app(build), "/assets/inter.woff2")
    assert font.headers["Content-Type"] == "font/woff2"
    manifest = await get(site_app(build), "/manifest.webmanifest")
    assert manifest.headers["Content-Type"] == "application/manifest+json"
    assert manifest.headers["Cache-Control"] == "no-cache"


async def test_gzip_where_it_is_accepted(build: Path) -> None:
    app = site_app(build)
    plain = await get(app, "/assets/app-B2c3D4.js", Accept_Encoding="gzip;q=0")
    packed = await get(app, "/assets/app-B2c3D4.js", Accept_Encoding="br, gzip")
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(await packed.get_data()).decode() == SCRIPT
    assert packed.headers["ETag"] != plain.headers["ETag"]
    assert plain.headers["Vary"] == packed.headers["Vary"] == "Accept-Encoding"


async def test_a_known_entity_tag_is_answered_304(build: Path) -> None:
    app = site_app(build)
    first = await get(app, "/")
    again = await get(app, "/", If_None_Match=first.headers["ETag"])
    assert again.status_code == 304
    assert await again.get_data() == b""
    assert again.headers["ETag"] == first.headers["ETag"]
    assert (await get(app, "/", If_None_Match='"other"')).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/assets/missing.js",
        "/missing.png",
        "/link.txt",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/assets/../../secret.txt",
        "/assets/..%2f..%2fsecret.txt",
        "/..%5csecret.txt",
        "//etc/passwd.txt",
    ],
)
async def test_what_is_not_in_the_build_does_not_exist(build: Path, path: str) -> None:
    response = await get(site_app(build), path)
    assert response.status_code in {404, 308}
    assert b"secret" not in await response.get_data()


@pytest.mark.parametrize("path", ["/api", "/api/x", "/whip/x", "/whep/x/y", "/ws", "/hls/a/index.m3u8", "/metrics"])
async def test_the_servers_own_addresses_are_never_the_clients_page(build: Path, path: str) -> None:
    assert (await get(site_app(build), path)).status_code == 404


async def test_names_that_only_begin_like_ours_are_the_clients(build: Path) -> None:
    assert (await get(site_app(build), "/apiary")).status_code == 200


async def test_pages_take_get_and_head_only(build: Path) -> None:
    app = site_app(build)
    assert (await get(app, "/", method="HEAD")).status_code == 200
    assert (await get(app, "/b/abc", method="POST")).status_code == 405


@pytest.mark.parametrize("path", ["/", "/b/abc123"])
async def test_without_a_build_a_page_says_how_to_make_one(tmp_path: Path, path: str) -> None:
    response = await get(site_app(tmp_path / "absent"), path)
    assert response.status_code == 200
    assert "npm run build" in await response.get_data(as_text=True)
    assert response.headers["Cache-Control"] == "no-cache"
