import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { createLac } from "../src/index";
import { ApiError } from "../src/services/api";
import type { LinkState } from "../src/services/media-types";
import { createHost, MicrophoneError } from "../src/stores/host";
import { createPlayer, type LinkHandlers } from "../src/stores/player";
import {
  broadcast,
  chat,
  FakeSocket,
  fakeFetch,
  fakeLink,
  fakeTrack,
  memoryStorage,
  settle,
  user,
} from "./fakes";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

describe("a room", () => {
  function setUp(
    answer: Parameters<typeof fakeFetch>[0] = () => ({ body: broadcast() }),
    stored: Record<string, string> = {},
  ) {
    const sockets: FakeSocket[] = [];
    const { fetch, calls } = fakeFetch(answer);
    const memory = memoryStorage(stored);
    const lac = createLac({
      baseUrl: "http://server",
      fetch,
      openSocket: () => {
        const socket = new FakeSocket();
        sockets.push(socket);
        return socket;
      },
      storage: memory.storage,
      random: () => 1,
    });
    const room = lac.createRoom("b1");
    const latest = () => {
      const socket = sockets.at(-1);
      if (!socket) throw new Error("nothing was opened");
      return socket;
    };
    const open = async () => {
      await lac.auth.restore();
      room.open();
      await vi.advanceTimersByTimeAsync(0);
    };
    return { room, open, latest, sockets, calls, memory, view: () => room.store.getState() };
  }

  it("opens, and lets a guest in without a name", async () => {
    const { room, open, latest, view } = setUp();
    await open();
    expect(view()).toMatchObject({ phase: "open", broadcast: { title: "Morning" } });
    latest().join();
    expect(latest().last("join")?.data).toEqual({ broadcastId: "b1" });
    expect(room.needsName()).toBe(true);
    expect(room.mediaAuth()).toEqual({ bearer: "guest-1" });
  });

  describe("is arrived at", () => {
    /** Whether it is, as of now. */
    function watch(room: ReturnType<typeof setUp>["room"]) {
      const watched = { arrived: false };
      void room.arrived().then(() => {
        watched.arrived = true;
      });
      return watched;
    }

    it("once it lets us in, and from then on", async () => {
      const { room, open, latest } = setUp();
      const early = watch(room);
      await open();
      await vi.advanceTimersByTimeAsync(1_000);
      expect(early.arrived).toBe(false);
      latest().join();
      await settle();
      expect(early.arrived).toBe(true);
      latest().drop();
      const later = watch(room);
      await settle();
      expect(later.arrived).toBe(true);
    });

    it("when it does not", async () => {
      const { room, open, latest } = setUp();
      await open();
      const watched = watch(room);
      latest().drop(4403);
      await settle();
      expect(watched.arrived).toBe(true);
    });

    it("when it does not answer: it can be heard all the same", async () => {
      const { room, open } = setUp();
      await open();
      const watched = watch(room);
      await vi.advanceTimersByTimeAsync(2_900);
      expect(watched.arrived).toBe(false);
      await vi.advanceTimersByTimeAsync(200);
      expect(watched.arrived).toBe(true);
    });

    it("when the show is over", async () => {
      const { room, open } = setUp(() => ({ body: broadcast({ status: "ended" }) }));
      await open();
      const watched = watch(room);
      await settle();
      expect(watched.arrived).toBe(true);
    });
  });

  it("is the same guest again after the connection broke", async () => {
    const { room, open, latest } = setUp();
    await open();
    latest().join();
    latest().drop();
    await vi.advanceTimersByTimeAsync(500);
    expect(latest().last("join")).toBeUndefined();
    const you = { id: "g1", displayName: "Guest", role: "listener", anonymous: true } as const;
    latest().join({ you: { ...you, token: "guest-1b" } });
    expect(latest().last("join")?.data).toEqual({ broadcastId: "b1", token: "guest-1" });
    expect(room.mediaAuth()).toEqual({ bearer: "guest-1b" });
  });

  describe("of a private show", () => {
    const notFound = { status: 404, body: { code: "not_found", detail: "There is no such show." } };
    /** Lets in whoever has the token that the link `good` is exchanged for. */
    const privately =
      (issued = "guest-invited"): Parameters<typeof fakeFetch>[0] =>
      ({ path, body, bearer }) => {
        if (path === "/api/broadcasts/b1/invite/accept") {
          if ((body as { invite: string }).invite === "good")
            return { body: { broadcastId: "b1", token: issued } };
          return { status: 404, body: { code: "invite_invalid", detail: "Not valid." } };
        }
        return bearer === issued ? { body: broadcast({ visibility: "private" }) } : notFound;
      };

    it("lets a guest in by the invite link, and again without it", async () => {
      const { room, latest, view, memory, calls } = setUp(privately());
      room.open("good");
      await vi.advanceTimersByTimeAsync(0);
      expect(view().phase).toBe("open");
      latest().open();
      await settle();
      expect(latest().last("join")?.data).toMatchObject({ token: "guest-invited" });
      expect(memory.values.get("lac.invite.b1")).toBe("good");
      room.open();
      await vi.advanceTimersByTimeAsync(0);
      expect(view().phase).toBe("open");
      expect(calls.filter(({ path }) => path.endsWith("/accept"))).toHaveLength(1);
    });

    it("exchanges the link again when the guest's token is over", async () => {
      const stored = { "lac.invite.b1": "good", "lac.guest.b1": "guest-old" };
      const answer: Parameters<typeof fakeFetch>[0] = (call) =>
        call.bearer === "guest-old"
          ? { status: 401, body: { code: "token_expired", detail: "Over." } }
          : privately()(call);
      const { room, view, memory } = setUp(answer, stored);
      room.open();
      await vi.advanceTimersByTimeAsync(0);
      expect(view().phase).toBe("open");
      expect(memory.values.get("lac.guest.b1")).toBe("guest-invited");
    });

    it("says that a link does not hold any more, and forgets it", async () => {
      const { room, view, memory } = setUp(privately(), { "lac.invite.b1": "old" });
      room.open();
      await vi.advanceTimersByTimeAsync(0);
      expect(view().phase).toBe("invite_invalid");
      await settle();
      expect(memory.values.has("lac.invite.b1")).toBe(false);
      room.open();
      await vi.advanceTimersByTimeAsync(0);
      expect(view().phase).toBe("not_found");
    });

    it("asks the link once when the room lets its guest go", async () => {
      const { room, view, latest, calls } = setUp(privately());
      room.open("good");
      await vi.advanceTimersByTimeAsync(0);
      const accepts = () => calls.filter(({ path }) => path.endsWith("/accept")).length;
      for (const expected of [2, 2]) {
        latest().open();
        latest().drop(4404);
        await vi.advanceTimersByTimeAsync(0);
        expect(accepts()).toBe(expected);
      }
      expect(view().phase).toBe("not_found");
    });

    it("blames nobody who is let go because it became private, or the link another", async () => {
      const { room, view, latest } = setUp(() => ({ body: broadcast() }));
      room.open();
      await vi.advanceTimersByTimeAsync(0);
      latest().join();
      latest().drop(4403, "private");
      expect(view().phase).toBe("private");
    });
  });

  it("takes a name for a guest, comes back under it and remembers it", async () => {
    const { room, open, latest, memory } = setUp();
    await open();
    latest().join();
    const named = room.setName("Seagull");
    await settle();
    latest().join();
    await named;
    // With the token, so that the server knows the same guest again: their media stays theirs.
    expect(latest().last("join")?.data).toEqual({
      broadcastId: "b1",
      token: "guest-1",
      name: "Seagull",
    });
    expect(room.needsName()).toBe(false);
    expect(memory.values.get("lac.guest-name")).toBe("Seagull");
  });

  it("joins signed-in people with their token, and needs no name of them", async () => {
    const session = {
      user,
      accessToken: "access",
      refreshToken: "r",
      expiresAt: Date.now() + 900_000,
    };
    const { room, open, latest } = setUp(undefined, { "lac.session": JSON.stringify(session) });
    await open();
    latest().join({
      you: { id: "u1", displayName: "Ana", role: "host", anonymous: false, token: null },
    });
    expect(latest().last("join")?.data).toEqual({ broadcastId: "b1", token: "access" });
    expect(room.needsName()).toBe(false);
    expect(room.mediaAuth()).toBe("session");
  });

  it.each([
    [404, "not_found", "not_found"],
    [403, "forbidden", "private"],
    [403, "removed", "removed"],
    [401, "not_signed_in", "sign_in"],
    [500, "oops", "error"],
  ])("shows what %i %s means: %s", async (status, code, phase) => {
    const { open, view, sockets } = setUp(() => ({ status, body: { code, detail: "Because." } }));
    await open();
    expect(view().phase).toBe(phase);
    expect(sockets).toHaveLength(0);
  });

  it("closes on those who are removed, with the reason", async () => {
    const { open, latest, view } = setUp();
    await open();
    latest().join();
    latest().receive({ event: "removed", data: { reason: "Spam" } });
    latest().drop(4403, "removed");
    expect(view()).toMatchObject({ phase: "removed", removed: { reason: "Spam" } });
  });

  it("leaves by itself when the show ends", async () => {
    const { open, latest, view, sockets } = setUp();
    await open();
    latest().join();
    latest().receive({
      event: "broadcastEnded",
      data: { endedAt: "2026-01-01T09:00:00Z", reason: "ended" },
    });
    expect(view()).toMatchObject({ phase: "open", broadcast: { status: "ended" } });
    await vi.advanceTimersByTimeAsync(60_000);
    expect(sockets).toHaveLength(1);
  });

  it("shows what was said to those who come after the end", async () => {
    const stored = [chat("2", "2026-01-01T08:00:01Z"), chat("1", "2026-01-01T08:00:00Z")];
    const { open, view, sockets } = setUp((call) =>
      call.path.includes("/messages")
        ? { body: { items: stored, nextCursor: null } }
        : { body: broadcast({ status: "ended" }) },
    );
    await open();
    expect(view().messages.map((message) => message.id)).toEqual(["1", "2"]);
    expect(sockets).toHaveLength(0);
  });

  it("sends what people do, and passes on what the server refuses", async () => {
    const { room, open, latest } = setUp();
    await open();
    latest().join();
    const said = room.say("hello");
    expect(latest().last("chatMessage")?.data).toEqual({ text: "hello" });
    latest().answer("chatMessage");
    await said;
    const raised = room.raiseHand();
    latest().refuse("raiseHand", "forbidden", "Not you.");
    await expect(raised).rejects.toThrow("Not you.");
    room.remove("g2", { ban: true }).catch(() => undefined);
    expect(latest().last("remove")?.data).toEqual({ userId: "g2", ban: true });
  });

  it("can be left and entered again", async () => {
    const { room, open, latest, sockets, view } = setUp();
    await open();
    latest().join();
    room.close();
    expect(latest().closedWith).toBe(1000);
    await open();
    latest().join();
    expect(sockets).toHaveLength(2);
    expect(view().socket.name).toBe("joined");
  });
});

describe("the player", () => {
  function setUp() {
    const links: ReturnType<typeof fakeLink>[] = [];
    let handlers: LinkHandlers | undefined;
    const player = createPlayer(async (given) => {
      handlers = given;
      const link = fakeLink();
      links.push(link);
      return link;
    });
    return {
      player,
      links,
      tell: (state: LinkState) => handlers?.onState(state),
      on: () => handlers,
    };
  }

  it("connects, plays, survives a break and stops", async () => {
    const { player, links, tell, on } = setUp();
    const phase = () => player.store.getState().phase;
    player.start();
    expect(phase()).toBe("connecting");
    await settle();
    const track = fakeTrack();
    on()?.onTrack(track);
    tell({ name: "connected" });
    expect(player.store.getState()).toMatchObject({ phase: "playing", track });
    tell({ name: "reconnecting", attempt: 1 });
    expect(phase()).toBe("reconnecting");
    tell({ name: "connected" });
    player.stop();
    expect(player.store.getState()).toMatchObject({ phase: "stopped", track: null });
    expect(links[0]?.close).toHaveBeenCalledOnce();
  });

  it("closes a link that comes too late", async () => {
    const { player, links, tell } = setUp();
    player.start();
    player.stop();
    await settle();
    expect(links[0]?.close).toHaveBeenCalledOnce();
    tell({ name: "connected" });
    expect(player.store.getState().phase).toBe("stopped");
  });

  it("says why it failed, and can be started again", async () => {
    const { player, links, tell } = setUp();
    player.start();
    await settle();
    tell({ name: "failed", error: new ApiError(409, "not_live", "Not on air.") });
    expect(player.store.getState()).toMatchObject({
      phase: "failed",
      code: "not_live",
      problem: "Not on air.",
    });
    player.start();
    await settle();
    expect(links).toHaveLength(2);
  });

  it("does not hang when its code cannot be loaded", async () => {
    const player = createPlayer(() => Promise.reject(new Error("chunk failed")));
    player.start();
    await settle();
    expect(player.store.getState()).toMatchObject({ phase: "failed", problem: "chunk failed" });
  });
});

describe("the host", () => {
  function setUp({
    microphone = async () => fakeTrack(),
    start = async () => broadcast(),
  }: {
    microphone?: () => Promise<ReturnType<typeof fakeTrack>>;
    start?: () => Promise<ReturnType<typeof broadcast>>;
  } = {}) {
    const link = fakeLink();
    const opened: { kind: string; deviceId: string | null }[] = [];
    const broadcasts: string[] = [];
    let onState: ((state: LinkState) => void) | undefined;
    const host = createHost({
      broadcastId: "b1",
      api: {
        startBroadcast: vi.fn(start),
        endBroadcast: vi.fn(async () => broadcast({ status: "ended" })),
      },
      microphone: {
        open: (options) => {
          opened.push(options);
          return microphone();
        },
      },
      openPublish: async (_track, _kind, handlers) => {
        onState = handlers.onState;
        return link;
      },
      onBroadcast: ({ status }) => broadcasts.push(status),
    });
    return {
      host,
      link,
      opened,
      broadcasts,
      state: () => host.store.getState(),
      tell: (state: LinkState) => onState?.(state),
    };
  }

  async function onAir(made: ReturnType<typeof setUp>) {
    await made.host.goLive();
    made.tell({ name: "connected" });
  }

  it("asks for the microphone, starts the show, then sends", async () => {
    const made = setUp();
    await onAir(made);
    expect(made.state()).toMatchObject({ phase: "on_air", microphone: "on" });
    expect(made.broadcasts).toEqual(["live"]);
  });

  it("does not start the show when there is no microphone", async () => {
    const made = setUp({ microphone: () => Promise.reject(new MicrophoneError("denied")) });
    await made.host.goLive();
    expect(made.state()).toMatchObject({ phase: "off_air", microphoneProblem: "denied" });
    expect(made.broadcasts).toEqual([]);
  });

  it("says why it could not go live", async () => {
    const made = setUp({
      start: () => Promise.reject(new ApiError(409, "already_ended", "This show has ended.")),
    });
    await made.host.goLive();
    expect(made.state()).toMatchObject({
      phase: "off_air",
      code: "already_ended",
      problem: "This show has ended.",
    });
  });

  it("pauses by silencing the track, not by leaving", async () => {
    const made = setUp();
    await onAir(made);
    made.host.pause();
    expect(made.state()).toMatchObject({ phase: "on_air", paused: true });
    expect(made.state().track?.enabled).toBe(false);
    made.host.resume();
    expect(made.state().track?.enabled).toBe(true);
    expect(made.link.close).not.toHaveBeenCalled();
  });

  it("changes the microphone on air, and a paused one stays paused", async () => {
    const made = setUp();
    await onAir(made);
    made.host.pause();
    const old = made.state().track;
    await made.host.chooseDevice("usb");
    expect(made.opened.at(-1)).toMatchObject({ deviceId: "usb" });
    expect(made.link.replaceTrack).toHaveBeenCalledWith(made.state().track);
    expect(made.state().track?.enabled).toBe(false);
    expect(old?.readyState).toBe("ended");
  });

  it("says so when the microphone is unplugged, and stays on air", async () => {
    const made = setUp();
    await onAir(made);
    made.state().track?.onended?.(new Event("ended"));
    expect(made.state()).toMatchObject({
      phase: "on_air",
      track: null,
      microphoneProblem: "unplugged",
    });
  });

  it("reconnects without ending, and ends only when told to", async () => {
    const made = setUp();
    await onAir(made);
    made.tell({ name: "reconnecting", attempt: 1 });
    expect(made.state().phase).toBe("reconnecting");
    made.tell({ name: "connected" });
    await made.host.end();
    expect(made.state().phase).toBe("off_air");
    expect(made.broadcasts).toEqual(["live", "ended"]);
    expect(made.link.close).toHaveBeenCalledOnce();
  });

  it("gives the microphone back when it leaves", async () => {
    const made = setUp();
    await onAir(made);
    const { track } = made.state();
    made.host.leave();
    expect(track?.readyState).toBe("ended");
    expect(made.state()).toMatchObject({ phase: "off_air", microphone: "off", track: null });
  });
});
