import { messageOf } from "@lac/client";
import { useCallback, useState } from "react";
import { type Act, useAct } from "./act";
import { usePolling } from "./hooks";

const POLL_MS = 10_000;

interface Page<T> {
  items: readonly T[];
  nextCursor: string | null;
}

interface Shown<T> {
  latest: readonly T[];
  older: readonly T[];
  /** Of the oldest page so far; null after the last one. */
  cursor: string | null;
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
  const [shown, setShown] = useState<Shown<T> | null>(null);
  const load = useCallback(
    async (signal: AbortSignal) => {
      try {
        const page = await fetchPage(undefined, signal);
        setShown((before) => follow(before, page, keyOf));
        setProblem(null);
      } catch (error) {
        if (!signal.aborted) setProblem(messageOf(error));
      }
    },
    [fetchPage, keyOf, setProblem],
  );
  usePolling(load, POLL_MS);

  const cursor = shown?.cursor ?? null;
  const showOlder = (from: string) =>
    act(async () => {
      const page = await fetchPage(from);
      setShown((before) =>
        // Not if the list has begun anew meanwhile.
        before?.cursor === from
          ? { ...before, older: [...before.older, ...page.items], cursor: page.nextCursor }
          : before,
      );
    });
  return {
    ...acting,
    items: shown && [...shown.latest, ...shown.older],
    showOlder: cursor ? () => showOlder(cursor) : null,
  };
}

/**
 * The list after a newer look at its first page. What that page does not reach any more stays, if older ones are shown;
 * what is missing from it above its end is gone. Where it does not reach down to what was shown the list begins anew,
 * rather than with a hole.
 */
function follow<T>(
  before: Shown<T> | null,
  { items, nextCursor }: Page<T>,
  keyOf: (item: T) => string,
): Shown<T> {
  const last = items.at(-1);
  const anew = { latest: items, older: [], cursor: nextCursor };
  if (!before?.older.length || nextCursor === null || last === undefined) return anew;
  const all = [...before.latest, ...before.older];
  const end = all.findIndex((item) => keyOf(item) === keyOf(last));
  return end < 0 ? anew : { latest: items, older: all.slice(end + 1), cursor: before.cursor };
}
