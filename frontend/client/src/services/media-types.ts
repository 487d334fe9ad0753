/** The words that `webrtc.ts` shares with the stores, without pulling mediasoup-client into their bundle. */
import type { ApiError } from "./api";

/** What is being sent: decides the codec settings, and in the host's page the microphone processing. */
export type SoundKind = "voice" | "music";

/** How the programme comes: `opus3` is a third of the packets, 40 ms later. The sound is the same. */
export type Variant = "opus" | "opus3";

export type LinkState =
  | { name: "connecting" }
  | { name: "connected" }
  | { name: "reconnecting"; attempt: number }
  | { name: "closed" }
  /** Will not come back by itself. `error.code` says why: `not_live`, `removed`, `stage_full`, … */
  | { name: "failed"; error: ApiError };

/** One direction's figures, for people and for tests. Null where the browser does not say (yet). */
export interface LinkStats {
  direction: "send" | "recv";
  state: LinkState["name"];
  /** Times the connection was built anew since the start. */
  rebuilds: number;
  packets: number;
  bytes: number;
  packetsLost: number;
  /** Lost share of the last measuring interval, 0 to 1. */
  lossRatio: number | null;
  /** Share of heard samples that were made up to hide gaps, since the start, 0 to 1. */
  concealedRatio: number | null;
  jitterMs: number | null;
  jitterBufferMs: number | null;
  roundTripMs: number | null;
  bitrateKbps: number | null;
  /** 0 to 1, as the browser measures it. */
  audioLevel: number | null;
  totalAudioEnergy: number | null;
  codec: string | null;
  /** Such as "udp 198.51.100.7:40000". */
  remote: string | null;
}

export interface CloseOptions {
  /** The page goes away: the goodbye has to outlive it. */
  leavingPage?: boolean;
  /** The server closed everything itself (the show ended, the person was removed): no goodbye. */
  serverKnows?: boolean;
}

export interface MediaLink {
  readonly state: LinkState;
  /** The received track, or the one being sent. Null before the first connection. */
  readonly track: MediaStreamTrack | null;
  stats(): Promise<LinkStats>;
  /** Everything the browser reports, for a support request. */
  rawStats(): Promise<Record<string, unknown>[]>;
  /** Send this track from now on (publishing only). */
  replaceTrack(track: MediaStreamTrack): Promise<void>;
  /** The network is back: do not wait out the backoff. */
  retryNow(): void;
  /** Connect anew, because what was asked for has changed. A moment of silence. */
  renew(): void;
  close(options?: CloseOptions): void;
}

/** Single speakers, each a track of their own: what people on the stage hear of each other. */
export interface StageLink {
  /** Hear these producers from now on, and no others. */
  hear(producerIds: readonly string[]): void;
  /** The network is back: do not wait out the backoff. */
  retryNow(): void;
  close(options?: CloseOptions): void;
}
