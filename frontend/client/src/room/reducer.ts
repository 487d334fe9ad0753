import type {
  Broadcast,
  ChatMessage,
  ChatMode,
  Hand,
  InviteOutcome,
  Joined,
  Person,
  ProducerInfo,
  RecorderState,
  RoomStats,
  ServerEvent,
  Speaking,
  You,
} from "../types";

/** What one knows of a room from its events. Plain data; every change makes a new object. */
export interface RoomState {
  broadcast: Broadcast | null;
  you: You | null;
  members: Readonly<Record<string, Person>>;
  memberCount: number;
  listenerCount: number;
  /** False in large rooms: listeners then come and go without being named. */
  announcesEveryone: boolean;
  /** The next in the queue first. */
  hands: readonly Hand[];
  /** Who is on the stage. */
  producers: readonly ProducerInfo[];
  /** Who of them is speaking just now, the loudest first. */
  speaking: readonly Speaking[];
  /** Oldest first, the last `MESSAGES_KEPT`. */
  messages: readonly ChatMessage[];
  hostAway: { until: string | null } | null;
  ended: { reason: string } | null;
  removed: Removal | null;
  /** Seconds between two messages of everyone but moderators; 0: no slow mode. */
  slowModeS: number;
  chatMode: ChatMode;
  /** Nobody new comes in. */
  locked: boolean;
  recording: RecorderState;
  /** We are invited to speak, and have not answered. */
  invited: boolean;
  /** The invitation that ended last: our own, or for moderators anybody's. `seq` tells two equal ones apart. */
  inviteEnded: { seq: number; userId: string; outcome: InviteOutcome } | null;
  /** Messages are missing before the one with this id. */
  gapBefore: string | null;
  /** How many of our own messages a moderator has taken down. */
  ownDeleted: number;
  /** Names of everyone seen so far, also of those who have left. */
  names: Readonly<Record<string, string>>;
  stats: RoomStats | null;
  /** The latest merged reactions; `seq` tells two equal bursts apart. */
  reactions: { seq: number; counts: Readonly<Record<string, number>> };
  /** Where to listen by HLS, as far as the room has said. */
  hls: Joined["hls"] | null;
  /** How often the server has said that there is room for us by WebRTC. */
  webRtcOffers: number;
}

export interface Removal {
  reason: string | null;
  banned: boolean;
  /** When a ban ends; null: it does not. */
  until: string | null;
}

export const MESSAGES_KEPT = 300;

export const emptyRoom: RoomState = {
  broadcast: null,
  you: null,
  members: {},
  memberCount: 0,
  listenerCount: 0,
  announcesEveryone: true,
  hands: [],
  producers: [],
  speaking: [],
  messages: [],
  hostAway: null,
  ended: null,
  removed: null,
  slowModeS: 0,
  chatMode: "open",
  locked: false,
  recording: "off",
  invited: false,
  inviteEnded: null,
  gapBefore: null,
  ownDeleted: 0,
  names: {},
  stats: null,
  reactions: { seq: 0, counts: {} },
  hls: null,
  webRtcOffers: 0,
};

export function reduceRoom(state: RoomState, event: ServerEvent): RoomState {
  return withNames(reduce(state, event), event);
}

function reduce(state: RoomState, { event, data }: ServerEvent): RoomState {
  switch (event) {
    case "joined":
      return {
        ...state,
        // The stream key comes with a REST answer only.
        broadcast: {
          ...state.broadcast,
          ...data.broadcast,
          yourRole: data.you.anonymous ? null : data.role,
        },
        you: data.you,
        members: Object.fromEntries(data.members.map((person) => [person.id, person])),
        memberCount: data.memberCount,
        listenerCount: data.listenerCount,
        announcesEveryone: data.announcesEveryone,
        hands: data.hands,
        producers: data.producers,
        speaking: [],
        ...resumed(state, data),
        slowModeS: data.slowModeS ?? 0,
        chatMode: data.chatMode ?? "open",
        locked: data.locked ?? false,
        recording: data.recording ?? "off",
        invited: data.invited ?? false,
        hostAway: data.hostAway
          ? { until: data.hostAwayUntil ?? state.hostAway?.until ?? null }
          : null,
        ended: data.broadcast.status === "ended" ? (state.ended ?? { reason: "" }) : null,
        removed: null,
        hls: data.hls ?? null,
      };
    case "userJoined":
      if (state.members[data.user.id]) return withMember(state, data.user.id, data.user);
      return {
        ...state,
        members: { ...state.members, [data.user.id]: data.user },
        memberCount: state.memberCount + 1,
      };
    case "userLeft": {
      if (!state.members[data.userId]) return state;
      const { [data.userId]: _gone, ...members } = state.members;
      return {
        ...state,
        members,
        memberCount: Math.max(0, state.memberCount - 1),
        hands: state.hands.filter((hand) => hand.userId !== data.userId),
      };
    }
    case "roomSize": {
      const { announcesEveryone, memberCount } = data;
      if (announcesEveryone) return { ...state, announcesEveryone, memberCount };
      // Listeners leave unannounced from now on: those shown would be shown for ever.
      const members = Object.fromEntries(
        Object.entries(state.members).filter(([, person]) => person.role !== "listener"),
      );
      return { ...state, announcesEveryone, memberCount, members };
    }
    case "roleChanged": {
      const next = withMember(state, data.user.id, data.user);
      if (state.you?.id !== data.user.id) return next;
      const { role } = data.user;
      const { you } = state;
      return {
        ...(you.anonymous ? next : withBroadcast(next, { yourRole: role })),
        you: { ...you, role },
      };
    }
    case "chatMessage":
      return { ...state, messages: mergeMessages(state.messages, [data]) };
    case "reaction":
      return { ...state, reactions: { seq: state.reactions.seq + 1, counts: data.counts } };
    case "handRaised": {
      const { position, ...hand } = data;
      const others = state.hands.filter((other) => other.userId !== hand.userId);
      const index = Math.min(Math.max(position - 1, 0), others.length);
      return { ...state, hands: others.toSpliced(index, 0, hand) };
    }
    case "handLowered":
      return { ...state, hands: state.hands.filter((hand) => hand.userId !== data.userId) };
    case "handMoved":
      return { ...state, hands: moveHand(state.hands, data.userId, data.position) };
    case "handPosition":
      if (!state.you) return state;
      return { ...state, hands: moveHand(state.hands, state.you.id, data.position) };
    case "invitedToSpeak":
      return { ...state, invited: true };
    case "inviteEnded":
      return {
        ...state,
        invited: state.invited && data.userId !== state.you?.id,
        inviteEnded: { seq: (state.inviteEnded?.seq ?? 0) + 1, ...data },
      };
    case "messageDeleted":
      return withoutMessages(state, (message) => message.id === data.id);
    case "messagesCleared":
      return withoutMessages(state, (message) => message.user.id === data.userId);
    case "recording":
      return { ...state, recording: data.state };
    case "slowMode":
      return { ...state, slowModeS: data.seconds };
    case "chatMode":
      return { ...state, chatMode: data.mode };
    case "roomLocked":
      return { ...state, locked: data.locked };
    case "muted":
      return withMember(state, data.userId, { muted: true });
    case "unmuted":
      return withMember(state, data.userId, { muted: false });
    case "removed":
      return {
        ...state,
        removed: {
          reason: data.reason ?? null,
          banned: data.banned ?? false,
          until: data.until ?? null,
        },
      };
    case "listenerCount":
      return { ...state, listenerCount: data.count };
    case "activeSpeakers": {
      const speaking = new Set(data.producers.map((producer) => producer.userId));
      const members = Object.fromEntries(
        Object.entries(state.members).map(([id, person]) => [
          id,
          person.speaking === speaking.has(id) ? person : { ...person, speaking: speaking.has(id) },
        ]),
      );
      return { ...state, producers: data.producers, speaking: data.speaking, members };
    }
    case "broadcastStarted":
      return {
        ...withBroadcast(state, { status: "live", startedAt: data.startedAt }),
        ended: null,
        hostAway: null,
      };
    case "broadcastEnded":
      return {
        ...withBroadcast(state, { status: "ended", endedAt: data.endedAt }),
        ended: { reason: data.reason },
        hostAway: null,
        producers: [],
        speaking: [],
        recording: "off",
      };
    case "hostAway":
      return { ...state, hostAway: { until: data.until } };
    case "hostBack":
      return { ...state, hostAway: null };
    case "listenVia":
      return data.via === "webrtc" ? { ...state, webRtcOffers: state.webRtcOffers + 1 } : state;
    case "stats":
      return { ...state, stats: data };
    default:
      // `reconnect` is the socket's business; what a newer server adds is none of ours.
      return state;
  }
}

function withMember(state: RoomState, id: string, changes: Partial<Person>): RoomState {
  const person = state.members[id];
  if (!person) return state;
  return { ...state, members: { ...state.members, [id]: { ...person, ...changes } } };
}

function withBroadcast(state: RoomState, changes: Partial<Broadcast>): RoomState {
  if (!state.broadcast) return state;
  return { ...state, broadcast: { ...state.broadcast, ...changes } };
}

function moveHand(hands: readonly Hand[], userId: string, position: number): readonly Hand[] {
  const hand = hands.find((hand) => hand.userId === userId);
  if (!hand || hands[position - 1] === hand) return hands;
  const others = hands.filter((other) => other !== hand);
  return others.toSpliced(Math.min(Math.max(position - 1, 0), others.length), 0, hand);
}

/** Messages after joining: those known already, those since, and none that was deleted meanwhile. */
function resumed(state: RoomState, data: Joined): Partial<RoomState> {
  const gone = new Set(data.deletedMessages ?? []);
  const left = withoutMessages(state, (message) => gone.has(message.id));
  const messages = mergeMessages(left.messages, data.recentMessages);
  const [first] = data.recentMessages;
  const known = first !== undefined && left.messages.some((message) => message.id === first.id);
  const gapBefore =
    data.messagesMissed && left.messages.length > 0 && first && !known ? first.id : left.gapBefore;
  return { messages, gapBefore, ownDeleted: left.ownDeleted };
}

function withoutMessages(state: RoomState, gone: (message: ChatMessage) => boolean): RoomState {
  const messages = state.messages.filter((message) => !gone(message));
  if (messages.length === state.messages.length) return state;
  const own = state.messages.filter(
    (message) => message.user.id === state.you?.id && gone(message),
  );
  // A gap stays where it is when the message after it goes.
  const from = state.messages.findIndex((message) => message.id === state.gapBefore);
  const next = from < 0 ? undefined : state.messages.slice(from).find((message) => !gone(message));
  return {
    ...state,
    messages,
    gapBefore: next?.id ?? null,
    ownDeleted: state.ownDeleted + own.length,
  };
}

function withNames(state: RoomState, { event, data }: ServerEvent): RoomState {
  let people: { id: string; displayName: string }[];
  if (event === "joined") {
    const { members, recentMessages, you, broadcast } = data;
    people = [broadcast.host, ...recentMessages.map(({ user }) => user), ...members, you];
  } else if (event === "userJoined" || event === "chatMessage") people = [data.user];
  else return state;
  const fresh = people.filter(({ id, displayName }) => state.names[id] !== displayName);
  if (fresh.length === 0) return state;
  const added = Object.fromEntries(fresh.map(({ id, displayName }) => [id, displayName]));
  return { ...state, names: { ...state.names, ...added } };
}

/** In the order of their sending, each once: a rejoin repeats what is known already. */
export function mergeMessages(
  known: readonly ChatMessage[],
  added: readonly ChatMessage[],
): readonly ChatMessage[] {
  const ids = new Set(known.map((message) => message.id));
  const fresh = added.filter((message) => !ids.has(message.id));
  if (fresh.length === 0) return known;
  const all = [...known, ...fresh];
  const last = known.at(-1);
  if (last && fresh.some((message) => Date.parse(message.at) < Date.parse(last.at))) {
    all.sort((a, b) => Date.parse(a.at) - Date.parse(b.at));
  }
  return all.slice(-MESSAGES_KEPT);
}
