// What a page hears: the strongest frequency of a received track. 0 is silence, null is no audio at all yet.
window.hearing = {
  track: null,
  context: null,
  analyser: null,
  firstSoundAt: null,

  // A received track is only decoded while a media element plays it (crbug.com/121673).
  attach(track) {
    this.element = new Audio();
    this.element.srcObject = new MediaStream([track]);
    this.element.play();
    this.tap(track);
  },

  // Measures what somebody else plays.
  tap(track) {
    this.track = track;
    this.context = new AudioContext({ sampleRate: 48000 });
    this.analyser = this.context.createAnalyser();
    this.analyser.fftSize = 16384;
    this.analyser.smoothingTimeConstant = 0;
    const source = this.context.createMediaStreamSource(new MediaStream([track]));
    source.connect(this.analyser);
    const splitter = this.context.createChannelSplitter(2);
    source.connect(splitter);
    this.sides = [0, 1].map((channel) => {
      const side = this.context.createAnalyser();
      side.fftSize = 16384;
      splitter.connect(side, channel);
      return side;
    });
    const fresh = new Float32Array(1024);
    const timer = setInterval(() => {
      this.analyser.getFloatTimeDomainData(fresh);
      if (fresh.some((sample) => Math.abs(sample) > 0.01)) {
        this.firstSoundAt = performance.now();
        clearInterval(timer);
      }
    }, 5);
  },

  frequency() {
    return this.frequencyOf(this.analyser);
  },

  // Of the left and the right channel.
  frequencies() {
    return this.sides?.map((side) => this.frequencyOf(side)) ?? [null, null];
  },

  frequencyOf(analyser) {
    if (!analyser || this.context.currentTime < 0.4) return null;
    const samples = new Float32Array(analyser.fftSize);
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    if (Math.sqrt(power) < 1e-3) return 0;
    const spectrum = new Float32Array(analyser.frequencyBinCount);
    analyser.getFloatFrequencyData(spectrum);
    const strongest = spectrum.reduce((best, level, bin) => (level > spectrum[best] ? bin : best), 0);
    return (strongest * this.context.sampleRate) / analyser.fftSize;
  },
};

// A track with one tone in the left channel and a louder one in the right.
window.twoTones = (left, right) => {
  const context = new AudioContext({ sampleRate: 48000 });
  const merger = context.createChannelMerger(2);
  [left, right].forEach((frequency, channel) => {
    const tone = new OscillatorNode(context, { frequency });
    tone.connect(new GainNode(context, { gain: 0.1 + 0.2 * channel })).connect(merger, 0, channel);
    tone.start();
  });
  const out = new MediaStreamAudioDestinationNode(context, { channelCount: 2 });
  merger.connect(out);
  return out.stream.getAudioTracks()[0];
};
