import { act, renderHook, waitFor } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { useLatest } from "../src/lib/latest";

interface Line {
  id: string;
}

/** Five lines, two on a page, the latest first; more can be added. */
function server() {
  const lines = Array.from({ length: 5 }, (_, index) => ({ id: `l${index}` }));
  let broken: Error | null = null;
  const fetchPage = async (cursor?: string) => {
    if (broken) throw broken;
    const from = cursor === undefined ? 0 : lines.findIndex(({ id }) => id === cursor) + 1;
    const items = lines.slice(from, from + 2);
    return { items, nextCursor: from + 2 < lines.length ? (items.at(-1)?.id ?? null) : null };
  };
  return {
    fetchPage,
    add: (...ids: string[]) => lines.unshift(...ids.map((id) => ({ id }))),
    remove: (id: string) =>
      lines.splice(
        lines.findIndex((line) => line.id === id),
        1,
      ),
    fail: (error: Error | null) => {
      broken = error;
    },
  };
}

const keyOf = ({ id }: Line) => id;
const tick = () => act(() => vi.advanceTimersByTimeAsync(10_000));

beforeEach(() => {
  vi.useFakeTimers({ shouldAdvanceTime: true });
});
afterEach(() => {
  vi.useRealTimers();
});

describe("a list with the latest first", () => {
  it("goes back page by page to the end, while new lines come in", async () => {
    const { fetchPage, add } = server();
    const { result } = renderHook(() => useLatest(fetchPage, keyOf));
    const ids = () => result.current.items?.map(keyOf);
    expect(result.current.items).toBeNull();
    await waitFor(() => expect(ids()).toEqual(["l0", "l1"]));

    await act(async () => result.current.showOlder?.());
    expect(ids()).toEqual(["l0", "l1", "l2", "l3"]);
    add("new");
    await tick();
    expect(ids()).toEqual(["new", "l0", "l1", "l2", "l3"]);
    await act(async () => result.current.showOlder?.());
    expect(ids()?.at(-1)).toBe("l4");
    expect(result.current.showOlder).toBeNull();
    await tick();
    expect(result.current.showOlder).toBeNull();
  });

  it("forgets what is gone, and begins anew rather than with a hole", async () => {
    const { fetchPage, add, remove } = server();
    const { result } = renderHook(() => useLatest(fetchPage, keyOf));
    const ids = () => result.current.items?.map(keyOf);
    await waitFor(() => expect(ids()).toEqual(["l0", "l1"]));
    add("a");
    await tick();
    expect(ids()).toEqual(["a", "l0"]);
    await act(async () => result.current.showOlder?.());
    expect(ids()).toEqual(["a", "l0", "l1", "l2"]);
    remove("l0");
    await tick();
    expect(ids()).toEqual(["a", "l1", "l2"]);

    add("d", "c", "b");
    await tick();
    expect(ids()).toEqual(["d", "c"]);
    await act(async () => result.current.showOlder?.());
    expect(ids()).toEqual(["d", "c", "b", "a"]);
  });

  it("says what is wrong until it is right again, and keeps what it has", async () => {
    const { fetchPage, fail } = server();
    const { result } = renderHook(() => useLatest(fetchPage, keyOf));
    await waitFor(() => expect(result.current.items).toHaveLength(2));
    fail(new Error("The server is away."));
    await tick();
    expect(result.current.problem).toBe("The server is away.");
    await act(async () => result.current.showOlder?.());
    expect([result.current.problem, result.current.busy]).toEqual(["The server is away.", false]);
    expect(result.current.items).toHaveLength(2);
    fail(null);
    await tick();
    expect(result.current.problem).toBeNull();
  });
});
