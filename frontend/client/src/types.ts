/** What the server sends and takes, as JSON. Times are RFC 3339 UTC strings, ids are opaque. */

export type BroadcastStatus = "scheduled" | "live" | "ended";
export type Visibility = "public" | "unlisted" | "private";
export type Role = "admin" | "host" | "cohost" | "moderator" | "speaker" | "listener";

export interface User {
  id: string;
  /** Only in one's own record. */
  email?: string;
  displayName: string;
  /** Only in one's own record; sessions kept by older versions lack it. */
  emailVerified?: boolean;
  isAdmin: boolean;
  createdAt: string;
}

export interface SignedIn {
  user: User;
  accessToken: string;
  refreshToken: string;
  /** Seconds for which the access token is good. */
  expiresIn: number;
}

export interface Broadcast {
  id: string;
  title: string;
  description: string;
  status: BroadcastStatus;
  visibility: Visibility;
  tags: string[];
  scheduledAt: string | null;
  startedAt: string | null;
  endedAt: string | null;
  recordingEnabled: boolean;
  host: { id: string; displayName: string };
  listenerCount: number;
  createdAt: string;
  updatedAt: string;
  /** Null for people without an account. */
  yourRole: Role | null;
  /** Only for those who may publish the whole show. */
  streamKey?: string;
}

export interface NewBroadcast {
  title: string;
  description?: string;
  scheduledAt?: string;
  visibility?: Visibility;
  tags?: string[];
}

export interface Page<T> {
  items: T[];
  nextCursor: string | null;
}

export interface Person {
  id: string;
  displayName: string;
  role: Role;
  anonymous: boolean;
  muted: boolean;
  /** This person's audio is reaching the programme. */
  speaking: boolean;
}

export interface Hand {
  userId: string;
  displayName: string;
  note: string | null;
  raisedAt: string;
}

export interface ChatMessage {
  id: string;
  user: Person;
  text: string;
  mediaTime: number;
  at: string;
}

/** A message as `GET /api/broadcasts/:id/messages` answers it. */
export type StoredMessage = Omit<ChatMessage, "user"> & {
  user: { id: string; displayName: string };
};

export interface ProducerInfo {
  id: string;
  userId: string;
}

export interface You {
  id: string;
  displayName: string;
  role: Role;
  anonymous: boolean;
  /** Guests present this as Bearer on the media calls of this broadcast, and when they come back. */
  token: string | null;
}

export interface Joined {
  you: You;
  broadcast: Broadcast;
  role: Role;
  members: Person[];
  memberCount: number;
  listenerCount: number;
  hands: Hand[];
  producers: ProducerInfo[];
  recentMessages: ChatMessage[];
  mediaTime: number;
  hostAway: boolean;
  /** When the show ends unless the host comes back; only while `hostAway`. */
  hostAwayUntil?: string | null;
  announcesEveryone: boolean;
}

export interface RoomStats {
  listeners: number;
  sockets: number;
  packetsIn: number;
  packetsLostIn: number;
  worstLoss: number | null;
  weakListeners: number;
  roundTripMs: number | null;
}

/** Server to client, by event name. */
export interface ServerEvents {
  joined: Joined;
  userJoined: { user: Person };
  userLeft: { userId: string };
  roomSize: { announcesEveryone: boolean; memberCount: number };
  roleChanged: { user: Person };
  chatMessage: ChatMessage;
  reaction: { counts: Record<string, number>; mediaTime: number };
  handRaised: Hand & { position: number };
  handLowered: { userId: string };
  muted: { userId: string };
  unmuted: { userId: string };
  removed: { reason: string | null };
  listenerCount: { count: number };
  activeSpeakers: { producers: ProducerInfo[] };
  broadcastStarted: { startedAt: string };
  broadcastEnded: { endedAt: string; reason: string };
  hostAway: { until: string };
  hostBack: Record<string, never>;
  reconnect: { afterMs: number };
  stats: RoomStats;
}

export type ServerEventName = keyof ServerEvents;
export type ServerEvent = {
  [Name in ServerEventName]: { event: Name; data: ServerEvents[Name] };
}[ServerEventName];

/** Client to server, by event name. */
export interface Commands {
  join: { broadcastId: string; token?: string; name?: string };
  leave: Record<string, never>;
  chatMessage: { text: string };
  reaction: { emoji: string };
  raiseHand: { note?: string };
  lowerHand: { userId?: string };
  mute: { userId: string };
  unmute: { userId: string };
  remove: { userId: string; reason?: string; ban?: boolean };
  listMembers: { cursor?: string };
}

export type CommandName = keyof Commands;

/** What the server takes as `reaction`. */
export const REACTIONS = [
  "👍",
  "❤️",
  "😂",
  "👏",
  "🔥",
  "🎉",
  "😮",
  "😢",
  "🤔",
  "🙏",
  "💯",
  "👀",
] as const;

export const CHAT_TEXT_MAX = 2_000;
export const NAME_MAX = 64;
/** Characters, after NFKC: as the server counts. */
export const PASSWORD_MIN = 10;
export const NOTE_MAX = 200;

const STRENGTH: Record<Role, number> = {
  admin: 5,
  host: 4,
  cohost: 3,
  moderator: 2,
  speaker: 1,
  listener: 0,
};

/** May this role mute and remove people? The server decides; this only chooses what to show. */
export function mayModerate(role: Role | null | undefined): boolean {
  return role != null && STRENGTH[role] >= STRENGTH.moderator;
}

/** May this role run the show: go on air, end it? */
export function mayHost(role: Role | null | undefined): boolean {
  return role != null && STRENGTH[role] >= STRENGTH.cohost;
}

/** Strongest first, then by name: the order in which people are listed. */
export function comparePeople(a: Person, b: Person): number {
  return STRENGTH[b.role] - STRENGTH[a.role] || a.displayName.localeCompare(b.displayName);
}

/** What is wrong with a password that somebody chooses, before the server says so. */
export function newPasswordProblem(password: string): string | undefined {
  if (password === "") return "Write the new password.";
  if ([...password.normalize("NFKC")].length >= PASSWORD_MIN) return undefined;
  return `Use at least ${PASSWORD_MIN} characters. A few words in a row are good.`;
}
