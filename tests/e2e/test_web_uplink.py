"""A host speaks from the web client's page: what the page sends, and what is left of it on a bad network."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import RecordFigure
from tests.e2e.impairing_proxy import impairing_proxy
from tests.e2e.pages import ConsolePage, People, PlayerPage, go_live_behind
from tests.e2e.raw_listener import RawListener, recording_packets
from tests.e2e.server import LacServer
from tests.e2e.test_uplink_loss import LOSS, REPAIRED, WAY_S, missing_ratio
from tests.fakes.impairment import Impairment

pytestmark = pytest.mark.e2e

PACKETS = 150
#: What the page is told when its network is gone; after a while it restarts ICE.
DISCONNECTED = """() => {
  const { pc } = connections.peers.at(-1);
  Object.defineProperty(pc, "connectionState", { value: "disconnected", configurable: true });
  pc.dispatchEvent(new Event("connectionstatechange"));
  delete pc.connectionState;
}"""
#: The network had never been gone, so that the browser has nothing new to tell by itself.
BACK = "() => connections.peers.at(-1).pc.dispatchEvent(new Event('connectionstatechange'))"
#: Of the server's ICE: another one after each restart.
PASSWORD = "connections.peers.at(-1).pc.remoteDescription.sdp.match(/a=ice-pwd:(.+)/)[1]"
SENT = "lacDiagnostics.rawStats().then((reports) => reports.find(({ type }) => type === 'outbound-rtp'))"
#: What is sent: the statistics name Opus, which is inside. There is none for a moment while a change is negotiated.
FIRST_CODEC = "connections.peers.at(-1).pc.getSenders()[0].getParameters().codecs[0]?.mimeType"


def packet_size(console: ConsolePage) -> float:
    """Bytes of payload of the packets that are sent just now, on average."""
    before = console.page.evaluate(SENT)
    console.wait_until(f"{SENT}.then(({{ packetsSent }}) => packetsSent >= {before['packetsSent'] + 25})")
    after = console.page.evaluate(SENT)
    return float((after["bytesSent"] - before["bytesSent"]) / (after["packetsSent"] - before["packetsSent"]))


def frame_size(raw: RawListener) -> float:
    """Bytes of Opus in the packets that others heard last, on average: copies are not in them."""
    return sum(len(packet.payload) for _, packet in raw.arrivals[-20:]) / 20


def hearing(people: People, show_id: str) -> PlayerPage:
    """A listener on a good network, who hears the tone already."""
    listener = PlayerPage(people.arrive())
    listener.open(show_id)
    listener.listen()
    listener.wait_for_tone()
    return listener


def check_sends_copies(console: ConsolePage) -> None:
    assert console.page.evaluate(FIRST_CODEC) == "audio/red"
    assert packet_size(console) > 150, "40 kbit/s are 100 bytes a frame, and every frame goes twice"


def test_speech_is_sent_twice_and_stays_so(people: People, server: LacServer, record_figure: RecordFigure) -> None:
    account = server.register("Hanna")
    show_id = server.create_show(account)["id"]
    up, down = Impairment(delay_s=WAY_S), Impairment(delay_s=WAY_S)
    with impairing_proxy(server.media_port, up=up, down=down) as proxy:
        page = people.arrive()
        console = go_live_behind(page, proxy.port, account, show_id, "Voice")
        listener = hearing(people, show_id)
        check_sends_copies(console)

        with recording_packets(server, show_id) as raw:
            up.loss = down.loss = LOSS
            raw.wait_for_packets(PACKETS)
            up.loss = down.loss = 0.0
            raw.wait_for_packets(50)  # what was lost last gets its chance, too
            missing = missing_ratio(raw)
        record_figure("missing_ratio", missing)
        assert proxy.lost_up > PACKETS * LOSS / 3
        assert missing <= REPAIRED
        sent = page.evaluate(SENT)
        record_figure("nacks", sent["nackCount"])
        record_figure("sent_again", sent["retransmittedPacketsSent"])

        console.button("Pause").click()
        listener.wait_for_silence()
        console.button("Continue").click()
        listener.wait_for_tone()
        check_sends_copies(console)

        password = page.evaluate(PASSWORD)
        page.evaluate(DISCONNECTED)
        console.wait_until(f"{PASSWORD} !== '{password}'")
        page.evaluate(BACK)
        console.wait_on_air()
        check_sends_copies(console)
        listener.wait_for_tone()
        assert page.evaluate("lacDiagnostics.stats().then(({ rebuilds }) => rebuilds)") == 0


def test_music_is_sent_twice_only_while_packets_get_lost(
    people: People, server: LacServer, record_figure: RecordFigure
) -> None:
    account = server.register("Hanna")
    show_id = server.create_show(account)["id"]
    up, down = Impairment(delay_s=WAY_S), Impairment(delay_s=WAY_S)
    with impairing_proxy(server.media_port, up=up, down=down) as proxy:
        page = people.arrive()
        console = go_live_behind(page, proxy.port, account, show_id, "Music")
        listener = hearing(people, show_id)
        assert console.page.evaluate(FIRST_CODEC) == "audio/opus"
        once = packet_size(console)
        record_figure("once", once)

        with recording_packets(server, show_id) as raw:
            up.loss = down.loss = LOSS
            console.wait_until(f"{FIRST_CODEC} === 'audio/red'")
            record_figure("twice", twice := packet_size(console))
            assert 0.8 < twice / once < 1.25, "the network carries no more"
            raw.wait_for_packets(25)
            assert frame_size(raw) < 0.65 * once, "it is the frames that are smaller"
            listener.wait_for_tone()
            up.loss = down.loss = 0.0
            console.wait_until(f"{FIRST_CODEC} === 'audio/opus'", timeout_s=60)
            assert packet_size(console) > 0.8 * once
            raw.wait_for_packets(25)
            assert frame_size(raw) > 0.8 * once, "whole again"
            listener.wait_for_tone()
            missing = missing_ratio(raw)
        record_figure("missing_ratio", missing)
        assert proxy.lost_up > 5
        assert missing <= REPAIRED
        assert page.evaluate("lacDiagnostics.stats().then(({ rebuilds }) => rebuilds)") == 0
