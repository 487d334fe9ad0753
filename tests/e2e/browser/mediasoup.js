// The published mediasoup-client, as its documentation says to use it: one session per page, in window.session.
window.MediasoupSession = class MediasoupSession {
  constructor(show, token) {
    this.show = show;
    this.token = token;
    this.states = [];
    this.startedAt = performance.now();
  }

  async call(method, path, body) {
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    if (body) headers["Content-Type"] = "application/json";
    const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
    return response.status === 204 ? null : response.json();
  }

  async openTransport(direction) {
    this.device = await mediasoupClient.Device.factory();
    const { rtpCapabilities } = await this.call("GET", `${this.show}/rtp-capabilities`);
    await this.device.load({ routerRtpCapabilities: rtpCapabilities });
    const answer = await this.call("POST", `${this.show}/transports`, { direction });
    this.path = `/api/mediasoup/transports/${answer.id}`;
    this.transport =
      direction === "send" ? this.device.createSendTransport(answer) : this.device.createRecvTransport(answer);
    this.transport.on("connectionstatechange", (state) => this.states.push(state));
    this.transport.on("connect", ({ dtlsParameters }, done, failed) => {
      this.call("POST", `${this.path}/connect`, { dtlsParameters }).then(done, failed);
    });
    this.transport.on("produce", ({ kind, rtpParameters }, done, failed) => {
      this.call("POST", `${this.path}/produce`, { kind, rtpParameters }).then(done, failed);
    });
  }

  async publish({ tones, ...codecOptions } = {}) {
    await this.openTransport("send");
    if (tones) {
      this.media = await this.transport.produce({ track: twoTones(...tones), codecOptions });
      return;
    }
    const stream = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
    this.media = await this.transport.produce({ track: stream.getAudioTracks()[0], codecOptions });
  }

  async listen(more) {
    await this.openTransport("recv");
    const request = { rtpCapabilities: this.device.recvRtpCapabilities, ...more };
    this.media = await this.transport.consume(await this.call("POST", `${this.path}/consume`, request));
    hearing.attach(this.media.track);
  }

  async restartIce() {
    const { iceParameters } = await this.call("POST", `${this.path}/restart-ice`);
    await this.transport.restartIce({ iceParameters });
  }

  async localUfrag() {
    return selectedLocalUfrag(await this.transport.getStats());
  }

  async remoteProtocol() {
    return selectedProtocol(await this.transport.getStats());
  }

  async stats(type) {
    return [...(await this.transport.getStats()).values()].find((entry) => entry.type === type) ?? null;
  }
};

window.openSession = async (way, show, token, options) => {
  window.session = new window.MediasoupSession(show, token);
  await window.session[way](options ?? {});
};
