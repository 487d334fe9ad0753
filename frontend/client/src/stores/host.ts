import { createStore, type StoreApi } from "zustand/vanilla";
import { type Api, ApiError, messageOf } from "../services/api";
import type { CloseOptions, LinkStats, MediaLink, SoundKind } from "../services/media-types";
import type { Broadcast } from "../types";
import type { LinkHandlers } from "./player";

export type HostPhase = "off_air" | "starting" | "on_air" | "reconnecting" | "ending";

export type MicrophoneProblem =
  /** No microphone for pages that did not come over HTTPS or from this machine. */
  | "insecure"
  | "denied"
  | "missing"
  /** Another program has it. */
  | "busy"
  | "unplugged"
  | "other";

export interface HostState {
  phase: HostPhase;
  /** Own choice: nothing of the microphone goes out, the show goes on. */
  paused: boolean;
  kind: SoundKind;
  deviceId: string | null;
  track: MediaStreamTrack | null;
  microphone: "off" | "asking" | "on";
  microphoneProblem: MicrophoneProblem | null;
  problem: string | null;
  code: string | null;
}

export interface Microphone {
  /** Opens a microphone, processed as suits `kind`. Rejects with a `MicrophoneError`. */
  open(options: { deviceId: string | null; kind: SoundKind }): Promise<MediaStreamTrack>;
}

export class MicrophoneError extends Error {
  override readonly name = "MicrophoneError";
  constructor(readonly problem: MicrophoneProblem) {
    super(problem);
  }
}

export type OpenPublish = (
  track: MediaStreamTrack,
  kind: SoundKind,
  handlers: Pick<LinkHandlers, "onState">,
) => Promise<MediaLink>;

export interface Host {
  store: StoreApi<HostState>;
  /** Ask for the microphone, so that its level can be seen before anybody hears it. */
  openMicrophone(): Promise<void>;
  closeMicrophone(): void;
  chooseDevice(deviceId: string): Promise<void>;
  chooseKind(kind: SoundKind): Promise<void>;
  /** Begin the show, or take it up again after a reload. */
  goLive(): Promise<void>;
  pause(): void;
  resume(): void;
  end(): Promise<void>;
  /** Stop sending and keep the microphone: the stage is somebody else's now. */
  stepDown(): void;
  /** Off air without ending the show: the page is being left, or the show ended by itself. */
  leave(options?: CloseOptions): void;
  retryNow(): void;
  stats(): Promise<LinkStats | null>;
  rawStats(): Promise<Record<string, unknown>[]>;
}

export function createHost(config: {
  broadcastId: string;
  /** How the show is begun and ended; null for speakers, who do neither. */
  api: Pick<Api, "startBroadcast" | "endBroadcast"> | null;
  microphone: Microphone;
  openPublish: OpenPublish;
  /** What the server answered about the show. */
  onBroadcast: (broadcast: Broadcast) => void;
  initial?: { kind?: SoundKind; deviceId?: string | null };
}): Host {
  const { api, microphone, broadcastId } = config;
  const store = createStore<HostState>(() => ({
    phase: "off_air",
    paused: false,
    kind: config.initial?.kind ?? "voice",
    deviceId: config.initial?.deviceId ?? null,
    track: null,
    microphone: "off",
    microphoneProblem: null,
    problem: null,
    code: null,
  }));
  const { getState, setState } = store;
  let link: MediaLink | null = null;
  let run = 0;
  let microphoneRun = 0;

  function stopTrack(): void {
    const { track } = getState();
    if (!track) return;
    track.onended = null;
    track.stop();
  }

  async function openTrack(): Promise<MediaStreamTrack | null> {
    const mine = ++microphoneRun;
    const { deviceId, kind } = getState();
    setState({ microphone: "asking", microphoneProblem: null });
    try {
      const track = await microphone.open({ deviceId, kind });
      if (mine !== microphoneRun) {
        track.stop();
        return null;
      }
      const old = getState().track;
      track.enabled = !getState().paused;
      track.onended = () => {
        if (getState().track !== track) return;
        setState({ microphone: "off", microphoneProblem: "unplugged", track: null });
      };
      setState({ track, microphone: "on" });
      await link?.replaceTrack(track);
      if (old) {
        old.onended = null;
        old.stop();
      }
      return track;
    } catch (error) {
      if (mine !== microphoneRun) return null;
      const problem = error instanceof MicrophoneError ? error.problem : "other";
      const still = getState().track?.readyState === "live";
      setState({ microphone: still ? "on" : "off", microphoneProblem: problem });
      return null;
    }
  }

  function closeLink(options?: CloseOptions): void {
    run += 1;
    link?.close(options);
    link = null;
  }

  function fail(error: unknown): void {
    closeLink();
    setState({
      phase: "off_air",
      problem: messageOf(error),
      code: error instanceof ApiError ? error.code : null,
    });
  }

  function setPaused(paused: boolean): void {
    const { track } = getState();
    if (track) track.enabled = !paused;
    setState({ paused });
  }

  return {
    store,
    async openMicrophone() {
      await openTrack();
    },
    closeMicrophone() {
      microphoneRun += 1;
      stopTrack();
      setState({ track: null, microphone: "off" });
    },
    async chooseDevice(deviceId) {
      setState({ deviceId });
      if (getState().microphone !== "off") await openTrack();
    },
    async chooseKind(kind) {
      setState({ kind });
      if (getState().microphone !== "off") await openTrack();
    },
    async goLive() {
      if (getState().phase !== "off_air") return;
      const mine = ++run;
      setState({ phase: "starting", problem: null, code: null });
      const track = getState().track ?? (await openTrack());
      if (mine !== run) return;
      if (!track) {
        setState({ phase: "off_air" });
        return;
      }
      try {
        if (api) config.onBroadcast(await api.startBroadcast(broadcastId));
        if (mine !== run) return;
        const opened = await config.openPublish(track, getState().kind, {
          onState: (state) => {
            if (mine !== run) return;
            if (state.name === "connected") setState({ phase: "on_air", problem: null });
            else if (state.name === "reconnecting") {
              const { phase } = getState();
              setState({ phase: phase === "starting" ? "starting" : "reconnecting" });
            } else if (state.name === "failed") fail(state.error);
          },
        });
        if (mine !== run) {
          opened.close();
          return;
        }
        link = opened;
        const latest = getState().track;
        if (latest && latest !== track) await opened.replaceTrack(latest);
      } catch (error) {
        if (mine === run) fail(error);
      }
    },
    pause: () => setPaused(true),
    resume: () => setPaused(false),
    async end() {
      if (!api) return;
      const before = getState().phase;
      setState({ phase: "ending", problem: null });
      try {
        const broadcast = await api.endBroadcast(broadcastId);
        closeLink({ serverKnows: true });
        setState({ phase: "off_air", paused: false });
        config.onBroadcast(broadcast);
      } catch (error) {
        setState({ phase: before, problem: messageOf(error) });
      }
    },
    stepDown() {
      closeLink();
      setPaused(false);
      setState({ phase: "off_air", problem: null, code: null });
    },
    leave(options) {
      closeLink(options);
      microphoneRun += 1;
      stopTrack();
      setState({
        phase: "off_air",
        track: null,
        microphone: "off",
        paused: false,
        problem: null,
        code: null,
      });
    },
    retryNow() {
      link?.retryNow();
    },
    stats: async () => (link ? link.stats() : null),
    rawStats: async () => (link ? link.rawStats() : []),
  };
}
