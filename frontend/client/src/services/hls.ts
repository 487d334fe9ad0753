/// <reference path="./hls-light.d.ts" />
import Hls, { ErrorTypes, Events } from "hls.js/light";
import { backoffMs } from "../backoff";
import { ApiError } from "./api";
import type { HlsAddress, HlsHandlers, HlsPlayback, HlsPosition } from "./hls-types";
import type { LinkState } from "./media-types";

export type { HlsAddress, HlsHandlers, HlsPlayback, HlsPosition } from "./hls-types";

export interface HlsOptions extends HlsHandlers {
  /** Plays it. Nobody else may use it before `close`. */
  audio: HTMLAudioElement;
  /** A new address, once the old one is not good any more. Errors that will not pass end the playing. */
  renew: () => Promise<HlsAddress>;
  random?: () => number;
}

const REPORT_MS = 500;
/** So near to the end counts as live: the distance wanders with the network. */
const LIVE_WITHIN_S = 6;
/** Nothing has moved for so long although it should. */
const STALLED_MS = 10_000;
/** As far as the start of the window keeps moving, nobody may stand right on it. */
const WINDOW_MARGIN_S = 2;
const TYPE = "application/vnd.apple.mpegurl";

export function playHls(address: HlsAddress, options: HlsOptions): HlsPlayback {
  return new Playback(address, options);
}

class Playback implements HlsPlayback {
  #options: HlsOptions;
  #address: HlsAddress;
  #state: LinkState = { name: "connecting" };
  #hls: Hls | null = null;
  #attempt = 0;
  #mended = false;
  #closed = false;
  #retryTimer: ReturnType<typeof setTimeout> | undefined;
  #reportTimer: ReturnType<typeof setInterval>;
  #lastTime = -1;
  #movedAt = Date.now();
  /** The listener has chosen what was said before; who has not is brought back to live after a stall. */
  #wentBack = false;
  #forget: (() => void)[] = [];

  constructor(address: HlsAddress, options: HlsOptions) {
    this.#address = address;
    this.#options = options;
    const { audio } = options;
    this.#listen(audio, "playing", () => {
      this.#attempt = 0;
      this.#setState({ name: "connected" });
    });
    this.#listen(audio, "pause", () => {
      this.#wentBack = true;
    });
    this.#listen(audio, "ended", () => this.#options.onEnd());
    this.#listen(audio, "error", () => {
      if (!this.#hls && audio.error) this.#lost();
    });
    this.#reportTimer = setInterval(() => this.#report(), REPORT_MS);
    this.#open();
  }

  get state(): LinkState {
    return this.#state;
  }

  heardAt(): number | null {
    const date = this.#playingDate();
    return date === null ? null : (date - Date.parse(this.#address.mediaTimeZero)) / 1000;
  }

  seekBehind(seconds: number): void {
    const range = this.#range();
    if (!range) return;
    const earliest = Math.min(range.start + WINDOW_MARGIN_S, range.live);
    this.#options.audio.currentTime = Math.min(Math.max(range.end - seconds, earliest), range.live);
    this.#wentBack = true;
    this.#play();
    this.#report();
  }

  goLive(): void {
    const range = this.#range();
    if (range) this.#options.audio.currentTime = range.live;
    this.#wentBack = false;
    this.#play();
    this.#report();
  }

  retryNow(): void {
    if (this.#state.name !== "reconnecting") return;
    clearTimeout(this.#retryTimer);
    void this.#renew();
  }

  close(): void {
    if (this.#closed) return;
    this.#end();
    if (this.#state.name !== "failed") this.#setState({ name: "closed" });
  }

  #end(): void {
    this.#closed = true;
    clearTimeout(this.#retryTimer);
    clearInterval(this.#reportTimer);
    for (const forget of this.#forget) forget();
    this.#release();
  }

  #listen(audio: HTMLAudioElement, event: string, handler: () => void): void {
    audio.addEventListener(event, handler);
    this.#forget.push(() => audio.removeEventListener(event, handler));
  }

  #setState(state: LinkState): void {
    if (this.#state.name === state.name && state.name === "connected") return;
    this.#state = state;
    this.#options.onState(state);
  }

  #open(): void {
    const { audio } = this.#options;
    const url = new URL(this.#address.url, document.baseURI).href;
    this.#wentBack = false;
    this.#movedAt = Date.now();
    if (Hls.isSupported()) {
      const hls = new Hls({
        lowLatencyMode: true,
        enableWorker: false,
        backBufferLength: 60,
        // What has been missed while the network was slow is caught up with by playing a little faster, unheard.
        maxLiveSyncPlaybackRate: 1.05,
      });
      this.#hls = hls;
      hls.on(Events.ERROR, (_event, data) => {
        if (!data.fatal || this.#hls !== hls) return;
        if (data.type === ErrorTypes.MEDIA_ERROR && !this.#mended) {
          this.#mended = true;
          hls.recoverMediaError();
        } else this.#lost();
      });
      hls.on(Events.MANIFEST_PARSED, () => this.#play());
      hls.loadSource(url);
      hls.attachMedia(audio);
    } else if (audio.canPlayType(TYPE) !== "") {
      audio.src = url;
      this.#play();
    } else {
      this.#fail(
        new ApiError(0, "hls_unsupported", "This browser can play neither WebRTC nor HLS here."),
      );
    }
  }

  #play(): void {
    // Refused before a click: the page shows a button for that (`blocked`), which plays.
    this.#options.audio.play().catch(() => undefined);
  }

  #release(): void {
    const { audio } = this.#options;
    const hls = this.#hls;
    this.#hls = null;
    if (hls) hls.destroy();
    audio.removeAttribute("src");
    audio.load();
  }

  /** The stream has broken off: a new address and a new beginning. */
  #lost(): void {
    if (this.#closed || this.#state.name === "reconnecting") return;
    this.#release();
    this.#retryLater();
  }

  #retryLater(leastMs = 0): void {
    const random = this.#options.random ?? Math.random;
    const waitMs = backoffMs(this.#attempt, random, { firstMs: 500, maxMs: 10_000 });
    this.#attempt += 1;
    this.#setState({ name: "reconnecting", attempt: this.#attempt });
    this.#retryTimer = setTimeout(() => void this.#renew(), Math.max(waitMs, leastMs));
  }

  async #renew(): Promise<void> {
    try {
      const address = await this.#options.renew();
      if (this.#closed) return;
      this.#address = address;
      this.#mended = false;
      this.#setState({ name: "connecting" });
      this.#open();
    } catch (error) {
      if (this.#closed) return;
      if (error instanceof ApiError && !error.passing) this.#fail(error);
      else this.#retryLater(error instanceof ApiError ? (error.retryAfterMs ?? 0) : 0);
    }
  }

  #fail(error: ApiError): void {
    this.#end();
    this.#setState({ name: "failed", error });
  }

  #playingDate(): number | null {
    const { audio } = this.#options;
    if (this.#hls) return this.#hls.playingDate?.getTime() ?? null;
    const began = (audio as { getStartDate?: () => Date }).getStartDate?.().getTime();
    return began === undefined || Number.isNaN(began) ? null : began + audio.currentTime * 1000;
  }

  /** In the element's seconds: what can be heard, and where hearing it live begins. */
  #range(): { start: number; end: number; live: number } | null {
    const { audio } = this.#options;
    const details = this.#hls?.latestLevelDetails;
    if (details) {
      const live = details.live ? (this.#hls?.liveSyncPosition ?? details.edge - 1) : details.edge;
      return { start: details.fragmentStart, end: details.edge, live };
    }
    const { seekable } = audio;
    if (this.#hls || seekable.length === 0) return null;
    const end = seekable.end(seekable.length - 1);
    return { start: seekable.start(0), end, live: end };
  }

  #report(): void {
    this.#watch();
    const range = this.#range();
    if (this.#closed || !range) return;
    const { audio } = this.#options;
    const finished = this.#hls?.latestLevelDetails?.live === false;
    const farthestS = LIVE_WITHIN_S + (range.end - range.live);
    // Catching up by playing faster would take minutes from there.
    const left = !this.#wentBack && !finished && this.#state.name === "connected";
    if (left && range.end - audio.currentTime >= farthestS) audio.currentTime = range.live;
    const behindS = Math.max(0, range.end - audio.currentTime);
    const live = behindS < farthestS;
    if (live && !audio.paused) this.#wentBack = false;
    const position: HlsPosition = {
      behindS,
      windowS: Math.max(0, range.end - range.start - WINDOW_MARGIN_S),
      live,
      finished,
    };
    this.#options.onPosition(position);
  }

  /** A page that was asleep, or a server that was away: hls.js may wait for ever where nothing follows. */
  #watch(): void {
    const { audio } = this.#options;
    const now = Date.now();
    if (audio.currentTime !== this.#lastTime || audio.paused || this.#state.name !== "connected") {
      this.#lastTime = audio.currentTime;
      this.#movedAt = now;
    } else if (now - this.#movedAt > STALLED_MS && !audio.ended) this.#lost();
  }
}
