import type { LinkStats } from "./media-types";

/** How often a link is looked at. */
export const WATCH_MS = 2_000;

export type Report = Record<string, unknown> & { type?: string };

interface Reporting {
  getStats(): Promise<RTCStatsReport>;
}

type Direction = LinkStats["direction"];
type Figures = Omit<LinkStats, "direction" | "state" | "rebuilds">;
type Summary = Omit<Figures, "lossRatio" | "bitrateKbps"> & {
  reportedLossRatio: number | null;
  /** Packets that were asked for again. */
  sentAgain: number;
};

/**
 * Makes figures of what the browser reports of one link, and sees whether anything still gets through. It outlives the
 * connections that the link has one after the other.
 */
export class LinkMeter {
  #direction: Direction;
  /** What the figures of the next interval begin at. */
  #last:
    | (Pick<Summary, "bytes" | "packets" | "packetsLost" | "sentAgain"> & { at: number })
    | null = null;
  #lossRatio: number | null = null;
  #bitrateKbps: number | null = null;
  #progress = -1;
  #progressAt = 0;

  constructor(direction: Direction) {
    this.#direction = direction;
  }

  /** There has been a connection. */
  get everConnected(): boolean {
    return this.#last !== null;
  }

  /** A connection is there, the first or another. Times are milliseconds. */
  connected(now: number): void {
    this.#last ??= { at: now, bytes: 0, packets: 0, packetsLost: 0, sentAgain: 0 };
    this.#progress = -1;
    this.#progressAt = now;
  }

  /**
   * Measure what has come since the last time. The share of packets that did not come at once, those that came after they
   * were asked for again included; null where there is nothing (yet) to say so.
   */
  measure(reports: readonly Report[], now: number): number | null {
    const summary = summarise(this.#direction, reports);
    const last = this.#last;
    if (last && now - last.at < WATCH_MS / 2) return null;
    let missed: number | null = null;
    if (last && summary.bytes >= last.bytes && summary.packets >= last.packets) {
      this.#bitrateKbps = ((summary.bytes - last.bytes) * 8) / (now - last.at);
      const lost = Math.max(0, summary.packetsLost - last.packetsLost);
      const all = summary.packets - last.packets + (this.#direction === "recv" ? lost : 0);
      this.#lossRatio = summary.reportedLossRatio ?? (all > 0 ? lost / all : null);
      if (all > 0) {
        // What came after it was asked for again is not lost in the server's reports.
        const again = Math.max(0, summary.sentAgain - last.sentAgain) / all;
        missed = Math.min(1, (this.#lossRatio ?? 0) + again);
      }
    }
    const { bytes, packets, packetsLost, sentAgain } = summary;
    this.#last = { at: now, bytes, packets, packetsLost, sentAgain };
    return missed;
  }

  /** For how long nothing has got through, as far as the browser says. */
  stalledMs(reports: readonly Report[], now: number): number {
    const progress = progressOf(this.#direction, reports);
    if (progress === null || progress !== this.#progress) {
      this.#progress = progress ?? -1;
      this.#progressAt = now;
    }
    return now - this.#progressAt;
  }

  figures(reports: readonly Report[]): Figures {
    const all = summarise(this.#direction, reports);
    const { reportedLossRatio: _ratio, sentAgain: _again, ...summary } = all;
    return { lossRatio: this.#lossRatio, bitrateKbps: this.#bitrateKbps, ...summary };
  }
}

/** What the browser says of a transport and of what it carries. */
export async function reportsOf(transport: Reporting, media: Reporting | null): Promise<Report[]> {
  try {
    const all = new Map<string, Report>();
    for (const stats of await Promise.all([transport.getStats(), media?.getStats()])) {
      stats?.forEach((report: Report, id: string) => {
        all.set(id, report);
      });
    }
    return [...all.values()];
  } catch {
    return []; // Closed between two steps.
  }
}

function summarise(direction: Direction, reports: readonly Report[]): Summary {
  const find = (type: string) => reports.find((report) => report.type === type);
  const main = find(direction === "send" ? "outbound-rtp" : "inbound-rtp") ?? {};
  const remote = find("remote-inbound-rtp") ?? {};
  const source = find("media-source") ?? {};
  const codec = reports.find((report) => report.id === main.codecId) ?? {};
  const transport = find("transport") ?? {};
  const pair =
    reports.find((report) => report.id === transport.selectedCandidatePairId) ??
    reports.find((report) => report.type === "candidate-pair" && report.nominated === true) ??
    {};
  const candidate = reports.find((report) => report.id === pair.remoteCandidateId) ?? {};
  const lossSource = direction === "send" ? remote : main;
  const seconds = number(pair.currentRoundTripTime) ?? number(remote.roundTripTime);
  const emitted = number(main.jitterBufferEmittedCount);
  const delay = number(main.jitterBufferDelay);
  const samples = number(main.totalSamplesReceived);
  const level = direction === "send" ? source : main;
  return {
    packets: number(direction === "send" ? main.packetsSent : main.packetsReceived) ?? 0,
    bytes: number(direction === "send" ? main.bytesSent : main.bytesReceived) ?? 0,
    packetsLost: number(lossSource.packetsLost) ?? 0,
    reportedLossRatio: direction === "send" ? number(remote.fractionLost) : null,
    sentAgain: number(main.retransmittedPacketsSent) ?? 0,
    concealedRatio: samples ? (number(main.concealedSamples) ?? 0) / samples : null,
    jitterMs: scale(number(lossSource.jitter), 1000),
    jitterBufferMs: emitted && delay !== null ? (delay / emitted) * 1000 : null,
    roundTripMs: scale(number(remote.roundTripTime) ?? seconds, 1000),
    audioLevel: number(level.audioLevel),
    totalAudioEnergy: number(level.totalAudioEnergy),
    codec: typeof codec.mimeType === "string" ? codec.mimeType : null,
    remote:
      candidate.address === undefined
        ? null
        : `${candidate.protocol} ${candidate.address}:${candidate.port}`,
  };
}

/** A figure that grows while the link is alive, or null when the browser has none. */
function progressOf(direction: Direction, reports: readonly Report[]): number | null {
  if (direction === "recv") {
    return number(reports.find((report) => report.type === "inbound-rtp")?.packetsReceived);
  }
  // Packets leave whether or not anyone gets them; the server's receiver reports show that it does.
  return number(
    reports.find((report) => report.type === "remote-inbound-rtp")?.roundTripTimeMeasurements,
  );
}

function number(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

function scale(value: number | null, factor: number): number | null {
  return value === null ? null : value * factor;
}
