import type { components, operations } from "../schema";
import type {
  AuditEntry,
  Ban,
  Broadcast,
  BroadcastChanges,
  BroadcastPage,
  Chapter,
  ExportFormat,
  NewBroadcast,
  Page,
  Peaks,
  Profile,
  Recording,
  RecordingExport,
  Said,
  SignedIn,
  StoredMessage,
  User,
} from "../types";

type Schemas = components["schemas"];
type HlsAddress = Schemas["HlsAddress"];

/** Every failed call throws this. `message` is a sentence for people; `code` is a stable word for programs. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  constructor(
    /** HTTP status; 0 when no answer came. */
    readonly status: number,
    readonly code: string,
    message: string,
    /** Message per field of the request, for forms. */
    readonly fields: Readonly<Record<string, string>> = {},
    readonly retryAfterMs: number | null = null,
    /** Where to listen instead, when a server with many listeners says so. */
    readonly hls: HlsAddress | null = null,
  ) {
    super(message);
  }

  /** Could the same call work a little later, unchanged? */
  get passing(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

export type Fetch = (input: string, init?: RequestInit) => Promise<Response>;

/** Where the access token comes from. The auth store is one. */
export interface TokenSource {
  /** A token that is good now, refreshed if need be; null for people who are not signed in. */
  accessToken(): Promise<string | null>;
  /** The server refused `stale`. A newer token, or null when the person is signed out now. */
  renew(stale: string): Promise<string | null>;
}

export interface RequestOptions {
  method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  body?: unknown;
  query?: Record<string, string | number | undefined>;
  /** "session": the signed-in person, if there is one (default). "none": no token. An object: exactly this token. */
  auth?: "session" | "none" | { bearer: string | null };
  headers?: Readonly<Record<string, string>>;
  /** Called with the headers of an answer that is no error. */
  onHeaders?: (headers: Headers) => void;
  /** What the answer is read as; JSON unless it says otherwise. */
  answer?: "json" | "blob";
  /** Let the request outlive the page. */
  keepalive?: boolean;
  signal?: AbortSignal;
}

export type Request = <T>(path: string, options?: RequestOptions) => Promise<T>;

const TIMEOUT_MS = 15_000;

export const NO_ANSWER = "The server did not answer. Check your connection and try again.";

export function createRequest(config: {
  baseUrl: string;
  fetch: Fetch;
  tokens?: TokenSource;
}): Request {
  const { baseUrl, tokens } = config;

  async function once(
    url: string,
    options: RequestOptions,
    bearer: string | null,
  ): Promise<Response> {
    const accept = options.answer === "blob" ? "*/*" : "application/json";
    const headers: Record<string, string> = { Accept: accept, ...options.headers };
    if (options.body !== undefined) headers["Content-Type"] = "application/json";
    if (bearer !== null) headers.Authorization = `Bearer ${bearer}`;
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), TIMEOUT_MS);
    const giveUp = () => abort.abort();
    options.signal?.addEventListener("abort", giveUp);
    if (options.signal?.aborted) abort.abort();
    try {
      return await config.fetch(url, {
        method: options.method ?? "GET",
        headers,
        signal: abort.signal,
        ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
        ...(options.keepalive ? { keepalive: true } : {}),
      });
    } catch (cause) {
      if (options.signal?.aborted) throw new ApiError(0, "aborted", "The request was given up.");
      throw Object.assign(new ApiError(0, "network", NO_ANSWER), { cause });
    } finally {
      clearTimeout(timer);
      options.signal?.removeEventListener("abort", giveUp);
    }
  }

  return async function request<T>(path: string, options: RequestOptions = {}): Promise<T> {
    const url = baseUrl + path + queryString(options.query);
    const auth = options.auth ?? "session";
    let bearer: string | null = null;
    if (auth === "session") bearer = (await tokens?.accessToken()) ?? null;
    else if (auth !== "none") bearer = auth.bearer;

    let response = await once(url, options, bearer);
    if (response.status === 401 && auth === "session" && bearer !== null && tokens) {
      // Signed out elsewhere, or the clock is wrong: once more, with a new token or as nobody.
      const renewed = await tokens.renew(bearer);
      if (renewed !== bearer) response = await once(url, options, renewed);
    }
    if (!response.ok) throw await problem(response);
    options.onHeaders?.(response.headers);
    if (response.status === 204) return undefined as T;
    if (options.answer === "blob") return (await response.blob()) as T;
    const text = await response.text();
    if (text === "") return undefined as T;
    try {
      return JSON.parse(text) as T;
    } catch {
      throw new ApiError(response.status, "bad_answer", "The server sent something unreadable.");
    }
  };
}

/** An `application/problem+json` body, or the best that can be said without one. */
async function problem(response: Response): Promise<ApiError> {
  let body: Record<string, unknown> = {};
  try {
    const parsed: unknown = await response.json();
    if (typeof parsed === "object" && parsed !== null) body = parsed as Record<string, unknown>;
  } catch {
    // A proxy's HTML page: the status has to do.
  }
  const fields: Record<string, string> = {};
  if (Array.isArray(body.errors)) {
    for (const item of body.errors as { field?: unknown; message?: unknown }[]) {
      if (typeof item?.field === "string" && typeof item.message === "string") {
        fields[item.field] ??= item.message;
      }
    }
  }
  const text = (value: unknown) => (typeof value === "string" && value !== "" ? value : undefined);
  const retryAfter = Number(response.headers.get("Retry-After") ?? Number.NaN);
  return new ApiError(
    response.status,
    text(body.code) ?? `http_${response.status}`,
    text(body.detail) ?? text(body.title) ?? fallbackMessage(response.status),
    fields,
    Number.isFinite(retryAfter) ? retryAfter * 1000 : null,
    isHlsAddress(body.hls) ? body.hls : null,
  );
}

function isHlsAddress(value: unknown): value is HlsAddress {
  return (
    typeof value === "object" && value !== null && typeof (value as HlsAddress).url === "string"
  );
}

function fallbackMessage(status: number): string {
  if (status === 401) return "Sign in to do this.";
  if (status === 403) return "You are not allowed to do this.";
  if (status === 404) return "This does not exist, or is not for you to see.";
  if (status === 429) return "That was too often. Wait a moment and try again.";
  if (status >= 500) return "The server has a problem. Try again in a moment.";
  return `The server refused this (${status}).`;
}

function queryString(query: RequestOptions["query"]): string {
  if (!query) return "";
  const params = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value !== undefined) params.set(key, String(value));
  }
  const text = params.toString();
  return text === "" ? "" : `?${text}`;
}

/** A message for people out of anything that was thrown. */
export function messageOf(error: unknown): string {
  if (error instanceof Error && error.message !== "") return error.message;
  return "Something went wrong. Try again.";
}

/** A broadcast as it was at one moment: `tag` names the moment, for a change that must not undo somebody else's. */
export interface Seen {
  broadcast: Broadcast;
  tag: string | null;
}

/**
 * A name for one thing that somebody wants done: sent along each time, it is done once. It has to be unique among the
 * sender's own, and is no secret.
 */
export function idempotencyKey(random: () => number = Math.random): string {
  const part = () => Math.floor(random() * 2 ** 32).toString(36);
  return [Date.now().toString(36), part(), part(), part()].join("-");
}

/** Nobody knows whether it was done: the answer was lost on its way, or somebody else is doing it just now. */
function isUnsettled(error: unknown): boolean {
  if (!(error instanceof ApiError)) return false;
  return error.code === "network" || error.code === "request_repeated" || error.status >= 502;
}

const REPEAT_AFTER_MS = 1000;

export type ListOptions = NonNullable<operations["list_broadcasts"]["parameters"]["query"]>;

const at = (id: string) => encodeURIComponent(id);

/** The calls that need a token pair in the answer; the auth store uses them, nobody else should. */
export function createAuthApi(request: Request) {
  const post = (path: string, body: unknown) =>
    request<SignedIn>(path, { method: "POST", body, auth: "none" });
  return {
    register: (body: Schemas["Register"]) => post("/api/auth/register", body),
    login: (body: Schemas["Login"]) => post("/api/auth/login", body),
    setup: (body: Schemas["SetupAdmin"]) => post("/api/auth/setup", body),
    refresh: (refreshToken: string) => post("/api/auth/refresh", { refreshToken }),
    logout: (refreshToken: string) =>
      request<void>("/api/auth/logout", { method: "POST", body: { refreshToken }, auth: "none" }),
  };
}

export function createApi(request: Request) {
  async function seen(path: string, options: RequestOptions): Promise<Seen> {
    let tag: string | null = null;
    const onHeaders = (headers: Headers) => {
      tag = headers.get("ETag");
    };
    const broadcast = await request<Broadcast>(path, { ...options, onHeaders });
    return { broadcast, tag };
  }
  return {
    request,
    me: () => request<User>("/api/auth/me"),
    updateMe: (changes: Schemas["UpdateMe"]) =>
      request<User>("/api/auth/me", { method: "PATCH", body: changes }),
    /** Every other sign-in ends; this one goes on. A wrong password is `wrong_password`. */
    changePassword: (body: { currentPassword: string; newPassword: string }) =>
      request<void>("/api/auth/password", { method: "POST", body }),
    /** Answers the same whether or not there is such an account. */
    requestPasswordReset: (email: string) =>
      request<void>("/api/auth/password-reset/request", {
        method: "POST",
        body: { email },
        auth: "none",
      }),
    /** Every sign-in of the account ends. A used or expired token is `reset_token_invalid`. */
    confirmPasswordReset: (body: { token: string; password: string }) =>
      request<void>("/api/auth/password-reset/confirm", { method: "POST", body, auth: "none" }),
    /** An expired or wrong token is `verify_token_invalid`. */
    verifyEmail: (token: string) =>
      request<void>("/api/auth/verify-email", { method: "POST", body: { token }, auth: "none" }),
    requestVerification: () => request<void>("/api/auth/verify-email/request", { method: "POST" }),
    /** Here too: call `auth.forget()` next. */
    logoutEverywhere: () => request<void>("/api/auth/logout-all", { method: "POST" }),
    /** `wrong_password`, `show_is_live` or `last_admin` when refused; call `auth.forget()` when done. */
    deleteAccount: (password: string) =>
      request<void>("/api/auth/me", { method: "DELETE", body: { password } }),
    exportAccount: () => request<Record<string, unknown>>("/api/auth/me/export"),
    listBroadcasts: (query: ListOptions = {}, signal?: AbortSignal) =>
      request<BroadcastPage>("/api/broadcasts", {
        query: { ...query },
        ...(signal ? { signal } : {}),
      }),
    getBroadcast: (id: string, auth?: RequestOptions["auth"]) =>
      request<Broadcast>(`/api/broadcasts/${at(id)}`, auth ? { auth } : {}),
    /** `key` is for this body: with it the same call can be made again, and is once by itself, after a lost answer. */
    createBroadcast: async (body: NewBroadcast, key = idempotencyKey()) => {
      const headers = { "Idempotency-Key": key };
      const create = () => request<Broadcast>("/api/broadcasts", { method: "POST", body, headers });
      try {
        return await create();
      } catch (error) {
        if (!isUnsettled(error)) throw error;
        await new Promise((resolve) => setTimeout(resolve, REPEAT_AFTER_MS));
        return await create();
      }
    },
    seeBroadcast: (id: string, signal?: AbortSignal) =>
      seen(`/api/broadcasts/${at(id)}`, signal ? { signal } : {}),
    /** `precondition_failed` (status 412) if it has been changed since it was seen with that `tag`. */
    updateBroadcast: (id: string, changes: BroadcastChanges, tag: string | null) =>
      seen(`/api/broadcasts/${at(id)}`, {
        method: "PATCH",
        body: changes,
        ...(tag === null ? {} : { headers: { "If-Match": tag } }),
      }),
    deleteBroadcast: (id: string) =>
      request<void>(`/api/broadcasts/${at(id)}`, { method: "DELETE" }),
    startBroadcast: (id: string) =>
      request<Broadcast>(`/api/broadcasts/${at(id)}/start`, { method: "POST" }),
    endBroadcast: (id: string) =>
      request<Broadcast>(`/api/broadcasts/${at(id)}/end`, { method: "POST" }),
    /** The old key is worth nothing from then on, and an encoder that uses it is cut off. */
    renewStreamKey: (id: string) =>
      request<Broadcast>(`/api/broadcasts/${at(id)}/stream-key`, { method: "POST" }),
    /** The old link is worth nothing from then on, and whoever came by it is let go. */
    renewInvite: (id: string) =>
      request<Broadcast>(`/api/broadcasts/${at(id)}/invite`, { method: "POST" }),
    /** `token` is for people without an account. A link that does not hold (any more) is `invite_invalid`. */
    acceptInvite: (id: string, body: Schemas["AcceptInvite"], auth?: RequestOptions["auth"]) =>
      request<Schemas["InviteAccepted"]>(`/api/broadcasts/${at(id)}/invite/accept`, {
        method: "POST",
        body,
        ...(auth ? { auth } : {}),
      }),
    /** Where to listen by HLS: an address for this listener alone, good for a while. */
    hlsAddress: (id: string, auth?: RequestOptions["auth"]) =>
      request<HlsAddress>(`/api/broadcasts/${at(id)}/hls`, {
        method: "POST",
        ...(auth ? { auth } : {}),
      }),
    messages: (id: string, cursor?: string, auth?: RequestOptions["auth"]) =>
      request<Page<StoredMessage>>(`/api/broadcasts/${at(id)}/messages`, {
        query: { limit: 100, cursor },
        ...(auth ? { auth } : {}),
      }),
    /** Paths for players that know nothing of this app. A private show's have a token of one's own in them. */
    listenAddresses: (id: string, auth?: RequestOptions["auth"]) =>
      request<Schemas["ListenAddresses"]>(`/api/broadcasts/${at(id)}/listen`, {
        method: "POST",
        ...(auth ? { auth } : {}),
      }),
    giveRole: (id: string, userId: string, role: Schemas["NewRole"]["role"]) =>
      request<void>(`/api/broadcasts/${at(id)}/roles/${at(userId)}`, {
        method: "PUT",
        body: { role },
      }),
    takeRole: (id: string, userId: string) =>
      request<void>(`/api/broadcasts/${at(id)}/roles/${at(userId)}`, { method: "DELETE" }),
    bans: (id: string, cursor?: string, signal?: AbortSignal) =>
      request<Page<Ban>>(`/api/broadcasts/${at(id)}/bans`, {
        query: { limit: 50, cursor },
        ...(signal ? { signal } : {}),
      }),
    liftBan: (id: string, userId: string) =>
      request<void>(`/api/broadcasts/${at(id)}/bans/${at(userId)}`, { method: "DELETE" }),
    audit: (id: string, cursor?: string, signal?: AbortSignal) =>
      request<Page<AuditEntry>>(`/api/broadcasts/${at(id)}/audit`, {
        query: { limit: 50, cursor },
        ...(signal ? { signal } : {}),
      }),
    recordings: (query: { broadcastId?: string; hostId?: string }, auth?: RequestOptions["auth"]) =>
      request<Page<Recording>>("/api/recordings", {
        query: { ...query, limit: 100 },
        ...(auth ? { auth } : {}),
      }),
    /** A show that is recorded already goes on being recorded. */
    startRecording: (broadcastId: string) =>
      request<Recording>(`/api/broadcasts/${at(broadcastId)}/record/start`, { method: "POST" }),
    stopRecording: (broadcastId: string) =>
      request<Recording>(`/api/broadcasts/${at(broadcastId)}/record/stop`, { method: "POST" }),
    markChapter: (broadcastId: string, title: string) =>
      request<Chapter>(`/api/broadcasts/${at(broadcastId)}/record/chapters`, {
        method: "POST",
        body: { title },
      }),
    deleteRecording: (id: string) =>
      request<void>(`/api/recordings/${at(id)}`, { method: "DELETE" }),
    chapters: (recordingId: string, auth?: RequestOptions["auth"]) =>
      request<{ chapters: Chapter[] }>(
        `/api/recordings/${at(recordingId)}/chapters`,
        auth ? { auth } : {},
      ),
    /** `analysis_pending` (status 409) shortly after the show. */
    peaks: (recordingId: string, auth?: RequestOptions["auth"]) =>
      request<Peaks>(`/api/recordings/${at(recordingId)}/peaks`, auth ? { auth } : {}),
    recordingChat: (recordingId: string, cursor?: string, auth?: RequestOptions["auth"]) =>
      request<Page<Said>>(`/api/recordings/${at(recordingId)}/messages`, {
        query: { limit: 100, cursor },
        ...(auth ? { auth } : {}),
      }),
    exports: (recordingId: string, auth?: RequestOptions["auth"]) =>
      request<{ items: RecordingExport[] }>(
        `/api/recordings/${at(recordingId)}/exports`,
        auth ? { auth } : {},
      ),
    requestExport: (recordingId: string, format: ExportFormat) =>
      request<RecordingExport>(`/api/recordings/${at(recordingId)}/exports`, {
        method: "POST",
        body: { format },
      }),
    /** A file's bytes, for shows whose files an address alone does not open. */
    file: (path: string, auth?: RequestOptions["auth"], signal?: AbortSignal) =>
      request<Blob>(path, {
        answer: "blob",
        ...(auth ? { auth } : {}),
        ...(signal ? { signal } : {}),
      }),
    profile: (id: string) => request<Profile>(`/api/users/${at(id)}`),
    follow: (id: string) => request<void>(`/api/users/${at(id)}/follow`, { method: "PUT" }),
    unfollow: (id: string) => request<void>(`/api/users/${at(id)}/follow`, { method: "DELETE" }),
  };
}

export type Api = ReturnType<typeof createApi>;
export type AuthApi = ReturnType<typeof createAuthApi>;
