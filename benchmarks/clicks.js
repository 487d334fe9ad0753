// Notes when a click passes: Unix time in milliseconds, as the audio thread sees it.
window.clicks = {
  times: [],

  async watch(track) {
    const code = `registerProcessor("clicks", class extends AudioWorkletProcessor {
      quietUntil = 0;
      process([[samples]]) {
        const at = samples ? samples.findIndex((sample) => Math.abs(sample) > 0.05) : -1;
        if (at >= 0) {
          if (currentTime > this.quietUntil) this.port.postMessage(Date.now() + (at / sampleRate) * 1000);
          this.quietUntil = currentTime + 0.3;
        }
        return true;
      }
    });`;
    const context = new AudioContext({ sampleRate: 48000, latencyHint: "interactive" });
    await context.audioWorklet.addModule(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
    const node = new AudioWorkletNode(context, "clicks", { numberOfOutputs: 0 });
    node.port.onmessage = ({ data }) => this.times.push(data);
    context.createMediaStreamSource(new MediaStream([track])).connect(node);
    this.context = context;
  },

  // From the audio thread to the loudspeaker, milliseconds.
  outputMs() {
    return (this.context.baseLatency + (this.context.outputLatency || 0)) * 1000;
  },
};
