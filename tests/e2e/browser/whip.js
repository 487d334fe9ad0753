// WHIP and WHEP with nothing but RTCPeerConnection and fetch: one session per page, in window.session.
class SdpSession {
  constructor(endpoint, token) {
    this.endpoint = endpoint;
    this.token = token;
    this.candidates = [];
    this.states = [];
    this.pc = new RTCPeerConnection();
    this.pc.onconnectionstatechange = () => this.states.push(this.pc.connectionState);
    this.pc.onicecandidate = ({ candidate }) => candidate?.candidate && this.candidates.push(candidate);
    this.startedAt = performance.now();
  }

  headers(more = {}) {
    return this.token ? { Authorization: `Bearer ${this.token}`, ...more } : more;
  }

  async negotiate({ nack, stereo } = {}) {
    let { type, sdp } = await this.pc.createOffer();
    // Chromium offers NACK for audio, and stereo, only when the offer is given the lines.
    if (nack) sdp = sdp.replace(/a=rtpmap:(\d+) (?:opus|red)\/48000.*\r\n/g, "$&a=rtcp-fb:$1 nack\r\n");
    if (stereo) sdp = sdp.replace("useinbandfec=1", "useinbandfec=1;stereo=1");
    await this.pc.setLocalDescription({ type, sdp });
    const response = await fetch(this.endpoint, {
      method: "POST",
      headers: this.headers({ "Content-Type": "application/sdp" }),
      body: this.pc.localDescription.sdp,
    });
    if (response.status !== 201) throw new Error(`${response.status} ${await response.text()}`);
    this.location = new URL(response.headers.get("Location"), this.endpoint).href;
    this.etag = response.headers.get("ETag");
    this.answer = await response.text();
    await this.pc.setRemoteDescription({ type: "answer", sdp: this.answer });
  }

  async publish(options = {}) {
    this.stream = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
    const transceiver = this.pc.addTransceiver(this.stream.getAudioTracks()[0], { direction: "sendonly" });
    if (options.red) {
      const { codecs } = RTCRtpSender.getCapabilities("audio");
      const isRed = ({ mimeType }) => mimeType === "audio/red";
      transceiver.setCodecPreferences([...codecs.filter(isRed), ...codecs.filter((codec) => !isRed(codec))]);
    }
    await this.negotiate(options);
  }

  // Chromium offers to take RED; `red: false` keeps it from that.
  async listen(options) {
    this.pc.ontrack = ({ track }) => hearing.attach(track);
    const transceiver = this.pc.addTransceiver("audio", { direction: "recvonly" });
    if (options.red === false) {
      const { codecs } = RTCRtpReceiver.getCapabilities("audio");
      transceiver.setCodecPreferences(codecs.filter(({ mimeType }) => mimeType !== "audio/red"));
    }
    await this.negotiate(options);
  }

  // RFC 8840: the fragment with our ICE credentials and candidates.
  fragment() {
    const sdp = this.pc.localDescription.sdp;
    const [ufrag, pwd] = ["ice-ufrag", "ice-pwd"].map((name) => sdp.match(new RegExp(`a=${name}:.+`))[0]);
    const candidates = this.candidates.map(({ candidate }) => `a=${candidate}`);
    const media = ["m=audio 9 UDP/TLS/RTP/SAVPF 0", "a=mid:0", ufrag, pwd, ...candidates, "a=end-of-candidates"];
    return [...media, ""].join("\r\n");
  }

  async patch(ifMatch) {
    const headers = this.headers({ "Content-Type": "application/trickle-ice-sdpfrag" });
    if (ifMatch) headers["If-Match"] = ifMatch;
    const response = await fetch(this.location, { method: "PATCH", headers, body: this.fragment() });
    return { status: response.status, etag: response.headers.get("ETag"), body: await response.text() };
  }

  async gathered() {
    while (this.pc.iceGatheringState !== "complete") {
      await new Promise((resolve) => this.pc.addEventListener("icegatheringstatechange", resolve, { once: true }));
    }
  }

  async restartIce() {
    this.pc.restartIce();
    this.candidates = [];
    await this.pc.setLocalDescription();
    const { status, etag, body } = await this.patch("*");
    if (status !== 200) throw new Error(`${status} ${body}`);
    this.etag = etag;
    const line = (name) => body.match(new RegExp(`a=${name}:.+`))[0];
    const sdp = this.answer
      .replace(/a=ice-ufrag:.+/, line("ice-ufrag"))
      .replace(/a=ice-pwd:.+/, line("ice-pwd"));
    await this.pc.setRemoteDescription({ type: "answer", sdp });
  }

  async localUfrag() {
    return selectedLocalUfrag(await this.pc.getStats());
  }

  async remoteProtocol() {
    return selectedProtocol(await this.pc.getStats());
  }

  async delete() {
    return (await fetch(this.location, { method: "DELETE", headers: this.headers() })).status;
  }

  async stats(type) {
    return [...(await this.pc.getStats()).values()].find((entry) => entry.type === type) ?? null;
  }

  get dtlsState() {
    const end = this.pc.getTransceivers()[0];
    return (end.receiver.transport ?? end.sender.transport).state;
  }
}

window.openSession = async (way, endpoint, token, options) => {
  window.session = new SdpSession(endpoint, token);
  await window.session[way](options ?? {});
};
