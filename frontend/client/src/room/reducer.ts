import type {
  Broadcast,
  ChatMessage,
  Hand,
  Person,
  ProducerInfo,
  RoomStats,
  ServerEvent,
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
  producers: readonly ProducerInfo[];
  /** Oldest first, the last `MESSAGES_KEPT`. */
  messages: readonly ChatMessage[];
  hostAway: { until: string | null } | null;
  ended: { reason: string } | null;
  removed: { reason: string | null } | null;
  stats: RoomStats | null;
  /** The latest merged reactions; `seq` tells two equal bursts apart. */
  reactions: { seq: number; counts: Readonly<Record<string, number>> };
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
  messages: [],
  hostAway: null,
  ended: null,
  removed: null,
  stats: null,
  reactions: { seq: 0, counts: {} },
};

export function reduceRoom(state: RoomState, { event, data }: ServerEvent): RoomState {
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
        messages: mergeMessages(state.messages, data.recentMessages),
        hostAway: data.hostAway
          ? { until: data.hostAwayUntil ?? state.hostAway?.until ?? null }
          : null,
        ended: data.broadcast.status === "ended" ? (state.ended ?? { reason: "" }) : null,
        removed: null,
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
      return { ...next, you: { ...state.you, role: data.user.role } };
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
    case "muted":
      return withMember(state, data.userId, { muted: true });
    case "unmuted":
      return withMember(state, data.userId, { muted: false });
    case "removed":
      return { ...state, removed: { reason: data.reason } };
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
      return { ...state, producers: data.producers, members };
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
      };
    case "hostAway":
      return { ...state, hostAway: { until: data.until } };
    case "hostBack":
      return { ...state, hostAway: null };
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

/** In the order of their sending, each once: a rejoin repeats what is known already. */
function mergeMessages(
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
