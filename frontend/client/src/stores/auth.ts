import { createStore, type StoreApi } from "zustand/vanilla";
import type { KeyValueStore, Platform } from "../platform";
import { ApiError, type AuthApi, type TokenSource } from "../services/api";
import type { SignedIn, User } from "../types";

const STORAGE_KEY = "lac.session";
/** Renewed this long before it ends, so that no call starts with a token that dies on the way. */
const MARGIN_MS = 30_000;

interface Session {
  user: User;
  accessToken: string;
  refreshToken: string;
  expiresAt: number;
}

export interface AuthState {
  user: User | null;
  /** The session ended without the person asking for it: say so on the sign-in page. */
  expired: boolean;
}

export interface Auth extends TokenSource {
  store: StoreApi<AuthState>;
  /** Take up the stored session. Call once before the first page. */
  restore(): Promise<void>;
  login(email: string, password: string): Promise<void>;
  register(email: string, password: string, displayName: string): Promise<void>;
  setup(token: string, email: string, password: string, displayName: string): Promise<void>;
  logout(): Promise<void>;
  /** The server has ended this session already: drop what is kept of it. */
  forget(): Promise<void>;
  /** News of the person who is signed in; of anybody else it is ignored. */
  setUser(user: User): Promise<void>;
}

export function createAuth(
  platform: Pick<Platform, "storage" | "exclusively">,
  authApi: AuthApi,
): Auth {
  const store = createStore<AuthState>(() => ({ user: null, expired: false }));
  const exclusively = platform.exclusively ?? ((_name, work) => work());
  let session: Session | null = null;
  let refreshing: Promise<string | null> | null = null;

  async function keep(next: Session | null, expired = false): Promise<void> {
    session = next;
    store.setState({ user: next?.user ?? null, expired });
    await write(platform.storage, next);
  }

  async function accept(answer: SignedIn): Promise<void> {
    await keep({
      user: answer.user,
      accessToken: answer.accessToken,
      refreshToken: answer.refreshToken,
      expiresAt: Date.now() + answer.expiresIn * 1000,
    });
  }

  /** What another tab may have written since. */
  async function adopt(): Promise<boolean> {
    const stored = await read(platform.storage);
    if (stored === null || stored.refreshToken === session?.refreshToken) return false;
    session = stored;
    store.setState({ user: stored.user, expired: false });
    return true;
  }

  async function refreshOnce(): Promise<string | null> {
    return exclusively("lac.refresh", async () => {
      if (await adopt()) return session?.accessToken ?? null;
      if (!session) return null;
      try {
        await accept(await authApi.refresh(session.refreshToken));
      } catch (error) {
        if (!(error instanceof ApiError) || error.passing) throw error;
        // Refused: over, unless another tab was quicker than we were.
        if (!(await adopt())) await keep(null, true);
      }
      return session?.accessToken ?? null;
    });
  }

  function refresh(): Promise<string | null> {
    refreshing ??= refreshOnce().finally(() => {
      refreshing = null;
    });
    return refreshing;
  }

  return {
    store,
    async restore() {
      session = await read(platform.storage);
      store.setState({ user: session?.user ?? null, expired: false });
    },
    async accessToken() {
      if (!session) return null;
      if (session.expiresAt - Date.now() > MARGIN_MS) return session.accessToken;
      return refresh();
    },
    async renew(stale) {
      if (!session) return null;
      if (session.accessToken !== stale) return session.accessToken;
      return refresh();
    },
    async login(email, password) {
      await accept(await authApi.login({ email, password }));
    },
    async register(email, password, displayName) {
      await accept(await authApi.register({ email, password, displayName }));
    },
    async setup(token, email, password, displayName) {
      await accept(await authApi.setup({ token, email, password, displayName }));
    },
    async logout() {
      const ending = session;
      await keep(null);
      // Signed out here in any case; without an answer the token just ends later.
      if (ending) await authApi.logout(ending.refreshToken).catch(() => undefined);
    },
    async forget() {
      await keep(null);
    },
    async setUser(user) {
      if (session?.user.id === user.id) await keep({ ...session, user });
    },
  };
}

async function read(storage: KeyValueStore): Promise<Session | null> {
  try {
    const stored = JSON.parse((await storage.get(STORAGE_KEY)) ?? "null") as Session | null;
    const whole =
      typeof stored?.refreshToken === "string" &&
      typeof stored.accessToken === "string" &&
      typeof stored.expiresAt === "number" &&
      typeof stored.user?.id === "string";
    return whole ? stored : null;
  } catch {
    return null;
  }
}

async function write(storage: KeyValueStore, session: Session | null): Promise<void> {
  try {
    if (session) await storage.set(STORAGE_KEY, JSON.stringify(session));
    else await storage.remove(STORAGE_KEY);
  } catch {
    // Private windows may refuse: signed in until the page closes, then.
  }
}
