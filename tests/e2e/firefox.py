"""Debian's Firefox with a tone for a microphone, driven by WebDriver BiDi (https://w3c.github.io/webdriver-bidi/): the
Firefox that Playwright drives is one of its own making."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Ping, Request, TextMessage

from tests.e2e.chromium import MICROPHONE_HZ

START_TIMEOUT_S = 60.0
#: A page of ours loads in one; a promise that never settles ends here too.
COMMAND_TIMEOUT_S = 40.0
STOP_TIMEOUT_S = 10.0
PATIENCE_S = 20.0
TAB, ENTER = "\ue004", "\ue007"
POLL_S = 0.03

PREFERENCES: dict[str, bool | int | str] = {
    # A microphone that needs neither hardware nor a click.
    "media.navigator.streams.fake": True,
    "media.navigator.audio.fake_frequency": MICROPHONE_HZ,
    "media.navigator.permission.disabled": True,
    # Both, or nothing goes to 127.0.0.1: a page without a granted microphone has candidates of the default route's
    # addresses only.
    "media.peerconnection.ice.loopback": True,
    "permissions.default.microphone": 1,
    "media.peerconnection.ice.obfuscate_host_addresses": False,
    "media.autoplay.default": 0,
    "media.autoplay.blocking_policy": 0,
    # In its viewer, a JSON document's scripts are not of the server's origin.
    "devtools.jsonview.enabled": False,
    # Nothing but what the pages ask for goes over the network or onto the screen.
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.aboutwelcome.enabled": False,
    "browser.newtabpage.enabled": False,
    "browser.region.network.url": "",
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.search.update": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "datareporting.policy.dataSubmissionPolicyBypassNotification": True,
    "dom.push.connection.enabled": False,
    "extensions.systemAddon.update.enabled": False,
    "extensions.update.enabled": False,
    "media.gmp-manager.updateEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.dns.disablePrefetch": True,
    "network.prefetch-next": False,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
    "toolkit.telemetry.enabled": False,
    "toolkit.telemetry.server": "",
}


class Firefox:
    """The process and its one BiDi connection. Calls block; whatever fails says what Firefox has printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        #: What pages' consoles complained about: uncaught errors, and violations of the Content-Security-Policy.
        self.complaints: list[str] = []
        self._process = process
        self._output: deque[str] = deque(maxlen=40)
        self._address: tuple[str, int] | None = None
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read_output, name="firefox's output")
        self._reader.start()
        self._socket: socket.socket | None = None
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._commands = 0
        self._partial = ""

    def connect(self) -> None:
        assert self._listening.wait(START_TIMEOUT_S), self._explain(f"not ready after {START_TIMEOUT_S} s")
        assert self._address is not None, self._explain("it ended at once")
        self._socket = socket.create_connection(self._address, timeout=COMMAND_TIMEOUT_S)
        host, port = self._address
        self._socket.sendall(self._ws.send(Request(host=f"{host}:{port}", target="/session")))
        assert isinstance(self._receive(time.monotonic() + COMMAND_TIMEOUT_S), AcceptConnection)
        self.command("session.new", capabilities={})
        self.command("session.subscribe", events=["log.entryAdded"])

    def command(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one command and return its result."""
        assert self._socket is not None
        self._commands += 1
        frame = json.dumps({"id": self._commands, "method": method, "params": params})
        deadline = time.monotonic() + COMMAND_TIMEOUT_S
        try:
            self._socket.sendall(self._ws.send(TextMessage(frame)))
            while (answer := self._receive_json(deadline)).get("id") != self._commands:
                self._on_event(answer)
        except OSError as error:  # a timeout is one
            raise AssertionError(self._explain(f"no answer to {frame[:300]}: {error!r}")) from error
        assert answer["type"] == "success", f"{frame[:300]}: {answer['error']}: {answer['message']}"
        result: dict[str, Any] = answer["result"]
        return result

    def new_page(self, *scripts: Path) -> FirefoxPage:
        """Somebody's, with storage of its own. The scripts run before anything of a page does."""
        person = self.command("browser.createUserContext")["userContext"]
        context = self.command("browsingContext.create", type="tab", userContext=person)["context"]
        page = FirefoxPage(self, person, context)
        for script in scripts:
            function = f"() => {{ {script.read_text(encoding='utf-8')} }}"
            self.command("script.addPreloadScript", functionDeclaration=function, contexts=[page.context])
        return page

    def close(self) -> None:
        """Kill it and its children, which are all of one process group."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(STOP_TIMEOUT_S)
        self._reader.join(STOP_TIMEOUT_S)
        if self._socket is not None:
            self._socket.close()

    def _read_output(self) -> None:
        with self._process.stdout as output:  # type: ignore[union-attr]  # it is a pipe
            for line in output:
                self._output.append(line.rstrip())
                if found := re.search(r"BiDi listening on ws://([\d.]+):(\d+)", line):
                    self._address = found[1], int(found[2])
                    self._listening.set()
        self._listening.set()

    def _receive_json(self, deadline: float) -> dict[str, Any]:
        while True:
            event = self._receive(deadline)
            if isinstance(event, TextMessage):
                self._partial += event.data
                if event.message_finished:
                    message, self._partial = self._partial, ""
                    answer: dict[str, Any] = json.loads(message)
                    return answer

    def _receive(self, deadline: float) -> Any:
        """The next WebSocket event; OSError after the deadline, and once Firefox is gone."""
        assert self._socket is not None
        while True:
            for event in self._ws.events():
                if not isinstance(event, Ping):
                    return event
                self._socket.sendall(self._ws.send(event.response()))
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionResetError("the connection has ended")
            self._ws.receive_data(data)

    def _on_event(self, event: dict[str, Any]) -> None:
        entry = event.get("params", {})
        if event.get("method") == "log.entryAdded" and entry["level"] == "error":
            self.complaints.append(f"{entry['type']}: {entry['text']}")

    def _explain(self, what: str) -> str:
        state = self._process.poll()
        lines = "\n".join(self._output)
        return f"Firefox ({'running' if state is None else f'exit code {state}'}): {what}. It printed:\n{lines}"


class FirefoxPage:
    """A tab. What it has in common with Playwright's `Page` is called the same, so that `MediaPage` takes either."""

    def __init__(self, firefox: Firefox, person: str, context: str) -> None:
        self.firefox = firefox
        self.person = person
        self.context = context

    def goto(self, url: str) -> None:
        self.firefox.command("browsingContext.navigate", context=self.context, url=url, wait="complete")

    def evaluate(self, expression: str, given: object = None) -> Any:
        """The value of an expression, or what the function that it is returns; of a promise, what it gives."""
        value = f"const value = ({expression}); return typeof value === 'function' ? value({json.dumps(given)}) : value"
        answer = self.firefox.command(
            "script.evaluate",
            expression=f"(async () => {{ {value} }})().then((value) => JSON.stringify(value ?? null))",
            target={"context": self.context},
            awaitPromise=True,
            userActivation=True,
        )
        assert answer["type"] == "success", f"{expression}: {answer['exceptionDetails']['text']}"
        return json.loads(answer["result"]["value"])

    def wait_for_timeout(self, milliseconds: float) -> None:
        time.sleep(milliseconds / 1000)

    def close(self) -> None:
        """With everything that was stored."""
        self.firefox.command("browser.removeUserContext", userContext=self.person)

    def wait_until(self, ask: Callable[[], Any], wanted: Callable[[Any], bool] = bool, what: str = "something") -> Any:
        """Until the answer is as wanted; the answer."""
        deadline = time.monotonic() + PATIENCE_S
        while not wanted(answer := ask()):
            assert time.monotonic() < deadline, f"waited for {what}, got {answer!r} in: {self._text()}"
            time.sleep(POLL_S)
        return answer

    def find(self, role: str, name: str) -> dict[str, Any]:
        """A node by what a screen reader says, once it is there."""
        look = {"context": self.context, "locator": {"type": "accessibility", "value": {"role": role, "name": name}}}
        nodes = self.wait_until(
            lambda: self.firefox.command("browsingContext.locateNodes", **look)["nodes"], what=f"the {role} {name!r}"
        )
        return {"sharedId": nodes[0]["sharedId"]}

    def wait_for_text(self, text: str) -> None:
        """Until it is to be read somewhere on the page."""
        self.wait_until(self._text, lambda read: text in read, what=f"{text!r}")

    def click(self, role: str, name: str) -> None:
        node = self.find(role, name)
        self.firefox.command(
            "script.callFunction",
            functionDeclaration="(node) => node.scrollIntoView({ block: 'center' })",
            arguments=[node],
            target={"context": self.context},
            awaitPromise=False,
        )
        move = {"type": "pointerMove", "x": 0, "y": 0, "origin": {"type": "element", "element": node}}
        press = [{"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        self._act({"type": "pointer", "id": "mouse", "actions": [move, *press]})

    def fill(self, name: str, text: str) -> None:
        """Write into the empty box of that name, and go on typing where `TAB` leads: a box for a password has no role,
        and is found by no name."""
        self.click("textbox", name)
        keys = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        self._act({"type": "key", "id": "keyboard", "actions": keys})

    def _text(self) -> str:
        return str(self.evaluate("document.body.innerText"))

    def _act(self, source: dict[str, Any]) -> None:
        self.firefox.command("input.performActions", context=self.context, actions=[source])


def find_firefox() -> str:
    path = shutil.which("firefox-esr") or shutil.which("firefox")
    if path is None:
        raise RuntimeError("These tests drive a real Firefox. Install Debian's package: apt-get install firefox-esr")
    return path


@contextmanager
def running_firefox() -> Iterator[Firefox]:
    """A browser with a new profile. It goes with its children when the block is left, or this process killed."""
    # Whatever is still dying may write once more.
    with tempfile.TemporaryDirectory(prefix="firefox-", ignore_cleanup_errors=True) as profile:
        lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items())
        Path(profile, "user.js").write_text("".join(lines), encoding="utf-8")
        options = ["--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"]
        firefox = Firefox(
            subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", find_firefox(), *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, "HOME": profile, "MOZ_CRASHREPORTER_DISABLE": "1"},
                start_new_session=True,
            )
        )
        try:
            firefox.connect()
            yield firefox
        finally:
            firefox.close()
