import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { LATER_MAX, Later } from "../src/room/later";
import type { ServerEvent } from "../src/types";

const chat = (id: string, mediaTime: number, user = "u"): ServerEvent =>
  ({ event: "chatMessage", data: { id, mediaTime, user: { id: user } } }) as ServerEvent;
const reaction = (mediaTime: number): ServerEvent => ({
  event: "reaction",
  data: { counts: { "👍": 1 }, mediaTime },
});

describe("what is said is shown when it is heard", () => {
  beforeEach(() => vi.useFakeTimers());
  afterEach(() => vi.useRealTimers());

  function setUp() {
    const shown: ServerEvent[] = [];
    const later = new Later((event) => shown.push(event));
    let heard: number | null = 10;
    later.listenBy(() => heard);
    return { later, shown, hear: (at: number | null) => (heard = at) };
  }

  it("holds chat and reactions back until their moment, in order", () => {
    const { later, shown, hear } = setUp();
    expect(later.hold(chat("a", 12), "me")).toBe(true);
    expect(later.hold(reaction(12.5), "me")).toBe(true);
    expect(later.hold(chat("b", 14), "me")).toBe(true);
    hear(12.6);
    vi.advanceTimersByTime(300);
    expect(shown).toMatchObject([{ data: { id: "a" } }, { event: "reaction" }]);
    hear(20);
    vi.advanceTimersByTime(300);
    expect(shown).toHaveLength(3);
    expect(vi.getTimerCount()).toBe(0);
  });

  it("shows at once what is heard already, what is one's own, and everything in the present", () => {
    const { later, hear } = setUp();
    expect(later.hold(chat("a", 9), "me")).toBe(false);
    expect(later.hold(chat("b", 12, "me"), "me")).toBe(false);
    expect(later.hold({ event: "muted", data: { userId: "u" } }, "me")).toBe(false);
    hear(null);
    expect(later.hold(chat("c", 12), "me")).toBe(false);
  });

  it("shows everything when somebody returns to the present", () => {
    const { later, shown } = setUp();
    later.hold(chat("a", 500), "me");
    later.listenBy(null);
    expect(shown).toHaveLength(1);
    expect(vi.getTimerCount()).toBe(0);
  });

  it("never shows what was taken down before its moment", () => {
    const { later, shown } = setUp();
    later.hold(chat("a", 12), "me");
    later.hold(chat("b", 12, "troll"), "me");
    expect(later.hold({ event: "messageDeleted", data: { id: "a" } }, "me")).toBe(false);
    expect(later.hold({ event: "messagesCleared", data: { userId: "troll" } }, "me")).toBe(false);
    later.listenBy(null);
    expect(shown).toHaveLength(0);
  });

  it("keeps a bounded number and forgets them with the room", () => {
    const { later, shown } = setUp();
    for (let n = 0; n <= LATER_MAX; n++) later.hold(chat(`m${n}`, 100 + n), "me");
    expect(later.waiting).toBe(LATER_MAX);
    expect(shown).toMatchObject([{ data: { id: "m0" } }]);
    later.clear();
    expect(vi.getTimerCount()).toBe(0);
    expect(shown).toHaveLength(1);
  });
});
