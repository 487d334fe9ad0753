"""A server per test process, a browser per module, and the clients that several modules share."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from scripts.build_web import FRONTEND, find_node
from tests.e2e.asyncio_thread import AsyncioThread
from tests.e2e.chromium import MICROPHONE_HZ, running_chromium
from tests.e2e.pages import People
from tests.e2e.server import LacServer, running_server
from tests.e2e.tone import write_tone

#: Name and value, for `--junitxml`.
RecordFigure = Callable[[str, float], None]


class OpenPage(Protocol):
    def __call__(self, url: str = ..., *, scripts: Iterable[Path] = ..., bypass_csp: bool = ...) -> Page: ...


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LacServer]:
    """`lac serve` on free ports with a data directory of its own. Tests keep apart by making their own accounts and
    shows. It does not turn listeners away because the tests' own browsers keep the machine busy."""
    patient = {"LAC_OVERLOAD_DELAY_MS": "5000", "LAC_OVERLOAD_LAG_MS": "5000"}
    with running_server(tmp_path_factory.mktemp("data"), **patient) as running:
        yield running


@pytest.fixture
def aio() -> Iterator[AsyncioThread]:
    """A loop for asyncio clients. What they leave unhandled fails the test."""
    thread = AsyncioThread()
    try:
        yield thread
    finally:
        thread.close()
    assert not thread.errors, thread.errors


@pytest.fixture(scope="session")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every page of `chromium` publishes: MICROPHONE_HZ."""
    return write_tone(tmp_path_factory.mktemp("microphone") / "tone.wav", MICROPHONE_HZ)


@pytest.fixture(scope="module")
def chromium(microphone: Path) -> Iterator[Browser]:
    with running_chromium(microphone) as browser:
        yield browser


@pytest.fixture
def people(chromium: Browser, server: LacServer) -> Iterator[People]:
    """Whoever takes part. What a console complains about (errors, violations of the Content-Security-Policy) fails the
    test."""
    everybody = People(chromium, server.url)
    try:
        yield everybody
    finally:
        everybody.close()
    assert not everybody.complaints, everybody.complaints


@pytest.fixture
def open_page(chromium: Browser, server: LacServer) -> Iterator[OpenPage]:
    """Pages in contexts of their own, on a secure address of the server. An uncaught error in one fails the test."""
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def open_page(url: str = f"{server.url}/health", *, scripts: Iterable[Path] = (), bypass_csp: bool = False) -> Page:
        context = chromium.new_context(permissions=["microphone"], bypass_csp=bypass_csp)
        contexts.append(context)
        for script in scripts:
            context.add_init_script(path=script)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        return page

    try:
        yield open_page
    finally:
        for context in contexts:
            context.close()
    assert not errors, errors


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published mediasoup-client library as one classic script that sets `window.mediasoupClient`."""
    packages = FRONTEND / "node_modules"
    bundler, entry = packages / "rolldown" / "bin" / "cli.mjs", packages / "mediasoup-client" / "lib" / "index.js"
    if not bundler.is_file() or not entry.is_file():
        raise RuntimeError("The web client's packages are not installed. Install them with: make web")
    output = tmp_path_factory.mktemp("library") / "mediasoup-client.js"
    options = ["--platform", "browser", "--format", "iife", "--name", "mediasoupClient", "--file", str(output)]
    subprocess.run(
        [find_node().binary, bundler, entry, *options], cwd=FRONTEND, check=True, stdout=subprocess.DEVNULL, timeout=60
    )
    with output.open("a", encoding="utf-8") as script:
        script.write("\nwindow.mediasoupClient = mediasoupClient;\n")
    return output


@pytest.fixture
def record_figure(request: pytest.FixtureRequest) -> RecordFigure:
    """Keeps a measured figure with the test's result: bounds in tests are wide, trends are read from the figures."""

    def record(name: str, value: float) -> None:
        request.node.user_properties.append((name, round(value, 4)))

    return record
