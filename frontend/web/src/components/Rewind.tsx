import type { HlsPosition, Player } from "@lac/client";
import { useEffect, useRef, useState } from "react";
import { formatClock, spokenDuration } from "../lib/time";
import { Button } from "../ui/Button";

const STEP_S = 30;
/** Less than this is not worth going back for. */
const LEAST_S = 10;
/** A slider that is being dragged says every step of the way; only where it comes to rest is gone to. */
const REST_MS = 200;

/** Going back in a show that is heard by HLS, and returning to the present. */
export function Rewind({ player, position }: { player: Player; position: HlsPosition }) {
  const { behindS, windowS, live, finished } = position;
  const [dragged, setDragged] = useState<number | null>(null);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  if (windowS < LEAST_S) return null;

  const goTo = (seconds: number) => {
    clearTimeout(timer.current);
    setDragged(null);
    player.seekBehind(Math.min(Math.max(seconds, 0), windowS));
  };
  const behind = Math.min(dragged ?? (live && !finished ? 0 : behindS), windowS);
  const end = finished ? "the end" : "live";
  return (
    <fieldset aria-label="Time" className="grid w-full max-w-md min-w-0 gap-2">
      <label className="grid gap-1">
        <span className="flex justify-between text-sm text-muted tabular-nums">
          <span aria-hidden="true">{formatClock(windowS * 1000)} ago</span>
          <span className="sr-only">How far back you listen</span>
          <span aria-hidden="true" className={behind < 1 ? "font-semibold text-accent" : ""}>
            {behind < 1 ? (finished ? "End" : "Live") : `−${formatClock(behind * 1000)}`}
          </span>
        </span>
        <input
          type="range"
          min={-Math.floor(windowS)}
          max={0}
          step={1}
          value={-Math.round(behind)}
          aria-valuetext={
            behind < 1 ? `At ${end}` : `${spokenDuration(behind * 1000)} before ${end}`
          }
          onChange={(event) => {
            const seconds = -event.target.valueAsNumber;
            setDragged(seconds);
            clearTimeout(timer.current);
            timer.current = setTimeout(() => goTo(seconds), REST_MS);
          }}
          className="h-11 w-full accent-accent"
        />
      </label>
      <div className="flex flex-wrap justify-center gap-2">
        <Button size="small" onClick={() => goTo(behindS + STEP_S)}>
          Back 30 s
        </Button>
        <Button size="small" onClick={() => goTo(behindS - STEP_S)} disabled={live}>
          Forward 30 s
        </Button>
        {!finished && (
          <Button size="small" look="primary" onClick={() => player.goLive()} disabled={live}>
            Return to live
          </Button>
        )}
      </div>
    </fieldset>
  );
}
