import { describe, expect, it } from "vitest";
import { emptyRoom, MESSAGES_KEPT, type RoomState, reduceRoom } from "../src/room/reducer";
import type { ServerEvent } from "../src/types";
import { broadcast, chat, joined, person } from "./fakes";

const play = (state: RoomState, ...events: ServerEvent[]) => events.reduce(reduceRoom, state);
const inRoom = (changes: Parameters<typeof joined>[0] = {}) =>
  play(emptyRoom, { event: "joined", data: joined(changes) });

describe("joining", () => {
  it("takes over what the server knows", () => {
    const state = inRoom({ members: [person("a")], memberCount: 7, listenerCount: 5 });
    expect(state.members.a?.displayName).toBe("a");
    expect([state.memberCount, state.listenerCount]).toEqual([7, 5]);
  });

  it("keeps the stream key that a REST call brought", () => {
    const state = reduceRoom(
      { ...emptyRoom, broadcast: broadcast({ streamKey: "key", yourRole: "host" }) },
      {
        event: "joined",
        data: joined({ role: "host", you: { ...joined().you, anonymous: false } }),
      },
    );
    expect(state.broadcast).toMatchObject({ streamKey: "key", yourRole: "host" });
  });

  it("again does not repeat messages, and adds what was missed", () => {
    const first = chat("1", "2026-01-01T08:00:00Z");
    const second = chat("2", "2026-01-01T08:00:00.5Z");
    const third = chat("3", "2026-01-01T08:00:01Z");
    const state = play(
      inRoom({ recentMessages: [first] }),
      { event: "chatMessage", data: third },
      { event: "joined", data: joined({ recentMessages: [first, second, third] }) },
    );
    expect(state.messages.map((message) => message.id)).toEqual(["1", "2", "3"]);
  });

  it("knows that the host is away, and until when", () => {
    const until = "2026-01-01T08:01:00Z";
    expect(inRoom({ hostAway: true, hostAwayUntil: until }).hostAway).toEqual({ until });
    expect(inRoom({ hostAway: true }).hostAway).toEqual({ until: null });
    expect(inRoom().hostAway).toBeNull();
  });
});

describe("people", () => {
  it("come and go", () => {
    const state = play(
      inRoom({ members: [person("a")], memberCount: 1 }),
      { event: "userJoined", data: { user: person("b") } },
      { event: "userLeft", data: { userId: "a" } },
      { event: "userLeft", data: { userId: "stranger" } },
    );
    expect(Object.keys(state.members)).toEqual(["b"]);
    expect(state.memberCount).toBe(1);
  });

  it("who open a second window are still one", () => {
    const state = play(inRoom({ members: [person("a")], memberCount: 1 }), {
      event: "userJoined",
      data: { user: person("a") },
    });
    expect(state.memberCount).toBe(1);
  });

  it("take their raised hand with them", () => {
    const hand = { userId: "a", displayName: "a", note: null, raisedAt: "2026-01-01T08:00:00Z" };
    const state = play(inRoom({ members: [person("a")], hands: [hand] }), {
      event: "userLeft",
      data: { userId: "a" },
    });
    expect(state.hands).toEqual([]);
  });

  it("are muted, unmuted and promoted", () => {
    let state = play(inRoom({ members: [person("g1")] }), {
      event: "muted",
      data: { userId: "g1" },
    });
    expect(state.members.g1?.muted).toBe(true);
    state = play(
      state,
      { event: "unmuted", data: { userId: "g1" } },
      { event: "roleChanged", data: { user: person("g1", { role: "speaker" }) } },
    );
    expect(state.members.g1).toMatchObject({ muted: false, role: "speaker" });
    expect(state.you?.role).toBe("speaker");
  });

  it("speak when their sound reaches the programme", () => {
    const state = play(inRoom({ members: [person("a"), person("b", { speaking: true })] }), {
      event: "activeSpeakers",
      data: { producers: [{ id: "p", userId: "a" }], speaking: [{ userId: "a", level: -12 }] },
    });
    expect(state.speaking).toEqual([{ userId: "a", level: -12 }]);
    expect(state.members.a?.speaking).toBe(true);
    expect(state.members.b?.speaking).toBe(false);
  });

  it("who only listen are forgotten when the room becomes large", () => {
    const state = play(inRoom({ members: [person("a"), person("h", { role: "host" })] }), {
      event: "roomSize",
      data: { announcesEveryone: false, memberCount: 900 },
    });
    expect(Object.keys(state.members)).toEqual(["h"]);
    expect(state.memberCount).toBe(900);
  });
});

describe("hands", () => {
  const raise = (userId: string, position: number): ServerEvent => ({
    event: "handRaised",
    data: { userId, displayName: userId, note: null, raisedAt: "2026-01-01T08:00:00Z", position },
  });

  it("queue in the server's order, each person once", () => {
    const state = play(inRoom(), raise("a", 1), raise("b", 2), raise("c", 1), raise("a", 3));
    expect(state.hands.map((hand) => hand.userId)).toEqual(["c", "b", "a"]);
  });

  it("go down", () => {
    const state = play(inRoom(), raise("a", 1), { event: "handLowered", data: { userId: "a" } });
    expect(state.hands).toEqual([]);
  });
});

describe("the show", () => {
  it("starts, loses its host, gets them back and ends", () => {
    let state = inRoom({ broadcast: broadcast({ status: "scheduled", startedAt: null }) });
    state = play(state, {
      event: "broadcastStarted",
      data: { startedAt: "2026-01-01T08:00:00Z" },
    });
    expect(state.broadcast).toMatchObject({ status: "live", startedAt: "2026-01-01T08:00:00Z" });
    state = play(state, { event: "hostAway", data: { until: "2026-01-01T08:02:00Z" } });
    expect(state.hostAway?.until).toBe("2026-01-01T08:02:00Z");
    state = play(state, { event: "hostBack", data: {} });
    expect(state.hostAway).toBeNull();
    state = play(state, {
      event: "broadcastEnded",
      data: { endedAt: "2026-01-01T09:00:00Z", reason: "ended" },
    });
    expect(state.broadcast?.status).toBe("ended");
    expect(state.ended).toEqual({ reason: "ended" });
  });

  it("says whether the show is recorded", () => {
    expect(inRoom().recording).toBe("off");
    let state = inRoom({ recording: "recording" });
    expect(state.recording).toBe("recording");
    state = play(state, { event: "recording", data: { state: "interrupted" } });
    expect(state.recording).toBe("interrupted");
    state = play(state, {
      event: "broadcastEnded",
      data: { endedAt: "2026-01-01T09:00:00Z", reason: "ended" },
    });
    expect(state.recording).toBe("off");
  });

  it("keeps the last messages only", () => {
    const events = Array.from(
      { length: MESSAGES_KEPT + 5 },
      (_, index): ServerEvent => ({
        event: "chatMessage",
        data: chat(`m${index}`, new Date(index).toISOString()),
      }),
    );
    const { messages } = play(inRoom(), ...events);
    expect(messages).toHaveLength(MESSAGES_KEPT);
    expect(messages.at(-1)?.id).toBe(`m${MESSAGES_KEPT + 4}`);
  });

  it("tells two equal bursts of reactions apart", () => {
    const burst: ServerEvent = { event: "reaction", data: { counts: { "👏": 2 }, mediaTime: 1 } };
    expect(play(inRoom(), burst, burst).reactions).toEqual({ seq: 2, counts: { "👏": 2 } });
  });

  it("is not confused by events of a newer server", () => {
    const state = inRoom();
    const event = { event: "confetti", data: {} } as unknown as ServerEvent;
    expect(reduceRoom(state, event)).toBe(state);
  });
});

describe("moderation", () => {
  const at = (minute: number) => `2026-01-01T08:0${minute}:00Z`;
  const hand = (userId: string) => ({ userId, displayName: userId, note: null, raisedAt: at(0) });
  const order = (state: RoomState) => state.hands.map(({ userId }) => userId);

  it("moves a hand, and those between", () => {
    const state = inRoom({ hands: ["a", "b", "c"].map(hand) });
    const moved = play(state, { event: "handMoved", data: { userId: "c", position: 1 } });
    expect(order(moved)).toEqual(["c", "a", "b"]);
    expect(order(play(moved, { event: "handMoved", data: { userId: "c", position: 9 } }))).toEqual([
      "a",
      "b",
      "c",
    ]);
    expect(play(state, { event: "handMoved", data: { userId: "x", position: 1 } })).toEqual(state);
  });

  it("puts one's own hand where the server says it is", () => {
    const state = inRoom({ hands: ["a", "g1"].map(hand) });
    expect(order(play(state, { event: "handPosition", data: { position: 1 } }))).toEqual([
      "g1",
      "a",
    ]);
  });

  it("takes down what was deleted, and counts what was one's own", () => {
    const own = { ...chat("2", at(1)), user: person("g1") };
    const state = inRoom({ recentMessages: [chat("1", at(0)), own, chat("3", at(2))] });
    const deleted = play(state, { event: "messageDeleted", data: { id: "2" } });
    expect(deleted.messages.map(({ id }) => id)).toEqual(["1", "3"]);
    expect(deleted.ownDeleted).toBe(1);
    const cleared = play(deleted, { event: "messagesCleared", data: { userId: "p" } });
    expect(cleared.messages).toEqual([]);
    expect(cleared.ownDeleted).toBe(1);
  });

  it("after coming back drops what was deleted and shows where messages are missing", () => {
    const state = play(inRoom({ recentMessages: [chat("1", at(0)), chat("2", at(1))] }), {
      event: "joined",
      data: joined({
        recentMessages: [chat("8", at(3)), chat("9", at(4))],
        messagesMissed: true,
        deletedMessages: ["2"],
      }),
    });
    expect(state.messages.map(({ id }) => id)).toEqual(["1", "8", "9"]);
    expect(state.gapBefore).toBe("8");
    const without = play(state, { event: "messageDeleted", data: { id: "8" } });
    expect(without.gapBefore).toBe("9");
  });

  it("knows the rules of the room", () => {
    const state = play(
      inRoom({ slowModeS: 5, chatMode: "followers", locked: true }),
      { event: "slowMode", data: { seconds: 30 } },
      { event: "chatMode", data: { mode: "closed" } },
      { event: "roomLocked", data: { locked: false } },
    );
    expect(state).toMatchObject({ slowModeS: 30, chatMode: "closed", locked: false });
  });

  it("keeps an invitation until it ends, and not for others' ends", () => {
    const invited = play(inRoom(), { event: "invitedToSpeak", data: { byUserId: "h" } });
    const other = play(invited, {
      event: "inviteEnded",
      data: { userId: "x", outcome: "declined" },
    });
    expect([invited.invited, other.invited]).toEqual([true, true]);
    const ended = play(other, {
      event: "inviteEnded",
      data: { userId: "g1", outcome: "withdrawn" },
    });
    expect(ended.invited).toBe(false);
    expect(ended.inviteEnded).toEqual({ seq: 2, userId: "g1", outcome: "withdrawn" });
  });

  it("remembers until when somebody is banned", () => {
    const state = play(inRoom(), {
      event: "removed",
      data: { reason: null, banned: true, until: at(9) },
    });
    expect(state.removed).toEqual({ reason: null, banned: true, until: at(9) });
  });
});
