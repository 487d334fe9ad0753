"""GStreamer's webrtcbin as a WHEP player: a script for Debian's own Python, which has the bindings.

    /usr/bin/python3 gstreamer_player.py WHEP-URL

Writes what it hears to its standard output, mono, 16 bits, 48 kHz. When it is told to end (SIGTERM) it writes what the
decoder has counted to its standard error, as JSON.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
from urllib.parse import urlsplit

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402  # versions first

OPUS = "application/x-rtp,media=audio,encoding-name=OPUS,payload=97,clock-rate=48000,encoding-params=(string)2"
CHAIN = (
    "rtpopusdepay name=in ! opusdec name=decoder ! audioconvert ! audioresample"
    " ! audio/x-raw,format=S16LE,channels=1,rate=48000,layout=interleaved ! fdsink fd=1"
)
COUNTED = ("num-pushed", "num-gap", "plc-num-samples")


class Player:
    """The objects of the negotiation are kept: the bindings crash when they are collected early."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.loop = GLib.MainLoop()
        self.pipeline = Gst.Pipeline()
        self.rtc = Gst.ElementFactory.make("webrtcbin")
        self.rtc.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
        self.agent = self.rtc.get_property("ice-agent")
        self.agent.emit("add-local-ip-address", "127.0.0.1")  # it leaves the loopback out by itself
        self.pipeline.add(self.rtc)
        self.rtc.connect("pad-added", self.play)
        direction = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
        self.transceiver = self.rtc.emit("add-transceiver", direction, Gst.Caps.from_string(OPUS))
        self.decoder = None

    def play(self, _rtc: object, pad: Gst.Pad) -> None:
        chain = Gst.parse_bin_from_description(CHAIN, False)
        self.decoder = chain.get_by_name("decoder")
        chain.add_pad(Gst.GhostPad.new("sink", chain.get_by_name("in").get_static_pad("sink")))
        self.pipeline.add(chain)
        chain.sync_state_with_parent()
        pad.link(chain.get_static_pad("sink"))

    def negotiate(self) -> None:
        self.promise = Gst.Promise.new()
        self.rtc.emit("create-offer", None, self.promise)
        self.promise.wait()
        self.reply = self.promise.get_reply()
        self.offer = self.reply.get_value("offer")
        self.rtc.emit("set-local-description", self.offer, None)
        url = urlsplit(self.endpoint)
        connection = http.client.HTTPConnection(url.netloc, timeout=20)
        headers = {"Content-Type": "application/sdp"}
        connection.request("POST", f"{url.path}?{url.query}", self.offer.sdp.as_text().encode(), headers)
        text = connection.getresponse().read().decode()
        connection.close()
        _, self.sdp = GstSdp.SDPMessage.new_from_text(text)
        self.answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, self.sdp)
        self.rtc.emit("set-remote-description", self.answer, None)

    def run(self) -> None:
        GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGTERM, self.loop.quit)
        self.pipeline.set_state(Gst.State.PLAYING)
        self.negotiate()
        self.loop.run()
        stats = self.decoder.get_property("stats") if self.decoder is not None else None
        counted = {name: stats.get_value(name) for name in COUNTED} if stats is not None else {}
        sys.stderr.write(json.dumps(counted) + "\n")
        sys.stderr.flush()
        os._exit(0)  # tearing down in the bindings may crash, and there is nothing to keep


Gst.init(None)
Player(sys.argv[1]).run()
