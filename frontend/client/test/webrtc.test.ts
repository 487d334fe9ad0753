import { FakeMediaStreamTrack } from "fake-mediastreamtrack";
import * as fakeParameters from "mediasoup-client/fakeParameters";
import { FakeHandler } from "mediasoup-client/handlers/FakeHandler";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { createRequest } from "../src/services/api";
import { Copies } from "../src/services/redundancy";
import {
  codecOptions,
  hearStage,
  type LinkState,
  listen,
  publish,
  type Variant,
} from "../src/services/webrtc";
import { type Call, fakeFetch } from "./fakes";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** Let a link get as far as it can without time passing: mediasoup takes many turns. */
const settle = () => vi.advanceTimersByTimeAsync(0);

/** Of a `consume`: whom it asks for. */
const wantedBy = ({ body }: Call) => (body as { producerId?: string } | undefined)?.producerId;

type Refusal = (call: Call) => { status: number; code: string } | undefined;

/** A server that opens whatever is asked for, except what `refuse` says. */
function setUp(refuse: Refusal = () => undefined) {
  const handlers: FakeHandler[] = [];
  const stats: { current: Record<string, unknown>[] } = { current: [] };
  const factory = FakeHandler.createFactory(fakeParameters);
  const handlerFactory = {
    ...factory,
    factory: (options: Parameters<typeof factory.factory>[0]) => {
      const handler = factory.factory(options) as FakeHandler;
      handler.getTransportStats = async () =>
        new Map(
          stats.current.map((report, index) => [String(report.id ?? index), report]),
        ) as never;
      handlers.push(handler);
      return handler;
    },
  };
  let transports = 0;
  const { fetch, calls } = fakeFetch((call) => {
    const refusal = refuse(call);
    if (refusal) {
      return { status: refusal.status, body: { code: refusal.code, detail: refusal.code } };
    }
    if (call.method === "DELETE") return { status: 204 };
    const step = call.path.split("/").at(-1);
    switch (step) {
      case "rtp-capabilities":
        return { body: { rtpCapabilities: fakeParameters.generateRouterRtpCapabilities() } };
      case "transports": {
        transports += 1;
        const remote = fakeParameters.generateTransportRemoteParameters();
        return { status: 201, body: { ...remote, id: `t${transports}` } };
      }
      case "connect":
        return { status: 204 };
      case "produce":
        return { status: 201, body: { id: "p1" } };
      case "consume":
        return {
          status: 201,
          body: {
            ...fakeParameters.generateConsumerRemoteParameters({ codecMimeType: "audio/opus" }),
            id: `c-${wantedBy(call) ?? "program"}`,
            producerId: wantedBy(call) ?? "program",
          },
        };
      case "restart-ice":
        return { body: { iceParameters: { usernameFragment: "u", password: "p", iceLite: true } } };
      default:
        return { status: 404, body: { code: "not_found" } };
    }
  });
  const states: LinkState[] = [];
  const tracks: MediaStreamTrack[] = [];
  const options = {
    broadcastId: "b1",
    request: createRequest({ baseUrl: "http://server", fetch }),
    auth: () => ({ bearer: "guest-token" }),
    onState: (state: LinkState) => states.push(state),
    onTrack: (track: MediaStreamTrack) => tracks.push(track),
    random: () => 1,
    device: { handlerFactory },
  };
  const latest = () => {
    const handler = handlers.at(-1);
    if (!handler) throw new Error("no transport was made");
    return handler;
  };
  const steps = () =>
    calls.map((call) => `${call.method} ${call.path.replace("/api/mediasoup/", "")}`);
  return { options, calls, states, tracks, handlers, latest, steps, stats };
}

const microphone = () => new FakeMediaStreamTrack({ kind: "audio" }) as unknown as MediaStreamTrack;

describe("listening", () => {
  it("takes the programme, with the guest's token on every call", async () => {
    const { options, calls, states, tracks, latest, steps } = setUp();
    const link = listen(options);
    await settle();
    latest().setConnectionState("connected");
    expect(steps()).toEqual([
      "GET b1/rtp-capabilities",
      "POST b1/transports",
      "POST transports/t1/consume",
      "POST transports/t1/connect",
    ]);
    expect(new Set(calls.map((call) => call.bearer))).toEqual(new Set(["guest-token"]));
    const consume = calls.find((call) => call.path.endsWith("/consume"));
    expect(consume?.body).not.toHaveProperty("producerId");
    expect(tracks).toHaveLength(1);
    expect(states.at(-1)).toEqual({ name: "connected" });
    link.close();
  });

  it("asks for the wanted variant, and anew when that has changed", async () => {
    let variant: Variant = "opus";
    const { options, calls, states, tracks, latest, steps } = setUp();
    const link = listen({ ...options, variant: () => variant });
    await settle();
    latest().setConnectionState("connected");
    variant = "opus3";
    link.renew();
    expect(states.at(-1)).toEqual({ name: "connecting" });
    await settle();
    latest().setConnectionState("connected");
    const asked = calls
      .filter((call) => call.path.endsWith("/consume"))
      .map((call) => (call.body as { variant: string }).variant);
    expect(asked).toEqual(["opus", "opus3"]);
    expect(steps()).toContain("DELETE transports/t1");
    expect(tracks).toHaveLength(2);
    expect(states.at(-1)).toEqual({ name: "connected" });
    link.close();
    link.renew();
    await settle();
    expect(states.at(-1)).toEqual({ name: "closed" });
    expect(steps().filter((step) => step === "POST b1/transports")).toHaveLength(2);
  });

  it("finishes what it is building before it builds anew", async () => {
    let variant: Variant = "opus";
    const { options, calls, latest, steps } = setUp();
    const link = listen({ ...options, variant: () => variant });
    variant = "opus3";
    link.renew();
    link.renew();
    await settle();
    latest().setConnectionState("connected");
    const consumed = calls.filter((call) => call.path.endsWith("/consume"));
    expect(consumed.at(-1)?.body).toMatchObject({ variant: "opus3" });
    const opened = steps().filter((step) => step === "POST b1/transports").length;
    const closed = steps().filter((step) => step.startsWith("DELETE")).length;
    expect([opened, closed]).toEqual([2, 1]);
    link.close();
  });

  it("tells the server when it stops, and stays stopped", async () => {
    const { options, states, latest, steps } = setUp();
    const link = listen(options);
    await settle();
    latest().setConnectionState("connected");
    link.close();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(steps().at(-1)).toBe("DELETE transports/t1");
    expect(states.at(-1)).toEqual({ name: "closed" });
    expect(steps().filter((step) => step === "POST b1/transports")).toHaveLength(1);
  });

  it("restarts ICE on a short loss, and keeps the session when that helps", async () => {
    const { options, states, latest, steps } = setUp();
    const link = listen(options);
    await settle();
    latest().setConnectionState("connected");
    latest().setConnectionState("disconnected");
    await vi.advanceTimersByTimeAsync(2_500);
    expect(steps().at(-1)).toBe("POST transports/t1/restart-ice");
    latest().setConnectionState("connected");
    await vi.advanceTimersByTimeAsync(5_000);
    expect(states.at(-1)).toEqual({ name: "connected" });
    expect(steps().filter((step) => step === "POST b1/transports")).toHaveLength(1);
    link.close();
  });

  it("builds everything anew when restarting ICE does not help", async () => {
    const { options, tracks, latest, steps, handlers } = setUp();
    const link = listen(options);
    await settle();
    latest().setConnectionState("connected");
    latest().setConnectionState("disconnected");
    await vi.advanceTimersByTimeAsync(2_500 + 4_000 + 300);
    expect(steps()).toContain("DELETE transports/t1");
    expect(steps()).toContain("POST transports/t2/consume");
    expect(tracks).toHaveLength(2);
    expect(handlers).toHaveLength(2);
    link.close();
  });

  it("builds anew at once when ICE or DTLS fails, without asking for capabilities again", async () => {
    const { options, states, latest, steps } = setUp();
    const link = listen(options);
    await settle();
    latest().setConnectionState("connected");
    latest().setConnectionState("failed");
    expect(states.at(-1)).toEqual({ name: "reconnecting", attempt: 1 });
    await vi.advanceTimersByTimeAsync(300);
    latest().setConnectionState("connected");
    expect(states.at(-1)).toEqual({ name: "connected" });
    expect(steps().filter((step) => step.endsWith("rtp-capabilities"))).toHaveLength(1);
    expect((await link.stats()).rebuilds).toBe(1);
    link.close();
  });

  it("notices a server that went silent, because the programme never pauses", async () => {
    const { options, latest, steps, stats } = setUp();
    stats.current = [{ id: "in", type: "inbound-rtp", packetsReceived: 50, bytesReceived: 4000 }];
    const link = listen(options);
    await settle();
    latest().setConnectionState("connected");
    await vi.advanceTimersByTimeAsync(2_000);
    stats.current = [{ id: "in", type: "inbound-rtp", packetsReceived: 150, bytesReceived: 9000 }];
    await vi.advanceTimersByTimeAsync(4_000);
    expect(steps()).not.toContain("POST transports/t2/consume");
    await vi.advanceTimersByTimeAsync(6_500);
    expect(steps()).toContain("POST transports/t2/consume");
    link.close();
  });

  it.each([
    ["not_live", 409],
    ["removed", 403],
    ["token_invalid", 401],
  ])("gives up when the server says %s", async (code, status) => {
    const { options, states, steps } = setUp((call) =>
      call.path.endsWith("/transports") ? { status, code } : undefined,
    );
    listen(options);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(states.at(-1)).toMatchObject({ name: "failed", error: { code } });
    expect(steps().filter((step) => step === "POST b1/transports")).toHaveLength(1);
  });

  it("keeps trying while the server is away, with growing pauses", async () => {
    let away = true;
    const { options, states, latest, calls } = setUp(() =>
      away ? { status: 503, code: "unavailable" } : undefined,
    );
    const link = listen(options);
    await vi.advanceTimersByTimeAsync(300 + 600 + 1200);
    expect(calls).toHaveLength(4);
    away = false;
    await vi.advanceTimersByTimeAsync(2400);
    latest().setConnectionState("connected");
    expect(states.at(-1)).toEqual({ name: "connected" });
    link.close();
  });

  it("says after a few attempts that the media port cannot be reached", async () => {
    const { options, states } = setUp();
    listen(options);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(states.at(-1)).toMatchObject({
      name: "failed",
      error: { code: "media_unreachable", message: expect.stringContaining("firewall") },
    });
  });

  it("says the same when the browser gives up by itself before anything was connected", async () => {
    const { options, states, latest } = setUp();
    listen(options);
    for (let attempt = 0; attempt < 3; attempt += 1) {
      await settle();
      latest().setConnectionState("failed");
      await vi.advanceTimersByTimeAsync(2_000);
    }
    expect(states.at(-1)).toMatchObject({ name: "failed", error: { code: "media_unreachable" } });
  });
});

describe("publishing", () => {
  it("sends the track and leaves it running when it stops", async () => {
    const { options, states, latest, steps } = setUp();
    const track = microphone();
    const link = publish(options, track, "voice");
    await settle();
    latest().setConnectionState("connected");
    expect(steps()).toEqual([
      "GET b1/rtp-capabilities",
      "POST b1/transports",
      "POST transports/t1/connect",
      "POST transports/t1/produce",
    ]);
    expect(states.at(-1)).toEqual({ name: "connected" });
    expect(link.track).toBe(track);
    link.close();
    expect(track.readyState).toBe("live");
    expect(track.enabled).toBe(true);
  });

  it("sends another microphone from one packet to the next", async () => {
    const { options, latest, steps } = setUp();
    const link = publish(options, microphone(), "voice");
    await settle();
    latest().setConnectionState("connected");
    const before = steps().length;
    const other = microphone();
    await link.replaceTrack(other);
    expect(link.track).toBe(other);
    expect(steps()).toHaveLength(before);
    link.close();
  });

  it("sends the newest microphone after a reconnect", async () => {
    const { options, latest, steps } = setUp();
    const link = publish(options, microphone(), "voice");
    await settle();
    latest().setConnectionState("failed");
    const other = microphone();
    await link.replaceTrack(other);
    await vi.advanceTimersByTimeAsync(300);
    latest().setConnectionState("connected");
    expect(steps()).toContain("POST transports/t2/produce");
    expect(link.track).toBe(other);
    link.close();
  });

  it.each([
    ["asked for again", { retransmittedPacketsSent: 30 }, {}],
    ["gone for good", {}, { fractionLost: 0.25 }],
    ["either", { retransmittedPacketsSent: 15 }, { fractionLost: 0.125 }],
  ])("follows how much gets lost: what is %s", async (_name, sent, reported) => {
    const follow = vi.spyOn(Copies.prototype, "follow").mockResolvedValue();
    const { options, latest, stats } = setUp();
    const own = { type: "outbound-rtp", packetsSent: 100, bytesSent: 30_000 };
    const remote = { type: "remote-inbound-rtp", fractionLost: 0, roundTripTimeMeasurements: 1 };
    stats.current = [own, remote];
    const link = publish(options, microphone(), "music");
    await settle();
    latest().setConnectionState("connected");
    await vi.advanceTimersByTimeAsync(2_000);
    expect(follow.mock.lastCall?.[0]).toBe(0);
    stats.current = [
      { ...own, packetsSent: 220, bytesSent: 66_000, ...sent },
      { ...remote, ...reported, roundTripTimeMeasurements: 2 },
    ];
    await vi.advanceTimersByTimeAsync(2_000);
    expect(follow.mock.lastCall?.[0]).toBe(0.25);
    link.close();
    follow.mockRestore();
  });

  it("protects every packet, and is in stereo for music only", () => {
    expect(codecOptions("music")).toMatchObject({
      opusNack: true,
      opusFec: true,
      opusDtx: false,
      opusStereo: true,
    });
    expect(codecOptions("voice")).toMatchObject({ opusNack: true, opusStereo: false });
  });
});

describe("figures", () => {
  it("are read from what the browser reports", async () => {
    const { options, latest, stats } = setUp();
    stats.current = [
      { id: "T", type: "transport", selectedCandidatePairId: "P" },
      { id: "P", type: "candidate-pair", remoteCandidateId: "R", currentRoundTripTime: 0.042 },
      {
        id: "R",
        type: "remote-candidate",
        protocol: "udp",
        address: "198.51.100.7",
        port: 40000,
      },
      { id: "C", type: "codec", mimeType: "audio/opus" },
      {
        id: "I",
        type: "inbound-rtp",
        codecId: "C",
        packetsReceived: 600,
        bytesReceived: 60_000,
        packetsLost: 6,
        jitter: 0.003,
        jitterBufferDelay: 1200,
        jitterBufferEmittedCount: 40_000,
        concealedSamples: 480,
        totalSamplesReceived: 48_000,
        audioLevel: 0.37,
      },
    ];
    const link = listen(options);
    await settle();
    latest().setConnectionState("connected");
    await vi.advanceTimersByTimeAsync(2_000);
    expect(await link.stats()).toMatchObject({
      state: "connected",
      packets: 600,
      packetsLost: 6,
      roundTripMs: 42,
      jitterMs: 3,
      jitterBufferMs: 30,
      concealedRatio: 0.01,
      audioLevel: 0.37,
      codec: "audio/opus",
      remote: "udp 198.51.100.7:40000",
      bitrateKbps: 240,
    });
    link.close();
  });

  it("are empty, not wrong, before there is a connection", async () => {
    const { options } = setUp();
    const link = listen(options);
    expect(await link.stats()).toMatchObject({
      state: "connecting",
      packets: 0,
      lossRatio: null,
      roundTripMs: null,
    });
    link.close();
  });
});

describe("the stage", () => {
  const consumed = (calls: Call[]) =>
    calls.filter(({ path }) => path.endsWith("/consume")).map(wantedBy);

  function onStage(refuse?: Refusal) {
    const world = setUp(refuse);
    const heard: string[][] = [];
    const link = hearStage({
      ...world.options,
      onTracks: (tracks) => heard.push([...tracks.keys()]),
    });
    return { ...world, link, heard };
  }

  it("is no connection before somebody is on it", async () => {
    const { link, calls } = onStage();
    link.hear([]);
    await settle();
    expect(calls).toHaveLength(0);
    link.close();
  });

  it("is one connection for all speakers, who come and go", async () => {
    const { link, calls, heard, latest, steps } = onStage();
    link.hear(["a", "b"]);
    await settle();
    latest().setConnectionState("connected");
    expect(consumed(calls)).toEqual(["a", "b"]);
    expect(heard.at(-1)).toEqual(["a", "b"]);
    link.hear(["b", "c"]);
    await settle();
    expect(heard.at(-1)).toEqual(["b", "c"]);
    expect(steps()).toContain("DELETE transports/t1/consumers/c-a");
    expect(steps().filter((step) => step === "POST b1/transports")).toHaveLength(1);
    link.close();
    expect(heard.at(-1)).toEqual([]);
    expect(steps().at(-1)).toBe("DELETE transports/t1");
  });

  it("asks for nobody twice, however fast they come", async () => {
    const { link, calls } = onStage();
    link.hear(["a"]);
    link.hear(["a", "b"]);
    await settle();
    link.hear(["a", "b"]);
    link.hear(["b", "a", "c"]);
    await settle();
    expect(consumed(calls)).toEqual(["a", "b", "c"]);
    link.close();
  });

  it("goes on without who has left before they could be heard", async () => {
    const { link, heard } = onStage((call) =>
      wantedBy(call) === "gone" ? { status: 404, code: "producer_not_found" } : undefined,
    );
    link.hear(["gone", "a"]);
    await settle();
    expect(heard.at(-1)).toEqual(["a"]);
    link.close();
  });

  it("asks again for a speaker whom a hiccup has kept away", async () => {
    let hiccups = 1;
    const { link, heard, latest } = onStage((call) =>
      wantedBy(call) === "b" && hiccups-- > 0 ? { status: 503, code: "shutting_down" } : undefined,
    );
    link.hear(["a"]);
    await settle();
    latest().setConnectionState("connected");
    link.hear(["a", "b"]);
    await settle();
    expect(heard.at(-1)).toEqual(["a"]);
    await vi.advanceTimersByTimeAsync(2_000);
    expect(heard.at(-1)).toEqual(["a", "b"]);
    link.close();
  });

  it("is built anew when a transport has had its fill of comings and goings", async () => {
    const { link, heard, latest, steps } = onStage((call) =>
      wantedBy(call) === "b" && call.path.includes("/t1/")
        ? { status: 409, code: "transport_used_up" }
        : undefined,
    );
    link.hear(["a"]);
    await settle();
    latest().setConnectionState("connected");
    link.hear(["a", "b"]);
    await settle();
    expect(heard.at(-1)).toEqual(["a", "b"]);
    expect(steps()).toContain("DELETE transports/t1");
    link.close();
  });

  it("is built anew with everyone on it when the connection breaks", async () => {
    const { link, calls, heard, latest } = onStage();
    link.hear(["a", "b"]);
    await settle();
    latest().setConnectionState("connected");
    latest().setConnectionState("failed");
    await vi.advanceTimersByTimeAsync(1_000);
    expect(consumed(calls)).toEqual(["a", "b", "a", "b"]);
    expect(heard.at(-1)).toEqual(["a", "b"]);
    link.close();
  });
});
