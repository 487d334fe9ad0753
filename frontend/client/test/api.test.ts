import { describe, expect, it, vi } from "vitest";
import {
  ApiError,
  createApi,
  createAuthApi,
  createRequest,
  idempotencyKey,
} from "../src/services/api";
import { createAuth } from "../src/stores/auth";
import { broadcast, type Call, fakeFetch, memoryStorage, user } from "./fakes";

const problem = (status: number, code: string, more: object = {}) => ({
  status,
  body: { type: "about:blank", title: "No", status, detail: `Because ${code}.`, code, ...more },
});

const tokens = (number: number) => ({
  user,
  accessToken: `access-${number}`,
  refreshToken: `refresh-${number}`,
  expiresIn: 900,
});

/** A server with one account. Access tokens before `current` are refused; refresh tokens work once. */
function server({
  current = 1,
  refresh,
}: {
  current?: number;
  refresh?: () => Error | object;
} = {}) {
  let issued = current;
  return fakeFetch(async (call: Call) => {
    if (call.path === "/api/auth/login") return { body: tokens(issued) };
    if (call.path === "/api/auth/logout") return { status: 204 };
    if (call.path === "/api/auth/refresh") {
      await Promise.resolve();
      const special = refresh?.();
      if (special) return special as Error;
      const { refreshToken } = call.body as { refreshToken: string };
      if (refreshToken !== `refresh-${issued}`) return problem(401, "token_invalid");
      issued += 1;
      return { body: tokens(issued) };
    }
    if (call.bearer !== null && call.bearer !== `access-${issued}`) {
      return problem(401, "token_expired");
    }
    return { body: { items: [], nextCursor: null, seen: call.bearer } };
  });
}

function client({ fetch }: ReturnType<typeof fakeFetch>, memory = memoryStorage()) {
  const auth = createAuth(
    { storage: memory.storage },
    createAuthApi(createRequest({ baseUrl: "http://server", fetch })),
  );
  const api = createApi(createRequest({ baseUrl: "http://server", fetch, tokens: auth }));
  return { auth, api, memory };
}

const storedSession = (number: number, expiresInMs = 900_000) => ({
  "lac.session": JSON.stringify({
    user,
    accessToken: `access-${number}`,
    refreshToken: `refresh-${number}`,
    expiresAt: Date.now() + expiresInMs,
  }),
});

describe("errors", () => {
  const request = (answer: Parameters<typeof fakeFetch>[0]) =>
    createRequest({ baseUrl: "http://server", fetch: fakeFetch(answer).fetch });

  it("carry code, sentence and fields of a problem document", async () => {
    const errors = [
      { field: "title", message: "is empty" },
      { field: "title", message: "second" },
    ];
    const call = request(() => problem(422, "invalid_input", { errors }))("/api/x");
    await expect(call).rejects.toMatchObject({
      name: "ApiError",
      status: 422,
      code: "invalid_input",
      message: "Because invalid_input.",
      fields: { title: "is empty" },
      passing: false,
    });
  });

  it("say something useful when a proxy answers with a page of its own", async () => {
    const fetch = async () => new Response("<html>Bad gateway</html>", { status: 502 });
    const call = createRequest({ baseUrl: "http://server", fetch })("/api/x");
    await expect(call).rejects.toMatchObject({ status: 502, code: "http_502", passing: true });
    await expect(call).rejects.toThrow(/Try again/);
  });

  it("keep how long to wait", async () => {
    const answer = { ...problem(429, "too_many_requests"), headers: { "Retry-After": "7" } };
    await expect(request(() => answer)("/api/x")).rejects.toMatchObject({ retryAfterMs: 7000 });
  });

  it("turn a dead connection into one code", async () => {
    const call = request(() => new TypeError("Failed to fetch"))("/api/x");
    await expect(call).rejects.toMatchObject({ status: 0, code: "network", passing: true });
  });

  it("give up on a server that does not answer", async () => {
    vi.useFakeTimers();
    const fetch = (_url: string, init?: RequestInit) =>
      new Promise<Response>((_resolve, reject) => {
        init?.signal?.addEventListener("abort", () => reject(new Error("aborted")));
      });
    const call = createRequest({ baseUrl: "http://server", fetch })("/api/x");
    const outcome = expect(call).rejects.toMatchObject({ code: "network" });
    await vi.advanceTimersByTimeAsync(15_000);
    await outcome;
    vi.useRealTimers();
  });
});

describe("the session", () => {
  it("is renewed once however many calls find the token refused, and they are repeated", async () => {
    const fake = fakeFetch(async (call) => {
      if (call.path === "/api/auth/refresh") return { body: tokens(2) };
      if (call.bearer !== "access-2") return problem(401, "token_expired");
      return { body: { items: [], nextCursor: null } };
    });
    const { auth, api } = client(fake, memoryStorage(storedSession(1)));
    await auth.restore();
    await Promise.all([api.listBroadcasts(), api.me(), api.listBroadcasts({ status: "live" })]);
    expect(fake.calls.filter((call) => call.path === "/api/auth/refresh")).toHaveLength(1);
    expect(fake.calls.filter((call) => call.bearer === "access-2")).toHaveLength(3);
  });

  it("asks for one new pair for three calls at once", async () => {
    const fake = server();
    const { auth, api, memory } = client(fake, memoryStorage(storedSession(1, 5_000)));
    await auth.restore();
    await Promise.all([api.listBroadcasts(), api.listBroadcasts(), api.listBroadcasts()]);
    expect(fake.calls.filter((call) => call.path === "/api/auth/refresh")).toHaveLength(1);
    expect(fake.calls.filter((call) => call.bearer === "access-2")).toHaveLength(3);
    expect(memory.values.get("lac.session")).toContain("refresh-2");
  });

  it("takes the pair that another tab has got meanwhile, and leaves the used one alone", async () => {
    const fake = server({ current: 2 });
    const memory = memoryStorage(storedSession(1, 5_000));
    const { auth, api } = client(fake, memory);
    await auth.restore();
    memory.values.set("lac.session", storedSession(2)["lac.session"]);
    await api.listBroadcasts();
    expect(fake.calls.map((call) => [call.path, call.bearer])).toEqual([
      ["/api/broadcasts", "access-2"],
    ]);
  });

  it("ends when the server refuses to renew it, and the call goes on as nobody", async () => {
    const fake = server({ refresh: () => problem(401, "token_invalid") });
    const { auth, api, memory } = client(fake, memoryStorage(storedSession(1, 5_000)));
    await auth.restore();
    await expect(api.listBroadcasts()).resolves.toMatchObject({ seen: null });
    expect(auth.store.getState()).toEqual({ user: null, expired: true });
    expect(memory.values.has("lac.session")).toBe(false);
  });

  it("survives a server that is away while it should be renewed", async () => {
    const fake = server({ refresh: () => new TypeError("Failed to fetch") });
    const { auth, api, memory } = client(fake, memoryStorage(storedSession(1, 5_000)));
    await auth.restore();
    await expect(api.listBroadcasts()).rejects.toMatchObject({ code: "network" });
    expect(auth.store.getState().user).toEqual(user);
    expect(memory.values.has("lac.session")).toBe(true);
  });

  it("is not asked for by calls with a token of their own", async () => {
    const fake = server({ current: 1 });
    const { auth, api } = client(fake, memoryStorage(storedSession(1)));
    await auth.restore();
    const call = api.request("/api/mediasoup/x", { auth: { bearer: "guest" } });
    await expect(call).rejects.toBeInstanceOf(ApiError);
    expect(fake.calls.map((call) => call.bearer)).toEqual(["guest"]);
  });

  it("is gone after signing out, even when the server cannot be told", async () => {
    const fake = fakeFetch(() => new TypeError("Failed to fetch"));
    const { auth, memory } = client(fake, memoryStorage(storedSession(1)));
    await auth.restore();
    await auth.logout();
    expect(auth.store.getState()).toEqual({ user: null, expired: false });
    expect(memory.values.has("lac.session")).toBe(false);
  });

  it("begins empty when what was stored cannot be read", async () => {
    const { auth } = client(server(), memoryStorage({ "lac.session": '{"user":1' }));
    await auth.restore();
    expect(auth.store.getState().user).toBeNull();
  });
});

describe("what may be sent twice, and what may not", () => {
  const api = (answer: Parameters<typeof fakeFetch>[0]) => {
    const { fetch, calls } = fakeFetch(answer);
    return { calls, api: createApi(createRequest({ baseUrl: "http://server", fetch })) };
  };

  it("makes one show although the first answer was lost", async () => {
    vi.useFakeTimers();
    const lost = [new TypeError("Failed to fetch")];
    const { api: given, calls } = api(() => lost.pop() ?? { status: 201, body: broadcast() });
    const created = given.createBroadcast({ title: "Morning" });
    await vi.runAllTimersAsync();
    await expect(created).resolves.toMatchObject({ id: "b1" });
    vi.useRealTimers();
    const keys = calls.map((call) => call.headers["Idempotency-Key"]);
    expect(keys).toHaveLength(2);
    expect(keys[0]).toBeTruthy();
    expect(keys[1]).toBe(keys[0]);
  });

  it("does not repeat what was refused", async () => {
    const { api: given, calls } = api(() => problem(422, "invalid_input"));
    await expect(given.createBroadcast({ title: "" })).rejects.toMatchObject({ status: 422 });
    expect(calls).toHaveLength(1);
  });

  it("names each show anew, in what a header may carry", () => {
    const keys = Array.from({ length: 100 }, () => idempotencyKey());
    expect(new Set(keys).size).toBe(100);
    for (const key of keys) expect(key).toMatch(/^[\w-]{10,64}$/);
  });

  it("changes a show only as it was seen", async () => {
    const { api: given, calls } = api((call) =>
      call.method === "GET"
        ? { body: broadcast(), headers: { ETag: '"one"' } }
        : { body: broadcast({ title: "Noon" }), headers: { ETag: '"two"' } },
    );
    const { tag } = await given.seeBroadcast("b1");
    expect(tag).toBe('"one"');
    const changed = await given.updateBroadcast("b1", { title: "Noon" }, tag);
    expect(changed).toMatchObject({ broadcast: { title: "Noon" }, tag: '"two"' });
    expect(calls[1]).toMatchObject({ method: "PATCH", headers: { "If-Match": '"one"' } });
  });
});
