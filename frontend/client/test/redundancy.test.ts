import type { types } from "mediasoup-client";
import { describe, expect, it } from "vitest";
import { answerWithRed, Copies } from "../src/services/redundancy";

const sdp = (...lines: string[]) => lines.map((line) => `${line}\r\n`).join("");
const HEAD = sdp("v=0", "o=- 1 2 IN IP4 0.0.0.0", "s=-", "t=0 0", "a=group:BUNDLE 0");

/** What Chromium offers; `red` is the list of blocks. */
function offered(mid: string, red: string | null = "111/111"): string {
  const lines = red === null ? [] : ["a=rtpmap:63 red/48000/2", `a=fmtp:63 ${red}`];
  return sdp(
    "m=audio 9 UDP/TLS/RTP/SAVPF 111 63 0",
    `a=mid:${mid}`,
    "a=sendonly",
    "a=rtpmap:111 opus/48000/2",
    "a=fmtp:111 minptime=10;useinbandfec=1",
    ...lines,
    "a=rtpmap:0 PCMU/8000",
  );
}

/** What mediasoup-client answers. */
function answered(mid: string, { opus = 111, red = false, name = "opus" } = {}): string {
  return sdp(
    `m=audio 7 UDP/TLS/RTP/SAVPF ${red ? "63 " : ""}${opus}`,
    "c=IN IP4 127.0.0.1",
    ...(red ? ["a=rtpmap:63 red/48000/2", "a=fmtp:63 111/111"] : []),
    `a=rtpmap:${opus} ${name}/48000/2`,
    `a=fmtp:${opus} stereo=0;useinbandfec=1`,
    `a=rtcp-fb:${opus} nack`,
    `a=mid:${mid}`,
    "a=recvonly",
  );
}

const taken = (offer: string, answer: string, chosen?: Map<string, number | null>) =>
  answerWithRed(HEAD + offer, HEAD + answer, chosen);

describe("an answer", () => {
  it("takes RED first", () => {
    const { sdp: first, numbers } = taken(offered("0"), answered("0"));
    expect(first).toBe(HEAD + answered("0", { red: true }));
    expect(numbers).toEqual(new Map([["0", 63]]));
  });

  it("stays as it is where there is no RED of the Opus it takes", () => {
    const cases: [string, string][] = [
      [offered("0", null), answered("0")],
      [offered("0", "110/110"), answered("0")],
      [offered("0", "111/110"), answered("0")],
      [offered("0"), answered("0", { opus: 110 })],
      [offered("0"), answered("0", { name: "multiopus" })],
      [offered("0"), answered("1")],
      [offered("0"), sdp("m=audio 0 UDP/TLS/RTP/SAVPF 111", "a=mid:0", "a=inactive")],
      [offered("0"), sdp("m=audio 7 UDP/TLS/RTP/SAVPF 111", "a=rtpmap:111 opus/48000/2")],
      ["", answered("0")],
    ];
    for (const [offer, answer] of cases) {
      const { sdp: same, numbers } = taken(offer, answer);
      expect(same).toBe(HEAD + answer);
      expect([...numbers.values()].filter((number) => number !== null)).toEqual([]);
    }
  });

  it("is looked at section by section", () => {
    const video = sdp("m=video 9 UDP/TLS/RTP/SAVPF 96", "a=mid:1", "a=rtpmap:96 VP8/90000");
    const { sdp: both, numbers } = taken(
      offered("0", null) + video + offered("2"),
      answered("0") + video + answered("2"),
    );
    expect(both).toBe(HEAD + answered("0") + video + answered("2", { red: true }));
    expect([...numbers]).toEqual([
      ["0", null],
      ["2", 63],
    ]);
  });

  it("keeps to what was chosen before", () => {
    const again = taken(offered("0"), answered("0"), new Map([["0", 63]]));
    expect(again.sdp).toBe(HEAD + answered("0", { red: true }));
    for (const before of [null, 62]) {
      const plain = taken(offered("0"), answered("0"), new Map([["0", before]]));
      expect(plain.sdp).toBe(HEAD + answered("0"));
    }
  });
});

/** A connection as a handler of mediasoup-client has it; `refuses` says which answers throw. */
function connection(refuses: (sdp: string) => boolean = () => false) {
  const applied: RTCSessionDescriptionInit[] = [];
  const pc = {
    localDescription: { type: "offer", sdp: HEAD + offered("0") },
    async setRemoteDescription(description: RTCSessionDescriptionInit) {
      expect(this).toBe(pc);
      if (refuses(description.sdp ?? "")) throw new Error("refused");
      applied.push(description);
    },
  };
  const answer = async (text: string) => {
    await pc.setRemoteDescription({ type: "answer", sdp: HEAD + text });
    return applied.at(-1)?.sdp;
  };
  const transport = { handler: { _pc: pc } } as unknown as types.Transport;
  return { pc, answer, applied, transport };
}

const OPUS = { mimeType: "audio/opus", payloadType: 111, clockRate: 48_000, channels: 2 };
const parameters = (mid = "0"): types.RtpParameters => ({ mid, codecs: [OPUS] });
const RED = { mimeType: "audio/red", payloadType: 63, clockRate: 48_000, channels: 2 };

describe("a stream", () => {
  it("of speech has RED, in every later answer too, and the server is told", async () => {
    const { transport, answer } = connection();
    const copies = new Copies(transport, "voice");
    for (let time = 0; time < 3; time += 1) {
      expect(await answer(answered("0"))).toBe(HEAD + answered("0", { red: true }));
      expect(copies.describe(parameters()).codecs).toEqual([OPUS, RED]);
    }
    expect(copies.describe(parameters("1")).codecs).toEqual([OPUS]);
  });

  it("goes without for good where the browser does not take the answer", async () => {
    let strict = true;
    const { transport, answer } = connection((text) => strict && text.includes("red/"));
    const copies = new Copies(transport, "voice");
    expect(await answer(answered("0"))).toBe(HEAD + answered("0"));
    expect(copies.describe(parameters()).codecs).toEqual([OPUS]);
    strict = false;
    expect(await answer(answered("0"))).toBe(HEAD + answered("0"));
    expect(copies.describe(parameters()).codecs).toEqual([OPUS]);
  });

  it("goes without for good where RED was not offered at first: the server would not expect it", async () => {
    const { pc, transport, answer } = connection();
    pc.localDescription.sdp = HEAD + offered("0", null);
    const copies = new Copies(transport, "voice");
    await answer(answered("0"));
    pc.localDescription.sdp = HEAD + offered("0");
    expect(await answer(answered("0"))).toBe(HEAD + answered("0"));
    expect(copies.describe(parameters()).codecs).toEqual([OPUS]);
  });

  it("fails as before where the browser takes neither answer, or another description", async () => {
    const { pc, transport, answer, applied } = connection(() => true);
    new Copies(transport, "voice");
    await expect(answer(answered("0"))).rejects.toThrow("refused");
    pc.localDescription.sdp = HEAD + offered("0", null);
    await expect(answer(answered("0"))).rejects.toThrow("refused");
    await expect(pc.setRemoteDescription({ type: "offer", sdp: "" })).rejects.toThrow("refused");
    expect(applied).toEqual([]);
  });

  it("goes without where the handler has no connection of this kind", async () => {
    for (const handler of [{}, { _pc: null }, { _pc: {} }]) {
      const transport = { handler } as unknown as types.Transport;
      expect(new Copies(transport, "voice").describe(parameters()).codecs).toEqual([OPUS]);
      const limits: number[] = [];
      const copies = new Copies(transport, "music");
      await copies.follow(
        1,
        producerOf(async (maxBitrate) => void limits.push(maxBitrate)),
      );
      expect(limits).toEqual([]);
    }
  });
});

/** A sent stream of mid 0; `limit` is what limiting its bitrate does. */
function producerOf(limit: (maxBitrate: number) => Promise<void>): types.Producer {
  return {
    rtpParameters: parameters(),
    setRtpEncodingParameters: ({ maxBitrate = 0 }: RTCRtpEncodingParameters) => limit(maxBitrate),
  } as unknown as types.Producer;
}

const PLAIN = HEAD + answered("0");
const TWICE = HEAD + answered("0", { red: true });

describe("music", () => {
  /** On the air; `lose` says of several intervals in a row how much each lost. Limiting negotiates, as mediasoup does. */
  async function onAir(refuses?: (sdp: string) => boolean) {
    const { pc, applied, answer, transport } = connection(refuses);
    const copies = new Copies(transport, "music");
    await answer(answered("0"));
    const limits: number[] = [];
    const producer = producerOf(async (maxBitrate) => {
      limits.push(maxBitrate);
      await answer(answered("0"));
    });
    const lose = async (ratio: number, intervals: number) => {
      for (let time = 0; time < intervals; time += 1) await copies.follow(ratio, producer);
    };
    const latest = () => applied.at(-1)?.sdp;
    return { pc, copies, limits, lose, latest, answer };
  }

  it("is sent once at first, and the server is told of what may come", async () => {
    const { copies, latest } = await onAir();
    expect(latest()).toBe(PLAIN);
    expect(copies.describe(parameters()).codecs).toEqual([OPUS, RED]);
  });

  it("is sent twice at half the bitrate while much gets lost, and once again long after", async () => {
    const { limits, lose, latest, answer } = await onAir();
    await lose(0.02, 100);
    expect(limits).toEqual([]);
    await lose(0.1, 2);
    expect(limits).toEqual([64_000]);
    expect(latest()).toBe(TWICE);
    await lose(0.1, 100);
    expect(await answer(answered("0"))).toBe(TWICE); // such as when ICE restarts
    await lose(0, 5);
    expect(limits).toEqual([64_000]);
    await lose(0, 10);
    expect(limits).toEqual([64_000, 128_000]);
    expect(latest()).toBe(PLAIN);
  });

  it("is not switched for one bad moment, nor back for one good", async () => {
    const { limits, lose } = await onAir();
    await lose(1, 1);
    await lose(0, 10);
    expect(limits).toEqual([]);
    await lose(0.1, 10);
    await lose(0, 1);
    await lose(0.1, 10);
    expect(limits).toEqual([64_000]);
  });

  it("stays whole where the browser does not take the copies", async () => {
    const { limits, lose, latest } = await onAir((sdp) => sdp.includes("red/"));
    await lose(0.1, 100);
    expect(limits).toEqual([64_000, 128_000]);
    expect(latest()).toBe(PLAIN);
    await lose(0, 100);
    expect(limits).toHaveLength(2);
  });

  it("is whole again as soon as the copies are gone", async () => {
    let strict = false;
    const refused = await onAir((sdp) => strict && sdp.includes("red/"));
    await refused.lose(0.1, 2);
    strict = true;
    expect(await refused.answer(answered("0"))).toBe(PLAIN); // such as when ICE restarts
    await refused.lose(0.1, 10);
    expect(refused.limits).toEqual([64_000, 128_000]);

    const { pc, limits, lose, latest } = await onAir();
    pc.localDescription.sdp = HEAD + offered("0", null);
    await lose(0.1, 10);
    expect(limits).toEqual([64_000, 128_000]);
    expect(latest()).toBe(PLAIN);
  });

  it.each([
    [0, [64_000, 128_000]],
    [1, [64_000, 128_000, 128_000]],
  ])("is left alone and whole once change %i has failed half-way", async (failing, expected) => {
    const { transport, answer } = connection();
    const copies = new Copies(transport, "music");
    await answer(answered("0"));
    const limits: number[] = [];
    const producer = producerOf(async (maxBitrate) => {
      limits.push(maxBitrate);
      if (limits.length === failing + 1) throw new Error("refused after the bitrate was set");
      await answer(answered("0"));
    });
    for (const ratio of [0.2, 0, 0.2]) {
      for (let time = 0; time < 20; time += 1) await copies.follow(ratio, producer);
    }
    expect(limits).toEqual(expected);
    expect(await answer(answered("0"))).toBe(PLAIN);
  });

  it("is given up without a word where the stream has closed", async () => {
    const { transport, answer } = connection();
    const copies = new Copies(transport, "music");
    await answer(answered("0"));
    let tries = 0;
    const producer = producerOf(async () => {
      tries += 1;
      throw new Error("closed");
    });
    for (let time = 0; time < 10; time += 1) await copies.follow(0.2, producer);
    expect(tries).toBe(2);
  });

  it("is switched once however long that takes", async () => {
    const { transport, answer } = connection();
    const copies = new Copies(transport, "music");
    await answer(answered("0"));
    let goOn: () => void = () => {};
    const hanging = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    const limits: number[] = [];
    const producer = producerOf(async (maxBitrate) => {
      limits.push(maxBitrate);
      await hanging;
    });
    await copies.follow(0.2, producer);
    const switching = copies.follow(0.2, producer);
    for (const ratio of [0.2, 0.2, ...Array(20).fill(0)]) await copies.follow(ratio, producer);
    expect(limits).toEqual([64_000]);
    goOn();
    await switching;
    await copies.follow(0, producer);
    expect(limits).toEqual([64_000, 128_000]);
  });
});

describe("speech", () => {
  it("stays as it is, whatever gets lost", async () => {
    const { transport, answer } = connection();
    const copies = new Copies(transport, "voice");
    await answer(answered("0"));
    let limited = false;
    const producer = producerOf(async () => {
      limited = true;
    });
    for (const ratio of [1, 1, 1, 0, 0, 0]) await copies.follow(ratio, producer);
    expect(limited).toBe(false);
  });
});
