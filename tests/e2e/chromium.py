"""Debian's Chromium with a tone for a microphone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

MICROPHONE_HZ = 440
#: A name of this machine that, unlike localhost, browsers do not trust over plain HTTP.
REMOTE_NAME = "radio.example"
#: `--no-sandbox`: tests run as root in containers. Playwright adds the flags that keep background pages awake.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    f"--host-resolver-rules=MAP {REMOTE_NAME} 127.0.0.1",
]


def find_chromium() -> str:
    path = shutil.which("chromium")
    if path is None:
        raise RuntimeError("These tests drive a real browser. Install Debian's package: apt-get install chromium")
    return path


@contextmanager
def running_chromium(microphone: Path) -> Iterator[Browser]:
    """A browser whose microphone plays this WAV file over and over."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=[*FLAGS, f"--use-file-for-fake-audio-capture={microphone}"]
        )
        try:
            yield browser
        finally:
            browser.close()
