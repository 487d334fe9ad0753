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
    this.context.createMediaStreamSource(new MediaStream([track])).connect(this.analyser);
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
    if (!this.analyser || this.context.currentTime < 0.4) return null;
    const samples = new Float32Array(this.analyser.fftSize);
    this.analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    if (Math.sqrt(power) < 1e-3) return 0;
    const spectrum = new Float32Array(this.analyser.frequencyBinCount);
    this.analyser.getFloatFrequencyData(spectrum);
    const strongest = spectrum.reduce((best, level, bin) => (level > spectrum[best] ? bin : best), 0);
    return (strongest * this.context.sampleRate) / this.analyser.fftSize;
  },
};
