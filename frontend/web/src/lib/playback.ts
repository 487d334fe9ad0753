import type { Broadcast, PlayerState } from "@lac/client";
import { type RefObject, useEffect, useRef, useState } from "react";
import { audioContext } from "./audio";

/** Plays `track` through the element. Without one in the page, browsers do not decode a remote track at all. */
export function usePlayback(
  audio: RefObject<HTMLAudioElement | null>,
  track: MediaStreamTrack | null,
) {
  const [blocked, setBlocked] = useState(false);
  useEffect(() => {
    const element = audio.current;
    if (!element) return;
    setBlocked(false);
    if (!track) {
      element.srcObject = null;
      return;
    }
    element.srcObject = new MediaStream([track]);
    element.play().catch((error: unknown) => {
      if (error instanceof Error && error.name === "NotAllowedError") setBlocked(true);
    });
  }, [audio, track]);
  const play = () => {
    audioContext();
    audio.current?.play().then(
      () => setBlocked(false),
      () => undefined,
    );
  };
  return { blocked, play };
}

/** The same for the element that hls.js plays through, which starts it by itself. */
export function useHlsPlayback(
  audio: RefObject<HTMLAudioElement | null>,
  { via, phase }: PlayerState,
) {
  const [blocked, setBlocked] = useState(false);
  const [track, setTrack] = useState<MediaStreamTrack | null>(null);
  const playing = via === "hls" && phase === "playing";
  useEffect(() => {
    setBlocked(false);
    const element = audio.current;
    if (via !== "hls" || !element) return;
    // Refused before it has anything to play: it says so in no other way.
    const look = () => setBlocked(element.paused && !element.ended && element.readyState >= 2);
    element.addEventListener("canplay", look);
    element.addEventListener("playing", look);
    return () => {
      element.removeEventListener("canplay", look);
      element.removeEventListener("playing", look);
    };
  }, [audio, via]);
  useEffect(() => {
    // Only to be measured. Not in every browser, thus not in the types.
    const element = audio.current as { captureStream?: () => MediaStream } | null;
    if (!playing || !element?.captureStream) return;
    const stream = element.captureStream();
    // It comes a moment later, and another one after each leap in time.
    const take = () =>
      setTrack(stream.getAudioTracks().find(({ readyState }) => readyState === "live") ?? null);
    take();
    stream.addEventListener("addtrack", take);
    stream.addEventListener("removetrack", take);
    return () => {
      stream.removeEventListener("addtrack", take);
      stream.removeEventListener("removetrack", take);
      setTrack(null);
    };
  }, [audio, playing]);
  const play = () => {
    audioContext();
    audio.current?.play().then(
      () => setBlocked(false),
      () => undefined,
    );
  };
  return { blocked, play, track };
}

/** The lock screen and the keys of headphones know what is playing. */
export function useMediaKeys(
  broadcast: Broadcast,
  active: boolean,
  onPlay: () => void,
  onStop: () => void,
): void {
  const { title, host } = broadcast;
  const latest = useRef({ onPlay, onStop });
  useEffect(() => {
    latest.current = { onPlay, onStop };
  });
  useEffect(() => {
    const session = navigator.mediaSession;
    if (!session || !active || typeof MediaMetadata === "undefined") return;
    session.metadata = new MediaMetadata({ title, artist: host.displayName });
    session.setActionHandler("play", () => latest.current.onPlay());
    session.setActionHandler("pause", () => latest.current.onStop());
    session.setActionHandler("stop", () => latest.current.onStop());
    return () => {
      session.metadata = null;
      for (const action of ["play", "pause", "stop"] as const)
        session.setActionHandler(action, null);
    };
  }, [title, host.displayName, active]);
}
