import {
  type Broadcast,
  createLac,
  type HlsAddress,
  type HlsHandlers,
  type HlsPlayback,
  type HlsPosition,
  type LinkState,
  type MediaLink,
  MicrophoneError,
  type MicrophoneProblem,
  type User,
  type Variant,
} from "@lac/client";
import { act, render } from "@testing-library/react";
import { MemoryRouter } from "react-router";
import {
  broadcast,
  type Call,
  FakeSocket,
  fakeFetch,
  memoryStorage,
  user as someUser,
} from "../../client/test/fakes";
import { App } from "../src/App";
import { ServicesContext, withStudios } from "../src/services";

export * from "../../client/test/fakes";

interface Options {
  user?: User;
  /** What the server answers; null goes on to the standard answers. */
  answer?: (call: Call) => ReturnType<Parameters<typeof fakeFetch>[0]> | null;
  shows?: Broadcast[];
  microphone?: MicrophoneProblem;
}

export interface FakeLink extends MediaLink {
  tell: (state: LinkState) => void;
  closed: boolean;
  /** What was asked for: when it was opened, and each time anew. */
  variants: Variant[];
}

export interface FakePlayback extends HlsPlayback {
  address: HlsAddress;
  heard: number | null;
  /** Where the page wanted to go. */
  asked: (number | "live")[];
  tell: (state: LinkState) => void;
  move: (position: HlsPosition) => void;
  closed: boolean;
}

export const track = () =>
  ({
    enabled: true,
    readyState: "live",
    label: "Desk microphone",
    onended: null,
    stop: () => undefined,
    getSettings: () => ({ deviceId: "desk" }),
  }) as unknown as MediaStreamTrack;

/** The whole app at `path`, with a made-up server, microphone and media link. */
export async function visit(path: string, options: Options = {}) {
  const sockets: FakeSocket[] = [];
  const links: FakeLink[] = [];
  const playbacks: FakePlayback[] = [];
  const stages: { heard: readonly string[]; closed: boolean }[] = [];
  const shows = options.shows ?? [];
  const { fetch, calls } = fakeFetch((call) => {
    const special = options.answer?.(call);
    if (special) return special;
    const url = new URL(call.path, "http://server");
    if (url.pathname === "/api/broadcasts" && call.method === "GET") {
      const status = url.searchParams.get("status");
      const items = shows.filter((show) => status === null || show.status === status);
      return { body: { items, nextCursor: null } };
    }
    const show = shows.find((show) => url.pathname.startsWith(`/api/broadcasts/${show.id}`));
    if (show && url.pathname.endsWith("/messages"))
      return { body: { items: [], nextCursor: null } };
    if (show && url.pathname.endsWith("/hls"))
      return { status: 404, body: { code: "not_live", detail: "There is nothing to hear." } };
    if (show && url.pathname.endsWith("/end")) return { body: { ...show, status: "ended" } };
    if (show && url.pathname.endsWith("/start")) return { body: { ...show, status: "live" } };
    if (show) return { body: show };
    return { status: 404, body: { code: "not_found", detail: "There is no such thing." } };
  });
  const session = options.user && {
    user: options.user,
    accessToken: "access",
    refreshToken: "refresh",
    expiresAt: Date.now() + 900_000,
  };
  const lac = createLac({
    baseUrl: "http://server",
    fetch,
    openSocket: () => {
      const socket = new FakeSocket();
      sockets.push(socket);
      return socket;
    },
    storage: memoryStorage(session ? { "lac.session": JSON.stringify(session) } : {}).storage,
    random: () => 1,
  });
  await lac.auth.restore();
  const open = (given: {
    onState?: (state: LinkState) => void;
    variant?: () => Variant;
  }): FakeLink => {
    const link: FakeLink = {
      state: { name: "connecting" },
      track: null,
      stats: async () => ({ packets: 5 }) as never,
      rawStats: async () => [],
      replaceTrack: async () => undefined,
      retryNow: () => undefined,
      renew: () => {
        link.variants.push(given.variant?.() ?? "opus");
      },
      variants: [given.variant?.() ?? "opus"],
      close: () => {
        link.closed = true;
      },
      closed: false,
      tell: (state) => act(() => given.onState?.(state)),
    };
    links.push(link);
    return link;
  };
  const services = withStudios({
    lac,
    microphone: {
      open: async () => {
        if (options.microphone) throw new MicrophoneError(options.microphone);
        return track();
      },
    },
    loadWebRtc: async () =>
      ({
        listen: open,
        publish: open,
        hearStage: () => {
          const stage = { heard: [] as readonly string[], closed: false };
          stages.push(stage);
          return {
            hear: (ids: readonly string[]) => {
              stage.heard = ids;
            },
            retryNow: () => undefined,
            close: () => {
              stage.closed = true;
            },
          };
        },
        codecOptions: () => ({}),
      }) as unknown as typeof import("@lac/client/webrtc"),
    loadHls: async () =>
      ({
        playHls: (address: HlsAddress, given: HlsHandlers) => {
          const made: FakePlayback = {
            address,
            state: { name: "connecting" },
            heard: null,
            heardAt: () => made.heard,
            asked: [],
            seekBehind: (seconds) => made.asked.push(seconds),
            goLive: () => made.asked.push("live"),
            retryNow: () => undefined,
            close: () => {
              made.closed = true;
            },
            closed: false,
            tell: (state) => act(() => given.onState(state)),
            move: (position) => act(() => given.onPosition(position)),
          };
          playbacks.push(made);
          return made;
        },
      }) as unknown as typeof import("@lac/client/hls"),
  });
  render(
    <ServicesContext value={services}>
      <MemoryRouter initialEntries={[path]}>
        <App />
      </MemoryRouter>
    </ServicesContext>,
  );
  const socket = () => {
    const latest = sockets.at(-1);
    if (!latest) throw new Error("no socket was opened");
    return latest;
  };
  return { calls, lac, links, playbacks, stages, sockets, socket };
}

export const host = { ...someUser, id: "h", displayName: "Host" };
export const live = (changes: Partial<Broadcast> = {}) =>
  broadcast({ startedAt: new Date(Date.now() - 65_000).toISOString(), ...changes });
export const mine = (changes: Partial<Broadcast> = {}) =>
  live({ yourRole: "host", streamKey: "secret-key", ...changes });
