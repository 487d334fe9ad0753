import { Device, type types } from "mediasoup-client";
import { backoffMs } from "../backoff";
import { ApiError, messageOf, type Request, type RequestOptions } from "./api";
import { LinkMeter, type Report, reportsOf, WATCH_MS } from "./link-meter";
import type {
  CloseOptions,
  LinkState,
  LinkStats,
  MediaLink,
  SoundKind,
  StageLink,
  Variant,
} from "./media-types";
import { BITRATES, Copies } from "./redundancy";
import { createStageLink, type Fill, type StageOptions, type Way } from "./stage-link";

export type { LinkState, LinkStats, MediaLink, SoundKind, StageLink, Variant } from "./media-types";
export type { StageOptions } from "./stage-link";

export interface WebRtcOptions {
  broadcastId: string;
  request: Request;
  /**
   * "session" for people with an account; for guests `joined.you.token`, asked for at every call because a rejoin changes
   * it. Null goes without: then knowing the transport's id is what permits.
   */
  auth: () => RequestOptions["auth"];
  /** Which variant to listen to, asked for whenever a connection is built. */
  variant?: () => Variant;
  onState?: (state: LinkState) => void;
  onTrack?: (track: MediaStreamTrack) => void;
  random?: () => number;
  /** Tests give mediasoup's FakeHandler; React Native gives its own. */
  device?: ConstructorParameters<typeof Device>[0];
}

/** Opus as we send it: forward error correction and retransmission on, silence sent as silence. */
export function codecOptions(kind: SoundKind): types.ProducerCodecOptions {
  return {
    opusNack: true,
    opusFec: true,
    opusDtx: false,
    opusStereo: kind === "music",
    opusMaxAverageBitrate: BITRATES[kind],
  };
}

/** ICE may recover from a short gap by itself; after this long we help. */
const DISCONNECTED_MS = 2_500;
/** How long a restarted ICE gets before everything is built anew. */
const RESTART_MS = 4_000;
const CONNECT_TIMEOUT_MS = 12_000;
/** The programme never pauses, not even while the host is away: this long without a packet means a dead link. */
const STALLED_MS = 6_000;
/** Answers after which trying again is no use. */
const FINAL_CODES = new Set([
  "not_live",
  "already_ended",
  "removed",
  "stage_full",
  "forbidden",
  "use_hls",
]);

/** Send `track` to the broadcast until closed. The track stays the caller's: it is never stopped here. */
export function publish(
  options: WebRtcOptions,
  track: MediaStreamTrack,
  kind: SoundKind,
): MediaLink {
  return new Link(options, { direction: "send", track, kind });
}

/** Receive the broadcast's programme until closed. */
export function listen(options: WebRtcOptions): MediaLink {
  return new Link(options, { direction: "recv" });
}

/** Receive single speakers, as people on the stage do, until closed. Nobody at first: see `StageLink.hear`. */
export function hearStage(options: StageOptions): StageLink {
  return createStageLink(
    options,
    (fill) => new Link({ ...options, onTrack: () => undefined }, { direction: "recv", fill }),
  );
}

/** `fill` puts something else than the programme on a new transport. */
type Role =
  | { direction: "send"; track: MediaStreamTrack; kind: SoundKind }
  | { direction: "recv"; fill?: Fill };

interface Peer {
  transport: types.Transport;
  media: types.Producer | types.Consumer | null;
  wasConnected: boolean;
  /** Sends it twice where that helps; null where something is received. */
  copies: Copies | null;
}

class Link implements MediaLink {
  #options: WebRtcOptions;
  #role: Role;
  #state: LinkState = { name: "connecting" };
  #device: Device | null = null;
  #peer: Peer | null = null;
  #received: MediaStreamTrack | null = null;
  #attempt = 0;
  #rebuilds = -1;
  #retryTimer: ReturnType<typeof setTimeout> | undefined;
  #helpTimer: ReturnType<typeof setTimeout> | undefined;
  #watchTimer: ReturnType<typeof setInterval> | undefined;
  #meter: LinkMeter;
  #closed = false;
  #building = false;
  /** Asked for while building. */
  #renew = false;

  constructor(options: WebRtcOptions, role: Role) {
    this.#options = options;
    this.#role = role;
    this.#meter = new LinkMeter(role.direction);
    void this.#build();
  }

  get state(): LinkState {
    return this.#state;
  }

  get track(): MediaStreamTrack | null {
    return this.#role.direction === "send" ? this.#role.track : this.#received;
  }

  async replaceTrack(track: MediaStreamTrack): Promise<void> {
    if (this.#role.direction !== "send") throw new Error("Only a sent track can be replaced.");
    this.#role.track = track;
    const media = this.#peer?.media;
    if (media && !media.closed) await (media as types.Producer).replaceTrack({ track });
  }

  retryNow(): void {
    if (this.#state.name !== "reconnecting" || this.#building) return;
    clearTimeout(this.#retryTimer);
    void this.#build();
  }

  renew(): void {
    if (this.#closed) return;
    if (this.#building) {
      this.#renew = true;
      return;
    }
    clearTimeout(this.#retryTimer);
    this.#setState({ name: "connecting" });
    void this.#build();
  }

  close({ leavingPage = false, serverKnows = false }: CloseOptions = {}): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#tearDown({ keepalive: leavingPage }, !serverKnows);
    if (this.#state.name !== "failed") this.#setState({ name: "closed" });
  }

  #setState(state: LinkState): void {
    this.#state = state;
    this.#options.onState?.(state);
  }

  #call<T>(path: string, options: RequestOptions = {}): Promise<T> {
    const auth = this.#options.auth();
    return this.#options.request<T>(`/api/mediasoup/${path}`, {
      method: "POST",
      ...(auth === undefined ? {} : { auth }),
      ...options,
    });
  }

  async #build(): Promise<void> {
    this.#building = true;
    this.#renew = false;
    this.#rebuilds += 1;
    this.#tearDown({});
    const peer: { current: Peer | null } = { current: null };
    try {
      const id = encodeURIComponent(this.#options.broadcastId);
      if (!this.#device) {
        const { rtpCapabilities } = await this.#call<{ rtpCapabilities: types.RtpCapabilities }>(
          `${id}/rtp-capabilities`,
          { method: "GET" },
        );
        const device = new Device(this.#options.device);
        await device.load({ routerRtpCapabilities: rtpCapabilities });
        this.#device = device;
      }
      if (this.#closed) return;
      const { direction } = this.#role;
      const description = await this.#call<types.TransportOptions>(`${id}/transports`, {
        body: { direction },
      });
      if (this.#closed) {
        this.#forget(description.id, {});
        return;
      }
      const transport =
        direction === "send"
          ? this.#device.createSendTransport(description)
          : this.#device.createRecvTransport(description);
      const copies =
        this.#role.direction === "send" ? new Copies(transport, this.#role.kind) : null;
      peer.current = { transport, media: null, wasConnected: false, copies };
      this.#peer = peer.current;
      this.#follow(peer.current);
      if (this.#role.direction === "send") await this.#produce(peer.current, this.#role);
      else if (this.#role.fill) await this.#role.fill(this.#way(peer.current));
      else await this.#consume(peer.current);
      this.#building = false;
      if (this.#renew) this.renew();
    } catch (error) {
      this.#building = false;
      if (this.#closed || (peer.current && this.#peer !== peer.current)) return;
      this.#lost(error);
    }
  }

  async #produce(peer: Peer, role: Role & { direction: "send" }): Promise<void> {
    const producer = await peer.transport.produce({
      track: role.track,
      codecOptions: codecOptions(role.kind),
      stopTracks: false,
      // Muting switches the track off; the silence still goes out, so that nobody takes the host for lost.
      disableTrackOnPause: false,
      zeroRtpOnPause: false,
    });
    peer.media = producer;
    if (this.#peer !== peer) producer.close();
    else if (this.#role.direction === "send" && producer.track !== this.#role.track) {
      await producer.replaceTrack({ track: this.#role.track });
    }
  }

  async #consume(peer: Peer): Promise<void> {
    const answer = await this.#call<types.ConsumerOptions>(
      `transports/${encodeURIComponent(peer.transport.id)}/consume`,
      {
        body: {
          rtpCapabilities: this.#device?.recvRtpCapabilities,
          variant: this.#options.variant?.() ?? "opus",
        },
      },
    );
    const consumer = await peer.transport.consume(answer);
    peer.media = consumer;
    if (this.#peer !== peer) {
      consumer.close();
      return;
    }
    this.#received = consumer.track;
    this.#options.onTrack?.(consumer.track);
  }

  #way(peer: Peer): Way {
    const path = `transports/${encodeURIComponent(peer.transport.id)}`;
    return {
      isCurrent: () => this.#peer === peer,
      consume: async (producerId) =>
        peer.transport.consume(
          await this.#call<types.ConsumerOptions>(`${path}/consume`, {
            body: { rtpCapabilities: this.#device?.recvRtpCapabilities, producerId },
          }),
        ),
      closed: (consumer) => {
        this.#call(`${path}/consumers/${encodeURIComponent(consumer.id)}`, {
          method: "DELETE",
        }).catch(() => undefined); // Gone with its producer, or with the transport.
      },
    };
  }

  #follow(peer: Peer): void {
    const { transport } = peer;
    const path = `transports/${encodeURIComponent(transport.id)}`;
    transport.on("connect", ({ dtlsParameters }, done, fail) => {
      this.#call(`${path}/connect`, { body: { dtlsParameters } }).then(() => done(), fail);
    });
    transport.on("produce", ({ kind, rtpParameters }, done, fail) => {
      const body = { kind, rtpParameters: peer.copies?.describe(rtpParameters) ?? rtpParameters };
      this.#call<{ id: string }>(`${path}/produce`, { body }).then(({ id }) => done({ id }), fail);
    });
    clearTimeout(this.#helpTimer);
    this.#helpTimer = setTimeout(() => {
      if (this.#peer === peer && !peer.wasConnected) this.#lost(unreachable());
    }, CONNECT_TIMEOUT_MS);
    transport.on("connectionstatechange", (state) => {
      if (this.#peer !== peer) return;
      clearTimeout(this.#helpTimer);
      if (state === "connected") {
        peer.wasConnected = true;
        this.#attempt = 0;
        this.#startWatching(peer);
        this.#setState({ name: "connected" });
      } else if (state === "disconnected") {
        this.#helpTimer = setTimeout(() => void this.#restartIce(peer), DISCONNECTED_MS);
      } else if (state === "failed" || state === "closed") {
        // Firefox gives up by itself, in seconds, where no address of the server's can be reached.
        this.#lost(
          peer.wasConnected
            ? new ApiError(0, "media_lost", "The sound connection broke.")
            : unreachable(),
        );
      } else if (state === "connecting" && !peer.wasConnected) {
        this.#helpTimer = setTimeout(() => this.#lost(unreachable()), CONNECT_TIMEOUT_MS);
      }
    });
  }

  /** Another network path to the same session: keeps keys and stream, takes one round trip. */
  async #restartIce(peer: Peer): Promise<void> {
    if (this.#peer !== peer) return;
    this.#setState({ name: "reconnecting", attempt: 1 });
    this.#helpTimer = setTimeout(() => {
      if (this.#peer === peer)
        this.#lost(new ApiError(0, "media_lost", "The sound connection broke."));
    }, RESTART_MS);
    try {
      const { iceParameters } = await this.#call<{ iceParameters: types.IceParameters }>(
        `transports/${encodeURIComponent(peer.transport.id)}/restart-ice`,
      );
      if (this.#peer === peer) await peer.transport.restartIce({ iceParameters });
    } catch (error) {
      if (this.#peer === peer && !(error instanceof ApiError && error.status === 0)) {
        // The server has let go of the session (404), so build a new one.
        this.#lost(new ApiError(0, "media_lost", messageOf(error)));
      }
    }
  }

  #lost(cause: unknown): void {
    const error =
      cause instanceof ApiError
        ? cause
        : new ApiError(
            0,
            "media_failed",
            `The browser could not set up the sound: ${messageOf(cause)}`,
          );
    this.#tearDown({});
    // Where there is HLS, nobody need wait for a server that has enough to do.
    const elsewhere = error.code === "overloaded" && error.hls !== null;
    const known =
      elsewhere || FINAL_CODES.has(error.code) || [401, 403, 409, 422].includes(error.status);
    if (known || this.#hopeless(error)) {
      this.#closed = true;
      this.#setState({ name: "failed", error });
      return;
    }
    const afterMs = Math.max(
      error.retryAfterMs ?? 0,
      // The first retry is quick: most often the network has only changed.
      backoffMs(this.#attempt, this.#options.random ?? Math.random, {
        firstMs: 300,
        maxMs: 10_000,
      }),
    );
    this.#attempt += 1;
    this.#setState({ name: "reconnecting", attempt: this.#attempt });
    this.#retryTimer = setTimeout(() => void this.#build(), afterMs);
  }

  /** What has never worked here is reported after a few attempts; what has worked is tried for ever. */
  #hopeless(error: ApiError): boolean {
    if (error.status === 404) return this.#attempt >= 2;
    return error.code.startsWith("media_") && !this.#meter.everConnected && this.#attempt >= 2;
  }

  #tearDown(options: Pick<RequestOptions, "keepalive">, goodbye = true): void {
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#helpTimer);
    clearInterval(this.#watchTimer);
    const peer = this.#peer;
    this.#peer = null;
    if (!peer) return;
    if (goodbye) this.#forget(peer.transport.id, options);
    peer.transport.close();
  }

  /** Tell the server that it may forget the transport; it would find out by itself later. */
  #forget(transportId: string, options: Pick<RequestOptions, "keepalive">): void {
    this.#call(`transports/${encodeURIComponent(transportId)}`, {
      method: "DELETE",
      ...options,
    }).catch(() => undefined);
  }

  #startWatching(peer: Peer): void {
    clearInterval(this.#watchTimer);
    this.#meter.connected(Date.now());
    this.#watchTimer = setInterval(() => void this.#watch(peer), WATCH_MS);
  }

  async #watch(peer: Peer): Promise<void> {
    const reports = await reportsOf(peer.transport, peer.media);
    if (this.#peer !== peer) return;
    const now = Date.now();
    const missed = this.#meter.measure(reports, now);
    if (missed !== null && peer.copies && peer.media) {
      void peer.copies.follow(missed, peer.media as types.Producer);
    }
    // Of a speaker who is muted nothing comes at all.
    if (this.#role.direction === "recv" && this.#role.fill) return;
    if (
      this.#meter.stalledMs(reports, now) >= STALLED_MS &&
      peer.transport.connectionState === "connected"
    ) {
      this.#lost(new ApiError(0, "media_lost", "No sound has come through for a while."));
    }
  }

  async stats(): Promise<LinkStats> {
    const reports = await this.#reports();
    return {
      direction: this.#role.direction,
      state: this.#state.name,
      rebuilds: Math.max(0, this.#rebuilds),
      ...this.#meter.figures(reports),
    };
  }

  rawStats(): Promise<Record<string, unknown>[]> {
    return this.#reports();
  }

  async #reports(): Promise<Report[]> {
    return this.#peer ? await reportsOf(this.#peer.transport, this.#peer.media) : [];
  }
}

function unreachable(): ApiError {
  return new ApiError(
    0,
    "media_unreachable",
    "The sound cannot get through. A firewall may be blocking the server's media port.",
  );
}
