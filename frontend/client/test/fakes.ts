import { vi } from "vitest";
import type { KeyValueStore, SocketLike } from "../src/platform";
import type { LinkState, MediaLink } from "../src/services/media-types";
import type { Broadcast, Joined, Person, User } from "../src/types";

export function memoryStorage(initial: Record<string, string> = {}) {
  const values = new Map(Object.entries(initial));
  const storage: KeyValueStore = {
    get: (key) => values.get(key) ?? null,
    set: (key, value) => void values.set(key, value),
    remove: (key) => void values.delete(key),
  };
  return { storage, values };
}

export interface Call {
  method: string;
  path: string;
  body: unknown;
  bearer: string | null;
  headers: Record<string, string>;
}

type Answer = { status?: number; body?: unknown; headers?: Record<string, string> } | Error;

/** A fetch that answers by `handler` and writes down what was asked. */
export function fakeFetch(handler: (call: Call) => Answer | Promise<Answer>) {
  const calls: Call[] = [];
  const fetch = async (url: string, init: RequestInit = {}): Promise<Response> => {
    const headers = init.headers as Record<string, string>;
    const call: Call = {
      method: init.method ?? "GET",
      path: url.replace("http://server", ""),
      body: typeof init.body === "string" ? JSON.parse(init.body) : undefined,
      bearer: headers.Authorization?.replace("Bearer ", "") ?? null,
      headers,
    };
    calls.push(call);
    const answer = await handler(call);
    if (answer instanceof Error) throw answer;
    const { status = 200, body, headers: extra = {} } = answer;
    return new Response(body === undefined ? null : JSON.stringify(body), {
      status,
      headers: { "Content-Type": "application/json", ...extra },
    });
  };
  return { fetch, calls };
}

/** A WebSocket that a test plays the server of. */
export class FakeSocket implements SocketLike {
  readyState = 0;
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onerror: ((event: never) => void) | null = null;
  sent: { event: string; data: Record<string, unknown>; ack?: number }[] = [];
  closedWith: number | null = null;

  send(data: string): void {
    this.sent.push(JSON.parse(data));
  }
  close(code = 1005): void {
    this.readyState = 3;
    this.closedWith = code;
  }
  open(): void {
    this.readyState = 1;
    this.onopen?.(undefined as never);
  }
  receive(frame: unknown): void {
    this.onmessage?.({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
  }
  join(data: Partial<Joined> = {}): void {
    this.open();
    this.receive({ event: "joined", data: joined(data) });
    this.answer("join");
  }
  /** Acknowledge the last frame named `event`. */
  answer(event: string, data: unknown = {}): void {
    this.receive({ event: "ack", ack: this.last(event)?.ack, data });
  }
  refuse(event: string, code: string, message = "No.", more: Record<string, unknown> = {}): void {
    const data = { code, message, ...more };
    this.receive({ event: "error", ack: this.last(event)?.ack, data });
  }
  last(event: string) {
    return this.sent.findLast((frame) => frame.event === event);
  }
  drop(code = 1006, reason = ""): void {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }
}

export const user: User = {
  id: "u1",
  email: "ana@example.org",
  displayName: "Ana",
  isAdmin: false,
  emailVerified: true,
  createdAt: "2026-01-01T00:00:00Z",
};

export function person(id: string, changes: Partial<Person> = {}): Person {
  return {
    id,
    displayName: id,
    role: "listener",
    anonymous: false,
    muted: false,
    speaking: false,
    ...changes,
  };
}

export function broadcast(changes: Partial<Broadcast> = {}): Broadcast {
  return {
    id: "b1",
    title: "Morning",
    description: "",
    status: "live",
    visibility: "public",
    tags: [],
    scheduledAt: null,
    startedAt: "2026-01-01T08:00:00Z",
    endedAt: null,
    recordingEnabled: false,
    rewindEnabled: false,
    host: { id: "h", displayName: "Host" },
    listenerCount: 0,
    createdAt: "2026-01-01T07:00:00Z",
    updatedAt: "2026-01-01T07:00:00Z",
    yourRole: null,
    ...changes,
  };
}

export function joined(changes: Partial<Joined> = {}): Joined {
  return {
    you: { id: "g1", displayName: "Guest", role: "listener", anonymous: true, token: "guest-1" },
    broadcast: broadcast(),
    role: "listener",
    members: [],
    memberCount: 0,
    listenerCount: 0,
    hands: [],
    producers: [],
    recording: "off",
    recentMessages: [],
    mediaTime: 0,
    hostAway: false,
    announcesEveryone: true,
    slowModeS: 0,
    chatMode: "open",
    locked: false,
    invited: false,
    messagesMissed: false,
    deletedMessages: [],
    ...changes,
  };
}

export function chat(id: string, at: string, text = id) {
  return { id, user: person("p"), text, mediaTime: 0, at };
}

/** Let promises that are ready run, without any time passing. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 30; turn++) await Promise.resolve();
}

export function fakeLink() {
  const link = {
    state: { name: "connecting" } as LinkState,
    track: null,
    stats: vi.fn(),
    rawStats: vi.fn(),
    replaceTrack: vi.fn(async () => undefined),
    retryNow: vi.fn(),
    renew: vi.fn(),
    close: vi.fn(),
  };
  return link as typeof link & MediaLink;
}

export function fakeTrack() {
  const track = {
    enabled: true,
    readyState: "live",
    onended: null as (() => void) | null,
    stop: vi.fn(() => {
      track.readyState = "ended";
    }),
  };
  return track as typeof track & MediaStreamTrack;
}
