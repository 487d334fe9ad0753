import type { Broadcast } from "@lac/client";
import { useNow } from "../lib/hooks";
import { formatCountdown, formatDateTime } from "../lib/time";
import { Button } from "../ui/Button";

/** Of a show that has not begun: when it does, and to listen then without another click. */
export function WaitingRoom({
  broadcast,
  armed,
  onArm,
}: {
  broadcast: Broadcast;
  armed: boolean;
  onArm: () => void;
}) {
  const now = useNow(1000);
  const left = broadcast.scheduledAt ? Date.parse(broadcast.scheduledAt) - now : null;
  return (
    <div className="mt-6 flex flex-col items-center gap-4 rounded-2xl bg-sunken px-4 py-8 text-center">
      {left !== null && left > 0 && broadcast.scheduledAt ? (
        <>
          <p className="text-muted">Starts in</p>
          <p role="timer" className="text-4xl font-semibold tabular-nums">
            {formatCountdown(left)}
          </p>
          <p>
            <time dateTime={broadcast.scheduledAt}>{formatDateTime(broadcast.scheduledAt)}</time>
          </p>
        </>
      ) : (
        <>
          <p className="text-xl font-semibold">
            {left === null ? "Not started yet" : "Starting any moment"}
          </p>
          <p className="text-muted">You are in the waiting room. The chat is open.</p>
        </>
      )}
      <Button
        look={armed ? "outline" : "primary"}
        size="large"
        aria-pressed={armed}
        onClick={onArm}
      >
        Listen when it starts
      </Button>
      <p role="status" className="min-h-6 text-sm text-muted">
        {armed && "Keep this page open: the sound starts by itself."}
      </p>
    </div>
  );
}
