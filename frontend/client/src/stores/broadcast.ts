import { createStore, type StoreApi } from "zustand/vanilla";
import { type Platform, randomOf } from "../platform";
import { emptyRoom, type RoomState, reduceRoom } from "../room/reducer";
import { type Api, ApiError, messageOf } from "../services/api";
import { CommandError, type Outcome, RoomSocket, type SocketState } from "../services/socket";
import type { Broadcast, ChatMessage, CommandName, Commands, Person, ServerEvent } from "../types";
import type { Auth } from "./auth";

/** What the page as a whole shows. */
export type RoomPhase =
  | "loading"
  /** Could not be loaded, but may be later: `problem` says why. */
  | "error"
  | "open"
  | "removed"
  | "not_found"
  | "private"
  | "sign_in"
  | "refused";

export interface RoomView extends RoomState {
  phase: RoomPhase;
  problem: string | null;
  socket: SocketState;
}

export interface Room {
  readonly id: string;
  store: StoreApi<RoomView>;
  /** Load the broadcast and take a place in its room. */
  open(): void;
  /** Leave. The room can be opened again. */
  close(): void;
  retryNow(): void;
  /** For people without an account: come in under this name from now on. Resolves once they are in. */
  setName(name: string): Promise<void>;
  /** Do people have to say who they are before others see them? */
  needsName(): boolean;
  say(text: string): Promise<void>;
  react(emoji: string): Promise<void>;
  raiseHand(note?: string): Promise<void>;
  lowerHand(userId?: string): Promise<void>;
  mute(userId: string): Promise<void>;
  unmute(userId: string): Promise<void>;
  remove(userId: string, options?: { reason?: string; ban?: boolean }): Promise<void>;
  listMembers(cursor?: string): Promise<{ items: Person[]; nextCursor: string | null }>;
  /** Take in what a REST call answered, so that the page need not wait for the event. */
  update(broadcast: Broadcast): void;
  /** How this person signs the media calls of this room. */
  mediaAuth(): "session" | { bearer: string | null };
}

const NAME_KEY = "lac.guest-name";
const guestKey = (id: string) => `lac.guest.${id}`;
/** While the room cannot be joined yet, the broadcast itself is asked for this often. */
const POLL_MS = 15_000;

export function createRoom(platform: Platform, api: Api, auth: Auth, id: string): Room {
  const store = createStore<RoomView>(() => ({
    ...emptyRoom,
    phase: "loading",
    problem: null,
    socket: { name: "idle" },
  }));
  let guestName: string | null = null;
  let guestToken: string | null = null;
  let opened = 0;
  let pollTimer: ReturnType<typeof setTimeout> | undefined;

  const socket = new RoomSocket({
    url: `${platform.baseUrl.replace(/^http/, "ws")}/ws`,
    open: platform.openSocket,
    random: randomOf(platform),
    credentials: async (renew) => {
      if (auth.store.getState().user) {
        let token = await auth.accessToken();
        if (renew && token !== null) token = await auth.renew(token);
        if (token !== null) return { broadcastId: id, token };
      }
      if (renew) guestToken = null;
      return {
        broadcastId: id,
        ...(guestToken === null ? {} : { token: guestToken }),
        ...(guestName === null ? {} : { name: guestName }),
      };
    },
    onEvent: receive,
    onState: (state) => {
      store.setState({ socket: state });
      if (state.name === "closed") settle(state.outcome, state.reason);
    },
  });

  function receive(event: ServerEvent): void {
    store.setState((state) => reduceRoom(state, event));
    if (event.event === "broadcastEnded") {
      // The room is closing. Nobody is let in again, so do not ask.
      socket.stop();
      store.setState({ socket: { name: "idle" } });
    }
    if (event.event === "joined") {
      clearTimeout(pollTimer);
      store.setState({ phase: "open", problem: null });
      const { you } = event.data;
      guestToken = you.anonymous ? (you.token ?? null) : null;
      if (guestToken !== null)
        void attempt(() => platform.storage.set(guestKey(id), guestToken ?? ""));
    }
  }

  function settle(outcome: Outcome, reason: string): void {
    if (outcome === "removed") {
      store.setState((state) => ({
        phase: "removed",
        removed: state.removed ?? { reason: reason || null },
      }));
    } else if (outcome === "not_found") {
      store.setState({ phase: "not_found" });
    } else if (outcome === "sign_in") {
      store.setState({ phase: "sign_in" });
    } else if (outcome === "forbidden") {
      store.setState({ phase: "private" });
    } else if (outcome === "refused") {
      // The page can still be read; only the room is closed to us.
      store.setState((state) =>
        state.broadcast
          ? { problem: reason || "The room did not let you in." }
          : { phase: "refused", problem: reason || "The room did not let you in." },
      );
      poll();
    }
  }

  async function load(generation: number): Promise<void> {
    try {
      const broadcast = await api.getBroadcast(id);
      if (generation !== opened) return;
      store.setState((state) => ({
        broadcast: state.you ? state.broadcast : broadcast,
        listenerCount: state.you ? state.listenerCount : broadcast.listenerCount,
        phase: "open",
        problem: null,
      }));
      if (broadcast.status === "ended") await loadChat(generation);
      else socket.start();
    } catch (error) {
      if (generation !== opened) return;
      const status = error instanceof ApiError ? error.status : 0;
      if (status === 404) store.setState({ phase: "not_found" });
      else if (status === 401) store.setState({ phase: "sign_in" });
      else if (status === 403) {
        const removed = error instanceof ApiError && error.code === "removed";
        store.setState({ phase: removed ? "removed" : "private" });
      } else {
        store.setState((state) => ({
          phase: state.broadcast ? state.phase : "error",
          problem: messageOf(error),
        }));
      }
    }
  }

  /** What was said, for those who come after the end. */
  async function loadChat(generation: number): Promise<void> {
    store.setState((state) => ({ ended: state.ended ?? { reason: "" } }));
    const { items } = await api.messages(id).catch(() => ({ items: [] }));
    if (generation !== opened) return;
    const hostId = store.getState().broadcast?.host.id;
    const messages = items.toReversed().map((message): ChatMessage => {
      const role = message.user.id === hostId ? "host" : "listener";
      return {
        ...message,
        user: { ...message.user, role, anonymous: false, muted: false, speaking: false },
      };
    });
    store.setState((state) => (state.messages.length === 0 ? { messages } : {}));
  }

  function poll(): void {
    clearTimeout(pollTimer);
    const generation = opened;
    pollTimer = setTimeout(() => {
      if (generation !== opened || store.getState().broadcast?.status === "ended") return;
      void load(generation).then(() => {
        if (store.getState().socket.name === "closed") poll();
      });
    }, POLL_MS);
  }

  async function restoreGuest(): Promise<void> {
    guestName = (await attempt(() => platform.storage.get(NAME_KEY))) ?? null;
    guestToken = (await attempt(() => platform.storage.get(guestKey(id)))) || null;
  }

  function joinedOrGone(): Promise<void> {
    return new Promise((resolve, reject) => {
      const settled = ({ socket: { name } }: RoomView) => {
        if (name === "connecting" || name === "reconnecting") return;
        unsubscribe();
        if (name === "joined") resolve();
        else reject(new CommandError("not_connected", "You are no longer in this show."));
      };
      const unsubscribe = store.subscribe(settled);
    });
  }

  async function command<Name extends CommandName>(
    name: Name,
    data: Commands[Name],
  ): Promise<unknown> {
    return socket.request(name, data);
  }

  return {
    id,
    store,
    open() {
      const generation = ++opened;
      store.setState({ ...emptyRoom, phase: "loading", problem: null, socket: { name: "idle" } });
      void restoreGuest().then(() => (generation === opened ? load(generation) : undefined));
    },
    close() {
      opened += 1;
      clearTimeout(pollTimer);
      socket.stop();
      store.setState({ socket: { name: "idle" } });
    },
    retryNow() {
      socket.retryNow();
      if (store.getState().phase === "error") void load(opened);
    },
    async setName(name) {
      guestName = name;
      void attempt(() => platform.storage.set(NAME_KEY, name));
      if (socket.state.name === "idle") return;
      socket.rejoin();
      await joinedOrGone();
    },
    needsName: () => auth.store.getState().user === null && guestName === null,
    async say(text) {
      await command("chatMessage", { text });
    },
    async react(emoji) {
      await command("reaction", { emoji });
    },
    async raiseHand(note) {
      await command("raiseHand", note ? { note } : {});
    },
    async lowerHand(userId) {
      await command("lowerHand", userId ? { userId } : {});
    },
    async mute(userId) {
      await command("mute", { userId });
    },
    async unmute(userId) {
      await command("unmute", { userId });
    },
    async remove(userId, options = {}) {
      await command("remove", { userId, ...options });
    },
    async listMembers(cursor) {
      const answer = await command("listMembers", cursor ? { cursor } : {});
      return answer as { items: Person[]; nextCursor: string | null };
    },
    update(broadcast) {
      store.setState((state) => ({
        // The key and the role come only with a person's own calls; an event's broadcast may lack them.
        broadcast: { ...state.broadcast, ...broadcast },
        ended: broadcast.status === "ended" ? (state.ended ?? { reason: "" }) : null,
      }));
    },
    mediaAuth() {
      const { you } = store.getState();
      if (you?.anonymous) return { bearer: guestToken };
      return "session";
    },
  };
}

/** Storage may be refused (private windows): then nothing is remembered, and nothing breaks. */
async function attempt<T>(work: () => T | Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch {
    return undefined;
  }
}

export { CommandError };
