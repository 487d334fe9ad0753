import { createStore, type StoreApi } from "zustand/vanilla";
import { type Platform, randomOf } from "../platform";
import { Later } from "../room/later";
import { RoomMemory } from "../room/memory";
import {
  emptyRoom,
  mergeMessages,
  type Removal,
  type RoomState,
  reduceRoom,
} from "../room/reducer";
import { type Api, ApiError, messageOf } from "../services/api";
import { CommandError, type Outcome, RoomSocket, type SocketState } from "../services/socket";
import {
  type Broadcast,
  type ChatMessage,
  type ChatMode,
  type CommandName,
  type Commands,
  mayModerate,
  type Person,
  type ServerEvent,
  type StoredMessage,
} from "../types";
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
  /** The invite link that led here does not hold (any more). */
  | "invite_invalid"
  | "sign_in"
  /** Nobody new comes in just now. */
  | "locked"
  | "refused";

export interface RoomView extends RoomState {
  phase: RoomPhase;
  problem: string | null;
  socket: SocketState;
  /** In slow mode: when we may write again, in this clock's milliseconds. */
  mayWriteAt: number | null;
}

export interface Room {
  readonly id: string;
  store: StoreApi<RoomView>;
  /** Load the broadcast and take a place in its room. `invite`: from the link that led here, remembered for later. */
  open(invite?: string | null): void;
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
  remove(
    userId: string,
    options?: { reason?: string; ban?: boolean; until?: string },
  ): Promise<void>;
  moveHand(userId: string, position: number): Promise<void>;
  /** Resolves to how many are muted now. */
  muteAll(): Promise<number>;
  inviteToSpeak(userId: string): Promise<void>;
  acceptInvite(): Promise<void>;
  declineInvite(): Promise<void>;
  /** Somebody else or oneself; withdraws an invitation, too. */
  moveToAudience(userId: string): Promise<void>;
  deleteMessage(messageId: string): Promise<void>;
  clearMessages(userId: string): Promise<void>;
  setSlowMode(seconds: number): Promise<void>;
  setChatMode(mode: ChatMode): Promise<void>;
  lock(locked: boolean): Promise<void>;
  /** Fetch what lies in the gap of the chat. */
  loadMissed(): Promise<void>;
  listMembers(cursor?: string): Promise<{ items: Person[]; nextCursor: string | null }>;
  /** Take in what a REST call answered, so that the page need not wait for the event. */
  update(broadcast: Broadcast): void;
  /** What is said is shown when it is heard: `heardAt` gives the media time of that, null for the present. */
  listenBy(heardAt: (() => number | null) | null): void;
  /**
   * Resolves once the room has let us in, or will not, or takes long. Who listens before that is nobody to the server:
   * it cannot ask them back from HLS, nor a moderator remove them by name.
   */
  arrived(): Promise<void>;
  /** How this person signs the media calls of this room. */
  mediaAuth(): "session" | { bearer: string | null };
}

/** While the room cannot be joined yet, the broadcast itself is asked for this often. */
const POLL_MS = 15_000;
/** A room that cannot be joined, behind a proxy that lets no WebSocket through, can be heard all the same. */
const ARRIVAL_MS = 3_000;
/** What was missed is fetched in pages of a hundred; whoever missed more than this reads the end of it. */
const MISSED_PAGES_MAX = 3;
const NOT_TOLD: Removal = { reason: null, banned: false, until: null };

export function createRoom(platform: Platform, api: Api, auth: Auth, id: string): Room {
  const store = createStore<RoomView>(() => ({
    ...emptyRoom,
    phase: "loading",
    problem: null,
    socket: { name: "idle" },
    mayWriteAt: null,
  }));
  const memory = new RoomMemory(platform.storage, id);
  let invitedAgain = false;
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
        if (token !== null) return { broadcastId: id, token, ...since() };
      }
      if (renew) memory.dropToken();
      const { token, name } = memory;
      return {
        broadcastId: id,
        ...(token === null ? {} : { token }),
        ...(name === null ? {} : { name }),
        ...since(),
      };
    },
    onEvent: (event) => {
      if (!later.hold(event, store.getState().you?.id)) receive(event);
    },
    onState: (state) => {
      store.setState({ socket: state });
      if (state.name === "closed") settle(state.outcome, state.reason);
    },
  });

  const later = new Later(receive);

  /** Who comes back gets what was said meanwhile. */
  function since(): { since?: string } {
    const last = store.getState().messages.at(-1);
    return last ? { since: last.id } : {};
  }

  function receive(event: ServerEvent): void {
    store.setState((state) => reduceRoom(state, event));
    if (event.event === "slowMode") {
      const latest = Date.now() + event.data.seconds * 1000;
      store.setState(({ mayWriteAt: at }) => ({
        mayWriteAt: at === null || event.data.seconds === 0 ? null : Math.min(at, latest),
      }));
    }
    if (event.event === "removed") {
      memory.keepRemoval(store.getState().removed);
    }
    if (event.event === "broadcastEnded") {
      // The room is closing. Nobody is let in again, so do not ask.
      socket.stop();
      store.setState({ socket: { name: "idle" } });
    }
    if (event.event === "joined") {
      clearTimeout(pollTimer);
      invitedAgain = false;
      store.setState({ phase: "open", problem: null });
      memory.forgetRemoval();
      const { you } = event.data;
      if (you.anonymous && typeof you.token === "string") memory.keepToken(you.token);
      else memory.dropToken();
    }
  }

  function settle(outcome: Outcome, reason: string): void {
    if (outcome === "removed") {
      store.setState((state) => ({
        phase: "removed",
        removed: state.removed ?? NOT_TOLD,
      }));
      void recallRemoval();
    } else if (outcome === "locked") {
      store.setState({ phase: "locked" });
      poll();
    } else if (
      (outcome === "not_found" || outcome === "forbidden") &&
      memory.invite !== null &&
      !invitedAgain
    ) {
      // A guest's token has a shorter life than the link that it came by.
      invitedAgain = true;
      memory.dropToken();
      void load(opened);
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

  /** For people without an account: a guest's token opens a private show that they were invited to. */
  function readAuth(): "session" | { bearer: string } {
    if (auth.store.getState().user || memory.token === null) return "session";
    return { bearer: memory.token };
  }

  async function find(): Promise<Broadcast> {
    try {
      return await api.getBroadcast(id, readAuth());
    } catch (error) {
      const status = error instanceof ApiError ? error.status : 0;
      if (status === 401 && readAuth() !== "session") memory.dropToken();
      else if (status !== 404 || memory.invite === null) throw error;
    }
    // A show that is not for everyone answers as if it were not there: the invite link opens it.
    if (memory.invite !== null) await takeUp(memory.invite);
    return await api.getBroadcast(id, readAuth());
  }

  async function takeUp(link: string): Promise<void> {
    try {
      const { name } = memory;
      const { token } = await api.acceptInvite(id, {
        invite: link,
        ...(name === null ? {} : { name }),
      });
      if (token !== null) memory.keepToken(token);
    } catch (error) {
      if (error instanceof ApiError && error.code === "invite_invalid") memory.forgetInvite();
      throw error;
    }
  }

  async function load(generation: number): Promise<void> {
    try {
      const broadcast = await find();
      if (generation !== opened) return;
      store.setState((state) => ({
        broadcast: state.you ? state.broadcast : broadcast,
        listenerCount: state.you ? state.listenerCount : broadcast.listenerCount,
        // Whether a locked room lets us in is not known before it does.
        phase: state.phase === "locked" && broadcast.status !== "ended" ? "locked" : "open",
        problem: null,
      }));
      if (broadcast.status === "ended") await loadChat(generation);
      else socket.start();
    } catch (error) {
      if (generation !== opened) return;
      const status = error instanceof ApiError ? error.status : 0;
      const code = error instanceof ApiError ? error.code : "";
      if (code === "invite_invalid") store.setState({ phase: "invite_invalid" });
      else if (status === 404) store.setState({ phase: "not_found" });
      else if (status === 401) store.setState({ phase: "sign_in" });
      else if (status === 403) {
        const removed = code === "removed";
        store.setState({ phase: removed ? "removed" : "private" });
        if (removed) await recallRemoval();
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
    const { items } = await api.messages(id, undefined, readAuth()).catch(() => ({ items: [] }));
    if (generation !== opened) return;
    const messages = items.toReversed().map(asSent);
    store.setState((state) => (state.messages.length === 0 ? { messages } : {}));
  }

  function asSent(message: StoredMessage): ChatMessage {
    const { broadcast, members } = store.getState();
    const role = message.user.id === broadcast?.host.id ? "host" : "listener";
    const user = { ...message.user, anonymous: false, muted: false, speaking: false };
    return { ...message, user: { ...user, role: members[message.user.id]?.role ?? role } };
  }

  /** The server says only that we are not let in; why and until when it said when it happened. */
  async function recallRemoval(): Promise<void> {
    const known = await memory.recallRemoval();
    if (known) store.setState((state) => (state.phase === "removed" ? { removed: known } : {}));
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

  function arrived(): Promise<void> {
    return new Promise((resolve) => {
      const look = ({ you, phase, ended, socket: { name } }: RoomView) => {
        const waits = (phase === "loading" || phase === "open") && ended === null;
        if (you === null && name !== "closed" && waits) return;
        clearTimeout(timer);
        unsubscribe();
        resolve();
      };
      const unsubscribe = store.subscribe(look);
      const timer = setTimeout(() => {
        unsubscribe();
        resolve();
      }, ARRIVAL_MS);
      look(store.getState());
    });
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
    open(link) {
      const generation = ++opened;
      clearTimeout(pollTimer);
      socket.stop();
      later.clear();
      store.setState({
        ...emptyRoom,
        phase: "loading",
        problem: null,
        socket: { name: "idle" },
        mayWriteAt: null,
      });
      void memory
        .restore(link ?? null)
        .then(() => (generation === opened ? load(generation) : undefined));
    },
    close() {
      opened += 1;
      clearTimeout(pollTimer);
      socket.stop();
      later.clear();
      store.setState({ socket: { name: "idle" } });
    },
    retryNow() {
      socket.retryNow();
      if (store.getState().phase === "error") void load(opened);
    },
    async setName(name) {
      memory.keepName(name);
      if (socket.state.name === "idle") return;
      socket.rejoin();
      await joinedOrGone();
    },
    needsName: () => auth.store.getState().user === null && memory.name === null,
    async say(text) {
      const waits = () => {
        const { you, slowModeS } = store.getState();
        return mayModerate(you?.role) ? 0 : slowModeS * 1000;
      };
      try {
        await command("chatMessage", { text });
        store.setState({ mayWriteAt: waits() > 0 ? Date.now() + waits() : null });
      } catch (error) {
        if (error instanceof CommandError && error.code === "slow_mode") {
          store.setState({ mayWriteAt: Date.now() + (error.retryAfterMs ?? waits()) });
        }
        throw error;
      }
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
    async moveHand(userId, position) {
      await command("moveHand", { userId, position });
    },
    async muteAll() {
      const { userIds } = (await command("muteAll", {})) as { userIds?: string[] };
      return userIds?.length ?? 0;
    },
    async inviteToSpeak(userId) {
      await command("inviteToSpeak", { userId });
    },
    async acceptInvite() {
      await command("acceptInvite", {});
      store.setState({ invited: false });
    },
    async declineInvite() {
      await command("declineInvite", {});
      store.setState({ invited: false });
    },
    async moveToAudience(userId) {
      await command("moveToAudience", { userId });
    },
    async deleteMessage(messageId) {
      await command("deleteMessage", { messageId });
    },
    async clearMessages(userId) {
      await command("clearMessages", { userId });
    },
    async setSlowMode(seconds) {
      await command("slowMode", { seconds });
    },
    async setChatMode(mode) {
      await command("chatMode", { mode });
    },
    async lock(locked) {
      await command("lockRoom", { locked });
    },
    async loadMissed() {
      const generation = opened;
      const { messages, gapBefore } = store.getState();
      const gap = messages.findIndex((message) => message.id === gapBefore);
      const before = new Set(messages.slice(0, Math.max(gap, 0)).map((message) => message.id));
      const missed: StoredMessage[] = [];
      let cursor: string | undefined;
      for (let page = 0; page < MISSED_PAGES_MAX; page++) {
        const { items, nextCursor } = await api.messages(id, cursor, readAuth());
        missed.push(...items);
        if (nextCursor === null || items.some((message) => before.has(message.id))) break;
        cursor = nextCursor;
      }
      if (generation !== opened) return;
      store.setState((state) => ({
        messages: mergeMessages(state.messages, missed.toReversed().map(asSent)),
        gapBefore: null,
      }));
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
    listenBy: (heardAt) => later.listenBy(heardAt),
    arrived,
    mediaAuth() {
      const { you } = store.getState();
      if (you?.anonymous) return { bearer: memory.token };
      return "session";
    },
  };
}

export { CommandError };
