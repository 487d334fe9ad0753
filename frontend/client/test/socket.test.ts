import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { backoffMs } from "../src/backoff";
import { RoomSocket, type SocketState, verdictOf } from "../src/services/socket";
import type { ServerEvent } from "../src/types";
import { FakeSocket, settle } from "./fakes";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

function setUp({ random = () => 1 as number } = {}) {
  const sockets: FakeSocket[] = [];
  const states: SocketState[] = [];
  const events: ServerEvent[] = [];
  const renewals: boolean[] = [];
  const room = new RoomSocket({
    url: "ws://server/ws",
    open: () => {
      const socket = new FakeSocket();
      sockets.push(socket);
      return socket;
    },
    random,
    credentials: async (renew) => {
      renewals.push(renew);
      return { broadcastId: "b1", token: renew ? "new" : "old" };
    },
    onEvent: (event) => events.push(event),
    onState: (state) => states.push(state),
  });
  const latest = () => {
    const socket = sockets.at(-1);
    if (!socket) throw new Error("nothing was opened");
    return socket;
  };
  const start = async () => {
    room.start();
    await settle();
    return latest();
  };
  return { room, sockets, states, events, renewals, latest, start };
}

describe("joining", () => {
  it("sends join first, and is in when the server says so", async () => {
    const { room, states, events, start } = setUp();
    const socket = await start();
    socket.join();
    expect(socket.sent[0]).toEqual({
      event: "join",
      data: { broadcastId: "b1", token: "old" },
      ack: 1,
    });
    expect(states.map((state) => state.name)).toEqual(["connecting", "joined"]);
    expect(events[0]?.event).toBe("joined");
    expect(room.state.name).toBe("joined");
  });

  it("does not wait for ever for an answer", async () => {
    const { sockets, states, start } = setUp();
    const socket = await start();
    socket.open();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(socket.closedWith).not.toBeNull();
    expect(states.at(-1)).toMatchObject({ name: "reconnecting" });
    await vi.advanceTimersByTimeAsync(500);
    expect(sockets).toHaveLength(2);
  });

  it("ignores frames that it cannot read", async () => {
    const { events, start } = setUp();
    const socket = await start();
    socket.join();
    for (const nonsense of ["{", "null", "[1]", '{"event":5}']) socket.receive(nonsense);
    expect(events).toHaveLength(1);
  });
});

describe("commands", () => {
  it("resolve with the data of their own ack", async () => {
    const { room, start } = setUp();
    const socket = await start();
    socket.join();
    const first = room.request("chatMessage", { text: "a" });
    const second = room.request("raiseHand", {});
    socket.answer("raiseHand", { position: 2 });
    socket.answer("chatMessage", { id: "m1" });
    await expect(first).resolves.toEqual({ id: "m1" });
    await expect(second).resolves.toEqual({ position: 2 });
  });

  it("reject with the server's code and sentence", async () => {
    const { room, start } = setUp();
    const socket = await start();
    socket.join();
    const command = room.request("chatMessage", { text: "a" });
    socket.refuse("chatMessage", "empty_message", "Write something.");
    await expect(command).rejects.toMatchObject({
      code: "empty_message",
      message: "Write something.",
    });
  });

  it("reject at once when not in the room, and when the connection breaks", async () => {
    const { room, start } = setUp();
    await expect(room.request("leave", {})).rejects.toMatchObject({ code: "not_connected" });
    const socket = await start();
    socket.join();
    const command = room.request("chatMessage", { text: "a" });
    socket.drop();
    await expect(command).rejects.toMatchObject({ code: "not_connected" });
  });

  it("reject when no answer comes", async () => {
    const { room, start } = setUp();
    (await start()).join();
    const outcome = expect(room.request("chatMessage", { text: "a" })).rejects.toMatchObject({
      code: "timeout",
    });
    await vi.advanceTimersByTimeAsync(10_000);
    await outcome;
  });
});

describe("coming back", () => {
  it("waits longer after each failure, up to a limit, and starts over after success", async () => {
    const { states, latest, start, sockets } = setUp();
    await start();
    const waits: number[] = [];
    for (let failure = 0; failure < 8; failure++) {
      latest().drop();
      const state = states.at(-1);
      if (state?.name !== "reconnecting") throw new Error(state?.name);
      waits.push(state.afterMs);
      await vi.advanceTimersByTimeAsync(state.afterMs - 1);
      expect(sockets).toHaveLength(failure + 1);
      await vi.advanceTimersByTimeAsync(1);
      expect(sockets).toHaveLength(failure + 2);
    }
    expect(waits).toEqual([500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000]);
    latest().join();
    latest().drop();
    expect(states.at(-1)).toMatchObject({ afterMs: 500, attempt: 1 });
  });

  it("spreads people out", () => {
    expect(backoffMs(2, () => 0)).toBe(1000);
    expect(backoffMs(2, () => 0.5)).toBe(1500);
    expect(backoffMs(2, () => 1)).toBe(2000);
  });

  it("waits as long as a server asks that goes away, and a little of its own", async () => {
    const { states, start } = setUp({ random: () => 0.5 });
    const socket = await start();
    socket.join();
    socket.receive({ event: "reconnect", data: { afterMs: 4000 } });
    socket.drop(1001);
    expect(states.at(-1)).toMatchObject({ name: "reconnecting", afterMs: 5000 });
  });

  it("does not wait when told that the network is back", async () => {
    const { room, sockets, start } = setUp();
    (await start()).drop();
    room.retryNow();
    await settle();
    expect(sockets).toHaveLength(2);
    await vi.advanceTimersByTimeAsync(20_000);
    expect(sockets).toHaveLength(3); // the second never answered; the first timer is gone
  });

  it("stays away after leaving, and says goodbye", async () => {
    const { room, sockets, states, start } = setUp();
    const socket = await start();
    socket.join();
    const before = states.length;
    room.stop();
    expect(socket.sent.at(-1)?.event).toBe("leave");
    expect(socket.closedWith).toBe(1000);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(sockets).toHaveLength(1);
    expect(states).toHaveLength(before);
  });
});

describe("close codes", () => {
  it.each([
    [4403, "removed"],
    [4404, "not_found"],
    [1008, "refused"],
    [1000, "left"],
  ])("%i ends it: %s", async (code, outcome) => {
    const { sockets, states, start } = setUp();
    const socket = await start();
    socket.join();
    socket.drop(code, "why");
    expect(states.at(-1)).toEqual({ name: "closed", outcome, reason: "why" });
    await vi.advanceTimersByTimeAsync(60_000);
    expect(sockets).toHaveLength(1);
  });

  it.each([
    [1001, 500],
    [1006, 500],
    [1009, 500],
    [1011, 500],
    [1013, 2000],
    [4429, 10_000],
  ])("%i comes back after %i ms", async (code, afterMs) => {
    const { states, start } = setUp();
    const socket = await start();
    socket.join();
    socket.drop(code);
    expect(states.at(-1)).toMatchObject({ name: "reconnecting", afterMs });
  });

  it("4401 asks for a new token once, then for a sign-in", async () => {
    const { states, renewals, latest, start } = setUp();
    (await start()).drop(4401);
    await settle();
    expect(renewals).toEqual([false, true]);
    latest().open();
    expect(latest().last("join")?.data.token).toBe("new");
    latest().drop(4401, "token_invalid");
    expect(states.at(-1)).toMatchObject({ name: "closed", outcome: "sign_in" });
  });

  it("4403 before ever being in is a show that is not open to us", async () => {
    const { states, start } = setUp();
    const socket = await start();
    socket.open();
    socket.refuse("join", "forbidden", "Only invited people.");
    await settle();
    socket.drop(4403);
    expect(states.at(-1)).toEqual({
      name: "closed",
      outcome: "forbidden",
      reason: "Only invited people.",
    });
  });

  it("unknown codes are tried again", () => {
    expect(verdictOf(4999)).toEqual({ action: "retry", minimumMs: 0 });
  });
});
