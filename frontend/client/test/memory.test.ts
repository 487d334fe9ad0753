import { describe, expect, it } from "vitest";
import type { KeyValueStore } from "../src/platform";
import { RoomMemory } from "../src/room/memory";
import { memoryStorage } from "./fakes";

async function settled(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve));
}

describe("what a device remembers of a room", () => {
  it("is there again after the page was closed, for this room alone", async () => {
    const { storage, values } = memoryStorage();
    const before = new RoomMemory(storage, "b1");
    await before.restore("link");
    before.keepName("Seagull");
    before.keepToken("guest-1");
    before.keepRemoval({ reason: "Spam", banned: true, until: null });
    await settled();

    const after = new RoomMemory(storage, "b1");
    await after.restore(null);
    expect([after.name, after.token, after.invite]).toEqual(["Seagull", "guest-1", "link"]);
    expect(await after.recallRemoval()).toEqual({ reason: "Spam", banned: true, until: null });

    const other = new RoomMemory(storage, "b2");
    await other.restore(null);
    expect([other.name, other.token, other.invite]).toEqual(["Seagull", null, null]);
    expect(await other.recallRemoval()).toBeNull();

    after.forgetInvite();
    after.forgetRemoval();
    await settled();
    expect([...values.keys()].sort()).toEqual(["lac.guest-name", "lac.guest.b1"]);
    expect(await after.recallRemoval()).toBeNull();
  });

  it("has the latest link in place of an older one", async () => {
    const { storage, values } = memoryStorage({ "lac.invite.b1": "old" });
    const memory = new RoomMemory(storage, "b1");
    await memory.restore("new");
    expect(memory.invite).toBe("new");
    expect(values.get("lac.invite.b1")).toBe("new");
    await memory.restore(null);
    expect(memory.invite).toBe("new");
  });

  it("drops a token only until the room is opened again", async () => {
    const { storage } = memoryStorage({ "lac.guest.b1": "guest-1" });
    const memory = new RoomMemory(storage, "b1");
    await memory.restore(null);
    memory.dropToken();
    expect(memory.token).toBeNull();
    await memory.restore(null);
    expect(memory.token).toBe("guest-1");
  });

  it.each([
    ["", null],
    ["{", null],
    ["null", null],
    ["7", { reason: null, banned: false, until: null }],
    ['{"reason": 7, "banned": "yes"}', { reason: null, banned: false, until: null }],
  ])("takes nothing from a removal that reads %j", async (stored, expected) => {
    const { storage } = memoryStorage({ "lac.removed.b1": stored });
    expect(await new RoomMemory(storage, "b1").recallRemoval()).toEqual(expected);
  });

  it("lasts as long as the page where nothing may be stored", async () => {
    const refuse = () => {
      throw new Error("not in a private window");
    };
    const storage: KeyValueStore = { get: refuse, set: refuse, remove: refuse };
    const memory = new RoomMemory(storage, "b1");
    await memory.restore("link");
    memory.keepName("Seagull");
    memory.keepToken("guest-1");
    memory.keepRemoval(null);
    memory.forgetRemoval();
    expect([memory.name, memory.token, memory.invite]).toEqual(["Seagull", "guest-1", "link"]);
    memory.forgetInvite();
    expect([memory.invite, await memory.recallRemoval()]).toEqual([null, null]);
  });
});
