import { describe, expect, test } from "vitest";
import { LinkMeter, type Report, reportsOf, WATCH_MS } from "../src/services/link-meter";

interface Sent {
  packets: number;
  lost?: number;
  again?: number;
  /** The share lost of late, as the server reports it. */
  share?: number;
  answers?: number;
}

function sending({ packets, lost = 0, again = 0, share, answers }: Sent): Report[] {
  const out = { packetsSent: packets, bytesSent: packets * 100, retransmittedPacketsSent: again };
  return [
    { type: "outbound-rtp", ...out },
    {
      type: "remote-inbound-rtp",
      packetsLost: lost,
      fractionLost: share,
      roundTripTimeMeasurements: answers,
    },
  ];
}

function receiving(packets: number, lost = 0): Report[] {
  return [
    {
      type: "inbound-rtp",
      packetsReceived: packets,
      bytesReceived: packets * 100,
      packetsLost: lost,
    },
  ];
}

describe("what a link's figures are", () => {
  test("before the first connection there are none", () => {
    const meter = new LinkMeter("recv");
    expect(meter.everConnected).toBe(false);
    expect(meter.figures([])).toMatchObject({ packets: 0, lossRatio: null, bitrateKbps: null });
    meter.connected(1_000);
    expect(meter.everConnected).toBe(true);
  });

  test("loss and bitrate are those of the last interval, not of the whole time", () => {
    const meter = new LinkMeter("recv");
    meter.connected(0);
    expect(meter.measure(receiving(50, 50), 2_000)).toBe(0.5);
    expect(meter.measure(receiving(140, 60), 4_000)).toBe(0.1);
    expect(meter.figures(receiving(140, 60))).toMatchObject({
      packets: 140,
      packetsLost: 60,
      lossRatio: 0.1,
      bitrateKbps: (90 * 100 * 8) / 2_000,
    });
  });

  test("a sender's loss is what the server reports, and what was asked for again counts as missed", () => {
    const meter = new LinkMeter("send");
    meter.connected(0);
    expect(meter.measure(sending({ packets: 100, share: 0.05, again: 10 }), 2_000)).toBeCloseTo(
      0.15,
    );
    expect(meter.figures(sending({ packets: 100 })).lossRatio).toBe(0.05);
    expect(meter.measure(sending({ packets: 200, lost: 4, again: 10 }), 4_000)).toBe(0.04);
    expect(meter.measure(sending({ packets: 300, share: 0.9, again: 60 }), 6_000)).toBe(1);
  });

  test("too short an interval, no packets and a new connection say nothing", () => {
    const meter = new LinkMeter("send");
    meter.connected(0);
    expect(meter.measure(sending({ packets: 100, share: 0.5 }), WATCH_MS / 2 - 1)).toBeNull();
    expect(meter.measure(sending({ packets: 100, share: 0.5 }), WATCH_MS)).toBe(0.5);
    expect(meter.measure(sending({ packets: 100, share: 0.5 }), 2 * WATCH_MS)).toBeNull();
    // A new connection counts from the beginning.
    meter.connected(2 * WATCH_MS);
    expect(meter.measure(sending({ packets: 10, share: 0.5 }), 3 * WATCH_MS)).toBeNull();
    expect(meter.measure(sending({ packets: 20, share: 0.5 }), 4 * WATCH_MS)).toBe(0.5);
  });
});

describe("whether anything gets through", () => {
  test("a listener's link stalls when no packet comes", () => {
    const meter = new LinkMeter("recv");
    meter.connected(1_000);
    expect(meter.stalledMs(receiving(5), 2_000)).toBe(0);
    expect(meter.stalledMs(receiving(5), 4_000)).toBe(2_000);
    expect(meter.stalledMs(receiving(5), 6_000)).toBe(4_000);
    expect(meter.stalledMs(receiving(6), 8_000)).toBe(0);
    meter.connected(9_000);
    expect(meter.stalledMs(receiving(6), 9_500)).toBe(0);
  });

  test("a sender's link stalls when no answer comes, however many packets leave", () => {
    const meter = new LinkMeter("send");
    meter.connected(0);
    expect(meter.stalledMs(sending({ packets: 10, answers: 1 }), 2_000)).toBe(0);
    expect(meter.stalledMs(sending({ packets: 20, answers: 1 }), 4_000)).toBe(2_000);
    expect(meter.stalledMs(sending({ packets: 30, answers: 2 }), 6_000)).toBe(0);
  });

  test("where the browser does not say, nothing is taken for lost", () => {
    const meter = new LinkMeter("send");
    meter.connected(0);
    expect(meter.stalledMs(sending({ packets: 10 }), 2_000)).toBe(0);
    expect(meter.stalledMs(sending({ packets: 10 }), 60_000)).toBe(0);
  });
});

describe("what the browser reports", () => {
  const saying = (...reports: (Report & { id: string })[]) => ({
    getStats: async () => new Map(reports.map((report) => [report.id, report])),
  });

  test("each report once, of the transport and of what it carries", async () => {
    const transport = saying({ id: "T", type: "transport" }, { id: "I", type: "inbound-rtp" });
    const reports = await reportsOf(transport, saying({ id: "I", type: "inbound-rtp" }));
    expect(reports.map(({ id }) => id)).toEqual(["T", "I"]);
    expect(await reportsOf(transport, null)).toHaveLength(2);
  });

  test("nothing once it is closed", async () => {
    const closed = { getStats: () => Promise.reject(new Error("closed")) };
    expect(await reportsOf(closed, null)).toEqual([]);
  });
});
