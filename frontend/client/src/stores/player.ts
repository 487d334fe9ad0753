import { createStore, type StoreApi } from "zustand/vanilla";
import { messageOf } from "../services/api";
import type { CloseOptions, LinkState, LinkStats, MediaLink } from "../services/media-types";

export type PlayerPhase = "stopped" | "connecting" | "playing" | "reconnecting" | "failed";

export interface PlayerState {
  phase: PlayerPhase;
  track: MediaStreamTrack | null;
  /** What went wrong, in words, when `phase` is "failed". */
  problem: string | null;
  code: string | null;
}

export interface LinkHandlers {
  onState: (state: LinkState) => void;
  onTrack: (track: MediaStreamTrack) => void;
}

/** Opens the link. Asynchronous, because its code is loaded when first needed. */
export type OpenListen = (handlers: LinkHandlers) => Promise<MediaLink>;

export interface Player {
  store: StoreApi<PlayerState>;
  start(): void;
  stop(options?: CloseOptions): void;
  retryNow(): void;
  /** Connect anew, because the wanted variant has changed; nothing while stopped. */
  renew(): void;
  stats(): Promise<LinkStats | null>;
  rawStats(): Promise<Record<string, unknown>[]>;
}

const STOPPED: PlayerState = { phase: "stopped", track: null, problem: null, code: null };

/** Hearing one broadcast: stopped until asked, and then until asked again. */
export function createPlayer(openListen: OpenListen): Player {
  const store = createStore<PlayerState>(() => STOPPED);
  let link: MediaLink | null = null;
  let run = 0;

  function fail(error: unknown, code: string | null): void {
    store.setState({ phase: "failed", problem: messageOf(error), code, track: null });
  }

  return {
    store,
    start() {
      const { phase } = store.getState();
      if (phase !== "stopped" && phase !== "failed") return;
      const mine = ++run;
      store.setState({ ...STOPPED, phase: "connecting" });
      const handlers: LinkHandlers = {
        onState: (state) => {
          if (mine !== run) return;
          if (state.name === "connected") store.setState({ phase: "playing", problem: null });
          else if (state.name === "reconnecting") {
            // Before the first sound it is all one "connecting" to a listener.
            const heard = store.getState().track !== null;
            store.setState({ phase: heard ? "reconnecting" : "connecting" });
          } else if (state.name === "failed") {
            link = null;
            fail(state.error, state.error.code);
          }
        },
        onTrack: (track) => {
          if (mine === run) store.setState({ track });
        },
      };
      openListen(handlers).then(
        (opened) => {
          if (mine !== run) opened.close();
          else if (opened.state.name !== "failed") link = opened;
        },
        (error: unknown) => {
          if (mine === run) fail(error, null);
        },
      );
    },
    stop(options) {
      run += 1;
      link?.close(options);
      link = null;
      store.setState(STOPPED);
    },
    retryNow() {
      link?.retryNow();
    },
    renew() {
      link?.renew();
    },
    stats: async () => (link ? link.stats() : null),
    rawStats: async () => (link ? link.rawStats() : []),
  };
}
