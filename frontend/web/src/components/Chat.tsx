import { CHAT_TEXT_MAX, type ChatMessage, messageOf, type Room, type You } from "@lac/client";
import {
  type KeyboardEvent,
  type SubmitEvent,
  useEffect,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
} from "react";
import { useStore } from "zustand";
import { formatTime, plural } from "../lib/time";
import { Button } from "../ui/Button";
import { ChatIcon, SendIcon } from "../ui/icons";
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
  const { list, unread, firstUnread, toEnd, onScroll } = useReadingPlace(messages, you);

  return (
    <section
      aria-labelledby="chat-title"
      className={`relative flex min-h-0 flex-col rounded-card border border-line bg-surface shadow-card ${className}`}
    >
      <h2 id="chat-title" className="border-b border-line px-4 py-3 text-lg font-semibold">
        Chat
      </h2>
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
}: {
  message: ChatMessage;
  own: boolean;
  marker: boolean;
}) {
  return (
    <li>
      {marker && (
        <p className="mb-3 flex items-center gap-3 text-sm font-medium text-accent before:h-px before:flex-1 before:bg-accent after:h-px after:flex-1 after:bg-accent">
          New
        </p>
      )}
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
    </li>
  );
}

/** Tells a screen reader what was said: word for word while it is quiet, as a count when it is not. */
function Announcer({ messages, you }: { messages: readonly ChatMessage[]; you: You | null }) {
  const [text, setText] = useState("");
  const told = useRef<string | undefined>(undefined);
  const latest = useRef({ messages, you });
  useEffect(() => {
    latest.current = { messages, you };
  });
  useEffect(() => {
    told.current = latest.current.messages.at(-1)?.id;
    const timer = setInterval(() => {
      const { messages, you } = latest.current;
      const from = messages.findIndex((message) => message.id === told.current) + 1;
      // What was there when the page opened is for reading, not for announcing.
      const fresh =
        told.current === undefined
          ? []
          : messages.slice(from).filter((message) => message.user.id !== you?.id);
      told.current = messages.at(-1)?.id ?? "";
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

function Composer({
  room,
  disabled,
  beforeSpeaking,
}: {
  room: Room;
  disabled: string | null;
  beforeSpeaking: () => Promise<boolean>;
}) {
  const [text, setText] = useState("");
  const [problem, setProblem] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const field = useRef<HTMLTextAreaElement>(null);
  const tooLong = useMemo(() => [...text].length > CHAT_TEXT_MAX, [text]);

  async function send() {
    const trimmed = text.trim();
    if (trimmed === "" || busy || tooLong) return;
    setProblem(null);
    if (!(await beforeSpeaking())) return;
    setBusy(true);
    try {
      await room.say(trimmed);
      setText("");
    } catch (error) {
      setProblem(messageOf(error));
    } finally {
      setBusy(false);
      field.current?.focus();
    }
  }

  if (disabled !== null) {
    return <p className="border-t border-line px-4 py-4 text-muted">{disabled}</p>;
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
          busy={busy}
          icon={<SendIcon />}
          className="size-11 shrink-0 px-0!"
        />
      </div>
    </form>
  );
}
