// Somebody on stage with the published mediasoup-client: sends a tone of their own, is sent each of the others.
// `performer.heard()` tells which of the given tones come out of all that is received, by frequency.
class Performer extends window.MediasoupSession {
  async speak(frequency) {
    await this.openTransport("send");
    const context = new AudioContext({ sampleRate: 48000 });
    const oscillator = new OscillatorNode(context, { frequency });
    const out = context.createMediaStreamDestination();
    oscillator.connect(new GainNode(context, { gain: 0.2 })).connect(out);
    oscillator.start();
    this.media = await this.transport.produce({ track: out.stream.getAudioTracks()[0] });
    this.sending = { transport: this.transport, path: this.path };
  }

  async openEars() {
    await this.openTransport("recv");
    this.context = new AudioContext({ sampleRate: 48000 });
    this.analyser = new AnalyserNode(this.context, { fftSize: 16384, smoothingTimeConstant: 0 });
    this.consumers = [];
  }

  // `producerId` undefined: the program.
  async hear(producerId) {
    const rtpCapabilities = this.device.recvRtpCapabilities;
    const answer = await this.call("POST", `${this.path}/consume`, { rtpCapabilities, producerId });
    const consumer = await this.transport.consume(answer);
    this.consumers.push(consumer);
    const stream = new MediaStream([consumer.track]);
    const element = new Audio();
    element.srcObject = stream;
    element.play();
    this.context.createMediaStreamSource(stream).connect(this.analyser);
  }

  // How far each tone stands out from what lies beside it, in dB.
  heard(frequencies) {
    const spectrum = new Float32Array(this.analyser.frequencyBinCount);
    this.analyser.getFloatFrequencyData(spectrum);
    const bin = (frequency) => Math.round((frequency * this.analyser.fftSize) / 48000);
    const strongest = (from, to) => Math.max(...spectrum.slice(bin(from), bin(to)));
    return frequencies.filter((frequency) => strongest(frequency - 8, frequency + 8) > -60);
  }

  async lost() {
    let lost = 0;
    for (const entry of (await this.transport.getStats()).values())
      if (entry.type === "inbound-rtp") lost += entry.packetsLost;
    return lost;
  }
}

window.openPerformer = (show, token) => {
  window.session = window.performer = new Performer(show, token);
};
