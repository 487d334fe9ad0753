import { messageOf } from "@lac/client";
import { useCallback, useState } from "react";
import { type Act, useAct } from "./act";
import { usePolling } from "./hooks";

const POLL_MS = 10_000;

interface Page<T> {
  items: readonly T[];
  nextCursor: string | null;
}

export interface Latest<T> extends Act {
  /** The latest first; null until the first page has come. */
  items: readonly T[] | null;
  /** Null where there are none. */
  showOlder: (() => Promise<void>) | null;
}

/** A list with the latest first, whose first page is looked at again and again; the others come when asked for. */
export function useLatest<T>(
  fetchPage: (cursor?: string, signal?: AbortSignal) => Promise<Page<T>>,
  keyOf: (item: T) => string,
): Latest<T> {
  const acting = useAct();
  const { act, setProblem } = acting;
  const [latest, setLatest] = useState<readonly T[] | null>(null);
  const [older, setOlder] = useState<readonly T[]>([]);
  /** Of the oldest page so far; empty after the last one. */
  const [cursor, setCursor] = useState<string | null>(null);
  const load = useCallback(
    async (signal: AbortSignal) => {
      try {
        const page = await fetchPage(undefined, signal);
        setLatest(page.items);
        setCursor((cursor) => cursor ?? page.nextCursor);
        setProblem(null);
      } catch (error) {
        if (!signal.aborted) setProblem(messageOf(error));
      }
    },
    [fetchPage, setProblem],
  );
  usePolling(load, POLL_MS);

  const showOlder = (from: string) =>
    act(async () => {
      const page = await fetchPage(from);
      setOlder((before) => [...before, ...page.items]);
      setCursor(page.nextCursor ?? "");
    });
  const all = new Map([...(latest ?? []), ...older].map((item) => [keyOf(item), item]));
  return {
    ...acting,
    items: latest && [...all.values()],
    showOlder: cursor ? () => showOlder(cursor) : null,
  };
}
