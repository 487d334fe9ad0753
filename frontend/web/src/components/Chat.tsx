import {
  CHAT_TEXT_MAX,
  type ChatMessage,
  type ChatMode,
  CommandError,
  mayActOn,
  mayModerate,
  messageOf,
  type Room,
  type You,
} from "@lac/client";
import {
  type KeyboardEvent,
  type ReactNode,
  type SubmitEvent,
  useEffect,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
} from "react";
import { Link, useLocation } from "react-router";
import { useStore } from "zustand";
import { useAct } from "../lib/act";
import { useNow } from "../lib/hooks";
import { formatTime, plural } from "../lib/time";
import { useLac } from "../services";
import { Button } from "../ui/Button";
import { ChatIcon, SendIcon } from "../ui/icons";
import { Menu, type MenuItem } from "../ui/Menu";
import { RoleBadge } from "./RoleBadge";

/** Nearer to the end than this counts as reading along. */
const NEAR_END_PX = 48;
const ANNOUNCE_EVERY_MS = 4000;

export function Chat({
  room,
  disabled = null,
  beforeSpeaking,
  className = "",
}: {
  room: Room;
  /** Why nothing can be written now; null when it can. */
  disabled?: string | null;
  /** Asks people without an account for a name; false when they would rather not. */
  beforeSpeaking: () => Promise<boolean>;
  className?: string;
}) {
  const messages = useStore(room.store, (state) => state.messages);
  const you = useStore(room.store, (state) => state.you);
  const gapBefore = useStore(room.store, (state) => state.gapBefore);
  const { act, problem } = useAct();
  const { list, unread, firstUnread, toEnd, onScroll } = useReadingPlace(messages, you);

  function itemsFor({ id, user }: ChatMessage): MenuItem[] {
    if (!you || (user.id !== you.id && !mayActOn(you.role, user.role))) return [];
    const take = (work: () => Promise<void>) => () => {
      // The button that had the focus goes with the message.
      list.current?.focus();
      void act(work);
    };
    return [
      { label: "Delete message", onSelect: take(() => room.deleteMessage(id)), danger: true },
      {
        label: "Clear everything they wrote",
        onSelect: take(() => room.clearMessages(user.id)),
        danger: true,
      },
    ];
  }
  const moderating = mayModerate(you?.role) && disabled === null;

  return (
    <section
      aria-labelledby="chat-title"
      className={`relative flex min-h-0 flex-col rounded-card border border-line bg-surface shadow-card ${className}`}
    >
      <div className="flex flex-wrap items-baseline gap-x-3 border-b border-line px-4 py-3">
        <h2 id="chat-title" className="text-lg font-semibold">
          Chat
        </h2>
        {disabled === null && <Rules room={room} />}
      </div>
      <div className="relative min-h-0 flex-1">
        <div
          ref={list}
          role="log"
          aria-label="Chat messages"
          aria-live="off"
          // biome-ignore lint/a11y/noNoninteractiveTabindex: a scrolling region has to be reachable by keyboard
          tabIndex={0}
          onScroll={onScroll}
          className="h-full overflow-y-auto overscroll-contain px-4 py-3"
        >
          {messages.length === 0 ? (
            <div className="flex h-full flex-col items-center justify-center gap-2 text-center text-muted">
              <ChatIcon width={28} height={28} />
              <p>No messages yet. Say hello!</p>
            </div>
          ) : (
            <ol className="grid gap-3">
              {messages.map((message) => (
                <Message
                  key={message.id}
                  message={message}
                  own={message.user.id === you?.id}
                  marker={message.id === firstUnread}
                  onLoadMissed={
                    message.id === gapBefore ? () => void act(() => room.loadMissed()) : null
                  }
                  items={moderating ? itemsFor(message) : []}
                />
              ))}
            </ol>
          )}
        </div>
        {unread > 0 && (
          <Button
            look="primary"
            size="small"
            onClick={toEnd}
            className="absolute inset-x-0 bottom-3 mx-auto w-fit shadow-card"
          >
            {plural(unread, "new message")} ↓
          </Button>
        )}
      </div>
      <Announcer messages={messages} you={you} />
      {problem && (
        <p role="alert" className="px-4 pb-2 text-sm font-medium text-signal">
          {problem}
        </p>
      )}
      <Composer room={room} disabled={disabled} beforeSpeaking={beforeSpeaking} />
    </section>
  );
}

/** Follows the end while the reader is there, and stays put while they read further up. */
function useReadingPlace(messages: readonly ChatMessage[], you: You | null) {
  const list = useRef<HTMLDivElement>(null);
  const following = useRef(true);
  const last = messages.at(-1);
  const [readTo, setReadTo] = useState<string | null>(null);

  const toEnd = () => {
    following.current = true;
    const element = list.current;
    if (element) element.scrollTop = element.scrollHeight;
    setReadTo(messages.at(-1)?.id ?? null);
  };

  useLayoutEffect(() => {
    const element = list.current;
    if (!element || !last) return;
    if (following.current || last.user.id === you?.id) {
      following.current = true;
      element.scrollTop = element.scrollHeight;
      setReadTo(last.id);
    }
  }, [last, you?.id]);

  // The box may change its height: a keyboard opens, a phone is turned.
  useEffect(() => {
    const element = list.current;
    if (!element || typeof ResizeObserver === "undefined") return;
    const observer = new ResizeObserver(() => {
      if (following.current) element.scrollTop = element.scrollHeight;
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  const onScroll = () => {
    const element = list.current;
    if (!element) return;
    const fromEnd = element.scrollHeight - element.scrollTop - element.clientHeight;
    following.current = fromEnd < NEAR_END_PX;
    if (following.current) setReadTo(messages.at(-1)?.id ?? null);
  };

  const readIndex = messages.findIndex((message) => message.id === readTo);
  const unread = readIndex < 0 ? 0 : messages.length - 1 - readIndex;
  const firstUnread = unread > 0 ? messages[readIndex + 1]?.id : undefined;
  return { list, unread, firstUnread, toEnd, onScroll };
}

function Message({
  message,
  own,
  marker,
  items,
  onLoadMissed,
}: {
  message: ChatMessage;
  own: boolean;
  marker: boolean;
  /** What a moderator may do about it. */
  items: readonly MenuItem[];
  /** Messages are missing before this one. */
  onLoadMissed: (() => void) | null;
}) {
  return (
    <li>
      {onLoadMissed && (
        <p className="mb-3 flex flex-wrap items-center justify-between gap-x-3 rounded-xl bg-warn-soft px-3 py-1 text-sm">
          Messages are missing here.
          <Button size="small" look="quiet" onClick={onLoadMissed}>
            Show them
          </Button>
        </p>
      )}
      {marker && (
        <p className="mb-3 flex items-center gap-3 text-sm font-medium text-accent before:h-px before:flex-1 before:bg-accent after:h-px after:flex-1 after:bg-accent">
          New
        </p>
      )}
      <div className="flex items-start">
        <div className="min-w-0 flex-1">
          <p className="flex flex-wrap items-baseline gap-x-2 text-sm">
            <span className={`max-w-full truncate font-semibold ${own ? "text-accent" : ""}`}>
              {message.user.displayName}
              {own && <span className="font-normal"> (you)</span>}
            </span>
            <RoleBadge role={message.user.role} />
            <time dateTime={message.at} className="text-muted">
              {formatTime(message.at)}
            </time>
          </p>
          <p className="wrap-anywhere whitespace-pre-wrap">{message.text}</p>
        </div>
        <Menu
          label={`About the message of ${message.user.displayName}`}
          items={items}
          className="-my-2 -mr-3"
        />
      </div>
    </li>
  );
}

/** Tells a screen reader what was said: word for word while it is quiet, as a count when it is not. */
function Announcer({ messages, you }: { messages: readonly ChatMessage[]; you: You | null }) {
  const [text, setText] = useState("");
  /** When the last one that was told was sent. By time, because the message itself may be taken down. */
  const told = useRef(0);
  const latest = useRef({ messages, you });
  useEffect(() => {
    latest.current = { messages, you };
  });
  useEffect(() => {
    // What was there when the page opened is for reading, not for announcing.
    told.current = sentAt(latest.current.messages.at(-1)) || Date.now();
    const timer = setInterval(() => {
      const { messages, you } = latest.current;
      const fresh = messages.filter(
        (message) => sentAt(message) > told.current && message.user.id !== you?.id,
      );
      told.current = Math.max(told.current, sentAt(messages.at(-1)));
      const [only] = fresh;
      if (fresh.length > 1) setText(`${fresh.length} new messages`);
      else if (only) setText(`${only.user.displayName}: ${only.text}`);
    }, ANNOUNCE_EVERY_MS);
    return () => clearInterval(timer);
  }, []);
  return (
    <p className="sr-only" aria-live="polite">
      {text}
    </p>
  );
}

const sentAt = (message: ChatMessage | undefined) => (message ? Date.parse(message.at) : 0);

/** The rules that hold now, for whoever wonders. */
function Rules({ room }: { room: Room }) {
  const slowModeS = useStore(room.store, (state) => state.slowModeS);
  const chatMode = useStore(room.store, (state) => state.chatMode);
  const locked = useStore(room.store, (state) => state.locked);
  const rules = [
    slowModeS > 0 && `Slow mode: one message every ${slowModeS} s`,
    chatMode === "followers" && "Followers only",
    chatMode === "closed" && "Closed",
    locked && "Room locked",
  ].filter(Boolean);
  return (
    <p role="status" className="text-sm text-muted empty:hidden">
      {rules.join(" · ")}
    </p>
  );
}

/** Why this person cannot write now, or null. */
function useChatBarrier(room: Room): ReactNode {
  const { api } = useLac();
  const { pathname } = useLocation();
  const mode: ChatMode = useStore(room.store, (state) => state.chatMode);
  const you = useStore(room.store, (state) => state.you);
  const hostId = useStore(room.store, (state) => state.broadcast?.host.id);
  const hostName = useStore(room.store, (state) => state.broadcast?.host.displayName);
  const [follows, setFollows] = useState<boolean | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const listens = you?.role === "listener";
  const asks = mode === "followers" && listens && you?.anonymous === false && hostId !== undefined;

  useEffect(() => {
    if (!asks) return;
    let current = true;
    setFollows(null);
    api.profile(hostId).then(
      (profile) => current && setFollows(profile.followed),
      // Let them try: the server says no if it has to.
      () => current && setFollows(true),
    );
    return () => {
      current = false;
    };
  }, [api, asks, hostId]);

  if (mode === "closed" && !mayModerate(you?.role)) return "The chat is closed just now.";
  if (mode !== "followers" || !listens) return null;
  if (you?.anonymous)
    return (
      <>
        Only people who follow {hostName} can write just now.{" "}
        <Link className="text-accent underline" to={`/login?next=${encodeURIComponent(pathname)}`}>
          Sign in
        </Link>{" "}
        to follow.
      </>
    );
  if (follows !== false || !hostId) return null;
  return (
    <span className="flex flex-wrap items-center justify-between gap-2">
      <span className="flex-1 basis-48">Only people who follow {hostName} can write just now.</span>
      <Button
        size="small"
        look="primary"
        onClick={() => {
          setProblem(null);
          api.follow(hostId).then(
            () => setFollows(true),
            (error) => setProblem(messageOf(error)),
          );
        }}
      >
        Follow {hostName}
      </Button>
      {problem && (
        <span role="alert" className="text-signal">
          {problem}
        </span>
      )}
    </span>
  );
}

/** In slow mode: the seconds until one may write again; 0 when one may. */
function useSlowMode(room: Room): number {
  const until = useStore(room.store, (state) => state.mayWriteAt);
  const now = useNow(until === null ? null : 250);
  const left = until === null ? 0 : Math.max(0, Math.ceil((until - now) / 1000));
  return left;
}

/** How many messages of ours were taken down since we last wrote one. */
function useOwnDeleted(room: Room) {
  const count = useStore(room.store, (state) => state.ownDeleted);
  const role = useStore(room.store, (state) => state.you?.role);
  const [seen, setSeen] = useState(count);
  return { deleted: mayModerate(role) ? 0 : count - seen, forget: () => setSeen(count) };
}

function Composer({
  room,
  disabled,
  beforeSpeaking,
}: {
  room: Room;
  disabled: string | null;
  beforeSpeaking: () => Promise<boolean>;
}) {
  const barrier = useChatBarrier(room);
  const waitS = useSlowMode(room);
  const { deleted, forget } = useOwnDeleted(room);
  const [text, setText] = useState("");
  const [problem, setProblem] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const field = useRef<HTMLTextAreaElement>(null);
  const tooLong = useMemo(() => [...text].length > CHAT_TEXT_MAX, [text]);

  async function send() {
    const trimmed = text.trim();
    if (trimmed === "" || busy || tooLong || waitS > 0) return;
    setProblem(null);
    forget();
    if (!(await beforeSpeaking())) return;
    setBusy(true);
    try {
      await room.say(trimmed);
      setText("");
    } catch (error) {
      // The countdown says it already.
      const slow = error instanceof CommandError && error.code === "slow_mode";
      setProblem(slow ? null : messageOf(error));
    } finally {
      setBusy(false);
      field.current?.focus();
    }
  }

  if (disabled !== null) {
    return <p className="border-t border-line px-4 py-4 text-muted">{disabled}</p>;
  }
  if (barrier !== null) {
    return (
      <div role="status" className="border-t border-line px-4 py-4 text-muted">
        {barrier}
      </div>
    );
  }
  return (
    <form
      className="border-t border-line p-3"
      onSubmit={(event: SubmitEvent) => {
        event.preventDefault();
        void send();
      }}
    >
      {(problem || tooLong) && (
        <p role="alert" className="mb-2 text-sm font-medium text-signal">
          {tooLong ? `Too long: at most ${CHAT_TEXT_MAX} characters.` : problem}
        </p>
      )}
      <p role="status" className="mb-2 text-sm text-muted empty:hidden">
        {deleted > 0 &&
          (deleted === 1
            ? "A moderator has deleted a message of yours."
            : `A moderator has deleted ${deleted} messages of yours.`)}
      </p>
      {waitS > 0 && (
        <p id="slow-mode" className="mb-2 text-sm text-muted tabular-nums">
          Slow mode: you can write again in <span role="timer">{waitS} s</span>.
        </p>
      )}
      <div className="flex items-end gap-2">
        <textarea
          ref={field}
          aria-label="Message"
          placeholder="Write a message"
          rows={1}
          value={text}
          enterKeyHint="send"
          onChange={(event) => setText(event.target.value)}
          onKeyDown={(event: KeyboardEvent) => {
            if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
              event.preventDefault();
              void send();
            }
          }}
          className="input field-sizing-content max-h-32 min-w-0 flex-1 resize-none"
        />
        <Button
          type="submit"
          look="primary"
          aria-label="Send"
          aria-describedby={waitS > 0 ? "slow-mode" : undefined}
          busy={busy || waitS > 0}
          icon={<SendIcon />}
          className="size-11 shrink-0 px-0!"
        />
      </div>
    </form>
  );
}
