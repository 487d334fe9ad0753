import { type RefObject, useEffect, useRef } from "react";

let context: AudioContext | null = null;

/** The page's one audio context. Call it from a click first: browsers keep it silent before that. */
export function audioContext(): AudioContext | null {
  if (typeof AudioContext === "undefined") return null;
  context ??= new AudioContext({ latencyHint: "interactive" });
  if (context.state === "suspended") void context.resume().catch(() => undefined);
  return context;
}

/** 0 at -60 dBFS and below, 1 at full scale. */
export function levelOf(rms: number): number {
  if (rms <= 0) return 0;
  return Math.min(1, Math.max(0, (20 * Math.log10(rms) + 60) / 60));
}

/**
 * Measures `track` and writes the level as `--level` (0 to 1) on every element of `targets`, without rendering; elements
 * with the role "meter" also get `aria-valuenow` (0 to 100), four times a second.
 */
export function useLevel(
  track: MediaStreamTrack | null,
  targets: readonly RefObject<HTMLElement | null>[],
): void {
  const latest = useRef(targets);
  useEffect(() => {
    latest.current = targets;
  });
  useEffect(() => {
    const show = (level: number, spoken: boolean) => {
      for (const { current } of latest.current) {
        current?.style.setProperty("--level", level.toFixed(3));
        if (spoken && current?.getAttribute("role") === "meter") {
          current.setAttribute("aria-valuenow", String(Math.round(level * 100)));
        }
      }
    };
    show(0, true);
    const audio = track ? audioContext() : null;
    if (!track || !audio) return;
    const source = audio.createMediaStreamSource(new MediaStream([track]));
    const analyser = audio.createAnalyser();
    analyser.fftSize = 1024;
    source.connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    let shown = 0;
    let spokenAt = 0;
    let frame = requestAnimationFrame(function step(at: number) {
      analyser.getFloatTimeDomainData(samples);
      let sum = 0;
      for (const sample of samples) sum += sample * sample;
      const level = levelOf(Math.sqrt(sum / samples.length));
      // Up at once, down slowly: easier to read, and peaks are seen.
      shown = Math.max(level, shown - 0.02);
      const spoken = at - spokenAt >= 250;
      if (spoken) spokenAt = at;
      show(shown, spoken);
      frame = requestAnimationFrame(step);
    });
    return () => {
      cancelAnimationFrame(frame);
      source.disconnect();
      analyser.disconnect();
      show(0, true);
    };
  }, [track]);
}
