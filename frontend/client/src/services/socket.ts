import { backoffMs } from "../backoff";
import type { SocketLike } from "../platform";
import type { CommandName, Commands, Joined, ServerEvent } from "../types";

/** Close codes of `/ws`. */
export const CloseCode = {
  LEFT: 1000,
  SHUTTING_DOWN: 1001,
  POLICY: 1008,
  TOO_LARGE: 1009,
  INTERNAL_ERROR: 1011,
  TOO_SLOW: 1013,
  NOT_SIGNED_IN: 4401,
  REMOVED: 4403,
  NO_SUCH_BROADCAST: 4404,
  TOO_MANY_MESSAGES: 4429,
} as const;

/** Why the socket will not come back by itself. */
export type Outcome =
  | "left"
  | "removed"
  | "not_found"
  | "sign_in"
  | "forbidden"
  | "locked"
  | "refused";

export type SocketState =
  | { name: "idle" }
  | { name: "connecting" }
  | { name: "joined" }
  | { name: "reconnecting"; attempt: number; afterMs: number }
  | { name: "closed"; outcome: Outcome; reason: string };

/** What a close code asks of us: never again, again as somebody else, or again after a while. */
export type CloseVerdict =
  | { action: "stop"; outcome: Outcome }
  | { action: "reauthenticate" }
  | { action: "retry"; minimumMs: number };

export function verdictOf(code: number): CloseVerdict {
  switch (code) {
    case CloseCode.LEFT:
      return { action: "stop", outcome: "left" };
    case CloseCode.REMOVED:
      return { action: "stop", outcome: "removed" };
    case CloseCode.NO_SUCH_BROADCAST:
      return { action: "stop", outcome: "not_found" };
    case CloseCode.POLICY:
      return { action: "stop", outcome: "refused" };
    case CloseCode.NOT_SIGNED_IN:
      return { action: "reauthenticate" };
    case CloseCode.TOO_MANY_MESSAGES:
      return { action: "retry", minimumMs: 10_000 };
    case CloseCode.TOO_SLOW:
      return { action: "retry", minimumMs: 2_000 };
    default:
      return { action: "retry", minimumMs: 0 };
  }
}

/** The server answered a command with an error frame, or could not be asked. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  constructor(
    readonly code: string,
    message: string,
    /** The same command may work after this long. */
    readonly retryAfterMs: number | null = null,
  ) {
    super(message);
  }
}

export interface RoomSocketOptions {
  url: string;
  open: (url: string) => SocketLike;
  random: () => number;
  /** Asked before every attempt, so that a token or a name may have changed. `renew`: the last one was refused. */
  credentials: (renew: boolean) => Promise<Commands["join"]>;
  onEvent: (event: ServerEvent) => void;
  onState: (state: SocketState) => void;
}

const REMOVED_CODES = new Set(["removed", "banned"]);
const JOIN_TIMEOUT_MS = 10_000;
const ACK_TIMEOUT_MS = 10_000;
const OPEN = 1;

interface Waiting {
  resolve: (data: unknown) => void;
  reject: (error: CommandError) => void;
  timer: ReturnType<typeof setTimeout>;
}

/**
 * One place in one room: joins, comes back when the connection breaks, and stops when the server says so.
 * After `stop()` nothing is called any more.
 */
export class RoomSocket {
  #options: RoomSocketOptions;
  #socket: SocketLike | null = null;
  #state: SocketState = { name: "idle" };
  #attempt = 0;
  #renew = false;
  #renewed = false;
  #afterMs: number | null = null;
  #joinError: CommandError | null = null;
  #nextAck = 1;
  #waiting = new Map<number, Waiting>();
  #retryTimer: ReturnType<typeof setTimeout> | undefined;
  #joinTimer: ReturnType<typeof setTimeout> | undefined;
  /** Raised by every connect and stop, so that late answers of an earlier one are not heard. */
  #generation = 0;

  constructor(options: RoomSocketOptions) {
    this.#options = options;
  }

  get state(): SocketState {
    return this.#state;
  }

  start(): void {
    if (this.#state.name === "idle" || this.#state.name === "closed") {
      this.#attempt = 0;
      this.#renew = false;
      this.#renewed = false;
      void this.#connect();
    }
  }

  /** Leave, and tell the server that we meant to. */
  stop(): void {
    this.#generation += 1;
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#joinTimer);
    const socket = this.#socket;
    this.#detach();
    if (socket) {
      if (socket.readyState === OPEN) socket.send(JSON.stringify({ event: "leave", data: {} }));
      socket.close(CloseCode.LEFT);
    }
    this.#rejectWaiting("You have left this show.");
    this.#state = { name: "idle" };
  }

  /** Join again from the start, with whatever `credentials` says now (another name, another account). */
  rejoin(): void {
    this.stop();
    this.start();
  }

  /** The network is back, or the page is looked at again: do not wait out the backoff. */
  retryNow(): void {
    if (this.#state.name !== "reconnecting") return;
    clearTimeout(this.#retryTimer);
    void this.#connect();
  }

  /** Send a command; resolves with the data of its ack, rejects with `CommandError`. */
  request<Name extends CommandName>(event: Name, data: Commands[Name]): Promise<unknown> {
    const socket = this.#socket;
    if (!socket || this.#state.name !== "joined" || socket.readyState !== OPEN) {
      return Promise.reject(
        new CommandError("not_connected", "Not connected just now. Try again in a moment."),
      );
    }
    return this.#send(socket, event, data);
  }

  #send<Name extends CommandName>(
    socket: SocketLike,
    event: Name,
    data: Commands[Name],
  ): Promise<unknown> {
    const ack = this.#nextAck++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(ack);
        reject(new CommandError("timeout", "The server did not answer. Try again."));
      }, ACK_TIMEOUT_MS);
      this.#waiting.set(ack, { resolve, reject, timer });
      socket.send(JSON.stringify({ event, data, ack }));
    });
  }

  #setState(state: SocketState): void {
    this.#state = state;
    this.#options.onState(state);
  }

  async #connect(): Promise<void> {
    const generation = ++this.#generation;
    this.#afterMs = null;
    this.#joinError = null;
    this.#setState({ name: "connecting" });
    let join: Commands["join"];
    try {
      join = await this.#options.credentials(this.#renew);
    } catch {
      if (generation === this.#generation) this.#retry(0);
      return;
    }
    if (generation !== this.#generation) return;
    this.#renew = false;
    const socket = this.#options.open(this.#options.url);
    this.#socket = socket;
    this.#joinTimer = setTimeout(() => {
      // Neither refused nor answered: a proxy that swallows upgrades, or a sleeping network.
      this.#detach();
      socket.close();
      this.#retry(0);
    }, JOIN_TIMEOUT_MS);
    socket.onopen = () => {
      this.#send(socket, "join", join).catch((error: CommandError) => {
        if (generation === this.#generation) this.#joinError = error;
      });
    };
    socket.onmessage = (message) => this.#receive(message.data);
    socket.onclose = (closed) => {
      this.#detach();
      this.#closed(closed.code, closed.reason);
    };
    socket.onerror = () => {
      // Always followed by a close, which has the code.
    };
  }

  #detach(): void {
    clearTimeout(this.#joinTimer);
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onopen = null;
    socket.onmessage = null;
    socket.onclose = null;
    socket.onerror = null;
  }

  #receive(text: unknown): void {
    let frame: { event?: unknown; ack?: unknown; data?: unknown };
    try {
      frame = JSON.parse(String(text));
    } catch {
      return;
    }
    if (typeof frame !== "object" || frame === null || typeof frame.event !== "string") return;
    const data = (frame.data ?? {}) as Record<string, unknown>;
    if (frame.event === "ack" || frame.event === "error") {
      if (typeof frame.ack === "number") this.#acknowledge(frame.ack, frame.event, data);
      return;
    }
    if (frame.event === "joined") {
      clearTimeout(this.#joinTimer);
      this.#attempt = 0;
      this.#renewed = false;
      this.#options.onEvent({ event: "joined", data: data as unknown as Joined });
      this.#setState({ name: "joined" });
      return;
    }
    if (frame.event === "reconnect" && typeof data.afterMs === "number") {
      this.#afterMs = data.afterMs;
    }
    this.#options.onEvent({ event: frame.event, data } as unknown as ServerEvent);
  }

  #acknowledge(ack: number, kind: "ack" | "error", data: Record<string, unknown>): void {
    const waiting = this.#waiting.get(ack);
    if (!waiting) return;
    this.#waiting.delete(ack);
    clearTimeout(waiting.timer);
    if (kind === "ack") {
      waiting.resolve(data);
    } else {
      const message = typeof data.message === "string" ? data.message : "The server refused this.";
      const retryAfterMs = typeof data.retryAfterMs === "number" ? data.retryAfterMs : null;
      waiting.reject(new CommandError(String(data.code ?? "error"), message, retryAfterMs));
    }
  }

  #rejectWaiting(message: string): void {
    const all = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject, timer } of all) {
      clearTimeout(timer);
      reject(new CommandError("not_connected", message));
    }
  }

  #closed(code: number, reason: string): void {
    const joinError = this.#joinError;
    this.#rejectWaiting("The connection broke. Try again in a moment.");
    const verdict = verdictOf(code);
    if (verdict.action === "stop") {
      // One code for "removed" and "never allowed in"; the answer to `join` tells them apart. Whoever is inside when the
      // show becomes private, or its invite link another one, has done nothing wrong either.
      const blameless = joinError ? !REMOVED_CODES.has(joinError.code) : reason === "private";
      const forbidden = verdict.outcome === "removed" && blameless;
      const locked = verdict.outcome === "refused" && joinError?.code === "room_locked";
      const outcome = forbidden ? "forbidden" : locked ? "locked" : verdict.outcome;
      this.#stopWith(outcome, joinError?.message ?? reason);
    } else if (verdict.action === "reauthenticate") {
      if (this.#renewed) {
        this.#stopWith("sign_in", joinError?.message ?? reason);
      } else {
        this.#renewed = true;
        this.#renew = true;
        void this.#connect();
      }
    } else {
      this.#retry(verdict.minimumMs);
    }
  }

  #stopWith(outcome: Outcome, reason: string): void {
    this.#generation += 1;
    this.#setState({ name: "closed", outcome, reason });
  }

  #retry(minimumMs: number): void {
    this.#rejectWaiting("The connection broke. Try again in a moment.");
    const asked = this.#afterMs;
    this.#afterMs = null;
    // A server that goes away names a time; everyone adds a little of their own to it.
    const afterMs =
      asked === null
        ? Math.max(minimumMs, backoffMs(this.#attempt, this.#options.random))
        : Math.round(asked * (1 + 0.5 * this.#options.random()));
    const attempt = ++this.#attempt;
    this.#setState({ name: "reconnecting", attempt, afterMs });
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => void this.#connect(), afterMs);
  }
}
