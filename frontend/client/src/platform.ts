/** What differs between a browser, a phone and a test. Given once, to `createLac`. */

export interface KeyValueStore {
  get(key: string): string | null | Promise<string | null>;
  set(key: string, value: string): void | Promise<void>;
  remove(key: string): void | Promise<void>;
}

/** The part of a WebSocket that we use; browsers' and React Native's both fit. */
export interface SocketLike {
  readonly readyState: number;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  onerror: ((event: never) => void) | null;
  send(data: string): void;
  close(code?: number, reason?: string): void;
}

export interface Platform {
  /** Origin of the server without a trailing slash, such as `https://radio.example`. */
  baseUrl: string;
  fetch: (input: string, init?: RequestInit) => Promise<Response>;
  openSocket: (url: string) => SocketLike;
  storage: KeyValueStore;
  /**
   * Runs `work` while no other tab does. Refresh tokens are good for one use, so that two tabs refreshing at once would
   * sign the person out. Left away where there is only ever one instance, or where the browser has no locks.
   */
  exclusively?: <T>(name: string, work: () => Promise<T>) => Promise<T>;
  /** 0 to 1, for jitter. */
  random?: () => number;
}

export function randomOf(platform: Pick<Platform, "random">): () => number {
  return platform.random ?? Math.random;
}
