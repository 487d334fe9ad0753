import { createStore, type StoreApi } from "zustand/vanilla";
import { ApiError, messageOf } from "../services/api";
import type { HlsAddress, HlsHandlers, HlsPlayback, HlsPosition } from "../services/hls-types";
import type { CloseOptions, LinkState, LinkStats, MediaLink } from "../services/media-types";

export type PlayerPhase = "stopped" | "connecting" | "playing" | "reconnecting" | "failed";

export interface PlayerState {
  phase: PlayerPhase;
  /** How the sound comes: within a fraction of a second, or some seconds later, with the past at hand. */
  via: "webrtc" | "hls" | null;
  track: MediaStreamTrack | null;
  /** Where in the show one is; by HLS only. */
  position: HlsPosition | null;
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

/** Listening by HLS: where many listen, or where WebRTC does not get through. */
export interface HlsWay {
  open: (address: HlsAddress, handlers: HlsHandlers) => Promise<HlsPlayback>;
  /** Ask the server for an address. */
  find: () => Promise<HlsAddress>;
  /** What the room has said: there may be too many listeners to try WebRTC at all. */
  told: () => HlsAddress | null;
}

export interface Player {
  store: StoreApi<PlayerState>;
  start(): void;
  stop(options?: CloseOptions): void;
  retryNow(): void;
  /** Connect anew, because the wanted variant has changed; nothing while stopped, and by HLS. */
  renew(): void;
  /** There is room by WebRTC again: change over, without a word, as soon as it sounds. `needed`: we are to speak. */
  changeToWebRtc(needed?: boolean): void;
  /** Media time of what is heard, in seconds; null where that is the present. */
  heardAt(): number | null;
  seekBehind(seconds: number): void;
  goLive(): void;
  stats(): Promise<LinkStats | null>;
  rawStats(): Promise<Record<string, unknown>[]>;
}

const STOPPED: PlayerState = {
  phase: "stopped",
  via: null,
  track: null,
  position: null,
  problem: null,
  code: null,
};
/** A connection that was good is rebuilt for ever; after so many attempts HLS carries on meanwhile. */
const ATTEMPTS_BEFORE_HLS = 3;

/** Hearing one broadcast: stopped until asked, and then until asked again. `ready`: who we are is known to the server. */
export function createPlayer(
  openListen: OpenListen,
  hls?: HlsWay,
  ready?: () => Promise<void>,
): Player {
  const store = createStore<PlayerState>(() => STOPPED);
  let link: MediaLink | null = null;
  let playback: HlsPlayback | null = null;
  /** A link that is to take over from HLS. */
  let coming: MediaLink | null = null;
  let changing = false;
  /** We are to speak: the change is not given up. */
  let mustChange = false;
  /** WebRTC does not get through from here. */
  let blocked = false;
  let run = 0;

  function fail(error: unknown, code: string | null): void {
    store.setState({ ...STOPPED, phase: "failed", problem: messageOf(error), code });
  }

  async function begin(mine: number): Promise<void> {
    if (ready) await ready();
    if (mine !== run) return;
    const told = hls?.told() ?? null;
    if (told && (told.preferred || blocked)) await insteadOf(null, mine);
    else listen(mine);
  }

  function listen(mine: number): void {
    store.setState({ ...STOPPED, phase: "connecting", via: "webrtc" });
    /** The link may say how it fares before we have it. */
    let over = false;
    const handlers: LinkHandlers = {
      onState: (state) => {
        if (mine !== run || over) return;
        if (state.name === "connected") store.setState({ phase: "playing", problem: null });
        else if (state.name === "reconnecting") {
          // Before the first sound it is all one "connecting" to a listener.
          const heard = store.getState().track !== null;
          store.setState({ phase: heard ? "reconnecting" : "connecting" });
          if (hls && heard && state.attempt >= ATTEMPTS_BEFORE_HLS) {
            over = true;
            void insteadOf(null, mine);
          }
        } else if (state.name === "failed") {
          over = true;
          link = null;
          void insteadOf(state.error, mine);
        }
      },
      onTrack: (track) => {
        if (mine === run && !over) store.setState({ track });
      },
    };
    openListen(handlers).then(
      (opened) => {
        if (mine !== run || over) opened.close();
        else if (opened.state.name !== "failed") link = opened;
      },
      (error: unknown) => {
        if (mine === run) void insteadOf(error, mine);
      },
    );
  }

  /** WebRTC is over, because of `error`: by HLS, if that is a way out. */
  async function insteadOf(error: unknown, mine: number): Promise<void> {
    const known = error instanceof ApiError ? error : null;
    const sentAway = known?.code === "use_hls" || known?.code === "overloaded";
    // What the server says of us, it would say of HLS as well.
    const hopeless = known !== null && known.status !== 0 && !known.passing;
    if (!hls || hopeless) {
      fail(error, known?.code ?? null);
      return;
    }
    if (error !== null) blocked = !sentAway;
    try {
      const address = known?.hls ?? (await hls.find());
      if (mine !== run) return;
      link?.close();
      link = null;
      play(address, mine);
    } catch (noWay) {
      if (mine !== run || link) return; // it goes on trying by itself
      fail(error ?? noWay, known?.code ?? null);
    }
  }

  function play(address: HlsAddress, mine: number): void {
    if (!hls) return;
    let over = false;
    store.setState({ ...STOPPED, phase: "connecting", via: "hls" });
    const current = () => mine === run && !over;
    const handlers: HlsHandlers = {
      onState: (state) => {
        if (!current() || store.getState().via !== "hls") return;
        if (state.name === "connected") store.setState({ phase: "playing", problem: null });
        else if (state.name === "reconnecting" || state.name === "connecting") {
          const heard = store.getState().position !== null;
          store.setState({ phase: heard ? "reconnecting" : "connecting" });
        } else if (state.name === "failed") {
          over = true;
          playback = null;
          abandonChange();
          fail(state.error, state.error.code);
        }
      },
      onPosition: (position) => {
        if (current() && store.getState().via === "hls") store.setState({ position });
      },
      onEnd: () => {
        if (current()) stop();
      },
    };
    hls.open(address, handlers).then(
      (opened) => {
        if (!current() || store.getState().via !== "hls") opened.close();
        else playback = opened;
      },
      (error: unknown) => {
        if (current()) fail(error, null);
      },
    );
  }

  function abandonChange(): void {
    changing = false;
    coming?.close();
    coming = null;
  }

  /** HLS goes on until the other one sounds. */
  function change(mine: number): void {
    changing = true;
    let track: MediaStreamTrack | null = null;
    let over = false;
    let opened: MediaLink | null = null;
    const settle = (state: LinkState) => {
      if (over || mine !== run) return;
      if (!changing && store.getState().via !== "webrtc") return;
      if (state.name === "connected" && changing) {
        if (!opened) return; // it is asked for its state once we have it
        changing = false;
        coming = null;
        link = opened;
        playback?.close();
        playback = null;
        blocked = false;
        store.setState({ ...STOPPED, phase: "playing", via: "webrtc", track });
      } else if (state.name === "failed") {
        over = true;
        if (changing) {
          abandonChange();
        } else {
          link = null;
          void insteadOf(state.error, mine);
        }
      } else if (state.name === "reconnecting") {
        if (!changing) store.setState({ phase: "reconnecting" });
        if (state.attempt >= ATTEMPTS_BEFORE_HLS && !(changing && mustChange)) {
          over = true;
          if (changing) abandonChange();
          else void insteadOf(null, mine);
        }
      } else if (state.name === "connected") store.setState({ phase: "playing" });
    };
    const handlers: LinkHandlers = {
      onState: settle,
      onTrack: (received) => {
        track = received;
        if (!changing && mine === run && !over) store.setState({ track });
      },
    };
    openListen(handlers).then(
      (given) => {
        if (mine !== run || over || !changing) {
          given.close();
          return;
        }
        opened = given;
        coming = given;
        settle(given.state);
      },
      () => {
        if (mine === run) changing = false;
      },
    );
  }

  function stop(options?: CloseOptions): void {
    run += 1;
    link?.close(options);
    link = null;
    coming?.close(options);
    coming = null;
    changing = false;
    playback?.close();
    playback = null;
    store.setState(STOPPED);
  }

  return {
    store,
    start() {
      const { phase } = store.getState();
      if (phase !== "stopped" && phase !== "failed") return;
      store.setState({ ...STOPPED, phase: "connecting" });
      void begin(++run);
    },
    stop,
    retryNow() {
      link?.retryNow();
      playback?.retryNow();
    },
    renew() {
      link?.renew();
    },
    changeToWebRtc(needed = false) {
      const { via, phase } = store.getState();
      if (via !== "hls" || phase === "failed") return;
      mustChange = needed || (changing && mustChange);
      if (!changing && (!blocked || needed)) change(run);
    },
    heardAt: () => (store.getState().via === "hls" ? (playback?.heardAt() ?? null) : null),
    seekBehind: (seconds) => playback?.seekBehind(seconds),
    goLive: () => playback?.goLive(),
    stats: async () => (link ? link.stats() : null),
    rawStats: async () => (link ? link.rawStats() : []),
  };
}
