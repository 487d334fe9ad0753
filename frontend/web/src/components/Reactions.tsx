import type { Room } from "@lac/client";
import { useEffect, useRef, useState } from "react";
import { useStore } from "zustand";

const CHOICES = [
  ["👏", "applause"],
  ["❤️", "a heart"],
  ["😂", "laughter"],
  ["🔥", "fire"],
  ["🎉", "confetti"],
  ["👍", "thumbs up"],
] as const;

const PAUSE_MS = 150;

export function ReactionBar({ room, disabled }: { room: Room; disabled: boolean }) {
  const sentAt = useRef(0);
  function react(emoji: string) {
    const now = Date.now();
    if (now - sentAt.current < PAUSE_MS) return;
    sentAt.current = now;
    // A lost clap is not worth an error message.
    room.react(emoji).catch(() => undefined);
  }
  return (
    // biome-ignore lint/a11y/useSemanticElements: a fieldset is for form fields, these act at once
    <div role="group" aria-label="Reactions" className="flex flex-wrap justify-center gap-1">
      {CHOICES.map(([emoji, name]) => (
        <button
          key={emoji}
          type="button"
          disabled={disabled}
          aria-label={`React with ${name}`}
          onClick={() => react(emoji)}
          className="emoji size-11 rounded-full text-2xl leading-none transition-transform hover:bg-sunken active:scale-90 disabled:cursor-not-allowed disabled:opacity-40"
        >
          {emoji}
        </button>
      ))}
    </div>
  );
}

interface Floater {
  key: number;
  emoji: string;
  leftPercent: number;
  driftRem: number;
  delayMs: number;
}

/** However many people clap at once, this many rise per burst. */
const PER_BURST = 6;
const LIFETIME_MS = 3200;
const AT_ONCE = 40;

/** What everybody reacts with, rising. Decoration: nothing that a screen reader should read out. */
export function FloatingReactions({ room }: { room: Room }) {
  const { seq, counts } = useStore(room.store, (state) => state.reactions);
  const [floaters, setFloaters] = useState<Floater[]>([]);
  const nextKey = useRef(0);
  const shown = useRef(seq);

  useEffect(() => {
    if (seq === shown.current) return;
    shown.current = seq;
    const all = Object.entries(counts).flatMap(([emoji, count]) =>
      Array.from({ length: Math.min(count, PER_BURST) }, () => emoji),
    );
    const fresh = all.slice(0, PER_BURST).map((emoji) => ({
      key: nextKey.current++,
      emoji,
      leftPercent: 8 + Math.random() * 80,
      driftRem: Math.random() * 3 - 1.5,
      delayMs: Math.random() * 250,
    }));
    setFloaters((floaters) => [...floaters, ...fresh].slice(-AT_ONCE));
    const last = fresh.at(-1)?.key ?? -1;
    const first = fresh[0]?.key ?? 0;
    setTimeout(
      () => setFloaters((floaters) => floaters.filter(({ key }) => key < first || key > last)),
      LIFETIME_MS,
    );
  }, [seq, counts]);

  return (
    <div aria-hidden="true" className="pointer-events-none absolute inset-0 overflow-hidden">
      {floaters.map(({ key, emoji, leftPercent, driftRem, delayMs }) => (
        <span
          key={key}
          className="emoji floater"
          style={{
            left: `${leftPercent}%`,
            animationDelay: `${delayMs}ms`,
            ["--drift" as string]: `${driftRem}rem`,
          }}
        >
          {emoji}
        </span>
      ))}
    </div>
  );
}
