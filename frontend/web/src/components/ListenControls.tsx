import type { PlayerState } from "@lac/client";
import { type RefObject, useId, useState } from "react";
import { PlayIcon, StopIcon, VolumeIcon } from "../ui/icons";

export function ListenButton({
  phase,
  ring,
  onListen,
  onStop,
}: {
  phase: PlayerState["phase"];
  ring: RefObject<HTMLSpanElement | null>;
  onListen: () => void;
  onStop: () => void;
}) {
  const active = phase !== "stopped" && phase !== "failed";
  return (
    <div className="relative my-3 size-40">
      <span ref={ring} className="listen-ring" aria-hidden="true" />
      <button
        type="button"
        aria-label={active ? "Stop listening" : "Listen"}
        onClick={active ? onStop : onListen}
        className={`relative flex size-40 flex-col items-center justify-center gap-1 rounded-full border-2 text-lg font-semibold transition-colors focus-visible:rounded-full ${
          active
            ? "border-accent bg-surface text-accent hover:bg-accent-soft"
            : "border-transparent bg-accent text-on-accent hover:bg-accent-hover"
        }`}
      >
        {active ? <StopIcon width={44} height={44} /> : <PlayIcon width={52} height={52} />}
        {active ? "Stop" : "Listen"}
      </button>
    </div>
  );
}

export function Volume({ audio }: { audio: readonly RefObject<HTMLAudioElement | null>[] }) {
  const [percent, setPercent] = useState(100);
  return (
    <label className="flex min-h-11 w-full max-w-md items-center gap-3 text-muted">
      <VolumeIcon />
      <span className="sr-only">Volume</span>
      <input
        type="range"
        min={0}
        max={100}
        value={percent}
        onChange={(event) => {
          const value = event.target.valueAsNumber;
          setPercent(value);
          for (const { current } of audio) if (current) current.volume = value / 100;
        }}
        className="h-11 w-full accent-accent"
      />
    </label>
  );
}

/** Fewer, larger packets: for those who pay for each megabyte. Takes effect at once. */
export function SaveData({
  saves,
  onChange,
}: {
  saves: boolean;
  onChange: (saves: boolean) => void;
}) {
  const hint = useId();
  return (
    <label className="flex min-h-11 w-full max-w-md cursor-pointer items-center gap-3 text-muted">
      <input
        type="checkbox"
        role="switch"
        checked={saves}
        aria-checked={saves}
        aria-describedby={hint}
        onChange={(event) => onChange(event.target.checked)}
        className="size-5 shrink-0 accent-accent"
      />
      <span>
        Save data{" "}
        <span id={hint} className="text-sm">
          (about a quarter less; the sound comes a moment later)
        </span>
      </span>
    </label>
  );
}
