"""A pull CDN in small: asks the server, keeps what may be kept, knows nothing of HLS. It listens on a port, and thus an
origin, of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

#: Those between two hops (RFC 9110 section 7.6.1), and what `httpx` has decoded.
DROPPED = {"connection", "keep-alive", "transfer-encoding", "content-encoding", "content-length", "date", "server"}


@dataclass
class Cdn:
    url: str = ""
    #: The server that it asks.
    upstream: str = ""
    #: Paths of requests that were answered without asking.
    hits: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    kept: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)


@contextmanager
def caching_proxy() -> Iterator[Cdn]:
    cdn = Cdn()
    client = httpx.Client(timeout=30)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found = cdn.kept.get(self.path)
            if found is None:
                cdn.asked.append(self.path)
                # Without Origin: what is kept is the same for everybody, and the cache does not say who asks.
                answer = client.get(cdn.upstream + self.path)
                headers = {name: value for name, value in answer.headers.items() if name not in DROPPED}
                found = answer.status_code, headers, answer.content
                if answer.status_code == 200 and answer.headers.get("cache-control", "").startswith("public"):
                    cdn.kept[self.path] = found
            else:
                cdn.hits.append(self.path)
            status, headers, body = found
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name there
            """Not on the console."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Players that stop close their connections in the middle."""

    with Server(("127.0.0.1", 0), Handler) as server, client:
        cdn.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield cdn
        finally:
            server.shutdown()
            thread.join()
