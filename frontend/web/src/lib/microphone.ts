import {
  type Microphone,
  MicrophoneError,
  type MicrophoneProblem,
  type SoundKind,
} from "@lac/client";
import { useEffect, useState } from "react";

export function microphoneConstraints(
  kind: SoundKind,
  deviceId: string | null,
): MediaTrackConstraints {
  // What makes speech in a room clear ruins music: it is all on or all off.
  const processed = kind === "voice";
  return {
    ...(deviceId ? { deviceId: { exact: deviceId } } : {}),
    echoCancellation: processed,
    noiseSuppression: processed,
    autoGainControl: processed,
    channelCount: { ideal: processed ? 1 : 2 },
    sampleRate: { ideal: 48_000 },
  };
}

export const browserMicrophone: Microphone = {
  async open({ deviceId, kind }) {
    // Absent on pages that came over plain HTTP from another machine.
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new MicrophoneError(window.isSecureContext ? "other" : "insecure");
    }
    try {
      return await ask(kind, deviceId);
    } catch (error) {
      // The remembered one is not plugged in today: any other will do.
      if (deviceId && nameOf(error) === "OverconstrainedError") {
        return await ask(kind, null).catch((again) => {
          throw new MicrophoneError(problemOf(again));
        });
      }
      throw new MicrophoneError(problemOf(error));
    }
  },
};

async function ask(kind: SoundKind, deviceId: string | null): Promise<MediaStreamTrack> {
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: microphoneConstraints(kind, deviceId),
  });
  const [track] = stream.getAudioTracks();
  if (!track) throw new MicrophoneError("missing");
  track.contentHint = kind === "voice" ? "speech" : "music";
  return track;
}

function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : "";
}

function problemOf(error: unknown): MicrophoneProblem {
  if (error instanceof MicrophoneError) return error.problem;
  switch (nameOf(error)) {
    case "NotAllowedError":
    case "SecurityError":
      return "denied";
    case "NotFoundError":
    case "OverconstrainedError":
      return "missing";
    case "NotReadableError":
    case "AbortError":
      return "busy";
    default:
      return "other";
  }
}

export const MICROPHONE_HELP: Record<MicrophoneProblem, { title: string; what: string }> = {
  insecure: {
    title: "This page may not use a microphone",
    what: "Browsers give microphones only to pages opened over HTTPS, or on the server's own machine as http://localhost. Open the page that way, or send the sound with OBS (see below).",
  },
  denied: {
    title: "The microphone is blocked",
    what: "Allow it with the icon at the left of the address bar, then try again. On a phone, also check the browser's permission in the system settings.",
  },
  missing: {
    title: "No microphone was found",
    what: "Plug one in or switch it on, then try again.",
  },
  busy: {
    title: "The microphone is in use",
    what: "Another program is holding it. Close that program, then try again.",
  },
  unplugged: {
    title: "The microphone is gone",
    what: "It was unplugged or switched off. Choose another one, or plug it in and try again. The show goes on in silence.",
  },
  other: {
    title: "The microphone did not start",
    what: "Try again, or choose another one. If it keeps failing, reload the page.",
  },
};

/** The microphones there are. Names are known only once one has been allowed. */
export function useMicrophones(allowed: boolean): MediaDeviceInfo[] {
  const [devices, setDevices] = useState<MediaDeviceInfo[]>([]);
  useEffect(() => {
    const media = navigator.mediaDevices;
    if (!allowed || !media?.enumerateDevices) return;
    let current = true;
    const list = () =>
      media.enumerateDevices().then(
        (all) => {
          if (current) setDevices(all.filter((device) => device.kind === "audioinput"));
        },
        () => undefined,
      );
    void list();
    media.addEventListener?.("devicechange", list);
    return () => {
      current = false;
      media.removeEventListener?.("devicechange", list);
    };
  }, [allowed]);
  return devices;
}
