import type { Said } from "@lac/client";
import { useLayoutEffect, useRef } from "react";
import { formatClock } from "../lib/time";
import { ChatIcon } from "../ui/icons";
import { RoleBadge } from "./RoleBadge";

/** What was written in a show, each line when the listener hears the moment that it belongs to. */
export function ReplayChat({
  chat,
  position,
  className = "",
}: {
  chat: readonly Said[];
  position: number;
  className?: string;
}) {
  const list = useRef<HTMLDivElement>(null);
  const until = chat.findLastIndex(({ startS }) => startS <= position) + 1;
  // biome-ignore lint/correctness/useExhaustiveDependencies: every new line moves the end
  useLayoutEffect(() => {
    if (list.current) list.current.scrollTop = list.current.scrollHeight;
  }, [until]);
  return (
    <section
      aria-labelledby="replay-chat"
      className={`flex min-h-0 flex-col rounded-card border border-line bg-surface shadow-card ${className}`}
    >
      <div className="border-b border-line px-4 py-3">
        <h2 id="replay-chat" className="text-lg font-semibold">
          Chat
        </h2>
        <p className="text-sm text-muted">Goes along with the recording.</p>
      </div>
      <div
        ref={list}
        role="log"
        aria-label="Chat messages"
        aria-live="off"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: a scrolling region has to be reachable by keyboard
        tabIndex={0}
        className="min-h-0 flex-1 overflow-y-auto overscroll-contain px-4 py-3"
      >
        {until === 0 ? (
          <div className="flex h-full flex-col items-center justify-center gap-2 text-center text-muted">
            <ChatIcon width={28} height={28} />
            <p>{chat.length === 0 ? "Nothing was written." : "Nothing was written up to here."}</p>
          </div>
        ) : (
          <ol className="grid gap-3">
            {chat.slice(0, until).map(({ id, user, text, startS }) => (
              <li key={id}>
                <p className="flex flex-wrap items-baseline gap-x-2 text-sm">
                  <span className="max-w-full truncate font-semibold">{user.displayName}</span>
                  <RoleBadge role={user.role} />
                  <span className="text-muted tabular-nums">{formatClock(startS * 1000)}</span>
                </p>
                <p className="wrap-anywhere whitespace-pre-wrap">{text}</p>
              </li>
            ))}
          </ol>
        )}
      </div>
    </section>
  );
}
