import type { KeyValueStore } from "../platform";
import type { Removal } from "./reducer";

const NAME_KEY = "lac.guest-name";
const removedKey = (id: string) => `lac.removed.${id}`;
const guestKey = (id: string) => `lac.guest.${id}`;
const inviteKey = (id: string) => `lac.invite.${id}`;

/**
 * What a device remembers for whoever comes into a room without an account: their name, the guest's token and the link that
 * they came by; and for everybody why they were removed. Storage may be refused (private windows): then it is remembered
 * as long as the page is open, and nothing breaks.
 */
export class RoomMemory {
  #storage: KeyValueStore;
  #id: string;
  #name: string | null = null;
  #token: string | null = null;
  #invite: string | null = null;

  constructor(storage: KeyValueStore, id: string) {
    this.#storage = storage;
    this.#id = id;
  }

  get name(): string | null {
    return this.#name;
  }

  get token(): string | null {
    return this.#token;
  }

  get invite(): string | null {
    return this.#invite;
  }

  /** Recall all of it. `invite`: from the link that led here, remembered in place of an older one. */
  async restore(invite: string | null): Promise<void> {
    this.#invite = invite ?? this.#invite;
    this.#name = (await this.#get(NAME_KEY)) ?? null;
    this.#token = (await this.#get(guestKey(this.#id))) || null;
    if (this.#invite !== null) await this.#set(inviteKey(this.#id), this.#invite);
    else this.#invite = (await this.#get(inviteKey(this.#id))) || null;
  }

  keepName(name: string): void {
    this.#name = name;
    void this.#set(NAME_KEY, name);
  }

  keepToken(token: string): void {
    this.#token = token;
    void this.#set(guestKey(this.#id), token);
  }

  /** It does not hold, or is not needed, until the room is opened again. */
  dropToken(): void {
    this.#token = null;
  }

  /** It does not hold any more. */
  forgetInvite(): void {
    this.#invite = null;
    void this.#remove(inviteKey(this.#id));
  }

  keepRemoval(removal: Removal | null): void {
    void this.#set(removedKey(this.#id), JSON.stringify(removal));
  }

  forgetRemoval(): void {
    void this.#remove(removedKey(this.#id));
  }

  async recallRemoval(): Promise<Removal | null> {
    return parseRemoval((await this.#get(removedKey(this.#id))) ?? null);
  }

  #get(key: string): Promise<string | null | undefined> {
    return attempt(() => this.#storage.get(key));
  }

  #set(key: string, value: string): Promise<void> {
    return attempt(() => this.#storage.set(key, value));
  }

  #remove(key: string): Promise<void> {
    return attempt(() => this.#storage.remove(key));
  }
}

function parseRemoval(text: string | null): Removal | null {
  if (!text) return null;
  try {
    const { reason, banned, until } = JSON.parse(text);
    return {
      reason: typeof reason === "string" ? reason : null,
      banned: banned === true,
      until: typeof until === "string" ? until : null,
    };
  } catch {
    return null;
  }
}

async function attempt<T>(work: () => T | Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch {
    return undefined;
  }
}
