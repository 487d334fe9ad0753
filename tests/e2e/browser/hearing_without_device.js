// After hearing.js: where there is nothing to play through, Firefox starts no AudioContext. So half a second after the
// other is recorded, and analysed on its own.
window.hearing.tap = async function tap(track) {
  this.track = track;
  while (this.track === track && track.readyState === "live") {
    const recorded = await recordHalfASecond(track);
    // One that has only just begun may have no frame yet.
    if (recorded.byteLength > 0) await analyse(this, recorded);
  }
};

async function recordHalfASecond(track) {
  const recorder = new MediaRecorder(new MediaStream([track]), { audioBitsPerSecond: 128000 });
  const chunks = [];
  recorder.ondataavailable = ({ data }) => chunks.push(data);
  const stopped = new Promise((resolve) => recorder.addEventListener("stop", resolve, { once: true }));
  recorder.start();
  await new Promise((resolve) => setTimeout(resolve, 500));
  if (recorder.state === "recording") recorder.stop();
  await stopped;
  return new Blob(chunks).arrayBuffer();
}

async function analyse(hearing, recorded) {
  const rate = 48000;
  const sound = await new OfflineAudioContext(1, 1, rate).decodeAudioData(recorded);
  if (sound.duration < 0.4) return;
  const context = new OfflineAudioContext(1, sound.length, rate);
  const analyser = context.createAnalyser();
  analyser.fftSize = 16384;
  analyser.smoothingTimeConstant = 0;
  const source = context.createBufferSource();
  source.buffer = sound;
  source.connect(analyser).connect(context.destination);
  source.start();
  await context.startRendering();
  Object.assign(hearing, { context, analyser });
}
