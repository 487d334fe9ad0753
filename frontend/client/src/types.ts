/** What the server sends and takes, as JSON. Times are RFC 3339 UTC strings, ids are opaque. */

import type { components } from "./schema";

/** What the REST API sends and takes is generated from its own description: see `make types`. */
type Schemas = components["schemas"];

export type BroadcastStatus = Schemas["BroadcastStatus"];
export type Visibility = Schemas["Visibility"];
export type Role = Schemas["Role"];
export type ChatMode = "open" | "followers" | "closed";
export type InviteOutcome = "accepted" | "declined" | "withdrawn";

/** Somebody's own account. */
export type User = Schemas["OwnUser"];
/** `expiresIn`: seconds for which the access token is good. */
export type SignedIn = Schemas["SignedInAnswer"];
/** `yourRole` is null for people without an account; `streamKey` only for those who may publish the whole show. */
export type Broadcast = Schemas["BroadcastAnswer"];
export type NewBroadcast = Schemas["NewBroadcast"];
export type BroadcastChanges = Schemas["BroadcastChanges"];
/** `displayName` is null for guests, `until` for a ban that does not end by itself. */
export type Ban = Schemas["BanAnswer"];
/** `durationS` and `sizeBytes` are null until they are known. */
export type Recording = Schemas["RecordingAnswer"];
/** A copy of a recording in another format; `url` once it is ready. */
export type RecordingExport = Schemas["ExportAnswer"];
export type ExportFormat = RecordingExport["format"];
/** `startS` counts from the beginning of the recording. */
export type Chapter = Schemas["ChapterAnswer"];
/** A line of the chat at its moment of a recording. */
export type Said = Schemas["SaidAnswer"];
/** The waveform: the lowest and the highest sample of each pixel in turn, from -127 to 127. */
export type Peaks = Schemas["Peaks"];
/** What a show's recorder does: "interrupted" means that it should, and cannot just now. */
export type RecorderState = "off" | "recording" | "interrupted";
export type BroadcastPage = Schemas["BroadcastPage"];
export type MessagePage = Schemas["MessagePage"];

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

/** What somebody did in a show, as `GET /api/broadcasts/:id/audit` answers it. */
export interface AuditEntry {
  id: string;
  at: string;
  /** Null for what the server did by itself. */
  actorId: string | null;
  action: string;
  broadcastId: string | null;
  targetId: string | null;
  detail: Record<string, unknown>;
}

export interface Profile {
  id: string;
  displayName: string;
  createdAt: string;
  followers: number;
  following: number;
  /** The caller follows this person. */
  followed: boolean;
}

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

/** `level` in dBov: 0 is full scale, -50 barely audible. */
export interface Speaking {
  userId: string;
  level: number;
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
  slowModeS: number;
  chatMode: ChatMode;
  locked: boolean;
  recording: RecorderState;
  /** An invitation to speak waits for an answer. */
  invited: boolean;
  /** After `join {since}`: more was written since than is sent, or `since` is not known. */
  messagesMissed: boolean;
  /** After `join {since}`: messages that were deleted lately. */
  deletedMessages: string[];
  /** While the show is on air. */
  hls?: Schemas["HlsAddress"] | null;
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
  handMoved: { userId: string; position: number };
  /** One's own hand. */
  handPosition: { position: number };
  invitedToSpeak: { byUserId: string };
  inviteEnded: { userId: string; outcome: InviteOutcome };
  messageDeleted: { id: string };
  messagesCleared: { userId: string };
  slowMode: { seconds: number };
  chatMode: { mode: ChatMode };
  roomLocked: { locked: boolean };
  muted: { userId: string };
  unmuted: { userId: string };
  /** `until` null: for good. */
  removed: { reason?: string | null; banned?: boolean; until?: string | null };
  listenerCount: { count: number };
  activeSpeakers: { producers: ProducerInfo[]; speaking: Speaking[] };
  recording: { state: RecorderState };
  broadcastStarted: { startedAt: string };
  broadcastEnded: { endedAt: string; reason: string };
  hostAway: { until: string };
  hostBack: Record<string, never>;
  /** There is room for us by WebRTC again. */
  listenVia: { via: string };
  reconnect: { afterMs: number };
  stats: RoomStats;
}

export type ServerEventName = keyof ServerEvents;
export type ServerEvent = {
  [Name in ServerEventName]: { event: Name; data: ServerEvents[Name] };
}[ServerEventName];

/** Client to server, by event name. */
export interface Commands {
  /** `since`: the last message that one has. */
  join: { broadcastId: string; token?: string; name?: string; since?: string };
  leave: Record<string, never>;
  chatMessage: { text: string };
  reaction: { emoji: string };
  raiseHand: { note?: string };
  lowerHand: { userId?: string };
  mute: { userId: string };
  unmute: { userId: string };
  remove: { userId: string; reason?: string; ban?: boolean; until?: string };
  moveHand: { userId: string; position: number };
  muteAll: Record<string, never>;
  inviteToSpeak: { userId: string };
  acceptInvite: Record<string, never>;
  declineInvite: Record<string, never>;
  moveToAudience: { userId: string };
  deleteMessage: { messageId: string };
  clearMessages: { userId: string };
  slowMode: { seconds: number };
  chatMode: { mode: ChatMode };
  lockRoom: { locked: boolean };
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
export const REASON_MAX = 300;

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

/** May this role be heard, once they are on the stage? */
export function maySpeak(role: Role | null | undefined): boolean {
  return role === "speaker" || mayHost(role);
}

/** Is this somebody whom `role` may mute, remove, take off the stage? Equals may; nobody a stronger role. */
export function mayActOn(role: Role | null | undefined, other: Role): boolean {
  return role != null && mayModerate(role) && STRENGTH[role] >= STRENGTH[other];
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
