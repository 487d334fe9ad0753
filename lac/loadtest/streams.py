"""Connections of the load test's clients that speak for themselves."""

from __future__ import annotations

from urllib.parse import SplitResult

import trio

from lac.loadtest.signalling import RefusedError

CONNECT_TIMEOUT_S = 20.0

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


async def open_stream(url: SplitResult) -> Stream:
    """To the server of `url`, with TLS for https. Raises `RefusedError`."""
    host, encrypted = str(url.hostname), url.scheme == "https"
    port = url.port or (443 if encrypted else 80)
    try:
        with trio.fail_after(CONNECT_TIMEOUT_S):
            if encrypted:
                return await trio.open_ssl_over_tcp_stream(host, port, https_compatible=True)
            return await trio.open_tcp_stream(host, port)
    except (OSError, trio.TooSlowError) as error:
        raise RefusedError(0, "no_socket", str(error) or type(error).__name__) from error
