import type { types } from "mediasoup-client";
import { ApiError } from "./api";
import type { CloseOptions, MediaLink, StageLink } from "./media-types";
import type { WebRtcOptions } from "./webrtc";

export interface StageOptions extends Omit<WebRtcOptions, "onTrack"> {
  /** By producer; told anew whenever one comes or goes. */
  onTracks: (tracks: ReadonlyMap<string, MediaStreamTrack>) => void;
}

/** One connected transport, as far as consumers need it. */
export interface Way {
  /** Whether it has not been given up for another one. */
  isCurrent(): boolean;
  consume(producerId: string): Promise<types.Consumer>;
  /** Tell the server that this consumer is closed. */
  closed(consumer: types.Consumer): void;
}

/** How long after a failure a speaker is asked for again. */
const RETRY_MS = 2_000;

/** Puts on a new transport what is to be heard over it. */
export type Fill = (way: Way) => Promise<void>;

/** `open` builds a link whose transports are filled by what it is given. Nothing is opened before somebody is heard. */
export function createStageLink(
  { onTracks }: StageOptions,
  open: (fill: Fill) => MediaLink,
): StageLink {
  let wanted = new Set<string>();
  let link: MediaLink | null = null;
  let current: Way | null = null;
  /** Of `current`. */
  const consumers = new Map<string, types.Consumer>();
  let filling = false;
  let retry: ReturnType<typeof setTimeout> | undefined;

  const tell = () => onTracks(new Map([...consumers].map(([id, { track }]) => [id, track])));

  function dropUnwanted(): void {
    for (const [id, consumer] of consumers) {
      if (wanted.has(id)) continue;
      consumers.delete(id);
      consumer.close();
      current?.closed(consumer);
    }
  }

  /** One at a time: the same producer must not be asked for twice. */
  async function consumeWanted(way: Way): Promise<void> {
    if (filling) return;
    filling = true;
    try {
      for (let id = next(); id !== undefined && current === way; id = next()) {
        const consumer = await consume(way, id);
        if (!consumer) wanted.delete(id);
        else if (current !== way || !way.isCurrent()) consumer.close();
        else {
          consumers.set(id, consumer);
          dropUnwanted(); // It may have gone meanwhile.
          tell();
        }
      }
    } finally {
      filling = false;
    }
    if (current && current !== way) await consumeWanted(current);
  }

  const next = () => [...wanted].find((id) => !consumers.has(id));

  /** Null for a producer that is not there any more. */
  async function consume(way: Way, id: string): Promise<types.Consumer | null> {
    try {
      return await way.consume(id);
    } catch (error) {
      if (error instanceof ApiError && error.code === "producer_not_found") return null;
      throw error;
    }
  }

  /** A new transport is filled with everything; this is for the one there is. */
  function consumeNow(): void {
    clearTimeout(retry);
    if (!current?.isCurrent()) return;
    consumeWanted(current).catch((error: unknown) => {
      if (error instanceof ApiError && error.code === "transport_used_up") link?.renew();
      else retry = setTimeout(consumeNow, RETRY_MS);
    });
  }

  async function fill(way: Way): Promise<void> {
    current = way;
    // They went with the transport before this one.
    consumers.clear();
    await consumeWanted(way);
    tell();
  }

  return {
    hear(producerIds) {
      wanted = new Set(producerIds);
      dropUnwanted();
      tell();
      if (wanted.size === 0) return;
      if (!link) link = open(fill);
      else consumeNow();
    },
    retryNow: () => link?.retryNow(),
    close(options?: CloseOptions) {
      clearTimeout(retry);
      wanted = new Set();
      current = null;
      consumers.clear();
      link?.close(options);
      link = null;
      tell();
    },
  };
}
