import type { LinkStats } from "@lac/client";

/** What a page offers for support and for end-to-end tests, as `window.lacDiagnostics`. */
export interface Diagnostics {
  /** What is being heard. */
  readonly remoteTrack: MediaStreamTrack | null;
  /** Media time of what is heard, in seconds, where that is not the present. */
  heardAt(): number | null;
  /** What is being sent. */
  readonly localTrack: MediaStreamTrack | null;
  stats(): Promise<LinkStats | null>;
  rawStats(): Promise<Record<string, unknown>[]>;
}

declare global {
  interface Window {
    lacDiagnostics?: Diagnostics;
  }
}

/** Offer `diagnostics` until the returned function is called. */
export function offerDiagnostics(diagnostics: Diagnostics): () => void {
  window.lacDiagnostics = diagnostics;
  return () => {
    if (window.lacDiagnostics === diagnostics) delete window.lacDiagnostics;
  };
}
