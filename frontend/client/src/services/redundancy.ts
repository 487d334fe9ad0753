import type { types } from "mediasoup-client";
import type { SoundKind } from "./media-types";

type RtpParameters = types.RtpParameters;

/**
 * Send speech twice, each packet with a copy of the frame before it (RED, RFC 2198), where the browser can; returns what adds
 * the codec to the parameters of `produce`, so that the server expects it.
 *
 * mediasoup-client knows no RED: its answers take Opus alone. So the answers get it on their way into the connection; the
 * browser sends whatever an answer names first. It is all or nothing for each stream: what the first answer could not
 * get, later ones do not get either, as the server has not been told of it. Wherever anything is not as expected (another
 * handler, a browser without RED, an answer refused), Opus is sent as ever.
 *
 * Not for music: 128 kbit/s twice would take more than many a network has that loses packets, and what overflows there is
 * lost, copies and all. The server asks for lost music again. Twice 40 kbit/s is less than music needs once.
 */
export function sendCopies(
  transport: types.Transport,
  kind: SoundKind,
): (parameters: RtpParameters) => RtpParameters {
  // TypeScript calls it private; there is no other way to it.
  const pc = (transport.handler as unknown as { _pc?: RTCPeerConnection })._pc;
  if (kind !== "voice" || typeof pc?.setRemoteDescription !== "function") return (same) => same;

  /** RED's payload type by mid; null where a stream goes without. */
  const chosen = new Map<string, number | null>();
  const pass = pc.setRemoteDescription.bind(pc);
  pc.setRemoteDescription = async (description: RTCSessionDescriptionInit): Promise<void> => {
    const offer = pc.localDescription?.sdp;
    if (description.type !== "answer" || !description.sdp || !offer) return await pass(description);
    const { sdp, numbers } = answerWithRed(offer, description.sdp, chosen);
    try {
      await pass({ type: "answer", sdp });
    } catch (error) {
      if (sdp === description.sdp) throw error;
      await pass(description);
      for (const mid of numbers.keys()) chosen.set(mid, null);
    }
    for (const [mid, number] of numbers) if (!chosen.has(mid)) chosen.set(mid, number);
  };

  return (parameters) => {
    const payloadType = chosen.get(parameters.mid ?? "") ?? null;
    if (payloadType === null) return parameters;
    const red = { mimeType: "audio/red", payloadType, clockRate: 48_000, channels: 2 };
    return { ...parameters, codecs: [...parameters.codecs, red] };
  };
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
