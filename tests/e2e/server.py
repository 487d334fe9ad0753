"""A real `lac serve` in a process of its own, for tests that bring real browsers and other people's WebRTC stacks."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
#: A few seconds, usually; on two cores that ran two browsers besides it has taken more than forty.
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 15.0


@dataclass
class Account:
    user_id: str
    token: str
    email: str
    password: str


@dataclass
class LacServer:
    """The process, and the few API calls that every test begins with."""

    url: str
    media_port: int
    data_dir: Path
    process: subprocess.Popen[str]
    output: list[str] = field(default_factory=list)
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=20))
    #: What it leaves with in order; after `kill` that is the signal.
    exit_code: int = 0
    _admin: Account | None = None

    def call(self, method: str, path: str, *, token: str | None = None, **kwargs: Any) -> Any:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        response = self.http.request(
            method, self.url + path, headers={**headers, **kwargs.pop("headers", {})}, **kwargs
        )
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.headers.get("content-type", "").startswith("application/json") else response

    def register(self, name: str) -> Account:
        email, password = f"{name.lower()}-{os.urandom(4).hex()}@example.org", "a long enough password"
        body = self.call("POST", "/api/auth/register", json={"email": email, "password": password, "displayName": name})
        return Account(body["user"]["id"], body["accessToken"], email, password)

    def admin(self) -> Account:
        """Made with the link that the first start prints, which works once."""
        if self._admin is None:
            (token,) = (found[1] for line in self.output if (found := re.search(r"/setup#token=(\S+)", line)))
            account = {"email": "admin@example.org", "password": "a long enough password", "displayName": "Admin"}
            body = self.call("POST", "/api/auth/setup", json={"token": token, **account})
            self._admin = Account(body["user"]["id"], body["accessToken"], account["email"], account["password"])
        return self._admin

    def create_show(self, host: Account, title: str = "A show", **fields: Any) -> dict[str, Any]:
        show: dict[str, Any] = self.call("POST", "/api/broadcasts", token=host.token, json={"title": title, **fields})
        return show

    def start_show(self, host: Account, title: str = "A show", **fields: Any) -> dict[str, Any]:
        show = self.create_show(host, title, **fields)
        live: dict[str, Any] = self.call("POST", f"/api/broadcasts/{show['id']}/start", token=host.token)
        return live

    def log(self) -> str:
        return "\n".join(self.output[-80:])

    def metric(self, name: str) -> float:
        """One value of `/metrics`, summed over its labels."""
        text = self.call("GET", "/metrics").text
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))

    def kill(self) -> None:
        """SIGKILL: it gets to clean up nothing."""
        self.exit_code = -signal.SIGKILL
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_TIMEOUT_S)


@contextmanager
def running_server(data_dir: Path, *, program: str = "lac.cli.main", **environment: str) -> Iterator[LacServer]:
    """Start `lac serve` on free ports; stop it at the end and fail if it did not leave in order. `program` is the
    module to run in place of `lac`."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("LAC_", "MEDIASOUP_", "DATABASE_"))}
    env |= {"LAC_DATA_DIR": str(data_dir), "LAC_PORT": "0", "MEDIASOUP_MIN_PORT": "0", "PYTHONUNBUFFERED": "1"}
    env["LAC_LIMITS_FACTOR"] = "50"  # whole suites come from one address
    # Nobody's mail server gets mails of tests; empty, so that a `.env` has no say either.
    env |= dict.fromkeys(("SMTP_HOST", "SMTP_PORT", "SMTP_USER", "SMTP_PASSWORD", "SMTP_FROM"), "")
    env |= environment
    process = subprocess.Popen(
        [sys.executable, "-m", program, "serve"],
        env=env,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    server = LacServer("", 0, data_dir, process)
    ready = threading.Event()

    def read_output() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            server.output.append(line.rstrip())
            if found := re.search(r"open (http://\S+)", line):
                server.url = found[1].rstrip("/")
            if found := re.search(r"UDP port (\d+)", line):
                server.media_port = int(found[1])
            if "Ctrl+C" in line:
                ready.set()
        ready.set()

    reader = threading.Thread(target=read_output)
    reader.start()
    try:
        assert ready.wait(START_TIMEOUT_S), f"the server did not start:\n{server.log()}"
        assert server.url, f"the server ended at once:\n{server.log()}"
        yield server
        assert server.stop() == server.exit_code, f"the server did not leave in order:\n{server.log()}"
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        reader.join()
        server.http.close()
        if process.stdout is not None:
            process.stdout.close()
