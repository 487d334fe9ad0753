/** The words that `hls.ts` shares with the player's store, without pulling hls.js into its bundle. */
import type { components } from "../schema";
import type { LinkState } from "./media-types";

/** Where to listen: `POST /api/broadcasts/:id/hls`, `joined.hls`, and what a refused transport answers. */
export type HlsAddress = components["schemas"]["HlsAddress"];

export interface HlsPosition {
  /** Seconds from what is heard to the end of what there is; a few of them are always needed. */
  behindS: number;
  /** How far back one can go now. */
  windowS: number;
  /** As near to the end as playing is safe. */
  live: boolean;
  /** The show is over: this is the end of it. */
  finished: boolean;
}

export interface HlsHandlers {
  onState: (state: LinkState) => void;
  onPosition: (position: HlsPosition) => void;
  /** The last of a show that is over has been heard. */
  onEnd: () => void;
}

export interface HlsPlayback {
  readonly state: LinkState;
  /** Media time of what is heard now, in seconds; null before the first sound. */
  heardAt(): number | null;
  /** Hear what is so many seconds behind the end. */
  seekBehind(seconds: number): void;
  goLive(): void;
  retryNow(): void;
  close(): void;
}
