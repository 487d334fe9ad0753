"""A real browser on a network that loses packets: it asks for them, and gets them."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from tests.e2e.conftest import OpenPage
from tests.e2e.lossy_proxy import lossy_proxy
from tests.e2e.server import LacServer

pytestmark = pytest.mark.e2e

#: Chromium offers NACK for Opus only when asked, so the offer is given the line; the answer must take it up.
LISTEN = """async ([show, port]) => {
    const pc = window.listener = new RTCPeerConnection();
    pc.addTransceiver('audio', {direction: 'recvonly'});
    pc.ontrack = (event) => {
        const audio = new Audio();
        audio.srcObject = new MediaStream([event.track]);
        audio.play();
    };
    const offer = await pc.createOffer();
    const opus = /a=rtpmap:(\\d+) opus.*\\r\\n/.exec(offer.sdp);
    const sdp = offer.sdp.replace(opus[0], `${opus[0]}a=rtcp-fb:${opus[1]} nack\\r\\n`);
    await pc.setLocalDescription({type: 'offer', sdp});
    const headers = {'Content-Type': 'application/sdp'};
    const answer = await (await fetch(`/whep/${show}`, {method: 'POST', body: sdp, headers})).text();
    const proxied = answer.replace(/(a=candidate:.* )\\d+( typ host)/g, `$1${port}$2`);
    await pc.setRemoteDescription({type: 'answer', sdp: proxied});
}"""
STATS = """async () => {
    for (const report of (await window.listener.getStats()).values())
        if (report.type === 'inbound-rtp')
            return {received: report.packetsReceived, lost: report.packetsLost, nacks: report.nackCount};
    return {received: 0, lost: 0, nacks: 0};
}"""


def wait_until(condition: Callable[[], bool], page: Page, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, page.evaluate(STATS)
        page.wait_for_timeout(100)


def test_what_chromium_misses_is_sent_again(server: LacServer, open_page: OpenPage) -> None:
    show = server.start_show(server.register("Ada"))  # its program carries silence: that is packets enough
    with lossy_proxy(server.media_port, loss=0.1) as proxy:
        page = open_page()
        page.evaluate(LISTEN, [show["id"], proxy.port])
        wait_until(lambda: proxy.dropped >= 40, page)
        proxy.loss = 0.0  # what was lost last gets its chance, too
        wait_until(lambda: page.evaluate(STATS)["lost"] <= 2, page)
        stats = page.evaluate(STATS)
        assert stats["nacks"] > 0
        assert stats["received"] > 300
