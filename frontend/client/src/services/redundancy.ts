import type { types } from "mediasoup-client";
import type { SoundKind } from "./media-types";

type RtpParameters = types.RtpParameters;

/** Opus on average, in bit/s. */
export const BITRATES: Record<SoundKind, number> = { voice: 40_000, music: 128_000 };

/** Of what is lost, averaged: from how much on music is sent twice, and below how much it is once again. */
const LOSSY = 0.03;
const WHOLE = 0.01;
/** Of each new figure in the average, and the most that one counts for: a moment without network is no reason. */
const WEIGHT = 0.25;
const MOST = 0.11;

/**
 * Sends sound twice, each packet with a copy of the frame before it (RED, RFC 2198), where the browser can.
 *
 * Speech always. Music only while the network loses packets, and then each frame at half the bitrate: twice 128 kbit/s
 * would take more than many a network has that loses packets, and what overflows there is lost, copies and all.
 *
 * mediasoup-client knows no RED: its answers take Opus alone. So the answers get it on their way into the connection; the
 * browser sends whatever an answer names first. It is all or nothing for each stream: what the first offer did not have,
 * or an answer could not get, later ones do not get either. Wherever anything is not as expected (another handler, a
 * browser without RED, an answer refused), Opus is sent as ever.
 */
export class Copies {
  readonly #kind: SoundKind;
  /** RED's payload type by mid; null where a stream goes without. */
  readonly #chosen = new Map<string, number | null>();
  #twice: boolean;
  #lossRatio = 0;
  #switching = false;

  constructor(transport: types.Transport, kind: SoundKind) {
    this.#kind = kind;
    this.#twice = kind === "voice";
    // TypeScript calls it private; there is no other way to it.
    const pc = (transport.handler as unknown as { _pc?: RTCPeerConnection })._pc;
    if (typeof pc?.setRemoteDescription !== "function") return;
    const pass = pc.setRemoteDescription.bind(pc);
    pc.setRemoteDescription = async (description: RTCSessionDescriptionInit): Promise<void> => {
      const offer = pc.localDescription?.sdp;
      if (description.type !== "answer" || !description.sdp || !offer) {
        return await pass(description);
      }
      await this.#apply(offer, description.sdp, pass);
    };
  }

  async #apply(
    offer: string,
    plain: string,
    pass: (answer: RTCSessionDescriptionInit) => Promise<void>,
  ): Promise<void> {
    const { sdp, numbers } = answerWithRed(offer, plain, this.#chosen);
    const wanted = this.#twice ? sdp : plain;
    try {
      await pass({ type: "answer", sdp: wanted });
    } catch (error) {
      if (wanted === plain) throw error;
      await pass({ type: "answer", sdp: plain });
      for (const mid of numbers.keys()) this.#chosen.set(mid, null);
    }
    for (const [mid, number] of numbers) {
      if (number === null || !this.#chosen.has(mid)) this.#chosen.set(mid, number);
    }
  }

  #numberOf(mid: string | undefined): number | null {
    return this.#chosen.get(mid ?? "") ?? null;
  }

  /** The parameters of `produce`, with the codec if it may come: else the server would drop it. */
  describe(parameters: RtpParameters): RtpParameters {
    const payloadType = this.#numberOf(parameters.mid);
    if (payloadType === null) return parameters;
    const red = { mimeType: "audio/red", payloadType, clockRate: 48_000, channels: 2 };
    return { ...parameters, codecs: [...parameters.codecs, red] };
  }

  /** Take in which share of the latest packets got lost on their way, 0 to 1, and do for music what that asks for. */
  async follow(lossRatio: number, producer: types.Producer): Promise<void> {
    this.#lossRatio += (Math.min(MOST, lossRatio) - this.#lossRatio) * WEIGHT;
    if (this.#kind !== "music" || this.#switching) return;
    this.#switching = true;
    const { mid } = producer.rtpParameters;
    try {
      await this.#adapt(mid, producer);
    } catch {
      // A browser that does not take it: once and whole, for good. Or closed meanwhile, and then this fails, too.
      if (mid !== undefined) this.#chosen.set(mid, null);
      this.#twice = true;
      await this.#adapt(mid, producer).catch(() => undefined);
    } finally {
      this.#switching = false;
    }
  }

  async #adapt(mid: string | undefined, producer: types.Producer): Promise<void> {
    const twice = this.#numberOf(mid) !== null && this.#lossRatio >= (this.#twice ? WHOLE : LOSSY);
    if (twice === this.#twice) return;
    this.#twice = twice;
    // This negotiates as well, so that the next answer is of the new kind.
    await producer.setRtpEncodingParameters({
      maxBitrate: twice ? BITRATES.music / 2 : BITRATES.music,
    });
    // The browser may not have taken that answer.
    if (twice) await this.#adapt(mid, producer);
  }
}

/**
 * The answer with RED first in every section whose offer has RED of the very Opus that the answer takes, and the numbers
 * of all sections. A section that is in `chosen` keeps to the number there.
 */
export function answerWithRed(
  offer: string,
  answer: string,
  chosen: ReadonlyMap<string, number | null> = new Map(),
): { sdp: string; numbers: Map<string, number | null> } {
  const offered = new Map(sectionsOf(offer).map((section) => [midOf(section), section]));
  const numbers = new Map<string, number | null>();
  const sections = sectionsOf(answer).map((section) => {
    const mid = midOf(section);
    if (mid === undefined || !section.startsWith("m=audio ")) return section;
    const opus = /^a=rtpmap:(\d+) opus\/48000\/2\r?$/im.exec(section)?.[1];
    const red = opus === undefined ? null : redOf(offered.get(mid) ?? "", opus);
    const number = chosen.has(mid) && chosen.get(mid) !== red ? null : red;
    numbers.set(mid, number);
    return opus === undefined || number === null ? section : withRed(section, number, opus);
  });
  return { sdp: sections.join(""), numbers };
}

/** What precedes the first media section comes first. */
function sectionsOf(sdp: string): string[] {
  return sdp.split(/^(?=m=)/m);
}

function midOf(section: string): string | undefined {
  return /^a=mid:(\S+)/m.exec(section)?.[1];
}

/** The payload type of RED whose frames, primary and copies, are all of this Opus. */
function redOf(section: string, opus: string): number | null {
  for (const [, number] of section.matchAll(/^a=rtpmap:(\d+) red\/48000\/2\r?$/gim)) {
    const blocks = new RegExp(`^a=fmtp:${number} (\\S+?)\\r?$`, "m").exec(section)?.[1];
    if (blocks?.split("/").every((block) => block === opus)) return Number(number);
  }
  return null;
}

/** Without `rtcp-fb` of its own: Chromium sends again by what was agreed on for Opus, whatever the packets are. */
function withRed(section: string, red: number, opus: string): string {
  const lines = `a=rtpmap:${red} red/48000/2\r\na=fmtp:${red} ${opus}/${opus}\r\n`;
  return section.replace(/^(m=audio \S+ \S+) /, `$1 ${red} `).replace(/^(?=a=rtpmap:)/m, lines);
}
