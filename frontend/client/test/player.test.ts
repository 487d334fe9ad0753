import { describe, expect, it } from "vitest";
import { ApiError } from "../src/services/api";
import type { HlsAddress, HlsHandlers, HlsPlayback } from "../src/services/hls-types";
import { createPlayer, type LinkHandlers } from "../src/stores/player";
import { fakeLink, fakeTrack, settle } from "./fakes";

const address = (url = "/hls/b1/pass/index.m3u8", preferred = false): HlsAddress => ({
  url,
  expiresAt: "2026-05-01T12:00:00Z",
  mediaTimeZero: "2026-05-01T11:00:00Z",
  windowS: 1800,
  preferred,
});
const position = { behindS: 1.5, windowS: 60, live: true, finished: false };

function setUp({ preferred = false, findable = true } = {}) {
  const links: { link: ReturnType<typeof fakeLink>; on: LinkHandlers }[] = [];
  const playbacks: { address: HlsAddress; on: HlsHandlers; closed: boolean }[] = [];
  const player = createPlayer(
    async (on) => {
      const link = fakeLink();
      links.push({ link, on });
      return link;
    },
    {
      told: () => address("/told", preferred),
      find: async () => {
        if (!findable) throw new ApiError(404, "not_live", "There is nothing to hear.");
        return address("/found");
      },
      open: async (given, on) => {
        const made = { address: given, on, closed: false };
        playbacks.push(made);
        return {
          state: { name: "connecting" },
          heardAt: () => 42,
          close: () => {
            made.closed = true;
          },
        } as unknown as HlsPlayback;
      },
    },
  );
  const state = () => player.store.getState();
  async function byHls() {
    player.start();
    await settle();
    links[0]?.on.onState({ name: "failed", error: manyListeners });
    await settle();
    playbacks[0]?.on.onState({ name: "connected" });
    playbacks[0]?.on.onPosition(position);
  }
  return { player, links, playbacks, state, byHls };
}

const manyListeners = new ApiError(503, "use_hls", "Many listen.", {}, 2000, address("/sent"));

describe("a player with two ways to listen", () => {
  it("goes to HLS when it is sent there", async () => {
    const { playbacks, state, byHls, player } = setUp();
    await byHls();
    expect(playbacks[0]?.address.url).toBe("/sent");
    expect(state()).toMatchObject({ phase: "playing", via: "hls", position });
    expect(player.heardAt()).toBe(42);
    player.stop();
    expect(playbacks[0]?.closed).toBe(true);
    expect(state()).toMatchObject({ phase: "stopped", via: null, position: null });
    expect(player.heardAt()).toBe(null);
  });

  it("begins there when the room says so", async () => {
    const { player, links, playbacks } = setUp({ preferred: true });
    player.start();
    expect(player.store.getState().phase).toBe("connecting");
    await settle();
    expect(links).toHaveLength(0);
    expect(playbacks[0]?.address.url).toBe("/found");
  });

  it("waits until the server knows who listens, unless it has been stopped by then", async () => {
    const opened: string[] = [];
    let arrive: () => void = () => undefined;
    const player = createPlayer(
      async () => {
        opened.push("webrtc");
        return fakeLink();
      },
      undefined,
      () => new Promise((resolve) => (arrive = resolve)),
    );
    player.start();
    await settle();
    expect(player.store.getState().phase).toBe("connecting");
    expect(opened).toEqual([]);
    player.stop();
    arrive();
    await settle();
    expect(opened).toEqual([]);
    expect(player.store.getState().phase).toBe("stopped");
    player.start();
    arrive();
    await settle();
    expect(opened).toEqual(["webrtc"]);
  });

  it("goes there when WebRTC does not get through, and is not lured back", async () => {
    const { player, links, playbacks, state } = setUp();
    player.start();
    await settle();
    const error = new ApiError(0, "media_unreachable", "A firewall.");
    links[0]?.on.onState({ name: "failed", error });
    await settle();
    playbacks[0]?.on.onState({ name: "connected" });
    expect(state()).toMatchObject({ phase: "playing", via: "hls" });
    player.changeToWebRtc();
    await settle();
    expect(links).toHaveLength(1);
  });

  it("says what was wrong when there is no way at all", async () => {
    const { player, links, state } = setUp({ findable: false });
    player.start();
    await settle();
    links[0]?.on.onState({
      name: "failed",
      error: new ApiError(0, "media_unreachable", "A firewall."),
    });
    await settle();
    expect(state()).toMatchObject({ phase: "failed", problem: "A firewall." });
  });

  it("does not try another way round a refusal", async () => {
    const { player, links, playbacks, state } = setUp();
    player.start();
    await settle();
    links[0]?.on.onState({ name: "failed", error: new ApiError(403, "removed", "Removed.") });
    await settle();
    expect(state()).toMatchObject({ phase: "failed", code: "removed" });
    expect(playbacks).toHaveLength(0);
  });

  it("carries on by HLS when a good connection does not come back", async () => {
    const { player, links, playbacks, state } = setUp();
    player.start();
    await settle();
    links[0]?.on.onTrack(fakeTrack());
    links[0]?.on.onState({ name: "connected" });
    links[0]?.on.onState({ name: "reconnecting", attempt: 1 });
    await settle();
    expect(playbacks).toHaveLength(0);
    links[0]?.on.onState({ name: "reconnecting", attempt: 3 });
    await settle();
    expect(links[0]?.link.close).toHaveBeenCalled();
    expect(state().via).toBe("hls");
  });

  it("changes back once WebRTC sounds, and not before", async () => {
    const { player, links, playbacks, state, byHls } = setUp();
    await byHls();
    player.changeToWebRtc();
    player.changeToWebRtc();
    await settle();
    expect(links).toHaveLength(2);
    const track = fakeTrack();
    links[1]?.on.onTrack(track);
    expect(state()).toMatchObject({ via: "hls", phase: "playing" });
    links[1]?.on.onState({ name: "connected" });
    expect(state()).toMatchObject({ via: "webrtc", phase: "playing", track, position: null });
    expect(playbacks[0]?.closed).toBe(true);
    links[1]?.on.onState({ name: "failed", error: manyListeners });
    await settle();
    expect(state().via).toBe("hls");
  });

  it("stays where it is when the change does not succeed", async () => {
    const { player, links, playbacks, state, byHls } = setUp();
    await byHls();
    player.changeToWebRtc();
    await settle();
    links[1]?.on.onState({ name: "failed", error: manyListeners });
    await settle();
    expect(state()).toMatchObject({ via: "hls", phase: "playing", position });
    expect(playbacks).toHaveLength(1);
    player.changeToWebRtc();
    await settle();
    expect(links).toHaveLength(3);
    player.stop();
    expect(links[2]?.link.close).toHaveBeenCalled();
  });

  it("gives up a change that does not get through, and tries anew when there is the next offer", async () => {
    const { player, links, state, byHls } = setUp();
    await byHls();
    player.changeToWebRtc();
    await settle();
    links[1]?.on.onState({ name: "reconnecting", attempt: 2 });
    expect(links[1]?.link.close).not.toHaveBeenCalled();
    links[1]?.on.onState({ name: "reconnecting", attempt: 3 });
    expect(links[1]?.link.close).toHaveBeenCalled();
    expect(state()).toMatchObject({ via: "hls", phase: "playing", position });
    player.changeToWebRtc();
    await settle();
    links[2]?.on.onState({ name: "connected" });
    expect(state()).toMatchObject({ via: "webrtc", phase: "playing" });
  });

  it("does not give up a change for who is to speak, also when that is known only in the middle of it", async () => {
    const { player, links, state, byHls } = setUp();
    await byHls();
    player.changeToWebRtc();
    await settle();
    player.changeToWebRtc(true);
    player.changeToWebRtc();
    links[1]?.on.onState({ name: "reconnecting", attempt: 7 });
    expect(links[1]?.link.close).not.toHaveBeenCalled();
    links[1]?.on.onState({ name: "connected" });
    expect(state()).toMatchObject({ via: "webrtc", phase: "playing" });
  });

  it("stops when the last of a finished show has been heard", async () => {
    const { playbacks, state, byHls } = setUp();
    await byHls();
    playbacks[0]?.on.onEnd();
    expect(state().phase).toBe("stopped");
    expect(playbacks[0]?.closed).toBe(true);
  });
});
